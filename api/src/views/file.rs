//! A file of a user.

use super::Time;
use crate::file_urls::FileUrls;
use serde::Serialize;
use shared::models::File;
use utoipa::ToSchema;
use uuid::Uuid;

/// A file.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = File)]
pub(crate) struct FileView {
    id: Uuid,
    /// Without any folder.
    filename: String,
    /// Bytes.
    size: i64,
    /// As its sender said, else as its bytes say.
    mime_type: String,
    /// Returns the bytes without further credentials, for an hour.
    url: String,
    created_at: Time,
}

impl FileView {
    /// With a URL that is good from now on.
    pub(crate) fn new(file: File, urls: &FileUrls) -> Self {
        Self {
            url: urls.url(file.id),
            id: file.id,
            filename: file.filename,
            size: file.size,
            mime_type: file.mime_type,
            created_at: file.created_at.into(),
        }
    }
}
