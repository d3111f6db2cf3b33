//! The sockets through which models are asked: who may ask, one question after another, and what becomes of a question
//! whose asker has gone. `/ws` and `/ai/stream` differ in their frames only.

use super::{
    ai_stream, chat_socket,
    model_job::{ModelJob, Said},
    socket::{Close, Ended, Heard, PING, Socket, not_a_socket},
    socket_slots::Slot,
};
use crate::{
    auth::{Caller, caller::Shown, permissions::Permission},
    error::{ApiError, Code},
    limits,
    rules::Keys,
    state::State,
};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared::models::Job;
use std::{collections::VecDeque, time::Duration};
use tokio::time;
use utoipa::IntoParams;
use uuid::Uuid;

/// How long a client may take to say who it is.
const INTRODUCTION: Duration = Duration::from_secs(30);

/// What a key needs.
const NEEDED: Keys = Keys::With(Permission::AiWrite);

/// Questions that may wait while one is answered.
const WAITING: usize = 8;

/// How the sockets are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct TokenQuery {
    /// An access token, where neither `Authorization` nor `X-API-Key` can be sent. Without any of them the first message
    /// is `{"type": "auth", "data": {"token"}}`.
    token: Option<String>,
}

/// Which socket it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Door {
    /// `/ws`: messages of the chat that is remembered.
    Chat,
    /// `/ai/stream`: conversations, answered piece by piece.
    Stream,
}

impl Door {
    /// What its sockets are counted as.
    const fn kind(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Stream => "ai_stream",
        }
    }

    /// Most bytes of a message.
    const fn max_frame(self) -> usize {
        match self {
            Self::Chat => 256 << 10,
            Self::Stream => 1 << 20,
        }
    }

    /// Accepts a question.
    async fn ask(
        self,
        state: &web::Data<State>,
        caller: &Caller,
        frame: Value,
    ) -> Result<(ModelJob, String), ApiError> {
        match self {
            Self::Chat => chat_socket::ask(state, caller, frame).await,
            Self::Stream => ai_stream::ask(state, caller, &frame).await,
        }
    }

    /// The frame of a piece, where pieces are sent.
    fn piece(self, id: Uuid, text: &str) -> Option<Value> {
        match self {
            Self::Chat => None,
            Self::Stream => Some(ai_stream::delta(id, text)),
        }
    }

    /// The frames at the end of an answer.
    fn end(self, question: &Question, answered: &Job) -> Result<Vec<Value>, ApiError> {
        match self {
            Self::Chat => chat_socket::response(answered, question.model.clone()).map(|frame| vec![frame]),
            Self::Stream => ai_stream::end(&question.job, answered),
        }
    }

    fn error(self, error: &ApiError) -> Value {
        let (code, message, details) = (error.code(), error.message(), error.details());
        let mut error_object = json!({ "code": code, "message": message, "details": details });
        if let Some(seconds) = error.retry_after() {
            error_object["retry_after"] = json!(seconds);
        }
        match self {
            Self::Chat => json!({ "type": "error", "data": error_object }),
            Self::Stream => json!({ "type": "error", "content": "", "error": error_object }),
        }
    }
}

/// A question that is being answered.
struct Question {
    job: ModelJob,
    /// As it was asked for.
    model: String,
}

/// Accepts a handshake and serves the socket in a task of its own.
///
/// # Errors
/// 400 if it is none.
pub(super) fn open(
    door: Door,
    request: &HttpRequest,
    body: web::Payload,
    state: web::Data<State>,
    query: TokenQuery,
) -> Result<HttpResponse, ApiError> {
    let (response, session, stream) = actix_ws::handle(request, body).map_err(not_a_socket)?;
    let largest = door.max_frame();
    let stream = stream.max_frame_size(largest).aggregate_continuations().max_continuation_size(largest);
    let shown = query.token.as_deref().map(Shown::token).or_else(|| Shown::of(request));
    let sockets = state.sockets.clone();
    sockets.spawn_local(async move {
        let mut visit =
            Visit { door, state, socket: Socket::new(session, stream), asker: None, waiting: VecDeque::new() };
        let ended = visit.welcome(shown).await;
        if let Some(Asker { slot, .. }) = visit.asker.take() {
            slot.give_back().await;
        }
        visit.socket.close(ended).await;
    });
    Ok(response)
}

/// Who asks.
struct Asker {
    user_id: Uuid,
    shown: Shown,
    slot: Slot,
}

/// One open socket.
struct Visit {
    door: Door,
    state: web::Data<State>,
    socket: Socket,
    asker: Option<Asker>,
    /// Questions whose turn will come.
    waiting: VecDeque<Value>,
}

impl Visit {
    /// Lets the client in, if it has shown something already, and serves it.
    async fn welcome(&mut self, shown: Option<Shown>) -> Ended {
        if let Some(shown) = shown
            && let Err(ended) = self.introduce(shown).await
        {
            return ended;
        }
        let mut question = None;
        let ended = self.serve(&mut question).await;
        if let Some(Question { job, .. }) = question {
            job.cancel().await;
        }
        ended
    }

    /// Hears and answers until the client goes, or has to. What is left in `question` was not answered.
    async fn serve(&mut self, question: &mut Option<Question>) -> Ended {
        let opened = time::Instant::now();
        let mut ping = time::interval_at(opened + PING, PING);
        loop {
            if question.is_none()
                && let Some(frame) = self.waiting.pop_front()
            {
                match self.ask(frame).await {
                    Ok(asked) => *question = Some(asked),
                    Err(error) => {
                        if let Some(ended) = self.refuse(&error).await {
                            return ended;
                        }
                        continue;
                    }
                }
            }
            let ended = tokio::select! {
                heard = self.socket.hear() => self.take(heard).await,
                said = next(question) => self.pass_on(question, said).await,
                _ = ping.tick() => {
                    if let Some(asker) = &self.asker {
                        asker.slot.renew().await;
                    }
                    self.socket.ping().await
                }
                () = time::sleep_until(opened + INTRODUCTION), if self.asker.is_none() => {
                    Some(Some(Close::Unauthenticated))
                }
                () = self.state.shutdown.cancelled() => Some(Some(Close::GoingAway)),
            };
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    /// Takes in what the client said.
    async fn take(&mut self, heard: Heard) -> Option<Ended> {
        let text = match heard {
            Heard::Text(text) => text,
            Heard::Binary => return self.refuse(&invalid("Send text, not bytes")).await,
            Heard::Nothing => return None,
            Heard::End(ended) => return Some(ended),
        };
        let mut frame = match serde_json::from_str(&text) {
            Ok(Value::Object(frame)) => frame,
            Ok(_) => return self.refuse(&invalid("A message must be a JSON object")).await,
            Err(error) => return self.refuse(&invalid(format!("The message is not valid JSON: {error}"))).await,
        };
        match (frame.get("type").and_then(Value::as_str), self.door) {
            (Some("ping"), _) => self.socket.send(&json!({ "type": "pong" })).await,
            (Some("auth"), _) => {
                let token = frame.get("data").and_then(|data| data["token"].as_str()).unwrap_or_default();
                self.introduce(Shown::token(token)).await.err()
            }
            (Some("chat"), Door::Chat) => {
                let data = frame.remove("data").unwrap_or_else(|| Value::Object(Map::new()));
                self.queue(data).await
            }
            // the body of a request has no type
            (None, Door::Stream) if !frame.contains_key("type") => self.queue(Value::Object(frame)).await,
            (_, Door::Chat) => self.refuse(&unknown_type("auth, chat, ping")).await,
            (_, Door::Stream) => {
                self.refuse(&unknown_type("auth, ping; a conversation is sent as it is, without a type")).await
            }
        }
    }

    async fn queue(&mut self, frame: Value) -> Option<Ended> {
        if self.waiting.len() < WAITING {
            self.waiting.push_back(frame);
            return None;
        }
        let error = ApiError::new(Code::RateLimited, format!("{WAITING} messages wait already; let them be answered"));
        self.refuse(&error).await
    }

    /// Lets the holder of a token or a key in. Who is in may come with a fresh one, but not as somebody else.
    async fn introduce(&mut self, shown: Shown) -> Result<(), Ended> {
        let caller = match Caller::from_shown(&self.state, &shown).await {
            Ok(caller) => caller,
            Err(error) if error.code().status().is_server_error() => return Err(Some(Close::TryAgain)),
            Err(_) => return Err(Some(Close::Unauthenticated)),
        };
        caller.require(NEEDED).map_err(|_| Some(Close::Denied))?;
        let user_id = caller.user_id;
        match &mut self.asker {
            Some(asker) if asker.user_id == user_id => asker.shown = shown,
            Some(_) => return Err(Some(Close::Denied)),
            None => {
                let slot = Slot::take(&self.state, self.door.kind(), user_id).await;
                let slot = slot.ok_or(Some(Close::TooMany))?;
                self.asker = Some(Asker { user_id, shown, slot });
            }
        }
        Ok(())
    }

    /// Accepts a question. Who asks is looked up anew: a session may have ended, a role may have changed.
    async fn ask(&self, frame: Value) -> Result<Question, ApiError> {
        let asker = self.asker.as_ref().ok_or_else(ApiError::unauthenticated)?;
        let caller = Caller::from_shown(&self.state, &asker.shown).await?;
        caller.require(NEEDED)?;
        caller.require_writer()?;
        limits::check_question(&self.state, &caller).await?;
        let (job, model) = self.door.ask(&self.state, &caller, frame).await?;
        caller.count_use(&self.state);
        Ok(Question { job, model })
    }

    /// Passes on what a model said.
    async fn pass_on(&mut self, question: &mut Option<Question>, said: Said) -> Option<Ended> {
        match said {
            Said::Piece(text) => {
                let id = question.as_ref()?.job.id;
                let frame = self.door.piece(id, &text)?;
                self.socket.send(&frame).await
            }
            Said::Done(answered) => match self.door.end(&question.take()?, &answered) {
                Ok(frames) => {
                    for frame in frames {
                        if let Some(ended) = self.socket.send(&frame).await {
                            return Some(ended);
                        }
                    }
                    None
                }
                Err(error) => self.refuse(&error).await,
            },
            Said::Failed(error) => {
                *question = None;
                self.refuse(&error).await
            }
        }
    }

    /// Says what is wrong; the socket stays open.
    async fn refuse(&mut self, error: &ApiError) -> Option<Ended> {
        if let Some(cause) = error.cause() {
            tracing::warn!(code = error.code().as_str(), "a socket's request failed: {cause:#}");
        }
        self.socket.send(&self.door.error(error)).await
    }
}

/// The next word of the answer; never one where nothing was asked.
async fn next(question: &mut Option<Question>) -> Said {
    match question {
        Some(question) => question.job.next().await,
        None => std::future::pending().await,
    }
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(Code::Validation, message)
}

fn unknown_type(known: &str) -> ApiError {
    ApiError::invalid_field("type", format!("must be one of: {known}"))
}
