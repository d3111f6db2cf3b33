//! What clients send to make or change a template, and its rules. The data of a template are kept letter for letter, so
//! they are looked at as they are; a client hears of every mistake in them at once.

use crate::{extract::not_blank, views::TemplateData};
use garde::{Path, Report, Validate};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

/// Most phases of an orchestration.
const MOST_PHASES: usize = 20;

/// Most integrations of a template.
const MOST_INTEGRATIONS: usize = 20;

/// Longest name of a phase, and of an integration.
const MOST_CHARS: usize = 100;

/// A template to be made.
#[derive(Debug, Deserialize, ToSchema, Validate)]
pub(crate) struct CreateTemplate {
    #[garde(length(chars, min = 1, max = 200), custom(not_blank))]
    #[schema(min_length = 1, max_length = 200)]
    pub(super) name: String,
    #[garde(length(chars, max = 20_000))]
    #[schema(max_length = 20_000)]
    pub(super) description: Option<String>,
    /// `custom` unless it is given.
    #[garde(length(chars, min = 1, max = 100), inner(custom(not_blank)))]
    #[schema(min_length = 1, max_length = 100)]
    pub(super) category: Option<String>,
    /// Whether everybody sees it, not only your organization.
    #[garde(skip)]
    pub(super) is_public: Option<bool>,
    #[garde(dive)]
    #[schema(value_type = TemplateData)]
    pub(super) template_data: SentData,
}

/// What is to change in a template; what is not sent stays.
#[derive(Debug, Deserialize, ToSchema, Validate)]
pub(crate) struct UpdateTemplate {
    #[garde(length(chars, min = 1, max = 200), inner(custom(not_blank)))]
    #[schema(min_length = 1, max_length = 200)]
    pub(super) name: Option<String>,
    #[garde(length(chars, max = 20_000))]
    #[schema(max_length = 20_000)]
    pub(super) description: Option<String>,
    #[garde(length(chars, min = 1, max = 100), inner(custom(not_blank)))]
    #[schema(min_length = 1, max_length = 100)]
    pub(super) category: Option<String>,
    #[garde(skip)]
    pub(super) is_public: Option<bool>,
    /// Replaces the whole.
    #[garde(dive)]
    #[schema(value_type = Option<TemplateData>)]
    pub(super) template_data: Option<SentData>,
}

/// The data of a template as they were sent.
#[derive(Debug, Deserialize)]
pub(crate) struct SentData(Map<String, Value>);

impl SentData {
    /// With defaults for what is missing.
    pub(super) fn complete(self) -> Value {
        let Self(mut data) = self;
        for (key, default) in [("integrations", json!([])), ("settings", json!({}))] {
            if data.get(key).is_none_or(Value::is_null) {
                data.insert(key.to_owned(), default);
            }
        }
        Value::Object(data)
    }
}

impl Validate for SentData {
    type Context = ();

    fn validate_into(&self, (): &(), parent: &mut dyn FnMut() -> Path, report: &mut Report) {
        let Self(data) = self;
        let mut problem = |path: Path, message: &str| report.append(path, garde::Error::new(message));
        match data.get("phases") {
            None => problem(parent().join("phases"), "is required"),
            Some(Value::Array(phases)) if (1..=MOST_PHASES).contains(&phases.len()) => {
                texts(phases, &parent().join("phases"), &mut problem);
            }
            Some(_) => problem(parent().join("phases"), "must be a list of 1 to 20 texts"),
        }
        match data.get("integrations") {
            None | Some(Value::Null) => {}
            Some(Value::Array(words)) if words.len() <= MOST_INTEGRATIONS => {
                texts(words, &parent().join("integrations"), &mut problem);
            }
            Some(_) => problem(parent().join("integrations"), "must be a list of at most 20 texts"),
        }
        match data.get("settings") {
            None | Some(Value::Null) => {}
            Some(Value::Object(settings)) => check_settings(settings, &parent().join("settings"), &mut problem),
            Some(_) => problem(parent().join("settings"), "must be an object"),
        }
    }
}

fn texts(values: &[Value], at: &Path, problem: &mut impl FnMut(Path, &str)) {
    for (index, value) in values.iter().enumerate() {
        let fits = value.as_str().is_some_and(|text| !text.trim().is_empty() && text.chars().count() <= MOST_CHARS);
        if !fits {
            problem(at.join(index), "must be a text of 1 to 100 characters");
        }
    }
}

/// What orchestrations read of the settings has to be right; null is the same as nothing.
fn check_settings(settings: &Map<String, Value>, at: &Path, problem: &mut impl FnMut(Path, &str)) {
    let mut check = |key: &'static str, fits: &dyn Fn(&Value) -> bool, message: &str| {
        if settings.get(key).is_some_and(|value| !value.is_null() && !fits(value)) {
            problem(at.join(key), message);
        }
    };
    check("ai_model", &|value| value.as_str().is_some_and(|id| !id.trim().is_empty()), "must be the id of a model");
    let tokens = |value: &Value| value.as_i64().is_some_and(|tokens| (1..=32_000).contains(&tokens));
    check("max_tokens", &tokens, "must be a whole number from 1 to 32000");
    let temperature = |value: &Value| value.as_f64().is_some_and(|heat| (0.0..=1.0).contains(&heat));
    check("temperature", &temperature, "must be a number from 0 to 1");
    check("integration_enabled", &Value::is_boolean, "must be true or false");
}
