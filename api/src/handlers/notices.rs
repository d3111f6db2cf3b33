//! Notices to the members of an organization about what they share.

use crate::state::State;
use serde_json::Value;
use shared::events::{self, Notice};
use uuid::Uuid;

/// Tells the members of the organization who listen, after the commit; nobody else is harmed if nobody does.
pub(super) async fn notify(state: &State, organization_id: Uuid, name: &str, data: Value) {
    let channel = events::organization_channel(&state.config.redis.prefix, organization_id);
    match serde_json::to_string(&Notice { r#type: name.to_owned(), data }) {
        Ok(message) => state.publish(&channel, &message).await,
        Err(error) => tracing::error!(%error, "a notice cannot be written as JSON"),
    }
}
