//! `openai` and `llm`: an answer of a language model.

use super::{
    Flaw, Trouble, Wait, image,
    output::{Output, Spent},
    scope::{Arrived, Scope},
    template,
};
use crate::llm::{Call, CallFailure, Message, Part, Request};
use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use serde_json::json;
use shared::{
    events::LogLevel,
    kind::Speaker,
    llm::Capability,
    models::{Failure, User},
    pipeline::Llm,
};

/// Tokens of an answer if the settings do not say.
const MAX_TOKENS: u32 = 1_000;

/// 0–1, if the settings do not say.
const TEMPERATURE: f64 = 0.7;

/// A question.
pub(super) struct Asked {
    pub(super) model: String,
    pub(super) system: Option<String>,
    pub(super) question: String,
    /// Type and bytes.
    pub(super) image: Option<(String, Bytes)>,
    pub(super) max_tokens: u32,
    pub(super) temperature: f64,
    pub(super) top_p: f64,
    pub(super) stop: Vec<String>,
}

impl Default for Asked {
    fn default() -> Self {
        Self {
            model: String::new(),
            system: None,
            question: String::new(),
            image: None,
            max_tokens: MAX_TOKENS,
            temperature: TEMPERATURE,
            top_p: 1.0,
            stop: Vec::new(),
        }
    }
}

pub(super) async fn run(scope: &Scope<'_>, name: &str, config: &Llm, arrived: &Arrived) -> Result<Output, Trouble> {
    let run = scope.run;
    let model = match &config.model {
        Some(model) => model.clone(),
        None => {
            let mut conn = run.context.pool.get().await?;
            User::default_model(&mut conn, run.user_id, run.reporter.job.organization_id).await?.ok_or_else(|| {
                Trouble::lasting("It names no model, and neither user nor organization has a default.")
            })?
        }
    };
    let question = match &config.prompt {
        Some(source) => template::render(scope, arrived, source)?,
        None => arrived.text(),
    };
    let system = config.system_prompt.as_deref().filter(|source| !source.trim().is_empty());
    let system = system.map(|source| template::render(scope, arrived, source)).transpose()?;
    let served = run.context.models.find_served(&model);
    let sees = served.is_some_and(|served| !served.local && served.model.capabilities.contains(&Capability::Vision));
    let image = match arrived.image() {
        Some(image) if sees => Some(image::load(run, image).await?),
        Some(_) => {
            let why = format!("The model {model} does not see: the image stays behind.");
            run.reporter.log(LogLevel::Warn, Some(name), why).await;
            None
        }
        None => None,
    };
    let asked = Asked {
        model,
        system,
        question,
        image,
        max_tokens: config.max_tokens.unwrap_or(MAX_TOKENS),
        temperature: config.temperature.unwrap_or(TEMPERATURE),
        top_p: config.top_p.unwrap_or(1.0),
        stop: config.stop.clone(),
    };
    ask(scope, name, asked).await
}

/// Asks; `key` names the call within the job, the same in every attempt.
pub(super) async fn ask(scope: &Scope<'_>, key: &str, asked: Asked) -> Result<Output, Trouble> {
    let mut messages = Vec::with_capacity(2);
    if let Some(system) = asked.system {
        messages.push(Message { role: Speaker::System, parts: vec![Part::Text(system)] });
    }
    if asked.question.trim().is_empty() && asked.image.is_none() {
        return Err(Trouble::lasting("There is nothing to ask: its input is empty."));
    }
    let mut parts = vec![Part::Text(asked.question)];
    parts.extend(asked.image.map(|(content_type, bytes)| Part::Image { content_type, bytes }));
    messages.push(Message { role: Speaker::User, parts });
    let request = Request {
        model: asked.model,
        messages,
        max_tokens: asked.max_tokens,
        temperature: asked.temperature,
        top_p: asked.top_p,
        stop: asked.stop,
    };
    let call = Call { key, endpoint: scope.run.ran.endpoint(), request: &request, tokens: None };
    let answer = scope.run.context.llm.call(scope.run.reporter, call).await.map_err(of_call)?;
    if !answer.recorded {
        for fallback in &answer.fallbacks {
            let why = format!("Another model was asked instead: {fallback}");
            scope.run.reporter.log(LogLevel::Warn, Some(key), why).await;
        }
    }
    let spent =
        Spent { tokens: answer.prompt_tokens.saturating_add(answer.completion_tokens), nanos: answer.cost_nanos };
    let mut output = Output::text(answer.text);
    let about = [
        ("model", json!(request.model)),
        ("answered_by", json!(answer.answered_by)),
        ("provider", json!(answer.provider)),
        ("local", json!(answer.local)),
        ("finish_reason", json!(answer.finish)),
        ("prompt_tokens", json!(answer.prompt_tokens)),
        ("completion_tokens", json!(answer.completion_tokens)),
        ("estimated", json!(answer.estimated)),
        ("latency_ms", json!(answer.latency_ms)),
        ("fallbacks", json!(answer.fallbacks)),
    ];
    output.metadata.extend(about.map(|(key, value)| (key.to_owned(), value)));
    Ok(output.having_spent(spent))
}

fn of_call(failure: CallFailure) -> Trouble {
    match failure {
        CallFailure::Stop(stop) => Trouble::Stop(stop),
        CallFailure::Park { after, reason } => {
            let after = TimeDelta::from_std(after).unwrap_or(TimeDelta::seconds(60));
            Trouble::Wait(Wait { until: Utc::now() + after, reason })
        }
        CallFailure::Failed { code, message, passing } => {
            let of_run = match code.as_str() {
                "llm_model_unknown" | "llm_not_served" => "pipeline_invalid",
                "budget_exceeded" => "budget_exceeded",
                "llm_auth" | "llm_model_missing" => "ai_service_error",
                _ if passing => "ai_service_error",
                _ => "node_failed",
            };
            let message = format!("{message} ({code})");
            Trouble::Node(Flaw { failure: Failure { code: of_run.to_owned(), message }, passing })
        }
    }
}
