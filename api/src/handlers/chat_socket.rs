//! `/ws`: the chat that is remembered, over a socket.

use super::{
    chat::{self, ChatReply, Say},
    model_job::ModelJob,
    model_socket::{Door, TokenQuery, open},
};
use crate::{auth::Caller, config::Config, error::ApiError, extract::check, state::State};
use actix_web::{HttpRequest, HttpResponse, get, web};
use serde_json::{Value, json};
use shared::{kind::Endpoint, models::Job};

/// Chat over a socket
///
/// A WebSocket. `{"type": "chat", "data": …}` with the body of `POST /chat` is answered with
/// `{"type": "chat_response", "data": …}`, one after another; `{"type": "ping"}` with `{"type": "pong"}`; what is wrong
/// with `{"type": "error", "data": {"code", "message", "details"}}`. 4001: no valid token, or none within 30 s; 4029: more
/// than five sockets are open.
#[utoipa::path(
    tag = "chat",
    params(TokenQuery),
    responses(
        (status = 101, description = "The socket is open"),
        (status = 400, description = "Not a WebSocket handshake"),
    ),
)]
#[get("/ws")]
pub(crate) async fn open_chat(
    request: HttpRequest,
    body: web::Payload,
    state: web::Data<State>,
    query: web::Query<TokenQuery>,
) -> Result<HttpResponse, ApiError> {
    open(Door::Chat, &request, body, state, query.into_inner())
}

/// Accepts the data of a `chat` frame.
pub(super) async fn ask(
    state: &web::Data<State>,
    caller: &Caller,
    data: Value,
) -> Result<(ModelJob, String), ApiError> {
    let config: &Config = &state.config;
    let say: Say = check(data.to_string().as_bytes(), &config.into())?;
    chat::begin(state, caller, say, Endpoint::ChatSocket).await
}

/// The frame of an answer.
pub(super) fn response(answered: &Job, model: String) -> Result<Value, ApiError> {
    Ok(json!({ "type": "chat_response", "data": ChatReply::new(answered, model)? }))
}
