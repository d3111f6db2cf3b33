//! Which buckets a request has to pass.

use super::bucket::Bucket;
use crate::{
    auth::{Caller, caller::Credential},
    rules::{Category, Rule},
};
use shared::limits::{Limits, Per, Rate, RequestLimit, TierLimits};
use std::net::{IpAddr, Ipv6Addr};
use uuid::Uuid;

/// Who is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    User(Uuid),
    Key(Uuid),
    /// None: the connection does not say.
    Ip(Option<IpAddr>),
}

impl Subject {
    /// Whoever shows this.
    pub(super) const fn of(caller: &Caller) -> Self {
        match caller.credential {
            Credential::Session(_) => Self::User(caller.user_id),
            Credential::Key { id, .. } => Self::Key(id),
        }
    }

    /// As `X-RateLimit-Identifier` has it.
    pub(super) const fn identifier(self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Key(_) => "api_key",
            Self::Ip(_) => "ip",
        }
    }

    fn key(self, name: &str) -> String {
        match self {
            Self::User(id) => format!("{name}:user:{id}"),
            Self::Key(id) => format!("{name}:key:{id}"),
            Self::Ip(Some(ip)) => format!("{name}:ip:{}", network(ip)),
            Self::Ip(None) => format!("{name}:ip:unknown"),
        }
    }
}

/// Those of a request whose caller is known. Metered ones pass the paces of the caller and of the organization, too; a key
/// draws on its owner's.
pub(super) fn of_caller(limits: &Limits, rule: &Rule, caller: &Caller, ip: Option<IpAddr>) -> Vec<Bucket> {
    let tier = limits.for_organization(caller.tier, caller.custom_limits.as_ref());
    let mut buckets: Vec<_> =
        of_category(limits, rule.category, Some(&tier), Subject::of(caller), ip).into_iter().collect();
    if rule.metered {
        buckets.extend(metered(&tier, caller));
    }
    buckets
}

/// That of a request with a token of this user, whose session is not looked up yet; `None` if it depends on the tier.
pub(super) fn of_token(limits: &Limits, rule: &Rule, user_id: Uuid, ip: Option<IpAddr>) -> Option<Bucket> {
    if rule.metered {
        return None;
    }
    of_category(limits, rule.category, None, Subject::User(user_id), ip)
}

/// Those of a question over a socket: the same as of one by request.
pub(super) fn of_question(limits: &Limits, caller: &Caller) -> Vec<Bucket> {
    let tier = limits.for_organization(caller.tier, caller.custom_limits.as_ref());
    let own = of_category(limits, Category::Ai, Some(&tier), Subject::of(caller), None);
    own.into_iter().chain(metered(&tier, caller)).collect()
}

/// That of a request whose caller is not known, and need not be.
pub(super) fn of_address(limits: &Limits, category: Category, ip: Option<IpAddr>) -> Option<Bucket> {
    of_category(limits, category, None, Subject::Ip(ip), ip)
}

/// That of a request which needs valid credentials and has none.
pub(super) fn of_anonymous(limits: &Limits, ip: Option<IpAddr>) -> Bucket {
    bucket("anonymous", limits.requests.anonymous.rate, Subject::Ip(ip))
}

/// That of wrong passwords of one account.
pub(super) fn of_account(limits: &Limits, email_hash: &str) -> Bucket {
    Bucket { name: "account", key: format!("account:{email_hash}"), rate: limits.requests.auth.rate }
}

fn of_category(
    limits: &Limits,
    category: Category,
    tier: Option<&TierLimits>,
    subject: Subject,
    ip: Option<IpAddr>,
) -> Option<Bucket> {
    let requests = &limits.requests;
    let RequestLimit { rate, per } = match category {
        Category::Auth => requests.auth,
        Category::Pipelines => requests.pipelines,
        Category::Execution => requests.execution,
        Category::Profile => requests.profile,
        Category::Uploads => requests.uploads,
        Category::Analysis => requests.analysis,
        Category::General => requests.general,
        Category::Signed => return None,
        Category::Ai => RequestLimit { rate: tier?.user_rate()?, per: Per::User },
    };
    let subject = match per {
        Per::User => subject,
        Per::Ip => Subject::Ip(ip),
    };
    Some(bucket(category.as_str(), rate, subject))
}

fn metered(tier: &TierLimits, caller: &Caller) -> impl Iterator<Item = Bucket> {
    let user = tier.user_rate().map(|rate| Bucket { name: "user", key: format!("user:{}", caller.user_id), rate });
    let organization = tier.organization_rate().map(|rate| Bucket {
        name: "organization",
        key: format!("organization:{}", caller.organization_id),
        rate,
    });
    user.into_iter().chain(organization)
}

fn bucket(name: &'static str, rate: Rate, subject: Subject) -> Bucket {
    Bucket { name, key: subject.key(name), rate }
}

/// An address as it is counted: of IPv6 the first 64 bits, because whoever has one address has all of those.
fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]
    use super::*;
    use actix_web::http::Method;
    use serde_json::{Value, json};
    use shared::models::{Role, Tier};

    fn caller(credential: Credential, custom_limits: Option<Value>) -> Caller {
        Caller {
            user_id: Uuid::from_u128(1),
            organization_id: Uuid::from_u128(2),
            role: Role::Member,
            tier: Tier::Free,
            custom_limits,
            credential,
        }
    }

    fn buckets(route: (&str, &str), caller: &Caller) -> Vec<(String, u32)> {
        let config = crate::config::for_tests();
        let (method, path) = route;
        let method: Method = method.parse().unwrap();
        let rule = crate::rules::find(&method, &format!("{}{path}", crate::alias::PREFIX)).unwrap();
        let buckets = of_caller(&config.limits, rule, caller, None);
        buckets.into_iter().map(|bucket| (bucket.key, bucket.rate.burst)).collect()
    }

    #[test]
    fn a_key_is_counted_by_itself_and_draws_on_its_owners_pace() {
        let key = Credential::Key { id: Uuid::from_u128(3), permissions: vec!["*".to_owned()] };
        let (user, organization) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let paces = [(format!("user:{user}"), 10), (format!("organization:{organization}"), 100)];
        for (credential, subject) in
            [(Credential::Session(Uuid::nil()), format!("user:{user}")), (key, format!("key:{}", Uuid::from_u128(3)))]
        {
            let caller = caller(credential, None);
            assert_eq!(buckets(("GET", "/products"), &caller), [(format!("general:{subject}"), 200)]);
            let run = [&[(format!("execution:{subject}"), 20)], paces.as_slice()].concat();
            assert_eq!(buckets(("POST", "/pipelines/{id}/run"), &caller), run);
            let ask = [&[(format!("ai:{subject}"), 10)], paces.as_slice()].concat();
            assert_eq!(buckets(("POST", "/ai/chat"), &caller), ask);
        }
    }

    #[test]
    fn what_the_operator_lifted_is_no_bucket() {
        let custom = json!({ "requests_per_minute": null, "requests_per_hour": 7 });
        let caller = caller(Credential::Session(Uuid::nil()), Some(custom));
        let organization = (format!("organization:{}", Uuid::from_u128(2)), 7);
        assert_eq!(buckets(("POST", "/ai/chat"), &caller), [organization]);
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        for (ip, counted) in [
            ("203.0.113.7", "203.0.113.7"),
            ("::ffff:203.0.113.7", "203.0.113.7"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2::1", "2001:db8:1:2::"),
        ] {
            assert_eq!(network(ip.parse().unwrap()), counted.parse::<IpAddr>().unwrap(), "{ip}");
        }
    }
}
