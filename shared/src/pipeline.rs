//! What a pipeline is: nodes, connections, and whether they make sense.
//!
//! The tables keep nodes and connections as the client spelled them. [`Definition::read`] is the one way from there to
//! something that can be run; it finds every problem at once.

use serde::Serialize;
use serde_json::Value;

/// A pipeline that can be walked.
#[derive(Debug, Clone)]
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

/// A type of node, for the catalogue.
#[derive(Debug, Clone, Serialize)]
pub struct NodeType {
    /// The word in a node's `type`.
    pub r#type: &'static str,
    /// For people.
    pub title: &'static str,
    /// What it does.
    pub description: &'static str,
    /// Input handles.
    pub inputs: &'static [&'static str],
    /// Output handles.
    pub outputs: &'static [&'static str],
    /// JSON schema of its `config`.
    pub config_schema: Value,
}

impl Definition {
    /// Reads what is stored, or is to be stored.
    ///
    /// # Errors
    /// Every problem at once; a circle only if there is nothing else.
    pub fn read(_nodes: &Value, _connections: &Value) -> Result<Self, Refusal> {
        Ok(Self { nodes: Vec::new(), connections: Vec::new() })
    }
}

/// Every type of node.
pub fn node_types() -> Vec<NodeType> {
    Vec::new()
}
