//! What was delivered to a webhook, try by try, and sending it again.

use super::webhooks::{DeliveryQueued, find as find_webhook};
use crate::{
    auth::Caller,
    error::ApiError,
    extract::Valid,
    idempotency::once,
    list::{self, Filter, ListParams, ListQuery, ListSpec, Page, SortKind, Sortable, Values},
    state::State,
    views::{DeliveryView, TimelineView},
};
use actix_web::{HttpResponse, get, post, web};
use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;
use garde::Validate;
use serde::{Deserialize, Serialize};
use shared::models::{DELIVERY_COLUMNS, DeliveryRow, FROM_DELIVERIES, JobStatus, Replay, Webhook};
use utoipa::ToSchema;
use uuid::Uuid;

/// Most deliveries that one request sends again.
const MOST: i64 = 10_000;

/// Where a delivery stands, in the words of clients.
const STATUS: &str = "CASE j.status WHEN 'queued' THEN 'pending' WHEN 'running' THEN 'pending' \
    WHEN 'completed' THEN 'delivered' ELSE 'failed' END";

/// The deliveries of one webhook.
static DELIVERIES: ListSpec = ListSpec {
    from: FROM_DELIVERIES,
    columns: DELIVERY_COLUMNS,
    condition: None,
    id: "d.id",
    default_limit: 20,
    filters: &[
        Filter {
            name: "status",
            sql: STATUS,
            values: Values::Words(&[("pending", "pending"), ("delivered", "delivered"), ("failed", "failed")]),
        },
        Filter { name: "event", sql: "d.event", values: EVENTS },
    ],
    searched: &[],
    sortable: &[Sortable::new("created_at", "d.created_at", SortKind::Time)],
};

/// Clients and the table use the same words.
const EVENTS: Values = Values::Words(&[
    ("ai.task.completed", "ai.task.completed"),
    ("ai.task.failed", "ai.task.failed"),
    ("quota.warning", "quota.warning"),
    ("orchestration.started", "orchestration.started"),
    ("orchestration.completed", "orchestration.completed"),
    ("orchestration.failed", "orchestration.failed"),
    ("orchestration.cancelled", "orchestration.cancelled"),
    ("execution.completed", "execution.completed"),
    ("execution.failed", "execution.failed"),
    ("job.completed", "job.completed"),
    ("job.failed", "job.failed"),
    ("webhook.test", "webhook.test"),
]);

/// Which deliveries are to be sent again.
#[derive(Debug, Deserialize, ToSchema, Validate)]
pub(crate) struct ReplayDeliveries {
    /// Those written at this time or after.
    #[garde(skip)]
    #[schema(value_type = String, format = DateTime)]
    since: DateTime<Utc>,
    /// Those written at this time or before; now unless it is given.
    #[garde(custom(not_before(self.since)))]
    #[schema(value_type = Option<String>, format = DateTime)]
    until: Option<DateTime<Utc>>,
    /// Only those that were delivered, or only those that failed; both unless it is given.
    #[garde(skip)]
    #[schema(inline)]
    status: Option<EndedStatus>,
}

/// How a delivery has ended.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EndedStatus {
    Delivered,
    Failed,
}

/// How many deliveries are sent again.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplayQueued {
    queued: usize,
    /// There are more in this range than one request sends again: ask again with a later `since`.
    more: bool,
}

fn not_before(since: DateTime<Utc>) -> impl FnOnce(&Option<DateTime<Utc>>, &()) -> garde::Result {
    move |until, ()| match until {
        Some(until) if *until < since => Err(garde::Error::new("must not lie before since")),
        Some(_) | None => Ok(()),
    }
}

/// List the deliveries of a webhook
///
/// They are kept for 30 days.
#[utoipa::path(
    tag = "webhooks",
    security(("bearer" = [])),
    params(
        ("id" = Uuid, Path),
        ("status" = Option<String>, Query, description = "pending, delivered, failed; several separated by commas"),
        ("event" = Option<String>, Query, description = "One or several, separated by commas"),
        ListQuery,
    ),
    responses(
        (status = 200, description = "A page of deliveries", body = Page<DeliveryView>),
        (status = 404, description = "No such webhook of yours"),
    ),
)]
#[get("/webhooks/{id}/deliveries")]
pub(crate) async fn list_deliveries(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    find_webhook(&mut conn, *id, caller.user_id).await?;
    let page: Page<DeliveryRow> = list::fetch(&mut conn, &DELIVERIES, &params, &[("d.webhook_id", *id)]).await?;
    Ok(HttpResponse::Ok().json(page.with(|rows| rows.into_iter().map(DeliveryView::from).collect())))
}

/// Show a delivery from the event to the last answer
#[utoipa::path(
    tag = "webhooks",
    security(("bearer" = [])),
    params(("id" = Uuid, Path), ("delivery_id" = Uuid, Path)),
    responses(
        (status = 200, description = "The event, the delivery, and every request", body = TimelineView),
        (status = 404, description = "No such webhook of yours, or no such delivery"),
    ),
)]
#[get("/webhooks/{id}/deliveries/{delivery_id}")]
pub(crate) async fn get_delivery(
    state: web::Data<State>,
    caller: Caller,
    ids: web::Path<(Uuid, Uuid)>,
) -> Result<HttpResponse, ApiError> {
    let (id, delivery_id) = *ids;
    let mut conn = state.conn().await?;
    find_webhook(&mut conn, id, caller.user_id).await?;
    let delivery = find(&mut conn, delivery_id, id).await?;
    let body = delivery.body(&mut conn).await?;
    let attempts = delivery.attempts(&mut conn).await?;
    Ok(HttpResponse::Ok().json(TimelineView::new(delivery, &body, attempts)))
}

/// Send a delivery again
///
/// With the same id and the same body, whether it was delivered or has failed.
#[utoipa::path(
    tag = "webhooks",
    security(("bearer" = [])),
    params(("id" = Uuid, Path), ("delivery_id" = Uuid, Path)),
    responses(
        (status = 202, description = "It will be sent", body = DeliveryQueued),
        (status = 404, description = "No such webhook of yours, or no such delivery"),
        (status = 409, description = "It is on its way, or the webhook is not active"),
    ),
)]
#[post("/webhooks/{id}/deliveries/{delivery_id}/redeliver")]
pub(crate) async fn redeliver(
    state: web::Data<State>,
    caller: Caller,
    ids: web::Path<(Uuid, Uuid)>,
) -> Result<HttpResponse, ApiError> {
    let (id, delivery_id) = *ids;
    let mut conn = state.conn().await?;
    let hint = once(&mut conn, async |conn| {
        let webhook = find_webhook(conn, id, caller.user_id).await?;
        let delivery = find(conn, delivery_id, id).await?;
        if delivery.event != "webhook.test" {
            require_active(&webhook)?;
        }
        let on_its_way = || ApiError::conflict("This delivery is on its way; it can be sent again when it has ended");
        delivery.reopen(conn).await?.ok_or_else(on_its_way)
    })
    .await?;
    drop(conn);
    state.hint(std::slice::from_ref(&hint)).await;
    Ok(HttpResponse::Accepted().json(DeliveryQueued::new(delivery_id)))
}

/// Send the deliveries of a time again
///
/// Those that have ended, in the order in which they were written, at most 10,000, each with the same id and the same body.
#[utoipa::path(
    tag = "webhooks",
    security(("bearer" = [])),
    params(("id" = Uuid, Path)),
    request_body = ReplayDeliveries,
    responses(
        (status = 202, description = "They will be sent", body = ReplayQueued),
        (status = 404, description = "No such webhook of yours"),
        (status = 409, description = "The webhook is not active"),
    ),
)]
#[post("/webhooks/{id}/replay")]
pub(crate) async fn replay_deliveries(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
    body: Valid<ReplayDeliveries>,
) -> Result<HttpResponse, ApiError> {
    let Valid(body) = body;
    let replay = Replay {
        webhook_id: *id,
        since: body.since,
        until: body.until.unwrap_or_else(Utc::now),
        statuses: match body.status {
            None => vec![JobStatus::Completed, JobStatus::Failed, JobStatus::Cancelled],
            Some(EndedStatus::Delivered) => vec![JobStatus::Completed],
            Some(EndedStatus::Failed) => vec![JobStatus::Failed, JobStatus::Cancelled],
        },
        limit: MOST,
    };
    let mut conn = state.conn().await?;
    let (hints, more) = once(&mut conn, async |conn| {
        require_active(&find_webhook(conn, replay.webhook_id, caller.user_id).await?)?;
        let hints = replay.reopen(conn).await?;
        let full = i64::try_from(hints.len()).is_ok_and(|queued| queued >= MOST);
        Ok((hints, full && replay.has_more(conn).await?))
    })
    .await?;
    drop(conn);
    state.hint(&hints).await;
    Ok(HttpResponse::Accepted().json(ReplayQueued { queued: hints.len(), more }))
}

async fn find(conn: &mut AsyncPgConnection, id: Uuid, webhook_id: Uuid) -> Result<DeliveryRow, ApiError> {
    DeliveryRow::find(conn, id, webhook_id).await?.ok_or_else(|| ApiError::not_found("Delivery"))
}

fn require_active(webhook: &Webhook) -> Result<(), ApiError> {
    if webhook.is_active { Ok(()) } else { Err(ApiError::conflict("The webhook is not active; switch it on first")) }
}
