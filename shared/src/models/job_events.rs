//! Stored events, numbered without gaps within a job.

use super::storable;
use crate::{
    events::{Event, EventBody},
    schema::job_events,
};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
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

impl JobEvent {
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
