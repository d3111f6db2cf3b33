//! Executions as the members of an organization see them: what ran, what came out, what was said meanwhile.

use super::{Time, image::URL_VALID, word_lists};
use crate::error::Code;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value, json};
use shared::{
    events::{Change, Event, LogLevel},
    models::{Execution, ExecutionRow, Job, JobStatus, JobStep, StepStatus, failure_word, shown_result, shown_steps},
    storage::Storage,
};
use utoipa::ToSchema;
use uuid::Uuid;

/// 10^-9 US dollars as dollars.
#[expect(clippy::cast_precision_loss, reason = "exact up to nine million dollars")]
pub(crate) fn dollars(nanos: i64) -> f64 {
    nanos as f64 / 1e9
}

/// From the start to the end in milliseconds, once both have been.
pub(crate) fn duration_ms(started: Option<DateTime<Utc>>, finished: Option<DateTime<Utc>>) -> Option<i64> {
    Some((finished? - started?).num_milliseconds())
}

/// The code that clients know for the stored code of a failed run.
pub(crate) fn failure_code(stored: Option<&str>) -> Code {
    let word = failure_word(stored);
    let told = [Code::AiService, Code::QuotaExceeded].into_iter().find(|code| code.as_str() == word);
    told.unwrap_or(Code::PipelineFailed)
}

/// The node that failed a run: noted with its step, or, if the run could not even begin, in the result of the job.
pub(crate) fn failed_node(execution: &Execution, job: &Job) -> Option<String> {
    let told = || job.result.as_ref()?.get("node_id")?.as_str().map(ToOwned::to_owned);
    execution.error_node_id.clone().or_else(told)
}

/// An execution in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExecutionSummary {
    id: Uuid,
    pipeline_id: Uuid,
    pipeline_name: String,
    #[schema(schema_with = word_lists::execution_status)]
    status: JobStatus,
    #[schema(required)]
    started_at: Option<Time>,
    #[schema(required)]
    completed_at: Option<Time>,
    /// Milliseconds.
    #[schema(required)]
    duration: Option<i64>,
    /// Nodes that ran to their end here; those taken over from an earlier execution are not counted.
    node_executions: i32,
    tokens_used: i64,
    /// US dollars.
    cost: f64,
    created_at: Time,
}

/// An execution.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Execution)]
pub(crate) struct ExecutionView {
    #[serde(flatten)]
    summary: ExecutionSummary,
    /// {node id: value}.
    #[schema(value_type = Object)]
    inputs: Value,
    /// {node id: `{text, metadata: {model, tokens_used, cost}}`} for each finished node that is no input. A large text is
    /// cut off: then `metadata` has `truncated`, `size_bytes` and the `url` of the whole.
    #[schema(value_type = Object)]
    results: Map<String, Value>,
    logs: Vec<LogLine>,
    metrics: Metrics,
    #[schema(required)]
    error: Option<ExecutionError>,
    #[schema(required)]
    webhook_url: Option<String>,
    /// The execution that this one repeats.
    #[schema(required)]
    retry_of: Option<Uuid>,
}

/// Something that was said while an execution ran.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LogLine {
    timestamp: Time,
    #[schema(value_type = String, example = "info")]
    level: LogLevel,
    message: String,
    #[schema(required)]
    node_id: Option<String>,
}

/// What an execution took.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ExecutionMetrics)]
pub(crate) struct Metrics {
    /// Milliseconds.
    #[schema(required)]
    duration: Option<i64>,
    node_executions: i32,
    tokens_used: i64,
    /// US dollars.
    cost: f64,
}

/// Why an execution failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExecutionError {
    code: Code,
    message: String,
    /// The node that failed it.
    #[schema(required)]
    node_id: Option<String>,
}

impl From<ExecutionRow> for ExecutionSummary {
    fn from(row: ExecutionRow) -> Self {
        Self {
            id: row.id,
            pipeline_id: row.pipeline_id,
            pipeline_name: row.pipeline_name,
            status: row.status,
            started_at: row.started_at.map(Time),
            completed_at: row.finished_at.map(Time),
            duration: duration_ms(row.started_at, row.finished_at),
            node_executions: row.node_executions,
            tokens_used: row.tokens_used,
            cost: dollars(row.cost_nanos),
            created_at: row.created_at.into(),
        }
    }
}

impl ExecutionView {
    /// One execution with its job, the steps of its nodes and its events.
    ///
    /// # Errors
    /// If the URL of a large result cannot be signed.
    pub(crate) async fn new(
        execution: Execution,
        job: Job,
        steps: &[JobStep],
        events: Vec<Event>,
        storage: &Storage,
    ) -> anyhow::Result<Self> {
        let duration = duration_ms(job.started_at, job.finished_at);
        let results = results(&execution, steps, storage).await?;
        let logs = logs(&execution, steps, events);
        let error = (job.status == JobStatus::Failed).then(|| ExecutionError {
            code: failure_code(job.error_code.as_deref()),
            message: job.error_message.clone().unwrap_or_default(),
            node_id: failed_node(&execution, &job),
        });
        let metrics = Metrics {
            duration,
            node_executions: execution.node_executions,
            tokens_used: execution.tokens_used,
            cost: dollars(execution.cost_nanos),
        };
        let summary = ExecutionSummary {
            id: execution.id,
            pipeline_id: execution.pipeline_id,
            pipeline_name: execution.pipeline_name,
            status: job.status,
            started_at: job.started_at.map(Time),
            completed_at: job.finished_at.map(Time),
            duration,
            node_executions: metrics.node_executions,
            tokens_used: metrics.tokens_used,
            cost: metrics.cost,
            created_at: execution.created_at.into(),
        };
        Ok(Self {
            summary,
            inputs: execution.inputs,
            results,
            logs,
            metrics,
            error,
            webhook_url: execution.webhook_url,
            retry_of: execution.retry_of,
        })
    }
}

/// What came out of each finished node that is no input.
///
/// # Errors
/// If the URL of a large result cannot be signed.
pub(crate) async fn results(
    execution: &Execution,
    steps: &[JobStep],
    storage: &Storage,
) -> anyhow::Result<Map<String, Value>> {
    let mut results = Map::new();
    for step in shown_steps(&execution.nodes, steps) {
        let (mut result, object) = shown_result(&step.result);
        if let Some(key) = object {
            result["metadata"]["url"] = json!(storage.presign_get(key, URL_VALID).await?);
        }
        results.insert(step.name.clone(), result);
    }
    Ok(results)
}

/// What was said: the events as lines, and one for each node that an earlier execution has finished.
fn logs(execution: &Execution, steps: &[JobStep], events: Vec<Event>) -> Vec<LogLine> {
    let mut lines: Vec<_> = events.into_iter().map(LogLine::new).collect();
    let begun = usize::from(!lines.is_empty());
    if let Some(earlier) = execution.retry_of {
        // attempt 0 is no attempt of this job
        let taken_over = steps.iter().filter(|step| step.attempt == 0 && step.status == StepStatus::Completed);
        let line = |step: &JobStep| LogLine {
            timestamp: lines.first().map_or(execution.created_at.into(), |line| line.timestamp),
            level: LogLevel::Info,
            message: format!("Node {} was finished by execution {earlier}", step.name),
            node_id: Some(step.name.clone()),
        };
        let taken_over: Vec<_> = taken_over.map(line).collect();
        lines.splice(begun..begun, taken_over);
    }
    lines
}

impl LogLine {
    fn new(event: Event) -> Self {
        let (level, message, node_id) = match event.body.change {
            Change::JobStarted => (LogLevel::Info, "Execution started".to_owned(), None),
            Change::Log { level, step, message } => (level, message, step),
            Change::StepUpdate { step, status, data, .. } => {
                let level = if status == StepStatus::Failed { LogLevel::Error } else { LogLevel::Info };
                (level, step_message(&step, status, &data), Some(step))
            }
            Change::JobFinished { status, data } => {
                let level = if status == JobStatus::Failed { LogLevel::Error } else { LogLevel::Info };
                (level, end_message(status, &data), None)
            }
        };
        Self { timestamp: event.body.at.into(), level, message, node_id }
    }
}

/// A step in a sentence: its own, if it has one.
pub(super) fn step_message(node: &str, status: StepStatus, data: &Value) -> String {
    let said = |key: &str| data[key].as_str().filter(|text| !text.is_empty());
    match (status, said("error_message"), said("message")) {
        (StepStatus::Failed, Some(message), _) => format!("Node {node} failed: {message}"),
        (_, _, Some(message)) => message.to_owned(),
        (StepStatus::Pending, ..) => format!("Node {node} waits"),
        (StepStatus::Running, ..) => format!("Node {node} started"),
        (StepStatus::Completed, ..) => format!("Node {node} completed"),
        (StepStatus::Failed, ..) => format!("Node {node} failed"),
        (StepStatus::Skipped, ..) => format!("Node {node} skipped: its branch was not taken"),
    }
}

/// The end in a sentence.
fn end_message(status: JobStatus, data: &Value) -> String {
    match (status, data["error_message"].as_str()) {
        (JobStatus::Failed, Some(message)) => format!("Execution failed: {message}"),
        (
            JobStatus::Queued | JobStatus::Running | JobStatus::Completed | JobStatus::Failed | JobStatus::Cancelled,
            _,
        ) => {
            format!("Execution {status}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_of_models_are_blamed_on_them() {
        for (stored, code) in [
            (Some("ai_service_error"), Code::AiService),
            (Some("llm_timeout"), Code::AiService),
            (Some("node_failed"), Code::PipelineFailed),
            (Some("worker_died"), Code::PipelineFailed),
            (None, Code::PipelineFailed),
        ] {
            assert_eq!(failure_code(stored), code, "{stored:?}");
        }
    }

    #[test]
    fn a_duration_needs_a_beginning_and_an_end() {
        let at = DateTime::UNIX_EPOCH;
        let later = at + chrono::TimeDelta::microseconds(2_500_700);
        assert_eq!(duration_ms(Some(at), Some(later)), Some(2_500));
        assert_eq!(duration_ms(Some(at), None), None);
        assert_eq!(duration_ms(None, Some(later)), None);
    }

    #[test]
    fn a_step_speaks_for_itself_or_is_spoken_for() {
        let message = |status, data| step_message("a", status, &data);
        assert_eq!(message(StepStatus::Completed, json!({ "message": "Said hello" })), "Said hello");
        assert_eq!(message(StepStatus::Completed, json!({})), "Node a completed");
        assert_eq!(message(StepStatus::Failed, json!({ "error_message": "no" })), "Node a failed: no");
        assert_eq!(message(StepStatus::Skipped, json!({})), "Node a skipped: its branch was not taken");
    }
}
