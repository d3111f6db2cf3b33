//! Asks Redis, which holds the buckets for all processes of the API. While it does not answer everybody passes.

use super::{
    breaker::Breaker,
    bucket::{Bucket, Level, interval},
};
use redis::{RedisError, Script, aio::ConnectionManager};
use std::{pin::pin, sync::LazyLock, time::Duration};
use tokio::time::timeout;

/// How long a request waits for Redis before it passes, in so many parts. A thread that is busy itself finds at the end of
/// one part that time is over, and the answer, which had come long ago, in the next: a flood must not lift its own limits.
const PATIENCE: (Duration, u32) = (Duration::from_millis(25), 4);

static GCRA: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("gcra.lua")));

/// Holds requests to the limits.
pub(crate) struct Limiter {
    /// None: limits are off.
    redis: Option<ConnectionManager>,
    /// First part of every key; the braces keep all buckets on one node of a Redis Cluster.
    prefix: String,
    breaker: Breaker,
}

/// What the script is to do; the numbers are its own.
#[derive(Debug, Clone, Copy)]
enum Act {
    Take = 1,
    Look = 0,
    GiveBack = -1,
}

/// What the buckets said.
#[derive(Debug)]
pub(super) struct Verdict {
    /// Whether each had a request to give.
    pub(super) passed: bool,
    /// How full they are now, in the order that they were asked in.
    pub(super) levels: Vec<Level>,
}

impl Limiter {
    /// A limiter; without `redis` everybody passes.
    pub(crate) fn new(redis: Option<ConnectionManager>, prefix: &str) -> Self {
        Self { redis, prefix: format!("{{{prefix}:limits}}:"), breaker: Breaker::new() }
    }

    /// Takes a request out of each bucket, or out of none.
    pub(super) async fn take(&self, buckets: &[Bucket]) -> Verdict {
        self.ask(buckets, Act::Take).await
    }

    /// Looks whether each bucket has a request to give, and takes none.
    pub(super) async fn look(&self, buckets: &[Bucket]) -> Verdict {
        self.ask(buckets, Act::Look).await
    }

    /// Puts a request that was taken back into each bucket.
    pub(super) async fn give_back(&self, buckets: &[Bucket]) {
        self.ask(buckets, Act::GiveBack).await;
    }

    async fn ask(&self, buckets: &[Bucket], act: Act) -> Verdict {
        let everybody_passes = || Verdict { passed: true, levels: buckets.iter().map(Bucket::full).collect() };
        let Some(redis) = self.redis.clone().filter(|_| !buckets.is_empty()) else { return everybody_passes() };
        if self.breaker.lets_ask() {
            match patiently(self.invoke(redis, buckets, act)).await {
                Some(Ok(verdict)) => {
                    self.breaker.answered();
                    return verdict;
                }
                Some(Err(error)) => self.breaker.failed(&error),
                None => self.breaker.failed(&"no answer in time"),
            }
        }
        metrics::counter!("atelier_rate_limit_unavailable_total").increment(1);
        everybody_passes()
    }

    async fn invoke(&self, mut redis: ConnectionManager, buckets: &[Bucket], act: Act) -> Result<Verdict, RedisError> {
        let mut call = GCRA.prepare_invoke();
        call.arg(act as i32);
        for bucket in buckets {
            let micros = u64::try_from(interval(bucket.rate).as_micros()).unwrap_or(u64::MAX);
            call.key(format!("{}{}", self.prefix, bucket.key)).arg(micros).arg(bucket.rate.burst);
        }
        let (passed, debts) = match call.invoke_async::<Vec<i64>>(&mut redis).await?.split_first() {
            Some((passed, debts)) => (*passed == 1, debts.to_vec()),
            None => (true, Vec::new()),
        };
        let level = |(bucket, debt): (&Bucket, i64)| Level {
            debt: Duration::from_micros(debt.max(0).unsigned_abs()),
            ..bucket.full()
        };
        Ok(Verdict { passed, levels: buckets.iter().zip(debts).map(level).collect() })
    }
}

/// Waits for an answer, but not for long.
async fn patiently<T>(answer: impl Future<Output = T>) -> Option<T> {
    let (part, parts) = PATIENCE;
    let mut answer = pin!(answer);
    for _ in 0..parts {
        if let Ok(answer) = timeout(part, &mut answer).await {
            return Some(answer);
        }
    }
    None
}
