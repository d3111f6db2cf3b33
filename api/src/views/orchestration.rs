//! Orchestrations as the members of an organization see them: how far they are, what each phase has answered, and what was
//! done with it.

use super::{
    Time,
    integration_operation::{IntegrationOperation, file_id},
    orchestration_phase::Phase,
    word_lists::orchestration_status,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::Serialize;
use shared::{
    models::{File, Job, JobStatus, JobStep, Orchestration, OrchestrationRow, orchestration_word},
    orchestration::{Part, Planned, plan},
    storage::Storage,
};
use std::collections::HashMap;
use utoipa::ToSchema;
use uuid::Uuid;

/// Large texts that are read at once.
const AT_ONCE: usize = 4;

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
