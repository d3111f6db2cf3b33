//! A client of the API, as small as a user's own would be.

use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::StreamExt;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, header};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub(super) struct Client {
    base: Url,
    http: reqwest::Client,
    token: Option<String>,
}

/// An answer that is no success.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    message: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}", self.status, self.message)
    }
}

impl std::error::Error for Refusal {}

impl Client {
    pub(super) fn new(base: &str) -> anyhow::Result<Self> {
        // Everything is on this machine: a proxy for the outside world would not find it.
        let http = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build()?;
        Ok(Self { base: Url::parse(base)?, http, token: None })
    }

    pub(super) fn with_token(self, token: String) -> Self {
        Self { token: Some(token), ..self }
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.call(Method::GET, path, None, TIMEOUT).await
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> anyhow::Result<T> {
        self.call(Method::POST, path, Some(body), TIMEOUT).await
    }

    /// For requests that wait for the work to be done.
    pub(super) async fn post_patiently<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
        patience: Duration,
    ) -> anyhow::Result<T> {
        self.call(Method::POST, path, Some(body), patience).await
    }

    /// Sends a request whose answer is a stream of events, and gives the data of each to `take` as it arrives.
    pub(super) async fn stream(
        &self,
        path: &str,
        body: &Value,
        patience: Duration,
        mut take: impl FnMut(&str) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        const END: &str = "[DONE]";
        let request = self.request(Method::POST, path, Some(body), patience)?;
        let mut bytes = succeeded(request.send().await?).await?.bytes_stream();
        let mut unread = Vec::new();
        while let Some(chunk) = bytes.next().await {
            unread.extend_from_slice(&chunk?);
            while let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = unread.drain(..=end).collect();
                match std::str::from_utf8(&line)?.trim_end().strip_prefix("data:").map(str::trim_start) {
                    Some(END) => return Ok(()),
                    Some(data) => take(data)?,
                    None => {} // an empty line between events, or a sign of life
                }
            }
        }
        bail!("the stream broke off")
    }

    /// Sends the bytes to a presigned URL, which carries its own permission.
    pub(super) async fn put_photo(&self, to: Url, kind: &str, bytes: &'static [u8]) -> anyhow::Result<()> {
        let answer = self.http.put(to).header(header::CONTENT_TYPE, kind).body(bytes).send().await?;
        succeeded(answer).await?;
        Ok(())
    }

    /// The address of the socket that follows a job.
    pub(super) fn socket(&self, job: uuid::Uuid) -> anyhow::Result<Url> {
        let mut address = self.base.join(&format!("/ws/processing/{job}"))?;
        if address.set_scheme("ws").is_err() {
            bail!("{} is no HTTP address", self.base);
        }
        let token = self.token.as_deref().unwrap_or_default();
        address.query_pairs_mut().append_pair("token", token);
        Ok(address)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> anyhow::Result<T> {
        let request = self.request(method.clone(), path, body, patience)?;
        let asked = || format!("{method} /api/v1{path}");
        let answer = request.send().await.with_context(asked)?;
        let answer = succeeded(answer).await.with_context(asked)?;
        answer.json().await.with_context(asked)
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> anyhow::Result<RequestBuilder> {
        let address = self.base.join(&format!("/api/v1{path}"))?;
        let mut request = self.http.request(method, address).timeout(patience);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        Ok(request)
    }
}

async fn succeeded(answer: Response) -> Result<Response, Refusal> {
    #[derive(Deserialize)]
    struct Body {
        error: Error,
    }
    #[derive(Deserialize)]
    struct Error {
        code: String,
        message: String,
        details: Value,
    }
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let text = answer.text().await.unwrap_or_default();
    let message = match serde_json::from_str::<Body>(&text) {
        Ok(Body { error }) => format!("{} {} {}", error.code, error.message, error.details),
        Err(_) => text.chars().take(500).collect(),
    };
    Err(Refusal { status, message })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

    use std::convert::Infallible;

    use http_body_util::StreamBody;
    use hyper::body::{Bytes, Frame};
    use serde_json::json;

    use super::*;
    use crate::services::{http, ports};

    /// What a client takes from a stream that arrives in these chunks.
    async fn taken(chunks: &'static [&'static str]) -> (Vec<String>, anyhow::Result<()>) {
        let listener = http::listener(ports::listen(None).unwrap()).unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let frames =
            || chunks.iter().map(|chunk| Ok::<_, Infallible>(Frame::data(Bytes::from_static(chunk.as_bytes()))));
        let answer = move |_| {
            let body = StreamBody::new(futures_util::stream::iter(frames()));
            std::future::ready(Ok::<_, Infallible>(hyper::Response::new(body)))
        };
        let mut data = Vec::new();
        let client = Client::new(&base).unwrap();
        let body = json!({});
        let reading = client.stream("/ai/chat", &body, TIMEOUT, |piece| {
            data.push(piece.to_owned());
            Ok(())
        });
        let outcome = tokio::select! {
            outcome = reading => outcome,
            () = http::serve(listener, answer) => unreachable!("it serves until it is dropped"),
        };
        (data, outcome)
    }

    #[tokio::test]
    async fn a_stream_is_read_event_by_event_wherever_its_chunks_end() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (data, outcome) =
            taken(&["data: {\"a\":1}\n\nda", "ta: 2\r\n\r\n: still here\n\ndata:3\n\ndata: [DO", "NE]\n\n"]).await;
        outcome.unwrap();
        assert_eq!(data, [r#"{"a":1}"#, "2", "3"]);
    }

    #[tokio::test]
    async fn a_stream_without_its_end_is_an_error() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (data, outcome) = taken(&["data: 1\n\n"]).await;
        assert_eq!(data, ["1"]);
        assert!(outcome.unwrap_err().to_string().contains("broke off"));
    }
}
