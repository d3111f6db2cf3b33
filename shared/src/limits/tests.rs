#![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

use super::*;
use serde_json::json;

fn built_in() -> Limits {
    Limits::parse("limits.toml", BUILT_IN).unwrap()
}

fn refusal(from: &str, to: &str) -> String {
    assert!(BUILT_IN.contains(from), "limits.toml no longer says {from:?}");
    Limits::parse("limits.toml", &BUILT_IN.replacen(from, to, 1)).unwrap_err().to_string()
}

fn line_of(text: &str) -> usize {
    BUILT_IN[..BUILT_IN.find(text).unwrap()].matches('\n').count() + 1
}

#[test]
fn the_built_in_file_says_what_is_documented() {
    let limits = built_in();
    let requests = &limits.requests;
    for (limit, figures, per) in [
        (requests.auth, (5, 60, 10), Per::Ip),
        (requests.anonymous, (10, 900, 10), Per::Ip),
        (requests.pipelines, (60, 60, 100), Per::User),
        (requests.execution, (10, 60, 20), Per::User),
        (requests.profile, (30, 60, 50), Per::User),
        (requests.uploads, (30, 60, 30), Per::User),
        (requests.analysis, (60, 60, 60), Per::User),
        (requests.general, (120, 60, 200), Per::User),
    ] {
        let Rate { limit: count, window, burst } = limit.rate;
        assert_eq!(((count, window.as_secs(), burst), limit.per), (figures, per));
    }
    assert_eq!(limits.open_sockets, 5);
    for (tier, paces, quotas) in [
        (Tier::Free, (10, 100), [Some(50), Some(350), Some(1_500), Some(1_500)]),
        (Tier::Basic, (30, 300), [Some(500), Some(3_500), Some(15_000), Some(15_000)]),
        (Tier::Pro, (100, 1_000), [Some(2_000), Some(14_000), Some(60_000), Some(60_000)]),
        (Tier::Enterprise, (500, 10_000), [None, None, None, Some(1_000_000)]),
    ] {
        let TierLimits { requests_per_minute, requests_per_hour, quotas: found } = limits.of_tier(tier);
        assert_eq!((requests_per_minute, requests_per_hour), (Some(paces.0), Some(paces.1)), "{tier:?}");
        assert_eq!([found.daily, found.weekly, found.monthly, found.organization_monthly], quotas, "{tier:?}");
    }
}

#[test]
fn the_operator_may_put_other_figures_in_place_of_a_tiers() {
    let limits = built_in();
    let free = limits.of_tier(Tier::Free);
    assert_eq!(limits.for_organization(Tier::Free, None), free);
    assert_eq!(limits.for_organization(Tier::Free, Some(&json!({}))), free);
    let custom = json!({ "requests_per_minute": 3, "requests_per_hour": null, "daily": null, "api_quota_limit": 7 });
    let found = limits.for_organization(Tier::Free, Some(&custom));
    assert_eq!((found.requests_per_minute, found.requests_per_hour), (Some(3), None));
    assert_eq!((found.quotas.daily, found.quotas.weekly), (None, Some(350)));
    assert_eq!(found.quotas.organization_monthly, Some(7));
    assert_eq!((found.user_rate().unwrap().burst, found.organization_rate()), (3, None));
    // what is no figure changes nothing
    for nonsense in [json!({ "daily": "many" }), json!({ "daily": -1 }), json!({ "requests_per_minute": 0 }), json!(1)]
    {
        assert_eq!(limits.for_organization(Tier::Free, Some(&nonsense)), free, "{nonsense}");
    }
}

#[test]
fn a_mistake_is_told_with_its_line() {
    for (from, to, problem) in [
        ("burst = 10", "brust = 10", "unknown field `brust`"),
        ("limit = 5", "limit = 0", "limit is from 1 to 1000000"),
        ("window = 900", "window = 0", "window is from 1 to 86400 seconds"),
        ("per = \"ip\"", "per = \"user\"", "per can only be \"ip\""),
        ("per = \"user\"", "per = \"team\"", "unknown variant `team`"),
        ("open = 5", "open = 0", "open is from 1 to 1000"),
        ("requests_per_minute = 10", "requests_per_minute = 0", "requests_per_minute is from 1 to 1000000"),
        ("daily = 50", "daily = -1", "a number from 0"),
        ("daily = \"unlimited\"", "daily = \"much\"", "or \"unlimited\""),
    ] {
        let refusal = refusal(from, to);
        assert!(refusal.starts_with(&format!("limits.toml line {}: ", line_of(from))), "{refusal}");
        assert!(refusal.contains(problem), "{refusal}");
    }
    assert!(refusal("burst = 10", "").contains("missing field `burst`"));
    assert!(refusal("[tiers.basic]", "[tiers.gold]").contains("unknown field `gold`"));
}
