//! Organizations: the current one, all of one's own, and going from one to another.

use crate::{
    auth::Caller,
    error::{ApiError, Detail},
    extract::{Valid, not_blank},
    idempotency::once,
    list::{self, ListParams, ListQuery, ListSpec, Page, SortKind, Sortable},
    origin::Origin,
    state::State,
    views::{ListedOrganization, Message, OrganizationView},
};
use actix_web::{HttpResponse, get, post, put, web};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use garde::{Path, Report, Validate};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use shared::models::{AuditEntry, Membership, Organization, OrganizationOfMember, Role};
use utoipa::ToSchema;
use uuid::Uuid;

/// Most bytes of all settings together: they are read with every request that looks for a default.
const MAX_SETTINGS: usize = 32 * 1024;

/// Longest id of a model.
const MAX_MODEL: usize = 100;

/// An organization to be made.
#[derive(Debug, Deserialize, Validate, ToSchema)]
pub(crate) struct CreateOrganization {
    #[garde(length(chars, min = 1, max = 200), custom(not_blank))]
    #[schema(min_length = 1, max_length = 200)]
    name: String,
}

/// What is to change in the organization; what is not sent stays.
#[derive(Debug, Deserialize, Validate, ToSchema)]
pub(crate) struct UpdateOrganization {
    #[garde(length(chars, min = 1, max = 200), inner(custom(not_blank)))]
    #[schema(min_length = 1, max_length = 200)]
    name: Option<String>,
    /// Merged key by key: `default_ai_model` (text), `integration_enabled` (bool), and anything else, which is kept.
    #[garde(dive)]
    #[schema(value_type = Option<Object>)]
    settings: Option<Settings>,
}

/// Settings to be merged.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(crate) struct Settings(Map<String, Value>);

impl Validate for Settings {
    type Context = ();

    fn validate_into(&self, (): &(), parent: &mut dyn FnMut() -> Path, report: &mut Report) {
        let mut problem = |key: &str, message: &str| report.append(parent().join(key), garde::Error::new(message));
        match self.0.get("default_ai_model") {
            Some(Value::String(model)) if !model.trim().is_empty() && model.len() <= MAX_MODEL => {}
            Some(_) => problem("default_ai_model", "must be the id of a model, at most 100 bytes"),
            None => {}
        }
        if self.0.get("integration_enabled").is_some_and(|enabled| !enabled.is_boolean()) {
            problem("integration_enabled", "must be true or false");
        }
    }
}

/// The own organizations.
static ORGANIZATIONS: ListSpec = ListSpec {
    from: OrganizationOfMember::FROM,
    columns: OrganizationOfMember::COLUMNS,
    condition: None,
    id: "o.id",
    default_limit: 20,
    filters: &[],
    searched: &["o.name"],
    sortable: &[
        Sortable::new("created_at", "o.created_at", SortKind::Time),
        Sortable::new("name", "o.name", SortKind::Text),
        Sortable::new("joined_at", "m.joined_at", SortKind::Time),
    ],
};

/// List the organizations you belong to
#[utoipa::path(
    tag = "organizations",
    security(("bearer" = [])),
    params(ListQuery),
    responses((status = 200, description = "A page of organizations, each with your role", body = Page<ListedOrganization>)),
)]
#[get("/organizations")]
pub(crate) async fn list_organizations(
    state: web::Data<State>,
    caller: Caller,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let owner = [("m.user_id", caller.user_id)];
    let page: Page<OrganizationOfMember> = list::fetch(&mut conn, &ORGANIZATIONS, &params, &owner).await?;
    Ok(HttpResponse::Ok().json(
        page.with(|rows| rows.into_iter().map(|found| ListedOrganization::new(&state.config.limits, found)).collect()),
    ))
}

/// Make another organization
///
/// You are its admin. It becomes the current one when you switch to it.
#[utoipa::path(
    tag = "organizations",
    security(("bearer" = [])),
    request_body = CreateOrganization,
    responses((status = 201, description = "The organization", body = OrganizationView)),
)]
#[post("/organizations")]
pub(crate) async fn create_organization(
    state: web::Data<State>,
    caller: Caller,
    origin: Origin,
    body: Valid<CreateOrganization>,
) -> Result<HttpResponse, ApiError> {
    let Valid(CreateOrganization { name }) = body;
    let mut conn = state.conn().await?;
    let made = once(&mut conn, async |conn| {
        let Organization { id, .. } = Organization::create(conn, &name).await?;
        Membership::insert(conn, id, caller.user_id, Role::Admin).await?;
        let data = json!({ "name": name });
        let entry = origin.entry(id, caller.user_id, "organization.created", ("organization", id), data);
        AuditEntry::insert(conn, entry).await?;
        find(&state, conn, id, caller.user_id).await
    })
    .await?;
    Ok(HttpResponse::Created().json(made))
}

/// Show the current organization
#[utoipa::path(
    tag = "organizations",
    security(("bearer" = [])),
    responses((status = 200, description = "The organization", body = OrganizationView)),
)]
#[get("/organizations/current")]
pub(crate) async fn get_organization(
    state: web::Data<State>,
    caller: Caller,
) -> Result<web::Json<OrganizationView>, ApiError> {
    find(&state, &mut *state.conn().await?, caller.organization_id, caller.user_id).await.map(web::Json)
}

/// Change the current organization
///
/// The slug stays.
#[utoipa::path(
    tag = "organizations",
    security(("bearer" = [])),
    request_body = UpdateOrganization,
    responses((status = 200, description = "The organization", body = OrganizationView)),
)]
#[put("/organizations/current")]
pub(crate) async fn update_organization(
    state: web::Data<State>,
    caller: Caller,
    origin: Origin,
    body: Valid<UpdateOrganization>,
) -> Result<web::Json<OrganizationView>, ApiError> {
    let Valid(UpdateOrganization { name, settings }) = body;
    let mut conn = state.conn().await?;
    let id = caller.organization_id;
    let changed = conn
        .transaction(async |conn| {
            let stored = Organization::hold(conn, id).await?.ok_or_else(|| ApiError::not_found("Organization"))?;
            let data = change(&stored, name.as_deref(), settings.as_ref());
            let settings = settings.map(|Settings(settings)| Value::Object(settings));
            let size = Organization::update(conn, id, name.as_deref(), settings.as_ref()).await?;
            if size > MAX_SETTINGS {
                let message = format!("must have at most {MAX_SETTINGS} bytes together with those that are there");
                return Err(ApiError::invalid(vec![Detail::new("settings", message)]));
            }
            let entry = origin.entry(id, caller.user_id, "organization.updated", ("organization", id), data);
            AuditEntry::insert(conn, entry).await?;
            find(&state, conn, id, caller.user_id).await
        })
        .await?;
    Ok(web::Json(changed))
}

/// What the log of changes keeps: of settings their names, since nobody knows what admins keep in there.
fn change(stored: &Organization, name: Option<&str>, settings: Option<&Settings>) -> Value {
    let mut change = Map::new();
    if let Some(name) = name.filter(|name| *name != stored.name) {
        change.insert("name".to_owned(), json!({ "from": stored.name, "to": name }));
    }
    if let Some(Settings(settings)) = settings {
        let changed = settings.iter().filter(|(key, value)| stored.settings.get(key) != Some(value));
        change.insert("settings".to_owned(), changed.map(|(key, _)| key.as_str()).collect());
    }
    Value::Object(change)
}

/// Work in another organization
///
/// It becomes the current one at once, for tokens that were issued before, too.
#[utoipa::path(
    tag = "organizations",
    security(("bearer" = [])),
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The organization, which is the current one now", body = OrganizationView),
        (status = 404, description = "You belong to no such organization"),
    ),
)]
#[post("/organizations/{id}/switch")]
pub(crate) async fn switch_organization(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<web::Json<OrganizationView>, ApiError> {
    let mut conn = state.conn().await?;
    let current = once(&mut conn, async |conn| {
        if !Membership::make_current(conn, *id, caller.user_id).await? {
            return Err(ApiError::not_found("Organization"));
        }
        find(&state, conn, *id, caller.user_id).await
    })
    .await?;
    Ok(web::Json(current))
}

/// Leave the current organization
///
/// Another one of yours becomes the current one, or a new personal one. Your schedules there go on as those of an admin.
#[utoipa::path(
    tag = "organizations",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "You have left", body = Message),
        (status = 409, description = "You are its last admin"),
    ),
)]
#[post("/organizations/current/leave")]
pub(crate) async fn leave_organization(
    state: web::Data<State>,
    caller: Caller,
    origin: Origin,
) -> Result<web::Json<Message>, ApiError> {
    let mut conn = state.conn().await?;
    let (id, user_id) = (caller.organization_id, caller.user_id);
    once(&mut conn, async |conn| {
        let membership = held(conn, id, user_id).await?;
        if membership.is_last_admin(conn).await? {
            return Err(last_admin("leave"));
        }
        let data = json!({ "role": membership.role });
        AuditEntry::insert(conn, origin.entry(id, user_id, "member.left", ("user", user_id), data)).await?;
        Ok(membership.end(conn).await?)
    })
    .await?;
    Ok(web::Json(Message::new("You have left the organization")))
}

/// The organization as this member sees it.
pub(super) async fn find(
    state: &State,
    conn: &mut AsyncPgConnection,
    id: Uuid,
    user_id: Uuid,
) -> Result<OrganizationView, ApiError> {
    let found = OrganizationOfMember::find(conn, id, user_id).await?;
    let view = |found| OrganizationView::new(&state.config.limits, found);
    found.map(view).ok_or_else(|| ApiError::not_found("Organization"))
}

/// The place of a member, in an organization that is held from then on.
pub(super) async fn held(conn: &mut AsyncPgConnection, id: Uuid, user_id: Uuid) -> Result<Membership, ApiError> {
    let not_found = || ApiError::not_found("Member");
    Organization::hold(conn, id).await?.ok_or_else(not_found)?;
    Membership::find(conn, id, user_id).await?.ok_or_else(not_found)
}

/// 409: an organization always has an admin.
pub(super) fn last_admin(what: &str) -> ApiError {
    ApiError::conflict(format!("The last admin of an organization cannot {what}; make somebody else an admin first"))
}
