//! An organization as its members see it.

use super::{Time, account::tier, role};
use serde::Serialize;
use serde_json::{Value, json};
use shared::models::{OrganizationOfMember, Role, Tier};
use utoipa::ToSchema;
use uuid::Uuid;

/// A tenant: what its members share, and what they may use.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Organization)]
pub(crate) struct OrganizationView {
    id: Uuid,
    name: String,
    /// Follows from the first name, and stays.
    slug: String,
    #[schema(schema_with = tier)]
    subscription_tier: Tier,
    /// Metered requests in a month (UTC); null: as many as you like.
    api_quota_limit: Option<i64>,
    /// Of them in this month.
    api_quota_used: i64,
    /// `default_ai_model`, `integration_enabled`, and whatever the admins have added.
    #[schema(value_type = Object)]
    settings: Value,
    created_at: Time,
    updated_at: Time,
}

/// One of the own organizations.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedOrganization {
    #[serde(flatten)]
    organization: OrganizationView,
    /// What the caller is in it.
    #[schema(schema_with = role)]
    role: Role,
}

impl From<OrganizationOfMember> for OrganizationView {
    fn from(found: OrganizationOfMember) -> Self {
        let OrganizationOfMember { organization, api_quota_used, .. } = found;
        Self {
            id: organization.id,
            name: organization.name,
            slug: organization.slug,
            subscription_tier: organization.subscription_tier,
            api_quota_limit: api_quota_limit(organization.subscription_tier, organization.custom_limits.as_ref()),
            api_quota_used,
            settings: complete(organization.settings),
            created_at: organization.created_at.into(),
            updated_at: organization.updated_at.into(),
        }
    }
}

impl From<OrganizationOfMember> for ListedOrganization {
    fn from(found: OrganizationOfMember) -> Self {
        Self { role: found.role, organization: found.into() }
    }
}

/// What the tier allows, unless the operator has set another figure; null is no limit.
fn api_quota_limit(tier: Tier, custom: Option<&Value>) -> Option<i64> {
    if let Some(set) = custom.and_then(|figures| figures.get("api_quota_limit")) {
        return set.as_i64();
    }
    Some(match tier {
        Tier::Free => 1_500,
        Tier::Basic => 15_000,
        Tier::Pro => 60_000,
        Tier::Enterprise => 1_000_000,
    })
}

/// The two documented settings are always there.
fn complete(mut settings: Value) -> Value {
    if let Value::Object(settings) = &mut settings {
        settings.entry("default_ai_model").or_insert_with(|| json!("gpt-4"));
        settings.entry("integration_enabled").or_insert(Value::Bool(true));
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_that_of_the_tier_unless_the_operator_set_another() {
        for (tier, custom, limit) in [
            (Tier::Free, None, Some(1_500)),
            (Tier::Basic, None, Some(15_000)),
            (Tier::Pro, Some(json!({ "daily": 3 })), Some(60_000)),
            (Tier::Enterprise, None, Some(1_000_000)),
            (Tier::Enterprise, Some(json!({ "api_quota_limit": 10_000 })), Some(10_000)),
            (Tier::Enterprise, Some(json!({ "api_quota_limit": null })), None),
        ] {
            assert_eq!(api_quota_limit(tier, custom.as_ref()), limit, "{tier} {custom:?}");
        }
    }
}
