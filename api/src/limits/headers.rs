//! What clients hear of the limits: `X-RateLimit-*`, and the fields of draft-ietf-httpapi-ratelimit-headers.

use super::bucket::Level;
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use std::time::{Duration, SystemTime};

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const WINDOW: HeaderName = HeaderName::from_static("x-ratelimit-window");
const ENDPOINT: HeaderName = HeaderName::from_static("x-ratelimit-endpoint");
const IDENTIFIER: HeaderName = HeaderName::from_static("x-ratelimit-identifier");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// All of them, for pages of other origins that want to read them.
pub(crate) const NAMES: [HeaderName; 8] = [LIMIT, REMAINING, RESET, WINDOW, ENDPOINT, IDENTIFIER, RATE_LIMIT, POLICY];

/// How a request stands with the limits; left in it for the headers of its answer.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    /// The kind of endpoint.
    pub(super) category: &'static str,
    /// `user`, `api_key` or `ip`.
    pub(super) identifier: &'static str,
    /// Of every bucket that the request had to pass, the own kind's first; none if nothing limits it.
    pub(super) levels: Vec<Level>,
}

impl Standing {
    /// Writes the headers. The `X-` ones describe the bucket with the fewest requests left.
    pub(super) fn write(&self, headers: &mut HeaderMap, now: SystemTime) {
        let mut set = |name: HeaderName, value: HeaderValue| {
            headers.insert(name, value);
        };
        set(ENDPOINT, HeaderValue::from_static(self.category));
        set(IDENTIFIER, HeaderValue::from_static(self.identifier));
        let Some(tightest) = self.levels.iter().min_by_key(|level| level.remaining()) else { return };
        set(LIMIT, tightest.rate.limit.into());
        set(REMAINING, tightest.remaining().into());
        set(WINDOW, tightest.rate.window.as_secs().into());
        let reset = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + tightest.reset();
        set(RESET, seconds(reset).into());
        for (name, text) in [(RATE_LIMIT, self.rate_limit()), (POLICY, self.policy())] {
            if let Ok(value) = HeaderValue::try_from(text) {
                set(name, value);
            }
        }
    }

    /// `"ai";r=9;t=6, "organization";r=99;t=36`: what is left, and in how many seconds the whole quota is.
    fn rate_limit(&self) -> String {
        let item = |level: &Level| format!("\"{}\";r={};t={}", level.name, level.remaining(), seconds(level.reset()));
        self.levels.iter().map(item).collect::<Vec<_>>().join(", ")
    }

    /// `"ai";q=10;w=60, "organization";q=100;w=3600`: quota and window in seconds.
    fn policy(&self) -> String {
        let item =
            |level: &Level| format!("\"{}\";q={};w={}", level.name, level.rate.limit, level.rate.window.as_secs());
        self.levels.iter().map(item).collect::<Vec<_>>().join(", ")
    }
}

/// Whole seconds, rounded up: who waits as long finds it done.
pub(super) fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;
    use shared::limits::Rate;

    fn level(name: &'static str, limit: u32, window: u64, debt_ms: u64) -> Level {
        let rate = Rate::all_at_once(limit, Duration::from_secs(window));
        Level { name, rate, debt: Duration::from_millis(debt_ms) }
    }

    fn written(levels: Vec<Level>) -> Vec<(String, String)> {
        let standing = Standing { category: "ai", identifier: "api_key", levels };
        let mut headers = HeaderMap::new();
        standing.write(&mut headers, SystemTime::UNIX_EPOCH + Duration::from_millis(1_000_500));
        NAMES
            .iter()
            .filter_map(|name| Some((name.to_string(), headers.get(name)?.to_str().unwrap().to_owned())))
            .collect()
    }

    #[test]
    fn the_bucket_with_the_fewest_requests_left_is_described_and_all_are_named() {
        let levels =
            vec![level("ai", 10, 60, 6_000), level("user", 10, 60, 12_000), level("organization", 100, 3600, 36_000)];
        let expected = [
            ("x-ratelimit-limit", "10"),
            ("x-ratelimit-remaining", "8"),
            ("x-ratelimit-reset", "1013"),
            ("x-ratelimit-window", "60"),
            ("x-ratelimit-endpoint", "ai"),
            ("x-ratelimit-identifier", "api_key"),
            ("ratelimit", r#""ai";r=9;t=6, "user";r=8;t=12, "organization";r=99;t=36"#),
            ("ratelimit-policy", r#""ai";q=10;w=60, "user";q=10;w=60, "organization";q=100;w=3600"#),
        ];
        assert_eq!(written(levels), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn of_equals_the_own_kind_is_described() {
        let written = written(vec![level("execution", 10, 60, 60_000), level("organization", 10, 3600, 3_600_000)]);
        assert!(written.contains(&("x-ratelimit-window".to_owned(), "60".to_owned())), "{written:?}");
    }

    #[test]
    fn what_nothing_limits_has_no_figures() {
        let names: Vec<_> = written(Vec::new()).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["x-ratelimit-endpoint", "x-ratelimit-identifier"]);
    }
}
