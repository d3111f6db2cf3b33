//! A phase of an orchestration, with its whole answer.

use super::{Time, completion::TokenUsage, word_lists::phase_status};
use serde::Serialize;
use serde_json::Value;
use shared::{
    models::{JobStatus, JobStep, Orchestration, StepStatus},
    orchestration::phase_code,
    storage::Storage,
};
use utoipa::ToSchema;
use uuid::Uuid;

/// Most bytes of a text with what is around it; workers keep no larger ones.
const LARGEST: u64 = 16 * 1024 * 1024;

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

impl Phase {
    pub(super) async fn new(
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
