//! Answers that come in pieces: event streams and sockets, read one piece after another.

use crate::Client;
use bytes::Bytes;
use futures_util::{SinkExt, Stream, StreamExt};
use reqwest::Method;
use serde_json::Value;
use std::pin::Pin;
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

/// The events of a response that is one stream of them.
pub struct Events {
    bytes: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>>>>,
    unread: String,
}

impl Events {
    /// Posts to `/ai/chat` what asks for a stream.
    pub async fn open(client: &Client, body: Value) -> Self {
        let response = client.request(Method::POST, "/api/v1/ai/chat").json(&body).send().await.unwrap();
        assert_eq!(response.status().as_u16(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert!(response.headers().get("content-encoding").is_none());
        Self { bytes: Box::pin(response.bytes_stream()), unread: String::new() }
    }

    /// The data of the next event; none at the end of the response.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.unread.split_once("\n\n") {
                let event = event.to_owned();
                self.unread = rest.to_owned();
                if let Some(data) = event.strip_prefix("data: ") {
                    return Some(data.to_owned());
                }
                continue;
            }
            let bytes = self.bytes.next().await?.ok()?;
            self.unread.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }

    /// The data of the next event as JSON.
    pub async fn chunk(&mut self) -> Value {
        serde_json::from_str(&self.next().await.unwrap()).unwrap()
    }
}

/// One open socket.
pub struct Socket(pub WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// Opens a path, which has its token with it, or none.
    pub async fn open(client: &Client, path: &str) -> Self {
        let url = format!("ws://{}{path}", client.address());
        Self(tokio_tungstenite::connect_async(url).await.unwrap().0)
    }

    /// Opens a path with the client's token.
    pub async fn enter(client: &Client, path: &str) -> Self {
        Self::open(client, &format!("{path}?token={}", client.token())).await
    }

    /// Sends a frame.
    pub async fn send(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// The next frame, or the close code.
    pub async fn next(&mut self) -> Result<Value, u16> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => return Err(frame.map_or(0, |frame| frame.code.into())),
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_))) => {}
                Some(Err(_)) | None => return Err(0),
            }
        }
    }

    /// The next frame, if the socket is open.
    pub async fn frame(&mut self) -> Value {
        self.next().await.unwrap()
    }
}
