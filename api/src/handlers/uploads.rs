//! Uploads: by a presigned URL and a confirmation, or directly through the API.

use super::{
    form::{MAX_FILE_BYTES, base_name, too_large},
    submit::{Submission, push, submit},
    upload_form::{IMAGE_TYPES, UploadForm, UploadedFile},
};
use crate::{
    auth::Caller, error::ApiError, extract::Valid, idempotency::once, metering, state::State, views::URL_VALID,
};
use actix_multipart::Multipart;
use actix_web::{HttpResponse, post, web};
use diesel::result::DatabaseErrorKind;
use diesel_async::AsyncPgConnection;
use garde::Validate;
use serde::{Deserialize, Serialize};
use shared::{
    db::Connection,
    kind::JobType,
    models::{NewProductImage, Product, ProductImage, UploadStatus},
    storage,
};
use utoipa::ToSchema;
use uuid::Uuid;

/// An image that is about to be uploaded.
#[derive(Debug, Deserialize, ToSchema, Validate)]
pub(crate) struct AnnounceUpload {
    #[garde(skip)]
    product_id: Uuid,
    #[garde(length(chars, min = 1, max = 255))]
    #[schema(min_length = 1, max_length = 255)]
    filename: String,
    /// `image/jpeg`, `image/png`, `image/webp` or `image/gif`.
    #[garde(custom(image_type))]
    content_type: String,
    /// At most 50 MB (52,428,800 bytes).
    #[garde(custom(image_size))]
    #[schema(minimum = 1, maximum = 52_428_800)]
    file_size_bytes: i64,
}

fn image_type(content_type: &str, (): &()) -> garde::Result {
    if IMAGE_TYPES.contains(&content_type) {
        return Ok(());
    }
    Err(garde::Error::new(format!("must be one of {}", IMAGE_TYPES.join(", "))))
}

fn image_size(size: &i64, (): &()) -> garde::Result {
    match u64::try_from(*size) {
        Ok(1..=MAX_FILE_BYTES) => Ok(()),
        Ok(0) | Err(_) => Err(garde::Error::new("must be at least 1")),
        Ok(_) => Err(garde::Error::new(too_large())),
    }
}

/// Where to put the bytes of an announced image.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PresignedUpload {
    /// Takes one PUT of exactly the announced number of bytes, with the announced `Content-Type`.
    upload_url: String,
    image_id: Uuid,
    s3_key: String,
    /// Seconds for which the URL works.
    expires_in: u64,
}

/// An image whose bytes were put where the presigned URL said.
#[derive(Debug, Deserialize, ToSchema, Validate)]
pub(crate) struct ConfirmUpload {
    #[garde(skip)]
    image_id: Uuid,
}

/// A directly uploaded image.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes the parts of the form; they are read as they come")]
pub(crate) struct DirectUpload {
    product_id: Uuid,
    /// The image, at most 50 MB (52,428,800 bytes).
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// An image whose analysis has been accepted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UploadAccepted {
    image_id: Uuid,
    /// The job to follow.
    job_id: Uuid,
    /// Always `queued`.
    status: &'static str,
    message: &'static str,
}

/// Announce an image and get a URL to upload it to
#[utoipa::path(
    tag = "uploads",
    security(("bearer" = [])),
    request_body = AnnounceUpload,
    responses(
        (status = 200, description = "Where to put the bytes", body = PresignedUpload),
        (status = 404, description = "No such product or image of yours"),
    ),
)]
#[post("/uploads/presigned-url")]
pub(crate) async fn presign_upload(
    state: web::Data<State>,
    caller: Caller,
    body: Valid<AnnounceUpload>,
) -> Result<HttpResponse, ApiError> {
    let Valid(body) = body;
    let mut conn = state.conn().await?;
    super::products::find(&mut conn, body.product_id, caller.user_id).await?;
    let filename = base_name(&body.filename, "image");
    let s3_key = storage::image_key(caller.user_id, body.product_id, filename);
    let upload_url = state
        .storage
        .presign_put(&s3_key, body.file_size_bytes, &body.content_type, URL_VALID)
        .await
        .map_err(ApiError::internal)?;
    let image = NewProductImage {
        id: Uuid::now_v7(),
        product_id: body.product_id,
        user_id: caller.user_id,
        s3_key,
        original_filename: filename.to_owned(),
        content_type: body.content_type,
        file_size_bytes: body.file_size_bytes,
    };
    let image = once(&mut conn, async |conn| insert(conn, &image).await).await?;
    Ok(HttpResponse::Ok().json(PresignedUpload {
        upload_url,
        image_id: image.id,
        s3_key: image.s3_key,
        expires_in: URL_VALID.as_secs(),
    }))
}

/// Confirm an upload and start the analysis
///
/// Confirming again answers with the same job.
#[utoipa::path(
    tag = "uploads",
    security(("bearer" = [])),
    request_body = ConfirmUpload,
    responses(
        (status = 200, description = "The analysis is queued", body = UploadAccepted),
        (status = 404, description = "No such product or image of yours"),
        (status = 409, description = "Nothing was uploaded yet"),
        (status = 502, description = "The object store failed"),
    ),
)]
#[post("/uploads/confirm")]
pub(crate) async fn confirm_upload(
    state: web::Data<State>,
    caller: Caller,
    body: Valid<ConfirmUpload>,
) -> Result<HttpResponse, ApiError> {
    let Valid(ConfirmUpload { image_id }) = body;
    let mut conn = state.conn().await?;
    let image = ProductImage::find(&mut conn, image_id, caller.user_id).await?;
    let image = image.ok_or_else(|| ApiError::not_found("Image"))?;
    // no connection is held while the store is asked
    drop(conn);
    let job_id = match image.job_id {
        Some(job_id) => job_id,
        None => {
            let size = uploaded_size(&state, &image).await?;
            let mut conn = state.conn().await?;
            accept(&state, &mut conn, &caller, &image, size).await?
        }
    };
    Ok(HttpResponse::Ok().json(UploadAccepted {
        image_id,
        job_id,
        status: "queued",
        message: "Image processing started",
    }))
}

/// Upload an image and start the analysis
#[utoipa::path(
    tag = "uploads",
    security(("bearer" = [])),
    request_body(content = DirectUpload, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "The analysis is queued", body = UploadAccepted),
        (status = 404, description = "No such product or image of yours"),
        (status = 502, description = "The object store failed"),
    ),
)]
#[post("/uploads/direct")]
pub(crate) async fn upload_directly(
    state: web::Data<State>,
    caller: Caller,
    form: Multipart,
) -> Result<HttpResponse, ApiError> {
    let UploadForm { product_id, file } = UploadForm::read(form).await?;
    let UploadedFile { file, filename, content_type, size } = file;
    let mut conn = state.conn().await?;
    super::products::find(&mut conn, product_id, caller.user_id).await?;
    metering::check(&state, &mut conn, &caller).await?;
    let size = i64::try_from(size).map_err(ApiError::internal)?;
    let image = NewProductImage {
        id: Uuid::now_v7(),
        product_id,
        user_id: caller.user_id,
        s3_key: storage::image_key(caller.user_id, product_id, &filename),
        original_filename: filename,
        content_type,
        file_size_bytes: size,
    };
    // the row comes first: whatever happens now, the prune chore finds the object by it
    let image = insert(&mut conn, &image).await?;
    drop(conn);
    let stored = state.storage.put_file(&image.s3_key, file.path(), &image.content_type).await;
    let mut conn = state.conn().await?;
    if let Err(error) = stored {
        ProductImage::delete(&mut conn, &image).await?;
        return Err(storage_failed(error));
    }
    let accepted = accept(&state, &mut conn, &caller, &image, size).await;
    if let Err(refused) = &accepted
        && refused.code().status().is_client_error()
    {
        ProductImage::delete(&mut conn, &image).await?;
    }
    Ok(HttpResponse::Ok().json(UploadAccepted {
        image_id: image.id,
        job_id: accepted?,
        status: "queued",
        message: "Image uploaded and processing started",
    }))
}

/// Announces an image, unless its product was deleted since it was looked up.
async fn insert(conn: &mut AsyncPgConnection, image: &NewProductImage) -> Result<ProductImage, ApiError> {
    match ProductImage::insert(conn, image).await {
        Err(diesel::result::Error::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _)) => {
            Err(ApiError::not_found("Product"))
        }
        inserted => Ok(inserted?),
    }
}

/// What the store says was uploaded, if it may be analysed.
async fn uploaded_size(state: &State, image: &ProductImage) -> Result<i64, ApiError> {
    let object = state.storage.head(&image.s3_key).await.map_err(storage_failed)?;
    let object = object.ok_or_else(|| {
        ApiError::conflict("Nothing was uploaded yet; PUT the bytes to the upload URL, then confirm again")
    })?;
    if object.size == 0 {
        return Err(ApiError::invalid_field("image_id", "The uploaded file is empty; announce and upload it again"));
    }
    // the signature covers the length, but not every store checks it
    if object.size > image.file_size_bytes {
        let (size, announced) = (object.size, image.file_size_bytes);
        let message = format!("{size} bytes were uploaded where {announced} were announced; announce it again");
        return Err(ApiError::invalid_field("image_id", message));
    }
    Ok(object.size)
}

/// Starts the analysis of an image whose bytes are in the store, unless another request was faster; the job's id.
async fn accept(
    state: &State,
    conn: &mut Connection,
    caller: &Caller,
    image: &ProductImage,
    size: i64,
) -> Result<Uuid, ApiError> {
    let missing = || ApiError::not_found("Image");
    let (job_id, accepted) = once(conn, async |conn| {
        Product::lock(conn, image.product_id, caller.user_id).await?.ok_or_else(missing)?;
        let held = ProductImage::lock(conn, image.product_id, &[image.id]).await?.pop().ok_or_else(missing)?;
        if let Some(job_id) = held.job_id {
            return Ok((job_id, None));
        }
        if held.upload_status != UploadStatus::Uploaded {
            ProductImage::mark_uploaded(conn, image.id, size).await?;
        }
        let (product_id, image_ids) = (image.product_id, &[image.id]);
        let accepted =
            submit(state, conn, Submission { caller, job_type: JobType::Single, product_id, image_ids }).await?;
        ProductImage::set_job(conn, image.id, accepted.job.id).await?;
        Ok((accepted.job.id, Some(accepted)))
    })
    .await?;
    if let Some(accepted) = accepted {
        push(state, &accepted).await;
    }
    Ok(job_id)
}

/// 502 about the store.
pub(super) fn storage_failed(error: anyhow::Error) -> ApiError {
    ApiError::integration("The object store failed; try again in a moment", error)
}
