//! What webhooks are told when jobs end. Nothing is read about a job that nobody wants to hear of.

use super::{
    Ending, Finish, JobStep, StepStatus,
    execution_results::{failure_word, shown_result, shown_steps},
    orchestration_ends::{self, EndedRun},
    webhook_deliveries::{Hearer, deliver, hearers},
};
use crate::{
    kind::Kind,
    orchestration::{phase_code, phase_of_step},
    queue::Hint,
    schema::{executions, job_steps, jobs},
    webhook_event::WebhookEvent,
};
use chrono::{DateTime, SecondsFormat, Utc};
use diesel::{
    dsl::sql,
    prelude::*,
    sql_types::{Array, Text, Uuid as SqlUuid},
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Most bytes that a result takes in a delivery; with all that is around it, a body stays below 256 KiB.
const MOST_BYTES: usize = 224 * 1024;

/// What an image analysis has come to.
#[derive(Queryable)]
struct Images {
    id: Uuid,
    job_type: String,
    total: i32,
    done: i32,
    failed: i32,
}

/// What was run.
#[derive(Queryable)]
struct Run {
    id: Uuid,
    pipeline_id: Uuid,
    pipeline_name: String,
    nodes: Value,
    error_node_id: Option<String>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

/// An end that somebody wants to hear of.
struct Heard<'a> {
    place: i32,
    finish: &'a Finish,
    event: WebhookEvent,
    /// The user whose job it was.
    user_id: Uuid,
}

/// The deliveries that follow from the ends of jobs: one query if nobody listens.
pub(super) async fn announce_ends(
    conn: &mut AsyncPgConnection,
    ended: &[&Finish],
    at: DateTime<Utc>,
) -> QueryResult<Vec<Hint>> {
    let told: Vec<(&Finish, WebhookEvent)> =
        ended.iter().filter_map(|finish| Some((*finish, event_of(finish)?))).collect();
    if told.is_empty() {
        return Ok(Vec::new());
    }
    let hearers: Vec<Hearer> = hearers(
        "SELECT place, event, of_organization, user_id AS about, organization_id, id AS job_id \
         FROM UNNEST($1, $2, $3, $4) AS o (place, event, of_organization, id) JOIN jobs USING (id)",
        told.iter().map(|(_, event)| *event),
    )
    .bind::<Array<SqlUuid>, _>(told.iter().map(|(finish, _)| finish.id).collect::<Vec<_>>())
    .load(conn)
    .await?;
    let listened: HashMap<i32, Uuid> = hearers.iter().map(|hearer| (hearer.place, hearer.about)).collect();
    let heard: Vec<Heard<'_>> = (0..)
        .zip(told)
        .filter_map(|(place, (finish, event))| Some(Heard { place, finish, event, user_id: *listened.get(&place)? }))
        .collect();
    if heard.is_empty() {
        return Ok(Vec::new());
    }
    let said = say(conn, &heard, at).await?;
    let said = said.iter().map(|(place, event, data)| (*place, (*event, data))).collect();
    deliver(conn, &hearers, &said).await
}

/// Which event the end of a job is. Whoever stopped a job knows; an orchestration has others who look at it.
const fn event_of(finish: &Finish) -> Option<WebhookEvent> {
    let (completed, failed, cancelled) = match finish.kind {
        Kind::ChatCompletion | Kind::TextGeneration => {
            (WebhookEvent::AiTaskCompleted, WebhookEvent::AiTaskFailed, None)
        }
        Kind::ImageAnalysis => (WebhookEvent::JobCompleted, WebhookEvent::JobFailed, None),
        Kind::PipelineRun => (WebhookEvent::ExecutionCompleted, WebhookEvent::ExecutionFailed, None),
        Kind::Orchestration => (
            WebhookEvent::OrchestrationCompleted,
            WebhookEvent::OrchestrationFailed,
            Some(WebhookEvent::OrchestrationCancelled),
        ),
        Kind::BatchShare | Kind::WebhookDelivery | Kind::Mail | Kind::Probe => return None,
    };
    match finish.ending {
        Ending::Completed(_) => Some(completed),
        Ending::Failed(..) => Some(failed),
        Ending::Cancelled => cancelled,
    }
}

/// What there is to say, a query a kind.
async fn say(
    conn: &mut AsyncPgConnection,
    heard: &[Heard<'_>],
    at: DateTime<Utc>,
) -> QueryResult<Vec<(i32, WebhookEvent, Value)>> {
    let of = |kind: Kind| heard.iter().filter(move |heard| heard.finish.kind == kind);
    let ids = |kind: Kind| of(kind).map(|heard| heard.finish.id).collect::<Vec<_>>();
    let images: HashMap<Uuid, Images> = match ids(Kind::ImageAnalysis) {
        none if none.is_empty() => HashMap::new(),
        ids => load_images(conn, &ids).await?,
    };
    let runs: HashMap<Uuid, Run> = match ids(Kind::PipelineRun) {
        none if none.is_empty() => HashMap::new(),
        ids => load_runs(conn, &ids).await?,
    };
    let orchestrations: HashMap<Uuid, EndedRun> = match ids(Kind::Orchestration) {
        none if none.is_empty() => HashMap::new(),
        ids => orchestration_ends::load(conn, &ids).await?,
    };
    let completed: Vec<Uuid> = of(Kind::PipelineRun)
        .filter(|heard| matches!(heard.finish.ending, Ending::Completed(_)))
        .map(|heard| heard.finish.id)
        .collect();
    let steps: HashMap<Uuid, Vec<JobStep>> =
        if completed.is_empty() { HashMap::new() } else { load_steps(conn, &completed).await? };
    let timestamp = at.to_rfc3339_opts(SecondsFormat::Micros, true);
    let said = heard.iter().filter_map(|heard| {
        let id = heard.finish.id;
        let mut data = match heard.finish.kind {
            Kind::ChatCompletion | Kind::TextGeneration => model_data(heard.finish),
            Kind::ImageAnalysis => images.get(&id)?.data(heard.finish),
            Kind::PipelineRun => {
                runs.get(&id)?.data(heard.finish, steps.get(&id).map(Vec::as_slice).unwrap_or_default())
            }
            Kind::Orchestration => orchestration_data(orchestrations.get(&id)?, heard.finish, at),
            Kind::BatchShare | Kind::WebhookDelivery | Kind::Mail | Kind::Probe => return None,
        };
        data["user_id"] = json!(heard.user_id);
        data["timestamp"] = json!(timestamp);
        Some((heard.place, heard.event, data))
    });
    Ok(said.collect())
}

async fn load_images(conn: &mut AsyncPgConnection, ids: &[Uuid]) -> QueryResult<HashMap<Uuid, Images>> {
    let rows: Vec<Images> = jobs::table
        .filter(jobs::id.eq_any(ids))
        .select((
            jobs::id,
            sql::<Text>("payload ->> 'job_type'"),
            jobs::items_total,
            jobs::items_done,
            jobs::items_failed,
        ))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

async fn load_runs(conn: &mut AsyncPgConnection, ids: &[Uuid]) -> QueryResult<HashMap<Uuid, Run>> {
    let rows: Vec<Run> = executions::table
        .inner_join(jobs::table)
        .filter(executions::id.eq_any(ids))
        .select((
            executions::id,
            executions::pipeline_id,
            executions::pipeline_name,
            executions::nodes,
            executions::error_node_id,
            jobs::started_at,
            jobs::finished_at,
        ))
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

async fn load_steps(conn: &mut AsyncPgConnection, ids: &[Uuid]) -> QueryResult<HashMap<Uuid, Vec<JobStep>>> {
    let rows: Vec<JobStep> = job_steps::table
        .filter(job_steps::job_id.eq_any(ids).and(job_steps::item.eq(Uuid::nil())).and(job_steps::position.ge(0)))
        .filter(job_steps::status.eq(StepStatus::Completed))
        .order((job_steps::job_id, job_steps::position))
        .select(JobStep::as_select())
        .load(conn)
        .await?;
    let mut steps: HashMap<Uuid, Vec<JobStep>> = HashMap::new();
    for step in rows {
        steps.entry(step.job_id).or_default().push(step);
    }
    Ok(steps)
}

fn model_data(finish: &Finish) -> Value {
    let mut data = json!({ "task_id": finish.id, "status": finish.ending.status() });
    match &finish.ending {
        Ending::Completed(result) => {
            data["result"] = json!({ "choices": result["choices"], "usage": result["usage"] });
            shorten(&mut data, "result");
        }
        Ending::Failed(failure, _) => {
            data["error"] = json!(failure.message);
            shorten(&mut data, "error");
        }
        Ending::Cancelled => {}
    }
    data
}

fn orchestration_data(run: &EndedRun, finish: &Finish, at: DateTime<Utc>) -> Value {
    let mut data = run.data(finish.ending.status(), at);
    if let Ending::Failed(failure, found) = &finish.ending {
        let step = found.as_ref().and_then(|found| found.get("node_id")?.as_str());
        data["error"] = json!({
            "code": failure_word(Some(&failure.code)),
            "message": failure.message,
            "phase": step.and_then(phase_of_step).map(phase_code),
        });
        shorten(&mut data, "error");
    }
    data
}

impl Images {
    fn data(&self, finish: &Finish) -> Value {
        json!({
            "job_id": self.id,
            "job_type": self.job_type,
            "status": finish.ending.status(),
            "total_images": self.total,
            "processed_images": self.done,
            "failed_images": self.failed,
        })
    }
}

impl Run {
    fn data(&self, finish: &Finish, steps: &[JobStep]) -> Value {
        let duration = self.started_at.zip(self.finished_at).map(|(from, to)| (to - from).num_milliseconds());
        let mut data = json!({
            "execution_id": self.id,
            "pipeline_id": self.pipeline_id,
            "pipeline_name": self.pipeline_name,
            "status": finish.ending.status(),
            "duration": duration,
        });
        match &finish.ending {
            Ending::Completed(_) => {
                // without the addresses of large ones, which would be stale before the last try
                let results = shown_steps(&self.nodes, steps);
                let results: Map<String, Value> =
                    results.map(|step| (step.name.clone(), shown_result(&step.result).0)).collect();
                data["results"] = Value::Object(results);
                shorten(&mut data, "results");
            }
            Ending::Failed(failure, found) => {
                let told = || found.as_ref()?.get("node_id")?.as_str();
                data["error"] = json!({
                    "code": failure_word(Some(&failure.code)),
                    "message": failure.message,
                    "node_id": self.error_node_id.as_deref().or_else(told),
                });
                shorten(&mut data, "error");
            }
            Ending::Cancelled => {}
        }
        data
    }
}

/// Cuts what is long in a field, if the whole would be too much for a delivery, and says so beside it.
fn shorten(data: &mut Value, field: &str) {
    let size = |value: &Value| value.to_string().len();
    let Some(value) = data.get_mut(field) else { return };
    if size(value) <= MOST_BYTES {
        return;
    }
    let mut most = MOST_BYTES / 4;
    while size(value) > MOST_BYTES && most >= 16 {
        cut(value, most);
        most /= 4;
    }
    if size(value) > MOST_BYTES {
        // so many parts that their names alone are too much
        *value = if value.is_object() { json!({}) } else { Value::Null };
    }
    data[format!("{field}_truncated")] = json!(true);
}

/// Cuts texts after `most` bytes, and lists and objects after as many parts.
fn cut(value: &mut Value, most: usize) {
    match value {
        Value::String(text) => text.truncate(text.floor_char_boundary(most)),
        Value::Array(items) => {
            items.truncate(most);
            items.iter_mut().for_each(|item| cut(item, most));
        }
        Value::Object(fields) => {
            if fields.len() > most {
                let kept: HashSet<String> = fields.keys().take(most).cloned().collect();
                fields.retain(|name, _| kept.contains(name));
            }
            fields.values_mut().for_each(|field| cut(field, most));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    #[test]
    fn what_fits_is_told_letter_for_letter() {
        let whole = json!({ "results": { "a": { "text": "x".repeat(100_000) } } });
        let mut data = whole.clone();
        shorten(&mut data, "results");
        assert_eq!(data, whole);
    }

    #[test]
    fn what_does_not_fit_is_cut_and_says_so() {
        let texts: Map<String, Value> =
            (0..40).map(|n| (format!("node {n}"), json!({ "text": "ä\u{1}".repeat(30_000), "rank": n }))).collect();
        let many: Vec<Value> = (0..300_000).map(|n| json!({ "n": n })).collect();
        for large in [json!(texts), json!({ "json": many }), json!("\u{1}".repeat(1_000_000)), json!([[many]])] {
            let mut data = json!({ "results": large });
            shorten(&mut data, "results");
            assert_eq!(data["results_truncated"], true);
            assert!(data.to_string().len() < 256 * 1024);
            assert!(!data["results"].is_null());
        }
        let mut data = json!({ "results": texts });
        shorten(&mut data, "results");
        assert_eq!(data["results"].as_object().unwrap().len(), 40, "every node is still there");
        assert_eq!(data["results"]["node 7"]["rank"], 7);
    }
}
