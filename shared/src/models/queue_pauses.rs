//! Queues that an operator has paused. Redis is told, so that nobody claims in vain; what counts is here, and the claim
//! looks at it.

use crate::schema::queue_pauses;
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

/// A queue whose jobs wait.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = queue_pauses, check_for_backend(diesel::pg::Pg))]
pub struct QueuePause {
    /// Its name.
    pub queue: String,
    /// Since when.
    pub paused_at: DateTime<Utc>,
}

impl QueuePause {
    /// Every paused queue.
    pub async fn list(conn: &mut AsyncPgConnection) -> QueryResult<Vec<Self>> {
        queue_pauses::table.order(queue_pauses::queue).select(Self::as_select()).load(conn).await
    }

    /// Pauses a queue; `false`: it was paused already.
    pub async fn insert(conn: &mut AsyncPgConnection, queue: &str) -> QueryResult<bool> {
        let row = diesel::insert_into(queue_pauses::table).values(queue_pauses::queue.eq(queue));
        Ok(row.on_conflict_do_nothing().execute(conn).await? == 1)
    }

    /// Lets a queue go on; `false`: it was not paused.
    pub async fn delete(conn: &mut AsyncPgConnection, queue: &str) -> QueryResult<bool> {
        Ok(diesel::delete(queue_pauses::table.find(queue)).execute(conn).await? == 1)
    }
}
