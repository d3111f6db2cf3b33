//! Running a pipeline: accepting the run, and either saying so or waiting for its end.

use super::{
    awaiting::Awaited,
    pipeline_body::{details, read_definition},
    pipelines::find,
};
use crate::{
    addresses::check_callback,
    auth::Caller,
    error::{ApiError, Code, Detail},
    extract::{Valid, object},
    idempotency::once,
    metering,
    state::State,
    views::{Time, duration_ms, execution_status, failed_node, failure_code, results},
};
use actix_web::{HttpResponse, post, web};
use garde::Validate;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use shared::{
    events::Notice,
    kind::Kind,
    models::{Execution, Job, JobStatus, LiveRun, NewExecution, PipelineStatus, StartedExecution},
};
use std::time::Duration;
use tokio::{join, time::timeout};
use utoipa::ToSchema;
use uuid::Uuid;

/// How long a synchronous run is waited for; then it goes on by itself.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long Redis may take to say how many are ahead.
const POSITION: Duration = Duration::from_millis(200);

/// Where counting in the table stops: who is told "a thousand are ahead" need not know it better.
const MAX_COUNTED: i64 = 1_000;

/// What is guessed for one node before anything was ever completed, in seconds.
const SECONDS_PER_NODE: i32 = 2;

/// Most dollars a run may be limited to.
const MAX_COST: f64 = 1e6;

/// A run of a pipeline.
#[derive(Debug, Default, Deserialize, ToSchema, Validate)]
pub(crate) struct RunPipeline {
    /// {node id: value}; every input node without a default needs one.
    #[garde(skip)]
    #[schema(value_type = Option<Object>)]
    inputs: Option<Map<String, Value>>,
    #[garde(dive)]
    #[serde(default, deserialize_with = "object")]
    config: Option<RunConfig>,
}

/// How to run it.
#[derive(Debug, Default, Deserialize, ToSchema, Validate)]
pub(crate) struct RunConfig {
    /// `false`: the answer comes with the results, if they are there within two minutes.
    #[garde(skip)]
    #[schema(default = true)]
    r#async: Option<bool>,
    /// Told at the end; http or https, on a public address.
    #[garde(length(chars, max = 2000))]
    #[schema(format = Uri, max_length = 2000)]
    webhook_url: Option<String>,
    /// What that call is signed with.
    #[garde(length(chars, min = 1, max = 200))]
    #[schema(min_length = 1, max_length = 200)]
    webhook_secret: Option<String>,
    #[garde(dive)]
    #[serde(default, deserialize_with = "object")]
    budget: Option<RunBudget>,
}

/// What the models may use in this run; a call that could use more is not made, and the run fails.
#[derive(Debug, Default, Deserialize, ToSchema, Validate)]
pub(crate) struct RunBudget {
    /// US dollars.
    #[garde(range(min = 0.0, max = MAX_COST))]
    #[schema(minimum = 0, maximum = 1_000_000)]
    cost: Option<f64>,
    /// Of prompts and answers together.
    #[garde(range(min = 0))]
    #[schema(minimum = 0)]
    tokens: Option<i64>,
}

/// A run that was accepted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunAccepted {
    execution_id: Uuid,
    #[schema(schema_with = execution_status)]
    status: JobStatus,
    /// Seconds, as runs of this pipeline took lately.
    estimated_duration: i64,
    /// Runs in front of it.
    queue_position: u64,
    #[schema(required)]
    webhook_url: Option<String>,
}

/// A run that was waited for and ended well.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RunCompleted {
    execution_id: Uuid,
    #[schema(schema_with = execution_status)]
    status: JobStatus,
    /// {node id: `{text, metadata}`} for each node that is no input.
    #[schema(value_type = Object)]
    results: Map<String, Value>,
    /// Milliseconds.
    duration: i64,
    completed_at: Time,
}

/// Run a pipeline
///
/// Answers 202 at once, or, with `config.async: false`, waits for the results for up to two minutes.
#[utoipa::path(
    tag = "pipelines",
    security(("bearer" = [])),
    params(("id" = Uuid, Path)),
    request_body = RunPipeline,
    responses(
        (status = 200, description = "It was waited for, and has completed", body = RunCompleted),
        (status = 202, description = "It is accepted", body = RunAccepted),
        (status = 404, description = "No such pipeline in your organization"),
        (status = 409, description = "The pipeline is archived, or the run was cancelled while it was waited for"),
        (status = 422, description = "It was waited for, and a node failed; `details` names the node"),
        (status = 502, description = "It was waited for, and a language model failed"),
    ),
)]
#[post("/pipelines/{id}/run")]
pub(crate) async fn run_pipeline(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
    body: Valid<RunPipeline, 5>,
) -> Result<HttpResponse, ApiError> {
    let Valid(RunPipeline { inputs, config }) = body;
    let (inputs, config) = (inputs.unwrap_or_default(), config.unwrap_or_default());
    let mut conn = state.conn().await?;
    let pipeline = find(&mut conn, *id, caller.organization_id).await?;
    match pipeline.status {
        PipelineStatus::Draft | PipelineStatus::Published => {}
        PipelineStatus::Archived => {
            return Err(ApiError::conflict("An archived pipeline does not run; publish it first"));
        }
    }
    let mut problems = details(read_definition(&pipeline.nodes, &pipeline.connections)?.check_inputs(&inputs));
    if let Some(url) = &config.webhook_url
        && let Err(message) = check_callback(url, &state.config.callbacks)
    {
        problems.push(Detail::new("config.webhook_url", message));
    }
    if !problems.is_empty() {
        return Err(ApiError::invalid(problems));
    }
    let awaited = config.r#async == Some(false);
    let budget = config.budget.unwrap_or_default();
    let new = NewExecution {
        id: Uuid::now_v7(),
        user_id: caller.user_id,
        organization_id: caller.organization_id,
        weight: caller.weight(),
        pipeline_id: pipeline.id,
        pipeline_name: pipeline.name,
        nodes: pipeline.nodes,
        connections: pipeline.connections,
        inputs: Value::Object(inputs),
        webhook_url: config.webhook_url,
        webhook_secret: config.webhook_secret,
        awaited,
        retry_of: None,
        tick: None,
        cost_limit_nanos: budget.cost.map(nanos),
        token_limit: budget.tokens,
    };
    let (started, hints) = once(&mut conn, async |conn| {
        let hints = metering::reserve(&state, conn, &caller, new.id).await?;
        Ok((Execution::start(conn, new).await?, hints))
    })
    .await?;
    drop(conn);
    state.hint(&hints).await;
    if awaited { wait(&state, started).await } else { accept(&state, started).await }
}

/// Tells Redis about an accepted run, after the commit, and answers 202.
pub(super) async fn accept(state: &State, started: StartedExecution) -> Result<HttpResponse, ApiError> {
    tell(state, &started).await;
    answer(state, &started.execution, &started.job).await
}

/// Tells Redis about an accepted run, after the commit, and answers with what came of it.
async fn wait(state: &State, started: StartedExecution) -> Result<HttpResponse, ApiError> {
    let awaited = Awaited::listen(state, started.job.id).await;
    tell(state, &started).await;
    let StartedExecution { execution, job, .. } = started;
    match awaited.end(state, PATIENCE).await? {
        Some(job) => finish(state, &job).await,
        None => {
            let job = Job::get(&mut *state.conn().await?, job.id).await?;
            answer(state, &execution, &job).await
        }
    }
}

/// Tells the queue, and those who watch the organization's runs.
async fn tell(state: &State, started: &StartedExecution) {
    let accepted = Notice::accepted(&LiveRun::from(&started.execution));
    join!(
        state.push(&started.job.queue, std::slice::from_ref(&started.ticket)),
        state.notify(started.execution.organization_id, &accepted),
    );
}

async fn answer(state: &State, execution: &Execution, job: &Job) -> Result<HttpResponse, ApiError> {
    let queue_position = position(state, job).await?;
    let estimated_duration = estimate(state, execution).await?;
    Ok(HttpResponse::Accepted().json(RunAccepted {
        execution_id: execution.id,
        status: job.status,
        estimated_duration,
        queue_position,
        webhook_url: execution.webhook_url.clone(),
    }))
}

/// How many runs are in front of this one. One that is running, or about to, has none.
async fn position(state: &State, job: &Job) -> Result<u64, ApiError> {
    if job.status != JobStatus::Queued {
        return Ok(0);
    }
    if let Some(queue) = state.queue(Kind::PipelineRun.queue())
        && let Ok(Ok(position)) = timeout(POSITION, queue.position(job.id)).await
    {
        return Ok(position.unwrap_or(0));
    }
    let ahead = Execution::count_ahead(&mut *state.conn().await?, job.id, job.run_at, MAX_COUNTED).await?;
    Ok(u64::try_from(ahead).unwrap_or(0))
}

/// How long the run will take, in whole seconds, at least 1.
async fn estimate(state: &State, execution: &Execution) -> Result<i64, ApiError> {
    let (pipeline, organization) = (execution.pipeline_id, execution.organization_id);
    let known = match state.durations.get(pipeline) {
        Some(known) => known,
        None => {
            let found = Execution::median_duration(&mut *state.conn().await?, pipeline, organization).await?;
            state.durations.put(pipeline, found);
            found
        }
    };
    let nodes = execution.nodes.as_array().map_or(0, Vec::len);
    let guess = f64::from(SECONDS_PER_NODE) * f64::from(u32::try_from(nodes).unwrap_or(u32::MAX));
    Ok(whole_seconds(known.map_or(guess, |ms| ms / 1000.0)))
}

#[expect(clippy::cast_possible_truncation, reason = "it saturates, and no run lasts that long")]
fn whole_seconds(seconds: f64) -> i64 {
    (seconds.ceil() as i64).max(1)
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn nanos(dollars: f64) -> i64 {
    (dollars * 1e9).round() as i64
}

/// Answers with what came of a run that has ended.
async fn finish(state: &State, job: &Job) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let execution = Execution::get(&mut conn, job.id).await?;
    match job.status {
        JobStatus::Completed => {
            let steps = Execution::node_steps(&mut conn, job.id).await?;
            drop(conn);
            let results = results(&execution, &steps, &state.storage).await.map_err(ApiError::internal)?;
            Ok(HttpResponse::Ok().json(RunCompleted {
                execution_id: job.id,
                status: job.status,
                results,
                duration: duration_ms(job.started_at, job.finished_at).unwrap_or(0),
                completed_at: job.finished_at.unwrap_or(job.updated_at).into(),
            }))
        }
        JobStatus::Cancelled => Err(ApiError::conflict(format!("The execution {} was cancelled", job.id))),
        JobStatus::Failed | JobStatus::Queued | JobStatus::Running => Err(failure(&execution, job)),
    }
}

fn failure(execution: &Execution, job: &Job) -> ApiError {
    let reason = job.error_message.as_deref().unwrap_or("it did not say why");
    let code = failure_code(job.error_code.as_deref());
    let message = if code == Code::AiService {
        format!("A language model failed: {reason}")
    } else {
        format!("The execution {} failed: {reason}", job.id)
    };
    let what = ApiError::new(code, message);
    match failed_node(execution, job) {
        Some(node) => what.with_field(&node, reason),
        None => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_a_whole_second_or_more() {
        for (seconds, whole) in [(0.0, 1), (0.2, 1), (1.0, 1), (1.01, 2), (90.5, 91)] {
            assert_eq!(whole_seconds(seconds), whole, "{seconds}");
        }
    }

    #[test]
    fn dollars_are_kept_to_the_last_nano() {
        assert_eq!(nanos(0.000_000_001), 1);
        assert_eq!(nanos(0.1), 100_000_000);
        assert_eq!(nanos(MAX_COST), 1_000_000_000_000_000);
    }
}
