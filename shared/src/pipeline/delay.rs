//! `delay`: lets time pass. A run that only waits holds no worker.

use super::Findings;
use schemars::JsonSchema;
use serde::Deserialize;

/// Settings of a `delay` node.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
pub struct Delay {
    /// How long, in seconds, at most 86,400.
    #[serde(alias = "duration")]
    pub seconds: Option<f64>,
}

impl Delay {
    pub(super) fn check(&self, findings: &mut Findings<'_>) {
        findings.within("seconds", self.seconds, 0.0, 86_400.0);
    }

    pub(super) fn missing(&self) -> Option<&'static str> {
        self.seconds.is_none().then_some("it does not say how many seconds")
    }
}
