//! Notices to the members of an organization about what they share.

use crate::state::State;
use serde_json::Value;
use shared::events::Notice;
use uuid::Uuid;

/// Tells the members of the organization who listen, after the commit; nobody else is harmed if nobody does.
pub(super) async fn notify(state: &State, organization_id: Uuid, name: &str, data: Value) {
    state.notify(organization_id, &Notice { r#type: name.to_owned(), data }).await;
}
