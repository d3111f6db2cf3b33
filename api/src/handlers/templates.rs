//! Templates of orchestrations. Public ones are everybody's to read; they are changed by who made them, and by managers
//! and admins of the organization they belong to. Those that ship with the system belong to nobody.

use super::template_body::{CreateTemplate, UpdateTemplate};
use crate::{
    auth::Caller,
    error::ApiError,
    extract::Valid,
    idempotency::once,
    list::{self, Filter, ListParams, ListQuery, ListSpec, Page, SortKind, Sortable, Values},
    state::State,
    views::TemplateView,
};
use actix_web::{HttpResponse, HttpResponseBuilder, delete, get, post, put, web};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use shared::models::{NewTemplate, Template, TemplateChanges, TemplateRow};
use uuid::Uuid;

/// The templates that an organization sees.
static TEMPLATES: ListSpec = ListSpec {
    from: TemplateRow::FROM,
    columns: TemplateRow::COLUMNS,
    condition: None,
    id: "t.id",
    default_limit: 50,
    filters: &[
        Filter { name: "category", sql: "t.category", values: Values::Text },
        Filter { name: "is_public", sql: "t.is_public", values: Values::Bools },
    ],
    searched: &["t.name", "t.description"],
    sortable: &[
        Sortable::new("created_at", "t.created_at", SortKind::Time),
        Sortable::new("name", "t.name", SortKind::Text),
        Sortable::new("category", "t.category", SortKind::Text),
        Sortable::new("usage_count", "t.usage_count", SortKind::Integer),
    ],
};

/// List templates
///
/// Public ones, and the private ones of your organization.
#[utoipa::path(
    tag = "templates",
    security(("bearer" = [])),
    params(
        ("category" = Option<String>, Query, description = "One or several, separated by commas"),
        ("is_public" = Option<String>, Query, description = "`true`, `false`"),
        ListQuery,
    ),
    responses((status = 200, description = "A page of templates", body = Page<TemplateView>)),
)]
#[get("/templates")]
pub(crate) async fn list_templates(
    state: web::Data<State>,
    caller: Caller,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let seen = [(TemplateRow::SEEN_BY, caller.organization_id)];
    let page: Page<TemplateRow> = list::fetch(&mut conn, &TEMPLATES, &params, &seen).await?;
    Ok(HttpResponse::Ok().json(page.with(|rows| rows.into_iter().map(TemplateView::from).collect())))
}

/// Make a template
#[utoipa::path(
    tag = "templates",
    security(("bearer" = [])),
    request_body = CreateTemplate,
    responses((status = 201, description = "The template", body = TemplateView)),
)]
#[post("/templates")]
pub(crate) async fn create_template(
    state: web::Data<State>,
    caller: Caller,
    body: Valid<CreateTemplate>,
) -> Result<HttpResponse, ApiError> {
    let Valid(body) = body;
    let template = NewTemplate {
        id: Uuid::now_v7(),
        organization_id: caller.organization_id,
        created_by: caller.user_id,
        name: body.name,
        description: body.description.unwrap_or_default(),
        category: body.category.unwrap_or_else(|| "custom".to_owned()),
        is_public: body.is_public.unwrap_or_default(),
        template_data: body.template_data.complete(),
    };
    let mut conn = state.conn().await?;
    let made = once(&mut conn, async |conn| Ok(Template::insert(conn, &template).await?)).await?;
    show(&mut conn, HttpResponse::Created(), made.id, caller.organization_id).await
}

/// Show a template
#[utoipa::path(
    tag = "templates",
    security(("bearer" = [])),
    params(("template_id" = Uuid, Path)),
    responses(
        (status = 200, description = "The template", body = TemplateView),
        (status = 404, description = "No such template that you see"),
    ),
)]
#[get("/templates/{template_id}")]
pub(crate) async fn get_template(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    show(&mut conn, HttpResponse::Ok(), *id, caller.organization_id).await
}

/// Change a template
///
/// Members change their own, managers and admins all of their organization.
#[utoipa::path(
    tag = "templates",
    security(("bearer" = [])),
    params(("template_id" = Uuid, Path)),
    request_body = UpdateTemplate,
    responses(
        (status = 200, description = "The template", body = TemplateView),
        (status = 404, description = "No such template that you see"),
    ),
)]
#[put("/templates/{template_id}")]
pub(crate) async fn update_template(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
    body: Valid<UpdateTemplate>,
) -> Result<HttpResponse, ApiError> {
    let (id, Valid(body)) = (*id, body);
    let mut conn = state.conn().await?;
    conn.transaction(async |conn| {
        lock_own(conn, id, &caller).await?;
        let changes = TemplateChanges {
            name: body.name,
            description: body.description,
            category: body.category,
            is_public: body.is_public,
            template_data: body.template_data.map(|data| data.complete()),
            updated_at: None,
        };
        Template::update(conn, id, changes).await?;
        Ok::<_, ApiError>(())
    })
    .await?;
    show(&mut conn, HttpResponse::Ok(), id, caller.organization_id).await
}

/// Delete a template
///
/// What was made from it stays. Members delete their own, managers and admins all of their organization.
#[utoipa::path(
    tag = "templates",
    security(("bearer" = [])),
    params(("template_id" = Uuid, Path)),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "No such template that you see"),
    ),
)]
#[delete("/templates/{template_id}")]
pub(crate) async fn delete_template(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let id = *id;
    let mut conn = state.conn().await?;
    conn.transaction(async |conn| {
        lock_own(conn, id, &caller).await?;
        Template::delete(conn, id).await?;
        Ok::<_, ApiError>(())
    })
    .await?;
    Ok(HttpResponse::NoContent().finish())
}

fn missing() -> ApiError {
    ApiError::not_found("Template")
}

/// Holds a template that the caller may decide about.
///
/// # Errors
/// 404 if the caller does not see it; 403 if it is not the caller's to change.
async fn lock_own(conn: &mut AsyncPgConnection, id: Uuid, caller: &Caller) -> Result<Template, ApiError> {
    let template = Template::lock(conn, id, caller.organization_id).await?.ok_or_else(missing)?;
    let (Some(organization_id), Some(created_by)) = (template.organization_id, template.created_by) else {
        return Err(ApiError::forbidden("This template ships with the system; make one of your own from it"));
    };
    if organization_id != caller.organization_id {
        return Err(ApiError::forbidden("This template belongs to another organization"));
    }
    if !caller.may_decide_about(created_by) {
        return Err(ApiError::forbidden("Members change their own templates only; ask a manager"));
    }
    Ok(template)
}

/// The template as it is now.
async fn show(
    conn: &mut AsyncPgConnection,
    mut response: HttpResponseBuilder,
    id: Uuid,
    organization_id: Uuid,
) -> Result<HttpResponse, ApiError> {
    let row = TemplateRow::find(conn, id, organization_id).await?.ok_or_else(missing)?;
    Ok(response.json(TemplateView::from(row)))
}
