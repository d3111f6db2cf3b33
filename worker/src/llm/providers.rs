//! Sending calls to providers.

use super::{ErrorKind, LlmError, Request, Said};
use redis::aio::ConnectionManager;
use shared::llm::{Provider, Served};
use std::time::Duration;
use tokio::sync::mpsc;

/// The clients of all providers, and the governor that they share through Redis.
pub(crate) struct Providers {
    _redis: ConnectionManager,
    _prefix: String,
}

/// The governor's leave to send one call. Report to it what became of the call by passing it to [`Providers::send`];
/// dropping it unused gives the leave back.
pub(crate) struct Permit {}

/// The governor says: not now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hold {
    /// When it is worth asking again.
    pub(crate) after: Duration,
    /// For people.
    pub(crate) reason: String,
}

impl Providers {
    pub(crate) fn new(redis: ConnectionManager, prefix: &str) -> Self {
        Self { _redis: redis, _prefix: prefix.to_owned() }
    }

    /// Asks for leave to send one call to a provider. `Err`: it cools down, its circuit is open, or all its calls are
    /// taken; a job parks until then and holds no slot. While Redis is away everybody may send.
    pub(crate) async fn admit(&self, _provider: &Provider) -> Result<Permit, Hold> {
        Ok(Permit {})
    }

    /// Sends one call, once. With `tokens` the answer is streamed, and each piece is sent there as it comes, waiting for
    /// room; when the receiver is gone the call is given up.
    pub(crate) async fn send(
        &self,
        _permit: Permit,
        _served: Served<'_>,
        _request: &Request,
        _tokens: Option<mpsc::Sender<String>>,
    ) -> Result<Said, LlmError> {
        Err(LlmError { kind: ErrorKind::Connect, status: None, retry_after: None, message: "not built".to_owned() })
    }
}
