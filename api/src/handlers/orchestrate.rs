//! Starting orchestrations, and starting them again.

use super::{
    model_choice::Models,
    orchestration_body::{Chosen, StartOrchestration},
    orchestrations::find,
};
use crate::{
    auth::Caller,
    error::ApiError,
    extract::Valid,
    idempotency::once,
    metering,
    state::State,
    views::{PlannedPhase, Time, orchestration_status, planned_phases},
};
use actix_web::{HttpResponse, post, web};
use diesel_async::AsyncPgConnection;
use serde::Serialize;
use shared::{
    events::Notice,
    models::{
        JobStatus, LiveRun, NewOrchestration, Orchestration, Organization, PhaseDurations, Project,
        StartedOrchestration, Template, orchestration_word,
    },
    queue::Hint,
};
use tokio::join;
use utoipa::ToSchema;
use uuid::Uuid;

/// An orchestration that was accepted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OrchestrationStarted {
    run_id: Uuid,
    #[schema(schema_with = orchestration_status)]
    status: &'static str,
    message: &'static str,
    estimated_completion: Time,
    phases: Vec<PlannedPhase>,
}

/// Start an orchestration
///
/// Each phase is a call of a language model that sees what the earlier ones answered. With integrations every completed
/// phase leaves a file, and a template may ask for commits, deployments and more.
#[utoipa::path(
    tag = "orchestration",
    security(("bearer" = [])),
    request_body = StartOrchestration,
    responses(
        (status = 201, description = "It is accepted", body = OrchestrationStarted),
        (status = 404, description = "No such project or template in your organization"),
    ),
)]
#[post("/orchestrate")]
pub(crate) async fn start_orchestration(
    state: web::Data<State>,
    caller: Caller,
    body: Valid<StartOrchestration>,
) -> Result<HttpResponse, ApiError> {
    let Valid(body) = body;
    let mut conn = state.conn().await?;
    let (started, hints) = once(&mut conn, async |conn| start(&state, conn, &caller, body).await).await?;
    accept(&state, &mut conn, started, &hints).await
}

async fn start(
    state: &State,
    conn: &mut AsyncPgConnection,
    caller: &Caller,
    body: StartOrchestration,
) -> Result<(StartedOrchestration, Vec<Hint>), ApiError> {
    let organization_id = caller.organization_id;
    let project = Project::hold(conn, body.project_id, organization_id).await?;
    let project = project.ok_or_else(|| ApiError::not_found("Project"))?;
    let template_id = body.template_id;
    let template = match template_id {
        Some(id) => {
            let template = Template::find(conn, id, organization_id).await?;
            Some(template.ok_or_else(|| ApiError::not_found("Template"))?)
        }
        None => None,
    };
    let organization = Organization::get(conn, organization_id).await?;
    let models = Models::from(&state.config);
    let Chosen { topic, integration_enabled, phases, integrations, model, max_tokens, temperature } =
        body.choose(&project, template.as_ref(), &organization, &models)?;
    let new = NewOrchestration {
        id: Uuid::now_v7(),
        user_id: caller.user_id,
        organization_id,
        weight: caller.weight(),
        project_id: project.id,
        template_id,
        topic,
        integration_enabled,
        phases,
        integrations,
        model,
        max_tokens,
        temperature,
        retry_of: None,
    };
    let hints = metering::reserve(state, conn, caller, new.id).await?;
    Ok((Orchestration::start(conn, new).await?, hints))
}

/// Run a failed or cancelled orchestration again
///
/// A new orchestration of the same phases with the same settings. What was finished is taken over: it is neither run nor
/// paid for again. Operations that failed are tried again.
#[utoipa::path(
    tag = "orchestration",
    security(("bearer" = [])),
    params(("run_id" = Uuid, Path)),
    responses(
        (status = 201, description = "The new orchestration is accepted", body = OrchestrationStarted),
        (status = 404, description = "No such orchestration in your organization"),
        (status = 409, description = "It has neither failed nor been cancelled"),
    ),
)]
#[post("/orchestration/{run_id}/retry")]
pub(crate) async fn retry_orchestration(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let (earlier, job) = find(&mut conn, *id, caller.organization_id).await?;
    match job.status {
        JobStatus::Failed | JobStatus::Cancelled => {}
        JobStatus::Queued | JobStatus::Running | JobStatus::Completed => {
            let status = orchestration_word(job.status);
            let message = format!("Only a failed or cancelled orchestration runs again; this one is {status}");
            return Err(ApiError::conflict(message));
        }
    }
    let new = NewOrchestration {
        id: Uuid::now_v7(),
        user_id: caller.user_id,
        organization_id: caller.organization_id,
        weight: caller.weight(),
        project_id: earlier.project_id,
        template_id: earlier.template_id,
        topic: earlier.topic,
        integration_enabled: earlier.integration_enabled,
        phases: earlier.phases,
        integrations: earlier.integrations,
        model: earlier.model,
        max_tokens: earlier.max_tokens,
        temperature: earlier.temperature,
        retry_of: Some(earlier.id),
    };
    let started = once(&mut conn, async |conn| {
        // it may have gone since, and its runs with it
        let project = Project::hold(conn, new.project_id, new.organization_id).await?;
        project.ok_or_else(|| ApiError::not_found("Orchestration"))?;
        Ok(Orchestration::start(conn, new).await?)
    })
    .await?;
    accept(&state, &mut conn, started, &[]).await
}

/// Tells Redis about an accepted orchestration, after the commit, and answers 201.
async fn accept(
    state: &State,
    conn: &mut AsyncPgConnection,
    started: StartedOrchestration,
    hints: &[Hint],
) -> Result<HttpResponse, ApiError> {
    let StartedOrchestration { orchestration, hints: own, steps } = started;
    let accepted = Notice::accepted(&LiveRun::from(&orchestration));
    join!(state.hint(&own), state.hint(hints), state.notify(orchestration.organization_id, &accepted));
    let durations = PhaseDurations::load(conn, orchestration.organization_id).await?;
    let (phases, left) = planned_phases(&orchestration, &steps, &durations);
    Ok(HttpResponse::Created().json(OrchestrationStarted {
        run_id: orchestration.id,
        status: orchestration_word(JobStatus::Queued),
        message: "Orchestration started successfully",
        estimated_completion: Time(orchestration.created_at + left),
        phases,
    }))
}
