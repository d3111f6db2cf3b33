//! `prompt`: a text with places for inputs and earlier outputs.

use super::Findings;
use schemars::JsonSchema;
use serde::Deserialize;

/// Settings of a `prompt` node.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
pub struct Prompt {
    /// The text: `{{ input }}` is what arrives, `{{ node_id }}` an earlier node's text,
    /// `{{ nodes["node-1"].json.field }}` a part of its JSON.
    #[serde(alias = "prompt", alias = "text")]
    pub template: Option<String>,
}

impl Prompt {
    pub(super) fn check(&self, findings: &mut Findings<'_>) {
        findings.template("template", self.template.as_deref());
    }

    pub(super) fn missing(&self) -> Option<&'static str> {
        self.template.is_none().then_some("it has no template")
    }
}
