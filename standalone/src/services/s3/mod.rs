//! An S3 store inside this process: files below a folder, real signatures, and what browsers need for uploads (CORS).

mod files;

use std::{
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    path::Path,
};

use anyhow::Context;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderMap, HeaderValue},
};
use s3s::{
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};
use shared::storage::ANNOUNCED_BYTES;
use tokio::runtime::{Builder, Runtime};

use self::files::Files;
use super::http;

const THREADS: usize = 2;

/// A running store. Dropping it stops it.
#[derive(Debug)]
pub struct S3 {
    address: SocketAddr,
    access_key: String,
    secret_key: String,
    runtime: Option<Runtime>,
}

impl S3 {
    /// Serves the folder on the listener, with one bucket and one pair of keys. It has threads of its own, so it does not
    /// matter where it is called from.
    ///
    /// # Errors
    /// When the folder cannot be used or no threads can be had.
    pub fn start(
        folder: &Path,
        listener: TcpListener,
        bucket: &str,
        access_key: &str,
        secret_key: &str,
    ) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder.join(bucket)).with_context(|| format!("cannot make {}", folder.display()))?;
        let files = s3s_fs::FileSystem::new(folder)
            .map_err(|error| anyhow::anyhow!("cannot serve {}: {error:?}", folder.display()))?;
        let mut builder = S3ServiceBuilder::new(Files::new(files));
        builder.set_auth(SimpleAuth::from_single(access_key, secret_key));
        let service = builder.build();

        let runtime = Builder::new_multi_thread().worker_threads(THREADS).thread_name("s3").enable_all().build()?;
        let address = listener.local_addr()?;
        let listener = {
            let _inside = runtime.enter();
            http::listener(listener)?
        };
        runtime.spawn(http::serve(listener, move |request| answer(service.clone(), request)));
        Ok(Self {
            address,
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            runtime: Some(runtime),
        })
    }

    /// Its URL, without a slash at the end.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The key that names the account.
    #[must_use]
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// The key that signs.
    #[must_use]
    pub fn secret_key(&self) -> &str {
        &self.secret_key
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn answer(service: S3Service, request: Request<Incoming>) -> Result<Response<s3s::Body>, Infallible> {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let asked = request.headers().get(header::ACCESS_CONTROL_REQUEST_HEADERS).cloned();
    let is_preflight = request.method() == Method::OPTIONS && origin.is_some();
    let mut response = if is_preflight {
        status(StatusCode::NO_CONTENT)
    } else if is_too_long(&request) {
        // the signature does not fit either, but this says what is wrong
        too_long()
    } else {
        let called = service.call(request.map(s3s::Body::from)).await;
        called.unwrap_or_else(|_| status(StatusCode::INTERNAL_SERVER_ERROR))
    };
    if let Some(origin) = origin {
        allow(response.headers_mut(), origin, asked.filter(|_| is_preflight));
    }
    Ok(response)
}

/// Whether an upload has more bytes than were announced.
fn is_too_long(request: &Request<Incoming>) -> bool {
    let announced = request.uri().query().unwrap_or_default().split('&').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        (name == ANNOUNCED_BYTES).then(|| value.parse::<u64>().ok())?
    });
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    request.method() == Method::PUT
        && announced.zip(length).is_some_and(|(announced, length): (_, u64)| length > announced)
}

fn too_long() -> Response<s3s::Body> {
    let text = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>EntityTooLarge</Code>\
                <Message>More bytes were sent than were announced</Message></Error>";
    let mut response = Response::new(s3s::Body::from(text.to_owned()));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}

fn status(code: StatusCode) -> Response<s3s::Body> {
    let mut response = Response::new(s3s::Body::empty());
    *response.status_mut() = code;
    response
}

/// Any page may use a presigned URL it was given: the signature decides, not the origin.
fn allow(headers: &mut HeaderMap, origin: HeaderValue, asked: Option<HeaderValue>) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::VARY, HeaderValue::from_static("Origin"));
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("etag"));
    let methods = HeaderValue::from_static("GET, PUT, POST, DELETE, HEAD");
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    if let Some(asked) = asked {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked);
    }
}
