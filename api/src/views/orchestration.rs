//! Orchestrations as the members of an organization see them: how far they are, what each phase has answered, and what was
//! done with it.

use super::{
    Time,
    completion::TokenUsage,
    image::URL_VALID,
    word_lists::{operation_status, operation_type, orchestration_status, phase_status},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use serde_json::{Map, Value, json};
use shared::{
    models::{File, Job, JobStatus, JobStep, Orchestration, OrchestrationRow, StepStatus, orchestration_word},
    orchestration::{Part, Planned, phase_code, plan},
    pipeline::Integration,
    storage::Storage,
};
use std::collections::HashMap;
use utoipa::ToSchema;
use uuid::Uuid;

/// Large texts that are read at once.
const AT_ONCE: usize = 4;

/// Most bytes of a text with what is around it; workers keep no larger ones.
const LARGEST: u64 = 16 * 1024 * 1024;

/// An orchestration in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OrchestrationSummary {
    id: Uuid,
    project: NamedProject,
    topic: String,
    #[schema(schema_with = orchestration_status)]
    status: &'static str,
    /// Completed phases of those attempted, in per cent.
    success_rate: f64,
    /// Of one that runs: up to now.
    execution_time_ms: i64,
    created_at: Time,
}

/// The project that an orchestration belongs to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NamedProject {
    id: Uuid,
    name: String,
}

/// An orchestration with its phases and operations.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Orchestration)]
pub(crate) struct OrchestrationView {
    run: OrchestrationRun,
    phases: Vec<Phase>,
    /// Those that were not begun when an orchestration ended are not shown.
    integration_operations: Vec<IntegrationOperation>,
}

/// How far an orchestration is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OrchestrationRun {
    id: Uuid,
    project_id: Uuid,
    topic: String,
    #[schema(schema_with = orchestration_status)]
    status: &'static str,
    total_phases: usize,
    completed_phases: i32,
    /// Completed phases of those attempted, in per cent.
    success_rate: f64,
    integration_enabled: bool,
    /// Of one that runs: up to now.
    execution_time_ms: i64,
    /// The model that is asked.
    ai_model: String,
    tokens_used: i64,
    /// US dollars.
    cost: f64,
    /// The template that it was made from.
    #[schema(required)]
    template_id: Option<Uuid>,
    /// The orchestration that this one repeats.
    #[schema(required)]
    retry_of: Option<Uuid>,
    /// Why it failed.
    #[schema(required)]
    error: Option<OrchestrationError>,
    created_at: Time,
    updated_at: Time,
}

/// Why an orchestration failed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OrchestrationError {
    code: crate::error::Code,
    message: String,
}

/// One phase.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = OrchestrationPhase)]
pub(crate) struct Phase {
    id: Uuid,
    #[schema(example = "Phase 0")]
    phase_code: String,
    phase_name: String,
    #[schema(schema_with = phase_status)]
    status: &'static str,
    /// The whole answer.
    #[schema(required)]
    response_text: Option<String>,
    #[schema(required)]
    execution_time_ms: Option<i64>,
    token_usage: TokenUsage,
    #[schema(required)]
    started_at: Option<Time>,
    #[schema(required)]
    completed_at: Option<Time>,
}

/// Something that was done outside of models.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IntegrationOperation {
    id: Uuid,
    #[schema(schema_with = operation_type)]
    operation_type: &'static str,
    #[schema(schema_with = operation_status)]
    status: &'static str,
    /// `success` and `message`; of a file also `file_id`, `filename`, `size` and a signed `url`, of a commit `commit`,
    /// `branch` and `filename`, of a deployment `response_status`.
    #[schema(value_type = Object)]
    result: Map<String, Value>,
    execution_time_ms: i64,
    /// The phase that it belongs to; null: it follows the last one.
    #[schema(required)]
    phase_code: Option<String>,
}

impl From<OrchestrationRow> for OrchestrationSummary {
    fn from(row: OrchestrationRow) -> Self {
        Self {
            id: row.id,
            project: NamedProject { id: row.project_id, name: row.project_name },
            topic: row.topic,
            status: orchestration_word(row.status),
            success_rate: row.success_rate,
            execution_time_ms: row.execution_time_ms,
            created_at: row.created_at.into(),
        }
    }
}

impl OrchestrationView {
    /// The files that these steps speak of.
    pub(crate) fn file_ids(steps: &[JobStep]) -> Vec<Uuid> {
        steps.iter().filter_map(file_id).collect()
    }

    /// One orchestration with its job, its steps, and those of its files that are still there.
    ///
    /// # Errors
    /// If a large text cannot be read, or the URL of a file cannot be signed.
    pub(crate) async fn new(
        orchestration: &Orchestration,
        job: &Job,
        steps: Vec<JobStep>,
        files: &[File],
        storage: &Storage,
    ) -> anyhow::Result<Self> {
        let steps: HashMap<String, JobStep> = steps.into_iter().map(|step| (step.name.clone(), step)).collect();
        let (mut phases, mut operations) = (Vec::new(), Vec::new());
        for Planned { step, part } in plan(orchestration) {
            match part {
                Part::Start => {}
                Part::Phase(phase) => phases.push((phase, step)),
                Part::Operation(integration) => operations.push((integration, step)),
            }
        }
        let phases = phases.into_iter().map(|(phase, name)| {
            let step = steps.get(&name);
            Phase::new(orchestration, job.status, (phase, name), step, storage)
        });
        let phases = stream::iter(phases).buffered(AT_ONCE).try_collect().await?;
        let mut shown = Vec::new();
        for (integration, name) in operations {
            let step = steps.get(&name);
            if let Some(operation) =
                IntegrationOperation::new(orchestration, job.status, (&integration, &name), step, files, storage)
                    .await?
            {
                shown.push(operation);
            }
        }
        Ok(Self { run: OrchestrationRun::new(orchestration, job), phases, integration_operations: shown })
    }
}

impl OrchestrationRun {
    fn new(orchestration: &Orchestration, job: &Job) -> Self {
        let error = (job.status == JobStatus::Failed).then(|| OrchestrationError {
            code: super::failure_code(job.error_code.as_deref()),
            message: job.error_message.clone().unwrap_or_default(),
        });
        Self {
            id: orchestration.id,
            project_id: orchestration.project_id,
            topic: orchestration.topic.clone(),
            status: orchestration_word(job.status),
            total_phases: orchestration.phases.len(),
            completed_phases: orchestration.completed_phases,
            success_rate: orchestration.success_rate(),
            integration_enabled: orchestration.integration_enabled,
            execution_time_ms: Orchestration::execution_time_ms(job.started_at, job.finished_at),
            ai_model: orchestration.model.clone(),
            tokens_used: orchestration.tokens_used,
            cost: super::execution::dollars(orchestration.cost_nanos),
            template_id: orchestration.template_id,
            retry_of: orchestration.retry_of,
            error,
            created_at: orchestration.created_at.into(),
            updated_at: job.updated_at.into(),
        }
    }
}

impl Phase {
    async fn new(
        orchestration: &Orchestration,
        of_job: JobStatus,
        (phase, name): (usize, String),
        step: Option<&JobStep>,
        storage: &Storage,
    ) -> anyhow::Result<Self> {
        let status = phase_word(of_job, step.map_or(StepStatus::Pending, |step| step.status));
        let done = step.filter(|step| step.status == StepStatus::Completed);
        let tokens = |key: &str| done.and_then(|step| step.result["metadata"][key].as_i64()).unwrap_or_default();
        let response_text = match done {
            Some(step) => Some(whole_text(&step.result, storage).await?),
            None => None,
        };
        Ok(Self {
            id: Uuid::new_v5(&orchestration.id, name.as_bytes()),
            phase_code: phase_code(phase),
            phase_name: orchestration.phases.get(phase).cloned().unwrap_or_default(),
            status,
            response_text,
            execution_time_ms: step.and_then(|step| step.duration_ms),
            token_usage: TokenUsage::of(tokens("prompt_tokens"), tokens("completion_tokens")),
            started_at: step.and_then(|step| step.started_at).map(Time),
            completed_at: step.and_then(|step| step.completed_at).map(Time),
        })
    }
}

/// The status of a phase. Where the orchestration has ended, none waits any more.
const fn phase_word(of_job: JobStatus, of_step: StepStatus) -> &'static str {
    match (of_job, of_step) {
        (_, StepStatus::Completed) => "completed",
        // whoever stopped it has cut off what ran
        (JobStatus::Cancelled, _) | (_, StepStatus::Skipped) => "cancelled",
        (_, StepStatus::Failed) => "failed",
        (JobStatus::Failed | JobStatus::Completed, StepStatus::Pending | StepStatus::Running) => "cancelled",
        (JobStatus::Queued | JobStatus::Running, StepStatus::Pending) => "pending",
        (JobStatus::Queued | JobStatus::Running, StepStatus::Running) => "running",
    }
}

/// What a phase has answered; a large answer is in the object store, and only its beginning in the row.
async fn whole_text(result: &Value, storage: &Storage) -> anyhow::Result<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let Some(key) = result["object"].as_str() else { return Ok(text(&result["text"])) };
    match storage.get(key, LARGEST).await? {
        Some(body) => Ok(text(&serde_json::from_slice::<Value>(&body)?["text"])),
        None => Ok(text(&result["preview"])),
    }
}

impl IntegrationOperation {
    /// `None`: it will not be done any more.
    async fn new(
        orchestration: &Orchestration,
        of_job: JobStatus,
        (integration, name): (&Integration, &str),
        step: Option<&JobStep>,
        files: &[File],
        storage: &Storage,
    ) -> anyhow::Result<Option<Self>> {
        let failed = |message: &str| json!({ "success": false, "message": format!("INTEGRATION_ERROR: {message}") });
        let (status, result) = match step.map_or(StepStatus::Pending, |step| step.status) {
            StepStatus::Pending | StepStatus::Running | StepStatus::Skipped if of_job.is_final() => return Ok(None),
            StepStatus::Pending | StepStatus::Running | StepStatus::Skipped => {
                ("pending", json!({ "success": false, "message": "It is not done yet." }))
            }
            StepStatus::Failed => {
                let message = step.and_then(|step| step.error_message.as_deref()).unwrap_or("It was not done.");
                ("failed", failed(message))
            }
            StepStatus::Completed => {
                let found = step.map_or(&Value::Null, |step| &step.result);
                match found["error"]["message"].as_str() {
                    Some(message) => ("failed", failed(message)),
                    None => ("completed", done(found, step.and_then(file_id), files, storage).await?),
                }
            }
        };
        Ok(Some(Self {
            id: Uuid::new_v5(&orchestration.id, name.as_bytes()),
            operation_type: integration.operation_type().as_str(),
            status,
            result: result.as_object().cloned().unwrap_or_default(),
            execution_time_ms: step.and_then(|step| step.duration_ms).unwrap_or_default(),
            phase_code: integration.phase().map(phase_code),
        }))
    }
}

/// The result of an operation that was done. A file that was deleted since has no URL.
async fn done(found: &Value, file: Option<Uuid>, files: &[File], storage: &Storage) -> anyhow::Result<Value> {
    let mut result = json!({ "success": true, "message": found["text"] });
    if let (Some(result), Some(facts)) = (result.as_object_mut(), found["json"].as_object()) {
        result.extend(facts.clone());
    }
    if let Some(id) = file {
        result["url"] = match files.iter().find(|file| file.id == id) {
            Some(file) => json!(storage.presign_get(&file.s3_key, URL_VALID).await?),
            None => Value::Null,
        };
    }
    Ok(result)
}

/// The file that a step has written.
fn file_id(step: &JobStep) -> Option<Uuid> {
    step.result.get("json")?.get("file_id")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_phase_waits_in_an_orchestration_that_has_ended() {
        for job in [JobStatus::Completed, JobStatus::Failed, JobStatus::Cancelled] {
            for step in StepStatus::ALL {
                assert!(!["pending", "running"].contains(&phase_word(job, *step)), "{job} {step}");
            }
        }
        assert_eq!(phase_word(JobStatus::Cancelled, StepStatus::Failed), "cancelled");
        assert_eq!(phase_word(JobStatus::Failed, StepStatus::Failed), "failed");
        assert_eq!(phase_word(JobStatus::Queued, StepStatus::Pending), "pending");
    }
}
