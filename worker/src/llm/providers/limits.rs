//! What the headers of an answer say about a provider's limits, in the ways of OpenAI and of Anthropic.

use chrono::{DateTime, Utc};
use reqwest::header::HeaderMap;
use std::time::{Duration, SystemTime};

/// A provider is not waited for longer than this, whatever it says.
const LONGEST_REST: Duration = Duration::from_secs(600);

/// What is left of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quota {
    /// Calls until it is used up; 0 also where all tokens are used up.
    pub(super) left: u32,
    /// When there are more again.
    pub(super) reset: Duration,
}

/// What a good answer says about the calls after it. `None`: nothing, or not until when.
pub(super) fn quota(headers: &HeaderMap) -> Option<Quota> {
    if let Some(reset) = retry_after(headers) {
        return Some(Quota { left: 0, reset });
    }
    let [left, reset] = limit(headers, "requests")?;
    let (left, reset) = (left.parse().ok()?, span(reset).or_else(|| until(reset))?);
    Some(Quota { left, reset: reset.min(LONGEST_REST) })
}

/// When the provider wants to be asked again: what it says outright, else when the limit that is used up is reset.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let outright = text(headers, "retry-after-ms")
        .and_then(|value| Duration::try_from_secs_f64(value.parse::<f64>().ok()? / 1000.0).ok())
        .or_else(|| text(headers, "retry-after").and_then(seconds_or_date));
    let used_up = ["requests", "tokens"].into_iter().filter_map(|what| match limit(headers, what)? {
        ["0", reset] => span(reset).or_else(|| until(reset)),
        _ => None,
    });
    outright.or_else(|| used_up.max()).map(|rest| rest.min(LONGEST_REST))
}

/// What is left of a limit, and when it is reset.
fn limit<'a>(headers: &'a HeaderMap, what: &str) -> Option<[&'a str; 2]> {
    let ways = [
        [format!("x-ratelimit-remaining-{what}"), format!("x-ratelimit-reset-{what}")],
        [format!("anthropic-ratelimit-{what}-remaining"), format!("anthropic-ratelimit-{what}-reset")],
    ];
    ways.iter().find_map(|[left, reset]| Some([text(headers, left)?, text(headers, reset)?]))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn seconds_or_date(value: &str) -> Option<Duration> {
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    // a date that has passed: at once
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

fn until(date: &str) -> Option<Duration> {
    let date: DateTime<Utc> = date.parse().ok()?;
    Some((date - Utc::now()).to_std().unwrap_or_default())
}

/// `6m0s`, `1.5s`, `120ms`; a bare number is seconds.
fn span(text: &str) -> Option<Duration> {
    let (mut total, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let seconds = match unit {
            "ms" => 0.001,
            "s" | "" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * seconds;
        rest = tail;
    }
    (!text.is_empty()).then(|| Duration::try_from_secs_f64(total).ok()).flatten()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;

    fn map(headers: &[(&'static str, &str)]) -> HeaderMap {
        headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn rest(headers: &[(&'static str, &str)]) -> Option<Duration> {
        retry_after(&map(headers))
    }

    #[test]
    fn a_provider_names_its_rest_in_many_ways() {
        assert_eq!(rest(&[]), None);
        assert_eq!(rest(&[("retry-after", "2")]), Some(Duration::from_secs(2)));
        assert_eq!(rest(&[("retry-after", "2"), ("retry-after-ms", "1500")]), Some(Duration::from_millis(1500)));
        assert_eq!(rest(&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT")]), Some(Duration::ZERO));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        assert!((90..=100).contains(&rest(&[("retry-after", &soon)]).unwrap().as_secs()));
        assert_eq!(rest(&[("retry-after", "soon")]), None);
        assert_eq!(rest(&[("retry-after", "-3")]), None);
        assert_eq!(rest(&[("retry-after", "1e300")]), None);
        assert_eq!(rest(&[("retry-after", "99999")]), Some(LONGEST_REST));
    }

    #[test]
    fn a_limit_that_is_used_up_says_when_it_is_reset() {
        let limit =
            |left, reset| rest(&[("x-ratelimit-remaining-requests", left), ("x-ratelimit-reset-requests", reset)]);
        assert_eq!(limit("0", "120ms"), Some(Duration::from_millis(120)));
        assert_eq!(limit("0", "6m0s"), Some(Duration::from_secs(360)));
        assert_eq!(limit("0", "1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(limit("0", "never"), None);
        assert_eq!(limit("0", ""), None);
        assert_eq!(limit("5", "120ms"), None);
        let soon = (Utc::now() + Duration::from_secs(50)).to_rfc3339();
        let of_anthropic =
            rest(&[("anthropic-ratelimit-tokens-remaining", "0"), ("anthropic-ratelimit-tokens-reset", &soon)]);
        assert!((40..=50).contains(&of_anthropic.unwrap().as_secs()));
    }

    #[test]
    fn a_good_answer_says_what_is_left_in_the_ways_of_both_dialects() {
        let left = |left, reset| {
            quota(&map(&[("x-ratelimit-remaining-requests", left), ("x-ratelimit-reset-requests", reset)]))
        };
        let in_millis = |left, millis| Some(Quota { left, reset: Duration::from_millis(millis) });
        assert_eq!(left("59", "1s"), in_millis(59, 1_000));
        assert_eq!(left("0", "250ms"), in_millis(0, 250));
        assert_eq!(left("3", "6m0s"), in_millis(3, 360_000));
        assert_eq!(left("3", "6h"), in_millis(3, 600_000), "nobody waits for hours");
        assert_eq!(left("many", "1s"), None);
        assert_eq!(left("-1", "1s"), None);
        assert_eq!(left("3", "soon"), None);
        assert_eq!(quota(&map(&[("x-ratelimit-remaining-requests", "0")])), None, "it does not say until when");
        assert_eq!(quota(&map(&[("retry-after", "2")])), in_millis(0, 2_000));
        let soon = (Utc::now() + Duration::from_secs(50)).to_rfc3339();
        let of_anthropic = quota(&map(&[
            ("anthropic-ratelimit-requests-remaining", "4"),
            ("anthropic-ratelimit-requests-reset", &soon),
        ]));
        assert!(of_anthropic.is_some_and(|quota| quota.left == 4 && (40..=50).contains(&quota.reset.as_secs())));
    }
}
