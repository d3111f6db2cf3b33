//! Executions. All members of an organization see them.

use super::{
    jobs::stop_run,
    pipeline_runs::{RunAccepted, accept},
};
use crate::{
    auth::Caller,
    error::ApiError,
    idempotency::once,
    list::{self, Filter, ListParams, ListQuery, ListSpec, Page, SortKind, Sortable, Values},
    state::State,
    views::{ExecutionSummary, ExecutionView, execution_status},
};
use actix_web::{HttpResponse, get, post, web};
use diesel_async::AsyncPgConnection;
use serde::Serialize;
use shared::{
    events::Event,
    models::{Execution, ExecutionRow, Job, JobEvent, JobStatus, NewExecution, PipelineStatus},
};
use utoipa::ToSchema;
use uuid::Uuid;

/// Log lines shown with an execution: two for each of 200 nodes, and many remarks.
const MAX_LOGS: i64 = 2_000;

/// The executions of an organization.
static EXECUTIONS: ListSpec = ListSpec {
    from: "executions e JOIN jobs j ON j.id = e.id",
    columns: "e.id, e.pipeline_id, e.pipeline_name, j.status, j.started_at, j.finished_at, e.node_executions, \
              e.tokens_used, e.cost_nanos, e.created_at",
    condition: None,
    id: "e.id",
    default_limit: 20,
    filters: &[
        Filter { name: "pipeline_id", sql: "e.pipeline_id", values: Values::Ids },
        Filter { name: "status", sql: "j.status", values: STATUSES },
    ],
    searched: &[],
    sortable: &[
        Sortable::new("created_at", "e.created_at", SortKind::Time),
        Sortable::nullable("started_at", "j.started_at", SortKind::Time),
        Sortable::nullable("completed_at", "j.finished_at", SortKind::Time),
        Sortable::nullable(
            "duration",
            "(extract(epoch FROM j.finished_at - j.started_at) * 1000000)::bigint",
            SortKind::Integer,
        ),
        Sortable::new("cost", "e.cost_nanos", SortKind::Integer),
        Sortable::new("status", "j.status", SortKind::Text),
    ],
};

/// Clients and the table use the same words.
const STATUSES: Values = Values::Words(&[
    ("queued", "queued"),
    ("running", "running"),
    ("completed", "completed"),
    ("failed", "failed"),
    ("cancelled", "cancelled"),
]);

/// The end of an execution was asked for.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExecutionCancelled {
    message: &'static str,
    execution_id: Uuid,
    #[schema(schema_with = execution_status)]
    status: JobStatus,
}

/// List executions
#[utoipa::path(
    tag = "executions",
    security(("bearer" = [])),
    params(
        ("pipeline_id" = Option<String>, Query, description = "One or several, separated by commas"),
        ("status" = Option<String>, Query, description = "One or several, separated by commas"),
        ListQuery,
    ),
    responses((status = 200, description = "A page of executions", body = Page<ExecutionSummary>)),
)]
#[get("/executions")]
pub(crate) async fn list_executions(
    state: web::Data<State>,
    caller: Caller,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let owner = [("e.organization_id", caller.organization_id)];
    let page: Page<ExecutionRow> = list::fetch(&mut conn, &EXECUTIONS, &params, &owner).await?;
    Ok(HttpResponse::Ok().json(page.with(|rows| rows.into_iter().map(ExecutionSummary::from).collect())))
}

/// Show an execution
///
/// With what came out of each node, and what was said meanwhile.
#[utoipa::path(
    tag = "executions",
    security(("bearer" = [])),
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "The execution", body = ExecutionView),
        (status = 404, description = "No such execution in your organization"),
    ),
)]
#[get("/executions/{id}")]
pub(crate) async fn get_execution(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let (execution, job) = find(&mut conn, *id, caller.organization_id).await?;
    let steps = Execution::node_steps(&mut conn, *id).await?;
    let events = logged(&mut conn, &job).await?;
    drop(conn);
    let view = ExecutionView::new(execution, job, &steps, events, &state.storage).await;
    Ok(HttpResponse::Ok().json(view.map_err(ApiError::internal)?))
}

/// Cancel an execution
///
/// One that waits ends at once, one that runs within a second or so. Members cancel their own, managers and admins all.
#[utoipa::path(
    tag = "executions",
    security(("bearer" = [])),
    params(("id" = Uuid, Path)),
    responses(
        (status = 200, description = "It is cancelled, or will be in a moment", body = ExecutionCancelled),
        (status = 404, description = "No such execution in your organization"),
        (status = 409, description = "It has already ended"),
    ),
)]
#[post("/executions/{id}/cancel")]
pub(crate) async fn cancel_execution(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let id = *id;
    let mut conn = state.conn().await?;
    let (execution, _) = find(&mut conn, id, caller.organization_id).await?;
    if !caller.may_decide_about(execution.user_id) {
        return Err(ApiError::forbidden("Members cancel their own executions only; ask a manager"));
    }
    stop_run(&state, conn, id, caller.organization_id, "Execution", JobStatus::as_str).await?;
    let message = "Execution cancelled";
    Ok(HttpResponse::Ok().json(ExecutionCancelled { message, execution_id: id, status: JobStatus::Cancelled }))
}

/// Run a failed or cancelled execution again
///
/// A new execution of the same nodes with the same inputs. What was finished is taken over: it is neither run nor paid for
/// again.
#[utoipa::path(
    tag = "executions",
    security(("bearer" = [])),
    params(("id" = Uuid, Path)),
    responses(
        (status = 202, description = "The new execution is accepted", body = RunAccepted),
        (status = 404, description = "No such execution in your organization"),
        (status = 409, description = "It has neither failed nor been cancelled, or its pipeline is archived"),
    ),
)]
#[post("/executions/{id}/retry")]
pub(crate) async fn retry_execution(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let (execution, job) = find(&mut conn, *id, caller.organization_id).await?;
    match job.status {
        JobStatus::Failed | JobStatus::Cancelled => {}
        JobStatus::Queued | JobStatus::Running | JobStatus::Completed => {
            let message = format!("Only a failed or cancelled execution runs again; this one is {}", job.status);
            return Err(ApiError::conflict(message));
        }
    }
    let pipeline = Execution::find_pipeline_status(&mut conn, execution.pipeline_id).await?;
    if pipeline == Some(PipelineStatus::Archived) {
        return Err(ApiError::conflict("An archived pipeline does not run; publish it first"));
    }
    let (token_limit, cost_limit_nanos) = Execution::find_limits(&mut conn, *id).await?;
    let new = NewExecution {
        id: Uuid::now_v7(),
        user_id: caller.user_id,
        organization_id: caller.organization_id,
        weight: caller.weight(),
        pipeline_id: execution.pipeline_id,
        pipeline_name: execution.pipeline_name,
        nodes: execution.nodes,
        connections: execution.connections,
        inputs: execution.inputs,
        webhook_url: execution.webhook_url,
        webhook_secret: execution.webhook_secret,
        awaited: false,
        retry_of: Some(execution.id),
        tick: None,
        cost_limit_nanos,
        token_limit,
    };
    let started = once(&mut conn, async |conn| Ok(Execution::start(conn, new).await?)).await?;
    drop(conn);
    accept(&state, started).await
}

/// The execution and its job, if they belong to this organization.
pub(super) async fn find(
    conn: &mut AsyncPgConnection,
    id: Uuid,
    organization_id: Uuid,
) -> Result<(Execution, Job), ApiError> {
    Execution::find(conn, id, organization_id).await?.ok_or_else(|| ApiError::not_found("Execution"))
}

/// The events of an execution; of one that said very much, the first and the last.
async fn logged(conn: &mut AsyncPgConnection, job: &Job) -> Result<Vec<Event>, ApiError> {
    let mut events = JobEvent::list_after(conn, job.id, 0, MAX_LOGS).await?;
    if let Some(newest) = events.last()
        && newest.seq < job.last_seq
    {
        events.extend(JobEvent::list_after(conn, job.id, newest.seq.max(job.last_seq - 1), 1).await?);
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_knows_every_status() {
        let stored: Vec<_> = JobStatus::WORDS.iter().map(|word| (*word, *word)).collect();
        assert!(matches!(&STATUSES, Values::Words(words) if *words == stored));
    }
}
