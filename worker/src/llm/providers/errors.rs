//! What went wrong with a call: the library's errors in our terms. Nothing here repeats a prompt or a key.

use super::{
    super::{ErrorKind, LlmError},
    limits::retry_after,
};
use genai::{Error, webc};
use reqwest::header::HeaderMap;
use serde_json::Value;

/// Characters of a provider's message that are kept.
const KEPT: usize = 300;

/// What the provider said with its status.
struct Reply<'a> {
    status: u16,
    headers: &'a HeaderMap,
    body: &'a str,
}

/// An error in our terms. The key is cut out of whatever the provider says.
pub(super) fn classify(error: &Error, provider: &str, key: Option<&str>) -> LlmError {
    let mut told = match reply(error) {
        Some(reply) => from_reply(&reply, provider),
        None => without_reply(error, provider),
    };
    if let Some(key) = key.filter(|key| !key.is_empty()) {
        told.message = told.message.replace(key, "•••");
    }
    told.message = told.message.chars().take(KEPT).collect();
    told
}

/// An error that we found ourselves.
pub(super) fn own(kind: ErrorKind, message: String) -> LlmError {
    LlmError { kind, status: None, retry_after: None, message }
}

/// The provider's answer, wherever the library put it: in a stream it is boxed inside another error.
fn reply(error: &Error) -> Option<Reply<'_>> {
    if let Error::WebStream { error, .. } = error {
        return reply(error.downcast_ref::<Error>()?);
    }
    if let Error::HttpError { status, body, headers, .. }
    | Error::WebModelCall { webc_error: webc::Error::ResponseFailedStatus { status, body, headers }, .. } = error
    {
        return Some(Reply { status: status.as_u16(), headers, body });
    }
    None
}

fn from_reply(reply: &Reply<'_>, provider: &str) -> LlmError {
    let body: Value = serde_json::from_str(reply.body).unwrap_or(Value::Null);
    let said = said(&body);
    let kind = match reply.status {
        // no rest helps against an account without money
        429 if code(&body) == Some("insufficient_quota") => ErrorKind::Auth,
        429 => ErrorKind::RateLimited,
        503 | 529 => ErrorKind::Overloaded,
        401 | 403 => ErrorKind::Auth,
        404 => ErrorKind::NotFound,
        408 | 504 => ErrorKind::Timeout,
        500..=599 => ErrorKind::Server,
        400..=499 => ErrorKind::BadRequest,
        _ => ErrorKind::BadResponse,
    };
    let message = match said {
        Some(said) => format!("{provider} answered {}: {said}", reply.status),
        None => format!("{provider} answered {}", reply.status),
    };
    LlmError { kind, status: Some(reply.status), retry_after: retry_after(reply.headers), message }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library knows many more ways not to take a request")]
fn without_reply(error: &Error, provider: &str) -> LlmError {
    let (kind, message) = match error {
        Error::WebStream { error, .. } => match error.downcast_ref::<reqwest::Error>() {
            Some(error) => transport(error),
            None if error.is::<webc::StreamTimeout>() => (ErrorKind::Timeout, "went silent".to_owned()),
            None => (ErrorKind::BadResponse, "sent a stream that is none".to_owned()),
        },
        Error::WebModelCall { webc_error: webc::Error::Reqwest(error), .. } => transport(error),
        Error::WebModelCall { webc_error: webc::Error::ResponseFailedNotJson { content_type, .. }, .. } => {
            (ErrorKind::BadResponse, format!("answered 200 with {content_type:?} in place of JSON"))
        }
        Error::WebModelCall { .. } | Error::StreamParse { .. } => {
            (ErrorKind::BadResponse, "sent JSON that is broken".to_owned())
        }
        Error::ChatResponseGeneration { cause, .. } => {
            (ErrorKind::BadResponse, format!("sent an answer that is none: {cause}"))
        }
        Error::ChatResponse { body, .. } => {
            let kind = match code(body) {
                Some("overloaded_error") => ErrorKind::Overloaded,
                Some("rate_limit_error" | "rate_limit_exceeded") => ErrorKind::RateLimited,
                _ => ErrorKind::Server,
            };
            (kind, format!("broke off: {}", said(body).unwrap_or("it did not say why")))
        }
        Error::JsonValueExt(_)
        | Error::SerdeJson(_)
        | Error::InvalidJsonResponseElement { .. }
        | Error::NoChatResponse { .. } => (ErrorKind::BadResponse, "sent JSON without an answer".to_owned()),
        // what is left is about requests that the library does not take
        _ => (ErrorKind::BadRequest, "cannot be asked this".to_owned()),
    };
    own(kind, format!("{provider} {message}"))
}

/// What a connection died of.
pub(super) fn transport(error: &reqwest::Error) -> (ErrorKind, String) {
    if error.is_timeout() && !error.is_connect() {
        (ErrorKind::Timeout, "did not answer in time".to_owned())
    } else if error.is_body() || error.is_decode() {
        (ErrorKind::Truncated, "broke off in its answer".to_owned())
    } else if error.is_connect() {
        (ErrorKind::Connect, "cannot be reached".to_owned())
    } else {
        (ErrorKind::Connect, "hung up before it answered".to_owned())
    }
}

/// `error.message` of both dialects, `error` of Ollama, or the same without the envelope.
fn said(body: &Value) -> Option<&str> {
    body.pointer("/error/message").or_else(|| body.get("message")).or_else(|| body.get("error"))?.as_str()
}

fn code(body: &Value) -> Option<&str> {
    ["/error/code", "/error/type", "/code", "/type"].iter().find_map(|path| body.pointer(path)?.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_without_money_is_not_a_provider_that_wants_rest() {
        let headers = HeaderMap::new();
        let body = r#"{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}"#;
        let error = from_reply(&Reply { status: 429, headers: &headers, body }, "openai");
        assert_eq!(error.kind, ErrorKind::Auth);
        assert_eq!(error.message, "openai answered 429: You exceeded your current quota");
    }
}
