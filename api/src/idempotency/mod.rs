//! Requests with an `Idempotency-Key`: the work is done once, and the answer is given again.
//!
//! Before its work a request claims the key in a row of its own ([`IdempotencyKey::claim`]). [`once`] notes in the
//! transaction of the work that the work is done, and undoes it if the key was lost in between. The answer is kept at the
//! end, sealed with the key itself (`answer`). A process that dies leaves a claim that another request takes over, or the
//! note that the work was done, and then it is never done again.
//!
//! Whoever is nobody yet (register, login, refresh) has no keys: those answers hold tokens.

mod answer;
mod body;
mod relay;

use crate::{
    auth::{Caller, admission},
    edge::{self, RequestId},
    error::ApiError,
    rules::Who,
    state::State,
};
use actix_web::{
    Error, HttpMessage, HttpRequest, HttpResponse,
    body::{BodySize, BoxBody, MessageBody, to_bytes},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{CONTENT_TYPE, HeaderName, HeaderValue},
    },
    middleware::Next,
    web::{self, Bytes},
};
use answer::{Kept, Seal};
use body::SentBody;
use diesel_async::{AsyncConnection, AsyncPgConnection, TransactionManager};
use relay::Relay;
use sha2::{Digest, Sha256};
use shared::models::{Claimed, IdempotencyKey};
use std::{cell::Cell, rc::Rc};
use tokio::{sync::oneshot, task_local};
use tracing::Instrument;
use uuid::Uuid;

/// Where clients send the key.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Marks an answer that was given before.
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Longest key.
pub(crate) const LONGEST_KEY: usize = 255;

/// Longest path; no route has one that long, and the index over the keys takes no longer ones.
const LONGEST_PATH: usize = 512;

/// Largest answer that is kept, in bytes.
const LARGEST_ANSWER: usize = 8 << 20;

type Transactions = <AsyncPgConnection as AsyncConnection>::TransactionManager;

task_local! {
    /// What the request that is being answered by this task holds.
    static HELD: Held;
}

/// A claimed key.
#[derive(Clone)]
struct Held {
    key: IdempotencyKey,
    /// The work may be done, and may not be: the connection broke at the commit.
    is_doubtful: Rc<Cell<bool>>,
}

/// Does the work of a POST in one transaction, and at most once for its `Idempotency-Key`.
///
/// Every handler of a POST that changes something does so in here. What is sent elsewhere (hints, notices) is sent after it.
///
/// # Errors
/// Those of the work; 409 if another request has taken the key over meanwhile.
pub(crate) async fn once<R>(
    conn: &mut AsyncPgConnection,
    work: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<R, ApiError>,
) -> Result<R, ApiError> {
    let held = HELD.try_with(Clone::clone).ok();
    Transactions::begin_transaction(conn).await?;
    // last, so that others who come with the key wait for the end of a commit and not for the work
    let worked = match work(conn).await {
        Ok(done) => note(conn, held.as_ref()).await.map(|()| done),
        Err(error) => Err(error),
    };
    match worked {
        Ok(done) => {
            if let Err(error) = Transactions::commit_transaction(conn).await {
                if let Some(held) = held {
                    held.is_doubtful.set(true);
                }
                return Err(error.into());
            }
            Ok(done)
        }
        Err(error) => {
            // a connection on which this fails is broken, and is not used again
            let _ = Transactions::rollback_transaction(conn).await;
            Err(error)
        }
    }
}

async fn note(conn: &mut AsyncPgConnection, held: Option<&Held>) -> Result<(), ApiError> {
    match held {
        Some(held) if !held.key.commit(conn).await? => Err(busy()),
        Some(_) | None => Ok(()),
    }
}

/// The layer that answers repeated requests. It comes after the one that lets requests in.
pub(crate) async fn idempotent(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let wanted = match Wanted::of(&request) {
        Ok(Some(wanted)) => wanted,
        Ok(None) => return Ok(next.call(request).await?.map_into_boxed_body()),
        Err(error) => return Ok(request.error_response(error)),
    };
    let (done, answered) = oneshot::channel();
    let tasks = wanted.state.requests.clone();
    // a task of its own: a client that tires of waiting, and asks again, is to find the answer
    let work = async move {
        // nobody may be left to hear of it
        let _ = done.send(wanted.serve(request, next).await);
    };
    tasks.spawn_local(work.in_current_span());
    answered.await.map_err(|_| ApiError::internal(anyhow::anyhow!("a request was given up on its way")))?
}

/// A request with a key.
struct Wanted {
    state: web::Data<State>,
    key: IdempotencyKey,
    seal: Seal,
    request_id: String,
}

impl Wanted {
    /// `None`: the request has no key, or none that counts.
    fn of(request: &ServiceRequest) -> Result<Option<Self>, ApiError> {
        if request.method() != Method::POST || request.path().len() > LONGEST_PATH {
            return Ok(None);
        }
        // their answers hold tokens, whoever else the request says it is from
        if admission::rule(request).is_none_or(|rule| rule.who == Who::Anyone) {
            return Ok(None);
        }
        let extensions = request.extensions();
        let (Some(caller), Some(state)) = (extensions.get::<Caller>(), request.app_data::<web::Data<State>>()) else {
            return Ok(None);
        };
        let mut sent = request.headers().get_all(IDEMPOTENCY_KEY);
        let Some(text) = sent.next() else { return Ok(None) };
        let text = text.as_bytes();
        if sent.next().is_some() || !is_key(text) {
            let message = format!("must be sent once, with 1 to {LONGEST_KEY} visible ASCII characters");
            return Err(ApiError::invalid_field("Idempotency-Key", message));
        }
        let key = IdempotencyKey {
            user_id: caller.user_id,
            route: format!("POST {}", request.path()),
            hash: Sha256::digest(text).to_vec(),
            owner: Uuid::new_v4(),
        };
        let seal = Seal::new(state.config.jwt_secret.expose().as_bytes(), &key, text);
        let request_id = extensions.get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
        Ok(Some(Self { state: state.clone(), key, seal, request_id }))
    }

    async fn serve(
        self,
        request: ServiceRequest,
        next: Next<impl MessageBody + 'static>,
    ) -> Result<ServiceResponse<BoxBody>, Error> {
        let claim = async { Ok::<_, ApiError>(self.key.claim(&mut *self.state.conn().await?).await?) };
        match claim.await {
            Ok(Claimed::Ours) => self.answer(request, next).await,
            Ok(Claimed::Answered { body_hash, answer }) => Ok(self.replay(request, body_hash, answer).await),
            Ok(Claimed::Busy) => Ok(request.error_response(busy())),
            Ok(Claimed::Lost) => Ok(request.error_response(lost())),
            Err(error) => Ok(request.error_response(error)),
        }
    }

    /// Has the request answered, and keeps the answer.
    async fn answer(
        self,
        mut request: ServiceRequest,
        next: Next<impl MessageBody + 'static>,
    ) -> Result<ServiceResponse<BoxBody>, Error> {
        let body = SentBody::of(&mut request);
        let held = Held { key: self.key.clone(), is_doubtful: Rc::default() };
        let called = HELD.scope(held.clone(), next.call(request)).await;
        let (request, response) = match called {
            Ok(response) => response.map_into_boxed_body().into_parts(),
            Err(error) => {
                self.forget(&held).await;
                return Err(error);
            }
        };
        // it is kept as it is sent, and its form is given to an error by whoever sends it
        let response = match response.error() {
            Some(error) => edge::render(error, &self.request_id),
            None => response,
        };
        let body_hash = body.finish().await;
        let status = response.status();
        let lasts = status.is_success() || (status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS);
        // what came of a body that was not read says nothing about the next one
        if !lasts || (body_hash.is_none() && !status.is_success()) {
            self.forget(&held).await;
            return Ok(ServiceResponse::new(request, response));
        }
        if response.body().size() == BodySize::Stream {
            let response = Relay::begin(self, body_hash, response);
            return Ok(ServiceResponse::new(request, response));
        }
        self.keep_whole(request, response, body_hash).await
    }

    async fn keep_whole(
        self,
        request: HttpRequest,
        response: HttpResponse,
        body_hash: Option<Vec<u8>>,
    ) -> Result<ServiceResponse<BoxBody>, Error> {
        let (head, body) = response.into_parts();
        let body = to_bytes(body).await.unwrap_or_default();
        self.keep(&Kept::new(&head, &self.request_id), body_hash.as_deref(), &body).await;
        Ok(ServiceResponse::new(request, head.set_body(body).map_into_boxed_body()))
    }

    /// Keeps an answer. If that fails, a repetition hears that the work was done.
    async fn keep(&self, kept: &Kept, body_hash: Option<&[u8]>, body: &Bytes) {
        if body.len() > LARGEST_ANSWER {
            tracing::warn!(bytes = body.len(), "an answer is too large to be kept for its Idempotency-Key");
            return;
        }
        let keep = async {
            let sealed = self.seal.close(&kept.to_bytes(body)?)?;
            let mut conn = self.state.conn().await.map_err(|error| anyhow::anyhow!("{error}"))?;
            Ok::<_, anyhow::Error>(self.key.answer(&mut conn, body_hash, &sealed).await?)
        };
        if let Err(error) = keep.await {
            tracing::warn!("an answer was not kept for its Idempotency-Key: {error:#}");
        }
    }

    /// Gives the key up, unless it has to stay because the work may have been done.
    async fn forget(&self, held: &Held) {
        if !held.is_doubtful.get() {
            forget(&self.state, &self.key).await;
        }
    }

    /// Gives the first answer again, if it was the answer to this.
    async fn replay(
        self,
        mut request: ServiceRequest,
        body_hash: Option<Vec<u8>>,
        sealed: Vec<u8>,
    ) -> ServiceResponse<BoxBody> {
        if let Some(first) = body_hash {
            let sent = SentBody::of(&mut request).read_all().await;
            match sent {
                Ok(sent) if sent.as_deref() == Some(first.as_slice()) => {}
                Ok(_) => {
                    let message = "This Idempotency-Key was used with another body; send another key with this one";
                    return request.error_response(ApiError::unprocessable(message));
                }
                Err(error) => return request.error_response(error),
            }
        }
        // what was sealed with another secret of the server is lost
        let Some((kept, body)) = self.seal.open(sealed).as_deref().and_then(Kept::from_bytes) else {
            return request.error_response(lost());
        };
        let mut response = kept.response(body);
        response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
        request.into_response(response)
    }
}

/// Gives a key up. If that fails, it is taken over later.
async fn forget(state: &State, key: &IdempotencyKey) {
    let forget = async { Ok::<_, ApiError>(key.forget(&mut *state.conn().await?).await?) };
    if let Err(error) = forget.await {
        tracing::warn!(%error, "an Idempotency-Key was not given up");
    }
}

fn is_key(text: &[u8]) -> bool {
    (1..=LONGEST_KEY).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic)
}

fn is_event_stream(response: &HttpResponse) -> bool {
    response.headers().get(CONTENT_TYPE).is_some_and(|media| media.as_bytes().starts_with(b"text/event-stream"))
}

fn busy() -> ApiError {
    ApiError::conflict("A request with this Idempotency-Key is being answered; try again in a moment")
        .with_retry_after(1)
}

fn lost() -> ApiError {
    ApiError::conflict(
        "The work of this Idempotency-Key was done, but its answer was lost; look for what it made before you send \
         another key",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_short_and_can_be_seen() {
        for (key, good) in [
            ("a", true),
            ("0f8fad5b-d9cb-469f-a165-70867728950e", true),
            ("!~", true),
            ("", false),
            ("two words", false),
            ("tab\t", false),
            ("k\u{e9}y", false),
        ] {
            assert_eq!(is_key(key.as_bytes()), good, "{key:?}");
        }
        assert!(is_key(&[b'k'; 255]) && !is_key(&[b'k'; 256]));
    }
}
