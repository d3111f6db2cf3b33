//! Accepting an image analysis: the one way from images to a queued job.

use crate::{auth::Caller, error::ApiError, metering, state::State};
use diesel_async::AsyncPgConnection;
use shared::{
    kind::{AnalysisStep, ImageAnalysis, JobType, Payload},
    models::{Analysis, Job, JobImage, JobStep, NewJob, NewStep, Product},
    queue::{Hint, Ticket},
};
use uuid::Uuid;

/// An analysis to be accepted. The images are uploaded, belong to the product, and are held by the transaction.
#[derive(Debug)]
pub(super) struct Submission<'a> {
    pub(super) caller: &'a Caller,
    pub(super) job_type: JobType,
    pub(super) product_id: Uuid,
    /// In the order in which they are to be analysed.
    pub(super) image_ids: &'a [Uuid],
}

/// An accepted analysis; once its transaction is committed, Redis is to be told.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) job: Job,
    ticket: Ticket,
    hints: Vec<Hint>,
}

/// Writes everything that makes an analysis accepted: the job, its images, its steps (pending), an analysis for each
/// image that waits for the job, a product that is `processing` if it was a draft, and one request more in the quotas.
///
/// Runs within the caller's transaction; once that is committed, the caller pushes what this returns.
///
/// # Errors
/// 429 if a quota is used up.
pub(super) async fn submit(
    state: &State,
    conn: &mut AsyncPgConnection,
    Submission { caller, job_type, product_id, image_ids }: Submission<'_>,
) -> Result<Accepted, ApiError> {
    let payload = Payload::ImageAnalysis(ImageAnalysis { job_type, product_id });
    let new = NewJob {
        items_total: i32::try_from(image_ids.len()).unwrap_or(i32::MAX),
        ..NewJob::new(caller.user_id, caller.organization_id, caller.weight(), payload)
    };
    let job = Job::insert(conn, &new).await?;
    JobImage::insert(conn, job.id, image_ids).await?;
    let steps: Vec<NewStep<'_>> = image_ids
        .iter()
        .flat_map(|&item| {
            AnalysisStep::WORDS.iter().zip(0..).map(move |(&name, position)| NewStep { item, name, position })
        })
        .collect();
    JobStep::insert_pending(conn, job.id, &steps).await?;
    Analysis::await_job(conn, job.id, image_ids).await?;
    Product::begin_processing(conn, product_id).await?;
    let hints = metering::reserve(state, conn, caller, job.id).await?;
    Ok(Accepted { job, ticket: new.ticket(), hints })
}

/// Tells Redis about an accepted analysis, after the commit. It cannot fail: a hint that is lost is repaired.
pub(super) async fn push(state: &State, accepted: &Accepted) {
    state.push(&accepted.job.queue, std::slice::from_ref(&accepted.ticket)).await;
    state.hint(&accepted.hints).await;
}
