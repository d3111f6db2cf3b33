//! What clients send to make or change a pipeline, and its rules. A definition is checked with everything else, so that a
//! client hears of every mistake at once; only a circle is found later, because it is another kind of error.

use crate::{
    error::{ApiError, Detail},
    extract::not_blank,
    views::{ConnectionView, NodeView, pipeline_status},
};
use garde::{Path, Report, Validate};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared::{
    models::PipelineStatus,
    pipeline::{Definition, Problem, Refusal},
};
use utoipa::ToSchema;

/// A pipeline to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct CreatePipeline {
    #[schema(min_length = 1, max_length = 200)]
    pub(super) name: String,
    #[schema(max_length = 2000)]
    pub(super) description: Option<String>,
    /// `draft` unless it is given.
    #[schema(schema_with = pipeline_status)]
    pub(super) status: Option<PipelineStatus>,
    /// `tags` (texts), `category` (text or null) and anything else; kept as it is.
    #[schema(value_type = Option<Object>)]
    pub(super) metadata: Option<Map<String, Value>>,
    #[schema(value_type = Option<Vec<NodeView>>, max_items = 200)]
    pub(super) nodes: Option<Vec<Value>>,
    #[schema(value_type = Option<Vec<ConnectionView>>, max_items = 1000)]
    pub(super) connections: Option<Vec<Value>>,
}

/// What is to change in a pipeline; what is not sent stays.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct UpdatePipeline {
    #[schema(min_length = 1, max_length = 200)]
    pub(super) name: Option<String>,
    #[schema(max_length = 2000)]
    pub(super) description: Option<String>,
    /// `published` publishes it, `archived` puts it away.
    #[schema(schema_with = pipeline_status)]
    pub(super) status: Option<PipelineStatus>,
    /// Replaces the whole.
    #[schema(value_type = Option<Object>)]
    pub(super) metadata: Option<Map<String, Value>>,
    /// Replaces the whole.
    #[schema(value_type = Option<Vec<NodeView>>, max_items = 200)]
    pub(super) nodes: Option<Vec<Value>>,
    /// Replaces the whole.
    #[schema(value_type = Option<Vec<ConnectionView>>, max_items = 1000)]
    pub(super) connections: Option<Vec<Value>>,
}

impl Validate for CreatePipeline {
    type Context = ();

    fn validate_into(&self, (): &(), parent: &mut dyn FnMut() -> Path, report: &mut Report) {
        let mut problems = rules(Some(&self.name), self.description.as_deref(), self.metadata.as_ref());
        let nodes = self.nodes.as_deref().unwrap_or_default();
        problems.extend(graph_rules(nodes, self.connections.as_deref().unwrap_or_default()));
        append(problems, parent, report);
    }
}

impl Validate for UpdatePipeline {
    type Context = ();

    fn validate_into(&self, (): &(), parent: &mut dyn FnMut() -> Path, report: &mut Report) {
        let mut problems = rules(self.name.as_deref(), self.description.as_deref(), self.metadata.as_ref());
        // with one of the two the other is needed, which is in the table
        if let (Some(nodes), Some(connections)) = (&self.nodes, &self.connections) {
            problems.extend(graph_rules(nodes, connections));
        }
        append(problems, parent, report);
    }
}

fn append(problems: Vec<Problem>, parent: &mut dyn FnMut() -> Path, report: &mut Report) {
    for Problem { field, message } in problems {
        report.append(parent().join(field), garde::Error::new(message));
    }
}

fn problem(field: impl Into<String>, message: impl Into<String>) -> Problem {
    Problem { field: field.into(), message: message.into() }
}

fn rules(name: Option<&str>, description: Option<&str>, metadata: Option<&Map<String, Value>>) -> Vec<Problem> {
    let mut problems = Vec::new();
    if let Some(name) = name {
        if let Err(error) = not_blank(name, &()) {
            problems.push(problem("name", error.message()));
        } else if name.chars().count() > 200 {
            problems.push(problem("name", "must have at most 200 characters"));
        }
    }
    if description.is_some_and(|text| text.chars().count() > 2000) {
        problems.push(problem("description", "must have at most 2000 characters"));
    }
    match metadata.and_then(|metadata| metadata.get("tags")) {
        None => {}
        Some(Value::Array(tags)) => {
            let wrong = tags.iter().enumerate().filter(|(_, tag)| !tag.is_string());
            problems.extend(wrong.map(|(index, _)| problem(format!("metadata.tags[{index}]"), "must be a text")));
        }
        Some(_) => problems.push(problem("metadata.tags", "must be a list of texts")),
    }
    if metadata.and_then(|metadata| metadata.get("category")).is_some_and(|it| !it.is_string() && !it.is_null()) {
        problems.push(problem("metadata.category", "must be a text or null"));
    }
    problems
}

fn graph_rules(nodes: &[Value], connections: &[Value]) -> Vec<Problem> {
    match Definition::read(&json!(nodes), &json!(connections)) {
        Err(Refusal::Invalid(problems)) => problems,
        Ok(_) | Err(Refusal::Cyclic(_)) => Vec::new(),
    }
}

/// Reads a definition.
///
/// # Errors
/// 400 with every problem; 422 for a circle.
pub(super) fn read_definition(nodes: &Value, connections: &Value) -> Result<Definition, ApiError> {
    Definition::read(nodes, connections).map_err(|refusal| match refusal {
        Refusal::Invalid(problems) => ApiError::invalid(details(problems)),
        refusal @ Refusal::Cyclic(_) => ApiError::unprocessable("The pipeline cannot run: it goes in a circle")
            .with_field("connections", refusal.to_string()),
    })
}

/// Problems as an error lists them.
pub(super) fn details(problems: Vec<Problem>) -> Vec<Detail> {
    problems.into_iter().map(|Problem { field, message }| Detail::new(field, message)).collect()
}

/// Metadata with its defaults.
pub(super) fn complete_metadata(sent: Option<Map<String, Value>>) -> Value {
    let mut metadata = sent.unwrap_or_default();
    metadata.entry("tags").or_insert_with(|| json!([]));
    metadata.entry("category").or_insert(Value::Null);
    Value::Object(metadata)
}
