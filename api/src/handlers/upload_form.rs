//! Reading a directly uploaded image: the form goes to a temporary file as it comes, never into memory as a whole.

use crate::error::{ApiError, Detail};
use actix_multipart::{Field, Multipart};
use futures_util::StreamExt;
use std::time::Duration;
use tempfile::NamedTempFile;
use tokio::{io::AsyncWriteExt, time::timeout};
use uuid::Uuid;

/// Largest image that is accepted, in bytes.
pub(crate) const MAX_IMAGE_BYTES: u64 = 50 * 1024 * 1024;

/// The types of image that are accepted.
pub(crate) const IMAGE_TYPES: [&str; 4] = ["image/jpeg", "image/png", "image/webp", "image/gif"];

/// A form that is longer than this is not even read to its end in order to say what is wrong with it.
const MAX_FORM_BYTES: u64 = 2 * MAX_IMAGE_BYTES;

/// What to say of a part that came before.
const TWICE: &str = "This part comes more than once; send one image at a time.";

/// How long a sender may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// An upload with all its parts, found valid.
#[derive(Debug)]
pub(crate) struct UploadForm {
    pub(crate) product_id: Uuid,
    pub(crate) file: UploadedFile,
}

/// The image, on disk until this is dropped.
#[derive(Debug)]
pub(crate) struct UploadedFile {
    pub(crate) file: NamedTempFile,
    pub(crate) filename: String,
    pub(crate) content_type: String,
    pub(crate) size: u64,
}

impl UploadForm {
    /// Reads a form to its end, so that the sender gets to see every problem at once.
    pub(crate) async fn read(mut form: Multipart) -> Result<Self, ApiError> {
        let (mut product_id, mut file) = (None, None);
        let mut problems = Vec::new();
        let mut budget = MAX_FORM_BYTES;
        while let Some(field) = next(&mut form).await? {
            match field.name() {
                Some(name @ "product_id") if product_id.is_some() => {
                    problems.push(Detail::new(name, TWICE));
                    skip(field, &mut budget).await?;
                }
                Some(name @ "file") if file.is_some() => {
                    problems.push(Detail::new(name, TWICE));
                    skip(field, &mut budget).await?;
                }
                Some("product_id") => product_id = read_product_id(field, &mut budget, &mut problems).await?,
                Some("file") => file = read_file(field, &mut budget, &mut problems).await?,
                Some(_) | None => skip(field, &mut budget).await?,
            }
        }
        for (name, is_missing) in [("product_id", product_id.is_none()), ("file", file.is_none())] {
            if is_missing && !problems.iter().any(|problem| problem.field == name) {
                problems.push(Detail::new(name, "This part is missing."));
            }
        }
        match (product_id, file) {
            (Some(product_id), Some(file)) if problems.is_empty() => Ok(Self { product_id, file }),
            (_, _) => Err(ApiError::invalid(problems)),
        }
    }
}

async fn next(form: &mut Multipart) -> Result<Option<Field>, ApiError> {
    match timeout(PATIENCE, form.next()).await {
        Ok(field) => field.transpose().map_err(|error| unreadable(&error.to_string())),
        Err(_) => Err(unreadable("nothing came for 30 seconds")),
    }
}

/// The next piece of a part, charged against what may be read of the form at all.
async fn piece(field: &mut Field, budget: &mut u64) -> Result<Option<bytes::Bytes>, ApiError> {
    let piece = match timeout(PATIENCE, field.next()).await {
        Ok(piece) => piece.transpose().map_err(|error| unreadable(&error.to_string()))?,
        Err(_) => return Err(unreadable("nothing came for 30 seconds")),
    };
    if let Some(piece) = &piece {
        let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        *budget = budget.checked_sub(length).ok_or_else(|| ApiError::invalid_field("file", too_large()))?;
    }
    Ok(piece)
}

async fn skip(mut field: Field, budget: &mut u64) -> Result<(), ApiError> {
    while piece(&mut field, budget).await?.is_some() {}
    Ok(())
}

async fn read_product_id(
    mut field: Field,
    budget: &mut u64,
    problems: &mut Vec<Detail>,
) -> Result<Option<Uuid>, ApiError> {
    let mut text = Vec::new();
    while let Some(piece) = piece(&mut field, budget).await? {
        // no spelling of a UUID is longer
        if text.len() <= 64 {
            text.extend_from_slice(&piece[..piece.len().min(64)]);
        }
    }
    let id = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
    if id.is_none() {
        problems.push(Detail::new("product_id", "Must be a UUID."));
    }
    Ok(id)
}

async fn read_file(
    mut field: Field,
    budget: &mut u64,
    problems: &mut Vec<Detail>,
) -> Result<Option<UploadedFile>, ApiError> {
    let filename = field.content_disposition().and_then(|disposition| disposition.get_filename());
    let filename = base_name(filename.unwrap_or("image")).to_owned();
    let declared = field.content_type().map(|mime| mime.essence_str().to_owned());
    let content_type = image_type(declared.as_deref(), &filename);
    let spool = actix_web::web::block(NamedTempFile::new).await.map_err(ApiError::internal)?;
    let spool = spool.map_err(ApiError::internal)?;
    let mut file = tokio::fs::File::from_std(spool.reopen().map_err(ApiError::internal)?);
    let mut size = 0_u64;
    while let Some(piece) = piece(&mut field, budget).await? {
        size += u64::try_from(piece.len()).unwrap_or(u64::MAX);
        if size <= MAX_IMAGE_BYTES {
            file.write_all(&piece).await.map_err(ApiError::internal)?;
        }
    }
    file.flush().await.map_err(ApiError::internal)?;
    if size == 0 {
        problems.push(Detail::new("file", "The file is empty."));
    } else if size > MAX_IMAGE_BYTES {
        problems.push(Detail::new("file", too_large()));
    }
    match content_type {
        Some(content_type) => Ok(Some(UploadedFile { file: spool, filename, content_type, size })),
        None => {
            let declared = declared.as_deref().unwrap_or("none");
            let message = format!("The content type is {declared}; it must be one of {}.", IMAGE_TYPES.join(", "));
            problems.push(Detail::new("file", message));
            Ok(None)
        }
    }
}

/// The declared type if it is accepted. Senders that do not know types say `application/octet-stream` or nothing; the
/// file's name decides then, and the bytes themselves later, in the job.
fn image_type(declared: Option<&str>, filename: &str) -> Option<String> {
    match declared {
        None | Some("application/octet-stream") => {
            let (_, extension) = filename.rsplit_once('.')?;
            let image_type = match extension.to_ascii_lowercase().as_str() {
                "jpg" | "jpeg" => "image/jpeg",
                "png" => "image/png",
                "webp" => "image/webp",
                "gif" => "image/gif",
                _ => return None,
            };
            Some(image_type.to_owned())
        }
        Some(declared) => IMAGE_TYPES.contains(&declared).then(|| declared.to_owned()),
    }
}

/// The name without the folders that some senders put before it, at most 255 characters, never empty.
pub(crate) fn base_name(filename: &str) -> &str {
    let name = filename.rsplit(['/', '\\']).next().unwrap_or_default().trim();
    let end = name.char_indices().nth(255).map_or(name.len(), |(at, _)| at);
    match &name[..end] {
        "" => "image",
        name => name,
    }
}

/// What to say about an image that is too large.
pub(crate) fn too_large() -> String {
    format!("The file is too large: at most {MAX_IMAGE_BYTES} bytes (50 MB) are accepted.")
}

fn unreadable(reason: &str) -> ApiError {
    ApiError::invalid_field("body", format!("The form cannot be read: {reason}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_loses_its_folders() {
        assert_eq!(base_name("C:\\photos\\mug.jpg"), "mug.jpg");
        assert_eq!(base_name("../../etc/mug.png"), "mug.png");
        assert_eq!(base_name("photos/"), "image");
        assert_eq!(base_name(&"ä".repeat(300)).chars().count(), 255);
    }

    #[test]
    fn the_name_decides_only_where_the_type_is_not_known() {
        assert_eq!(image_type(Some("image/png"), "mug.jpg").as_deref(), Some("image/png"));
        assert_eq!(image_type(Some("application/octet-stream"), "mug.JPG").as_deref(), Some("image/jpeg"));
        assert_eq!(image_type(None, "mug.webp").as_deref(), Some("image/webp"));
        assert_eq!(image_type(Some("text/plain"), "mug.jpg"), None);
        assert_eq!(image_type(None, "mug"), None);
    }
}
