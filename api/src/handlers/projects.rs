//! Projects. All members of an organization see them; whoever may write may change any, and delete own ones.

use super::{
    jobs::tell_stopped,
    notices::notify,
    project_body::{CreateProject, UpdateProject, names},
};
use crate::{
    auth::Caller,
    error::ApiError,
    etag::{IfMatch, etag},
    extract::Valid,
    idempotency::once,
    list::{self, Filter, ListParams, ListQuery, ListSpec, Page, SortKind, Sortable, Values},
    state::State,
    views::{Message, ProjectDetail, ProjectView},
};
use actix_web::{HttpResponse, HttpResponseBuilder, delete, get, post, put, web};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use serde_json::{Value, json};
use shared::models::{NewProject, Project, ProjectRow};
use uuid::Uuid;

/// Orchestrations shown with a project.
const LATEST: i64 = 20;

/// The projects of an organization.
static PROJECTS: ListSpec = ListSpec {
    from: ProjectRow::FROM,
    columns: ProjectRow::COLUMNS,
    condition: None,
    id: "p.id",
    default_limit: 50,
    filters: &[
        Filter { name: "status", sql: "p.status", values: STATUSES },
        Filter { name: "priority", sql: "p.priority", values: PRIORITIES },
    ],
    searched: &["p.name", "p.description"],
    sortable: &[
        Sortable::new("created_at", "p.created_at", SortKind::Time),
        Sortable::new("updated_at", "p.updated_at", SortKind::Time),
        Sortable::new("name", "p.name", SortKind::Text),
        Sortable::new("status", "p.status", SortKind::Text),
        // by rank
        Sortable::new(
            "priority",
            "array_position(ARRAY['low', 'medium', 'high', 'urgent'], p.priority)",
            SortKind::Integer,
        ),
    ],
};

/// Clients and the table use the same words.
const STATUSES: Values =
    Values::Words(&[("active", "active"), ("completed", "completed"), ("archived", "archived"), ("failed", "failed")]);

/// Clients and the table use the same words, in the order of their rank.
const PRIORITIES: Values =
    Values::Words(&[("low", "low"), ("medium", "medium"), ("high", "high"), ("urgent", "urgent")]);

/// List projects
#[utoipa::path(
    tag = "projects",
    security(("bearer" = [])),
    params(
        ("status" = Option<String>, Query, description = "One or several, separated by commas"),
        ("priority" = Option<String>, Query, description = "One or several, separated by commas"),
        ListQuery,
    ),
    responses((status = 200, description = "A page of projects", body = Page<ProjectView>)),
)]
#[get("/projects")]
pub(crate) async fn list_projects(
    state: web::Data<State>,
    caller: Caller,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let owner = [("p.organization_id", caller.organization_id)];
    let page: Page<ProjectRow> = list::fetch(&mut conn, &PROJECTS, &params, &owner).await?;
    Ok(HttpResponse::Ok().json(page.with(|rows| rows.into_iter().map(ProjectView::from).collect())))
}

/// Make a project
#[utoipa::path(
    tag = "projects",
    security(("bearer" = [])),
    request_body = CreateProject,
    responses((status = 201, description = "The project; `ETag` names its version", body = ProjectDetail)),
)]
#[post("/projects")]
pub(crate) async fn create_project(
    state: web::Data<State>,
    caller: Caller,
    body: Valid<CreateProject>,
) -> Result<HttpResponse, ApiError> {
    let Valid(body) = body;
    let project = NewProject {
        id: Uuid::now_v7(),
        organization_id: caller.organization_id,
        created_by: caller.user_id,
        name: body.name,
        description: body.description.unwrap_or_default(),
        topic: body.topic.unwrap_or_default(),
        status: body.status.unwrap_or_default(),
        priority: body.priority.unwrap_or_default(),
        metadata: Value::Object(body.metadata.unwrap_or_default()),
    };
    let mut conn = state.conn().await?;
    let made = once(&mut conn, async |conn| Ok(Project::insert(conn, &project).await?)).await?;
    let data = json!({ "id": made.id, "name": made.name, "user_id": caller.user_id });
    let response = show(&mut conn, HttpResponse::Created(), made.id, caller.organization_id).await?;
    drop(conn);
    notify(&state, caller.organization_id, "project:created", data).await;
    Ok(response)
}

/// Show a project
///
/// With its latest orchestrations.
#[utoipa::path(
    tag = "projects",
    security(("bearer" = [])),
    params(("project_id" = Uuid, Path)),
    responses(
        (status = 200, description = "The project; `ETag` names its version", body = ProjectDetail),
        (status = 404, description = "No such project in your organization"),
    ),
)]
#[get("/projects/{project_id}")]
pub(crate) async fn get_project(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    show(&mut conn, HttpResponse::Ok(), *id, caller.organization_id).await
}

/// Change a project
///
/// With `If-Match` only if it still is in that version.
#[utoipa::path(
    tag = "projects",
    security(("bearer" = [])),
    params(
        ("project_id" = Uuid, Path),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the version that is changed"),
    ),
    request_body = UpdateProject,
    responses(
        (status = 200, description = "The project; `ETag` names its version", body = ProjectDetail),
        (status = 404, description = "No such project in your organization"),
        (status = 409, description = "Somebody has changed it in between"),
    ),
)]
#[put("/projects/{project_id}")]
pub(crate) async fn update_project(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
    if_match: IfMatch,
    body: Valid<UpdateProject>,
) -> Result<HttpResponse, ApiError> {
    let (id, Valid(body)) = (*id, body);
    let mut conn = state.conn().await?;
    let changed = conn
        .transaction(async |conn| {
            let stored = Project::lock(conn, id, caller.organization_id).await?.ok_or_else(missing)?;
            if_match.check(stored.version)?;
            let changes = body.changes(&stored);
            let names = names(&changes);
            if !names.is_empty() {
                Project::update(conn, id, changes).await?;
            }
            Ok::<_, ApiError>(names)
        })
        .await?;
    let response = show(&mut conn, HttpResponse::Ok(), id, caller.organization_id).await?;
    drop(conn);
    if !changed.is_empty() {
        let data = json!({ "id": id, "changes": changed, "updated_by": caller.user_id });
        notify(&state, caller.organization_id, "project:updated", data).await;
    }
    Ok(response)
}

/// Delete a project with its orchestrations
///
/// Those that wait or run are cancelled. Members delete their own projects, managers and admins all.
#[utoipa::path(
    tag = "projects",
    security(("bearer" = [])),
    params(
        ("project_id" = Uuid, Path),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the version that is deleted"),
    ),
    responses(
        (status = 200, description = "It is gone", body = Message),
        (status = 404, description = "No such project in your organization"),
        (status = 409, description = "Somebody has changed it in between"),
    ),
)]
#[delete("/projects/{project_id}")]
pub(crate) async fn delete_project(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
    if_match: IfMatch,
) -> Result<web::Json<Message>, ApiError> {
    let (id, organization_id) = (*id, caller.organization_id);
    let mut conn = state.conn().await?;
    let stopped = conn
        .transaction(async |conn| {
            let stored = Project::find(conn, id, organization_id).await?.ok_or_else(missing)?;
            if !caller.may_decide_about(stored.created_by) {
                return Err(ApiError::forbidden("Members delete their own projects only; ask a manager"));
            }
            if if_match.is_given() {
                // what is decided by the version stays true until it is gone
                let held = Project::lock(conn, id, organization_id).await?.ok_or_else(missing)?;
                if_match.check(held.version)?;
            }
            Project::delete(conn, id, organization_id).await?.ok_or_else(missing)
        })
        .await?;
    drop(conn);
    tell_stopped(&state, &stopped).await;
    let data = json!({ "id": id, "deleted_by": caller.user_id });
    notify(&state, organization_id, "project:deleted", data).await;
    Ok(web::Json(Message::new("Project deleted successfully")))
}

fn missing() -> ApiError {
    ApiError::not_found("Project")
}

/// The project as it is now, with its latest orchestrations.
async fn show(
    conn: &mut AsyncPgConnection,
    mut response: HttpResponseBuilder,
    id: Uuid,
    organization_id: Uuid,
) -> Result<HttpResponse, ApiError> {
    let row = ProjectRow::find(conn, id, organization_id).await?.ok_or_else(missing)?;
    let runs = Project::list_runs(conn, id, LATEST).await?;
    Ok(response.insert_header(etag(row.project.version)).json(ProjectDetail::new(row, runs)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::models::{ProjectPriority, ProjectStatus};

    #[test]
    fn the_filters_and_the_rank_know_every_word_there_is() {
        let stored: Vec<_> = ProjectStatus::WORDS.iter().map(|word| (*word, *word)).collect();
        assert!(matches!(&STATUSES, Values::Words(words) if *words == stored));
        let stored: Vec<_> = ProjectPriority::WORDS.iter().map(|word| (*word, *word)).collect();
        assert!(matches!(&PRIORITIES, Values::Words(words) if *words == stored));
        let ranked = format!("ARRAY['{}']", ProjectPriority::WORDS.join("', '"));
        assert!(PROJECTS.sortable.iter().any(|sortable| sortable.sql.contains(&ranked)), "{ranked}");
    }
}
