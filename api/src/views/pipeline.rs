//! Pipelines as the members of their organization see them.

use super::{Time, execution::duration_ms, word_lists};
use serde::Serialize;
use serde_json::Value;
use shared::{
    models::{JobStatus, Pipeline, PipelineRow, PipelineStatus, RecentExecution},
    pipeline::NodeType,
};
use utoipa::ToSchema;
use uuid::Uuid;

/// A pipeline in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PipelineSummary {
    id: Uuid,
    name: String,
    description: String,
    #[schema(schema_with = word_lists::pipeline_status)]
    status: PipelineStatus,
    /// `tags`, `category` and whatever else was sent.
    #[schema(value_type = Object)]
    metadata: Value,
    node_count: i32,
    /// When it was last started.
    #[schema(required)]
    last_executed: Option<Time>,
    created_by: Uuid,
    created_at: Time,
    updated_at: Time,
}

/// A pipeline.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Pipeline)]
pub(crate) struct PipelineView {
    #[serde(flatten)]
    summary: PipelineSummary,
    #[schema(value_type = Vec<NodeView>)]
    nodes: Value,
    #[schema(value_type = Vec<ConnectionView>)]
    connections: Value,
    /// The latest ten, newest first.
    executions: Vec<RecentView>,
}

/// One of the latest executions of a pipeline.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RecentExecution)]
pub(crate) struct RecentView {
    id: Uuid,
    #[schema(schema_with = word_lists::execution_status)]
    status: JobStatus,
    #[schema(required)]
    started_at: Option<Time>,
    #[schema(required)]
    completed_at: Option<Time>,
    /// Milliseconds.
    #[schema(required)]
    duration: Option<i64>,
}

/// A node of a pipeline.
#[derive(Debug, ToSchema)]
#[schema(as = PipelineNode)]
#[expect(dead_code, reason = "it describes nodes; they are kept and shown as they were sent")]
pub(crate) struct NodeView {
    /// Your own name for it, unique in the pipeline.
    id: String,
    /// One of `GET /pipelines/node-types`.
    r#type: String,
    /// Where an editor shows it.
    #[schema(value_type = Option<Object>, example = json!({ "x": 0, "y": 0 }))]
    position: Option<Value>,
    /// Settings of its type. Keys may be written `max_tokens` or `maxTokens`, and come back as they were written.
    #[schema(value_type = Option<Object>)]
    config: Option<Value>,
}

/// An edge between two nodes.
#[derive(Debug, ToSchema)]
#[schema(as = PipelineConnection)]
#[expect(dead_code, reason = "it describes connections; they are kept and shown as they were sent")]
pub(crate) struct ConnectionView {
    /// Made up if it is not sent.
    id: Option<String>,
    /// Id of the node it comes from.
    source: String,
    /// Id of the node it leads to.
    target: String,
    /// `output` unless the node has several.
    source_handle: Option<String>,
    /// `input` unless the node has several.
    target_handle: Option<String>,
}

/// A type of node.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NodeType)]
pub(crate) struct NodeTypeView {
    /// The word in a node's `type`.
    pub(crate) r#type: &'static str,
    /// For people.
    title: &'static str,
    /// What it does.
    description: &'static str,
    /// Input handles.
    #[schema(value_type = Vec<String>)]
    inputs: &'static [&'static str],
    /// Output handles.
    #[schema(value_type = Vec<String>)]
    outputs: &'static [&'static str],
    /// JSON Schema of its `config`.
    #[schema(value_type = Object)]
    config_schema: Value,
}

impl From<PipelineRow> for PipelineSummary {
    fn from(row: PipelineRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            status: row.status,
            metadata: row.metadata,
            node_count: row.node_count,
            last_executed: row.last_executed.map(Time),
            created_by: row.created_by,
            created_at: row.created_at.into(),
            updated_at: row.updated_at.into(),
        }
    }
}

impl PipelineView {
    pub(crate) fn new(pipeline: Pipeline, executions: Vec<RecentExecution>) -> Self {
        let summary = PipelineSummary {
            id: pipeline.id,
            name: pipeline.name,
            description: pipeline.description,
            status: pipeline.status,
            metadata: pipeline.metadata,
            node_count: pipeline.node_count,
            last_executed: pipeline.last_executed.map(Time),
            created_by: pipeline.created_by,
            created_at: pipeline.created_at.into(),
            updated_at: pipeline.updated_at.into(),
        };
        let executions = executions.into_iter().map(RecentView::from).collect();
        Self { summary, nodes: pipeline.nodes, connections: pipeline.connections, executions }
    }
}

impl From<RecentExecution> for RecentView {
    fn from(execution: RecentExecution) -> Self {
        Self {
            id: execution.id,
            status: execution.status,
            started_at: execution.started_at.map(Time),
            completed_at: execution.finished_at.map(Time),
            duration: duration_ms(execution.started_at, execution.finished_at),
        }
    }
}

impl From<NodeType> for NodeTypeView {
    fn from(node_type: NodeType) -> Self {
        Self {
            r#type: node_type.r#type,
            title: node_type.title,
            description: node_type.description,
            inputs: node_type.inputs,
            outputs: node_type.outputs,
            config_schema: node_type.config_schema,
        }
    }
}
