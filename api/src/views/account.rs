//! A user as the user sees it, and the tokens of a login.

use super::{ApiKeyView, Time, words};
use serde::{Deserialize, Serialize};
use shared::models::{Account, Activity, ApiKey, QuotaWindow, Role, Tier};
use utoipa::{ToSchema, openapi::schema::Object};
use uuid::Uuid;

pub(crate) fn role() -> Object {
    words(Role::WORDS)
}

pub(super) fn tier() -> Object {
    words(Tier::WORDS)
}

/// An answer that is nothing but a message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Message {
    message: &'static str,
}

impl Message {
    pub(crate) const fn new(message: &'static str) -> Self {
        Self { message }
    }
}

/// The tokens of a login.
#[derive(Serialize, ToSchema)]
pub(crate) struct TokenSet {
    /// For `Authorization: Bearer`.
    access_token: String,
    /// For one call of `/auth/refresh`.
    refresh_token: String,
    /// The same as `access_token`.
    token: String,
    #[schema(example = "bearer")]
    token_type: &'static str,
    /// Seconds.
    expires_in: u64,
}

impl TokenSet {
    pub(crate) fn new(access_token: String, refresh_token: String, expires_in: u64) -> Self {
        Self { token: access_token.clone(), access_token, refresh_token, token_type: "bearer", expires_in }
    }
}

/// Whose tokens these are.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuthUser {
    id: Uuid,
    email: String,
    username: String,
    name: String,
    full_name: String,
    #[schema(schema_with = role)]
    role: Role,
    #[schema(schema_with = tier)]
    tier: Tier,
    organization_id: Uuid,
    is_active: bool,
    created_at: Time,
}

impl AuthUser {
    pub(crate) fn new(account: &Account) -> Self {
        let user = &account.user;
        Self {
            id: user.id,
            email: user.email.clone(),
            username: user.username.clone(),
            name: user.full_name.clone(),
            full_name: user.full_name.clone(),
            role: account.role,
            tier: account.tier,
            organization_id: user.organization_id,
            is_active: user.is_active,
            created_at: user.created_at.into(),
        }
    }
}

/// The own account.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = User)]
pub(crate) struct UserView {
    #[serde(flatten)]
    user: AuthUser,
    preferences: Preferences,
    usage: Usage,
    quota: Quota,
    /// The user's API keys, without the keys themselves.
    api_keys: Vec<ApiKeyView>,
    updated_at: Time,
    last_login_at: Option<Time>,
    mfa_enabled: bool,
}

/// What the user likes.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct Preferences {
    #[schema(example = "light")]
    theme: String,
    notifications: Notifications,
    default_model: String,
}

impl Default for Preferences {
    fn default() -> Self {
        let notifications = Notifications::default();
        Self { theme: "light".to_owned(), notifications, default_model: "gpt-4".to_owned() }
    }
}

/// How the user wants to hear of things.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub(crate) struct Notifications {
    email: bool,
    browser: bool,
}

impl Default for Notifications {
    fn default() -> Self {
        Self { email: true, browser: true }
    }
}

/// What the user has done; months are those of UTC.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Usage {
    pipelines_created: i64,
    executions_this_month: i64,
    tokens_used_this_month: i64,
}

/// How many metered requests are left; a `limit` of null is none.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Quota {
    daily: Window,
    weekly: Window,
    monthly: Window,
}

/// Use within a day, an ISO week or a month, in UTC.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Window {
    used: i64,
    limit: Option<i64>,
}

impl From<shared::models::Quota> for Quota {
    fn from(quota: shared::models::Quota) -> Self {
        let window = |QuotaWindow { used, limit }| Window { used, limit };
        Self { daily: window(quota.daily), weekly: window(quota.weekly), monthly: window(quota.monthly) }
    }
}

impl UserView {
    pub(crate) fn new(account: &Account, activity: Activity, quota: Quota, keys: Vec<ApiKey>) -> Self {
        let user = &account.user;
        Self {
            user: AuthUser::new(account),
            // what is missing or not readable is the default
            preferences: serde_json::from_value(user.preferences.clone()).unwrap_or_default(),
            usage: Usage {
                pipelines_created: activity.pipelines_created,
                executions_this_month: activity.executions_this_month,
                tokens_used_this_month: activity.tokens_used_this_month,
            },
            quota,
            api_keys: keys.into_iter().map(Into::into).collect(),
            updated_at: user.updated_at.into(),
            last_login_at: user.last_login_at.map(Time),
            mfa_enabled: user.mfa_enabled,
        }
    }
}

/// The rule for a username, for garde.
pub(crate) fn username_rule<C>(username: &str, _: &C) -> garde::Result {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if (3..=30).contains(&username.len()) && username.chars().all(allowed) {
        Ok(())
    } else {
        Err(garde::Error::new("must have 3 to 30 letters, digits or underscores"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usernames_are_short_and_plain() {
        for (username, good) in [("john_doe", true), ("j_1", true), ("jo", false), ("jo-hn", false), ("jöhn", false)] {
            assert_eq!(username_rule(username, &()).is_ok(), good, "{username}");
        }
    }
}
