//! limits.toml: how fast requests may come, and how many an organization and its members may spend.
//!
//! The API holds requests to it; who warns of what is nearly used up reads the same figures.

mod file;

use crate::{config::Reader, models::Tier};
use serde_json::Value;
use std::{path::PathBuf, time::Duration};

pub use file::LimitsError;

/// The file that ships with the program and explains itself.
const BUILT_IN: &str = include_str!("../../limits.toml");

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Every limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Requests by kind of endpoint.
    pub requests: Requests,
    /// Open sockets of one kind and of one user.
    pub open_sockets: usize,
    free: TierLimits,
    basic: TierLimits,
    pro: TierLimits,
    enterprise: TierLimits,
}

/// How fast requests may come, by kind of endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requests {
    /// Credentials.
    pub auth: RequestLimit,
    /// Whatever needs credentials, called without valid ones.
    pub anonymous: RequestLimit,
    /// Definitions of pipelines.
    pub pipelines: RequestLimit,
    /// Runs.
    pub execution: RequestLimit,
    /// The own account.
    pub profile: RequestLimit,
    /// Bytes.
    pub uploads: RequestLimit,
    /// Analyses and batches.
    pub analysis: RequestLimit,
    /// Everything else.
    pub general: RequestLimit,
}

/// How fast requests of one kind may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestLimit {
    /// How fast.
    pub rate: Rate,
    /// Whose requests are counted together.
    pub per: Per,
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Per {
    /// Those from one address.
    Ip,
    /// Those of one user, or of one API key.
    User,
}

/// A bucket that holds `burst` requests and is refilled evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests that come back in a window.
    pub limit: u32,
    /// How long a window is.
    pub window: Duration,
    /// Requests that may come at once.
    pub burst: u32,
}

/// What an organization and its members may; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TierLimits {
    /// Metered requests of one user.
    pub requests_per_minute: Option<u32>,
    /// Metered requests of all members together.
    pub requests_per_hour: Option<u32>,
    /// Metered requests in windows of the calendar.
    pub quotas: QuotaLimits,
}

/// Metered requests in windows of the calendar, in UTC; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaLimits {
    /// Of one user, a day.
    pub daily: Option<i64>,
    /// Of one user, an ISO week.
    pub weekly: Option<i64>,
    /// Of one user, a month.
    pub monthly: Option<i64>,
    /// Of all members together, a month; `api_quota_limit` in answers.
    pub organization_monthly: Option<i64>,
}

impl Limits {
    /// Reads the limits: `ATELIER_LIMITS_FILE`, or the built-in ones.
    pub fn read(from: &mut Reader) -> Self {
        let file: Option<PathBuf> = from.optional("ATELIER_LIMITS_FILE");
        let limits = match &file {
            None => Self::parse("the built-in limits.toml", BUILT_IN),
            Some(path) => {
                let name = path.display().to_string();
                std::fs::read_to_string(path)
                    .map_err(|error| LimitsError::unreadable(&name, &error))
                    .and_then(|text| Self::parse(&name, &text))
            }
        };
        limits.unwrap_or_else(|problem| {
            from.problem(problem.to_string());
            // never used: a problem stops the start
            Self::none()
        })
    }

    /// What a tier may.
    pub const fn of_tier(&self, tier: Tier) -> TierLimits {
        match tier {
            Tier::Free => self.free,
            Tier::Basic => self.basic,
            Tier::Pro => self.pro,
            Tier::Enterprise => self.enterprise,
        }
    }

    /// What an organization may: its tier's figures, or those that the operator put in place of them
    /// (`organizations.custom_limits`: any of `requests_per_minute`, `requests_per_hour`, `daily`, `weekly`, `monthly`,
    /// `api_quota_limit`; null is no limit). A figure that is none leaves the tier's.
    pub fn for_organization(&self, tier: Tier, custom_limits: Option<&Value>) -> TierLimits {
        let mut limits = self.of_tier(tier);
        let Some(custom) = custom_limits.and_then(Value::as_object) else { return limits };
        let figure = |name: &str, least: i64, figure: &mut Option<i64>| match custom.get(name) {
            None => {}
            Some(Value::Null) => *figure = None,
            Some(value) => match value.as_i64().filter(|value| *value >= least) {
                Some(value) => *figure = Some(value),
                None => tracing::warn!(name, %value, "a custom limit is no number; the tier's applies"),
            },
        };
        let pace = |name: &str, pace: &mut Option<u32>| {
            let mut wide = pace.map(i64::from);
            figure(name, 1, &mut wide);
            *pace = wide.map(|value| u32::try_from(value).unwrap_or(u32::MAX).min(Rate::MOST));
        };
        pace("requests_per_minute", &mut limits.requests_per_minute);
        pace("requests_per_hour", &mut limits.requests_per_hour);
        figure("daily", 0, &mut limits.quotas.daily);
        figure("weekly", 0, &mut limits.quotas.weekly);
        figure("monthly", 0, &mut limits.quotas.monthly);
        figure("api_quota_limit", 0, &mut limits.quotas.organization_monthly);
        limits
    }
}

impl Rate {
    /// The most that a limit or a burst can be.
    pub const MOST: u32 = 1_000_000;

    /// So many in a window, all at once if need be.
    pub const fn all_at_once(limit: u32, window: Duration) -> Self {
        Self { limit, window, burst: limit }
    }
}

impl TierLimits {
    /// How fast metered requests of one user may come.
    pub fn user_rate(&self) -> Option<Rate> {
        self.requests_per_minute.map(|limit| Rate::all_at_once(limit, MINUTE))
    }

    /// How fast metered requests of all members together may come.
    pub fn organization_rate(&self) -> Option<Rate> {
        self.requests_per_hour.map(|limit| Rate::all_at_once(limit, HOUR))
    }
}

#[cfg(test)]
mod tests;
