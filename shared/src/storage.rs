//! Objects: the keys that everybody agrees on, and a client for any S3 API.

mod parts;

pub use parts::{PART_BYTES, StoredPart};

use crate::config;
use anyhow::{Context, Result};
use aws_sdk_s3::{
    Client,
    config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation},
    error::{ProvideErrorMetadata, SdkError},
    operation::head_object::HeadObjectError,
    presigning::PresigningConfig,
    primitives::ByteStream,
    types::{Delete, ObjectIdentifier},
};
use aws_smithy_http_client::{Builder, tls};
use bytes::Bytes;
use std::{path::Path, time::Duration};
use uuid::Uuid;

/// Query parameter of an upload URL that names the announced bytes. The signature covers it and the length, so a store
/// refuses any other length; one that knows this parameter can say why. S3 ignores parameters that begin with `x-`.
pub const ANNOUNCED_BYTES: &str = "x-announced-bytes";

/// Most keys that one delete request of S3 takes.
pub const MAX_DELETE: usize = 1000;

/// What a HEAD tells of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Bytes.
    pub size: i64,
    /// As it was uploaded.
    pub content_type: Option<String>,
}

/// The bucket, as this process reaches it and as clients do; cheap to clone.
#[derive(Debug, Clone)]
pub struct Storage {
    client: Client,
    /// Signs URLs for the address that clients use.
    signer: Client,
    bucket: String,
}

/// Key of an uploaded product image. Characters that are awkward in a URL become `_`.
pub fn image_key(user_id: Uuid, product_id: Uuid, filename: &str) -> String {
    let random = Uuid::new_v4().simple();
    let kept: String = filename
        .chars()
        .rev()
        .take(100)
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') { c } else { '_' })
        .collect();
    let name: String = kept.chars().rev().collect();
    format!("products/{user_id}/{product_id}/{random}_{name}")
}

/// Key of a file that a user has uploaded.
pub fn uploaded_file_key(user_id: Uuid, file_id: Uuid) -> String {
    format!("files/{user_id}/{file_id}")
}

/// Key of what a node of an execution left, if it is too large for its row. Every attempt writes the same one.
pub fn node_output_key(job_id: Uuid, step: &str) -> String {
    // ids of nodes are any text
    let name = Uuid::new_v5(&job_id, step.as_bytes()).simple();
    format!("executions/{job_id}/{name}")
}

/// Key of a file that an orchestration writes. Every attempt writes the same one.
pub fn orchestration_file_key(run_id: Uuid, filename: &str) -> String {
    format!("orchestrations/{run_id}/{filename}")
}

/// Key of the repository of a project in the state that ends with this commit.
pub fn repository_key(project_id: Uuid, head: &str) -> String {
    format!("projects/{project_id}/repository/{head}.bundle")
}

/// Key of the thumbnail of an image.
pub fn thumbnail_key(image_key: &str) -> String {
    format!("{image_key}.thumbnail.jpg")
}

impl Storage {
    /// Prepares the clients; nothing is sent.
    pub fn new(settings: &config::ObjectStore) -> Self {
        Self {
            client: client(settings, &settings.endpoint),
            signer: client(settings, &settings.public_endpoint),
            bucket: settings.bucket.clone(),
        }
    }

    /// Makes the bucket unless it is there.
    pub async fn ensure_bucket(&self) -> Result<()> {
        if self.check().await.is_ok() {
            return Ok(());
        }
        match self.client.create_bucket().bucket(&self.bucket).send().await {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.code(), Some("BucketAlreadyOwnedByYou" | "BucketAlreadyExists")) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("the bucket {} cannot be made", self.bucket)),
        }
    }

    /// Whether the bucket answers.
    pub async fn check(&self) -> Result<()> {
        self.client.head_bucket().bucket(&self.bucket).send().await.context("the object store does not answer")?;
        Ok(())
    }

    /// A URL that takes one PUT of exactly `size` bytes of this type. No request is made.
    pub async fn presign_put(&self, key: &str, size: i64, content_type: &str, valid: Duration) -> Result<String> {
        let request = self
            .signer
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_length(size)
            .content_type(content_type)
            .customize()
            .mutate_request(move |request| {
                // what the SDK made is a URI, and stays one with a parameter more
                let separator = if request.uri().contains('?') { '&' } else { '?' };
                let uri = format!("{}{separator}{ANNOUNCED_BYTES}={size}", request.uri());
                let _ = request.set_uri(uri);
            })
            .presigned(PresigningConfig::expires_in(valid)?)
            .await
            .context("an upload URL could not be signed")?;
        Ok(request.uri().to_owned())
    }

    /// A URL that returns the object. No request is made.
    pub async fn presign_get(&self, key: &str, valid: Duration) -> Result<String> {
        let request = self
            .signer
            .get_object()
            .bucket(&self.bucket)
            .key(key)
            .presigned(PresigningConfig::expires_in(valid)?)
            .await
            .context("a download URL could not be signed")?;
        Ok(request.uri().to_owned())
    }

    /// Stores an object.
    pub async fn put(&self, key: &str, body: Bytes, content_type: &str) -> Result<()> {
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_type(content_type)
            .body(ByteStream::from(body))
            .send()
            .await
            .with_context(|| format!("{key} could not be stored"))?;
        Ok(())
    }

    /// Stores a file, which is read while it is sent.
    pub async fn put_file(&self, key: &str, path: &Path, content_type: &str) -> Result<()> {
        self.client
            .put_object()
            .bucket(&self.bucket)
            .key(key)
            .content_type(content_type)
            .body(ByteStream::from_path(path).await.context("the uploaded file cannot be read")?)
            .send()
            .await
            .with_context(|| format!("{key} could not be stored"))?;
        Ok(())
    }

    /// The whole object; `None` where there is none. At most `limit` bytes: a longer one is an error.
    pub async fn get(&self, key: &str, limit: u64) -> Result<Option<Bytes>> {
        let answer = self.client.get_object().bucket(&self.bucket).key(key).send().await;
        let object = match answer {
            Ok(object) => object,
            Err(error) if error.code() == Some("NoSuchKey") => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("{key} could not be read")),
        };
        let size = object.content_length().unwrap_or_default();
        anyhow::ensure!(
            u64::try_from(size).is_ok_and(|size| size <= limit),
            "{key} has {size} bytes, more than {limit}"
        );
        let body = object.body.collect().await.with_context(|| format!("{key} could not be read"))?;
        Ok(Some(body.into_bytes()))
    }

    /// Size and type of an object; `None` where there is none.
    pub async fn head(&self, key: &str) -> Result<Option<ObjectInfo>> {
        match self.client.head_object().bucket(&self.bucket).key(key).send().await {
            Ok(object) => Ok(Some(ObjectInfo {
                size: object.content_length().unwrap_or_default(),
                content_type: object.content_type().map(ToOwned::to_owned),
            })),
            Err(SdkError::ServiceError(error)) if matches!(error.err(), HeadObjectError::NotFound(_)) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{key} could not be looked up")),
        }
    }

    /// Deletes objects, at most [`MAX_DELETE`]; keys that do not exist count as deleted.
    pub async fn delete(&self, keys: &[String]) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let objects = keys.iter().map(|key| ObjectIdentifier::builder().key(key).build()).collect::<Result<_, _>>()?;
        let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build()?;
        let answer = self.client.delete_objects().bucket(&self.bucket).delete(delete).send().await?;
        match answer.errors().iter().find(|error| error.code() != Some("NoSuchKey")) {
            None => Ok(()),
            Some(error) => anyhow::bail!(
                "{} could not be deleted: {}",
                error.key().unwrap_or("an object"),
                error.message().unwrap_or("no reason given")
            ),
        }
    }
}

fn client(settings: &config::ObjectStore, endpoint: &str) -> Client {
    let http = Builder::new().tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring)).build_https();
    let credentials =
        Credentials::new(settings.access_key.expose(), settings.secret_key.expose(), None, None, "settings");
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .endpoint_url(endpoint)
        .region(Region::new(settings.region.clone()))
        .credentials_provider(credentials)
        .force_path_style(true)
        // by its default the SDK would sign the checksum of an empty body into a presigned PUT
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .build();
    Client::from_conf(config)
}
