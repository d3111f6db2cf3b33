//! `condition`: which of two branches is taken.

use super::{Findings, template};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// Settings of a `condition` node. Its input goes on through the handle `true` or `false`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
pub struct Condition {
    /// How the input is compared.
    pub operator: Option<Operator>,
    /// What it is compared with.
    pub value: Option<Value>,
    /// Takes a part of the input's JSON first, `$.score`.
    #[serde(alias = "field")]
    pub path: Option<String>,
    /// In place of an operator: an expression over the same names as a prompt, `input | length > 10`.
    #[serde(alias = "condition")]
    pub expression: Option<String>,
    /// Whether large and small letters differ; they do if absent.
    pub case_sensitive: Option<bool>,
}

/// How a condition compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Operator {
    /// The same.
    Equals,
    /// Not the same.
    #[serde(alias = "notEquals")]
    NotEquals,
    /// The value is a part of it.
    Contains,
    /// The value is no part of it.
    #[serde(alias = "notContains")]
    NotContains,
    /// It begins with the value.
    #[serde(alias = "startsWith")]
    StartsWith,
    /// It ends with the value.
    #[serde(alias = "endsWith")]
    EndsWith,
    /// A larger number.
    Gt,
    /// A number as large or larger.
    Gte,
    /// A smaller number.
    Lt,
    /// A number as small or smaller.
    Lte,
    /// The path leads somewhere.
    Exists,
    /// Nothing but white space, or no entries.
    #[serde(alias = "isEmpty")]
    IsEmpty,
}

impl Operator {
    /// Whether it compares with a value.
    pub const fn takes_value(self) -> bool {
        match self {
            Self::Exists | Self::IsEmpty => false,
            Self::Equals
            | Self::NotEquals
            | Self::Contains
            | Self::NotContains
            | Self::StartsWith
            | Self::EndsWith
            | Self::Gt
            | Self::Gte
            | Self::Lt
            | Self::Lte => true,
        }
    }
}

impl Condition {
    pub(super) fn check(&self, findings: &mut Findings<'_>) {
        findings.json_path("path", self.path.as_deref());
        if let Some(Err(message)) = self.expression.as_deref().map(template::check_expression) {
            findings.note("expression", message);
        }
        if self.expression.is_some() && self.operator.is_some() {
            findings.note("expression", "and operator exclude each other");
        }
    }

    pub(super) fn missing(&self) -> Option<&'static str> {
        match (self.operator, &self.expression) {
            (None, None) => Some("it has neither an operator nor an expression"),
            (Some(operator), _) if operator.takes_value() && self.value.is_none() => Some("it has no value to compare"),
            _ => None,
        }
    }
}
