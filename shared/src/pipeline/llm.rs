//! `openai` and `llm`: an answer of a language model.

use super::Findings;
use schemars::JsonSchema;
use serde::Deserialize;

/// Settings of an `openai` or `llm` node.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
pub struct Llm {
    /// Id of a model of the catalogue; the user's default model if absent.
    pub model: Option<String>,
    /// Most tokens of the answer, 1–32,768; 1,000 if absent.
    pub max_tokens: Option<u32>,
    /// How freely the model chooses, 0–1; 0.7 if absent.
    pub temperature: Option<f64>,
    /// Share of likely words it chooses from, above 0, at most 1; 1 if absent.
    pub top_p: Option<f64>,
    /// Instructions; a template.
    pub system_prompt: Option<String>,
    /// What is asked, a template over inputs and earlier outputs; the node's input if absent.
    #[serde(alias = "template")]
    pub prompt: Option<String>,
    /// The answer ends before the first of these, at most 4.
    #[serde(default)]
    pub stop: Vec<String>,
}

impl Llm {
    pub(super) fn check(&self, findings: &mut Findings<'_>) {
        findings.within("max_tokens", self.max_tokens, 1, 32_768);
        findings.within("temperature", self.temperature, 0.0, 1.0);
        if self.top_p.is_some_and(|top_p| !(top_p > 0.0 && top_p <= 1.0)) {
            findings.note("top_p", "is to be above 0 and at most 1");
        }
        findings.template("system_prompt", self.system_prompt.as_deref());
        findings.template("prompt", self.prompt.as_deref());
        if self.stop.len() > 4 || self.stop.iter().any(String::is_empty) {
            findings.note("stop", "takes at most 4 texts, none of them empty");
        }
        if self.model.as_deref().is_some_and(|model| model.trim().is_empty()) {
            findings.note("model", "is to name a model, or to be left out");
        }
    }
}
