//! Jobs: the truth about every unit of queued work, and the only place where its status changes.
//!
//! Every write of a running attempt names the attempt number it was claimed with. A worker that was paused, cut off or
//! presumed dead finds that number gone and writes nothing.

use super::{analyses, job_events::JobEvent};
use crate::{
    events::{Change, Event, EventBody, Progress},
    kind::{Kind, Payload, Priority},
    queue::Ticket,
    schema::{job_steps, jobs},
    text_enum::text_enum,
};
use chrono::{DateTime, Utc};
use diesel::{
    pg::data_types::PgInterval,
    prelude::*,
    sql_types::{Array, BigInt, Bool, Int4, Interval, Jsonb, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Value, json};
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

/// Why an attempt, or a whole job, did not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Stable snake_case word.
    pub code: String,
    /// For people.
    pub message: String,
}

/// How a job ends.
#[derive(Debug, Clone)]
pub enum Ending {
    /// With this result.
    Completed(Value),
    /// For good, for this reason; what it had found so far may be kept.
    Failed(Failure, Option<Value>),
    /// By request.
    Cancelled,
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
    /// Jobs whose process died before are left alone here: see [`Job::list_suspects`] and [`Job::claim_suspect`].
    /// A second of grace is given to `run_at`, because Redis, which said that a job is due, has a clock of its own.
    pub async fn claim(
        conn: &mut AsyncPgConnection,
        ids: &[Uuid],
        worker: &str,
        max_attempts: i32,
    ) -> QueryResult<Vec<Self>> {
        Self::claim_where(conn, ids, worker, max_attempts, "crashes = 0").await
    }

    /// Takes one job whose process died before. Its worker runs nothing else meanwhile.
    pub async fn claim_suspect(
        conn: &mut AsyncPgConnection,
        id: Uuid,
        worker: &str,
        max_attempts: i32,
    ) -> QueryResult<Option<Self>> {
        Ok(Self::claim_where(conn, &[id], worker, max_attempts, "crashes > 0").await?.pop())
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

    /// Which of `ids` wait to be run alone, because a process died while it held them.
    pub async fn list_suspects(conn: &mut AsyncPgConnection, ids: &[Uuid]) -> QueryResult<Vec<Uuid>> {
        jobs::table
            .filter(jobs::id.eq_any(ids))
            .filter(jobs::status.eq(JobStatus::Queued))
            .filter(jobs::crashes.gt(0))
            .select(jobs::id)
            .load(conn)
            .await
    }

    /// Says that these attempts are alive. A pair that is missing in the answer has lost its job.
    pub async fn heartbeat(conn: &mut AsyncPgConnection, held: &[(Uuid, i32)]) -> QueryResult<Vec<Pulse>> {
        let (ids, attempts): (Vec<_>, Vec<_>) = held.iter().copied().unzip();
        diesel::sql_query(
            "UPDATE jobs SET heartbeat_at = now() FROM UNNEST($1, $2) AS held (id, attempt) \
             WHERE jobs.id = held.id AND jobs.attempt = held.attempt AND status = 'running' \
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

    /// Ends a job from within its attempt: status, result, steps left open, consequences for what the job was about,
    /// and the last event, in one transaction. `None`: the attempt has lost its job; nothing was written.
    pub fn finish<'a>(
        conn: &'a mut AsyncPgConnection,
        id: Uuid,
        attempt: i32,
        ending: &'a Ending,
    ) -> BoxFuture<'a, QueryResult<Option<Event>>> {
        // boxed: the compiler cannot prove for every lifetime that a closure which borrows gives a future that is `Send`
        conn.transaction(async move |conn| {
            let held = jobs::table
                .filter(jobs::id.eq(id).and(jobs::attempt.eq(attempt)).and(jobs::status.eq(JobStatus::Running)))
                .select(Self::as_select())
                .for_update()
                .first(conn)
                .await
                .optional()?;
            match held {
                Some(job) => end(conn, &job, ending).await.map(Some),
                None => Ok(None),
            }
        })
        .boxed()
    }

    /// Lets a job wait for another attempt. A forgiven attempt does not count against `max_attempts`.
    /// `None`: the attempt has lost its job.
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
                JobStatus::Queued => Cancelled::AtOnce(end(conn, &job, &Ending::Cancelled).await?),
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
            return end(conn, &self, &Ending::Cancelled).await.map(Rescued::Ended);
        }
        if self.charged_attempts() >= self.max_attempts {
            return end(conn, &self, &Ending::Failed(failure, None)).await.map(Rescued::Ended);
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

/// Writes the end of a job whose row is locked by the current transaction.
async fn end(conn: &mut AsyncPgConnection, job: &Job, ending: &Ending) -> QueryResult<Event> {
    let (status, result, failure) = match ending {
        Ending::Completed(result) => (JobStatus::Completed, Some(result.clone()), None),
        Ending::Failed(failure, result) => (JobStatus::Failed, result.clone(), Some(failure)),
        Ending::Cancelled => (JobStatus::Cancelled, None, None),
    };
    let at = Utc::now();
    let message = failure.map_or("The job was cancelled.", |failure| failure.message.as_str());
    if status != JobStatus::Completed {
        diesel::update(job_steps::table)
            .filter(job_steps::job_id.eq(job.id).and(job_steps::status.eq("running")))
            .set((job_steps::status.eq("failed"), job_steps::completed_at.eq(at), job_steps::error_message.eq(message)))
            .execute(conn)
            .await?;
    }
    let seq: i32 = diesel::update(jobs::table.find(job.id))
        .set((
            jobs::status.eq(status),
            jobs::result.eq(&result),
            jobs::error_code.eq(failure.map(|f| f.code.as_str())),
            jobs::error_message.eq(failure.map(|f| f.message.as_str())),
            jobs::errors.eq(diesel::dsl::sql::<Jsonb>("errors || ")
                .bind::<Jsonb, _>(failure.map_or_else(|| json!([]), |failure| entry(job.attempt, failure)))),
            jobs::last_seq.eq(jobs::last_seq + 1),
            jobs::finished_at.eq(at),
            jobs::updated_at.eq(at),
            jobs::heartbeat_at.eq(None::<DateTime<Utc>>),
        ))
        .returning(jobs::last_seq)
        .get_result(conn)
        .await?;
    match job.kind {
        Kind::ImageAnalysis => analyses::settle(conn, job.id, status, message).await?,
        Kind::Probe => {}
    }
    let (total, completed): (i64, i64) = job_steps::table
        .filter(job_steps::job_id.eq(job.id))
        .select((
            diesel::dsl::count_star(),
            diesel::dsl::sql::<BigInt>("count(*) FILTER (WHERE status IN ('completed', 'failed'))"),
        ))
        .first(conn)
        .await?;
    let data = match failure {
        Some(failure) => json!({ "error_code": failure.code, "error_message": failure.message }),
        None if status == JobStatus::Cancelled => json!({ "error_message": message }),
        None => result.unwrap_or_else(|| json!({})),
    };
    let progress = Progress {
        completed: u32::try_from(completed).unwrap_or(u32::MAX),
        total: u32::try_from(total).unwrap_or(u32::MAX),
    };
    let body = EventBody { change: Change::JobFinished { status, data }, progress, at };
    let event = Event { job_id: job.id, seq, body };
    JobEvent::insert(conn, &event).await?;
    Ok(event)
}

fn interval(duration: Duration) -> PgInterval {
    PgInterval::from_microseconds(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
}

fn entry(attempt: i32, failure: &Failure) -> Value {
    json!([{ "attempt": attempt, "at": Utc::now(), "code": failure.code, "message": failure.message }])
}
