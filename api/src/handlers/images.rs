//! The images of a product, after their upload.

use super::jobs::tell_stopped;
use crate::{auth::Caller, error::ApiError, extract::Valid, state::State, views::ImageView};
use actix_web::{HttpResponse, delete, put, web};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use garde::Validate;
use serde::Deserialize;
use shared::models::{Product, ProductImage, UploadStatus};
use utoipa::ToSchema;
use uuid::Uuid;

/// What is to change in an image.
#[derive(Debug, Deserialize, ToSchema, Validate)]
pub(crate) struct UpdateImage {
    /// Must be true: a product always has one primary image, so one is made primary instead of another.
    #[garde(custom(only_true))]
    is_primary: bool,
}

fn only_true(is_primary: &bool, (): &()) -> garde::Result {
    if *is_primary { Ok(()) } else { Err(garde::Error::new("must be true; make another image primary instead")) }
}

/// Make an image the primary one of its product
#[utoipa::path(
    tag = "products",
    security(("bearer" = [])),
    params(("product_id" = Uuid, Path), ("image_id" = Uuid, Path)),
    request_body = UpdateImage,
    responses(
        (status = 200, description = "The image", body = ImageView),
        (status = 404, description = "No such image of yours"),
        (status = 409, description = "Nothing was uploaded for it yet"),
    ),
)]
#[put("/products/{product_id}/images/{image_id}")]
pub(crate) async fn update_image(
    state: web::Data<State>,
    caller: Caller,
    ids: web::Path<(Uuid, Uuid)>,
    body: Valid<UpdateImage>,
) -> Result<HttpResponse, ApiError> {
    let (product_id, image_id) = ids.into_inner();
    let Valid(UpdateImage { is_primary: _ }) = body;
    let mut conn = state.conn().await?;
    let image = conn
        .transaction(async |conn| {
            let image = hold(conn, product_id, image_id, caller.user_id).await?;
            if image.upload_status == UploadStatus::Pending {
                return Err(ApiError::conflict("Nothing was uploaded for this image yet; confirm its upload first"));
            }
            ProductImage::make_primary(conn, product_id, image_id).await?;
            Ok(ProductImage { is_primary: true, ..image })
        })
        .await?;
    let image = ImageView::new(image, &state.storage).await.map_err(ApiError::internal)?;
    Ok(HttpResponse::Ok().json(image))
}

/// Delete an image with its analysis
///
/// An analysis of this image alone that waits or runs is cancelled; a batch goes on without it.
#[utoipa::path(
    tag = "products",
    security(("bearer" = [])),
    params(("product_id" = Uuid, Path), ("image_id" = Uuid, Path)),
    responses((status = 204, description = "It is gone"), (status = 404, description = "No such image of yours")),
)]
#[delete("/products/{product_id}/images/{image_id}")]
pub(crate) async fn delete_image(
    state: web::Data<State>,
    caller: Caller,
    ids: web::Path<(Uuid, Uuid)>,
) -> Result<HttpResponse, ApiError> {
    let (product_id, image_id) = ids.into_inner();
    let mut conn = state.conn().await?;
    let stopped = conn
        .transaction(async |conn| {
            let image = ProductImage::find(conn, image_id, caller.user_id).await?;
            image.filter(|image| image.product_id == product_id).ok_or_else(|| ApiError::not_found("Image"))?;
            // a running attempt holds its job before it touches the product, so the jobs come first here as well
            let stopped = Product::stop_jobs_of_image(conn, image_id, caller.user_id).await?;
            let image = hold(conn, product_id, image_id, caller.user_id).await?;
            ProductImage::delete(conn, &image).await?;
            Ok::<_, ApiError>(stopped)
        })
        .await?;
    drop(conn);
    tell_stopped(&state, &stopped).await;
    Ok(HttpResponse::NoContent().finish())
}

/// The image, if it is of this product and the caller's; the product is held until the transaction ends.
async fn hold(
    conn: &mut AsyncPgConnection,
    product_id: Uuid,
    image_id: Uuid,
    user_id: Uuid,
) -> Result<ProductImage, ApiError> {
    let missing = || ApiError::not_found("Image");
    Product::lock(conn, product_id, user_id).await?.ok_or_else(missing)?;
    ProductImage::lock(conn, product_id, &[image_id]).await?.pop().ok_or_else(missing)
}
