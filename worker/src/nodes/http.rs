//! `http`: an answer of somebody else's server.

use super::{
    Trouble,
    output::Output,
    scope::{Arrived, Scope},
    template,
};
use crate::outbound::{OutboundError, Outgoing, is_reserved};
use bytes::Bytes;
use reqwest::{
    Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::{Value, json};
use shared::pipeline::{Http, Method, Node};
use std::time::Duration;

/// How long an exchange may take if the settings do not say.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn run(
    scope: &Scope<'_>,
    name: &str,
    node: &Node,
    config: &Http,
    arrived: &Arrived,
) -> Result<Output, Trouble> {
    let url = template::render(scope, arrived, config.url.as_deref().unwrap_or_default())?;
    let url = Url::parse(url.trim()).map_err(|error| Trouble::lasting(format!("The URL cannot be used: {error}")))?;
    let body = config.body.as_deref().map(|source| template::render(scope, arrived, source)).transpose()?;
    let outgoing = Outgoing {
        method: method(config),
        url,
        headers: headers(scope, name, config, body.as_deref(), arrived)?,
        body: body.map(Bytes::from),
        // where the node has its own limit, that one ends the exchange, and says so
        timeout: node.settings.timeout_seconds.map_or(PATIENCE, |seconds| Duration::from_secs(seconds + 1)),
    };
    let incoming = scope.run.context.outbound.send(outgoing).await.map_err(of_outbound)?;
    let status = incoming.status.as_u16();
    let expected = config.expect_status.map_or((200..300).contains(&status), |expected| expected == status);
    let text = String::from_utf8_lossy(&incoming.body).into_owned();
    if !expected {
        // a server in trouble may recover; one that does not like the request will not
        let passing = status >= 500 || matches!(status, 408 | 425 | 429);
        let message =
            format!("The server answered {status}: {}", super::preview(&text).chars().take(200).collect::<String>());
        return Err(Trouble::flaw("node_failed", message, passing));
    }
    let content_type = incoming.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let json: Option<Value> = if content_type.contains("json") { serde_json::from_str(&text).ok() } else { None };
    let mut output = Output { json, ..Output::text(text) };
    output.metadata.insert("status".to_owned(), json!(status));
    output.metadata.insert("content_type".to_owned(), json!(content_type));
    Ok(output)
}

fn method(config: &Http) -> reqwest::Method {
    match config.method {
        Some(Method::Get) => reqwest::Method::GET,
        Some(Method::Post) => reqwest::Method::POST,
        Some(Method::Put) => reqwest::Method::PUT,
        Some(Method::Patch) => reqwest::Method::PATCH,
        Some(Method::Delete) => reqwest::Method::DELETE,
        None if config.body.is_some() => reqwest::Method::POST,
        None => reqwest::Method::GET,
    }
}

fn headers(
    scope: &Scope<'_>,
    name: &str,
    config: &Http,
    body: Option<&str>,
    arrived: &Arrived,
) -> Result<HeaderMap, Trouble> {
    let mut headers = HeaderMap::new();
    // the same in every attempt, so that a receiver can tell a repetition
    let key = format!("{}/{name}", scope.run.reporter.job_id);
    if let Ok(key) = HeaderValue::from_str(&key) {
        headers.insert(HeaderName::from_static("idempotency-key"), key);
    }
    if body.is_some_and(|body| serde_json::from_str::<serde::de::IgnoredAny>(body).is_ok()) {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    for (name, source) in &config.headers {
        let value = template::render(scope, arrived, source)?;
        let parsed = (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value.trim()));
        let (Ok(header), Ok(value)) = parsed else {
            return Err(Trouble::lasting(format!("The header {name} cannot be sent.")));
        };
        if is_reserved(&header) {
            return Err(Trouble::lasting(format!("The header {name} belongs to the connection.")));
        }
        headers.insert(header, value);
    }
    Ok(headers)
}

fn of_outbound(error: OutboundError) -> Trouble {
    let message = format!("The request came to nothing: {error}.");
    if error.is_passing() { Trouble::passing(message) } else { Trouble::lasting(message) }
}
