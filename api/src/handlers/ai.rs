//! Models asked directly: a conversation or a prompt in, an answer out. Nothing is remembered between requests.

use super::{
    model_choice::{DEFAULT_MODEL, Models, TEMPERATURE, TOP_P, serves, share, within},
    model_job::{ModelJob, result},
    token_stream,
};
use crate::{
    auth::Caller,
    error::ApiError,
    extract::Valid,
    list::{self, ListParams, ListQuery, ListSpec, Page, SortKind, Sortable},
    state::State,
    views::{Answer, ChatChoice, TextChoice, speaker},
};
use actix_web::{HttpResponse, get, post, web};
use garde::Validate;
use serde::{Deserialize, Serialize};
use shared::{
    kind::{ChatCompletion, ChatMessage, Endpoint, Payload, Speaker, TextGeneration},
    llm::{Capability, Served},
};
use utoipa::ToSchema;

/// A conversation.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[garde(context(Models))]
pub(crate) struct AskChat {
    /// Oldest first.
    #[garde(length(min = 1, max = 200), dive)]
    #[schema(min_items = 1, max_items = 200)]
    messages: Vec<Message>,
    /// One of `/ai/models`.
    #[garde(custom(serves(Capability::Chat)))]
    #[schema(default = "minimax")]
    model: Option<String>,
    /// Most tokens of the answer, up to what the model can.
    #[garde(custom(within(Some(self.model.as_deref().unwrap_or(DEFAULT_MODEL)))))]
    #[schema(minimum = 1, default = 1000)]
    max_tokens: Option<u32>,
    #[garde(range(min = 0.0, max = 1.0))]
    #[schema(minimum = 0, maximum = 1, default = 0.7)]
    temperature: Option<f64>,
    #[garde(inner(custom(share)))]
    #[schema(exclusive_minimum = 0, maximum = 1, default = 0.9)]
    top_p: Option<f64>,
    /// Send the answer as it comes, as `text/event-stream`.
    #[garde(skip)]
    #[schema(default = false)]
    stream: Option<bool>,
}

/// A message of a conversation.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[garde(context(Models))]
#[schema(as = ChatMessage)]
pub(crate) struct Message {
    #[garde(skip)]
    #[schema(schema_with = speaker)]
    role: Speaker,
    #[garde(length(min = 1))]
    #[schema(min_length = 1)]
    content: String,
}

/// A prompt.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[garde(context(Models))]
pub(crate) struct AskGenerate {
    /// What the model is to go on from.
    #[garde(length(min = 1))]
    #[schema(min_length = 1)]
    prompt: String,
    /// One of `/ai/models`.
    #[garde(custom(serves(Capability::Generate)))]
    #[schema(default = "minimax")]
    model: Option<String>,
    /// Most tokens of each version, up to what the model can.
    #[garde(custom(within(Some(self.model.as_deref().unwrap_or(DEFAULT_MODEL)))))]
    #[schema(minimum = 1, default = 1000)]
    max_tokens: Option<u32>,
    #[garde(range(min = 0.0, max = 1.0))]
    #[schema(minimum = 0, maximum = 1, default = 0.7)]
    temperature: Option<f64>,
    #[garde(inner(custom(share)))]
    #[schema(exclusive_minimum = 0, maximum = 1, default = 0.9)]
    top_p: Option<f64>,
    /// How many versions.
    #[garde(range(min = 1, max = 10))]
    #[schema(minimum = 1, maximum = 10, default = 1)]
    n: Option<u8>,
    /// A version ends before the first of these: one text, or up to four.
    #[garde(custom(stop_rule))]
    stop: Option<Stop>,
}

/// Where a text is to end.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged, expecting = "must be a string or a list of strings")]
pub(crate) enum Stop {
    /// Before this.
    One(String),
    /// Before the first of these.
    Several(Vec<String>),
}

impl Stop {
    fn texts(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Several(texts) => texts,
        }
    }
}

fn stop_rule(stop: &Option<Stop>, _: &Models) -> garde::Result {
    let texts = stop.as_ref().map_or(&[][..], Stop::texts);
    if texts.len() > 4 {
        return Err(garde::Error::new("must be at most 4 texts"));
    }
    if texts.iter().any(String::is_empty) { Err(garde::Error::new("must not be empty")) } else { Ok(()) }
}

/// Chat with a model
///
/// The model answers the conversation. With `stream: true` the answer is an event stream: each event's data is a
/// chunk, the first has the role, the last has `finish_reason` and `usage`; then comes `data: [DONE]`. Should the model
/// fail on the way, an event with `{"error": {"code", "message"}}` is the last.
#[utoipa::path(
    tag = "ai",
    security(("bearer" = [])),
    request_body = AskChat,
    responses(
        (status = 200, description = "The answer; chunks of it with `stream: true`", content(
            (Answer<ChatChoice> = "application/json"),
            (String = "text/event-stream"),
        )),
        (status = 502, description = "The model failed"),
    ),
)]
#[post("/ai/chat")]
pub(crate) async fn complete_chat(
    state: web::Data<State>,
    caller: Caller,
    body: Valid<AskChat>,
) -> Result<HttpResponse, ApiError> {
    let stream = body.0.stream.unwrap_or(false);
    let (job, model) = begin_chat(&state, &caller, body.0, Endpoint::AiChat, stream).await?;
    if stream {
        return token_stream::respond(&state, job, model).await;
    }
    let (id, created_at) = (job.id, job.created_at);
    let answered = job.answer().await?;
    Ok(HttpResponse::Ok().json(Answer::<ChatChoice>::new(id, model, created_at, result(&answered)?)))
}

/// Accepts a checked conversation; with the model as it was asked for.
pub(super) async fn begin_chat(
    state: &web::Data<State>,
    caller: &Caller,
    ask: AskChat,
    endpoint: Endpoint,
    stream: bool,
) -> Result<(ModelJob, String), ApiError> {
    let model = ask.model.unwrap_or_else(|| DEFAULT_MODEL.to_owned());
    let messages = ask.messages.into_iter().map(|Message { role, content }| ChatMessage { role, content }).collect();
    let payload = Payload::ChatCompletion(ChatCompletion {
        endpoint,
        messages,
        max_tokens: Models::from(&state.config).tokens(&model, ask.max_tokens),
        temperature: ask.temperature.unwrap_or(TEMPERATURE),
        top_p: ask.top_p.unwrap_or(TOP_P),
        stream,
        model: model.clone(),
    });
    Ok((ModelJob::accept(state, caller, payload, stream).await?, model))
}

/// Generate text
///
/// The model goes on from a prompt, `n` times. A version ends before the first stop text, which is not a part of it.
#[utoipa::path(
    tag = "ai",
    security(("bearer" = [])),
    request_body = AskGenerate,
    responses(
        (status = 200, description = "`n` versions", body = Answer<TextChoice>),
        (status = 502, description = "The model failed"),
    ),
)]
#[post("/ai/generate")]
pub(crate) async fn generate_text(
    state: web::Data<State>,
    caller: Caller,
    body: Valid<AskGenerate>,
) -> Result<HttpResponse, ApiError> {
    let ask = body.0;
    let model = ask.model.unwrap_or_else(|| DEFAULT_MODEL.to_owned());
    let payload = Payload::TextGeneration(TextGeneration {
        prompt: ask.prompt,
        max_tokens: Models::from(&state.config).tokens(&model, ask.max_tokens),
        temperature: ask.temperature.unwrap_or(TEMPERATURE),
        top_p: ask.top_p.unwrap_or(TOP_P),
        n: ask.n.unwrap_or(1),
        stop: ask.stop.map(|stop| stop.texts().to_vec()).unwrap_or_default(),
        model: model.clone(),
    });
    let job = ModelJob::accept(&state, &caller, payload, false).await?;
    let (id, created_at) = (job.id, job.created_at);
    let answered = job.answer().await?;
    Ok(HttpResponse::Ok().json(Answer::<TextChoice>::new(id, model, created_at, result(&answered)?)))
}

/// A model that can be asked.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Model)]
pub(crate) struct ModelView {
    /// What requests name it by.
    id: String,
    name: String,
    description: String,
    /// Most tokens of an answer.
    max_tokens: u32,
    /// `chat`, `generate`.
    supported_endpoints: Vec<&'static str>,
    pricing: Pricing,
    /// The model on this machine answers, because the provider has no key, or because it is this one.
    local: bool,
}

/// What a model costs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Pricing {
    /// US dollars for a thousand tokens, the mean of those read and those written.
    per_1k_tokens: f64,
}

impl ModelView {
    fn new(served: &Served<'_>) -> Self {
        let model = served.model;
        let supported_endpoints = model.capabilities.iter().filter_map(|capability| match capability {
            Capability::Chat => Some("chat"),
            Capability::Generate => Some("generate"),
            Capability::Vision => None,
        });
        #[expect(clippy::cast_precision_loss, reason = "a price in billionths of a dollar has few digits")]
        let per_1k_tokens = served.cost_nanos(500, 500) as f64 / 1e9;
        Self {
            id: model.id.clone(),
            name: model.name.clone(),
            description: model.description.clone(),
            max_tokens: model.max_tokens,
            supported_endpoints: supported_endpoints.collect(),
            pricing: Pricing { per_1k_tokens },
            local: served.local,
        }
    }
}

/// The models of the catalogue. They are in no table; `created_at` is their order in the catalogue.
static MODELS: ListSpec = ListSpec {
    from: "",
    columns: "",
    condition: None,
    id: "",
    default_limit: 20,
    filters: &[],
    searched: &[],
    sortable: &[
        Sortable::new("created_at", "", SortKind::Integer),
        Sortable::new("name", "", SortKind::Text),
        Sortable::new("id", "", SortKind::Text),
    ],
};

/// List the models
///
/// Only those that somebody serves here.
#[utoipa::path(
    tag = "ai",
    security(("bearer" = [])),
    params(ListQuery),
    responses((status = 200, description = "A page of models", body = Page<ModelView>)),
)]
#[get("/ai/models")]
pub(crate) async fn list_models(
    state: web::Data<State>,
    _caller: Caller,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let mut models: Vec<_> = state.config.models.served().map(|served| ModelView::new(&served)).collect();
    // newest first is the order of the catalogue
    models.reverse();
    let page = list::of_few(&MODELS, &params, models, |field, one, other| match field {
        "name" => one.name.cmp(&other.name),
        "id" => one.id.cmp(&other.id),
        _ => std::cmp::Ordering::Equal,
    })?;
    Ok(HttpResponse::Ok().json(page))
}
