//! Objects as files, with keys of any length.
//!
//! The store below names the files in which it keeps an object's properties after the whole key, and the kernel takes no
//! name of more than 255 bytes. A long key is therefore kept under its hash; short ones keep their names, so that the
//! folder stays readable.

use async_trait::async_trait;
use s3s::{
    S3, S3ErrorCode, S3Request, S3Response, S3Result,
    dto::{
        AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput,
        CompleteMultipartUploadOutput, CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput,
        CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput,
        GetBucketLocationInput, GetBucketLocationOutput, GetObjectInput, GetObjectOutput, HeadBucketInput,
        HeadBucketOutput, HeadObjectInput, HeadObjectOutput, ListBucketsInput, ListBucketsOutput, ListObjectsV2Input,
        ListObjectsV2Output, PutObjectInput, PutObjectOutput, UploadPartInput, UploadPartOutput,
    },
};
use s3s_fs::FileSystem;
use sha2::{Digest, Sha256};

use crate::services::wheels::hex;

/// Longer keys do not fit into a file name together with their bucket, in base 64.
const LONGEST: usize = 120;

/// The store behind the service.
#[derive(Debug)]
pub(super) struct Files(FileSystem);

impl Files {
    pub(super) fn new(files: FileSystem) -> Self {
        Self(files)
    }
}

fn shorten(key: String) -> String {
    if key.len() <= LONGEST { key } else { format!("long-keys/{}", hex(&Sha256::digest(&key))) }
}

/// Hands an operation on an object through, with its key shortened.
macro_rules! on_object {
    ($self:ident, $request:ident, $operation:ident) => {{
        let mut request = $request;
        request.input.key = shorten(request.input.key);
        $self.0.$operation(request).await
    }};
}

#[async_trait]
impl S3 for Files {
    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        on_object!(self, request, put_object)
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        on_object!(self, request, get_object)
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        on_object!(self, request, head_object)
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        on_object!(self, request, delete_object)
    }

    async fn delete_objects(
        &self,
        mut request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let keys: Vec<String> = request.input.delete.objects.iter().map(|object| object.key.clone()).collect();
        for object in &mut request.input.delete.objects {
            object.key = shorten(std::mem::take(&mut object.key));
        }
        let mut response = self.0.delete_objects(request).await?;
        // All are deleted in the order asked for, or the call has failed.
        for (object, key) in response.output.deleted.iter_mut().flatten().zip(keys) {
            object.key = Some(key);
        }
        Ok(response)
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        on_object!(self, request, create_multipart_upload)
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        on_object!(self, request, upload_part)
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        on_object!(self, request, complete_multipart_upload)
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let aborted: S3Result<_> = on_object!(self, request, abort_multipart_upload);
        // there is one pair of keys: whose upload it is not is nobody's, because it has ended
        aborted.map_err(|error| {
            if *error.code() == S3ErrorCode::AccessDenied { S3ErrorCode::NoSuchUpload.into() } else { error }
        })
    }

    async fn create_bucket(&self, request: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        self.0.create_bucket(request).await
    }

    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.0.head_bucket(request).await
    }

    async fn get_bucket_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.0.get_bucket_location(request).await
    }

    async fn list_buckets(&self, request: S3Request<ListBucketsInput>) -> S3Result<S3Response<ListBucketsOutput>> {
        self.0.list_buckets(request).await
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        self.0.list_objects_v2(request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_long_keys_are_changed_and_each_to_another() {
        assert_eq!(shorten("products/photo.jpg".to_owned()), "products/photo.jpg");
        let long = |end: &str| shorten(format!("products/{}{end}", "x".repeat(300)));
        assert!(long("a").len() <= LONGEST);
        assert_ne!(long("a"), long("b"));
    }
}
