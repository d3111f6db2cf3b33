//! How many metered requests fit into each window.

use super::Tier;
use serde_json::Value;

/// Most metered requests; without a number, any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct QuotaLimits {
    pub(super) daily: Option<i64>,
    pub(super) weekly: Option<i64>,
    pub(super) monthly: Option<i64>,
    /// Of all members together in a month.
    pub(super) organization: Option<i64>,
}

impl QuotaLimits {
    /// Those of a tier, with what the operator has changed for the organization.
    pub(super) fn of(tier: Tier, custom: Option<&Value>) -> Self {
        let (daily, organization) = match tier {
            Tier::Free => (Some(50), 1_500),
            Tier::Basic => (Some(500), 15_000),
            Tier::Pro => (Some(2_000), 60_000),
            Tier::Enterprise => (None, 1_000_000),
        };
        let days = |days: i64| daily.map(|daily: i64| daily * days);
        let changed = |key: &str, standard: Option<i64>| match custom.and_then(|custom| custom.get(key)) {
            None => standard,
            Some(Value::Null) => None,
            // what is no number changes nothing
            Some(value) => value.as_i64().map(|limit| limit.max(0)).or(standard),
        };
        Self {
            daily: changed("daily", days(1)),
            weekly: changed("weekly", days(7)),
            monthly: changed("monthly", days(30)),
            organization: changed("api_quota_limit", Some(organization)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn limits(tier: Tier, custom: Option<&Value>) -> [Option<i64>; 4] {
        let QuotaLimits { daily, weekly, monthly, organization } = QuotaLimits::of(tier, custom);
        [daily, weekly, monthly, organization]
    }

    #[test]
    fn the_windows_of_each_tier_are_the_documented_ones() {
        assert_eq!(limits(Tier::Free, None), [Some(50), Some(350), Some(1_500), Some(1_500)]);
        assert_eq!(limits(Tier::Basic, None), [Some(500), Some(3_500), Some(15_000), Some(15_000)]);
        assert_eq!(limits(Tier::Pro, None), [Some(2_000), Some(14_000), Some(60_000), Some(60_000)]);
        assert_eq!(limits(Tier::Enterprise, None), [None, None, None, Some(1_000_000)]);
    }

    #[test]
    fn an_operator_changes_single_figures() {
        let custom = json!({ "daily": 5, "monthly": null, "api_quota_limit": 7, "requests_per_minute": 1 });
        assert_eq!(limits(Tier::Free, Some(&custom)), [Some(5), Some(350), None, Some(7)]);
        assert_eq!(limits(Tier::Free, Some(&json!({ "daily": "many" })))[0], Some(50));
    }
}
