//! A bucket of requests, and how full it is.

use shared::limits::Rate;
use std::time::Duration;

/// A bucket: whoever takes its key shares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bucket {
    /// What it is called in headers and messages.
    pub(super) name: &'static str,
    /// Below the prefix of all of them.
    pub(super) key: String,
    /// How much it holds and how it is refilled.
    pub(super) rate: Rate,
}

/// How full a bucket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Level {
    /// The bucket's name.
    pub(super) name: &'static str,
    pub(super) rate: Rate,
    /// How long it will be until it is full.
    pub(super) debt: Duration,
}

impl Bucket {
    /// Its level after nobody has asked for long.
    pub(super) fn full(&self) -> Level {
        Level { name: self.name, rate: self.rate, debt: Duration::ZERO }
    }
}

impl Level {
    /// In which one request comes back.
    fn interval(&self) -> Duration {
        interval(self.rate)
    }

    /// Whole requests that are left, of the burst.
    fn tokens(&self) -> u32 {
        let used = self.debt.as_micros().div_ceil(self.interval().as_micros());
        self.rate.burst.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX))
    }

    /// Requests that are left, as clients hear of it: never more than the limit.
    pub(super) fn remaining(&self) -> u32 {
        self.tokens().min(self.rate.limit)
    }

    /// How long it will be until the whole limit is left.
    pub(super) fn reset(&self) -> Duration {
        self.until(self.rate.limit.min(self.rate.burst))
    }

    /// How long it will be until one request is left; zero if one is.
    pub(super) fn retry(&self) -> Duration {
        self.until(1)
    }

    fn until(&self, tokens: u32) -> Duration {
        self.debt.saturating_sub(self.interval() * self.rate.burst.saturating_sub(tokens))
    }
}

/// In which one request comes back: whole microseconds, so that nothing is lost between here and Redis.
pub(super) fn interval(rate: Rate) -> Duration {
    let micros = rate.window.as_micros() / u128::from(rate.limit.max(1));
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(limit: u32, burst: u32, debt_ms: u64) -> Level {
        let rate = Rate { limit, window: Duration::from_secs(60), burst };
        Level { name: "execution", rate, debt: Duration::from_millis(debt_ms) }
    }

    #[test]
    fn what_is_left_is_never_more_than_the_limit() {
        // a request comes back every 6 s
        for (debt_ms, remaining, reset_s, retry_s) in [
            (0, 10, 0, 0),
            (6_000, 10, 0, 0),
            (60_000, 10, 0, 0),
            (66_000, 9, 6, 0),
            (66_001, 8, 7, 0),
            (114_000, 1, 54, 0),
            (117_000, 0, 57, 3),
            (120_000, 0, 60, 6),
        ] {
            let level = level(10, 20, debt_ms);
            let up = |duration: Duration| duration.as_millis().div_ceil(1000);
            assert_eq!(
                (level.remaining(), up(level.reset()), up(level.retry())),
                (remaining, reset_s, retry_s),
                "after {debt_ms} ms"
            );
        }
    }

    #[test]
    fn a_burst_below_the_limit_is_full_when_it_is_full() {
        assert_eq!(level(10, 5, 0).remaining(), 5);
        assert_eq!(level(10, 5, 6_000).reset(), Duration::from_secs(6));
    }

    #[test]
    fn a_figure_that_divides_no_window_loses_nothing() {
        let mut level = level(7, 7, 0);
        level.debt = level.interval() * 3;
        assert_eq!(level.remaining(), 4);
    }
}
