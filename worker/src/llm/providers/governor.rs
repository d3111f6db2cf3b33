//! What all workers know together about a provider: until when it wants rest, how fast it lets itself be asked, how many
//! calls are on their way, and whether it answers at all. The decisions are in `scripts/`, which say how they are made.

use super::{ErrorKind, Hold, LlmError, limits::Quota};
use redis::{RedisResult, Script, aio::ConnectionManager};
use shared::llm::Provider;
use std::{sync::LazyLock, time::Duration};
use uuid::Uuid;

macro_rules! script {
    ($name:literal) => {
        LazyLock::new(|| Script::new(concat!(include_str!("scripts/prelude.lua"), include_str!($name))))
    };
}

static ADMIT: LazyLock<Script> = script!("scripts/admit.lua");
static REPORT: LazyLock<Script> = script!("scripts/report.lua");
static HEAR: LazyLock<Script> = script!("scripts/hear.lua");

/// How long a call waits for Redis before it goes without the governor.
const PATIENCE: Duration = Duration::from_secs(1);

/// A call may take its provider's time; whoever holds a place longer than that and this is dead.
const GRACE: Duration = Duration::from_secs(30);

/// Failures in a row that open the circuit.
const FAILURES: u32 = 5;

/// How long the circuit stays open the first time; twice as long after each probe that fails, up to the second.
const PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(120);

/// See the module.
#[derive(Clone)]
pub(super) struct Governor {
    redis: ConnectionManager,
    prefix: String,
}

/// A place among the calls of a provider.
pub(super) struct Lease {
    id: Uuid,
    provider: String,
    /// Milliseconds since the epoch, by Redis' clock.
    admitted: i64,
}

pub(super) enum Verdict {
    Go(Lease),
    Wait(Hold),
}

/// What the governor hears of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Answered.
    Ok,
    /// Refused, but by a provider that is well.
    Answered,
    /// 429: slow down, and rest as long as it says, if it says.
    Limited(Option<Duration>),
    /// The provider is not well.
    Failed(Option<Duration>),
    /// Nothing can be learned from it.
    Unused,
}

impl Outcome {
    pub(super) const fn of(error: Option<&LlmError>) -> Self {
        let Some(error) = error else { return Self::Ok };
        match error.kind {
            ErrorKind::RateLimited => Self::Limited(error.retry_after),
            ErrorKind::Overloaded | ErrorKind::Server | ErrorKind::Timeout | ErrorKind::Connect => {
                Self::Failed(error.retry_after)
            }
            ErrorKind::Auth | ErrorKind::BadRequest | ErrorKind::NotFound => Self::Answered,
            ErrorKind::BadResponse | ErrorKind::Truncated => Self::Unused,
        }
    }
}

impl Governor {
    pub(super) fn new(redis: ConnectionManager, prefix: &str) -> Self {
        Self { redis, prefix: prefix.to_owned() }
    }

    pub(super) async fn admit(&self, provider: &Provider) -> RedisResult<Verdict> {
        let id = Uuid::now_v7();
        let [state, calls] = self.keys(&provider.name);
        let mut call = ADMIT.key(state);
        call.key(calls)
            .arg(id.as_bytes().as_slice())
            .arg(provider.concurrency)
            .arg(millis(Duration::from_secs(provider.timeout_seconds) + GRACE))
            .arg(provider.requests_per_minute.unwrap_or(0));
        let mut redis = self.redis.clone();
        let (reason, number): (String, i64) = in_time(call.invoke_async(&mut redis)).await?;
        if reason == "go" {
            return Ok(Verdict::Go(Lease { id, provider: provider.name.clone(), admitted: number }));
        }
        let name = &provider.name;
        let reason = match reason.as_str() {
            "rest" => format!("{name} asked for rest"),
            "open" => format!("{name} does not answer; it is tried again from time to time"),
            "pace" | "few" => format!("calls to {name} are spaced"),
            _ => format!("all calls to {name} are taken"),
        };
        // a little later than told, each by another while: clocks and ways differ
        let after = Duration::from_millis(u64::try_from(number).unwrap_or(0));
        let after = after.max(Duration::from_millis(10)).mul_f64(1.0 + 0.1 * rand::random::<f64>());
        Ok(Verdict::Wait(Hold { after, reason }))
    }

    pub(super) async fn report(
        &self,
        lease: &Lease,
        concurrency: u32,
        outcome: Outcome,
        taken: Duration,
    ) -> RedisResult<()> {
        let (word, rest) = match outcome {
            Outcome::Ok => ("ok", None),
            Outcome::Answered => ("answered", None),
            Outcome::Limited(rest) => ("limited", rest),
            Outcome::Failed(rest) => ("failed", rest),
            Outcome::Unused => ("unused", None),
        };
        let [state, calls] = self.keys(&lease.provider);
        let mut call = REPORT.key(state);
        call.key(calls)
            .arg(lease.id.as_bytes().as_slice())
            .arg(word)
            .arg(rest.map_or(-1, millis))
            .arg(lease.admitted)
            .arg(millis(taken))
            .arg(concurrency)
            .arg(FAILURES)
            .arg(millis(PAUSE))
            .arg(millis(LONGEST_PAUSE));
        let mut redis = self.redis.clone();
        in_time(call.invoke_async(&mut redis)).await
    }

    /// What a good answer says about the calls after it. All workers go by it: they rest where none is left, and space
    /// their calls where fewer are left than are open.
    pub(super) async fn hear(&self, provider: &Provider, quota: Quota) {
        // far from the end nothing follows from it
        if quota.left >= provider.concurrency.saturating_mul(2) {
            return;
        }
        let [state, calls] = self.keys(&provider.name);
        let mut call = HEAR.key(state);
        call.key(calls).arg(quota.left).arg(millis(quota.reset));
        let mut redis = self.redis.clone();
        let heard: RedisResult<()> = in_time(call.invoke_async(&mut redis)).await;
        if let Err(error) = heard {
            // the provider will say it again, with 429 at the latest
            tracing::debug!(provider = provider.name, "what is left of a limit could not be told to others: {error}");
        }
    }

    /// All of a provider's keys carry one hash tag, so that a script may touch them together on Redis Cluster.
    fn keys(&self, provider: &str) -> [String; 2] {
        ["state", "calls"].map(|name| format!("{{{}:llm:{provider}}}:{name}", self.prefix))
    }
}

async fn in_time<T>(answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    tokio::time::timeout(PATIENCE, answer)
        .await
        .unwrap_or_else(|_| Err(redis::RedisError::from((redis::ErrorKind::Io, "Redis takes too long"))))
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
