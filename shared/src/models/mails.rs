//! Mails: each is a job of kind `mail`, written in the transaction of what it tells of.

use super::{Finish, Job, NewJob};
use crate::{
    kind::{Mail, Payload},
    letter::Letter,
    queue::Hint,
    schema::mails,
};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

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

/// The mails that follow from the ends of jobs.
pub(super) async fn announce_ends(
    _conn: &mut AsyncPgConnection,
    _ended: &[&Finish],
    _at: DateTime<Utc>,
) -> QueryResult<Vec<Hint>> {
    Ok(Vec::new())
}

/// What the ends of mails mean: what they said is forgotten.
pub(super) async fn settle(_conn: &mut AsyncPgConnection, _sent: &[&Finish]) -> QueryResult<()> {
    Ok(())
}
