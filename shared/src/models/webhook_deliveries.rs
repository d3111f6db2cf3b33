//! Webhook deliveries: one event on its way to one receiver, each a job of kind `webhook_delivery`, written in the
//! transaction of what it tells of.

use super::Finish;
use crate::{queue::Hint, webhook_event::WebhookEvent};
use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::AsyncPgConnection;
use serde_json::Value;
use uuid::Uuid;

/// Something that webhooks may want to hear of.
#[derive(Debug, Clone)]
pub struct Occurrence {
    /// What happened.
    pub event: WebhookEvent,
    /// The user concerned.
    pub user_id: Uuid,
    /// The organization it happened in.
    pub organization_id: Uuid,
    /// What there is to say.
    pub data: Value,
}

impl Occurrence {
    /// Writes a delivery for each active webhook that has subscribed, in the caller's transaction.
    pub async fn announce(_conn: &mut AsyncPgConnection, _occurrences: &[Self]) -> QueryResult<Vec<Hint>> {
        Ok(Vec::new())
    }
}

/// The deliveries that follow from the ends of jobs.
pub(super) async fn announce_ends(
    _conn: &mut AsyncPgConnection,
    _ended: &[&Finish],
    _at: DateTime<Utc>,
) -> QueryResult<Vec<Hint>> {
    Ok(Vec::new())
}
