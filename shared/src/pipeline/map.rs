//! `map`: a chain of nodes for each entry of a list.

use super::{Definition, Findings, Refusal, read};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// Settings of a `map` node.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
pub struct Map {
    /// JSON path to the list within the input; the input itself is the list if absent.
    #[serde(alias = "path")]
    pub items: Option<String>,
    /// Makes a list of a text that is none: what stands between its entries.
    pub separator: Option<String>,
    /// The nodes of the chain. One without a source takes the entry; `{{ item }}` and `{{ index }}` are known in
    /// templates.
    #[serde(default)]
    pub nodes: Vec<Value>,
    /// The connections of the chain.
    #[serde(default)]
    pub connections: Vec<Value>,
    /// Entries at a time, 1–8; 4 if absent.
    pub concurrency: Option<usize>,
    /// The chain, read.
    #[serde(skip)]
    #[schemars(skip)]
    pub chain: Definition,
}

/// Most entries of a list.
pub const MAX_ITEMS: usize = 100;

impl Map {
    pub(super) fn check(&mut self, findings: &mut Findings<'_>) {
        findings.json_path("items", self.items.as_deref());
        findings.within("concurrency", self.concurrency, 1, 8);
        if self.separator.as_deref() == Some("") {
            findings.note("separator", "is not to be empty");
        }
        let prefix = format!("{}.", findings.at);
        let (nodes, connections) = (Value::from(self.nodes.clone()), Value::from(self.connections.clone()));
        match read::read(&nodes, &connections, &prefix) {
            Ok(chain) => self.chain = chain,
            Err(Refusal::Invalid(problems)) => findings.problems.extend(problems),
            Err(refusal @ Refusal::Cyclic(_)) => findings.note("connections", refusal.to_string()),
        }
    }

    pub(super) fn missing(&self) -> Option<&'static str> {
        self.chain.nodes.is_empty().then_some("its chain has no nodes")
    }
}
