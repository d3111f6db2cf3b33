//! Deliveries as the owner of their webhook sees them, and how they are sent again.

use super::{JobStatus, Waiting};
use crate::{
    kind::Kind,
    queue::Hint,
    schema::{jobs, webhook_attempts, webhook_deliveries},
    webhook_event::WebhookEvent,
};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, BigInt, Int2, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// From where deliveries are read.
pub const FROM_DELIVERIES: &str = "webhook_deliveries d JOIN jobs j ON j.id = d.id";

/// What a [`DeliveryRow`] is made of there. The tries are looked up for what is shown, not for what is counted.
pub const DELIVERY_COLUMNS: &str = "d.id, d.event, d.created_at, j.status AS job_status, j.run_at, j.finished_at, \
    (SELECT count(*) FROM webhook_attempts a WHERE a.delivery_id = d.id) AS tries, \
    (SELECT a.status FROM webhook_attempts a WHERE a.delivery_id = d.id ORDER BY a.attempt DESC LIMIT 1) \
        AS response_status, \
    COALESCE(j.error_message, (SELECT a.error FROM webhook_attempts a WHERE a.delivery_id = d.id \
        ORDER BY a.attempt DESC LIMIT 1)) AS error";

/// Opens ended jobs again: they are due now, and their attempts are counted from the beginning. What earlier ones came
/// to stays with them.
pub(super) const REOPEN: &str = "UPDATE jobs SET status = 'queued', run_at = now(), forgiven = attempt, crashes = 0, result = NULL, \
    error_code = NULL, error_message = NULL, cancel_requested = FALSE, worker = NULL, heartbeat_at = NULL, \
    finished_at = NULL, updated_at = now()";

/// A delivery with what its job and its last try know: a row of a list.
#[derive(Debug, Clone, QueryableByName)]
pub struct DeliveryRow {
    /// Its id, and its job's.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// The event.
    #[diesel(sql_type = Text)]
    pub event: String,
    /// When it was written.
    #[diesel(sql_type = Timestamptz)]
    pub created_at: DateTime<Utc>,
    /// Where its job stands.
    #[diesel(sql_type = Text)]
    pub job_status: JobStatus,
    /// When it is, or was, due.
    #[diesel(sql_type = Timestamptz)]
    pub run_at: DateTime<Utc>,
    /// When it ended.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub finished_at: Option<DateTime<Utc>>,
    /// Requests made so far.
    #[diesel(sql_type = BigInt)]
    pub tries: i64,
    /// What the receiver answered to the last one.
    #[diesel(sql_type = Nullable<Int2>)]
    pub response_status: Option<i16>,
    /// Why the last one, or the whole, did not succeed.
    #[diesel(sql_type = Nullable<Text>)]
    pub error: Option<String>,
}

/// One request of a delivery; the columns are explained in the migration that makes them.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = webhook_attempts, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct WebhookAttempt {
    pub attempt: i32,
    pub sent_at: DateTime<Utc>,
    pub latency_ms: i32,
    pub status: Option<i16>,
    pub error: Option<String>,
    pub answer: Option<String>,
}

/// Which ended deliveries of a webhook are to be sent again.
#[derive(Debug, Clone)]
pub struct Replay {
    /// The webhook.
    pub webhook_id: Uuid,
    /// Written at this time or after.
    pub since: DateTime<Utc>,
    /// Written at this time or before.
    pub until: DateTime<Utc>,
    /// Those that ended like this.
    pub statuses: Vec<JobStatus>,
    /// At most so many, oldest first.
    pub limit: i64,
}

impl DeliveryRow {
    /// The delivery, if it is one of this webhook.
    pub async fn find(conn: &mut AsyncPgConnection, id: Uuid, webhook_id: Uuid) -> QueryResult<Option<Self>> {
        diesel::sql_query(format!(
            "SELECT {DELIVERY_COLUMNS} FROM {FROM_DELIVERIES} WHERE d.id = $1 AND d.webhook_id = $2"
        ))
        .bind::<SqlUuid, _>(id)
        .bind::<SqlUuid, _>(webhook_id)
        .get_result(conn)
        .await
        .optional()
    }

    /// The exact text that is sent.
    pub async fn body(&self, conn: &mut AsyncPgConnection) -> QueryResult<String> {
        webhook_deliveries::table.find(self.id).select(webhook_deliveries::body).first(conn).await
    }

    /// Its requests, oldest first.
    pub async fn attempts(&self, conn: &mut AsyncPgConnection) -> QueryResult<Vec<WebhookAttempt>> {
        webhook_attempts::table
            .filter(webhook_attempts::delivery_id.eq(self.id))
            .order(webhook_attempts::attempt)
            .select(WebhookAttempt::as_select())
            .load(conn)
            .await
    }

    /// Opens an ended delivery again, with its id and what it says. `None`: it has not ended.
    pub async fn reopen(&self, conn: &mut AsyncPgConnection) -> QueryResult<Option<Hint>> {
        let reopened: Option<Waiting> = diesel::sql_query(format!(
            "{REOPEN} WHERE id = $1 AND kind = $2 AND status IN ('completed', 'failed', 'cancelled') RETURNING {WAITING}"
        ))
        .bind::<SqlUuid, _>(self.id)
        .bind::<Text, _>(Kind::WebhookDelivery)
        .get_result(conn)
        .await
        .optional()?;
        Ok(reopened.as_ref().map(hint))
    }
}

impl Replay {
    /// Opens the deliveries again, in the order in which they were written; returns what Redis is to be told.
    ///
    /// Tests, and what is on its way, are left alone.
    pub async fn reopen(&self, conn: &mut AsyncPgConnection) -> QueryResult<Vec<Hint>> {
        // locked in the order of their ids, as everybody does who locks several; they are in order of time
        let mut reopened: Vec<Waiting> = diesel::sql_query(format!(
            "WITH chosen AS ( \
                 SELECT j.id AS job_id FROM webhook_deliveries d JOIN jobs j ON j.id = d.id \
                 WHERE d.webhook_id = $1 AND d.created_at BETWEEN $2 AND $3 AND d.event <> 'webhook.test' \
                     AND j.status = ANY($4) \
                 ORDER BY j.id LIMIT $5 FOR UPDATE OF j \
             ) {REOPEN} FROM chosen WHERE id = job_id RETURNING {WAITING}"
        ))
        .bind::<SqlUuid, _>(self.webhook_id)
        .bind::<Timestamptz, _>(self.since)
        .bind::<Timestamptz, _>(self.until)
        .bind::<Array<Text>, _>(&self.statuses)
        .bind::<BigInt, _>(self.limit)
        .load(conn)
        .await?;
        reopened.sort_unstable_by_key(|waiting| waiting.id);
        Ok(reopened.iter().map(hint).collect())
    }

    /// Whether there are deliveries to be sent again, beyond those that were opened.
    pub async fn has_more(&self, conn: &mut AsyncPgConnection) -> QueryResult<bool> {
        let left = webhook_deliveries::table
            .inner_join(jobs::table)
            .filter(webhook_deliveries::webhook_id.eq(self.webhook_id))
            .filter(webhook_deliveries::created_at.between(self.since, self.until))
            .filter(webhook_deliveries::event.ne(WebhookEvent::Test.as_str()))
            .filter(jobs::status.eq_any(&self.statuses));
        diesel::select(diesel::dsl::exists(left)).get_result(conn).await
    }
}

/// The columns of [`Waiting`].
const WAITING: &str = "id, queue, priority, organization_id, weight, run_at";

fn hint(waiting: &Waiting) -> Hint {
    Hint { queue: Kind::WebhookDelivery.queue(), ticket: waiting.ticket() }
}
