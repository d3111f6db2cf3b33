//! From actix to the engine and back.

use super::{
    MAX_PAYLOAD, SocketIo, handshake,
    session::{Ended, Session},
    websocket,
};
use crate::{
    auth::caller::Shown,
    error::{ApiError, Code},
    extract::read,
    origin::client_ip,
    state::State,
};
use actix_web::{
    HttpRequest, HttpResponse, get,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    post, web,
};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, body::Body};
use serde::Deserialize;
use socketioxide::socket::Sid;
use std::{convert::Infallible, fmt::Display, sync::Arc, time::Duration};
use tokio::time;
use tower::Service;
use utoipa::IntoParams;

/// How long a client has to take its last word when the process stops.
const LAST_WORD: Duration = Duration::from_secs(2);

/// How the engine is asked.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct EngineQuery {
    /// The protocol of the engine: 4.
    #[serde(rename = "EIO")]
    #[param(rename = "EIO")]
    eio: Option<String>,
    /// `polling` or `websocket`.
    transport: Option<String>,
    /// The session; without one a new one is begun.
    sid: Option<String>,
    /// An access token, where neither `auth` nor a header can be sent.
    token: Option<String>,
}

/// Socket.IO
///
/// Protocol 5 (Engine.IO 4), by polling or WebSocket, for the client library of Socket.IO: `auth: {token: "Bearer …"}`,
/// an `Authorization` header, `X-API-Key` (with `pipelines:read`), or `?token=`. Refused is told by `connect_error`:
/// `AUTHENTICATION_REQUIRED`; `RATE_LIMIT_EXCEEDED` where more than five are open.
///
/// Send `join:pipeline`, `leave:pipeline`, `join:project`, `leave:project` with an id; each may be acknowledged with
/// `{ok, error?: {code, message}}`. Each event has one argument, `{type, data, …}` with the fields of `data` once more
/// beside it: `pipeline:*` and `project:*` to the organization; `execution:started`, `:progress`, `:completed`,
/// `:failed` to who started it and to the pipeline's room; `user:joined` and `user:left` to the others in the room.
#[utoipa::path(
    tag = "executions",
    params(EngineQuery),
    responses(
        (status = 101, description = "The WebSocket is open"),
        (status = 200, description = "Packets of the protocol", body = String, content_type = "text/plain"),
        (status = 400, description = "Not the protocol"),
    ),
)]
#[get("/socket.io")]
pub(crate) async fn open_socket_io(
    request: HttpRequest,
    body: web::Payload,
    state: web::Data<State>,
    socket_io: web::Data<SocketIo>,
    query: web::Query<EngineQuery>,
) -> Result<HttpResponse, ApiError> {
    let query = query.into_inner();
    let asked = Asked::read(&query, &socket_io.ended)?;
    let session = match asked.sid {
        Some(_) => Session::new(None, None, &socket_io.ended),
        None => {
            let shown = query.token.as_deref().map(handshake::shown).or_else(|| Shown::of(&request));
            let place = socket_io.waiting.enter(client_ip(&request)).ok_or_else(crowded)?;
            Session::new(shown, Some(place), &socket_io.ended)
        }
    };
    let session = Arc::new(session);
    if asked.websocket {
        return websocket::open(&request, body, &state, &socket_io, &asked, session).await;
    }
    let asked = asked.request(Method::GET, Bytes::new(), &session).map_err(internal)?;
    let mut engine = socket_io.engine.clone();
    tokio::select! {
        answer = engine.call(asked) => finish(answer).await,
        // the engine says goodbye to those that it knows
        () = stopped(&state) => Err(ApiError::unavailable("The server stops; connect again", 1)),
    }
}

/// Send by polling
///
/// Packets of a session of Socket.IO that has no WebSocket; made by its client library.
#[utoipa::path(
    tag = "executions",
    params(EngineQuery),
    request_body(content = String, content_type = "text/plain"),
    responses(
        (status = 200, description = "Received", body = String, content_type = "text/plain"),
        (status = 400, description = "Not the protocol"),
    ),
)]
#[post("/socket.io")]
pub(crate) async fn send_to_socket_io(
    request: HttpRequest,
    body: web::Payload,
    socket_io: web::Data<SocketIo>,
    query: web::Query<EngineQuery>,
) -> Result<HttpResponse, ApiError> {
    let asked = Asked::read(&query, &socket_io.ended)?;
    if asked.sid.is_none() || asked.websocket {
        return Err(not_the_protocol("Bad handshake method"));
    }
    let body = read(body.into_inner(), MAX_PAYLOAD).await?.freeze();
    let session = Arc::new(Session::new(None, None, &socket_io.ended));
    let mut asked = asked.request(Method::POST, body, &session).map_err(internal)?;
    if let Some(Ok(value)) = request.headers().get(CONTENT_TYPE).map(|value| value.as_bytes().try_into()) {
        asked.headers_mut().insert(hyper::header::CONTENT_TYPE, value);
    }
    finish(socket_io.engine.clone().call(asked).await).await
}

/// A request that the engine may see: nothing of it is taken over unread.
pub(super) struct Asked {
    websocket: bool,
    pub(super) sid: Option<Sid>,
}

impl Asked {
    fn read(query: &EngineQuery, ended: &Ended) -> Result<Self, ApiError> {
        let websocket = match query.transport.as_deref() {
            Some("polling") => false,
            Some("websocket") => true,
            Some(_) | None => return Err(not_the_protocol("Transport unknown")),
        };
        if query.eio.as_deref() != Some("4") {
            return Err(not_the_protocol("Unsupported protocol version"));
        }
        let unknown = || not_the_protocol("Session ID unknown");
        let sid = query.sid.as_deref().map(|sid| sid.parse::<Sid>().map_err(|_| unknown())).transpose()?;
        if sid.is_some_and(|sid| ended.contains(sid)) {
            return Err(unknown());
        }
        Ok(Self { websocket, sid })
    }

    pub(super) fn uri(&self) -> String {
        let transport = if self.websocket { "websocket" } else { "polling" };
        let sid = self.sid.map(|sid| format!("&sid={sid}")).unwrap_or_default();
        format!("/socket.io/?EIO=4&transport={transport}{sid}")
    }

    fn request(
        &self,
        method: Method,
        body: Bytes,
        session: &Arc<Session>,
    ) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
        let request = Request::builder().method(method).uri(self.uri()).extension(Arc::clone(session));
        request.body(Full::new(body))
    }
}

/// The answer of the engine to a request that is no WebSocket.
pub(super) async fn finish<B>(answer: Result<Response<B>, Infallible>) -> Result<HttpResponse, ApiError>
where
    B: Body<Data = Bytes>,
    B::Error: Display,
{
    let Ok(answer) = answer;
    let status = answer.status();
    let content_type = answer.headers().get(hyper::header::CONTENT_TYPE).cloned();
    let body = answer.into_body().collect().await.map_err(internal)?.to_bytes();
    if !status.is_success() {
        let said = serde_json::from_slice::<serde_json::Value>(&body).unwrap_or_default();
        return Err(not_the_protocol(said["message"].as_str().unwrap_or("Bad request")));
    }
    let mut response = HttpResponse::Ok();
    if let Some(value) = content_type {
        response.insert_header((CONTENT_TYPE, value.as_bytes()));
    }
    Ok(response.insert_header((CACHE_CONTROL, "no-store")).body(body))
}

/// Waits until the process stops and the last word was said.
pub(super) async fn stopped(state: &State) {
    state.shutdown.cancelled().await;
    time::sleep(LAST_WORD).await;
}

pub(super) fn not_the_protocol(why: &str) -> ApiError {
    ApiError::new(Code::Validation, format!("{why}; connect with a client of Socket.IO, protocol 5"))
}

fn crowded() -> ApiError {
    ApiError::new(Code::RateLimited, "Too many clients wait to be let in; try again").with_retry_after(2)
}

pub(super) fn internal(error: impl Display) -> ApiError {
    ApiError::internal(anyhow::anyhow!("the way to Socket.IO is broken: {error}"))
}
