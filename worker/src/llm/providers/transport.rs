//! The way of a call to its provider: a small relay in this process.
//!
//! The library that speaks the dialects shows the headers of refusals only, yet it is good answers that say how much is
//! left of a limit, before anybody has to be refused. It takes an HTTP client of ours, however. So its client connects
//! to the relay, over a socket in a folder that nobody else may enter, and the relay sends everything on as it comes,
//! and hears the headers in passing. An answer that breaks off breaks off on both sides, and so does a call that is
//! given up.

use anyhow::Context;
use hyper::{Request, Response, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use reqwest::{
    Body, Client,
    header::{HeaderMap, HeaderName},
};
use std::{
    collections::HashMap,
    fs::DirBuilder,
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{net::UnixListener, sync::oneshot, task::JoinSet};
use tokio_util::task::AbortOnDropHandle;
use url::Url;
use uuid::Uuid;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// Idle connections that are kept for each provider, and to the relay.
const IDLE: usize = 64;

/// The pause after a connection that could not be taken: files are short, and the next one would fail as well.
const PAUSE: Duration = Duration::from_millis(50);

/// Headers that concern one connection, and not who is at the other end of the other.
const OF_ONE_CONNECTION: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The relay, as long as this lives.
pub(super) struct Transport {
    routes: Arc<Routes>,
    folder: Folder,
    _serving: AbortOnDropHandle<()>,
}

/// What became of a call at the head of its answer: the headers of a good one, or why there was none.
pub(super) type Head = reqwest::Result<HeaderMap>;

/// Where one call goes, under a name that cannot be guessed.
#[derive(Default)]
struct Routes(Mutex<HashMap<String, (Url, oneshot::Sender<Head>)>>);

/// One call's way through the relay. Dropping it ends the way, and the wait for the head.
pub(super) struct Route {
    name: String,
    routes: Arc<Routes>,
}

/// Is removed with everything in it.
struct Folder(PathBuf);

impl Transport {
    /// Begins to relay.
    ///
    /// # Errors
    /// When there is no room for the socket, or TLS is not set up.
    pub(super) fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("atelier-{}", Uuid::new_v4().simple()));
        let show = path.display().to_string();
        DirBuilder::new().mode(0o700).create(&path).with_context(|| format!("the folder {show} cannot be made"))?;
        let folder = Folder(path);
        let listener =
            UnixListener::bind(folder.socket()).with_context(|| format!("no socket can be made in {show}"))?;
        let client = Client::builder()
            .connect_timeout(CONNECT)
            .pool_max_idle_per_host(IDLE)
            .tcp_nodelay(true)
            // a key goes where it was meant to go, or nowhere
            .redirect(reqwest::redirect::Policy::none())
            // bodies pass as they are
            .no_gzip()
            .no_brotli()
            .no_deflate()
            .no_zstd()
            .build()?;
        let routes = Arc::new(Routes::default());
        #[expect(clippy::disallowed_methods, reason = "the handle is kept, and the task ends with the transport")]
        let serving = AbortOnDropHandle::new(tokio::spawn(serve(listener, client, routes.clone())));
        Ok(Self { routes, folder, _serving: serving })
    }

    /// A client all of whose connections lead to the relay.
    ///
    /// # Errors
    /// When TLS is not set up.
    pub(super) fn client(&self) -> reqwest::Result<Client> {
        Client::builder()
            .unix_socket(self.folder.socket())
            .pool_max_idle_per_host(IDLE)
            .redirect(reqwest::redirect::Policy::none())
            .build()
    }

    /// The way of one call to `base_url`, and what will be heard of it; nothing, if it is not sent or not answered well.
    pub(super) fn route(&self, base_url: Url) -> (Route, oneshot::Receiver<Head>) {
        let (sender, head) = oneshot::channel();
        let name = Uuid::new_v4().simple().to_string();
        self.routes.lock().insert(name.clone(), (base_url, sender));
        (Route { name, routes: self.routes.clone() }, head)
    }
}

impl Route {
    /// What the relay's client asks for in place of the provider's base URL.
    pub(super) fn base_url(&self) -> String {
        format!("http://localhost/{}/", self.name)
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        self.routes.lock().remove(&self.name);
    }
}

impl Routes {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Url, oneshot::Sender<Head>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Folder {
    fn socket(&self) -> PathBuf {
        self.0.join("relay")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // what is left behind is an empty socket
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Takes connections until it is aborted, and they with it.
async fn serve(listener: UnixListener, client: Client, routes: Arc<Routes>) {
    let mut connections = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a model call finds no way to its provider");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let (client, routes) = (client.clone(), routes.clone());
        connections.spawn(async move {
            let service = service_fn(|request| pass_on(&client, &routes, request));
            // a connection that breaks is what the caller sees of an answer that broke
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Sends one call on. An error closes the connection: there is no answer.
async fn pass_on(client: &Client, routes: &Routes, request: Request<Incoming>) -> Result<Response<Body>, Lost> {
    let (parts, body) = request.into_parts();
    let (name, path) = parts.uri.path().trim_start_matches('/').split_once('/').ok_or(Lost)?;
    let (mut url, head) = routes.lock().remove(name).ok_or(Lost)?;
    url.set_path(&format!("{}{path}", url.path()));
    let mut headers = parts.headers;
    headers.remove(header::HOST);
    strip(&mut headers);
    match client.request(parts.method, url).headers(headers).body(Body::wrap(body)).send().await {
        Ok(answer) => {
            if answer.status().is_success() {
                // who asked may have gone
                let _ = head.send(Ok(answer.headers().clone()));
            }
            let mut answer = Response::<Body>::from(answer);
            strip(answer.headers_mut());
            Ok(answer)
        }
        Err(error) => {
            let _ = head.send(Err(error));
            Err(Lost)
        }
    }
}

fn strip(headers: &mut HeaderMap) {
    for name in OF_ONE_CONNECTION {
        headers.remove(name);
    }
}

/// A call that came to no answer.
#[derive(Debug, thiserror::Error)]
#[error("there is no answer")]
struct Lost;
