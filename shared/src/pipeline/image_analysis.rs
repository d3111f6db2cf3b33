//! `image_analysis`: what our own models see in an image.

use super::Findings;
use schemars::JsonSchema;
use serde::Deserialize;

/// Settings of an `image_analysis` node. It takes the image that arrives, or the one named here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct ImageAnalysis {
    /// Id of a product image, a template; the image that arrives if absent.
    pub image_id: Option<String>,
    /// Lets a language model that sees write the description.
    pub describe: Option<Describe>,
}

/// Who describes an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Describe {
    /// Id of a model of the catalogue that sees; the built-in sentence stays if it does not.
    pub model: String,
    /// What it is asked; a template.
    pub prompt: Option<String>,
}

impl ImageAnalysis {
    pub(super) fn check(&self, findings: &mut Findings<'_>) {
        findings.template("image_id", self.image_id.as_deref());
        if let Some(describe) = &self.describe {
            findings.template("describe.prompt", describe.prompt.as_deref());
        }
    }
}
