//! `output`: names a result.

use super::Findings;
use schemars::JsonSchema;
use serde::Deserialize;

/// Settings of an `output` node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Output {
    /// What the result is called; the node's id if absent.
    pub name: Option<String>,
    /// The result as a template; what arrives if absent.
    pub template: Option<String>,
}

impl Output {
    pub(super) fn check(&self, findings: &mut Findings<'_>) {
        findings.template("template", self.template.as_deref());
    }
}
