//! Stored events, numbered without gaps within a job.

use super::storable;
use crate::{
    events::{Change, Event, EventBody, Progress},
    schema::job_events,
};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Bool, Int4, Jsonb, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

/// A stored event.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = job_events, check_for_backend(diesel::pg::Pg))]
pub struct JobEvent {
    /// The job it is about.
    pub job_id: Uuid,
    /// From 1, without gaps.
    pub seq: i32,
    /// An [`EventBody`].
    pub body: Value,
    /// When it was stored.
    pub created_at: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct Seq {
    #[diesel(sql_type = Int4)]
    seq: i32,
}

impl JobEvent {
    /// Stores an event that changes no step, if `attempt` still holds the job. The start of a job is stored only if it is
    /// its first event.
    pub async fn record(
        conn: &mut AsyncPgConnection,
        job_id: Uuid,
        attempt: i32,
        change: Change,
        progress: Progress,
    ) -> QueryResult<Option<Event>> {
        let first = matches!(change, Change::JobStarted);
        let body = EventBody { change, progress, at: Utc::now() };
        let seq: Option<Seq> = diesel::sql_query(
            "WITH fence AS ( \
                 UPDATE jobs SET last_seq = last_seq + 1, heartbeat_at = now(), updated_at = now() \
                 WHERE id = $1 AND attempt = $2 AND status = 'running' AND (last_seq = 0 OR NOT $3) \
                 RETURNING last_seq \
             ) \
             INSERT INTO job_events (job_id, seq, body, created_at) SELECT $1, last_seq, $4, $5 FROM fence \
             RETURNING seq",
        )
        .bind::<SqlUuid, _>(job_id)
        .bind::<Int4, _>(attempt)
        .bind::<Bool, _>(first)
        .bind::<Jsonb, _>(body_json(&body)?)
        .bind::<Timestamptz, _>(body.at)
        .get_result(conn)
        .await
        .optional()?;
        Ok(seq.map(|Seq { seq }| Event { job_id, seq, body }))
    }

    /// The events of a job after number `after`, oldest first, at most `limit`.
    pub async fn list_after(
        conn: &mut AsyncPgConnection,
        job_id: Uuid,
        after: i32,
        limit: i64,
    ) -> QueryResult<Vec<Event>> {
        let rows: Vec<Self> = job_events::table
            .filter(job_events::job_id.eq(job_id))
            .filter(job_events::seq.gt(after))
            .order(job_events::seq)
            .limit(limit)
            .select(Self::as_select())
            .load(conn)
            .await?;
        rows.into_iter().map(Self::into_event).collect()
    }

    fn into_event(self) -> QueryResult<Event> {
        let body = serde_json::from_value(self.body)
            .map_err(|error| diesel::result::Error::DeserializationError(Box::new(error)))?;
        Ok(Event { job_id: self.job_id, seq: self.seq, body })
    }
}

pub(super) fn body_json(body: &EventBody) -> QueryResult<Value> {
    let body =
        serde_json::to_value(body).map_err(|error| diesel::result::Error::SerializationError(Box::new(error)))?;
    Ok(storable::json(&body).into_owned())
}
