//! Mails: each is a job of kind `mail`, written in the transaction of what it tells of.

use super::{Finish, Job, NewJob, User};
use crate::{
    kind::{Mail, Payload},
    letter::Letter,
    queue::Hint,
    schema::{mails, users},
};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, Bool, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// Whether somebody wants notices by mail, in SQL. Who has never said anything does.
pub(super) const WANTS_NOTICES: &str =
    "(users.is_active AND COALESCE((users.preferences #>> '{notifications,email}')::boolean, true))";

/// A mail to be sent.
#[derive(Debug, Clone)]
pub struct NewMail {
    /// Whom it is about or from.
    pub user_id: Uuid,
    /// The tenant it counts for.
    pub organization_id: Uuid,
    /// The address.
    pub to: String,
    /// What it says.
    pub letter: Letter,
}

impl NewMail {
    /// Accepts mails, in the caller's transaction.
    pub async fn insert(conn: &mut AsyncPgConnection, new: Vec<Self>) -> QueryResult<Vec<Hint>> {
        let (mut jobs, mut rows) = (Vec::with_capacity(new.len()), Vec::with_capacity(new.len()));
        for Self { user_id, organization_id, to, letter } in new {
            let (template, notice) = (letter.template(), letter.is_notice());
            let job = NewJob::new(user_id, organization_id, 1, Payload::Mail(Mail { letter: Some(letter) }));
            rows.push((
                mails::id.eq(job.id),
                mails::user_id.eq(user_id),
                mails::recipient.eq(to),
                mails::template.eq(template),
                mails::notice.eq(notice),
            ));
            jobs.push(job);
        }
        Job::insert_all(conn, &jobs).await?;
        diesel::insert_into(mails::table).values(rows).execute(conn).await?;
        Ok(jobs.iter().map(NewJob::hint).collect())
    }
}

/// The outside of a mail: where it goes, and whether it still should.
#[derive(Debug, Clone, QueryableByName)]
pub struct AddressedMail {
    /// The address.
    #[diesel(sql_type = Text)]
    pub recipient: String,
    /// It can be unsubscribed from.
    #[diesel(sql_type = Bool)]
    pub notice: bool,
    /// Nothing speaks against it: it is no notice, or its receiver wants notices.
    #[diesel(sql_type = Bool)]
    pub wanted: bool,
    /// What its unsubscribe link names.
    #[diesel(sql_type = SqlUuid)]
    pub unsubscribe_token: Uuid,
    /// When it was written.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
}

impl AddressedMail {
    /// The outside of a mail, by the id of its job.
    pub async fn get(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Self> {
        diesel::sql_query(format!(
            "SELECT recipient, notice, NOT notice OR {WANTS_NOTICES} AS wanted, unsubscribe_token, mails.created_at \
             FROM mails JOIN users ON users.id = mails.user_id WHERE mails.id = $1"
        ))
        .bind::<SqlUuid, _>(id)
        .get_result(conn)
        .await
    }
}

/// What the ends of mails mean: what they said is forgotten, for it may hold a link that opens an account.
pub(super) async fn settle(conn: &mut AsyncPgConnection, sent: &[&Finish]) -> QueryResult<()> {
    diesel::sql_query("UPDATE jobs SET payload = payload || '{\"letter\": null}'::jsonb WHERE id = ANY($1)")
        .bind::<Array<SqlUuid>, _>(sent.iter().map(|finish| finish.id).collect::<Vec<_>>())
        .execute(conn)
        .await?;
    Ok(())
}

impl User {
    /// Whether this token is at the end of somebody's notices.
    pub async fn has_unsubscribe_token(conn: &mut AsyncPgConnection, token: Uuid) -> QueryResult<bool> {
        let holders = users::table.filter(users::unsubscribe_token.eq(token));
        diesel::select(diesel::dsl::exists(holders)).get_result(conn).await
    }

    /// Ends the notices by mail of the user with this token; `false`: nobody has it.
    pub async fn unsubscribe(conn: &mut AsyncPgConnection, token: Uuid) -> QueryResult<bool> {
        let changed = diesel::sql_query(
            "UPDATE users SET updated_at = now(), preferences = preferences || jsonb_build_object( \
                 'notifications', COALESCE(preferences -> 'notifications', '{}') || '{\"email\": false}'::jsonb) \
             WHERE unsubscribe_token = $1",
        )
        .bind::<SqlUuid, _>(token)
        .execute(conn)
        .await?;
        Ok(changed > 0)
    }
}
