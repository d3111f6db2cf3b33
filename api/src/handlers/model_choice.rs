//! Which model a client may name, and how long its answer may be: rules for bodies, checked against the catalogue.

use crate::config::Config;
use shared::llm::{Capability, Catalogue, Served};
use std::sync::Arc;

/// The model that answers directly asked questions where none is named.
pub(super) const DEFAULT_MODEL: &str = "minimax";

/// Most tokens of an answer where nothing is said.
pub(super) const MAX_TOKENS: u32 = 1000;

/// Where nothing is said.
pub(super) const TEMPERATURE: f64 = 0.7;

/// Where nothing is said.
pub(super) const TOP_P: f64 = 0.9;

/// The catalogue, as the rules for bodies are given it.
#[derive(Debug, Clone)]
pub(crate) struct Models(Arc<Catalogue>);

impl From<&Config> for Models {
    fn from(config: &Config) -> Self {
        Self(config.models.clone())
    }
}

impl Models {
    /// Who answers for a model that is to do something.
    ///
    /// # Errors
    /// What is wrong with the choice, for people.
    pub(super) fn choose(&self, id: &str, purpose: Capability) -> Result<Served<'_>, String> {
        let Some(model) = self.0.find(id) else {
            return Err("is no model; GET /api/v1/ai/models lists those there are".to_owned());
        };
        if !model.capabilities.contains(&purpose) {
            return Err("cannot do this; GET /api/v1/ai/models says what each model can do".to_owned());
        }
        self.0
            .find_served(id)
            .ok_or_else(|| "is not served here: its provider has no key and there is no local model".to_owned())
    }

    /// The tokens of an answer: those asked for, or the default as far as the model can.
    pub(super) fn tokens(&self, model: &str, asked: Option<u32>) -> u32 {
        let most = self.0.find(model).map_or(MAX_TOKENS, |model| model.max_tokens);
        asked.unwrap_or(MAX_TOKENS).min(most)
    }
}

/// The rule for a model that is to chat.
pub(super) fn chats(model: &str, models: &Models) -> garde::Result {
    models.choose(model, Capability::Chat).map(|_| ()).map_err(garde::Error::new)
}

/// The rule for a model, or the default one, that is to do something.
pub(super) fn serves(purpose: Capability) -> impl FnOnce(&Option<String>, &Models) -> garde::Result {
    move |model, models| {
        let model = model.as_deref().unwrap_or(DEFAULT_MODEL);
        models.choose(model, purpose).map(|_| ()).map_err(garde::Error::new)
    }
}

/// The rule for `max_tokens`: as many as the model can give. About an unknown model it says nothing.
pub(super) fn within<'a>(model: Option<&'a str>) -> impl FnOnce(&Option<u32>, &Models) -> garde::Result + 'a {
    move |tokens, models| {
        let most = model.and_then(|model| models.0.find(model)).map(|model| model.max_tokens);
        match (tokens, most) {
            (Some(0), _) => Err(garde::Error::new("must be at least 1")),
            (Some(tokens), Some(most)) if *tokens > most => {
                Err(garde::Error::new(format!("must be at most {most} for this model")))
            }
            (Some(_) | None, _) => Ok(()),
        }
    }
}

/// The rule for `top_p`: above 0, at most 1.
pub(super) fn share(top_p: &f64, _: &Models) -> garde::Result {
    if *top_p > 0.0 && *top_p <= 1.0 { Ok(()) } else { Err(garde::Error::new("must be above 0 and at most 1")) }
}
