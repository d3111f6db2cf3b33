//! Orchestrations. All members of an organization see them.

use super::jobs::stop_run;
use crate::{
    auth::Caller,
    error::ApiError,
    list::{self, Filter, ListParams, ListQuery, ListSpec, Page, SortKind, Sortable, Values},
    state::State,
    views::{OrchestrationSummary, OrchestrationView, orchestration_status},
};
use actix_web::{HttpResponse, get, post, web};
use diesel_async::AsyncPgConnection;
use serde::Serialize;
use shared::models::{File, Job, JobStatus, JobStep, Orchestration, OrchestrationRow, orchestration_word};
use utoipa::ToSchema;
use uuid::Uuid;

/// The orchestrations of an organization.
static ORCHESTRATIONS: ListSpec = ListSpec {
    from: OrchestrationRow::FROM,
    columns: "r.id, r.project_id, r.project_name, r.topic, r.status, r.success_rate, r.execution_time_ms, r.created_at",
    condition: None,
    id: "r.id",
    default_limit: 50,
    filters: &[
        Filter { name: "project_id", sql: "r.project_id", values: Values::Ids },
        Filter { name: "status", sql: "r.status", values: STATUSES },
    ],
    searched: &["r.topic"],
    sortable: &[
        Sortable::new("created_at", "r.created_at", SortKind::Time),
        Sortable::new("status", "r.status", SortKind::Text),
        Sortable::new("success_rate", "r.success_rate", SortKind::Float),
        Sortable::new("execution_time_ms", "r.execution_time_ms", SortKind::Integer),
    ],
};

/// The statuses as clients and as the table call them.
const STATUSES: Values = Values::Words(&[
    ("started", "queued"),
    ("running", "running"),
    ("completed", "completed"),
    ("failed", "failed"),
    ("cancelled", "cancelled"),
]);

/// The end of an orchestration was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OrchestrationCancelled {
    message: &'static str,
    run_id: Uuid,
    #[schema(schema_with = orchestration_status)]
    status: &'static str,
}

/// List orchestrations
#[utoipa::path(
    tag = "orchestration",
    security(("bearer" = [])),
    params(
        ("project_id" = Option<String>, Query, description = "One or several, separated by commas"),
        ("status" = Option<String>, Query, description = "One or several, separated by commas"),
        ListQuery,
    ),
    responses((status = 200, description = "A page of orchestrations", body = Page<OrchestrationSummary>)),
)]
#[get("/orchestration")]
pub(crate) async fn list_orchestrations(
    state: web::Data<State>,
    caller: Caller,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let owner = [("r.organization_id", caller.organization_id)];
    let page: Page<OrchestrationRow> = list::fetch(&mut conn, &ORCHESTRATIONS, &params, &owner).await?;
    Ok(HttpResponse::Ok().json(page.with(|rows| rows.into_iter().map(OrchestrationSummary::from).collect())))
}

/// Show an orchestration
///
/// With what each phase has answered, and what was done with it.
#[utoipa::path(
    tag = "orchestration",
    security(("bearer" = [])),
    params(("run_id" = Uuid, Path)),
    responses(
        (status = 200, description = "The orchestration", body = OrchestrationView),
        (status = 404, description = "No such orchestration in your organization"),
    ),
)]
#[get("/orchestration/{run_id}")]
pub(crate) async fn get_orchestration(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let (orchestration, job) = find(&mut conn, *id, caller.organization_id).await?;
    let steps = JobStep::list(&mut conn, *id).await?;
    let files = File::list_by_ids(&mut conn, &OrchestrationView::file_ids(&steps)).await?;
    drop(conn);
    let view = OrchestrationView::new(&orchestration, &job, steps, &files, &state.storage).await;
    let view = view.map_err(|error| ApiError::integration("The object store does not answer; try again", error))?;
    Ok(HttpResponse::Ok().json(view))
}

/// Cancel an orchestration
///
/// One that waits ends at once, one that runs within a second or so. Members cancel their own, managers and admins all.
#[utoipa::path(
    tag = "orchestration",
    security(("bearer" = [])),
    params(("run_id" = Uuid, Path)),
    responses(
        (status = 200, description = "It is cancelled, or will be in a moment", body = OrchestrationCancelled),
        (status = 404, description = "No such orchestration in your organization"),
        (status = 409, description = "It has already ended"),
    ),
)]
#[post("/orchestration/{run_id}/cancel")]
pub(crate) async fn cancel_orchestration(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let id = *id;
    let mut conn = state.conn().await?;
    let (orchestration, _) = find(&mut conn, id, caller.organization_id).await?;
    if !caller.may_decide_about(orchestration.user_id) {
        return Err(ApiError::forbidden("Members cancel their own orchestrations only; ask a manager"));
    }
    stop_run(&state, conn, id, caller.organization_id, "Orchestration", orchestration_word).await?;
    Ok(HttpResponse::Ok().json(OrchestrationCancelled {
        message: "Orchestration cancelled successfully",
        run_id: id,
        status: orchestration_word(JobStatus::Cancelled),
    }))
}

/// The orchestration and its job, if they belong to this organization.
pub(super) async fn find(
    conn: &mut AsyncPgConnection,
    id: Uuid,
    organization_id: Uuid,
) -> Result<(Orchestration, Job), ApiError> {
    Orchestration::find(conn, id, organization_id).await?.ok_or_else(|| ApiError::not_found("Orchestration"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_knows_every_status() {
        let stored: Vec<_> =
            JobStatus::ALL.iter().map(|status| (orchestration_word(*status), status.as_str())).collect();
        assert!(matches!(&STATUSES, Values::Words(words) if *words == stored));
    }
}
