//! How an operator opens jobs again that have ended badly. What is finished stays finished: steps, answers of language
//! models. What was told of the end stays told: webhooks and mails that went out, and quotas that were settled.

use super::{JobStatus, Waiting, delivery_reads::REOPEN, job_events::body_json};
use crate::{
    events::{Change, EventBody, LogLevel, Progress},
    kind::Kind,
    schema::{executions, jobs, orchestrations, products},
};
use chrono::{DateTime, Utc};
use diesel::{
    prelude::*,
    sql_types::{Array, Bool, Jsonb, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use serde_json::{Value, json};
use std::{
    collections::{HashMap, HashSet},
    fmt,
};
use uuid::Uuid;

/// Words of an event that takes the place of an end that is none any more.
const OPENED: &str = "An operator lets the job try again.";

/// Why a job was not opened again, or not discarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is no such job.
    Unknown,
    /// It stands otherwise.
    Status(JobStatus),
    /// It is a mail, and what a mail says is forgotten when it ends.
    Forgotten,
    /// Later jobs have analysed its images.
    Overtaken,
    /// Another run has taken its results over.
    TakenOver,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("there is no such job"),
            Self::Status(status) => write!(f, "it is {status}"),
            Self::Forgotten => f.write_str("what a mail says is forgotten when it ends"),
            Self::Overtaken => f.write_str("its images have gone or were analysed by later jobs"),
            Self::TakenOver => f.write_str("another run has taken its results over"),
        }
    }
}

/// What became of jobs that were to be opened again; it is committed, and Redis is to be told.
#[derive(Debug, Default)]
pub struct Reopened {
    /// They wait for a worker.
    pub waiting: Vec<Waiting>,
    /// They stay as they are.
    pub refused: Vec<(Uuid, Refused)>,
}

/// A job that may be opened again.
#[derive(Queryable)]
struct Ended {
    id: Uuid,
    kind: Kind,
    status: JobStatus,
    last_seq: i32,
    product_id: Option<String>,
}

#[derive(QueryableByName)]
struct OpenStep {
    #[diesel(sql_type = SqlUuid)]
    job_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    item: Uuid,
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct Owned {
    #[diesel(sql_type = SqlUuid)]
    job_id: Uuid,
}

impl Reopened {
    /// Opens those of `ids` again that have failed or were cancelled, in one transaction: they are due now, and their
    /// attempts are counted from the beginning. The number of the attempt goes on, since it is what keeps late writers
    /// out.
    pub async fn of(conn: &mut AsyncPgConnection, ids: &[Uuid]) -> QueryResult<Self> {
        conn.transaction(async |conn| {
            let (ended, refused) = choose(conn, ids).await?;
            let chosen: Vec<Uuid> = ended.iter().map(|job| job.id).collect();
            if chosen.is_empty() {
                return Ok(Self { waiting: Vec::new(), refused });
            }
            open_images(conn, &ended).await?;
            open_steps(conn, &chosen).await?;
            take_back_ends(conn, &ended).await?;
            let executed = executions::table.filter(executions::id.eq_any(&chosen));
            diesel::update(executed).set(executions::error_node_id.eq(None::<String>)).execute(conn).await?;
            let orchestrated = orchestrations::table.filter(orchestrations::id.eq_any(&chosen));
            diesel::update(orchestrated).set(orchestrations::failed_phases.eq(0)).execute(conn).await?;
            let waiting = diesel::sql_query(format!(
                "{REOPEN}, started_at = NULL, \
                     last_seq = CASE WHEN EXISTS (SELECT FROM job_events e WHERE e.job_id = jobs.id) THEN last_seq \
                         ELSE 0 END, \
                     items_failed = CASE WHEN kind = 'image_analysis' THEN ( \
                         SELECT count(*) FROM job_images i WHERE i.job_id = jobs.id AND i.status = 'failed') \
                         ELSE 0 END \
                 WHERE id = ANY($1) AND status IN ('failed', 'cancelled') \
                 RETURNING id, queue, priority, organization_id, weight, run_at"
            ))
            .bind::<Array<SqlUuid>, _>(&chosen)
            .load(conn)
            .await?;
            Ok(Self { waiting, refused })
        })
        .await
    }

    /// The failed jobs of a kind that ended before `before`, behind a place among them, in the order of their ends, at
    /// most `limit`; each with its place.
    pub async fn list_failed(
        conn: &mut AsyncPgConnection,
        kind: Kind,
        before: DateTime<Utc>,
        behind: Option<(DateTime<Utc>, Uuid)>,
        limit: i64,
    ) -> QueryResult<Vec<(DateTime<Utc>, Uuid)>> {
        let (at, id) = behind.unwrap_or((DateTime::UNIX_EPOCH, Uuid::nil()));
        jobs::table
            // as a word, so that its index is found
            .filter(diesel::dsl::sql::<Bool>("status = 'failed'"))
            // said once more in a form that the index understands
            .filter(jobs::kind.eq(kind).and(jobs::finished_at.lt(before)).and(jobs::finished_at.ge(at)))
            .filter(jobs::finished_at.gt(at).or(jobs::finished_at.eq(at).and(jobs::id.gt(id))))
            .order((jobs::finished_at, jobs::id))
            .limit(limit)
            .select((jobs::finished_at.assume_not_null(), jobs::id))
            .load(conn)
            .await
    }
}

/// Holds the jobs that can be opened again, in the order of their ids, as everybody does who locks several.
async fn choose(conn: &mut AsyncPgConnection, ids: &[Uuid]) -> QueryResult<(Vec<Ended>, Vec<(Uuid, Refused)>)> {
    let found: Vec<Ended> = jobs::table
        .filter(jobs::id.eq_any(ids))
        .order(jobs::id)
        .select((
            jobs::id,
            jobs::kind,
            jobs::status,
            jobs::last_seq,
            diesel::dsl::sql::<diesel::sql_types::Nullable<Text>>("payload ->> 'product_id'"),
        ))
        .for_update()
        .load(conn)
        .await?;
    let owned: Vec<Owned> = diesel::sql_query("SELECT DISTINCT job_id FROM analyses WHERE job_id = ANY($1)")
        .bind::<Array<SqlUuid>, _>(ids)
        .load(conn)
        .await?;
    let owned: HashSet<Uuid> = owned.into_iter().map(|owned| owned.job_id).collect();
    let known: HashSet<Uuid> = found.iter().map(|job| job.id).collect();
    let mut refused: Vec<(Uuid, Refused)> =
        ids.iter().filter(|id| !known.contains(id)).map(|id| (*id, Refused::Unknown)).collect();
    let mut ended = Vec::new();
    for job in found {
        match refusal(&job, &owned) {
            Some(reason) => refused.push((job.id, reason)),
            None => ended.push(job),
        }
    }
    Ok((ended, refused))
}

fn refusal(job: &Ended, owned: &HashSet<Uuid>) -> Option<Refused> {
    match job.status {
        JobStatus::Failed | JobStatus::Cancelled => {}
        JobStatus::Queued | JobStatus::Running | JobStatus::Completed => return Some(Refused::Status(job.status)),
    }
    match job.kind {
        Kind::Mail => Some(Refused::Forgotten),
        Kind::ImageAnalysis => (!owned.contains(&job.id)).then_some(Refused::Overtaken),
        Kind::BatchShare
        | Kind::PipelineRun
        | Kind::Orchestration
        | Kind::ChatCompletion
        | Kind::TextGeneration
        | Kind::WebhookDelivery
        | Kind::Probe => None,
    }
}

/// The images that failed wait again, unless a later job has analysed them; products show that something is in work.
async fn open_images(conn: &mut AsyncPgConnection, ended: &[Ended]) -> QueryResult<()> {
    let analysed = || ended.iter().filter(|job| job.kind == Kind::ImageAnalysis);
    let ids: Vec<Uuid> = analysed().map(|job| job.id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let mut touched: Vec<Uuid> = analysed().filter_map(|job| job.product_id.as_deref()?.parse().ok()).collect();
    touched.sort_unstable();
    touched.dedup();
    // jobs before products, products in the order of their ids: as whoever ends an analysis
    let held = products::table.filter(products::id.eq_any(&touched)).order(products::id);
    let _: Vec<Uuid> = held.select(products::id).for_no_key_update().load(conn).await?;
    diesel::sql_query(
        "UPDATE job_images SET status = 'pending', error_message = NULL FROM analyses a \
         WHERE job_images.job_id = ANY($1) AND job_images.status = 'failed' \
             AND a.product_image_id = job_images.image_id AND a.job_id = job_images.job_id",
    )
    .bind::<Array<SqlUuid>, _>(&ids)
    .execute(conn)
    .await?;
    diesel::sql_query(
        "UPDATE analyses SET status = 'pending', error_message = NULL, updated_at = now() \
         WHERE job_id = ANY($1) AND status = 'failed'",
    )
    .bind::<Array<SqlUuid>, _>(&ids)
    .execute(conn)
    .await?;
    for product in touched {
        super::Product::begin_processing(conn, product).await?;
    }
    Ok(())
}

/// Steps that failed, or were cut short, have not begun.
async fn open_steps(conn: &mut AsyncPgConnection, ids: &[Uuid]) -> QueryResult<()> {
    diesel::sql_query(
        "UPDATE job_steps s SET status = 'pending', started_at = NULL, completed_at = NULL, duration_ms = NULL, \
             error_message = NULL, result = '{}' \
         WHERE s.job_id = ANY($1) AND s.status IN ('failed', 'running') AND NOT EXISTS ( \
             SELECT FROM job_images i WHERE i.job_id = s.job_id AND i.image_id = s.item AND i.status = 'failed')",
    )
    .bind::<Array<SqlUuid>, _>(ids)
    .execute(conn)
    .await?;
    Ok(())
}

/// Whoever reads the events of a job stops at its end. The end that was none becomes a notice, so that the numbers have
/// no gap; where it was all that had happened, nothing has.
async fn take_back_ends(conn: &mut AsyncPgConnection, ended: &[Ended]) -> QueryResult<()> {
    let untouched: Vec<Uuid> = ended.iter().filter(|job| job.last_seq <= 1).map(|job| job.id).collect();
    diesel::sql_query("DELETE FROM job_events WHERE job_id = ANY($1) AND body ->> 'type' = 'job_finished'")
        .bind::<Array<SqlUuid>, _>(&untouched)
        .execute(conn)
        .await?;
    let begun: Vec<&Ended> = ended.iter().filter(|job| job.last_seq > 1).collect();
    if begun.is_empty() {
        return Ok(());
    }
    let ids: Vec<Uuid> = begun.iter().map(|job| job.id).collect();
    let open = open_step_of_each(conn, &ids).await?;
    let bodies =
        begun.iter().map(|job| body_json(&notice(job, open.get(&job.id)))).collect::<QueryResult<Vec<Value>>>()?;
    diesel::sql_query(
        "UPDATE job_events e SET body = new.body || jsonb_build_object('progress', jsonb_build_object( \
             'total', (SELECT count(*) FROM job_steps s WHERE s.job_id = e.job_id AND position >= 0), \
             'completed', (SELECT count(*) FROM job_steps s WHERE s.job_id = e.job_id AND position >= 0 \
                 AND s.status IN ('completed', 'failed', 'skipped')))) \
         FROM UNNEST($1, $2) AS new (id, body) \
         WHERE e.job_id = new.id AND e.body ->> 'type' = 'job_finished'",
    )
    .bind::<Array<SqlUuid>, _>(&ids)
    .bind::<Array<Jsonb>, _>(bodies)
    .execute(conn)
    .await?;
    Ok(())
}

/// A step of each job that is to run: those who follow an analysis hear of steps only.
async fn open_step_of_each(conn: &mut AsyncPgConnection, ids: &[Uuid]) -> QueryResult<HashMap<Uuid, OpenStep>> {
    let found: Vec<OpenStep> = diesel::sql_query(
        "SELECT DISTINCT ON (job_id) job_id, item, name FROM job_steps \
         WHERE job_id = ANY($1) AND status = 'pending' AND position >= 0 ORDER BY job_id, item, position",
    )
    .bind::<Array<SqlUuid>, _>(ids)
    .load(conn)
    .await?;
    Ok(found.into_iter().map(|step| (step.job_id, step)).collect())
}

fn notice(job: &Ended, open: Option<&OpenStep>) -> EventBody {
    let log = || Change::Log { level: LogLevel::Info, step: None, message: OPENED.to_owned() };
    let change = match (job.kind, open) {
        (Kind::ImageAnalysis, Some(step)) => Change::StepUpdate {
            item: (!step.item.is_nil()).then_some(step.item),
            step: step.name.clone(),
            status: super::StepStatus::Pending,
            data: json!({}),
        },
        (_, _) => log(),
    };
    EventBody { change, progress: Progress::default(), at: Utc::now() }
}
