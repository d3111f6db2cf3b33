//! One request of a delivery.

use super::{Leave, Webhooks, schedule::retry_after, sign::signatures};
use crate::outbound::{OutboundError, Outgoing};
use bytes::Bytes;
use chrono::Utc;
use reqwest::{
    Method, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, InvalidHeaderValue, RETRY_AFTER},
};
use shared::models::{Delivery, Tried};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How much of an answer is kept, in bytes.
const KEPT: usize = 4 * 1024;

/// What became of a request.
pub(crate) struct Sent {
    pub(crate) tried: Tried,
    pub(crate) reply: Reply,
}

/// What the receiver said to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply {
    /// 2xx.
    Taken,
    /// 410: nothing is to be sent there any more.
    Gone,
    /// Something else, or nothing. It may have asked for some time.
    Refused(Option<Duration>),
    /// It is not to be asked at all: its address is private, or none.
    Forbidden,
}

impl Webhooks {
    /// Signs a delivery and sends it once. `None`: nothing was sent, since the receiver has too many requests already.
    pub(crate) async fn send(&self, delivery: &Delivery, leave: Option<Leave>) -> Option<Sent> {
        let turn = match &leave {
            Some(leave) => Some(leave.turn().await?),
            None => None,
        };
        let (sent_at, start) = (Utc::now(), Instant::now());
        let outgoing = self.outgoing(delivery, sent_at.timestamp());
        let answer = match outgoing {
            Ok(outgoing) => self.outbound.send_briefly(outgoing, KEPT).await,
            Err(refused) => Err(refused),
        };
        drop(turn);
        let took = start.elapsed();
        if let Some(leave) = leave {
            match &answer {
                Ok(_) => leave.answered(took),
                Err(OutboundError::Timeout | OutboundError::Unreachable(_)) => leave.silent(Instant::now()),
                Err(OutboundError::Refused(_) | OutboundError::TooLong) => {}
            }
        }
        metrics::histogram!("atelier_webhook_request_duration_seconds").record(took);
        let mut tried = Tried {
            sent_at,
            latency_ms: i32::try_from(took.as_millis()).unwrap_or(i32::MAX),
            status: None,
            error: None,
            answer: None,
        };
        let reply = match answer {
            Ok(incoming) => {
                tried.status = Some(incoming.status.as_u16());
                tried.answer =
                    Some(String::from_utf8_lossy(&incoming.body).into_owned()).filter(|body| !body.is_empty());
                let reply = reply(incoming.status, &incoming.headers);
                tried.error = (reply != Reply::Taken).then(|| explanation(incoming.status));
                reply
            }
            Err(error) => {
                tried.error = Some(format!("The receiver was not asked or gave no answer: {error}."));
                if error.is_passing() { Reply::Refused(None) } else { Reply::Forbidden }
            }
        };
        Some(Sent { tried, reply })
    }

    fn outgoing(&self, delivery: &Delivery, timestamp: i64) -> Result<Outgoing, OutboundError> {
        let refused = |what: String| OutboundError::Refused(what);
        let url = Url::parse(delivery.url.as_deref().unwrap_or_default())
            .map_err(|error| refused(format!("the URL cannot be used: {error}")))?;
        let secrets = delivery.secret.as_deref().into_iter().chain(delivery.previous_secret.as_deref());
        let body = Bytes::copy_from_slice(delivery.body.as_bytes());
        let headers = headers(delivery.id, secrets, timestamp, &body).map_err(|error| refused(error.to_string()))?;
        Ok(Outgoing { method: Method::POST, url, headers, body: Some(body), timeout: self.settings.timeout })
    }

    /// Posts JSON to an address that belongs to no webhook, under the same rules and in the same form. `id` is the same at
    /// each try. Returns the status of the answer, whatever it is.
    pub(crate) async fn post(
        &self,
        url: &str,
        id: Uuid,
        secret: Option<&str>,
        body: Bytes,
    ) -> Result<StatusCode, OutboundError> {
        let refused = |what: String| OutboundError::Refused(what);
        let url = Url::parse(url).map_err(|error| refused(format!("the URL cannot be used: {error}")))?;
        let headers = headers(id, secret, Utc::now().timestamp(), &body).map_err(|error| refused(error.to_string()))?;
        let timeout = self.settings.timeout;
        let outgoing = Outgoing { method: Method::POST, url, headers, body: Some(body), timeout };
        Ok(self.outbound.send_briefly(outgoing, 0).await?.status)
    }
}

/// The headers of a delivery with this id. Without secrets it is not signed.
fn headers<'a>(
    id: Uuid,
    secrets: impl IntoIterator<Item = &'a str>,
    timestamp: i64,
    body: &[u8],
) -> Result<HeaderMap, InvalidHeaderValue> {
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(HeaderName::from_static("webhook-id"), HeaderValue::try_from(id.to_string())?);
    headers.insert(HeaderName::from_static("webhook-timestamp"), HeaderValue::from(timestamp));
    let signatures = signatures(secrets, id, timestamp, body);
    if !signatures.is_empty() {
        headers.insert(HeaderName::from_static("webhook-signature"), HeaderValue::try_from(signatures)?);
    }
    Ok(headers)
}

fn reply(status: StatusCode, headers: &HeaderMap) -> Reply {
    if status.is_success() {
        Reply::Taken
    } else if status == StatusCode::GONE {
        Reply::Gone
    } else {
        Reply::Refused(headers.get(RETRY_AFTER).and_then(|value| retry_after(value, Utc::now())))
    }
}

fn explanation(status: StatusCode) -> String {
    if status.is_redirection() {
        format!("The receiver answered {}; redirects are not followed.", status.as_u16())
    } else {
        format!("The receiver answered {}.", status.as_u16())
    }
}
