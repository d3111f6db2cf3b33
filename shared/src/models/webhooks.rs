//! Webhooks: where somebody wants to hear of what, and with which secret it is signed.

use crate::{
    schema::{users, webhooks},
    text_enum::text_enum,
};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use std::fmt;
use uuid::Uuid;

/// How long the secret before signs beside the new one.
const ROTATION: TimeDelta = TimeDelta::hours(24);

text_enum! {
    /// Why the system switched a webhook off.
    DisabledReason {
        /// Its receiver said that it is gone.
        Gone = "gone",
        /// Too many deliveries in a row failed.
        Failing = "failing",
    }
}

/// A webhook as stored; the columns are explained in the migration that makes them.
#[derive(Clone, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = webhooks, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct Webhook {
    pub id: Uuid,
    pub user_id: Uuid,
    pub organization_id: Uuid,
    pub name: String,
    pub url: String,
    pub events: Vec<String>,
    pub secret: String,
    pub previous_secret: Option<String>,
    pub previous_secret_until: Option<DateTime<Utc>>,
    pub is_active: bool,
    pub ordered: bool,
    pub disabled_reason: Option<DisabledReason>,
    pub failures: i32,
    pub last_delivery_at: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

// without the secrets, and without the address, which may hold one
impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("id", &self.id).field("user_id", &self.user_id).finish_non_exhaustive()
    }
}

/// A webhook to be made.
#[derive(Clone, Insertable)]
#[diesel(table_name = webhooks)]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct NewWebhook {
    pub id: Uuid,
    pub user_id: Uuid,
    pub organization_id: Uuid,
    pub name: String,
    pub url: String,
    pub events: Vec<String>,
    pub secret: String,
    pub is_active: bool,
    pub ordered: bool,
}

impl fmt::Debug for NewWebhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewWebhook").field("id", &self.id).field("user_id", &self.user_id).finish_non_exhaustive()
    }
}

impl Webhook {
    /// How many webhooks the user has. Holds the user until the transaction ends, so that the number stands until then.
    pub async fn count(conn: &mut AsyncPgConnection, user_id: Uuid) -> QueryResult<i64> {
        let user = users::table.find(user_id).select(users::id).for_no_key_update();
        let _: Uuid = user.first(conn).await?;
        webhooks::table.filter(webhooks::user_id.eq(user_id)).count().get_result(conn).await
    }

    /// Stores a webhook.
    pub async fn insert(conn: &mut AsyncPgConnection, new: NewWebhook) -> QueryResult<Self> {
        diesel::insert_into(webhooks::table).values(new).returning(Self::as_returning()).get_result(conn).await
    }

    /// The webhook, if it exists and is this user's.
    pub async fn find(conn: &mut AsyncPgConnection, id: Uuid, user_id: Uuid) -> QueryResult<Option<Self>> {
        webhooks::table
            .filter(webhooks::id.eq(id).and(webhooks::user_id.eq(user_id)))
            .select(Self::as_select())
            .first(conn)
            .await
            .optional()
    }

    /// Like [`Webhook::find`], and holds the row until the transaction ends.
    pub async fn lock(conn: &mut AsyncPgConnection, id: Uuid, user_id: Uuid) -> QueryResult<Option<Self>> {
        webhooks::table
            .filter(webhooks::id.eq(id).and(webhooks::user_id.eq(user_id)))
            .select(Self::as_select())
            .for_no_key_update()
            .first(conn)
            .await
            .optional()
    }

    /// Writes what may be changed of a webhook that the current transaction has locked.
    pub async fn save(&self, conn: &mut AsyncPgConnection) -> QueryResult<Self> {
        diesel::update(webhooks::table.find(self.id))
            .set((
                webhooks::name.eq(&self.name),
                webhooks::url.eq(&self.url),
                webhooks::events.eq(&self.events),
                webhooks::secret.eq(&self.secret),
                webhooks::previous_secret.eq(&self.previous_secret),
                webhooks::previous_secret_until.eq(self.previous_secret_until),
                webhooks::is_active.eq(self.is_active),
                webhooks::ordered.eq(self.ordered),
                webhooks::disabled_reason.eq(self.disabled_reason),
                webhooks::failures.eq(self.failures),
                webhooks::updated_at.eq(diesel::dsl::now),
            ))
            .returning(Self::as_returning())
            .get_result(conn)
            .await
    }

    /// The same with another secret; the one before signs beside it for a day.
    #[must_use]
    pub fn with_new_secret(self, secret: String, now: DateTime<Utc>) -> Self {
        Self { previous_secret: Some(self.secret), previous_secret_until: Some(now + ROTATION), secret, ..self }
    }

    /// Deletes a webhook of this user with its deliveries; returns whether there was one. Those that wait end at their
    /// next try without a request.
    pub async fn delete(conn: &mut AsyncPgConnection, id: Uuid, user_id: Uuid) -> QueryResult<bool> {
        let webhook = webhooks::table.filter(webhooks::id.eq(id).and(webhooks::user_id.eq(user_id)));
        Ok(diesel::delete(webhook).execute(conn).await? > 0)
    }
}
