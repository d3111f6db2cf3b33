//! `transform`: a simple change of a text or of JSON.

use super::Findings;
use schemars::JsonSchema;
use serde::Deserialize;

/// Settings of a `transform` node.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
pub struct Transform {
    /// What is done.
    #[serde(alias = "op", alias = "transform")]
    pub operation: Option<Operation>,
    /// Of `replace`: what is replaced, everywhere.
    #[serde(alias = "from", alias = "search")]
    pub find: Option<String>,
    /// Of `replace`: what is put there; nothing if absent.
    #[serde(alias = "to", alias = "replacement")]
    pub replace: Option<String>,
    /// Of `json_path`: which parts are taken, `$.items[*].name`.
    pub path: Option<String>,
    /// Of `split` and `join`: what stands between the parts; a line break if absent.
    pub separator: Option<String>,
}

/// What a `transform` node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// Large letters.
    #[serde(alias = "uppercase")]
    Upper,
    /// Small letters.
    #[serde(alias = "lowercase")]
    Lower,
    /// Without white space around it.
    Trim,
    /// One text in place of another.
    Replace,
    /// Parts of JSON.
    #[serde(alias = "jsonPath")]
    JsonPath,
    /// Text to JSON.
    #[serde(alias = "parseJson")]
    ParseJson,
    /// JSON to text.
    Stringify,
    /// Entries of a list or object, characters of a text.
    Length,
    /// Text to a list.
    Split,
    /// List to a text.
    Join,
}

impl Transform {
    pub(super) fn check(&self, findings: &mut Findings<'_>) {
        findings.json_path("path", self.path.as_deref());
        if self.find.as_deref() == Some("") {
            findings.note("find", "is not to be empty");
        }
        if self.operation == Some(Operation::Split) && self.separator.as_deref() == Some("") {
            findings.note("separator", "is not to be empty");
        }
    }

    pub(super) fn missing(&self) -> Option<&'static str> {
        match self.operation {
            None => Some("it has no operation"),
            Some(Operation::Replace) if self.find.is_none() => Some("it does not say what is replaced (find)"),
            Some(Operation::JsonPath) if self.path.is_none() => Some("it has no path"),
            Some(_) => None,
        }
    }
}
