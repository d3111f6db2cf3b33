//! `merge`: one output of several.

use schemars::JsonSchema;
use serde::Deserialize;

/// Settings of a `merge` node. It waits for all its sources, and leaves out those of branches not taken.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Merge {
    /// What becomes of them.
    #[serde(default, alias = "strategy")]
    pub mode: MergeMode,
    /// Of `text`: what stands between them; an empty line if absent.
    pub separator: Option<String>,
}

/// What becomes of several outputs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MergeMode {
    /// One text.
    #[default]
    #[serde(alias = "concat")]
    Text,
    /// A JSON list.
    #[serde(alias = "array")]
    List,
    /// A JSON object by the ids of the nodes.
    #[serde(alias = "json")]
    Object,
}
