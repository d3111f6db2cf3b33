//! What the models said about an image, and trying it again.

use super::submit::{Submission, push, submit};
use crate::{
    auth::Caller,
    error::ApiError,
    idempotency::once,
    list::{self, ListParams, ListQuery, ListSpec, Page, SortKind, Sortable},
    state::State,
    views::AnalysisView,
};
use actix_web::{HttpResponse, get, post, web};
use serde::Serialize;
use shared::{
    kind::JobType,
    models::{Analysis, JobImage, Product, ProductImage, UploadStatus},
};
use utoipa::ToSchema;
use uuid::Uuid;

/// The analyses of one product.
pub(super) static ANALYSES: ListSpec = ListSpec {
    from: "analyses a JOIN product_images i ON i.id = a.product_image_id",
    columns: "a.*",
    condition: None,
    id: "a.id",
    default_limit: 20,
    filters: &[],
    searched: &[],
    sortable: &[Sortable::new("created_at", "a.created_at", SortKind::Time)],
};

/// An analysis that has been accepted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RetryAccepted {
    /// The job to follow.
    job_id: Uuid,
    /// Always `queued`.
    status: &'static str,
    message: &'static str,
}

/// Show the analysis of an image
#[utoipa::path(
    tag = "analysis",
    security(("bearer" = [])),
    params(("image_id" = Uuid, Path)),
    responses(
        (status = 200, description = "The analysis", body = AnalysisView),
        (status = 404, description = "No such image, analysis or product of yours"),
    ),
)]
#[get("/analysis/{image_id}")]
pub(crate) async fn get_analysis(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    let analysis = Analysis::find(&mut conn, *id, caller.user_id).await?;
    let analysis = analysis.ok_or_else(|| ApiError::not_found("Analysis"))?;
    let view = AnalysisView::load(&mut conn, vec![analysis]).await?.pop();
    Ok(HttpResponse::Ok().json(view))
}

/// Analyse an image again
///
/// The result overwrites the one that is there.
#[utoipa::path(
    tag = "analysis",
    security(("bearer" = [])),
    params(("image_id" = Uuid, Path)),
    responses(
        (status = 200, description = "The analysis is queued", body = RetryAccepted),
        (status = 404, description = "No such image, analysis or product of yours"),
        (status = 409, description = "The image is being analysed"),
    ),
)]
#[post("/analysis/{image_id}/retry")]
pub(crate) async fn retry_analysis(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
) -> Result<HttpResponse, ApiError> {
    let missing = || ApiError::not_found("Image");
    let image_id = *id;
    let mut conn = state.conn().await?;
    let accepted = once(&mut conn, async |conn| {
        let image = ProductImage::find(conn, image_id, caller.user_id).await?.ok_or_else(missing)?;
        // the product first, as everybody locks them
        Product::lock(conn, image.product_id, caller.user_id).await?.ok_or_else(missing)?;
        let image = ProductImage::lock(conn, image.product_id, &[image_id]).await?.pop().ok_or_else(missing)?;
        // an unusable file may be tried again: it was uploaded, and other limits or models may take it
        if image.upload_status == UploadStatus::Pending {
            return Err(ApiError::conflict("Nothing was uploaded for this image yet; confirm its upload first"));
        }
        if let Some(job_id) = JobImage::find_open_job(conn, image_id).await? {
            return Err(ApiError::conflict(format!(
                "This image is being analysed by job {job_id}; wait for its end or cancel it"
            )));
        }
        let (product_id, image_ids) = (image.product_id, &[image_id]);
        submit(&state, conn, Submission { caller: &caller, job_type: JobType::Retry, product_id, image_ids }).await
    })
    .await?;
    drop(conn);
    push(&state, &accepted).await;
    Ok(HttpResponse::Ok().json(RetryAccepted {
        job_id: accepted.job.id,
        status: "queued",
        message: "Analysis retry started",
    }))
}

/// List the analyses of a product
#[utoipa::path(
    tag = "analysis",
    security(("bearer" = [])),
    params(("product_id" = Uuid, Path), ListQuery),
    responses(
        (status = 200, description = "A page of analyses", body = Page<AnalysisView>),
        (status = 404, description = "No such image, analysis or product of yours"),
    ),
)]
#[get("/products/{product_id}/analysis")]
pub(crate) async fn list_analyses(
    state: web::Data<State>,
    caller: Caller,
    id: web::Path<Uuid>,
    params: ListParams,
) -> Result<HttpResponse, ApiError> {
    let mut conn = state.conn().await?;
    super::products::find(&mut conn, *id, caller.user_id).await?;
    let page: Page<Analysis> = list::fetch(&mut conn, &ANALYSES, &params, &[("i.product_id", *id)]).await?;
    let data = AnalysisView::load(&mut conn, page.data).await?;
    Ok(HttpResponse::Ok().json(Page { data, pagination: page.pagination }))
}
