//! Waiting longer and longer for something that is away.

use std::time::Duration;

/// Doubling delays with jitter between `first` and `most`.
pub(super) struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// For Redis: soon again, for its usual absence is a restart of a second or two.
    pub(super) fn for_redis() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(2))
    }

    /// How long to wait this time: between half and all of the current delay, so that workers do not march in step.
    pub(super) fn delay(&mut self) -> Duration {
        let delay = self.next.mul_f64(rand::random_range(0.5..=1.0));
        self.next = (self.next * 2).min(self.most);
        delay
    }

    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}
