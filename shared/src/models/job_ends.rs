//! How jobs end: status, result, steps left open, consequences for what the job was about, and the last event, written
//! together. Many jobs end in one statement, because a worker that runs short jobs does little else.

use super::{
    Job, JobStatus, analyses, delivery_attempts, job_events::body_json, llm_calls, mail_notices, mails, quotas,
    storable, webhook_deliveries,
};
use crate::{
    events::{Change, Event, EventBody, Progress},
    kind::Kind,
    queue::Hint,
};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    result::Error,
    sql_types::{Array, Int4, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use futures_util::{FutureExt, future::BoxFuture};
use serde_json::{Value, json};
use std::{borrow::Cow, collections::HashSet};
use uuid::Uuid;

/// What is said about a cancelled job where a failed one has its message.
const CANCELLED: &str = "The job was cancelled.";

/// Ends the jobs that still have the expected attempt and status, and stores their last events. The rows are locked in
/// the order of their ids, as everybody does who locks several, so that nobody waits in a circle. A step that waits for one
/// of the same item that failed will never run: it counts as finished, as it did when that one failed.
const END: &str = "WITH ending AS ( \
    SELECT * FROM UNNEST($1, $2, $3, $4, $5, $6, $7, $8) \
        AS ending (id, attempt, status, result, error_code, error_message, errors, body) \
), held AS ( \
    SELECT ending.* FROM jobs JOIN ending USING (id) \
    WHERE jobs.attempt = ending.attempt AND jobs.status = $9 ORDER BY jobs.id FOR UPDATE OF jobs \
), ended AS ( \
    UPDATE jobs SET status = held.status, result = held.result, error_code = held.error_code, \
        error_message = held.error_message, errors = jobs.errors || held.errors, last_seq = last_seq + 1, \
        finished_at = $10, updated_at = $10, heartbeat_at = NULL \
    FROM held WHERE jobs.id = held.id \
    RETURNING jobs.id, jobs.last_seq, jobs.status, held.body, COALESCE(held.error_message, $11) AS message \
), cut_short AS ( \
    UPDATE job_steps SET status = 'failed', completed_at = $10, error_message = ended.message \
    FROM ended WHERE job_steps.job_id = ended.id AND job_steps.status = 'running' AND ended.status <> 'completed' \
) \
INSERT INTO job_events (job_id, seq, created_at, body) \
SELECT id, last_seq, $10, body || (SELECT jsonb_build_object('progress', jsonb_build_object( \
        'total', count(*), \
        'completed', count(*) FILTER (WHERE job_steps.status IN ('completed', 'failed', 'skipped') \
            OR (job_steps.status = 'running' AND ended.status <> 'completed') \
            OR (job_steps.status = 'pending' AND EXISTS (SELECT FROM job_steps failed \
                WHERE failed.job_id = job_steps.job_id AND failed.item = job_steps.item \
                    AND failed.status = 'failed'))))) \
    FROM job_steps WHERE job_id = ended.id AND position >= 0) \
FROM ended RETURNING job_id, seq, body";

/// Ends jobs that nobody listens to and that have no steps, in the same way.
const END_QUIETLY: &str = "WITH ending AS ( \
    SELECT * FROM UNNEST($1, $2, $3, $4, $5, $6) AS ending (id, attempt, status, error_code, error_message, errors) \
), held AS ( \
    SELECT ending.* FROM jobs JOIN ending USING (id) \
    WHERE jobs.attempt = ending.attempt AND jobs.status = $7 ORDER BY jobs.id FOR UPDATE OF jobs \
) \
UPDATE jobs SET status = held.status, error_code = held.error_code, error_message = held.error_message, \
    errors = jobs.errors || held.errors, finished_at = $8, updated_at = $8, heartbeat_at = NULL \
FROM held WHERE jobs.id = held.id RETURNING jobs.id";

/// The kinds that ask language models.
const CALLERS: [Kind; 4] = [Kind::PipelineRun, Kind::Orchestration, Kind::ChatCompletion, Kind::TextGeneration];

/// The kinds that somebody has asked for: they count in the quotas, and people hear of their ends.
const ASKED: [Kind; 5] =
    [Kind::ImageAnalysis, Kind::PipelineRun, Kind::Orchestration, Kind::ChatCompletion, Kind::TextGeneration];

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

/// The end of one job.
#[derive(Debug, Clone)]
pub struct Finish {
    /// The job.
    pub id: Uuid,
    /// What it does.
    pub kind: Kind,
    /// The attempt that ends it; another one in the row means that it is no longer this one's to end.
    pub attempt: i32,
    /// How it ends.
    pub ending: Ending,
}

/// What became of jobs that were to end; it is committed, and others are to be told.
#[derive(Debug, Clone, Default)]
pub struct Ended {
    /// The last event of each job that ended, for those who listen. A job that is neither here nor among the quiet ones is
    /// no longer held by its attempt, and nothing was written about it.
    pub events: Vec<Event>,
    /// Jobs that ended without an event, since nobody listens to their kind.
    pub quiet: Vec<Uuid>,
    /// The jobs that follow from it: webhook deliveries, mails.
    pub hints: Vec<Hint>,
}

impl Ended {
    /// Whether no job ended.
    pub const fn is_empty(&self) -> bool {
        self.events.is_empty() && self.quiet.is_empty()
    }
}

#[derive(QueryableByName)]
struct Quiet {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
}

#[derive(QueryableByName)]
struct Stored {
    #[diesel(sql_type = SqlUuid)]
    job_id: Uuid,
    #[diesel(sql_type = Int4)]
    seq: i32,
    #[diesel(sql_type = Jsonb)]
    body: Value,
}

impl Ending {
    /// The job's status from then on.
    pub const fn status(&self) -> JobStatus {
        match self {
            Self::Completed(_) => JobStatus::Completed,
            Self::Failed(..) => JobStatus::Failed,
            Self::Cancelled => JobStatus::Cancelled,
        }
    }

    fn result(&self) -> Option<Cow<'_, Value>> {
        let result = match self {
            Self::Completed(result) => Some(result),
            Self::Failed(_, result) => result.as_ref(),
            Self::Cancelled => None,
        };
        result.map(storable::json)
    }

    const fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure, _) => Some(failure),
            Self::Completed(_) | Self::Cancelled => None,
        }
    }

    fn message(&self) -> Cow<'_, str> {
        self.failure().map_or(Cow::Borrowed(CANCELLED), |failure| storable::text(&failure.message))
    }

    /// What listeners are told.
    fn data(&self) -> Value {
        match self {
            Self::Completed(result) => result.clone(),
            Self::Failed(failure, found) => {
                let mut told = json!({ "error_code": failure.code, "error_message": failure.message });
                if let Some(found) = found {
                    told["result"] = found.clone();
                }
                told
            }
            Self::Cancelled => json!({ "error_message": CANCELLED }),
        }
    }
}

impl Job {
    /// Ends jobs from within their attempts, all of them in one transaction. No job may be named twice.
    pub fn finish<'a>(conn: &'a mut AsyncPgConnection, finishes: &'a [Finish]) -> BoxFuture<'a, QueryResult<Ended>> {
        // boxed: the compiler cannot prove for every lifetime that a closure which borrows gives a future that is `Send`
        if finishes.iter().any(|finish| has_consequences(finish.kind)) {
            conn.transaction(async move |conn| end(conn, JobStatus::Running, finishes).await).boxed()
        } else {
            end(conn, JobStatus::Running, finishes).boxed()
        }
    }
}

/// Whether the end of such a job changes more than the job.
const fn has_consequences(kind: Kind) -> bool {
    match kind {
        Kind::ImageAnalysis
        | Kind::PipelineRun
        | Kind::Orchestration
        | Kind::ChatCompletion
        | Kind::TextGeneration
        | Kind::WebhookDelivery
        | Kind::Mail => true,
        Kind::Probe => false,
    }
}

/// Whether nobody listens to such a job: its end is no event, it has no steps, and what it found is stored elsewhere.
const fn is_quiet(kind: Kind) -> bool {
    match kind {
        Kind::WebhookDelivery => true,
        Kind::ImageAnalysis
        | Kind::PipelineRun
        | Kind::Orchestration
        | Kind::ChatCompletion
        | Kind::TextGeneration
        | Kind::Mail
        | Kind::Probe => false,
    }
}

/// Ends the jobs that have the status `from` and the attempt named. The caller has begun a transaction if any of them
/// [has consequences](has_consequences).
pub(super) async fn end(conn: &mut AsyncPgConnection, from: JobStatus, finishes: &[Finish]) -> QueryResult<Ended> {
    let at = Utc::now();
    let (quiet, told): (Vec<&Finish>, Vec<&Finish>) = finishes.iter().partition(|finish| is_quiet(finish.kind));
    let stored = if told.is_empty() { Vec::new() } else { end_told(conn, from, &told, at).await? };
    let quiet = if quiet.is_empty() { Vec::new() } else { end_quiet(conn, from, &quiet, at).await? };
    let all: HashSet<Uuid> = stored.iter().map(|event| event.job_id).chain(quiet.iter().copied()).collect();
    let ended = |kinds: &[Kind]| {
        let wanted = |finish: &&Finish| kinds.contains(&finish.kind) && all.contains(&finish.id);
        finishes.iter().filter(wanted).collect::<Vec<_>>()
    };
    let analysed = ended(&[Kind::ImageAnalysis]);
    if !analysed.is_empty() {
        let analysed: Vec<_> =
            analysed.iter().map(|finish| (finish.id, finish.ending.status(), finish.ending.message())).collect();
        analyses::settle(conn, &analysed).await?;
    }
    let called: Vec<_> = ended(&CALLERS).iter().map(|finish| finish.id).collect();
    if !called.is_empty() {
        llm_calls::settle(conn, &called).await?;
    }
    let asked: Vec<_> = ended(&ASKED);
    let mut hints = Vec::new();
    if !asked.is_empty() {
        quotas::settle(conn, &asked).await?;
        hints.extend(webhook_deliveries::announce_ends(conn, &asked, at).await?);
        hints.extend(mail_notices::announce_ends(conn, &asked).await?);
    }
    let delivered = ended(&[Kind::WebhookDelivery]);
    if !delivered.is_empty() {
        hints.extend(delivery_attempts::settle(conn, &delivered, at).await?);
    }
    let sent = ended(&[Kind::Mail]);
    if !sent.is_empty() {
        mails::settle(conn, &sent).await?;
    }
    let events = stored.into_iter().map(Stored::into_event).collect::<QueryResult<_>>()?;
    Ok(Ended { events, quiet, hints })
}

/// Ends jobs and stores their last events.
async fn end_told(
    conn: &mut AsyncPgConnection,
    from: JobStatus,
    finishes: &[&Finish],
    at: DateTime<Utc>,
) -> QueryResult<Vec<Stored>> {
    let bodies: Vec<Value> = finishes
        .iter()
        .map(|Finish { ending, .. }| {
            let change = Change::JobFinished { status: ending.status(), data: ending.data() };
            // the statement counts the steps
            body_json(&EventBody { change, progress: Progress::default(), at })
        })
        .collect::<QueryResult<_>>()?;
    let Columns { ids, attempts, statuses, codes, messages, errors } = Columns::of(finishes);
    diesel::sql_query(END)
        .bind::<Array<SqlUuid>, _>(ids)
        .bind::<Array<Int4>, _>(attempts)
        .bind::<Array<Text>, _>(statuses)
        .bind::<Array<Nullable<Jsonb>>, _>(finishes.iter().map(|finish| finish.ending.result()).collect::<Vec<_>>())
        .bind::<Array<Nullable<Text>>, _>(codes)
        .bind::<Array<Nullable<Text>>, _>(messages)
        .bind::<Array<Jsonb>, _>(errors)
        .bind::<Array<Jsonb>, _>(bodies)
        .bind::<Text, _>(from)
        .bind::<Timestamptz, _>(at)
        .bind::<Text, _>(CANCELLED)
        .load(conn)
        .await
}

/// Ends jobs that nobody listens to; returns which did.
async fn end_quiet(
    conn: &mut AsyncPgConnection,
    from: JobStatus,
    finishes: &[&Finish],
    at: DateTime<Utc>,
) -> QueryResult<Vec<Uuid>> {
    let Columns { ids, attempts, statuses, codes, messages, errors } = Columns::of(finishes);
    let ended: Vec<Quiet> = diesel::sql_query(END_QUIETLY)
        .bind::<Array<SqlUuid>, _>(ids)
        .bind::<Array<Int4>, _>(attempts)
        .bind::<Array<Text>, _>(statuses)
        .bind::<Array<Nullable<Text>>, _>(codes)
        .bind::<Array<Nullable<Text>>, _>(messages)
        .bind::<Array<Jsonb>, _>(errors)
        .bind::<Text, _>(from)
        .bind::<Timestamptz, _>(at)
        .load(conn)
        .await?;
    Ok(ended.into_iter().map(|ended| ended.id).collect())
}

/// What both statements are told of the jobs, column by column.
struct Columns<'a> {
    ids: Vec<Uuid>,
    attempts: Vec<i32>,
    statuses: Vec<JobStatus>,
    codes: Vec<Option<&'a str>>,
    messages: Vec<Option<Cow<'a, str>>>,
    errors: Vec<Value>,
}

impl<'a> Columns<'a> {
    fn of(finishes: &[&'a Finish]) -> Self {
        let failures = || finishes.iter().map(|finish| finish.ending.failure());
        let noted = |finish: &&Finish| {
            finish.ending.failure().map_or_else(|| json!([]), |failure| entry(finish.attempt, failure))
        };
        Self {
            ids: finishes.iter().map(|finish| finish.id).collect(),
            attempts: finishes.iter().map(|finish| finish.attempt).collect(),
            statuses: finishes.iter().map(|finish| finish.ending.status()).collect(),
            codes: failures().map(|failure| failure.map(|f| &*f.code)).collect(),
            messages: failures().map(|failure| failure.map(|f| storable::text(&f.message))).collect(),
            errors: finishes.iter().map(noted).collect(),
        }
    }
}

impl Stored {
    fn into_event(self) -> QueryResult<Event> {
        let body = serde_json::from_value(self.body).map_err(|error| Error::DeserializationError(Box::new(error)))?;
        Ok(Event { job_id: self.job_id, seq: self.seq, body })
    }
}

/// What is noted in `jobs.errors` about an attempt that did not complete.
pub(super) fn entry(attempt: i32, failure: &Failure) -> Value {
    json!([{
        "attempt": attempt,
        "at": Utc::now(),
        "code": failure.code,
        "message": storable::text(&failure.message),
    }])
}
