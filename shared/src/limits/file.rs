//! limits.toml as it is written, checked line by line.

use super::{Limits, MINUTE, Per, QuotaLimits, Rate, RequestLimit, Requests, TierLimits};
use serde::{Deserialize, Deserializer, de};
use std::{fmt, ops::Range, time::Duration};
use toml::Spanned;

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
#[error("{file}{}: {problem}", .line.map(|line| format!(" line {line}")).unwrap_or_default())]
pub struct LimitsError {
    file: String,
    line: Option<usize>,
    problem: String,
}

impl LimitsError {
    pub(super) fn unreadable(file: &str, error: &std::io::Error) -> Self {
        Self { file: file.to_owned(), line: None, problem: format!("{error}; ATELIER_LIMITS_FILE names it") }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    requests: RequestTables,
    sockets: SocketTable,
    tiers: TierTables,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestTables {
    auth: RequestTable,
    anonymous: RequestTable,
    pipelines: RequestTable,
    execution: RequestTable,
    profile: RequestTable,
    uploads: RequestTable,
    analysis: RequestTable,
    general: RequestTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestTable {
    limit: Spanned<u32>,
    window: Option<Spanned<u64>>,
    burst: Spanned<u32>,
    per: Spanned<Per>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SocketTable {
    open: Spanned<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TierTables {
    free: TierTable,
    basic: TierTable,
    pro: TierTable,
    enterprise: TierTable,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TierTable {
    requests_per_minute: Spanned<Figure>,
    requests_per_hour: Spanned<Figure>,
    daily: Figure,
    weekly: Figure,
    monthly: Figure,
    organization_monthly: Figure,
}

/// A number, or `"unlimited"`.
struct Figure(Option<u32>);

impl<'de> Deserialize<'de> for Figure {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Figure;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number from 0 to 4294967295, or \"unlimited\"")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Figure, E> {
                let number = u32::try_from(number);
                number.map(|number| Figure(Some(number))).map_err(|_| E::custom("a number from 0 to 4294967295"))
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<Figure, E> {
                if word == "unlimited" {
                    return Ok(Figure(None));
                }
                Err(E::invalid_value(de::Unexpected::Str(word), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

type Problem = (Range<usize>, String);

impl Limits {
    pub(super) fn parse(file: &str, text: &str) -> Result<Self, LimitsError> {
        let line = |span: Range<usize>| text[..span.start.min(text.len())].matches('\n').count() + 1;
        let error = |span: Option<Range<usize>>, problem: String| LimitsError {
            file: file.to_owned(),
            line: span.map(line),
            problem,
        };
        let parsed: File = toml::from_str(text).map_err(|found| error(found.span(), found.message().to_owned()))?;
        parsed.check().map_err(|(span, problem)| error(Some(span), problem))
    }

    /// Figures that let nothing through.
    pub(super) fn none() -> Self {
        let rate = RequestLimit { rate: Rate::all_at_once(1, MINUTE), per: Per::Ip };
        let quotas = QuotaLimits { daily: Some(0), weekly: Some(0), monthly: Some(0), organization_monthly: Some(0) };
        let tier = TierLimits { requests_per_minute: Some(1), requests_per_hour: Some(1), quotas };
        Self {
            requests: Requests {
                auth: rate,
                anonymous: rate,
                pipelines: rate,
                execution: rate,
                profile: rate,
                uploads: rate,
                analysis: rate,
                general: rate,
            },
            open_sockets: 1,
            free: tier,
            basic: tier,
            pro: tier,
            enterprise: tier,
        }
    }
}

impl File {
    fn check(self) -> Result<Limits, Problem> {
        let Self { requests, sockets, tiers } = self;
        let requests = Requests {
            auth: requests.auth.check(&[Per::Ip])?,
            anonymous: requests.anonymous.check(&[Per::Ip])?,
            pipelines: requests.pipelines.check(&[Per::Ip, Per::User])?,
            execution: requests.execution.check(&[Per::Ip, Per::User])?,
            profile: requests.profile.check(&[Per::Ip, Per::User])?,
            uploads: requests.uploads.check(&[Per::Ip, Per::User])?,
            analysis: requests.analysis.check(&[Per::Ip, Per::User])?,
            general: requests.general.check(&[Per::Ip, Per::User])?,
        };
        if !(1..=1000).contains(sockets.open.get_ref()) {
            return Err((sockets.open.span(), "open is from 1 to 1000".to_owned()));
        }
        Ok(Limits {
            requests,
            open_sockets: sockets.open.into_inner(),
            free: tiers.free.check()?,
            basic: tiers.basic.check()?,
            pro: tiers.pro.check()?,
            enterprise: tiers.enterprise.check()?,
        })
    }
}

impl RequestTable {
    fn check(self, allowed: &[Per]) -> Result<RequestLimit, Problem> {
        let window = self.window.unwrap_or_else(|| Spanned::new(0..0, MINUTE.as_secs()));
        for (name, figure) in [("limit", &self.limit), ("burst", &self.burst)] {
            if !(1..=Rate::MOST).contains(figure.get_ref()) {
                return Err((figure.span(), format!("{name} is from 1 to {}", Rate::MOST)));
            }
        }
        if !(1..=86_400).contains(window.get_ref()) {
            return Err((window.span(), "window is from 1 to 86400 seconds".to_owned()));
        }
        if !allowed.contains(self.per.get_ref()) {
            return Err((self.per.span(), "here nobody is known yet: per can only be \"ip\"".to_owned()));
        }
        let window = Duration::from_secs(window.into_inner());
        let rate = Rate { limit: self.limit.into_inner(), window, burst: self.burst.into_inner() };
        Ok(RequestLimit { rate, per: self.per.into_inner() })
    }
}

impl TierTable {
    fn check(self) -> Result<TierLimits, Problem> {
        let pace = |name: &str, figure: &Spanned<Figure>| match figure.get_ref().0 {
            Some(number) if !(1..=Rate::MOST).contains(&number) => {
                Err((figure.span(), format!("{name} is from 1 to {}, or \"unlimited\"", Rate::MOST)))
            }
            figure => Ok(figure),
        };
        let quota = |figure: Figure| figure.0.map(i64::from);
        Ok(TierLimits {
            requests_per_minute: pace("requests_per_minute", &self.requests_per_minute)?,
            requests_per_hour: pace("requests_per_hour", &self.requests_per_hour)?,
            quotas: QuotaLimits {
                daily: quota(self.daily),
                weekly: quota(self.weekly),
                monthly: quota(self.monthly),
                organization_monthly: quota(self.organization_monthly),
            },
        })
    }
}
