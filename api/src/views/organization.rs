//! An organization as its members see it.

use super::{Time, account::tier, role};
use serde::Serialize;
use serde_json::{Value, json};
use shared::{
    limits::Limits,
    models::{OrganizationOfMember, Role, Tier},
    orchestration::without_secret,
};
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

impl OrganizationView {
    /// The organization with what it may use by these limits.
    pub(crate) fn new(limits: &Limits, found: OrganizationOfMember) -> Self {
        let OrganizationOfMember { organization, api_quota_used, .. } = found;
        let limits = limits.for_organization(organization.subscription_tier, organization.custom_limits.as_ref());
        Self {
            id: organization.id,
            name: organization.name,
            slug: organization.slug,
            subscription_tier: organization.subscription_tier,
            api_quota_limit: limits.quotas.organization_monthly,
            api_quota_used,
            settings: complete(without_secret(organization.settings)),
            created_at: organization.created_at.into(),
            updated_at: organization.updated_at.into(),
        }
    }
}

impl ListedOrganization {
    /// The organization and the caller's place in it.
    pub(crate) fn new(limits: &Limits, found: OrganizationOfMember) -> Self {
        Self { role: found.role, organization: OrganizationView::new(limits, found) }
    }
}

/// The two documented settings are always there.
fn complete(mut settings: Value) -> Value {
    if let Value::Object(settings) = &mut settings {
        settings.entry("default_ai_model").or_insert_with(|| json!("gpt-4"));
        settings.entry("integration_enabled").or_insert(Value::Bool(true));
    }
    settings
}
