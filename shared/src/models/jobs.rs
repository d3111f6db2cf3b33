//! Jobs: the truth about every unit of queued work, and the only place where its status changes.
//!
//! Every write of a running attempt names the attempt number it was claimed with. A worker that was paused, cut off or
//! presumed dead finds that number gone and writes nothing.
//!
//! Here are the rows, how a job is accepted, found and cancelled; `job_claims` is what workers do with it, `job_ends` how
//! it ends, `job_upkeep` what the scheduler does.

use super::{
    job_ends::{Ended, Ending, Finish, end},
    job_images::{StepSum, SumsOf},
};
use crate::{
    kind::{Kind, Payload, Priority},
    queue::{Hint, Ticket},
    schema::jobs,
    text_enum::text_enum,
};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use futures_util::try_join;
use serde_json::Value;
use uuid::Uuid;

/// Rows of one statement; a statement takes 65,535 values at most.
const MOST_ROWS: usize = 1_000;

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

    /// The same, with where it waits.
    pub fn hint(&self) -> Hint {
        Hint { queue: self.payload.kind().queue(), ticket: self.ticket() }
    }
}

/// A new job as it is written.
#[derive(Insertable)]
#[diesel(table_name = jobs)]
struct NewRow<'a> {
    id: Uuid,
    kind: Kind,
    queue: &'static str,
    priority: Priority,
    organization_id: Uuid,
    weight: i16,
    user_id: Uuid,
    payload: Value,
    max_attempts: i32,
    run_at: DateTime<Utc>,
    items_total: i32,
    trace_context: Option<&'a str>,
}

impl<'a> NewRow<'a> {
    fn new(job: &'a NewJob) -> QueryResult<Self> {
        let kind = job.payload.kind();
        Ok(Self {
            id: job.id,
            kind,
            queue: kind.queue(),
            priority: job.payload.priority(),
            organization_id: job.organization_id,
            weight: i16::try_from(job.weight.max(1)).unwrap_or(i16::MAX),
            user_id: job.user_id,
            payload: serde_json::to_value(&job.payload)
                .map_err(|error| diesel::result::Error::SerializationError(Box::new(error)))?,
            max_attempts: i32::from(job.max_attempts.max(1)),
            run_at: job.run_at,
            items_total: job.items_total,
            trace_context: job.trace_context.as_deref(),
        })
    }
}

/// What became of a request to cancel.
#[derive(Debug, Clone)]
pub enum Cancelled {
    /// It waited, and has ended now; listeners and queues are to be told.
    AtOnce(Ended),
    /// It runs; its worker was told through the row and must be told through Redis.
    Requested,
    /// It had ended before.
    TooLate(JobStatus),
}

/// Whose a job has to be.
#[derive(Debug, Clone, Copy)]
enum Owner {
    User(Uuid),
    Organization(Uuid),
}

/// A waiting job as the requeue chore needs it.
#[derive(Debug, Clone, Queryable, Selectable, QueryableByName)]
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

impl Job {
    /// Accepts a job: from the commit of this row on it will not be lost.
    pub async fn insert(conn: &mut AsyncPgConnection, job: &NewJob) -> QueryResult<Self> {
        let row = NewRow::new(job)?;
        diesel::insert_into(jobs::table).values(row).returning(Self::as_returning()).get_result(conn).await
    }

    /// Accepts jobs, in one statement.
    pub async fn insert_all(conn: &mut AsyncPgConnection, new: &[NewJob]) -> QueryResult<()> {
        for some in new.chunks(MOST_ROWS) {
            let rows = some.iter().map(NewRow::new).collect::<QueryResult<Vec<_>>>()?;
            diesel::insert_into(jobs::table).values(rows).execute(conn).await?;
        }
        Ok(())
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

    /// The job, if it exists and is this user's, with its steps summed up over its images. Both are asked for at once: it takes
    /// as long as one query.
    pub async fn find_with_steps(
        conn: &mut AsyncPgConnection,
        id: Uuid,
        user_id: Uuid,
    ) -> QueryResult<Option<(Self, Vec<StepSum>)>> {
        let mut for_job: &AsyncPgConnection = conn;
        let mut for_steps = for_job;
        let job = jobs::table.filter(jobs::id.eq(id)).filter(jobs::user_id.eq(user_id)).select(Self::as_select());
        let job = async { job.first(&mut for_job).await.optional() };
        let steps = SumsOf { job_ids: &[id] }.load(&mut for_steps);
        let (job, steps) = try_join!(job, steps)?;
        Ok(job.map(|job| (job, steps)))
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

    /// Asks for the end of a job of this user. `None`: there is no such job.
    pub async fn cancel(conn: &mut AsyncPgConnection, id: Uuid, user_id: Uuid) -> QueryResult<Option<Cancelled>> {
        Self::cancel_of(conn, id, Owner::User(user_id)).await
    }

    /// Asks for the end of a job of this organization, whichever member submitted it. `None`: there is no such job.
    pub async fn cancel_in_organization(
        conn: &mut AsyncPgConnection,
        id: Uuid,
        organization_id: Uuid,
    ) -> QueryResult<Option<Cancelled>> {
        Self::cancel_of(conn, id, Owner::Organization(organization_id)).await
    }

    async fn cancel_of(conn: &mut AsyncPgConnection, id: Uuid, owner: Owner) -> QueryResult<Option<Cancelled>> {
        conn.transaction(async |conn| {
            let job = jobs::table.find(id).select(Self::as_select()).for_update();
            let job: Option<Self> = match owner {
                Owner::User(user) => job.filter(jobs::user_id.eq(user)).first(conn).await.optional()?,
                Owner::Organization(id) => job.filter(jobs::organization_id.eq(id)).first(conn).await.optional()?,
            };
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

    /// Ends this job, whose row the current transaction has locked.
    pub(super) async fn end(&self, conn: &mut AsyncPgConnection, ending: Ending) -> QueryResult<Ended> {
        let finish = Finish { id: self.id, kind: self.kind, attempt: self.attempt, ending };
        let ended = end(conn, self.status, &[finish]).await?;
        if ended.is_empty() { Err(diesel::result::Error::NotFound) } else { Ok(ended) }
    }
}
