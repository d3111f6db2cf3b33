//! A client of the API, as small as a user's own would be.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Method, Response, StatusCode, Url, header};
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
        self.call(Method::GET, path, None).await
    }

    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> anyhow::Result<T> {
        self.call(Method::POST, path, Some(body)).await
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

    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<T> {
        let address = self.base.join(&format!("/api/v1{path}"))?;
        let mut request = self.http.request(method.clone(), address);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let asked = || format!("{method} /api/v1{path}");
        let answer = request.send().await.with_context(asked)?;
        let answer = succeeded(answer).await.with_context(asked)?;
        answer.json().await.with_context(asked)
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
