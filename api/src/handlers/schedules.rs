//! Schedules of pipelines. Whoever may run a pipeline may schedule it; the runs are those of the user who made the schedule.

use super::{
    pipeline_body::{details, read_definition},
    pipelines::find as find_pipeline,
};
use crate::{
    auth::Caller,
    error::ApiError,
    extract::Valid,
    idempotency::once,
    list::{self, ListParams, ListQuery, ListSpec, Page, SortKind, Sortable},
    state::State,
    views::{ScheduleView, missed},
};
use actix_web::{HttpResponse, delete, get, post, put, web};
use chrono::{DateTime, Utc};
use diesel_async::AsyncConnection;
use garde::Validate;
use serde::Deserialize;
use serde_json::{Map, Value};
use shared::{
    models::{Missed, NewSchedule, Pipeline, PipelineSchedule},
    pipeline::Problem,
    schedule::Timetable,
};
use utoipa::ToSchema;
use uuid::Uuid;

/// A schedule to be made.
#[derive(Debug, Deserialize, ToSchema, Validate)]
pub(crate) struct CreateSchedule {
    /// Five fields (minute, hour, day, month, weekday), or six with seconds in front.
    #[garde(skip)]
    #[schema(example = "0 9 * * MON-FRI")]
    cron: String,
    /// A name of the IANA time zone database; `UTC` unless it is given.
    #[garde(skip)]
    #[schema(example = "Europe/Berlin")]
    timezone: Option<String>,
    /// {node id: value}, for every run.
    #[garde(skip)]
    #[schema(value_type = Option<Object>)]
    inputs: Option<Map<String, Value>>,
    /// `true` unless it is given.
    #[garde(skip)]
    enabled: Option<bool>,
    /// What becomes of ticks that nobody was there for: nothing, or one run for all of them.
    #[garde(skip)]
    #[schema(schema_with = missed)]
    missed: Option<Missed>,
}

/// What is to change in a schedule; what is not sent stays.
#[derive(Debug, Deserialize, ToSchema, Validate)]
pub(crate) struct UpdateSchedule {
    #[garde(skip)]
    cron: Option<String>,
    #[garde(skip)]
    timezone: Option<String>,
    /// Replaces the whole.
    #[garde(skip)]
    #[schema(value_type = Option<Object>)]
    inputs: Option<Map<String, Value>>,
    /// Ticks that come while it is not enabled do not count as missed.
    #[garde(skip)]
    enabled: Option<bool>,
    #[garde(skip)]
    #[schema(schema_with = missed)]
    missed: Option<Missed>,
}

/// The schedules of a pipeline.
static SCHEDULES: ListSpec = ListSpec {
    from: "pipeline_schedules s",
    columns: "s.*",
    condition: None,
    id: "s.id",
    default_limit: 20,
    filters: &[],
    searched: &[],
    sortable: &[
        Sortable::new("created_at", "s.created_at", SortKind::Time),
        Sortable::nullable("next_run_at", "s.next_run_at", SortKind::Time),
    ],
};

/// List the schedules of a pipeline
#[utoipa::path(
    tag = "pipelines",
    security(("bearer" = [])),
    params(("id" = Uuid, Path), ListQuery),
    responses(
        (status = 200, description = "A page of schedules", body = Page<ScheduleView>),
        (status = 404, description = "No such pipeline in your organization"),
    ),
)]
#[get("/pipelines/{id}/schedules")]
pub(crate) async fn list_schedules(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    find_pipeline(&mut conn, *id, caller.organization_id).await?;
    let page: Page<PipelineSchedule> = list::fetch(&mut conn, &SCHEDULES, &params, &[("s.pipeline_id", *id)]).await?;
    Ok(HttpResponse::Ok().json(page.with(|rows| rows.into_iter().map(ScheduleView::from).collect())))
}

/// Schedule a pipeline
///
/// It runs once for each tick, unless it is archived then.
#[utoipa::path(
    tag = "pipelines",
    security(("bearer" = [])),
    params(("id" = Uuid, Path)),
    request_body = CreateSchedule,
    responses(
        (status = 201, description = "The schedule", body = ScheduleView),
        (status = 404, description = "No such pipeline in your organization"),
    ),
)]
#[post("/pipelines/{id}/schedules")]
pub(crate) async fn create_schedule(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
    body: Valid<CreateSchedule>,
) -> Result<HttpResponse, ApiError> {
    let Valid(body) = body;
    let mut conn = state.conn().await?;
    let pipeline = find_pipeline(&mut conn, *id, caller.organization_id).await?;
    let timezone = body.timezone.unwrap_or_else(|| "UTC".to_owned());
    let inputs = body.inputs.unwrap_or_default();
    let now = PipelineSchedule::clock(&mut conn).await?;
    let next = next_tick(&body.cron, &timezone, now);
    let next = checked(next, Some((&pipeline, &inputs)))?;
    let enabled = body.enabled.unwrap_or(true);
    let schedule = NewSchedule {
        id: Uuid::now_v7(),
        pipeline_id: pipeline.id,
        organization_id: caller.organization_id,
        created_by: caller.user_id,
        cron: body.cron,
        timezone,
        inputs: Value::Object(inputs),
        enabled,
        missed: body.missed.unwrap_or_default(),
        next_run_at: Some(next).filter(|_| enabled),
    };
    let schedule = once(&mut conn, async |conn| Ok(PipelineSchedule::insert(conn, &schedule).await?)).await?;
    Ok(HttpResponse::Created().json(ScheduleView::from(schedule)))
}

/// Show a schedule
#[utoipa::path(
    tag = "pipelines",
    security(("bearer" = [])),
    params(("id" = Uuid, Path), ("schedule_id" = Uuid, Path)),
    responses(
        (status = 200, description = "The schedule", body = ScheduleView),
        (status = 404, description = "No such pipeline in your organization, or no such schedule"),
    ),
)]
#[get("/pipelines/{id}/schedules/{schedule_id}")]
pub(crate) async fn get_schedule(
    state: web::Data<State>,
    caller: Caller,
    ids: web::Path<(Uuid, Uuid)>,
) -> Result<HttpResponse, ApiError> {
    let (id, schedule_id) = *ids;
    let mut conn = state.conn().await?;
    find_pipeline(&mut conn, id, caller.organization_id).await?;
    let schedule = PipelineSchedule::find(&mut conn, schedule_id, id).await?;
    let schedule = schedule.ok_or_else(|| ApiError::not_found("Schedule"))?;
    Ok(HttpResponse::Ok().json(ScheduleView::from(schedule)))
}

/// Change a schedule
///
/// With another time, or enabled again, it goes on at the next tick that lies ahead.
#[utoipa::path(
    tag = "pipelines",
    security(("bearer" = [])),
    params(("id" = Uuid, Path), ("schedule_id" = Uuid, Path)),
    request_body = UpdateSchedule,
    responses(
        (status = 200, description = "The schedule", body = ScheduleView),
        (status = 404, description = "No such pipeline in your organization, or no such schedule"),
    ),
)]
#[put("/pipelines/{id}/schedules/{schedule_id}")]
pub(crate) async fn update_schedule(
    state: web::Data<State>,
    caller: Caller,
    ids: web::Path<(Uuid, Uuid)>,
    body: Valid<UpdateSchedule>,
) -> Result<HttpResponse, ApiError> {
    let ((id, schedule_id), Valid(body)) = (*ids, body);
    let mut conn = state.conn().await?;
    let pipeline = find_pipeline(&mut conn, id, caller.organization_id).await?;
    let saved = conn
        .transaction(async |conn| {
            let schedule = PipelineSchedule::lock(conn, schedule_id, id).await?;
            let schedule = schedule.ok_or_else(|| ApiError::not_found("Schedule"))?;
            let now = PipelineSchedule::clock(conn).await?;
            Ok::<_, ApiError>(change(schedule, body, &pipeline, now)?.save(conn).await?)
        })
        .await?;
    Ok(HttpResponse::Ok().json(ScheduleView::from(saved)))
}

/// Delete a schedule
#[utoipa::path(
    tag = "pipelines",
    security(("bearer" = [])),
    params(("id" = Uuid, Path), ("schedule_id" = Uuid, Path)),
    responses(
        (status = 204, description = "It is gone"),
        (status = 404, description = "No such pipeline in your organization, or no such schedule"),
    ),
)]
#[delete("/pipelines/{id}/schedules/{schedule_id}")]
pub(crate) async fn delete_schedule(
    state: web::Data<State>,
    caller: Caller,
    ids: web::Path<(Uuid, Uuid)>,
) -> Result<HttpResponse, ApiError> {
    let (id, schedule_id) = *ids;
    let mut conn = state.conn().await?;
    find_pipeline(&mut conn, id, caller.organization_id).await?;
    if PipelineSchedule::delete(&mut conn, schedule_id, id).await? {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(ApiError::not_found("Schedule"))
    }
}

/// The schedule with its changes.
fn change(
    schedule: PipelineSchedule,
    body: UpdateSchedule,
    pipeline: &Pipeline,
    now: DateTime<Utc>,
) -> Result<PipelineSchedule, ApiError> {
    let cron = body.cron.unwrap_or_else(|| schedule.cron.clone());
    let timezone = body.timezone.unwrap_or_else(|| schedule.timezone.clone());
    let enabled = body.enabled.unwrap_or(schedule.enabled);
    let next = next_tick(&cron, &timezone, now);
    let next = checked(next, body.inputs.as_ref().map(|inputs| (pipeline, inputs)))?;
    let same_time = cron == schedule.cron && timezone == schedule.timezone && enabled == schedule.enabled;
    Ok(PipelineSchedule {
        // a tick that is due just now is not to be lost over another name of an input
        next_run_at: if same_time { schedule.next_run_at } else { Some(next).filter(|_| enabled) },
        cron,
        timezone,
        enabled,
        inputs: body.inputs.map_or(schedule.inputs, Value::Object),
        missed: body.missed.unwrap_or(schedule.missed),
        ..schedule
    })
}

fn next_tick(cron: &str, timezone: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, Vec<Problem>> {
    let never = || vec![Problem { field: "cron".to_owned(), message: "names a time that never comes".to_owned() }];
    Timetable::read(cron, timezone)?.next_after(now).ok_or_else(never)
}

/// The next tick, if neither the time nor the inputs have a problem.
fn checked(
    next: Result<DateTime<Utc>, Vec<Problem>>,
    inputs: Option<(&Pipeline, &Map<String, Value>)>,
) -> Result<DateTime<Utc>, ApiError> {
    let mut problems = next.as_ref().err().cloned().unwrap_or_default();
    if let Some((pipeline, inputs)) = inputs {
        problems.extend(read_definition(&pipeline.nodes, &pipeline.connections)?.check_inputs(inputs));
    }
    next.ok().filter(|_| problems.is_empty()).ok_or_else(|| ApiError::invalid(details(problems)))
}
