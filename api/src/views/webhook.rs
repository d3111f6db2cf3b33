//! Webhooks and their deliveries, as the owner of the webhook sees them.

use super::{Time, words};
use serde::Serialize;
use serde_json::Value;
use shared::{
    models::{DeliveryRow, DisabledReason, JobStatus, Webhook, WebhookAttempt},
    webhook_event::WebhookEvent,
};
use std::sync::LazyLock;
use utoipa::{ToSchema, openapi::schema::Object};
use uuid::Uuid;

/// What can be subscribed to.
pub(crate) static SUBSCRIBABLE: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    WebhookEvent::ALL.iter().filter(|event| event.is_subscribable()).map(|event| event.as_str()).collect()
});

/// Where a delivery stands, in the words of clients.
pub(crate) const DELIVERY_STATUSES: &[&str] = &["pending", "delivered", "failed"];

pub(crate) fn delivery_status_words() -> Object {
    words(DELIVERY_STATUSES)
}

fn event_words() -> Object {
    words(WebhookEvent::WORDS)
}

/// Where somebody wants to hear of what.
#[derive(Serialize, ToSchema)]
#[schema(as = Webhook)]
pub(crate) struct WebhookView {
    id: Uuid,
    name: String,
    url: String,
    events: Vec<String>,
    active: bool,
    /// The same as `active`.
    is_active: bool,
    /// One delivery at a time, in the order of the events.
    ordered: bool,
    /// Why the system switched it off: its receiver said that it is gone, or kept failing.
    #[schema(required, value_type = Option<String>, example = "failing")]
    disabled_reason: Option<DisabledReason>,
    /// Deliveries in a row that failed for good.
    failures: i32,
    created_at: Time,
    updated_at: Time,
    #[schema(required)]
    last_delivery: Option<Time>,
    /// The same as `last_delivery`.
    #[schema(required)]
    last_triggered_at: Option<Time>,
    /// What deliveries are signed with. Shown when it is made, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl WebhookView {
    /// The webhook with its secret, for the one time that it is shown.
    pub(crate) fn with_secret(webhook: Webhook) -> Self {
        Self { secret: Some(webhook.secret.clone()), ..Self::from(webhook) }
    }
}

impl From<Webhook> for WebhookView {
    fn from(webhook: Webhook) -> Self {
        let last_delivery = webhook.last_delivery_at.map(Time);
        Self {
            id: webhook.id,
            name: webhook.name,
            url: webhook.url,
            events: webhook.events,
            active: webhook.is_active,
            is_active: webhook.is_active,
            ordered: webhook.ordered,
            disabled_reason: webhook.disabled_reason,
            failures: webhook.failures,
            created_at: webhook.created_at.into(),
            updated_at: webhook.updated_at.into(),
            last_delivery,
            last_triggered_at: last_delivery,
            secret: None,
        }
    }
}

/// One event on its way to one webhook.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Delivery)]
pub(crate) struct DeliveryView {
    id: Uuid,
    #[schema(schema_with = event_words)]
    event: String,
    #[schema(schema_with = delivery_status_words)]
    status: &'static str,
    /// Requests made so far.
    attempts: i64,
    /// What the receiver answered to the last one.
    #[schema(required)]
    response_status: Option<i16>,
    /// Why the last one, or the whole, did not succeed.
    #[schema(required)]
    error: Option<String>,
    #[schema(required)]
    next_attempt_at: Option<Time>,
    created_at: Time,
    #[schema(required)]
    delivered_at: Option<Time>,
}

impl From<DeliveryRow> for DeliveryView {
    fn from(row: DeliveryRow) -> Self {
        let delivered = row.job_status == JobStatus::Completed;
        Self {
            id: row.id,
            event: row.event,
            status: match row.job_status {
                JobStatus::Queued | JobStatus::Running => "pending",
                JobStatus::Completed => "delivered",
                JobStatus::Failed | JobStatus::Cancelled => "failed",
            },
            attempts: row.tries,
            response_status: row.response_status,
            error: row.error.filter(|_| !delivered),
            next_attempt_at: Some(row.run_at).filter(|_| row.job_status == JobStatus::Queued).map(Time),
            created_at: row.created_at.into(),
            delivered_at: row.finished_at.filter(|_| delivered).map(Time),
        }
    }
}

/// A delivery from the event to the last answer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeliveryTimeline)]
pub(crate) struct TimelineView {
    event: ToldEvent,
    delivery: DeliveryView,
    /// Every request, oldest first.
    attempts: Vec<AttemptView>,
}

/// What is told.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeliveredEvent)]
pub(crate) struct ToldEvent {
    #[schema(schema_with = event_words)]
    event: String,
    created_at: Time,
    /// The body of the requests: `{id, event, data}`.
    #[schema(value_type = Object)]
    body: Value,
}

/// One request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = DeliveryAttempt)]
pub(crate) struct AttemptView {
    /// Rises from one request to the next; not every number needs to have led to a request.
    attempt: i32,
    sent_at: Time,
    /// Of the answer, if there was one.
    #[schema(required)]
    status: Option<i16>,
    /// Until the answer was there, in milliseconds.
    latency_ms: i32,
    /// Why there was none, or why it does not count.
    #[schema(required)]
    error: Option<String>,
    /// The first 4 KiB of the answer.
    #[schema(required)]
    answer: Option<String>,
}

impl TimelineView {
    pub(crate) fn new(row: DeliveryRow, body: &str, attempts: Vec<WebhookAttempt>) -> Self {
        Self {
            event: ToldEvent {
                event: row.event.clone(),
                created_at: row.created_at.into(),
                body: serde_json::from_str(body).unwrap_or_default(),
            },
            delivery: row.into(),
            attempts: attempts.into_iter().map(AttemptView::from).collect(),
        }
    }
}

impl From<WebhookAttempt> for AttemptView {
    fn from(attempt: WebhookAttempt) -> Self {
        Self {
            attempt: attempt.attempt,
            sent_at: attempt.sent_at.into(),
            status: attempt.status,
            latency_ms: attempt.latency_ms,
            error: attempt.error,
            answer: attempt.answer,
        }
    }
}
