//! Objects that are stored part by part while they come in, and read piece by piece while they go out, so that nobody holds
//! a whole one in memory.

use super::Storage;
use anyhow::{Context, Result};
use aws_sdk_s3::{
    error::ProvideErrorMetadata,
    primitives::ByteStream,
    types::{CompletedMultipartUpload, CompletedPart},
};
use bytes::Bytes;
use futures_util::{Stream, stream::unfold};
use std::ops::RangeInclusive;

/// Bytes of every part but the last: the least that S3 takes.
pub const PART_BYTES: usize = 5 << 20;

/// A part that is stored.
#[derive(Debug, Clone)]
pub struct StoredPart(CompletedPart);

impl Storage {
    /// Begins to store an object in parts; the store's name of the upload. The object is there when it is completed, and
    /// what is there of it is paid for until it is aborted.
    pub async fn begin_parts(&self, key: &str, content_type: &str) -> Result<String> {
        let begun =
            self.client.create_multipart_upload().bucket(&self.bucket).key(key).content_type(content_type).send().await;
        let begun = begun.with_context(|| format!("an upload of {key} could not be begun"))?;
        begun.upload_id.with_context(|| format!("the store did not name the upload of {key}"))
    }

    /// Stores a part; numbers begin with 1.
    pub async fn put_part(&self, key: &str, upload_id: &str, number: i32, body: Bytes) -> Result<StoredPart> {
        let stored = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload_id)
            .part_number(number)
            .body(ByteStream::from(body))
            .send()
            .await
            .with_context(|| format!("part {number} of {key} could not be stored"))?;
        Ok(StoredPart(CompletedPart::builder().part_number(number).set_e_tag(stored.e_tag).build()))
    }

    /// Makes the object of its parts, which are in order.
    pub async fn complete_parts(&self, key: &str, upload_id: &str, parts: Vec<StoredPart>) -> Result<()> {
        let parts = parts.into_iter().map(|StoredPart(part)| part).collect();
        self.client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(key)
            .upload_id(upload_id)
            .multipart_upload(CompletedMultipartUpload::builder().set_parts(Some(parts)).build())
            .send()
            .await
            .with_context(|| format!("the parts of {key} could not be put together"))?;
        Ok(())
    }

    /// Gives an upload in parts up; one that was completed, or given up before, is left as it is.
    pub async fn abort_parts(&self, key: &str, upload_id: &str) -> Result<()> {
        let aborted =
            self.client.abort_multipart_upload().bucket(&self.bucket).key(key).upload_id(upload_id).send().await;
        match aborted {
            Ok(_) => Ok(()),
            Err(error) if error.code() == Some("NoSuchUpload") => Ok(()),
            Err(error) => Err(error).with_context(|| format!("the upload of {key} could not be given up")),
        }
    }

    /// Opens an object, or these bytes of it; `None` where there is none. Pieces are read from the store as they are asked
    /// for.
    pub async fn open(
        &self,
        key: &str,
        bytes: Option<RangeInclusive<u64>>,
    ) -> Result<Option<impl Stream<Item = Result<Bytes>> + Send + use<>>> {
        let range = bytes.map(|bytes| format!("bytes={}-{}", bytes.start(), bytes.end()));
        let answer = self.client.get_object().bucket(&self.bucket).key(key).set_range(range).send().await;
        let body = match answer {
            Ok(object) => object.body,
            Err(error) if error.code() == Some("NoSuchKey") => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("{key} could not be read")),
        };
        Ok(Some(unfold(body, |mut body| async move {
            let piece = body.next().await?;
            Some((piece.context("an object broke off"), body))
        })))
    }
}
