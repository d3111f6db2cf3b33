//! Sending calls to providers.
//!
//! `client` speaks with them, by way of `transport`; `errors` says what went wrong, `limits` what an answer says about the
//! next ones, and `governor` keeps all workers together from asking a provider for more than it gives.

mod client;
mod errors;
mod governor;
mod limits;
mod transport;

use super::{ErrorKind, LlmError, Request, Said};
use client::Client;
use governor::{Governor, Outcome, Verdict};
use redis::aio::ConnectionManager;
use shared::llm::{Provider, Served};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

/// The clients of all providers, and the governor that they share through Redis.
pub struct Providers {
    client: Client,
    governor: Governor,
    /// Leaves that are being given back.
    returns: TaskTracker,
}

/// The governor's leave to send one call. Report to it what became of the call by passing it to [`Providers::send`];
/// dropping it unused gives the leave back.
pub struct Permit {
    /// `None` while Redis is away, and once it is reported.
    lease: Option<governor::Lease>,
    governor: Governor,
    returns: TaskTracker,
}

/// The governor says: not now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// When it is worth asking again. Every caller is told its own time, so that they do not all come back at once.
    pub after: Duration,
    /// For people.
    pub reason: String,
}

impl Providers {
    /// Needs a runtime around it.
    ///
    /// # Errors
    /// When no HTTP client can be built: TLS is not set up, or the temporary folder takes no socket.
    pub fn new(redis: ConnectionManager, prefix: &str) -> anyhow::Result<Self> {
        Ok(Self { client: Client::new()?, governor: Governor::new(redis, prefix), returns: TaskTracker::new() })
    }

    /// Asks for leave to send one call to a provider. `Err`: it cools down, its circuit is open, or all its calls are
    /// taken; a job parks until then and holds no slot. While Redis is away everybody may send.
    ///
    /// # Errors
    /// Not now: see [`Hold`].
    pub async fn admit(&self, provider: &Provider) -> Result<Permit, Hold> {
        let lease = match self.governor.admit(provider).await {
            Ok(Verdict::Go(lease)) => Some(lease),
            Ok(Verdict::Wait(hold)) => {
                metrics::counter!("atelier_llm_held_total", "provider" => provider.name.clone()).increment(1);
                return Err(hold);
            }
            Err(error) => {
                metrics::counter!("atelier_llm_governor_skipped_total").increment(1);
                tracing::warn!(provider = provider.name, "the governor of model calls cannot be asked: {error}");
                None
            }
        };
        Ok(Permit { lease, governor: self.governor.clone(), returns: self.returns.clone() })
    }

    /// Sends one call, once. With `tokens` the answer is streamed, and each piece is sent there as it comes, waiting for
    /// room; when the receiver is gone the call is given up ([`ErrorKind::Truncated`]).
    ///
    /// # Errors
    /// What went wrong, and whether the provider said when to come back.
    pub async fn send(
        &self,
        permit: Permit,
        served: Served<'_>,
        request: &Request,
        tokens: Option<mpsc::Sender<String>>,
    ) -> Result<Said, LlmError> {
        let started = Instant::now();
        let answer = self.client.call(served, request, tokens, &self.governor).await;
        let taken = started.elapsed();
        let (name, outcome) = (served.provider.name.clone(), answer.as_ref().map_or_else(|e| e.kind.code(), |_| "ok"));
        metrics::counter!("atelier_llm_calls_total", "provider" => name.clone(), "outcome" => outcome).increment(1);
        metrics::histogram!("atelier_llm_call_duration_seconds", "provider" => name).record(taken);
        if let Err(error) = &answer {
            tracing::warn!(
                provider = served.provider.name,
                model = served.upstream,
                outcome,
                "a model call failed: {error}"
            );
        }
        permit.report(served.provider, Outcome::of(answer.as_ref().err()), taken).await;
        answer
    }
}

impl Permit {
    async fn report(mut self, provider: &Provider, outcome: Outcome, taken: Duration) {
        let Some(lease) = self.lease.take() else { return };
        if let Err(error) = self.governor.report(&lease, provider.concurrency, outcome, taken).await {
            // its place comes back when the lease runs out
            tracing::debug!(provider = provider.name, "a call's end could not be reported to the governor: {error}");
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(lease) = self.lease.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let governor = self.governor.clone();
        let back = async move {
            // best effort: the lease runs out at the latest
            let _ = governor.report(&lease, u32::MAX, Outcome::Unused, Duration::ZERO).await;
        };
        self.returns.spawn_on(back, &runtime);
    }
}
