//! Image analyses as jobs: listing, following, cancelling.

use crate::{
    auth::Caller,
    error::ApiError,
    idempotency::once,
    list::{self, Filter, ListParams, ListQuery, ListSpec, Page, SortKind, Sortable, Values},
    state::State,
    views::JobView,
};
use actix_web::{HttpResponse, get, post, web};
use diesel_async::AsyncPgConnection;
use shared::{
    db::Connection,
    events,
    kind::Kind,
    models::{Cancelled, Ended, Job, JobStatus, StoppedJobs},
};
use uuid::Uuid;

/// The statuses as clients and as the table call them.
pub(super) const STATUSES: Values = Values::Words(&[
    ("queued", "queued"),
    ("processing", "running"),
    ("completed", "completed"),
    ("failed", "failed"),
    ("cancelled", "cancelled"),
]);

/// The reasons why an analysis was started.
pub(super) const JOB_TYPES: Values = Values::Words(&[("single", "single"), ("batch", "batch"), ("retry", "retry")]);

/// The image analyses of one user.
static JOBS: ListSpec = ListSpec {
    from: "jobs j",
    columns: "j.*",
    condition: Some("j.kind = 'image_analysis'"),
    id: "j.id",
    default_limit: 20,
    filters: &[
        Filter { name: "status", sql: "j.status", values: STATUSES },
        Filter { name: "job_type", sql: "j.payload->>'job_type'", values: JOB_TYPES },
    ],
    searched: &[],
    sortable: &[
        Sortable::new("created_at", "j.created_at", SortKind::Time),
        Sortable::new("status", "j.status", SortKind::Text),
    ],
};

/// List jobs
#[utoipa::path(
    tag = "jobs",
    security(("bearer" = [])),
    params(
        ("status" = Option<String>, Query, description = "One or several, separated by commas"),
        ("job_type" = Option<String>, Query, description = "One or several, separated by commas"),
        ListQuery,
    ),
    responses((status = 200, description = "A page of jobs", body = Page<JobView>)),
)]
#[get("/jobs")]
pub(crate) async fn list_jobs(
    state: web::Data<State>,
    caller: Caller,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let page: Page<Job> = list::fetch(&mut conn, &JOBS, &params, &[("j.user_id", caller.user_id)]).await?;
    let data = JobView::load(&mut conn, page.data).await?;
    Ok(HttpResponse::Ok().json(Page { data, pagination: page.pagination }))
}

/// Show a job
#[utoipa::path(
    tag = "jobs",
    security(("bearer" = [])),
    params(("job_id" = Uuid, Path)),
    responses(
        (status = 200, description = "The job", body = JobView),
        (status = 404, description = "No such job of yours"),
    ),
)]
#[get("/jobs/{job_id}")]
pub(crate) async fn get_job(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let found = Job::find_with_steps(&mut *state.conn().await?, *id, caller.user_id).await?;
    let found = found.filter(|(job, _)| job.kind == Kind::ImageAnalysis);
    let (job, steps) = found.ok_or_else(|| ApiError::not_found("Job"))?;
    Ok(HttpResponse::Ok().json(JobView::new(job, steps)))
}

/// Cancel a job
///
/// A job that waits ends at once. One that runs ends within a second or so; until then it is still `processing`.
#[utoipa::path(
    tag = "jobs",
    security(("bearer" = [])),
    params(("job_id" = Uuid, Path)),
    responses(
        (status = 200, description = "The job", body = JobView),
        (status = 404, description = "No such job of yours"),
        (status = 409, description = "It has already ended"),
    ),
)]
#[post("/jobs/{job_id}/cancel")]
pub(crate) async fn cancel_job(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    find_job(&mut conn, *id, caller.user_id).await?;
    stop_job(&state, &mut conn, *id, caller.user_id).await?;
    let job = find_job(&mut conn, *id, caller.user_id).await?;
    Ok(HttpResponse::Ok().json(show_job(&mut conn, job).await?))
}

/// The image analysis, if it is this user's.
pub(super) async fn find_job(conn: &mut AsyncPgConnection, id: Uuid, user_id: Uuid) -> Result<Job, ApiError> {
    let job = Job::find(conn, id, user_id).await?;
    job.filter(|job| job.kind == Kind::ImageAnalysis).ok_or_else(|| ApiError::not_found("Job"))
}

/// The job with its steps.
pub(super) async fn show_job(conn: &mut AsyncPgConnection, job: Job) -> Result<JobView, ApiError> {
    let steps = shared::models::StepSum::list_of_jobs(conn, &[job.id]).await?;
    Ok(JobView::new(job, steps))
}

/// Ends a job that waits, asks the worker of one that runs, and refuses for one that has ended.
pub(super) async fn stop_job(
    state: &State,
    conn: &mut AsyncPgConnection,
    id: Uuid,
    user_id: Uuid,
) -> Result<(), ApiError> {
    let cancelled = once(conn, async |conn| Ok(Job::cancel(conn, id, user_id).await?)).await?;
    follow_cancel(state, id, cancelled, "Job", JobStatus::as_str).await
}

/// The same for a run of an organization, whichever member started it. `what` and `word` are what clients call it and its
/// status.
pub(super) async fn stop_run(
    state: &State,
    mut conn: Connection,
    id: Uuid,
    organization_id: Uuid,
    what: &str,
    word: impl Fn(JobStatus) -> &'static str,
) -> Result<(), ApiError> {
    let cancel = async |conn: &mut AsyncPgConnection| Ok(Job::cancel_in_organization(conn, id, organization_id).await?);
    let cancelled = once(&mut conn, cancel).await?;
    drop(conn);
    follow_cancel(state, id, cancelled, what, word).await
}

/// Tells, after the commit, what a request to end a job has come to, or refuses.
async fn follow_cancel(
    state: &State,
    id: Uuid,
    cancelled: Option<Cancelled>,
    what: &str,
    word: impl Fn(JobStatus) -> &'static str,
) -> Result<(), ApiError> {
    match cancelled {
        Some(Cancelled::AtOnce(ended)) => announce(state, &ended).await,
        Some(Cancelled::Requested) => ask_to_stop(state, id).await,
        Some(Cancelled::TooLate(status)) => {
            let (what, status) = (what.to_lowercase(), word(status));
            return Err(ApiError::conflict(format!("The {what} has already ended: it is {status}")));
        }
        None => return Err(ApiError::not_found(what)),
    }
    Ok(())
}

/// Tells listeners and queues of a job that has ended, after the commit.
pub(super) async fn announce(state: &State, ended: &Ended) {
    for event in &ended.events {
        match serde_json::to_string(event) {
            Ok(message) => state.publish(&events::channel(&state.config.redis.prefix, event.job_id), &message).await,
            Err(error) => tracing::error!(%error, "an event cannot be written as JSON"),
        }
    }
    state.hint(&ended.hints).await;
}

/// Tells the workers that a job is to stop; its row says so already.
pub(super) async fn ask_to_stop(state: &State, job_id: Uuid) {
    state.publish(&events::cancel_channel(&state.config.redis.prefix), &job_id.to_string()).await;
}

/// Tells listeners and workers about jobs that a deletion stopped, after its commit.
pub(super) async fn tell_stopped(state: &State, stopped: &StoppedJobs) {
    for ended in &stopped.ended {
        announce(state, ended).await;
    }
    for &job_id in &stopped.running {
        ask_to_stop(state, job_id).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::status_word;
    use shared::{kind::JobType, models::JobStatus};

    #[test]
    fn the_filters_know_every_word_there_is() {
        let stored: Vec<_> = JobStatus::ALL.iter().map(|status| (status_word(*status), status.as_str())).collect();
        assert!(matches!(&STATUSES, Values::Words(words) if *words == stored));
        let types: Vec<_> = JobType::WORDS.iter().map(|word| (*word, *word)).collect();
        assert!(matches!(&JOB_TYPES, Values::Words(words) if *words == types));
    }
}
