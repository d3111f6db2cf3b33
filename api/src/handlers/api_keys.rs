//! API keys: making, listing, changing and deleting them.

use crate::{
    auth::{Caller, api_keys::FreshKey, permissions::Permission},
    error::ApiError,
    extract::{Valid, not_blank},
    idempotency::once,
    list::{self, ListParams, ListQuery, ListSpec, Page, SortKind, Sortable},
    origin::Origin,
    state::State,
    views::{ApiKeyView, MadeKey, Message},
};
use actix_web::{HttpResponse, delete, get, post, put, web};
use chrono::{Duration, Utc};
use diesel_async::AsyncConnection;
use garde::Validate;
use serde::Deserialize;
use serde_json::{Value, json};
use shared::models::{ApiKey, ApiKeyChange, AuditEntry, NewApiKey, NewAudit};
use utoipa::ToSchema;
use uuid::Uuid;

/// Most keys of one user.
const MOST: i64 = 100;

/// The keys of one user.
static KEYS: ListSpec = ListSpec {
    from: "api_keys k",
    columns: "k.*",
    condition: None,
    id: "k.id",
    default_limit: 20,
    filters: &[],
    searched: &[],
    sortable: &[
        Sortable::new("created_at", "k.created_at", SortKind::Time),
        Sortable::new("name", "k.name", SortKind::Text),
    ],
};

/// A key to be made.
#[derive(Debug, Deserialize, Validate, ToSchema)]
pub(crate) struct CreateKey {
    #[garde(length(chars, min = 1, max = 100), custom(not_blank))]
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// What it may; `*` for everything that keys may.
    #[garde(length(min = 1, max = 100), inner(custom(known)))]
    #[schema(min_items = 1, example = json!(["pipelines:read", "pipelines:execute"]))]
    permissions: Vec<String>,
    /// Days until it stops.
    #[garde(range(min = 1, max = 3650))]
    #[schema(minimum = 1, maximum = 3650, default = 90)]
    #[serde(default = "ninety")]
    expires_in: i64,
}

/// What is to change in a key; what is not sent stays.
#[derive(Debug, Deserialize, Validate, ToSchema)]
pub(crate) struct UpdateKey {
    #[garde(length(chars, min = 1, max = 100), inner(custom(not_blank)))]
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    #[garde(length(min = 1, max = 100), inner(inner(custom(known))))]
    #[schema(min_items = 1)]
    permissions: Option<Vec<String>>,
}

const fn ninety() -> i64 {
    90
}

fn known(word: &str, (): &()) -> garde::Result {
    if Permission::find(word).is_some() {
        return Ok(());
    }
    Err(garde::Error::new(format!("is none of: {}", Permission::WORDS.join(", "))))
}

/// Each once, in the order of the list of all.
fn tidy(permissions: &[String]) -> Vec<String> {
    let words = Permission::WORDS.iter().copied();
    words.filter(|word| permissions.iter().any(|sent| sent == word)).map(ToOwned::to_owned).collect()
}

/// List API keys
#[utoipa::path(
    tag = "api-keys",
    security(("bearer" = [])),
    params(ListQuery),
    responses((status = 200, description = "A page of your keys, whichever organization they act in", body = Page<ApiKeyView>)),
)]
#[get("/api-keys")]
pub(crate) async fn list_keys(
    state: web::Data<State>,
    caller: Caller,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let page: Page<ApiKey> = list::fetch(&mut conn, &KEYS, &params, &[("k.user_id", caller.user_id)]).await?;
    Ok(HttpResponse::Ok().json(page.with(|keys| keys.into_iter().map(ApiKeyView::from).collect())))
}

/// Make an API key
///
/// It acts in your current organization, with the role that you have there at the time of each request.
#[utoipa::path(
    tag = "api-keys",
    security(("bearer" = [])),
    request_body = CreateKey,
    responses(
        (status = 201, description = "The key; it is shown this once", body = MadeKey),
        (status = 409, description = "You have 100 keys already"),
    ),
)]
#[post("/api-keys")]
pub(crate) async fn create_key(
    state: web::Data<State>,
    caller: Caller,
    origin: Origin,
    body: Valid<CreateKey>,
) -> Result<HttpResponse, ApiError> {
    let Valid(body) = body;
    let (fresh, permissions) = (FreshKey::new(), tidy(&body.permissions));
    let mut conn = state.conn().await?;
    let made = once(&mut conn, async |conn| {
        let new = NewApiKey {
            id: Uuid::now_v7(),
            user_id: caller.user_id,
            organization_id: caller.organization_id,
            name: &body.name,
            prefix: fresh.prefix(),
            hash: &fresh.hash,
            permissions: &permissions,
            expires_at: Utc::now() + Duration::days(body.expires_in),
        };
        let made = ApiKey::insert(conn, &new, MOST).await?;
        let made = made.ok_or_else(|| ApiError::conflict(format!("You have {MOST} API keys; delete one first")))?;
        let data = json!({ "name": made.name, "permissions": made.permissions, "expires_at": made.expires_at });
        AuditEntry::insert(conn, audit(&caller, &origin, "api_key.created", &made, data)).await?;
        Ok(made)
    })
    .await?;
    Ok(HttpResponse::Created().json(MadeKey { about: made.into(), key: fresh.text }))
}

/// Show an API key
#[utoipa::path(
    tag = "api-keys",
    security(("bearer" = [])),
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The key, without its text", body = ApiKeyView),
        (status = 404, description = "No such key of yours"),
    ),
)]
#[get("/api-keys/{id}")]
pub(crate) async fn get_key(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let key = ApiKey::find(&mut *state.conn().await?, *id, caller.user_id).await?;
    let key = key.ok_or_else(|| ApiError::not_found("API key"))?;
    Ok(HttpResponse::Ok().json(ApiKeyView::from(key)))
}

/// Change an API key
///
/// Its name, or what it may; that counts from the next request on.
#[utoipa::path(
    tag = "api-keys",
    security(("bearer" = [])),
    params(("id" = Uuid, Path)),
    request_body = UpdateKey,
    responses(
        (status = 200, description = "The key", body = ApiKeyView),
        (status = 404, description = "No such key of yours"),
    ),
)]
#[put("/api-keys/{id}")]
pub(crate) async fn update_key(
    state: web::Data<State>,
    caller: Caller,
    origin: Origin,
    id: web::Path<Uuid>,
    body: Valid<UpdateKey>,
) -> Result<HttpResponse, ApiError> {
    let Valid(body) = body;
    let permissions = body.permissions.as_deref().map(tidy);
    let mut conn = state.conn().await?;
    let changed = conn
        .transaction(async |conn| {
            let change = ApiKeyChange { name: body.name.as_deref(), permissions: permissions.as_deref() };
            let changed = ApiKey::update(conn, *id, caller.user_id, &change).await?;
            let changed = changed.ok_or_else(|| ApiError::not_found("API key"))?;
            let data = json!({ "name": body.name, "permissions": permissions });
            AuditEntry::insert(conn, audit(&caller, &origin, "api_key.updated", &changed, data)).await?;
            Ok::<_, ApiError>(changed)
        })
        .await?;
    Ok(HttpResponse::Ok().json(ApiKeyView::from(changed)))
}

/// Delete an API key
///
/// It stops at once.
#[utoipa::path(
    tag = "api-keys",
    security(("bearer" = [])),
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "It is gone", body = Message),
        (status = 404, description = "No such key of yours"),
    ),
)]
#[delete("/api-keys/{id}")]
pub(crate) async fn delete_key(
    state: web::Data<State>,
    caller: Caller,
    origin: Origin,
    id: web::Path<Uuid>,
) -> Result<web::Json<Message>, ApiError> {
    let mut conn = state.conn().await?;
    conn.transaction(async |conn| {
        let gone = ApiKey::delete(conn, *id, caller.user_id).await?;
        let gone = gone.ok_or_else(|| ApiError::not_found("API key"))?;
        let data = json!({ "name": gone.name });
        AuditEntry::insert(conn, audit(&caller, &origin, "api_key.deleted", &gone, data)).await?;
        Ok::<_, ApiError>(())
    })
    .await?;
    Ok(web::Json(Message::new("API key deleted successfully")))
}

/// What the log of changes says of a key, in the organization that it acts in.
fn audit<'a>(caller: &Caller, origin: &'a Origin, action: &'a str, key: &ApiKey, data: Value) -> NewAudit<'a> {
    origin.entry(key.organization_id, caller.user_id, action, ("api_key", key.id), data)
}
