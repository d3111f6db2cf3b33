//! The catalogue of language models: which there are, who serves them, what they cost.
//!
//! It is read from `models/llm.toml` by the API, which checks requests against it, and by workers, which call what it
//! names. A model whose provider has no key is served by the local model, if there is one; the answer says so.

use crate::config::{Reader, Secret};
use serde::Deserialize;
use std::{collections::BTreeMap, path::PathBuf};

/// The file that ships with the program and explains itself.
const BUILT_IN: &str = include_str!("../../models/llm.toml");

/// The name of the provider that stands in where a key is missing.
pub const LOCAL: &str = "local";

/// What a provider speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// `/chat/completions`, as OpenAI has it and many others do.
    OpenAi,
    /// `/v1/messages`.
    Anthropic,
    /// Ollama's own.
    Ollama,
}

/// What a model can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Answers conversations.
    Chat,
    /// Goes on from a prompt.
    Generate,
    /// Sees images.
    Vision,
}

/// Who serves models.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Unique.
    pub name: String,
    /// What it speaks.
    pub dialect: Dialect,
    /// Where, with a slash at its end.
    pub base_url: String,
    /// The variable that holds the key; none if it needs none.
    pub key_env: Option<String>,
    /// The key, if it is set.
    pub key: Option<Secret>,
    /// Calls a minute that are sent without being told to slow down.
    pub requests_per_minute: Option<u32>,
    /// Calls at once, over all workers.
    pub concurrency: u32,
    /// How long one call may take, in seconds.
    pub timeout_seconds: u64,
}

/// A model that clients may name.
#[derive(Debug, Clone)]
pub struct Model {
    /// The id that clients use.
    pub id: String,
    /// For people.
    pub name: String,
    /// For people.
    pub description: String,
    /// The name of the provider.
    pub provider: String,
    /// What the provider calls it.
    pub upstream: String,
    /// Other ids for it.
    pub aliases: Vec<String>,
    /// Tokens of prompt and answer together.
    pub context: u32,
    /// Most tokens of an answer.
    pub max_tokens: u32,
    /// 10^-9 US dollars for one token of the prompt.
    pub prompt_nanos: i64,
    /// 10^-9 US dollars for one token of the answer.
    pub completion_nanos: i64,
    /// What it can do.
    pub capabilities: Vec<Capability>,
    /// Ids of models to ask when this one's provider fails, in this order.
    pub fallback: Vec<String>,
}

/// All models and providers.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    models: Vec<Model>,
    providers: BTreeMap<String, Provider>,
}

/// A model and who will answer for it.
#[derive(Debug, Clone, Copy)]
pub struct Served<'a> {
    /// The model that was asked for.
    pub model: &'a Model,
    /// The provider that is called.
    pub provider: &'a Provider,
    /// What is called there: `model.upstream`, or the local stand-in.
    pub upstream: &'a str,
    /// Whether the local model stands in, or is what was asked for. It costs nothing.
    pub local: bool,
    /// Tokens of prompt and answer that whoever answers can take.
    pub context: u32,
}

impl Catalogue {
    /// Reads the catalogue: `ATELIER_LLM_FILE` or the built-in one, the keys its providers name, and
    /// `ATELIER_LOCAL_LLM_URL`.
    pub fn read(from: &mut Reader) -> Self {
        let file: Option<PathBuf> = from.optional("ATELIER_LLM_FILE");
        let (name, text) = match &file {
            None => ("the built-in llm.toml".to_owned(), Ok(BUILT_IN.to_owned())),
            Some(path) => (path.display().to_string(), std::fs::read_to_string(path)),
        };
        let parsed = text
            .map_err(|error| format!("{error}; ATELIER_LLM_FILE names it"))
            .and_then(|text| Self::parse(&text, from));
        parsed.unwrap_or_else(|problem| {
            from.problem(format!("{name}: {problem}"));
            Self::default()
        })
    }

    fn parse(text: &str, from: &mut Reader) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        let mut providers = BTreeMap::new();
        for (name, entry) in file.provider {
            let mut base_url = entry.base_url;
            if let Some(variable) = &entry.base_url_env
                && let Some(url) = from.optional::<String>(variable)
            {
                base_url = url;
            }
            if name != LOCAL && base_url.is_empty() {
                return Err(format!("the provider {name:?} has no base_url"));
            }
            if !base_url.is_empty() && !base_url.ends_with('/') {
                base_url.push('/');
            }
            let key = entry.key_env.as_ref().and_then(|variable| from.optional::<Secret>(variable));
            let provider = Provider {
                name: name.clone(),
                dialect: entry.dialect,
                base_url,
                key_env: entry.key_env,
                key,
                requests_per_minute: entry.requests_per_minute,
                concurrency: entry.concurrency.max(1),
                timeout_seconds: entry.timeout_seconds.clamp(1, 3600),
            };
            providers.insert(name, provider);
        }
        let mut models: Vec<Model> = Vec::new();
        for entry in file.model {
            if !providers.contains_key(&entry.provider) {
                return Err(format!("the model {:?} names the unknown provider {:?}", entry.id, entry.provider));
            }
            if entry.max_tokens == 0 || entry.context < entry.max_tokens {
                return Err(format!("the model {:?} needs 0 < max_tokens <= context", entry.id));
            }
            models.push(entry.into_model()?);
        }
        let catalogue = Self { models, providers };
        catalogue.check()?;
        Ok(catalogue)
    }

    /// Ids are unique, and fallbacks exist.
    fn check(&self) -> Result<(), String> {
        let mut seen = std::collections::BTreeSet::new();
        for model in &self.models {
            for id in std::iter::once(&model.id).chain(&model.aliases) {
                if !seen.insert(id) {
                    return Err(format!("the model id {id:?} is there twice"));
                }
            }
        }
        for model in &self.models {
            if let Some(unknown) = model.fallback.iter().find(|id| self.find(id).is_none()) {
                return Err(format!("the model {:?} falls back on {unknown:?}, which is no model", model.id));
            }
        }
        Ok(())
    }

    /// Every model that somebody serves, in the order of the file.
    pub fn served(&self) -> impl Iterator<Item = Served<'_>> {
        self.models.iter().filter_map(|model| self.serve(model))
    }

    /// The model with this id or alias, whether anybody serves it or not.
    pub fn find(&self, id: &str) -> Option<&Model> {
        self.models.iter().find(|model| model.id == id || model.aliases.iter().any(|alias| alias == id))
    }

    /// Who answers for the model with this id or alias. `None`: unknown, or its provider has no key and there is no
    /// local model.
    pub fn find_served(&self, id: &str) -> Option<Served<'_>> {
        self.serve(self.find(id)?)
    }

    fn serve<'a>(&'a self, model: &'a Model) -> Option<Served<'a>> {
        let provider = self.providers.get(&model.provider)?;
        let local = self.providers.get(LOCAL).filter(|local| !local.base_url.is_empty());
        let ready = !provider.base_url.is_empty() && (provider.key_env.is_none() || provider.key.is_some());
        if ready && provider.name != LOCAL {
            let context = model.context;
            return Some(Served { model, provider, upstream: &model.upstream, local: false, context });
        }
        let stand_in = self.models.iter().find(|model| model.provider == LOCAL)?;
        local.map(|provider| Served {
            model,
            provider,
            upstream: &stand_in.upstream,
            local: true,
            context: stand_in.context,
        })
    }
}

impl Served<'_> {
    /// What a call with this many tokens costs, in 10^-9 US dollars.
    pub const fn cost_nanos(&self, prompt_tokens: i64, completion_tokens: i64) -> i64 {
        if self.local {
            return 0;
        }
        prompt_tokens
            .saturating_mul(self.model.prompt_nanos)
            .saturating_add(completion_tokens.saturating_mul(self.model.completion_nanos))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    provider: BTreeMap<String, ProviderEntry>,
    model: Vec<ModelEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProviderEntry {
    dialect: Dialect,
    #[serde(default)]
    base_url: String,
    /// A variable that overrides `base_url`.
    base_url_env: Option<String>,
    key_env: Option<String>,
    requests_per_minute: Option<u32>,
    #[serde(default = "concurrency")]
    concurrency: u32,
    #[serde(default = "timeout_seconds")]
    timeout_seconds: u64,
}

const fn concurrency() -> u32 {
    64
}

const fn timeout_seconds() -> u64 {
    120
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelEntry {
    id: String,
    name: String,
    description: String,
    provider: String,
    upstream: Option<String>,
    #[serde(default)]
    aliases: Vec<String>,
    context: u32,
    max_tokens: u32,
    /// US dollars for a million tokens of the prompt, and of the answer.
    price_in: f64,
    price_out: f64,
    capabilities: Vec<Capability>,
    #[serde(default)]
    fallback: Vec<String>,
}

impl ModelEntry {
    fn into_model(self) -> Result<Model, String> {
        let nanos = |dollars: f64| {
            // a dollar for a million tokens is 1,000 nano-dollars a token
            let nanos = (dollars * 1000.0).round();
            #[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
            (0.0..=1e12).contains(&nanos).then_some(nanos as i64)
        };
        let (Some(prompt_nanos), Some(completion_nanos)) = (nanos(self.price_in), nanos(self.price_out)) else {
            return Err(format!("the prices of the model {:?} are no prices", self.id));
        };
        Ok(Model {
            upstream: self.upstream.unwrap_or_else(|| self.id.clone()),
            id: self.id,
            name: self.name,
            description: self.description,
            provider: self.provider,
            aliases: self.aliases,
            context: self.context,
            max_tokens: self.max_tokens,
            prompt_nanos,
            completion_nanos,
            capabilities: self.capabilities,
            fallback: self.fallback,
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Catalogue {
        let mut from = Reader::new(variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let catalogue = Catalogue::read(&mut from);
        from.finish(catalogue).unwrap()
    }

    #[test]
    fn every_documented_model_is_served_by_the_local_one_until_its_key_is_set() {
        let catalogue = read(&[("ATELIER_LOCAL_LLM_URL", "http://127.0.0.1:8089/v1")]);
        for id in ["minimax", "gpt-4", "gpt-4-turbo", "gpt-3.5-turbo"] {
            let served = catalogue.find_served(id).unwrap();
            assert!(served.local, "{id}");
            assert_eq!(served.provider.base_url, "http://127.0.0.1:8089/v1/");
            assert_eq!(served.cost_nanos(1_000, 1_000), 0);
        }
        let catalogue = read(&[("ATELIER_LOCAL_LLM_URL", "http://127.0.0.1:8089/v1"), ("OPENAI_API_KEY", "sk-1")]);
        let served = catalogue.find_served("gpt-4").unwrap();
        assert!(!served.local);
        assert_eq!(served.cost_nanos(1_000, 1_000), 90_000_000, "0.03 and 0.06 dollars");
        assert!(catalogue.find_served("minimax").unwrap().local);
    }

    #[test]
    fn without_a_key_and_without_a_local_model_nobody_answers() {
        assert!(read(&[]).find_served("gpt-4").is_none());
        assert!(read(&[]).find("gpt-4").is_some());
    }
}
