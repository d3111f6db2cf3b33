//! An image of a product.

use super::{Time, word_lists};
use anyhow::Result;
use serde::Serialize;
use shared::{
    models::{ProductImage, UploadStatus},
    storage::Storage,
};
use std::time::Duration;
use utoipa::ToSchema;
use uuid::Uuid;

/// How long a signed URL works.
pub(crate) const URL_VALID: Duration = Duration::from_secs(3600);

/// An image of a product.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Image)]
pub(crate) struct ImageView {
    id: Uuid,
    /// Key of the object in the store.
    s3_key: String,
    original_filename: String,
    /// Declared at first; what the bytes really are once `preprocess` has seen them.
    content_type: String,
    file_size_bytes: i64,
    /// Pixels of the upright image; null until `preprocess` is done.
    #[schema(required)]
    width: Option<i32>,
    /// Pixels of the upright image; null until `preprocess` is done.
    #[schema(required)]
    height: Option<i32>,
    is_primary: bool,
    #[schema(schema_with = word_lists::upload_status)]
    upload_status: UploadStatus,
    /// Returns the bytes without further credentials, for an hour.
    url: String,
    created_at: Time,
}

impl ImageView {
    /// Signs the URL; nothing is sent to the store.
    pub(crate) async fn new(image: ProductImage, storage: &Storage) -> Result<Self> {
        Ok(Self {
            url: storage.presign_get(&image.s3_key, URL_VALID).await?,
            id: image.id,
            s3_key: image.s3_key,
            original_filename: image.original_filename,
            content_type: image.content_type,
            file_size_bytes: image.file_size_bytes,
            width: image.width,
            height: image.height,
            is_primary: image.is_primary,
            upload_status: image.upload_status,
            created_at: image.created_at.into(),
        })
    }
}
