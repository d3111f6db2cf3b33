//! Pipelines. All members of an organization see them; whoever may write may change and run any, and delete own ones.

use super::pipeline_body::{CreatePipeline, UpdatePipeline, complete_metadata, read_definition};
use crate::{
    auth::Caller,
    error::ApiError,
    etag::{IfMatch, etag},
    extract::Valid,
    idempotency::once,
    list::{self, Filter, ListParams, ListQuery, ListSpec, Page, SortKind, Sortable, Values},
    state::State,
    views::{NodeTypeView, PipelineSummary, PipelineView},
};
use actix_web::{HttpResponse, HttpResponseBuilder, delete, get, post, put, web};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use serde_json::{Value, json};
use shared::{
    events::Notice,
    models::{Execution, NewPipeline, Pipeline, PipelineChanges, PipelineRow, PipelineStatus},
    pipeline::{node_types, normalized},
};
use uuid::Uuid;

/// Executions shown with a pipeline.
const LATEST: i64 = 10;

/// Longest name.
const MAX_NAME: usize = 200;

/// The pipelines of an organization.
static PIPELINES: ListSpec = ListSpec {
    from: "pipelines p",
    columns: "p.id, p.created_by, p.name, p.description, p.status, p.metadata, p.node_count, p.last_executed, \
              p.created_at, p.updated_at",
    condition: None,
    id: "p.id",
    default_limit: 20,
    filters: &[Filter { name: "status", sql: "p.status", values: STATUSES }],
    searched: &["p.name"],
    sortable: &[
        Sortable::new("created_at", "p.created_at", SortKind::Time),
        Sortable::new("name", "p.name", SortKind::Text),
        Sortable::new("updated_at", "p.updated_at", SortKind::Time),
        Sortable::nullable("last_executed", "p.last_executed", SortKind::Time),
        Sortable::new("status", "p.status", SortKind::Text),
    ],
};

/// Clients and the table use the same words.
const STATUSES: Values = Values::Words(&[("draft", "draft"), ("published", "published"), ("archived", "archived")]);

/// List pipelines
#[utoipa::path(
    tag = "pipelines",
    security(("bearer" = [])),
    params(("status" = Option<String>, Query, description = "One or several, separated by commas"), ListQuery),
    responses((status = 200, description = "A page of pipelines", body = Page<PipelineSummary>)),
)]
#[get("/pipelines")]
pub(crate) async fn list_pipelines(
    state: web::Data<State>,
    caller: Caller,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let owner = [("p.organization_id", caller.organization_id)];
    let page: Page<PipelineRow> = list::fetch(&mut conn, &PIPELINES, &params, &owner).await?;
    Ok(HttpResponse::Ok().json(page.with(|rows| rows.into_iter().map(PipelineSummary::from).collect())))
}

/// The types of nodes. They are in no table; `created_at` is their order in the code.
static NODE_TYPES: ListSpec = ListSpec {
    from: "",
    columns: "",
    condition: None,
    id: "",
    // an editor wants all of them
    default_limit: 100,
    filters: &[],
    searched: &[],
    sortable: &[Sortable::new("created_at", "", SortKind::Integer), Sortable::new("type", "", SortKind::Text)],
};

/// List the types of nodes
///
/// Each with the JSON Schema of its `config`.
#[utoipa::path(
    tag = "pipelines",
    security(("bearer" = [])),
    params(ListQuery),
    responses((status = 200, description = "A page of types; all fit on the first", body = Page<NodeTypeView>)),
)]
#[get("/pipelines/node-types")]
pub(crate) async fn list_node_types(_: Caller, params: ListParams) -> Result<HttpResponse, ApiError> {
    let mut types: Vec<_> = node_types().into_iter().map(NodeTypeView::from).collect();
    // newest first is the order of the code
    types.reverse();
    let page = list::of_few(&NODE_TYPES, &params, types, |_, one, other| one.r#type.cmp(other.r#type))?;
    Ok(HttpResponse::Ok().json(page))
}

/// Make a pipeline
#[utoipa::path(
    tag = "pipelines",
    security(("bearer" = [])),
    request_body = CreatePipeline,
    responses(
        (status = 201, description = "The pipeline; `ETag` names its version", body = PipelineView),
        (status = 422, description = "The connections form a circle"),
    ),
)]
#[post("/pipelines")]
pub(crate) async fn create_pipeline(
    state: web::Data<State>,
    caller: Caller,
    body: Valid<CreatePipeline, 5>,
) -> Result<HttpResponse, ApiError> {
    let Valid(body) = body;
    let (nodes, connections) = (json!(body.nodes.unwrap_or_default()), json!(body.connections.unwrap_or_default()));
    read_definition(&nodes, &connections)?;
    let (nodes, connections) = normalized(&nodes, &connections);
    let pipeline = NewPipeline {
        id: Uuid::now_v7(),
        organization_id: caller.organization_id,
        created_by: caller.user_id,
        name: body.name,
        description: body.description.unwrap_or_default(),
        status: body.status.unwrap_or_default(),
        metadata: complete_metadata(body.metadata),
        node_count: count(&nodes),
        nodes,
        connections,
    };
    insert(&state, &caller, &pipeline).await
}

/// Show a pipeline
#[utoipa::path(
    tag = "pipelines",
    security(("bearer" = [])),
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The pipeline; `ETag` names its version", body = PipelineView),
        (status = 404, description = "No such pipeline in your organization"),
    ),
)]
#[get("/pipelines/{id}")]
pub(crate) async fn get_pipeline(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let pipeline = find(&mut conn, *id, caller.organization_id).await?;
    show(&mut conn, HttpResponse::Ok(), pipeline).await
}

/// Change a pipeline
///
/// With `If-Match` only if it still is in that version.
#[utoipa::path(
    tag = "pipelines",
    security(("bearer" = [])),
    params(
        ("id" = Uuid, Path),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the version that is changed"),
    ),
    request_body = UpdatePipeline,
    responses(
        (status = 200, description = "The pipeline; `ETag` names its version", body = PipelineView),
        (status = 404, description = "No such pipeline in your organization"),
        (status = 409, description = "Somebody has changed it in between"),
        (status = 422, description = "The connections form a circle"),
    ),
)]
#[put("/pipelines/{id}")]
pub(crate) async fn update_pipeline(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
    if_match: IfMatch,
    body: Valid<UpdatePipeline, 5>,
) -> Result<HttpResponse, ApiError> {
    let (id, Valid(body)) = (*id, body);
    let mut conn = state.conn().await?;
    let (pipeline, changes) = conn
        .transaction(async |conn| {
            let stored = Pipeline::lock(conn, id, caller.organization_id).await?;
            let stored = stored.ok_or_else(|| ApiError::not_found("Pipeline"))?;
            if_match.check(stored.version)?;
            let changes = changes(&stored, body)?;
            let names = names(&changes);
            let changed = if names.is_empty() { stored } else { Pipeline::update(conn, id, changes).await? };
            Ok::<_, ApiError>((changed, names))
        })
        .await?;
    let response = show(&mut conn, HttpResponse::Ok(), pipeline).await?;
    drop(conn);
    if !changes.is_empty() {
        let data = json!({ "id": id, "changes": changes, "updated_by": caller.user_id });
        notify(&state, &caller, "pipeline:updated", data).await;
    }
    Ok(response)
}

/// Delete a pipeline with its schedules
///
/// Its executions stay. Members delete their own pipelines, managers and admins all.
#[utoipa::path(
    tag = "pipelines",
    security(("bearer" = [])),
    params(
        ("id" = Uuid, Path),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the version that is deleted"),
    ),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "No such pipeline in your organization"),
        (status = 409, description = "Somebody has changed it in between"),
    ),
)]
#[delete("/pipelines/{id}")]
pub(crate) async fn delete_pipeline(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
    if_match: IfMatch,
) -> Result<HttpResponse, ApiError> {
    let id = *id;
    let mut conn = state.conn().await?;
    let pipeline = find(&mut conn, id, caller.organization_id).await?;
    if !caller.may_decide_about(pipeline.created_by) {
        return Err(ApiError::forbidden("Members delete their own pipelines only; ask a manager"));
    }
    if_match.check(pipeline.version)?;
    if !Pipeline::delete(&mut conn, id, pipeline.version).await? {
        return Err(ApiError::conflict("It is being changed by somebody else; read it again and repeat"));
    }
    drop(conn);
    notify(&state, &caller, "pipeline:deleted", json!({ "id": id, "deleted_by": caller.user_id })).await;
    Ok(HttpResponse::NoContent().finish())
}

/// Duplicate a pipeline
///
/// The copy is a draft, and the caller's.
#[utoipa::path(
    tag = "pipelines",
    security(("bearer" = [])),
    params(("id" = Uuid, Path)),
    responses(
        (status = 201, description = "The copy", body = PipelineView),
        (status = 404, description = "No such pipeline in your organization"),
    ),
)]
#[post("/pipelines/{id}/duplicate")]
pub(crate) async fn duplicate_pipeline(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let original = find(&mut *state.conn().await?, *id, caller.organization_id).await?;
    let copy = NewPipeline {
        id: Uuid::now_v7(),
        organization_id: caller.organization_id,
        created_by: caller.user_id,
        name: name_of_copy(&original.name),
        description: original.description,
        status: PipelineStatus::Draft,
        metadata: original.metadata,
        nodes: original.nodes,
        connections: original.connections,
        node_count: original.node_count,
    };
    insert(&state, &caller, &copy).await
}

/// The pipeline, if it is one of this organization.
pub(super) async fn find(conn: &mut AsyncPgConnection, id: Uuid, organization_id: Uuid) -> Result<Pipeline, ApiError> {
    Pipeline::find(conn, id, organization_id).await?.ok_or_else(|| ApiError::not_found("Pipeline"))
}

async fn insert(state: &State, caller: &Caller, pipeline: &NewPipeline) -> Result<HttpResponse, ApiError> {
    let made = once(&mut *state.conn().await?, async |conn| Ok(Pipeline::insert(conn, pipeline).await?)).await?;
    let data = json!({ "id": made.id, "name": made.name, "user_id": caller.user_id });
    notify(state, caller, "pipeline:created", data).await;
    // nobody can have run it yet
    Ok(HttpResponse::Created().insert_header(etag(made.version)).json(PipelineView::new(made, Vec::new())))
}

async fn show(
    conn: &mut AsyncPgConnection,
    mut response: HttpResponseBuilder,
    pipeline: Pipeline,
) -> Result<HttpResponse, ApiError> {
    let executions = Execution::list_recent(conn, pipeline.id, LATEST).await?;
    Ok(response.insert_header(etag(pipeline.version)).json(PipelineView::new(pipeline, executions)))
}

/// Tells the members of the organization who listen.
async fn notify(state: &State, caller: &Caller, name: &str, data: Value) {
    state.notify(caller.organization_id, &Notice { r#type: name.to_owned(), data }).await;
}

/// What a body really changes.
fn changes(stored: &Pipeline, body: UpdatePipeline) -> Result<PipelineChanges, ApiError> {
    let mut changes = PipelineChanges {
        name: body.name.filter(|name| *name != stored.name),
        description: body.description.filter(|description| *description != stored.description),
        status: body.status.filter(|status| *status != stored.status),
        metadata: body
            .metadata
            .map(|metadata| complete_metadata(Some(metadata)))
            .filter(|metadata| *metadata != stored.metadata),
        ..PipelineChanges::default()
    };
    if body.nodes.is_some() || body.connections.is_some() {
        let nodes = body.nodes.map_or_else(|| stored.nodes.clone(), |nodes| json!(nodes));
        let connections = body.connections.map_or_else(|| stored.connections.clone(), |edges| json!(edges));
        read_definition(&nodes, &connections)?;
        let (nodes, connections) = normalized(&nodes, &connections);
        if nodes != stored.nodes {
            changes.node_count = Some(count(&nodes));
            changes.nodes = Some(nodes);
        }
        changes.connections = Some(connections).filter(|connections| *connections != stored.connections);
    }
    Ok(changes)
}

/// The top-level names of what changes.
fn names(changes: &PipelineChanges) -> Vec<&'static str> {
    let PipelineChanges { name, description, status, metadata, nodes, connections, node_count: _ } = changes;
    let all = [
        ("name", name.is_some()),
        ("description", description.is_some()),
        ("status", status.is_some()),
        ("metadata", metadata.is_some()),
        ("nodes", nodes.is_some()),
        ("connections", connections.is_some()),
    ];
    all.into_iter().filter_map(|(name, changed)| changed.then_some(name)).collect()
}

/// The name with " (copy)" behind it; a long one is cut so that both fit.
fn name_of_copy(name: &str) -> String {
    const COPY: &str = " (copy)";
    name.chars().take(MAX_NAME - COPY.len()).collect::<String>() + COPY
}

fn count(nodes: &Value) -> i32 {
    nodes.as_array().map_or(0, |nodes| i32::try_from(nodes.len()).unwrap_or(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_knows_every_status() {
        let stored: Vec<_> = PipelineStatus::WORDS.iter().map(|word| (*word, *word)).collect();
        assert!(matches!(&STATUSES, Values::Words(words) if *words == stored));
    }

    #[test]
    fn the_name_of_a_copy_is_never_too_long() {
        assert_eq!(name_of_copy("Mugs"), "Mugs (copy)");
        let long = name_of_copy(&"ü".repeat(200));
        assert_eq!((long.chars().count(), long.ends_with("ü (copy)")), (200, true));
    }
}
