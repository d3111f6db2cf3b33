//! An API key as its owner sees it.

use super::{Time, words};
use crate::auth::permissions::Permission;
use serde::Serialize;
use shared::models::ApiKey;
use utoipa::{
    ToSchema,
    openapi::{ArrayBuilder, schema::Array},
};
use uuid::Uuid;

fn permissions() -> Array {
    ArrayBuilder::new().items(words(Permission::WORDS)).build()
}

/// An API key, without the key itself.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ApiKey)]
pub(crate) struct ApiKeyView {
    id: Uuid,
    name: String,
    #[schema(schema_with = permissions)]
    permissions: Vec<String>,
    /// The beginning of the key, to recognise it by.
    #[schema(example = "sk_live_4fXc")]
    prefix: String,
    /// Where the key acts, with the role that its owner has there.
    organization_id: Uuid,
    created_at: Time,
    updated_at: Time,
    expires_at: Time,
    #[schema(required)]
    last_used: Option<Time>,
    /// Accepted requests; a second or so behind.
    usage_count: i64,
}

/// A new API key. The key itself is shown this once.
#[derive(Serialize, ToSchema)]
pub(crate) struct MadeKey {
    #[serde(flatten)]
    pub(crate) about: ApiKeyView,
    /// For the header `X-API-Key`.
    #[schema(example = "sk_live_4fXc…")]
    pub(crate) key: String,
}

impl From<ApiKey> for ApiKeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            permissions: key.permissions,
            prefix: key.prefix,
            organization_id: key.organization_id,
            created_at: key.created_at.into(),
            updated_at: key.updated_at.into(),
            expires_at: key.expires_at.into(),
            last_used: key.last_used_at.map(Time),
            usage_count: key.usage_count,
        }
    }
}
