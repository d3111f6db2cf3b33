//! What workers do with a job before it ends: take it, show that they are alive, put it back.

use super::{
    Job, JobStatus, Waiting,
    job_ends::{Failure, entry},
};
use crate::schema::jobs;
use chrono::{DateTime, Utc};
use diesel::{
    pg::data_types::PgInterval,
    prelude::*,
    sql_types::{Array, Bool, Int4, Interval, Jsonb, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use std::time::Duration;
use uuid::Uuid;

/// What a heartbeat found out about one running job.
#[derive(Debug, Clone, QueryableByName)]
pub struct Pulse {
    /// The job.
    #[diesel(sql_type = SqlUuid)]
    pub id: Uuid,
    /// Somebody asked for its end.
    #[diesel(sql_type = Bool)]
    pub cancel_requested: bool,
}

impl Job {
    /// Takes every due job of `ids` for one worker, in one statement. `max_attempts` is what the worker's pool allows.
    ///
    /// Jobs that are to run alone are left out: see [`Job::list_suspects`] and [`Job::claim_suspect`]. So are those of
    /// queues that are paused, which Redis may have forgotten.
    /// A second of grace is given to `run_at`, because Redis, which said that a job is due, has a clock of its own.
    pub async fn claim(
        conn: &mut AsyncPgConnection,
        ids: &[Uuid],
        worker: &str,
        max_attempts: i32,
    ) -> QueryResult<Vec<Self>> {
        Self::claim_where(conn, ids, worker, max_attempts, &format!("NOT {}", alone(max_attempts))).await
    }

    /// Takes one job that is to run alone. Its worker runs nothing else meanwhile.
    pub async fn claim_suspect(
        conn: &mut AsyncPgConnection,
        id: Uuid,
        worker: &str,
        max_attempts: i32,
    ) -> QueryResult<Option<Self>> {
        Ok(Self::claim_where(conn, &[id], worker, max_attempts, &alone(max_attempts)).await?.pop())
    }

    async fn claim_where(
        conn: &mut AsyncPgConnection,
        ids: &[Uuid],
        worker: &str,
        max_attempts: i32,
        condition: &str,
    ) -> QueryResult<Vec<Self>> {
        diesel::sql_query(format!(
            "UPDATE jobs SET status = 'running', attempt = attempt + 1, worker = $2, max_attempts = $3, \
                 heartbeat_at = now(), started_at = COALESCE(started_at, now()), updated_at = now() \
             WHERE id = ANY($1) AND status = 'queued' AND run_at <= now() + interval '1 second' AND {condition} \
                 AND NOT EXISTS (SELECT FROM queue_pauses WHERE queue_pauses.queue = jobs.queue) \
             RETURNING *"
        ))
        .bind::<Array<SqlUuid>, _>(ids)
        .bind::<Text, _>(worker)
        .bind::<Int4, _>(max_attempts)
        .load(conn)
        .await
    }

    /// Which of `ids` wait to be run alone, because processes died while they held them.
    pub async fn list_suspects(
        conn: &mut AsyncPgConnection,
        ids: &[Uuid],
        max_attempts: i32,
    ) -> QueryResult<Vec<Uuid>> {
        jobs::table
            .filter(jobs::id.eq_any(ids))
            .filter(jobs::status.eq(JobStatus::Queued))
            .filter(diesel::dsl::sql::<Bool>(&alone(max_attempts)))
            .select(jobs::id)
            .load(conn)
            .await
    }

    /// Says that these attempts are alive. A pair that is missing in the answer has lost its job.
    pub async fn heartbeat(conn: &mut AsyncPgConnection, held: &[(Uuid, i32)]) -> QueryResult<Vec<Pulse>> {
        let (ids, attempts): (Vec<_>, Vec<_>) = held.iter().copied().unzip();
        // locked in the order of their ids, as everybody does who locks several
        diesel::sql_query(
            "WITH alive AS ( \
                 SELECT jobs.id FROM jobs JOIN UNNEST($1, $2) AS held (id, attempt) USING (id) \
                 WHERE jobs.attempt = held.attempt AND status = 'running' ORDER BY jobs.id FOR UPDATE OF jobs \
             ) \
             UPDATE jobs SET heartbeat_at = now() FROM alive WHERE jobs.id = alive.id \
             RETURNING jobs.id, cancel_requested",
        )
        .bind::<Array<SqlUuid>, _>(ids)
        .bind::<Array<Int4>, _>(attempts)
        .load(conn)
        .await
    }

    /// Counts one more item that ended. The caller has passed its fence in the same transaction.
    pub async fn count_item(conn: &mut AsyncPgConnection, id: Uuid, failed: bool) -> QueryResult<()> {
        diesel::update(jobs::table.find(id))
            .set((
                jobs::items_done.eq(jobs::items_done + i32::from(!failed)),
                jobs::items_failed.eq(jobs::items_failed + i32::from(failed)),
            ))
            .execute(conn)
            .await?;
        Ok(())
    }

    /// Lets a job wait for another attempt. A forgiven attempt does not count against `max_attempts`.
    /// `None`: the attempt has lost its job, or somebody asked for its end, so that there is no other attempt.
    pub async fn retry(
        conn: &mut AsyncPgConnection,
        id: Uuid,
        attempt: i32,
        after: Duration,
        forgiven: bool,
        failure: &Failure,
    ) -> QueryResult<Option<Waiting>> {
        diesel::update(jobs::table)
            .filter(jobs::id.eq(id).and(jobs::attempt.eq(attempt)).and(jobs::status.eq(JobStatus::Running)))
            .filter(jobs::cancel_requested.eq(false))
            .set((
                jobs::status.eq(JobStatus::Queued),
                jobs::run_at.eq(diesel::dsl::sql::<Timestamptz>("now() + ").bind::<Interval, _>(interval(after))),
                jobs::forgiven.eq(jobs::forgiven + i32::from(forgiven)),
                jobs::errors.eq(diesel::dsl::sql::<Jsonb>("errors || ").bind::<Jsonb, _>(entry(attempt, failure))),
                jobs::worker.eq(None::<String>),
                jobs::heartbeat_at.eq(None::<DateTime<Utc>>),
                jobs::updated_at.eq(diesel::dsl::now),
            ))
            .returning(Waiting::as_returning())
            .get_result(conn)
            .await
            .optional()
    }
}

/// Whether a waiting job has to run alone in its process, in SQL. A process can die for many reasons, so one death is
/// held against nobody; after two, or before the last attempt, the job has to show that it was not the cause. It is then
/// charged only for what it does itself, and if it kills once more, it takes no other job with it.
fn alone(max_attempts: i32) -> String {
    format!("(crashes > 1 OR (crashes = 1 AND attempt - forgiven + 1 >= {max_attempts}))")
}

pub(super) fn interval(duration: Duration) -> PgInterval {
    PgInterval::from_microseconds(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
}
