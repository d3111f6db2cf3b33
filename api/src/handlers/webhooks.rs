//! Webhooks: each belongs to the user who made it, and nobody else sees it.

use super::webhook_body::{CreateWebhook, UpdateWebhook, distinct, new_secret};
use crate::{
    auth::Caller,
    error::ApiError,
    extract::Valid,
    idempotency::once,
    list::{self, ListParams, ListQuery, ListSpec, Page, SortKind, Sortable},
    origin::Origin,
    state::State,
    views::{Message, Time, WebhookView},
};
use actix_web::{HttpResponse, delete, get, post, put, web};
use chrono::Utc;
use diesel_async::{AsyncConnection, AsyncPgConnection};
use serde::Serialize;
use serde_json::{Value, json};
use shared::{
    models::{AuditEntry, NewAudit, NewWebhook, Webhook},
    webhook_event::WebhookEvent,
};
use url::Url;
use utoipa::ToSchema;
use uuid::Uuid;

/// Most webhooks of one user.
const MOST: i64 = 100;

/// The webhooks of one user.
static WEBHOOKS: ListSpec = ListSpec {
    from: "webhooks w",
    columns: "w.*",
    condition: None,
    id: "w.id",
    default_limit: 20,
    filters: &[],
    searched: &[],
    sortable: &[
        Sortable::new("created_at", "w.created_at", SortKind::Time),
        Sortable::new("name", "w.name", SortKind::Text),
    ],
};

/// A delivery that waits to be sent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryQueued {
    delivery_id: Uuid,
    #[schema(example = "queued")]
    status: &'static str,
}

impl DeliveryQueued {
    pub(super) const fn new(delivery_id: Uuid) -> Self {
        Self { delivery_id, status: "queued" }
    }
}

/// List webhooks
#[utoipa::path(
    tag = "webhooks",
    security(("bearer" = [])),
    params(ListQuery),
    responses((status = 200, description = "A page of your webhooks", body = Page<WebhookView>)),
)]
#[get("/webhooks")]
pub(crate) async fn list_webhooks(
    state: web::Data<State>,
    caller: Caller,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let page: Page<Webhook> = list::fetch(&mut conn, &WEBHOOKS, &params, &[("w.user_id", caller.user_id)]).await?;
    Ok(HttpResponse::Ok().json(page.with(|rows| rows.into_iter().map(WebhookView::from).collect())))
}

/// Make a webhook
///
/// `ai.task.*`, `quota.warning` and `job.*` are told of your own work, `execution.*` and `orchestration.*` of that of the
/// whole organization. The secret is in this answer only.
#[utoipa::path(
    tag = "webhooks",
    security(("bearer" = [])),
    request_body = CreateWebhook,
    responses(
        (status = 201, description = "The webhook, with its secret", body = WebhookView),
        (status = 409, description = "You have as many as you can have"),
    ),
)]
#[post("/webhooks")]
pub(crate) async fn create_webhook(
    state: web::Data<State>,
    caller: Caller,
    origin: Origin,
    body: Valid<CreateWebhook>,
) -> Result<HttpResponse, ApiError> {
    let Valid(body) = body;
    let new = NewWebhook {
        id: Uuid::now_v7(),
        user_id: caller.user_id,
        organization_id: caller.organization_id,
        name: body.name.unwrap_or_else(|| host(&body.url)),
        url: body.url,
        events: distinct(body.events),
        secret: body.secret.or(body.secret_key).unwrap_or_else(new_secret),
        is_active: body.active.or(body.is_active).unwrap_or(true),
        ordered: body.ordered.unwrap_or(false),
    };
    let mut conn = state.conn().await?;
    let webhook = once(&mut conn, async |conn| {
        if Webhook::count(conn, caller.user_id).await? >= MOST {
            return Err(ApiError::conflict(format!(
                "A user has at most {MOST} webhooks; delete one that is not needed"
            )));
        }
        let webhook = Webhook::insert(conn, new).await?;
        audit(conn, &caller, &origin, &webhook, "webhook.created", outline(&webhook)).await?;
        Ok(webhook)
    })
    .await?;
    Ok(HttpResponse::Created().json(WebhookView::with_secret(webhook)))
}

/// Show a webhook
#[utoipa::path(
    tag = "webhooks",
    security(("bearer" = [])),
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The webhook", body = WebhookView),
        (status = 404, description = "No such webhook of yours"),
    ),
)]
#[get("/webhooks/{id}")]
pub(crate) async fn get_webhook(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let webhook = find(&mut *state.conn().await?, *id, caller.user_id).await?;
    Ok(HttpResponse::Ok().json(WebhookView::from(webhook)))
}

/// Change a webhook
///
/// What is on its way goes to the new address.
#[utoipa::path(
    tag = "webhooks",
    security(("bearer" = [])),
    params(("id" = Uuid, Path)),
    request_body = UpdateWebhook,
    responses(
        (status = 200, description = "The webhook", body = WebhookView),
        (status = 404, description = "No such webhook of yours"),
    ),
)]
#[put("/webhooks/{id}")]
pub(crate) async fn update_webhook(
    state: web::Data<State>,
    caller: Caller,
    origin: Origin,
    id: web::Path<Uuid>,
    body: Valid<UpdateWebhook>,
) -> Result<HttpResponse, ApiError> {
    let (id, Valid(body)) = (*id, body);
    let mut conn = state.conn().await?;
    let webhook = conn
        .transaction(async |conn| {
            let stored = lock(conn, id, caller.user_id).await?;
            let (secret, url) = (stored.secret.clone(), stored.url.clone());
            let saved = change(stored, body).save(conn).await?;
            let mut changed = outline(&saved);
            changed["url_changed"] = json!(saved.url != url);
            audit(conn, &caller, &origin, &saved, "webhook.updated", changed).await?;
            if saved.secret != secret {
                audit(conn, &caller, &origin, &saved, "webhook.secret_rotated", json!({})).await?;
            }
            Ok::<_, ApiError>(saved)
        })
        .await?;
    Ok(HttpResponse::Ok().json(WebhookView::from(webhook)))
}

/// Delete a webhook with its deliveries
#[utoipa::path(
    tag = "webhooks",
    security(("bearer" = [])),
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "It is gone", body = Message),
        (status = 404, description = "No such webhook of yours"),
    ),
)]
#[delete("/webhooks/{id}")]
pub(crate) async fn delete_webhook(
    state: web::Data<State>,
    caller: Caller,
    origin: Origin,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let id = *id;
    let mut conn = state.conn().await?;
    conn.transaction(async |conn| {
        let webhook = find(conn, id, caller.user_id).await?;
        if !Webhook::delete(conn, id, caller.user_id).await? {
            return Err(ApiError::not_found("Webhook"));
        }
        audit(conn, &caller, &origin, &webhook, "webhook.deleted", outline(&webhook)).await
    })
    .await?;
    Ok(HttpResponse::Ok().json(Message::new("Webhook deleted successfully")))
}

/// Test a webhook
///
/// Sends `webhook.test`, also if the webhook is not active.
#[utoipa::path(
    tag = "webhooks",
    security(("bearer" = [])),
    params(("id" = Uuid, Path)),
    responses(
        (status = 202, description = "It will be sent", body = DeliveryQueued),
        (status = 404, description = "No such webhook of yours"),
    ),
)]
#[post("/webhooks/{id}/test")]
pub(crate) async fn test_webhook(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let id = *id;
    let mut conn = state.conn().await?;
    let hint = once(&mut conn, async |conn| {
        let webhook = find(conn, id, caller.user_id).await?;
        let data = json!({
            "message": format!("This is a test of the webhook {:?}.", webhook.name),
            "user_id": caller.user_id,
            "timestamp": Time::now(),
        });
        Ok(webhook.tell(conn, caller.weight(), WebhookEvent::Test, &data).await?)
    })
    .await?;
    drop(conn);
    state.hint(std::slice::from_ref(&hint)).await;
    Ok(HttpResponse::Accepted().json(DeliveryQueued::new(hint.ticket.id)))
}

/// Give a webhook a new secret
///
/// For 24 hours deliveries carry a signature of the new one and one of the one before. The secret is in this answer only.
#[utoipa::path(
    tag = "webhooks",
    security(("bearer" = [])),
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The webhook, with its new secret", body = WebhookView),
        (status = 404, description = "No such webhook of yours"),
    ),
)]
#[post("/webhooks/{id}/rotate-secret")]
pub(crate) async fn rotate_secret(
    state: web::Data<State>,
    caller: Caller,
    origin: Origin,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let id = *id;
    let mut conn = state.conn().await?;
    let webhook = once(&mut conn, async |conn| {
        let webhook = lock(conn, id, caller.user_id).await?;
        let webhook = webhook.with_new_secret(new_secret(), Utc::now()).save(conn).await?;
        audit(conn, &caller, &origin, &webhook, "webhook.secret_rotated", json!({})).await?;
        Ok(webhook)
    })
    .await?;
    Ok(HttpResponse::Ok().json(WebhookView::with_secret(webhook)))
}

/// The webhook, if it is this user's.
pub(super) async fn find(conn: &mut AsyncPgConnection, id: Uuid, user_id: Uuid) -> Result<Webhook, ApiError> {
    Webhook::find(conn, id, user_id).await?.ok_or_else(|| ApiError::not_found("Webhook"))
}

async fn lock(conn: &mut AsyncPgConnection, id: Uuid, user_id: Uuid) -> Result<Webhook, ApiError> {
    Webhook::lock(conn, id, user_id).await?.ok_or_else(|| ApiError::not_found("Webhook"))
}

/// The webhook with its changes.
fn change(stored: Webhook, body: UpdateWebhook) -> Webhook {
    let is_active = body.active.or(body.is_active).unwrap_or(stored.is_active);
    let switched = is_active != stored.is_active;
    let secret = body.secret.or(body.secret_key).filter(|secret| *secret != stored.secret);
    let replaced = secret.is_some();
    Webhook {
        name: body.name.unwrap_or(stored.name),
        url: body.url.unwrap_or(stored.url),
        events: body.events.map_or(stored.events, distinct),
        secret: secret.unwrap_or(stored.secret),
        // whoever names a secret wants that one, and no other
        previous_secret: stored.previous_secret.filter(|_| !replaced),
        previous_secret_until: stored.previous_secret_until.filter(|_| !replaced),
        is_active,
        ordered: body.ordered.unwrap_or(stored.ordered),
        disabled_reason: stored.disabled_reason.filter(|_| !switched),
        failures: if switched && is_active { 0 } else { stored.failures },
        ..stored
    }
}

/// The name of a webhook that was given none.
fn host(url: &str) -> String {
    let host = Url::parse(url).ok().and_then(|url| url.host_str().map(ToOwned::to_owned));
    host.unwrap_or_else(|| "webhook".to_owned())
}

/// What the log of changes keeps of a webhook: not the whole address, in which there may be a secret.
fn outline(webhook: &Webhook) -> Value {
    json!({
        "name": webhook.name,
        "host": host(&webhook.url),
        "events": webhook.events,
        "is_active": webhook.is_active,
    })
}

async fn audit(
    conn: &mut AsyncPgConnection,
    caller: &Caller,
    origin: &Origin,
    webhook: &Webhook,
    action: &str,
    data: Value,
) -> Result<(), ApiError> {
    let entry = NewAudit {
        organization_id: webhook.organization_id,
        actor_id: Some(caller.user_id),
        action,
        target_type: "webhook",
        target_id: Some(webhook.id),
        data,
        ip: origin.ip.as_deref(),
        request_id: origin.request_id.as_deref(),
    };
    Ok(AuditEntry::insert(conn, entry).await?)
}
