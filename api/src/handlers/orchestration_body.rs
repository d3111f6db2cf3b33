//! What an orchestration is started with, and where each part of it comes from: the request, the template, the project, the
//! organization, in this order.

use super::model_choice::{Models, chats};
use crate::{error::ApiError, extract::object};
use garde::Validate;
use serde::Deserialize;
use serde_json::Value;
use shared::{
    llm::Capability,
    models::{Organization, Project, Template},
    orchestration::{DEFAULT_PHASES, template_integrations, template_phases, title_case},
};
use utoipa::ToSchema;
use uuid::Uuid;

/// Tokens of a phase's answer where nothing is said.
const MAX_TOKENS: i32 = 2000;

/// Most tokens of a phase's answer.
const MOST_TOKENS: i32 = 32_000;

/// 0–1, where nothing is said.
const TEMPERATURE: f64 = 0.7;

/// The model of an organization that has chosen none.
const DEFAULT_MODEL: &str = "gpt-4";

/// An orchestration to be started.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[garde(context(Models))]
pub(crate) struct StartOrchestration {
    #[garde(skip)]
    pub(super) project_id: Uuid,
    /// What it is about; the project's topic without it.
    #[garde(length(chars, max = 2000))]
    #[schema(max_length = 2000)]
    pub(super) topic: Option<String>,
    /// Whether it writes files, commits and deploys; the template's setting without it, else the organization's.
    #[garde(skip)]
    integration_enabled: Option<bool>,
    /// Names of the phases; the template's without it, else seven usual ones.
    #[garde(length(min = 1, max = 20), dive)]
    #[schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 20)]
    custom_phases: Option<Vec<PhaseName>>,
    /// What it is made from.
    #[garde(skip)]
    pub(super) template_id: Option<Uuid>,
    #[garde(dive)]
    #[serde(default, deserialize_with = "object")]
    settings: Option<OrchestrationSettings>,
}

/// The name of a phase, 1–100 characters.
#[derive(Debug, Deserialize, Validate)]
#[garde(context(Models))]
#[garde(transparent)]
#[serde(transparent)]
struct PhaseName(#[garde(length(chars, min = 1, max = 100), custom(has_words))] String);

/// How the phases are asked for.
#[derive(Debug, Default, Deserialize, Validate, ToSchema)]
#[garde(context(Models))]
pub(crate) struct OrchestrationSettings {
    /// One of `/ai/models`; the template's without it, else the organization's `default_ai_model`.
    #[garde(inner(custom(chats)))]
    ai_model: Option<String>,
    /// Most tokens of each phase's answer, as far as the model can.
    #[garde(range(min = 1, max = MOST_TOKENS))]
    #[schema(minimum = 1, maximum = 32_000, default = 2000)]
    max_tokens: Option<i32>,
    #[garde(range(min = 0.0, max = 1.0))]
    #[schema(minimum = 0, maximum = 1, default = 0.7)]
    temperature: Option<f64>,
}

/// What is to be run.
#[derive(Debug)]
pub(super) struct Chosen {
    pub(super) topic: String,
    pub(super) integration_enabled: bool,
    /// In title case.
    pub(super) phases: Vec<String>,
    pub(super) integrations: Vec<String>,
    pub(super) model: String,
    pub(super) max_tokens: i32,
    pub(super) temperature: f64,
}

fn has_words(name: &str, _: &Models) -> garde::Result {
    if title_case(name).is_empty() { Err(garde::Error::new("must not be blank")) } else { Ok(()) }
}

impl StartOrchestration {
    /// Fills in what the request leaves open.
    ///
    /// # Errors
    /// 400 if there is no topic, or if the model that follows from template or organization cannot be asked.
    pub(super) fn choose(
        self,
        project: &Project,
        template: Option<&Template>,
        organization: &Organization,
        models: &Models,
    ) -> Result<Chosen, ApiError> {
        let nothing = Value::Null;
        let template = template.map_or(&nothing, |template| &template.template_data);
        let of_template = template.get("settings").unwrap_or(&nothing);
        let of_organization = &organization.settings;
        let given = self.settings.unwrap_or_default();

        let topic = self.topic.as_deref().map(str::trim).filter(|topic| !topic.is_empty());
        let topic = topic.or_else(|| Some(project.topic.trim()).filter(|topic| !topic.is_empty()));
        let Some(topic) = topic else {
            return Err(ApiError::invalid_field("topic", "is required: the project has no topic"));
        };
        let switch = |settings: &Value| settings.get("integration_enabled").and_then(Value::as_bool);
        let named = self.custom_phases.map(|phases| phases.iter().map(|PhaseName(name)| title_case(name)).collect());
        let model = match given.ai_model {
            Some(model) => model,
            None => follow(of_template, of_organization, models)?,
        };
        let max_tokens = given.max_tokens.or_else(|| {
            let tokens = i32::try_from(of_template.get("max_tokens")?.as_i64()?).ok()?;
            (1..=MOST_TOKENS).contains(&tokens).then_some(tokens)
        });
        let temperature = given.temperature.or_else(|| {
            of_template.get("temperature")?.as_f64().filter(|temperature| (0.0..=1.0).contains(temperature))
        });
        Ok(Chosen {
            topic: topic.to_owned(),
            integration_enabled: self
                .integration_enabled
                .or_else(|| switch(of_template))
                .or_else(|| switch(of_organization))
                .unwrap_or(true),
            phases: named
                .or_else(|| template_phases(template))
                .unwrap_or_else(|| DEFAULT_PHASES.map(str::to_owned).to_vec()),
            integrations: template_integrations(template),
            model,
            max_tokens: max_tokens.unwrap_or(MAX_TOKENS),
            temperature: temperature.unwrap_or(TEMPERATURE),
        })
    }
}

/// The model that the template names, or else the organization.
fn follow(template: &Value, organization: &Value, models: &Models) -> Result<String, ApiError> {
    let text = |settings: &Value, key: &str| {
        let text = settings.get(key)?.as_str()?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    let (model, whose) = match text(template, "ai_model") {
        Some(model) => (model, "the template's model"),
        None => {
            let default = text(organization, "default_ai_model").unwrap_or_else(|| DEFAULT_MODEL.to_owned());
            (default, "the organization's default model")
        }
    };
    match models.choose(&model, Capability::Chat) {
        Ok(_) => Ok(model),
        Err(why) => Err(ApiError::invalid_field("settings.ai_model", format!("name a model: {whose} {model:?} {why}"))),
    }
}
