//! The chat that is remembered: what was said lately goes along with each message, and question and answer are kept.

use super::{
    model_choice::{Models, TEMPERATURE, TOP_P, chats, within},
    model_job::{ModelJob, result},
};
use crate::{
    auth::Caller,
    error::ApiError,
    extract::{Valid, not_blank},
    list::{self, ListParams, ListQuery, ListSpec, Page, SortKind, Sortable},
    state::State,
    views::{ChatChoice, ModelResult, Time, TokenUsage},
};
use actix_web::{HttpResponse, delete, get, post, web};
use garde::Validate;
use serde::{Deserialize, Serialize};
use shared::{
    kind::{ChatCompletion, ChatMessage, Endpoint, Payload, Speaker},
    llm::Capability,
    models::{ChatDefaults, ChatExchange, Job},
};
use utoipa::ToSchema;
use uuid::Uuid;

/// Exchanges that go along with a message, at most.
const REMEMBERED: i64 = 10;

/// Bytes of a text that make a token, on the safe side.
const BYTES_A_TOKEN: usize = 3;

/// A message.
#[derive(Debug, Deserialize, Validate, ToSchema)]
#[garde(context(Models))]
pub(crate) struct Say {
    #[garde(length(chars, min = 1, max = 32_000), custom(not_blank))]
    #[schema(min_length = 1, max_length = 32_000)]
    message: String,
    /// One of `/ai/models`; without it the user's `preferences.default_model`, else the organization's
    /// `default_ai_model`.
    #[garde(inner(custom(chats)))]
    model: Option<String>,
    #[garde(range(min = 0.0, max = 1.0))]
    #[schema(minimum = 0, maximum = 1, default = 0.7)]
    temperature: Option<f64>,
    /// Most tokens of the answer, up to what the model can.
    #[garde(custom(within(self.model.as_deref())))]
    #[schema(minimum = 1, default = 1000)]
    max_tokens: Option<u32>,
}

/// An answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatReply {
    /// Of the entry in the history.
    id: Uuid,
    /// What the model said.
    message: String,
    /// As it was asked for.
    model: String,
    usage: TokenUsage,
    created_at: Time,
}

/// Question and answer, as they are kept.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatEntry {
    id: Uuid,
    /// What the user said.
    message: String,
    /// What the model said.
    response: String,
    model: String,
    created_at: Time,
}

/// The history of one user.
static HISTORY: ListSpec = ListSpec {
    from: "chat_entries c",
    columns: "c.*",
    condition: None,
    id: "c.id",
    default_limit: 50,
    filters: &[],
    searched: &[],
    sortable: &[Sortable::new("created_at", "c.created_at", SortKind::Time)],
};

/// Say something
///
/// The model knows what was said last, and question and answer are kept in the history.
#[utoipa::path(
    tag = "chat",
    security(("bearer" = [])),
    request_body = Say,
    responses(
        (status = 200, description = "The answer", body = ChatReply),
        (status = 502, description = "The model failed"),
    ),
)]
#[post("/chat")]
pub(crate) async fn send_message(
    state: web::Data<State>,
    caller: Caller,
    body: Valid<Say>,
) -> Result<HttpResponse, ApiError> {
    let (job, model) = begin(&state, &caller, body.0, Endpoint::Chat).await?;
    let answered = job.answer().await?;
    Ok(HttpResponse::Ok().json(ChatReply::new(&answered, model)?))
}

/// Accepts a checked message; with the model that was chosen.
pub(super) async fn begin(
    state: &web::Data<State>,
    caller: &Caller,
    say: Say,
    endpoint: Endpoint,
) -> Result<(ModelJob, String), ApiError> {
    let models = Models::from(&state.config);
    let (model, past) = {
        let mut conn = state.conn().await?;
        let model = match say.model {
            Some(model) => model,
            None => {
                let ChatDefaults { of_user, of_organization } =
                    ChatDefaults::get(&mut conn, caller.user_id, caller.organization_id).await?;
                let model = of_user.or(of_organization).ok_or_else(|| {
                    ApiError::invalid_field("model", "is required: neither you nor your organization has a default")
                })?;
                // an own choice is never replaced silently
                models.choose(&model, Capability::Chat).map_err(|problem| {
                    ApiError::invalid_field("model", format!("your default {model:?} {problem}; name another"))
                })?;
                model
            }
        };
        (model, ChatExchange::list_last(&mut conn, caller.user_id, REMEMBERED).await?)
    };
    within(Some(&model))(&say.max_tokens, &models)
        .map_err(|problem| ApiError::invalid_field("max_tokens", problem.message()))?;
    let max_tokens = models.tokens(&model, say.max_tokens);
    let context = models.choose(&model, Capability::Chat).map_or(0, |served| served.context);
    let payload = Payload::ChatCompletion(ChatCompletion {
        endpoint,
        messages: conversation(past, say.message, context.saturating_sub(max_tokens)),
        max_tokens,
        temperature: say.temperature.unwrap_or(TEMPERATURE),
        top_p: TOP_P,
        stream: false,
        model: model.clone(),
    });
    Ok((ModelJob::accept(state, caller, payload, false).await?, model))
}

/// The message after as much of the past (given newest first) as fits into `room`, in tokens.
fn conversation(past: Vec<ChatExchange>, message: String, room: u32) -> Vec<ChatMessage> {
    let room = usize::try_from(room).unwrap_or(usize::MAX).saturating_mul(BYTES_A_TOKEN);
    let mut taken = message.len();
    let mut messages = vec![ChatMessage { role: Speaker::User, content: message }];
    for exchange in past {
        taken += exchange.message.len() + exchange.response.len();
        if taken > room {
            break;
        }
        messages.push(ChatMessage { role: Speaker::Assistant, content: exchange.response });
        messages.push(ChatMessage { role: Speaker::User, content: exchange.message });
    }
    messages.reverse();
    messages
}

impl ChatReply {
    /// The answer of a job that has completed.
    pub(super) fn new(job: &Job, model: String) -> Result<Self, ApiError> {
        let ModelResult { choices, usage, .. } = result::<ModelResult<ChatChoice>>(job)?;
        let message = choices.into_iter().next().map(|choice| choice.message.content).unwrap_or_default();
        let created_at = job.finished_at.unwrap_or(job.updated_at).into();
        Ok(Self { id: job.id, message, model, usage, created_at })
    }
}

/// List what was said
///
/// Newest first; what was said over `/ws` is included.
#[utoipa::path(
    tag = "chat",
    security(("bearer" = [])),
    params(ListQuery),
    responses((status = 200, description = "A page of the history", body = Page<ChatEntry>)),
)]
#[get("/chat/history")]
pub(crate) async fn list_history(
    state: web::Data<State>,
    caller: Caller,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let page: Page<ChatExchange> = list::fetch(&mut conn, &HISTORY, &params, &[("c.user_id", caller.user_id)]).await?;
    let entry = |ChatExchange { id, message, response, model, created_at }| {
        let created_at = Time(created_at);
        ChatEntry { id, message, response, model, created_at }
    };
    Ok(HttpResponse::Ok().json(page.with(|rows| rows.into_iter().map(entry).collect::<Vec<_>>())))
}

/// Forget what was said
#[utoipa::path(
    tag = "chat",
    security(("bearer" = [])),
    responses((status = 204, description = "The history is empty")),
)]
#[delete("/chat/history")]
pub(crate) async fn clear_history(state: web::Data<State>, caller: Caller) -> Result<HttpResponse, ApiError> {
    ChatExchange::clear(&mut *state.conn().await?, caller.user_id).await?;
    Ok(HttpResponse::NoContent().finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    #[test]
    fn as_much_of_the_past_goes_along_as_fits() {
        let exchange = |message: &str, response: &str| ChatExchange {
            id: Uuid::nil(),
            message: message.to_owned(),
            response: response.to_owned(),
            model: "gpt-4".to_owned(),
            created_at: DateTime::UNIX_EPOCH,
        };
        let past = vec![exchange("new?", "new!"), exchange("old?", "old!")];
        let said = |room| {
            let messages = conversation(past.clone(), "now?".to_owned(), room);
            messages.into_iter().map(|message| message.content).collect::<Vec<_>>()
        };
        assert_eq!(said(7), ["old?", "old!", "new?", "new!", "now?"]);
        assert_eq!(said(4), ["new?", "new!", "now?"]);
        assert_eq!(said(0), ["now?"]);
    }
}
