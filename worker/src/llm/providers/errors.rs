//! What went wrong with a call: the library's errors in our terms. Nothing here repeats a prompt or a key.

use super::super::{ErrorKind, LlmError};
use chrono::{DateTime, Utc};
use genai::{Error, webc};
use reqwest::header::HeaderMap;
use serde_json::Value;
use std::time::{Duration, SystemTime};

/// A provider is not waited for longer than this, whatever it says.
const LONGEST_REST: Duration = Duration::from_secs(600);

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

/// When the provider wants to be asked again: what it says outright, else when the limit that is used up is reset.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
    let outright = text("retry-after-ms")
        .and_then(|value| Duration::try_from_secs_f64(value.parse::<f64>().ok()? / 1000.0).ok())
        .or_else(|| text("retry-after").and_then(seconds_or_date));
    let reset = || {
        let used_up = |remaining: &str| text(remaining) == Some("0");
        ["requests", "tokens"]
            .into_iter()
            .filter_map(|what| {
                if used_up(&format!("x-ratelimit-remaining-{what}")) {
                    return text(&format!("x-ratelimit-reset-{what}")).and_then(span);
                }
                if used_up(&format!("anthropic-ratelimit-{what}-remaining")) {
                    return text(&format!("anthropic-ratelimit-{what}-reset")).and_then(until);
                }
                None
            })
            .max()
    };
    outright.or_else(reset).map(|rest| rest.min(LONGEST_REST))
}

fn seconds_or_date(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    // a date that has passed: at once
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

fn until(date: &str) -> Option<Duration> {
    let date: DateTime<Utc> = date.parse().ok()?;
    Some((date - Utc::now()).to_std().unwrap_or_default())
}

/// `6m0s`, `1.5s`, `120ms`; a bare number is seconds.
fn span(text: &str) -> Option<Duration> {
    let (mut total, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let seconds = match unit {
            "ms" => 0.001,
            "s" | "" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = tail;
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(total).ok()).flatten()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    fn rest(headers: &[(&'static str, &str)]) -> Option<Duration> {
        retry_after(&headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect())
    }

    #[test]
    fn a_provider_names_its_rest_in_many_ways() {
        assert_eq!(rest(&[]), None);
        assert_eq!(rest(&[("retry-after", "2")]), Some(Duration::from_secs(2)));
        assert_eq!(rest(&[("retry-after", "2"), ("retry-after-ms", "1500")]), Some(Duration::from_millis(1500)));
        assert_eq!(rest(&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")]), Some(Duration::ZERO));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        assert!((90..=100).contains(&rest(&[("retry-after", &soon)]).unwrap().as_secs()));
        assert_eq!(rest(&[("retry-after", "soon")]), None);
        assert_eq!(rest(&[("retry-after", "-3")]), None);
        assert_eq!(rest(&[("retry-after", "1e300")]), None);
        assert_eq!(rest(&[("retry-after", "99999")]), Some(LONGEST_REST));
    }

    #[test]
    fn a_limit_that_is_used_up_says_when_it_is_reset() {
        let limit =
            |left, reset| rest(&[("x-ratelimit-remaining-requests", left), ("x-ratelimit-reset-requests", reset)]);
        assert_eq!(limit("0", "120ms"), Some(Duration::from_millis(120)));
        assert_eq!(limit("0", "6m0s"), Some(Duration::from_secs(360)));
        assert_eq!(limit("0", "1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(limit("0", "never"), None);
        assert_eq!(limit("0", ""), None);
        assert_eq!(limit("5", "120ms"), None);
        let soon = (Utc::now() + Duration::from_secs(50)).to_rfc3339();
        let of_anthropic =
            rest(&[("anthropic-ratelimit-tokens-remaining", "0"), ("anthropic-ratelimit-tokens-reset", &soon)]);
        assert!((40..=50).contains(&of_anthropic.unwrap().as_secs()));
    }

    #[test]
    fn an_account_without_money_is_not_a_provider_that_wants_rest() {
        let headers = HeaderMap::new();
        let body = r#"{"error":{"message":"You exceeded your current quota","code":"insufficient_quota"}}"#;
        let error = from_reply(&Reply { status: 429, headers: &headers, body }, "openai");
        assert_eq!(error.kind, ErrorKind::Auth);
        assert_eq!(error.message, "openai answered 429: You exceeded your current quota");
    }
}
