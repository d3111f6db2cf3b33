//! What all WebSockets have in common: how frames go out and come in, and the codes they are closed with.

use crate::error::{ApiError, Code};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, ProtocolError, Session};
use serde::Serialize;
use std::{
    pin::pin,
    time::{Duration, Instant},
};
use tokio::time;

/// How often the client is asked whether it is there.
pub(super) const PING: Duration = Duration::from_secs(20);

/// After this long without a word the client is gone.
const SILENCE: Duration = Duration::from_secs(60);

/// How long one frame may wait for a slow client.
const SEND: Duration = Duration::from_secs(5);

/// Why the server closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// Everything was sent.
    Done,
    /// The server stops; connect again.
    GoingAway,
    /// A message is larger than is taken.
    TooBig,
    /// Something is wrong with us; connect again.
    TryAgain,
    /// No valid token.
    Unauthenticated,
    /// Not the caller's, or not there.
    Denied,
    /// The client did not read what was sent.
    TooSlow,
    /// Too many sockets of this user.
    TooMany,
}

impl Close {
    fn reason(self) -> CloseReason {
        let (code, description) = match self {
            Self::Done => (1000, "done"),
            Self::GoingAway => (1001, "the server stops; connect again"),
            Self::TooBig => (1009, "the message is too large"),
            Self::TryAgain => (1013, "try again in a moment"),
            Self::Unauthenticated => (4001, "invalid or missing token"),
            Self::Denied => (4003, "access denied"),
            Self::TooSlow => (4008, "too slow; connect again"),
            Self::TooMany => (4029, "too many open sockets"),
        };
        CloseReason { code: CloseCode::from(code), description: Some(description.to_owned()) }
    }
}

/// The client is not there any more, or is to be told why it is left.
pub(super) type Ended = Option<Close>;

/// What a client said.
#[derive(Debug)]
pub(super) enum Heard {
    /// A whole message.
    Text(String),
    /// Bytes, which no socket of ours takes.
    Binary,
    /// A sign of life.
    Nothing,
    /// Its last word.
    End(Ended),
}

/// A plain request for what is a WebSocket only.
pub(super) fn not_a_socket(error: actix_web::Error) -> ApiError {
    ApiError::new(Code::Validation, format!("This is a WebSocket; connect with a WebSocket client ({error})"))
}

/// One client. Where its methods return an `Option`, `Some` means that there is nothing more to do for it.
pub(super) struct Socket {
    session: Session,
    stream: AggregatedMessageStream,
    heard: Instant,
}

impl Socket {
    /// A client whose handshake was accepted.
    pub(super) fn new(session: Session, stream: AggregatedMessageStream) -> Self {
        Self { session, stream, heard: Instant::now() }
    }

    /// Sends one frame.
    pub(super) async fn send(&mut self, frame: &impl Serialize) -> Option<Ended> {
        let text = match serde_json::to_string(frame) {
            Ok(text) => text,
            Err(error) => {
                tracing::error!(%error, "a frame cannot be written as JSON");
                return Some(Some(Close::TryAgain));
            }
        };
        match time::timeout(SEND, self.session.text(text)).await {
            Ok(Ok(())) => None,
            Ok(Err(_)) => Some(None),
            Err(_) => Some(Some(Close::TooSlow)),
        }
    }

    /// Waits for a word of the client.
    pub(super) async fn hear(&mut self) -> Heard {
        let message = self.stream.recv().await;
        self.heard = Instant::now();
        match message {
            Some(Ok(AggregatedMessage::Ping(payload))) => {
                let pong = time::timeout(SEND, self.session.pong(&payload)).await;
                if matches!(pong, Ok(Ok(()))) { Heard::Nothing } else { Heard::End(None) }
            }
            Some(Ok(AggregatedMessage::Text(text))) => Heard::Text(text.to_string()),
            Some(Ok(AggregatedMessage::Binary(_))) => Heard::Binary,
            Some(Ok(AggregatedMessage::Pong(_))) => Heard::Nothing,
            Some(Err(ProtocolError::Overflow)) => Heard::End(Some(Close::TooBig)),
            Some(Ok(AggregatedMessage::Close(_)) | Err(_)) | None => Heard::End(None),
        }
    }

    /// Asks whether the client is there, and gives it up if it has not answered for long.
    pub(super) async fn ping(&mut self) -> Option<Ended> {
        if self.heard.elapsed() > SILENCE {
            return Some(None);
        }
        let sent = time::timeout(SEND, self.session.ping(b"")).await;
        if matches!(sent, Ok(Ok(()))) { None } else { Some(None) }
    }

    /// Says why, if there is a why, and lets the client answer, so that the last frames are read before the connection
    /// is gone.
    pub(super) async fn close(mut self, ended: Ended) {
        let reason = ended.map(Close::reason);
        if !matches!(time::timeout(SEND, self.session.close(reason)).await, Ok(Ok(()))) || ended.is_none() {
            return;
        }
        let answer = async {
            while let Some(Ok(message)) = self.stream.recv().await {
                if matches!(message, AggregatedMessage::Close(_)) {
                    break;
                }
            }
        };
        let _ = time::timeout(SEND, pin!(answer)).await;
    }
}
