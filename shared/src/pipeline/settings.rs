//! What every type of node can be told: how long it may take, how often it is tried, and what follows if it fails.

use super::Findings;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// What every type of node can be told.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
pub struct Settings {
    /// How long one try may take, in seconds, 1–3600.
    pub timeout_seconds: Option<u64>,
    /// Tries after a failure that may pass.
    pub retry: Option<Retry>,
    /// What follows when the node fails for good: `fail` (the run fails), `continue` (with an empty output) or
    /// `{"default": value}` (with this output).
    #[serde(default)]
    pub on_error: OnError,
}

/// How a node is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Retry {
    /// Tries in all, 1–10.
    #[serde(default = "one")]
    pub attempts: u32,
    /// Wait before the second try, in milliseconds, at most 60,000; doubled before each further one.
    #[serde(default = "second", alias = "backoffMs")]
    pub backoff_ms: u64,
}

const fn one() -> u32 {
    1
}

const fn second() -> u64 {
    1_000
}

/// What follows when a node fails for good.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The run fails.
    #[default]
    Fail,
    /// The run goes on, with an empty output.
    Continue,
    /// The run goes on, with this output.
    Default(Value),
}

impl Settings {
    pub(super) fn check(&self, findings: &mut Findings<'_>) {
        findings.within("timeout_seconds", self.timeout_seconds, 1, 3600);
        findings.within("retry.attempts", self.retry.map(|retry| retry.attempts), 1, 10);
        findings.within("retry.backoff_ms", self.retry.map(|retry| retry.backoff_ms), 0, 60_000);
    }
}
