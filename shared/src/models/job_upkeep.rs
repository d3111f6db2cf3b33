//! What the scheduler does with jobs: tells Redis of them again, takes them from the dead, deletes the old.

use super::{
    Job, JobStatus, Waiting,
    job_claims::interval,
    job_ends::{Ended, Ending, Failure, entry},
};
use crate::schema::jobs;
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{BigInt, Bool, Interval, Jsonb, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use std::time::Duration;
use uuid::Uuid;

/// A job taken from a worker that fell silent.
#[derive(Debug, Clone)]
pub enum Rescued {
    /// It waits for its next attempt.
    Again(Waiting),
    /// It had used up its attempts, or was to be cancelled; listeners and queues are to be told.
    Ended(Ended),
}

impl Job {
    /// Waiting jobs that are due within `horizon`, after the given place, by due time: a page for the requeue chore.
    pub async fn list_waiting(
        conn: &mut AsyncPgConnection,
        after: Option<(DateTime<Utc>, Uuid)>,
        horizon: Duration,
        limit: i64,
    ) -> QueryResult<Vec<Waiting>> {
        let (run_at, id) = after.unwrap_or((DateTime::UNIX_EPOCH, Uuid::nil()));
        let until = Utc::now() + horizon;
        jobs::table
            .filter(jobs::status.eq(JobStatus::Queued))
            .filter(jobs::run_at.le(until))
            .filter(
                diesel::dsl::sql::<Bool>("(run_at, id) > (")
                    .bind::<Timestamptz, _>(run_at)
                    .sql(", ")
                    .bind::<SqlUuid, _>(id)
                    .sql(")"),
            )
            .order((jobs::run_at, jobs::id))
            .limit(limit)
            .select(Waiting::as_select())
            .load(conn)
            .await
    }

    /// Takes jobs from workers that were silent for `silence`, at most `limit`, in one transaction.
    ///
    /// The attempt that died is charged, so that a job which kills its process ends after `max_attempts`.
    pub async fn rescue(conn: &mut AsyncPgConnection, silence: Duration, limit: i64) -> QueryResult<Vec<Rescued>> {
        // by the clock that wrote the heartbeats: this host's may be ahead, and would take jobs from the living
        let silence = interval(silence);
        conn.transaction(async |conn| {
            let silent: Vec<Self> = jobs::table
                .filter(jobs::status.eq(JobStatus::Running))
                .filter(diesel::dsl::sql::<Bool>("heartbeat_at < now() - ").bind::<Interval, _>(silence))
                .order(jobs::heartbeat_at)
                .limit(limit)
                .select(Self::as_select())
                .for_update()
                .skip_locked()
                .load(conn)
                .await?;
            let mut rescued = Vec::with_capacity(silent.len());
            for job in silent {
                rescued.push(job.take_from_the_dead(conn).await?);
            }
            Ok(rescued)
        })
        .await
    }

    async fn take_from_the_dead(self, conn: &mut AsyncPgConnection) -> QueryResult<Rescued> {
        let worker = self.worker.as_deref().unwrap_or("unknown");
        let failure = Failure {
            code: "worker_died".to_owned(),
            message: format!("The worker {worker} stopped answering during attempt {}.", self.attempt),
        };
        if self.cancel_requested {
            return self.end(conn, Ending::Cancelled).await.map(Rescued::Ended);
        }
        if self.charged_attempts() >= self.max_attempts {
            return self.end(conn, Ending::Failed(failure, None)).await.map(Rescued::Ended);
        }
        diesel::update(jobs::table.find(self.id))
            .set((
                jobs::status.eq(JobStatus::Queued),
                jobs::run_at.eq(diesel::dsl::now),
                jobs::crashes.eq(jobs::crashes + 1),
                jobs::errors
                    .eq(diesel::dsl::sql::<Jsonb>("errors || ").bind::<Jsonb, _>(entry(self.attempt, &failure))),
                jobs::worker.eq(None::<String>),
                jobs::heartbeat_at.eq(None::<DateTime<Utc>>),
                jobs::updated_at.eq(diesel::dsl::now),
            ))
            .returning(Waiting::as_returning())
            .get_result(conn)
            .await
            .map(Rescued::Again)
    }

    /// Deletes jobs that ended before `before`, with their steps and events, at most `limit`; returns how many. What
    /// their nodes left in the object store is noted for deletion, but not the files of orchestrations, which are their
    /// users'. An execution or orchestration that another one has taken results over from stays as long as that one.
    pub async fn prune(conn: &mut AsyncPgConnection, before: DateTime<Utc>, limit: i64) -> QueryResult<usize> {
        diesel::sql_query(
            "WITH old AS ( \
                 SELECT id FROM jobs WHERE finished_at < $1 AND status IN ('completed', 'failed', 'cancelled') \
                     AND NOT EXISTS (SELECT FROM executions WHERE executions.retry_of = jobs.id) \
                     AND NOT EXISTS (SELECT FROM orchestrations WHERE orchestrations.retry_of = jobs.id) \
                 ORDER BY finished_at LIMIT $2 \
             ), noted AS ( \
                 INSERT INTO object_deletions (key, created_at) \
                 SELECT DISTINCT result ->> 'object', now() FROM job_steps JOIN old ON job_steps.job_id = old.id \
                 WHERE result ->> 'object' LIKE 'executions/' || old.id || '/%' \
                 ON CONFLICT DO NOTHING \
             ) \
             DELETE FROM jobs WHERE id IN (SELECT id FROM old)",
        )
        .bind::<Timestamptz, _>(before)
        .bind::<BigInt, _>(limit)
        .execute(conn)
        .await
    }

    /// How many jobs there are of each status in each queue.
    pub async fn count_by_status(conn: &mut AsyncPgConnection) -> QueryResult<Vec<(String, JobStatus, i64)>> {
        jobs::table
            .group_by((jobs::queue, jobs::status))
            .select((jobs::queue, jobs::status, diesel::dsl::count_star()))
            .load(conn)
            .await
    }
}
