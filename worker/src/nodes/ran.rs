//! What differs between the things that are run as graphs of nodes: pipelines and orchestrations.

use super::output::{Output, Spent};
use diesel::{QueryResult, result::Error};
use diesel_async::AsyncPgConnection;
use shared::{
    kind::Endpoint,
    models::{Execution, File, NewFile, Orchestration, OrchestrationCounts, ProjectRepository},
    orchestration::phase_code,
    pipeline::{Integration, Kind, Node, OperationType},
};
use uuid::Uuid;

/// What is run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ran<'a> {
    /// A pipeline.
    Pipeline,
    /// The phases of a project.
    Orchestration(&'a Orchestration),
}

/// What a node leaves in the tables, written when the node is recorded.
#[derive(Debug, Clone)]
pub(super) enum Left {
    /// A file, whose bytes are stored.
    File(NewFile),
    /// A repository with one commit more, whose bundle is stored; and what it was before.
    Repository(ProjectRepository, Option<ProjectRepository>),
}

/// What is counted when a node is recorded.
#[derive(Debug, Clone)]
pub(super) enum Count {
    /// A node of a pipeline.
    Node(Spent),
    /// A phase.
    Phase(Spent),
    /// An operation of this organization and project.
    Operation(OrchestrationCounts, Uuid, Uuid),
    /// Nothing.
    Nothing,
}

impl Ran<'_> {
    /// By which door models are asked.
    pub(super) const fn endpoint(self) -> Endpoint {
        match self {
            Self::Pipeline => Endpoint::PipelineRun,
            Self::Orchestration(_) => Endpoint::Orchestrate,
        }
    }

    /// A node as the beginning of a sentence. `name`: that of its step.
    pub(super) fn subject(self, node: &Node, name: &str) -> String {
        match (self, &node.kind) {
            (Self::Orchestration(_), Kind::Integration(integration)) => {
                let what = match integration {
                    Integration::File(_) => "The file",
                    Integration::Commit(_) => "The commit",
                    Integration::Summary(_) => "The summary",
                    Integration::Deployment => "The deployment",
                };
                integration.phase().map_or_else(|| what.to_owned(), |phase| format!("{what} of {}", phase_code(phase)))
            }
            (Self::Orchestration(run), Kind::Llm(_)) => {
                let phase = shared::orchestration::phase_of_step(name).unwrap_or_default();
                format!("{}: {}", phase_code(phase), run.phases.get(phase).map(String::as_str).unwrap_or_default())
            }
            (Self::Orchestration(_), Kind::Input(_)) => "The task".to_owned(),
            _ => format!("The node {name}"),
        }
    }

    /// What is counted with the output of a node.
    pub(super) fn count(self, node: &Node, output: &Output) -> Count {
        let Self::Orchestration(run) = self else { return Count::Node(output.spent) };
        if let Kind::Llm(_) = node.kind {
            return Count::Phase(output.spent);
        }
        let Kind::Integration(integration) = &node.kind else { return Count::Nothing };
        if output.error.is_some() {
            return Count::Nothing;
        }
        let mut counts = OrchestrationCounts::default();
        match integration.operation_type() {
            OperationType::FileSystem => counts.file_system = 1,
            OperationType::GitOperations => counts.git_operations = 1,
            OperationType::Deployment => counts.deployment = 1,
        }
        Count::Operation(counts, run.organization_id, run.project_id)
    }

    /// Whether it is noted with the run which node failed it.
    pub(super) const fn notes_error_node(self) -> bool {
        matches!(self, Self::Pipeline)
    }
}

impl Left {
    /// Writes it in the transaction that records the node.
    ///
    /// # Errors
    /// `RollbackTransaction` if the repository has another state by now.
    pub(super) async fn write(&self, conn: &mut AsyncPgConnection) -> QueryResult<()> {
        match self {
            Self::File(file) => File::insert(conn, std::slice::from_ref(file)).await,
            Self::Repository(repository, before) => match repository.replace(conn, before.as_ref()).await? {
                true => Ok(()),
                false => Err(Error::RollbackTransaction),
            },
        }
    }
}

impl Count {
    /// Counts in the transaction that records the node, last of all.
    pub(super) async fn write(&self, conn: &mut AsyncPgConnection, id: Uuid) -> QueryResult<()> {
        match self {
            Self::Node(spent) => Execution::count_node(conn, id, spent.tokens, spent.nanos).await,
            Self::Phase(spent) => Orchestration::count_phase(conn, id, spent.tokens, spent.nanos).await,
            Self::Operation(counts, organization_id, project_id) => {
                counts.add(conn, *organization_id, *project_id).await
            }
            Self::Nothing => Ok(()),
        }
    }
}
