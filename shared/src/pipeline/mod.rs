//! What a pipeline is: nodes, connections, and whether they make sense.
//!
//! The tables keep nodes and connections as the client spelled them. [`Definition::read`] is the one way from there to
//! something that can be run; it finds every problem at once. A new type of node is a variant of [`Kind`] with a file of
//! its own here; the compiler leads to the other places.

mod condition;
mod delay;
mod graph;
mod http;
mod image_analysis;
mod input;
mod integration;
mod kind;
mod llm;
mod map;
mod merge;
mod output;
mod prompt;
mod read;
mod runnable;
mod settings;
pub mod template;
#[cfg(test)]
mod tests;
mod transform;

pub use condition::{Condition, Operator};
pub use delay::Delay;
pub use http::{Http, Method};
pub use image_analysis::{Describe, ImageAnalysis};
pub use input::{Input, InputType, InputValue};
pub use integration::{Integration, OperationType};
pub use kind::{Kind, NodeType, node_types};
pub use llm::Llm;
pub use map::{MAX_ITEMS, Map};
pub use merge::{Merge, MergeMode};
pub use output::Output;
pub use prompt::Prompt;
pub use read::normalized;
pub use settings::{OnError, Retry, Settings};
pub use transform::{Operation, Transform};

/// Most nodes of a pipeline.
pub const MAX_NODES: usize = 200;

/// Most connections of a pipeline.
pub const MAX_CONNECTIONS: usize = 1000;

/// Most characters of an id.
const MAX_ID: usize = 200;

/// A pipeline that can be walked.
#[derive(Debug, Clone, Default)]
pub struct Definition {
    /// In the order in which they were given.
    pub nodes: Vec<Node>,
    /// In the order in which they were given.
    pub connections: Vec<Connection>,
}

/// One node.
#[derive(Debug, Clone)]
pub struct Node {
    /// The client's own name for it, unique in the pipeline.
    pub id: String,
    /// What it does.
    pub kind: Kind,
    /// What every type of node can be told.
    pub settings: Settings,
}

/// An edge from an output handle of one node to an input handle of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Its id.
    pub id: String,
    /// The node it comes from.
    pub source: String,
    /// The node it leads to.
    pub target: String,
    /// `output` unless the node has several.
    pub source_handle: String,
    /// `input` unless the node has several.
    pub target_handle: String,
}

/// One thing that is wrong, and where: `nodes[1].config.max_tokens`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, with dots and indexes.
    pub field: String,
    /// What.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// Why a definition is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not well-formed; all problems at once.
    #[error("the pipeline is not valid")]
    Invalid(Vec<Problem>),
    /// It is well-formed, but its connections form a circle through these nodes.
    #[error("the connections form a circle: {}", .0.join(" → "))]
    Cyclic(Vec<String>),
}

/// Collects what is wrong within one node's config.
pub(crate) struct Findings<'a> {
    at: &'a str,
    problems: &'a mut Vec<Problem>,
}

impl Findings<'_> {
    /// Notes a problem of one key.
    pub(crate) fn note(&mut self, key: &str, message: impl Into<String>) {
        self.problems.push(Problem::new(format!("{}.{key}", self.at), message));
    }

    /// The number, if given, is within these bounds.
    pub(crate) fn within<T: PartialOrd + std::fmt::Display>(&mut self, key: &str, value: Option<T>, least: T, most: T) {
        if let Some(value) = value
            && (value < least || value > most)
        {
            self.note(key, format!("is to be between {least} and {most}"));
        }
    }

    /// The text, if given, reads as a template.
    pub(crate) fn template(&mut self, key: &str, source: Option<&str>) {
        if let Some(source) = source
            && let Err(message) = template::check(source)
        {
            self.note(key, message);
        }
    }

    /// The text, if given, reads as a JSON path.
    pub(crate) fn json_path(&mut self, key: &str, path: Option<&str>) {
        if let Some(path) = path
            && let Err(error) = jsonpath_rust::parser::parse_json_path(path)
        {
            self.note(key, format!("is no JSON path: {}", template::first_line(&error.to_string())));
        }
    }
}
