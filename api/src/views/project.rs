//! Projects as the members of their organization see them.

use super::{Time, word_lists};
use serde::Serialize;
use serde_json::Value;
use shared::{
    models::{ProjectPriority, ProjectRow, ProjectRun, ProjectStatus, orchestration_word},
    orchestration::without_secret,
};
use utoipa::ToSchema;
use uuid::Uuid;

/// A project.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Project)]
pub(crate) struct ProjectView {
    id: Uuid,
    name: String,
    description: String,
    /// What its orchestrations are about unless they say otherwise.
    topic: String,
    #[schema(schema_with = word_lists::project_status)]
    status: ProjectStatus,
    #[schema(schema_with = word_lists::project_priority)]
    priority: ProjectPriority,
    created_by: Creator,
    /// Anything; kept as it was sent. Only a `deploy_hook_secret` is not shown again.
    #[schema(value_type = Object)]
    metadata: Value,
    created_at: Time,
    updated_at: Time,
}

/// Who made a project.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProjectCreator)]
pub(crate) struct Creator {
    id: Uuid,
    username: String,
    full_name: String,
}

/// A project with its latest orchestrations.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProjectDetail {
    #[serde(flatten)]
    project: ProjectView,
    /// The latest twenty, newest first.
    orchestration_runs: Vec<RunView>,
}

/// One of the latest orchestrations of a project.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ProjectRun)]
pub(crate) struct RunView {
    id: Uuid,
    #[schema(schema_with = word_lists::orchestration_status)]
    status: &'static str,
    /// Per cent of the phases that ended which ended well.
    success_rate: f64,
    created_at: Time,
}

impl From<ProjectRow> for ProjectView {
    fn from(ProjectRow { project, username, full_name }: ProjectRow) -> Self {
        Self {
            id: project.id,
            name: project.name,
            description: project.description,
            topic: project.topic,
            status: project.status,
            priority: project.priority,
            created_by: Creator { id: project.created_by, username, full_name },
            metadata: without_secret(project.metadata),
            created_at: project.created_at.into(),
            updated_at: project.updated_at.into(),
        }
    }
}

impl ProjectDetail {
    /// The project with its latest orchestrations.
    pub(crate) fn new(project: ProjectRow, runs: Vec<ProjectRun>) -> Self {
        Self { project: project.into(), orchestration_runs: runs.into_iter().map(RunView::from).collect() }
    }
}

impl From<ProjectRun> for RunView {
    fn from(run: ProjectRun) -> Self {
        Self {
            id: run.id,
            status: orchestration_word(run.status),
            success_rate: run.success_rate,
            created_at: run.created_at.into(),
        }
    }
}
