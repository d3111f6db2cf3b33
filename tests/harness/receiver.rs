//! A receiver of webhooks: a real HTTP server that does what a test wants and remembers what came.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, header::HeaderMap, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{AbortHandle, JoinSet},
};

/// Receives webhooks on a port of its own. Dropping it closes the port and all connections.
pub struct Receiver {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    gate: watch::Sender<bool>,
    serving: AbortHandle,
}

/// How it answers.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Bytes,
    delay: Duration,
    held: bool,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Received {
    /// Path and query.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// When it had come.
    pub at: Instant,
    /// From where: requests with the same address came over the same connection.
    pub from: SocketAddr,
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    replies: HashMap<String, Reply>,
    next: HashMap<String, VecDeque<Reply>>,
    open: HashMap<String, usize>,
    most_open: HashMap<String, usize>,
}

impl Reply {
    /// This status, at once.
    pub fn status(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new(), delay: Duration::ZERO, held: false }
    }

    /// With this header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// After this time.
    #[must_use]
    pub const fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Not before [`Receiver::release`].
    pub fn held() -> Self {
        Self { held: true, ..Self::status(200) }
    }
}

impl Received {
    /// The text of a header, empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// The header `webhook-id`.
    pub fn id(&self) -> uuid::Uuid {
        self.header("webhook-id").parse().unwrap()
    }
}

impl Receiver {
    /// A receiver that answers 200 to everything.
    pub async fn start() -> Self {
        Self::on(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// A receiver at an address that was free before.
    pub async fn on(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let (gate, open) = watch::channel(false);
        #[expect(clippy::disallowed_methods, reason = "the handle is kept, and the task ends when it is dropped")]
        let serving = tokio::spawn(serve(listener, state.clone(), open)).abort_handle();
        Self { address, state, gate, serving }
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How requests to a path are answered from now on.
    pub fn answer(&self, path: &str, reply: Reply) {
        self.state().replies.insert(path.to_owned(), reply);
    }

    /// How the next requests to a path are answered, one after the other.
    pub fn answer_next(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        self.state().next.entry(path.to_owned()).or_default().extend(replies);
    }

    /// Answers all that are held, and from now on at once.
    pub fn release(&self) {
        self.gate.send_replace(true);
    }

    /// Every request to a path, oldest first.
    pub fn received(&self, path: &str) -> Vec<Received> {
        self.state().received.iter().filter(|received| received.path == path).cloned().collect()
    }

    /// How many requests to a path came.
    pub fn count(&self, path: &str) -> usize {
        self.state().received.iter().filter(|received| received.path == path).count()
    }

    /// The most requests to a path that were open at a time.
    pub fn most_open(&self, path: &str) -> usize {
        self.state().most_open.get(path).copied().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>, open: watch::Receiver<bool>) {
    // dropped with this task, and all connections with it
    let mut connections = JoinSet::new();
    loop {
        let Ok((socket, from)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let _ = socket.set_nodelay(true);
        let (state, open) = (state.clone(), open.clone());
        let service = service_fn(move |request| handle(request, from, state.clone(), open.clone()));
        connections.spawn(async move {
            // a connection that breaks off concerns only its client
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service).await;
        });
    }
}

/// A request that is being answered.
struct Open(Arc<Mutex<State>>, String);

impl Drop for Open {
    fn drop(&mut self) {
        if let Ok(mut state) = self.0.lock()
            && let Some(open) = state.open.get_mut(&self.1)
        {
            *open -= 1;
        }
    }
}

async fn handle(
    request: Request<Incoming>,
    from: SocketAddr,
    state: Arc<Mutex<State>>,
    mut gate: watch::Receiver<bool>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.to_string();
    let Ok(body) = body.collect().await else { return Ok(Response::default()) };
    let received =
        Received { path: path.clone(), headers: head.headers, body: body.to_bytes(), at: Instant::now(), from };
    let (reply, _open) = {
        let mut state_now = state.lock().unwrap();
        state_now.received.push(received);
        let open = state_now.open.entry(path.clone()).or_default();
        *open += 1;
        let open = *open;
        let most = state_now.most_open.entry(path.clone()).or_default();
        *most = open.max(*most);
        let next = state_now.next.get_mut(&path).and_then(VecDeque::pop_front);
        let reply = next.or_else(|| state_now.replies.get(&path).cloned()).unwrap_or_else(|| Reply::status(200));
        (reply, Open(state.clone(), path))
    };
    if reply.held {
        // an error: the receiver is gone, and this with it
        let _ = gate.wait_for(|open| *open).await;
    }
    if !reply.delay.is_zero() {
        tokio::time::sleep(reply.delay).await;
    }
    let mut response = Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(reply.body)).unwrap())
}
