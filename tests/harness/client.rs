//! A client as a user would write one.

use futures_util::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::{net::SocketAddr, path::Path, time::Duration};
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

/// Speaks HTTP with one API, with or without a token.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    address: SocketAddr,
    token: Option<String>,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body as JSON, `null` where it is empty or none.
    pub body: Value,
    /// The body as it came.
    pub text: String,
}

/// A registered user.
pub struct Member {
    /// Speaks as this user.
    pub client: Client,
    /// The answer to the registration.
    pub registration: Value,
    /// Address of the account.
    pub email: String,
    /// Password of the account.
    pub password: String,
}

impl Client {
    /// A client without a token.
    pub fn new(address: SocketAddr) -> Self {
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).build().unwrap();
        Self { http, address, token: None }
    }

    /// The same client with this access token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The same client without a token.
    pub fn anonymous(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    /// An absolute URL; a path without a leading `/api`, `/v1` and the like is meant below `/api/v1`.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request to a path as it stands, `/health` say, or `/api/v1/jobs`.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, self.url(path));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap_or_default();
        Answer { status, headers, body: serde_json::from_str(&text).unwrap_or(Value::Null), text }
    }

    /// GET below `/api/v1`.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, &format!("/api/v1{path}"))).await
    }

    /// POST below `/api/v1`.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, &format!("/api/v1{path}")).json(&body)).await
    }

    /// PUT below `/api/v1`.
    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::PUT, &format!("/api/v1{path}")).json(&body)).await
    }

    /// PATCH below `/api/v1`.
    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::PATCH, &format!("/api/v1{path}")).json(&body)).await
    }

    /// DELETE below `/api/v1`.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, &format!("/api/v1{path}"))).await
    }

    /// Uploads bytes to a presigned URL, as a browser would.
    pub async fn upload(&self, url: &str, bytes: Vec<u8>, content_type: &str) -> StatusCode {
        let request = self.http.put(url).header("content-type", content_type).body(bytes);
        request.send().await.unwrap().status()
    }

    /// Opens `/ws/processing/{job}` and collects its frames until the server closes it; with the close code.
    pub async fn follow(&self, job_id: &str, query: &str) -> (Vec<Value>, u16) {
        let token = self.token.as_deref().unwrap_or_default();
        let url = format!("ws://{}/ws/processing/{job_id}?token={token}{query}", self.address);
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let mut frames = Vec::new();
        let mut code = 0;
        while let Some(message) = socket.next().await {
            match message {
                Ok(Message::Text(text)) => frames.push(serde_json::from_str(&text).unwrap()),
                Ok(Message::Close(frame)) => code = frame.map_or(0, |frame| frame.code.into()),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_)) => {}
                Err(_) => break,
            }
        }
        (frames, code)
    }

    /// The access token.
    pub fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }

    /// Host and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Answer {
    /// The body, if the status is the expected one.
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self.body
    }

    /// The error code, if the status is the expected one and the body has the form of an error.
    pub fn error(self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        let error = &self.body["error"];
        for key in ["code", "message", "details", "request_id", "timestamp"] {
            assert!(!error[key].is_null(), "{key} is missing in {}", self.text);
        }
        assert_eq!(error["request_id"].as_str().unwrap(), self.headers["x-request-id"].to_str().unwrap());
        error["code"].as_str().unwrap().to_owned()
    }
}

impl Member {
    /// Registers somebody new.
    pub async fn register(client: &Client) -> Self {
        let email = format!("{}@example.com", Uuid::new_v4().simple());
        let password = "correct horse 1".to_owned();
        let answer = client.post("/auth/register", json!({ "email": email, "password": password })).await;
        let registration = answer.expect(201);
        let token = registration["access_token"].as_str().unwrap();
        Self { client: client.with_token(token), registration, email, password }
    }

    /// Makes a product and returns its id.
    pub async fn product(&self, title: &str) -> String {
        let product = self.client.post("/products", json!({ "title": title })).await.expect(201);
        product["id"].as_str().unwrap().to_owned()
    }

    /// Uploads an image by presigned URL, without confirming it; returns its id.
    pub async fn uploaded_image(&self, product_id: &str, file: &Path, content_type: &str) -> String {
        let bytes = std::fs::read(file).unwrap();
        let request = json!({
            "product_id": product_id,
            "filename": file.file_name().unwrap().to_str().unwrap(),
            "content_type": content_type,
            "file_size_bytes": bytes.len(),
        });
        let announced = self.client.post("/uploads/presigned-url", request).await.expect(200);
        let url = announced["upload_url"].as_str().unwrap();
        assert_eq!(self.client.upload(url, bytes, content_type).await, StatusCode::OK);
        announced["image_id"].as_str().unwrap().to_owned()
    }

    /// Uploads and confirms an image; returns its id and the job's.
    pub async fn analysed_image(&self, product_id: &str, file: &Path, content_type: &str) -> (String, String) {
        let image_id = self.uploaded_image(product_id, file, content_type).await;
        let confirmed = self.client.post("/uploads/confirm", json!({ "image_id": image_id })).await.expect(200);
        (image_id, confirmed["job_id"].as_str().unwrap().to_owned())
    }
}
