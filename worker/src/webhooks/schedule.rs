//! When a delivery is tried again.

use chrono::{DateTime, Utc};
use reqwest::header::HeaderValue;
use std::{str::FromStr, time::Duration};

/// The schedule of the Standard Webhooks specification: ten tries in about three days.
const STANDARD: &str = "5s,5m,30m,2h,5h,10h,14h,20h,24h";

/// Longest wait that a receiver may ask for.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Waits are longer or shorter by up to this share, so that deliveries which failed together do not come back together.
const JITTER: f64 = 0.1;

/// The waits between the tries of a delivery: one less than there are tries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(Vec<Duration>);

impl Default for Schedule {
    fn default() -> Self {
        Self(STANDARD.split(',').filter_map(wait).collect())
    }
}

/// `5s,5m,2h`: numbers with one of `ms`, `s`, `m`, `h`, `d`.
impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let waits = text.split(',').map(|word| {
            wait(word).ok_or_else(|| format!("{:?} is no wait such as 5s, 30m or 2h, at most 30 days", word.trim()))
        });
        waits.collect::<Result<_, _>>().map(Self)
    }
}

fn wait(word: &str) -> Option<Duration> {
    let word = word.trim();
    let (number, unit) = word.split_at(word.find(|c: char| !c.is_ascii_digit())?);
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let wait = Duration::from_millis(number.parse::<u64>().ok()?.checked_mul(millis)?);
    (wait <= Duration::from_secs(30 * 86_400)).then_some(wait)
}

impl Schedule {
    /// How long to wait after the n-th try, counted from 1; `None`: it was the last. A receiver may ask for more time.
    pub(crate) fn after(&self, tries: usize, asked: Option<Duration>) -> Option<Duration> {
        let planned = self.0.get(tries.checked_sub(1)?)?;
        let planned = planned.mul_f64(1.0 + rand::random_range(-JITTER..=JITTER));
        Some(asked.map_or(planned, |asked| planned.max(asked.min(LONGEST))))
    }
}

/// What `Retry-After` asks for: seconds, or a date.
pub(super) fn retry_after(value: &HeaderValue, now: DateTime<Utc>) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.parse().map_or(LONGEST, Duration::from_secs));
    }
    let at = DateTime::<Utc>::from(httpdate::parse_http_date(text).ok()?);
    Some((at - now).to_std().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    #[test]
    fn ten_tries_in_three_days_are_the_default() {
        let schedule = Schedule::default();
        let waits: Vec<_> = (1..=10).map(|tries| schedule.after(tries, None)).collect();
        for (wait, planned) in waits.iter().zip([5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]) {
            let share = wait.unwrap().as_secs_f64() / f64::from(planned);
            assert!((0.9..=1.1).contains(&share), "{wait:?} instead of {planned} s");
        }
        assert_eq!(waits[9], None, "the tenth try is the last");
        assert_eq!(schedule.after(0, None), None);
    }

    #[test]
    fn a_receiver_may_ask_for_more_time_and_not_for_less() {
        let schedule: Schedule = " 1m , 200ms".parse().unwrap();
        assert_eq!(schedule.after(1, Some(Duration::from_secs(300))), Some(Duration::from_secs(300)));
        assert!(schedule.after(1, Some(Duration::from_secs(1))).unwrap() >= Duration::from_secs(54));
        assert_eq!(schedule.after(2, Some(Duration::from_secs(999_999))), Some(LONGEST));
        assert_eq!(schedule.after(3, Some(Duration::from_secs(1))), None, "the last try stays the last");
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for text in ["", "5", "5x", "s", "5s,", "-1s", "1.5h", "31d", "99999999999999999999d", "5 s"] {
            assert!(text.parse::<Schedule>().is_err(), "{text}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = DateTime::parse_from_rfc3339("2026-11-26T10:00:00Z").unwrap().to_utc();
        let parse = |text: &'static str| retry_after(&HeaderValue::from_static(text), now);
        assert_eq!(parse("120"), Some(Duration::from_secs(120)));
        assert_eq!(parse("Thu, 26 Nov 2026 10:05:00 GMT"), Some(Duration::from_secs(300)));
        assert_eq!(parse("Thu, 26 Nov 2020 10:05:00 GMT"), Some(Duration::ZERO));
        assert_eq!(parse("99999999999999999999999"), Some(LONGEST));
        for nonsense in ["", "soon", "-5", "1.5"] {
            assert_eq!(parse(nonsense), None, "{nonsense}");
        }
    }
}
