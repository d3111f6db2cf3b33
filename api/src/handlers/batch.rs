//! Batches: one job over several images of a product.

use super::{
    jobs::{find_job, show_job, stop_job},
    submit::{Submission, push, submit},
};
use crate::{
    auth::Caller,
    error::{ApiError, Detail},
    extract::Valid,
    idempotency::once,
    state::State,
    views::JobView,
};
use actix_web::{HttpResponse, delete, get, post, web};
use garde::Validate;
use serde::Deserialize;
use shared::{
    kind::{JobType, Payload},
    models::{Job, Product, ProductImage, UploadStatus},
};
use std::collections::{HashMap, HashSet};
use utoipa::ToSchema;
use uuid::Uuid;

/// Images to be analysed by one job.
#[derive(Debug, Deserialize, ToSchema, Validate)]
pub(crate) struct CreateBatch {
    #[garde(skip)]
    product_id: Uuid,
    /// Uploaded images of the product, no one twice.
    #[garde(length(min = 1, max = 100), custom(no_repeats))]
    #[schema(min_items = 1, max_items = 100)]
    image_ids: Vec<Uuid>,
}

fn no_repeats(ids: &[Uuid], (): &()) -> garde::Result {
    let mut seen = HashSet::with_capacity(ids.len());
    match ids.iter().find(|id| !seen.insert(**id)) {
        None => Ok(()),
        Some(id) => Err(garde::Error::new(format!("names {id} twice"))),
    }
}

/// Analyse several images of a product in one job
#[utoipa::path(
    tag = "jobs",
    security(("bearer" = [])),
    request_body = CreateBatch,
    responses(
        (status = 201, description = "The job", body = JobView),
        (status = 404, description = "No such batch or product of yours"),
        (status = 422, description = "Some images are not uploaded ones of the product"),
    ),
)]
#[post("/batch")]
pub(crate) async fn create_batch(
    state: web::Data<State>,
    caller: Caller,
    body: Valid<CreateBatch>,
) -> Result<HttpResponse, ApiError> {
    let Valid(CreateBatch { product_id, image_ids }) = body;
    let mut conn = state.conn().await?;
    let accepted = once(&mut conn, async |conn| {
        let product = Product::lock(conn, product_id, caller.user_id).await?;
        product.ok_or_else(|| ApiError::not_found("Product"))?;
        check_images(&image_ids, &ProductImage::lock(conn, product_id, &image_ids).await?)?;
        let (job_type, image_ids) = (JobType::Batch, &image_ids);
        submit(&state, conn, Submission { caller: &caller, job_type, product_id, image_ids }).await
    })
    .await?;
    drop(conn);
    push(&state, &accepted).await;
    // no step has begun
    Ok(HttpResponse::Created().json(JobView::new(accepted.job, Vec::new())))
}

/// Names every image that is not an uploaded one of the product.
fn check_images(asked: &[Uuid], found: &[ProductImage]) -> Result<(), ApiError> {
    let found: HashMap<Uuid, UploadStatus> = found.iter().map(|image| (image.id, image.upload_status)).collect();
    let problems = asked.iter().enumerate().filter_map(|(index, id)| {
        let message = match found.get(id) {
            // what was found unusable was uploaded: it is counted as failed, and the others are analysed
            Some(UploadStatus::Uploaded | UploadStatus::Failed) => return None,
            Some(UploadStatus::Pending) => "Nothing was uploaded for this image yet.",
            None => "This product has no such image.",
        };
        Some(Detail::new(format!("image_ids[{index}]"), message))
    });
    let error = ApiError::unprocessable("Some images cannot be analysed");
    let (error, refused) = problems
        .fold((error, false), |(error, _), Detail { field, message }| (error.with_field(&field, message), true));
    if refused { Err(error) } else { Ok(()) }
}

/// Show a batch
#[utoipa::path(
    tag = "jobs",
    security(("bearer" = [])),
    params(("job_id" = Uuid, Path)),
    responses(
        (status = 200, description = "The job", body = JobView),
        (status = 404, description = "No such batch or product of yours"),
    ),
)]
#[get("/batch/{job_id}")]
pub(crate) async fn get_batch(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let job = find_batch(&mut conn, *id, caller.user_id).await?;
    Ok(HttpResponse::Ok().json(show_job(&mut conn, job).await?))
}

/// Cancel a batch
#[utoipa::path(
    tag = "jobs",
    security(("bearer" = [])),
    params(("job_id" = Uuid, Path)),
    responses(
        (status = 204, description = "It is cancelled, or will be in a moment"),
        (status = 404, description = "No such batch or product of yours"),
        (status = 409, description = "It has already ended"),
    ),
)]
#[delete("/batch/{job_id}")]
pub(crate) async fn cancel_batch(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    find_batch(&mut conn, *id, caller.user_id).await?;
    stop_job(&state, &mut conn, *id, caller.user_id).await?;
    Ok(HttpResponse::NoContent().finish())
}

async fn find_batch(conn: &mut diesel_async::AsyncPgConnection, id: Uuid, user_id: Uuid) -> Result<Job, ApiError> {
    let job = find_job(conn, id, user_id).await?;
    match job.payload() {
        Ok(Payload::ImageAnalysis(analysis)) if analysis.job_type == JobType::Batch => Ok(job),
        Ok(_) | Err(_) => Err(ApiError::not_found("Batch")),
    }
}
