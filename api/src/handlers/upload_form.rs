//! Reading a directly uploaded image: the form goes to a temporary file as it comes, never into memory as a whole.

use super::form::{EMPTY, Form, MAX_FILE_BYTES, MISSING, TWICE, base_name, too_large};
use crate::error::{ApiError, Detail};
use actix_multipart::{Field, Multipart};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

/// The types of image that are accepted.
pub(crate) const IMAGE_TYPES: [&str; 4] = ["image/jpeg", "image/png", "image/webp", "image/gif"];

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
    pub(crate) async fn read(form: Multipart) -> Result<Self, ApiError> {
        let (mut product_id, mut file) = (None, None);
        let mut problems = Vec::new();
        let mut form = Form::new(form);
        while let Some(field) = form.next().await? {
            match field.name() {
                Some(name @ "product_id") if product_id.is_some() => {
                    problems.push(Detail::new(name, TWICE));
                    form.skip(field).await?;
                }
                Some(name @ "file") if file.is_some() => {
                    problems.push(Detail::new(name, TWICE));
                    form.skip(field).await?;
                }
                Some("product_id") => product_id = read_product_id(&mut form, field, &mut problems).await?,
                Some("file") => file = read_file(&mut form, field, &mut problems).await?,
                Some(_) | None => form.skip(field).await?,
            }
        }
        for (name, is_missing) in [("product_id", product_id.is_none()), ("file", file.is_none())] {
            if is_missing && !problems.iter().any(|problem| problem.field == name) {
                problems.push(Detail::new(name, MISSING));
            }
        }
        match (product_id, file) {
            (Some(product_id), Some(file)) if problems.is_empty() => Ok(Self { product_id, file }),
            (_, _) => Err(ApiError::invalid(problems)),
        }
    }
}

async fn read_product_id(
    form: &mut Form,
    mut field: Field,
    problems: &mut Vec<Detail>,
) -> Result<Option<Uuid>, ApiError> {
    let mut text = Vec::new();
    while let Some(piece) = form.piece(&mut field).await? {
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
    form: &mut Form,
    mut field: Field,
    problems: &mut Vec<Detail>,
) -> Result<Option<UploadedFile>, ApiError> {
    let filename = field.content_disposition().and_then(|disposition| disposition.get_filename());
    let filename = base_name(filename.unwrap_or_default(), "image").to_owned();
    let declared = field.content_type().map(|mime| mime.essence_str().to_owned());
    let content_type = image_type(declared.as_deref(), &filename);
    let spool = actix_web::web::block(NamedTempFile::new).await.map_err(ApiError::internal)?;
    let spool = spool.map_err(ApiError::internal)?;
    let mut file = tokio::fs::File::from_std(spool.reopen().map_err(ApiError::internal)?);
    let mut size = 0_u64;
    while let Some(piece) = form.piece(&mut field).await? {
        size += u64::try_from(piece.len()).unwrap_or(u64::MAX);
        if size <= MAX_FILE_BYTES {
            file.write_all(&piece).await.map_err(ApiError::internal)?;
        }
    }
    file.flush().await.map_err(ApiError::internal)?;
    if size == 0 {
        problems.push(Detail::new("file", EMPTY));
    } else if size > MAX_FILE_BYTES {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_decides_only_where_the_type_is_not_known() {
        assert_eq!(image_type(Some("image/png"), "mug.jpg").as_deref(), Some("image/png"));
        assert_eq!(image_type(Some("application/octet-stream"), "mug.JPG").as_deref(), Some("image/jpeg"));
        assert_eq!(image_type(None, "mug.webp").as_deref(), Some("image/webp"));
        assert_eq!(image_type(Some("text/plain"), "mug.jpg"), None);
        assert_eq!(image_type(None, "mug"), None);
    }
}
