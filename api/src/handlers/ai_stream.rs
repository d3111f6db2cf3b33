//! `/ai/stream`: conversations over a socket, answered piece by piece.

use super::{
    ai::{AskChat, begin_chat},
    model_job::{ModelJob, result},
    model_socket::{Door, TokenQuery, open},
};
use crate::{
    auth::Caller,
    config::Config,
    error::ApiError,
    extract::check,
    state::State,
    views::{ChatChoice, ModelResult},
};
use actix_web::{HttpRequest, HttpResponse, get, web};
use serde_json::{Value, json};
use shared::{kind::Endpoint, models::Job};
use uuid::Uuid;

/// Stream answers over a socket
///
/// A WebSocket. Each message is the body of `POST /ai/chat`; the answer comes as
/// `{"type": "delta", "id", "content"}` …, then `{"type": "done", "id", "content": "", "finish_reason", "usage"}`. What is
/// wrong is told by `{"type": "error", "content": "", "error": {"code", "message", "details"}}`. 4001: no valid token, or
/// none within 30 s; 4029: more than five sockets are open.
#[utoipa::path(
    tag = "ai",
    security(("bearer" = [])),
    params(TokenQuery),
    responses(
        (status = 101, description = "The socket is open"),
        (status = 400, description = "Not a WebSocket handshake"),
    ),
)]
#[get("/ai/stream")]
pub(crate) async fn stream_chat(
    request: HttpRequest,
    body: web::Payload,
    caller: Result<Caller, ApiError>,
    state: web::Data<State>,
    query: web::Query<TokenQuery>,
) -> Result<HttpResponse, ApiError> {
    open(Door::Stream, &request, body, state, query.into_inner())
        // who is nobody is not told how to do it right
        .map_err(|refusal| caller.err().unwrap_or(refusal))
}

/// Accepts a conversation.
pub(super) async fn ask(
    state: &web::Data<State>,
    caller: &Caller,
    body: &Value,
) -> Result<(ModelJob, String), ApiError> {
    let config: &Config = &state.config;
    let ask: AskChat = check(body.to_string().as_bytes(), &config.into())?;
    begin_chat(state, caller, ask, Endpoint::AiStream, true).await
}

/// The frame of a piece.
pub(super) fn delta(id: Uuid, text: &str) -> Value {
    json!({ "type": "delta", "id": id, "content": text })
}

/// The frames at the end of an answer: the rest of the text, if there is any, and how it ended.
pub(super) fn end(job: &ModelJob, answered: &Job) -> Result<Vec<Value>, ApiError> {
    let ModelResult { choices, usage, metadata } = result::<ModelResult<ChatChoice>>(answered)?;
    let choice = choices.into_iter().next().ok_or_else(|| ApiError::ai_service("The model said nothing"))?;
    let rest = job.rest(&choice.message.content)?;
    let done = json!({
        "type": "done", "id": job.id, "content": "", "finish_reason": choice.finish_reason, "usage": usage,
        "metadata": metadata,
    });
    let rest = (!rest.is_empty()).then(|| delta(job.id, rest));
    Ok(rest.into_iter().chain([done]).collect())
}
