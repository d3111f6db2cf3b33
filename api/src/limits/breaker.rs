//! Remembers that Redis did not answer, so that not every request waits for it.

use std::{
    fmt::Display,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// How long nobody asks after a failure. Then one does; the others go on without until it has an answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether Redis is worth asking.
pub(super) struct Breaker {
    began: Instant,
    /// Milliseconds since `began` until which nobody asks; 0 while Redis answers.
    until: AtomicU64,
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), until: AtomicU64::new(0) }
    }

    /// Whether the request at hand may ask.
    pub(super) fn lets_ask(&self) -> bool {
        let until = self.until.load(Ordering::Acquire);
        if until == 0 {
            return true;
        }
        let now = self.now();
        // of those that come after the pause one asks, and moves the end of it for the others
        now >= until && self.until.compare_exchange(until, after(now), Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Redis has answered.
    pub(super) fn answered(&self) {
        if self.until.load(Ordering::Acquire) != 0 && self.until.swap(0, Ordering::AcqRel) != 0 {
            tracing::info!("Redis answers again: requests are limited");
        }
    }

    /// Redis has not answered, or not in time.
    pub(super) fn failed(&self, why: &impl Display) {
        if self.until.swap(after(self.now()), Ordering::AcqRel) == 0 {
            tracing::warn!(%why, "Redis does not answer: requests are not limited meanwhile");
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn after(now: u64) -> u64 {
    now.saturating_add(u64::try_from(PAUSE.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_failure_one_asks_in_a_while_and_after_an_answer_everybody() {
        let breaker = Breaker::new();
        assert!(breaker.lets_ask() && breaker.lets_ask());
        breaker.failed(&"it is away");
        assert!(!breaker.lets_ask());
        // the pause is over
        breaker.until.store(1, Ordering::Release);
        while breaker.now() < 1 {
            std::hint::spin_loop();
        }
        assert!(breaker.lets_ask(), "one asks");
        assert!(!breaker.lets_ask(), "the others do not");
        breaker.answered();
        assert!(breaker.lets_ask() && breaker.lets_ask());
    }
}
