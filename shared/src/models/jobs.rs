//! Jobs: the truth about every unit of queued work, and the only place where its status changes.
//!
//! Every write of a running attempt names the attempt number it was claimed with. A worker that was paused, cut off or
//! presumed dead finds that number gone and writes nothing.

use super::job_ends::{Ending, Failure, Finish, end, entry};
use crate::{
    events::Event,
    kind::{Kind, Payload, Priority},
    queue::Ticket,
    schema::jobs,
    text_enum::text_enum,
};
use chrono::{DateTime, Utc};
use diesel::{
    pg::data_types::PgInterval,
    prelude::*,
    sql_types::{Array, BigInt, Bool, Int4, Interval, Jsonb, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

text_enum! {
    /// Where a job stands.
    JobStatus {
        /// Waits until `run_at`: new, delayed, or for its next attempt.
        Queued = "queued",
        /// Held by the attempt that the row names.
        Running = "running",
        /// Ended well.
        Completed = "completed",
        /// Ended badly, for good.
        Failed = "failed",
        /// Ended because somebody asked for it.
        Cancelled = "cancelled",
    }
}

impl JobStatus {
    /// Nothing will change any more.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Completed | Self::Failed | Self::Cancelled => true,
        }
    }
}

/// A job as stored; the columns are explained in the migration that makes them.
#[derive(Debug, Clone, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = jobs, check_for_backend(diesel::pg::Pg))]
#[expect(missing_docs, reason = "the columns are explained in the migration that makes them")]
pub struct Job {
    pub id: Uuid,
    pub kind: Kind,
    pub queue: String,
    pub status: JobStatus,
    pub priority: Priority,
    pub organization_id: Uuid,
    pub weight: i16,
    pub user_id: Uuid,
    pub payload: Value,
    pub result: Option<Value>,
    pub error_code: Option<String>,
    pub error_message: Option<String>,
    pub errors: Value,
    pub attempt: i32,
    pub forgiven: i32,
    pub max_attempts: i32,
    pub crashes: i32,
    pub run_at: DateTime<Utc>,
    pub worker: Option<String>,
    pub heartbeat_at: Option<DateTime<Utc>>,
    pub cancel_requested: bool,
    pub last_seq: i32,
    pub items_total: i32,
    pub items_done: i32,
    pub items_failed: i32,
    pub trace_context: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub started_at: Option<DateTime<Utc>>,
    pub finished_at: Option<DateTime<Utc>>,
}

/// A job to be accepted.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The id, time-ordered, so that the caller may know it beforehand.
    pub id: Uuid,
    /// Who submits it.
    pub user_id: Uuid,
    /// The tenant it counts for.
    pub organization_id: Uuid,
    /// The tenant's share of turns, at least 1.
    pub weight: u16,
    /// What it is to do.
    pub payload: Payload,
    /// Attempts after which it fails for good.
    pub max_attempts: u16,
    /// When it is due.
    pub run_at: DateTime<Utc>,
    /// How many items (images) it covers.
    pub items_total: i32,
    /// W3C `traceparent` of the request.
    pub trace_context: Option<String>,
}

impl NewJob {
    /// A job due now, with a new id and five attempts.
    pub fn new(user_id: Uuid, organization_id: Uuid, weight: u16, payload: Payload) -> Self {
        Self {
            id: Uuid::now_v7(),
            user_id,
            organization_id,
            weight,
            payload,
            max_attempts: 5,
            run_at: Utc::now(),
            items_total: 0,
            trace_context: None,
        }
    }

    /// What Redis is told about it, after the commit.
    pub fn ticket(&self) -> Ticket {
        Ticket {
            id: self.id,
            tenant: self.organization_id,
            weight: self.weight,
            priority: self.payload.priority(),
            run_at: Some(self.run_at),
        }
    }
}

/// What became of a request to cancel.
#[derive(Debug, Clone)]
pub enum Cancelled {
    /// It waited, and has ended now; the event is to be published.
    AtOnce(Event),
    /// It runs; its worker was told through the row and must be told through Redis.
    Requested,
    /// It had ended before.
    TooLate(JobStatus),
}

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

/// A waiting job as the requeue chore needs it.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = jobs, check_for_backend(diesel::pg::Pg))]
pub struct Waiting {
    /// The job.
    pub id: Uuid,
    /// Where it waits.
    pub queue: String,
    /// Its class.
    pub priority: Priority,
    /// Its tenant.
    pub organization_id: Uuid,
    /// The tenant's share.
    pub weight: i16,
    /// When it is due.
    pub run_at: DateTime<Utc>,
}

impl Waiting {
    /// What Redis is told about it.
    pub fn ticket(&self) -> Ticket {
        Ticket {
            id: self.id,
            tenant: self.organization_id,
            weight: self.weight.unsigned_abs().max(1),
            priority: self.priority,
            run_at: Some(self.run_at),
        }
    }
}

/// A job taken from a worker that fell silent.
#[derive(Debug, Clone)]
pub enum Rescued {
    /// It waits for its next attempt.
    Again(Waiting),
    /// It had used up its attempts, or was to be cancelled; the event is to be published.
    Ended(Event),
}

impl Job {
    /// Accepts a job: from the commit of this row on it will not be lost.
    pub async fn insert(conn: &mut AsyncPgConnection, job: &NewJob) -> QueryResult<Self> {
        let payload = serde_json::to_value(&job.payload)
            .map_err(|error| diesel::result::Error::SerializationError(Box::new(error)))?;
        let kind = job.payload.kind();
        diesel::insert_into(jobs::table)
            .values((
                (
                    jobs::id.eq(job.id),
                    jobs::kind.eq(kind),
                    jobs::queue.eq(kind.queue()),
                    jobs::priority.eq(job.payload.priority()),
                    jobs::organization_id.eq(job.organization_id),
                    jobs::weight.eq(i16::try_from(job.weight.max(1)).unwrap_or(i16::MAX)),
                    jobs::user_id.eq(job.user_id),
                ),
                jobs::payload.eq(payload),
                jobs::max_attempts.eq(i32::from(job.max_attempts.max(1))),
                jobs::run_at.eq(job.run_at),
                jobs::items_total.eq(job.items_total),
                jobs::trace_context.eq(&job.trace_context),
            ))
            .returning(Self::as_returning())
            .get_result(conn)
            .await
    }

    /// The job, if it exists and is this user's.
    pub async fn find(conn: &mut AsyncPgConnection, id: Uuid, user_id: Uuid) -> QueryResult<Option<Self>> {
        jobs::table
            .filter(jobs::id.eq(id))
            .filter(jobs::user_id.eq(user_id))
            .select(Self::as_select())
            .first(conn)
            .await
            .optional()
    }

    /// The job, whoever owns it.
    pub async fn get(conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<Self> {
        jobs::table.find(id).select(Self::as_select()).first(conn).await
    }

    /// What the job is to do.
    pub fn payload(&self) -> Result<Payload, serde_json::Error> {
        serde_json::from_value(self.payload.clone())
    }

    /// Attempts that count against `max_attempts`.
    pub const fn charged_attempts(&self) -> i32 {
        self.attempt - self.forgiven
    }

    /// Takes every due job of `ids` for one worker, in one statement. `max_attempts` is what the worker's pool allows.
    ///
    /// Jobs that are to run alone are left out: see [`Job::list_suspects`] and [`Job::claim_suspect`].
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

    /// Asks for the end of a job of this user. `None`: there is no such job.
    pub async fn cancel(conn: &mut AsyncPgConnection, id: Uuid, user_id: Uuid) -> QueryResult<Option<Cancelled>> {
        conn.transaction(async |conn| {
            let job = jobs::table
                .filter(jobs::id.eq(id).and(jobs::user_id.eq(user_id)))
                .select(Self::as_select())
                .for_update()
                .first(conn)
                .await
                .optional()?;
            let Some(job) = job else { return Ok(None) };
            Ok(Some(match job.status {
                JobStatus::Queued => Cancelled::AtOnce(job.end(conn, Ending::Cancelled).await?),
                JobStatus::Running => {
                    diesel::update(jobs::table.find(id)).set(jobs::cancel_requested.eq(true)).execute(conn).await?;
                    Cancelled::Requested
                }
                ended @ (JobStatus::Completed | JobStatus::Failed | JobStatus::Cancelled) => Cancelled::TooLate(ended),
            }))
        })
        .await
    }

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
        let silence = PgInterval::from_microseconds(i64::try_from(silence.as_micros()).unwrap_or(i64::MAX));
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

    /// Ends this job, whose row the current transaction has locked.
    async fn end(&self, conn: &mut AsyncPgConnection, ending: Ending) -> QueryResult<Event> {
        let finish = Finish { id: self.id, kind: self.kind, attempt: self.attempt, ending };
        let mut events = end(conn, self.status, &[finish]).await?;
        events.pop().ok_or(diesel::result::Error::NotFound)
    }

    /// Deletes jobs that ended before `before`, with their steps and events, at most `limit`; returns how many.
    pub async fn prune(conn: &mut AsyncPgConnection, before: DateTime<Utc>, limit: i64) -> QueryResult<usize> {
        diesel::sql_query(
            "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE finished_at < $1 \
             AND status IN ('completed', 'failed', 'cancelled') ORDER BY finished_at LIMIT $2)",
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

/// Whether a waiting job has to run alone in its process, in SQL. A process can die for many reasons, so one death is
/// held against nobody; after two, or before the last attempt, the job has to show that it was not the cause. It is then
/// charged only for what it does itself, and if it kills once more, it takes no other job with it.
fn alone(max_attempts: i32) -> String {
    format!("(crashes > 1 OR (crashes = 1 AND attempt - forgiven + 1 >= {max_attempts}))")
}

fn interval(duration: Duration) -> PgInterval {
    PgInterval::from_microseconds(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
}
