//! A provider of language models on loopback, which does what a test tells it to, and remembers what it was asked.
//!
//! It speaks HTTP by hand, since half of its job is to speak it badly. It answers in the dialects of OpenAI
//! (`POST /v1/chat/completions`), Anthropic (`POST /v1/messages`) and Ollama (`POST /v1/api/chat`), whole or in pieces. Unless told otherwise it answers
//! a prompt with [`LlmPeer::answer`], one word a piece, and counts words as tokens.

mod speech;

use serde_json::Value;
use speech::Speech;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::{AbortHandle, JoinSet},
};

/// A provider of language models in the test's process; it outlives workers that are killed. Dropping it stops it.
pub struct LlmPeer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    gate: watch::Sender<bool>,
    serving: AbortHandle,
}

/// One way to disappoint a caller.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// This status with an error body.
    Status(u16),
    /// This status and a header beside it, such as `("retry-after", "7")`.
    StatusWith(u16, &'static str, String),
    /// 200 with a page for people.
    Html,
    /// 200 with nothing in it.
    Empty,
    /// What should be JSON is none.
    BrokenJson,
    /// The connection is closed in place of an answer.
    Disconnect,
    /// The connection breaks in the middle of the answer.
    Break,
    /// A stream ends in good order, but in the middle of the answer; a whole answer breaks off.
    Cut,
    /// A stream has everything but its end marker.
    NoEnd,
    /// A stream turns into an error in its middle.
    ErrorEvent,
    /// Nothing is answered until the caller goes.
    Hang,
}

/// A call as the peer saw it.
#[derive(Debug, Clone)]
pub struct PeerCall {
    /// The body of the request.
    pub body: Value,
    /// The value of `authorization` or `x-api-key`.
    pub key: Option<String>,
    /// All that was said in the request, a line a message.
    pub prompt: String,
    /// When it came.
    pub arrived: Instant,
    /// When the last byte of a good answer was written; `None` before, and for calls that failed.
    pub completed: Option<Instant>,
    /// The status it was answered with; `None` before.
    pub status: Option<u16>,
}

#[derive(Default)]
struct State {
    calls: Vec<PeerCall>,
    open: usize,
    most_open: usize,
    latency: Duration,
    pace: Duration,
    no_usage: bool,
    headers: String,
    bucket: Option<Bucket>,
    next: VecDeque<Fault>,
    always: Option<Fault>,
    marked: Vec<(String, usize, Fault)>,
}

struct Bucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    filled: Instant,
}

impl LlmPeer {
    /// A new peer that answers everything at once.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let (gate, open) = watch::channel(true);
        #[expect(clippy::disallowed_methods, reason = "the handle is kept, and the task ends when the peer is dropped")]
        let serving = tokio::spawn(serve(listener, state.clone(), open)).abort_handle();
        Self { address, state, gate, serving }
    }

    /// The base URL of all its dialects.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1/", self.address)
    }

    /// What it answers to a conversation that ends with this.
    pub fn answer(last_message: &str) -> String {
        format!("answer to: {last_message}")
    }

    /// Every answer takes this long to begin.
    pub fn set_latency(&self, latency: Duration) {
        self.state().latency = latency;
    }

    /// This long passes between the pieces of a streamed answer.
    pub fn set_pace(&self, pace: Duration) {
        self.state().pace = pace;
    }

    /// Answers come without counts of tokens.
    pub fn leave_out_usage(&self) {
        self.state().no_usage = true;
    }

    /// Good answers carry these headers.
    pub fn announce(&self, headers: &[(&str, &str)]) {
        self.state().headers = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    }

    /// Takes `rate` calls a second and `burst` at once, and answers 429 with `Retry-After` to the others.
    pub fn set_bucket(&self, rate: f64, burst: f64) {
        self.state().bucket = Some(Bucket { rate, burst, tokens: burst, filled: Instant::now() });
    }

    /// Fails the next calls, one for each fault.
    pub fn fail_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state().next.extend(faults);
    }

    /// Fails all calls, or none any more.
    pub fn fail_all(&self, fault: Option<Fault>) {
        self.state().always = fault;
    }

    /// Fails the next `times` calls whose prompt contains `marker`.
    pub fn fail_marked(&self, marker: &str, times: usize, fault: Fault) {
        self.state().marked.push((marker.to_owned(), times, fault));
    }

    /// Calls are taken but not answered until [`LlmPeer::release`].
    pub fn hold(&self) {
        self.gate.send_replace(false);
    }

    /// Answers what was held, and everything from now on.
    pub fn release(&self) {
        self.gate.send_replace(true);
    }

    /// Every call so far, oldest first.
    pub fn calls(&self) -> Vec<PeerCall> {
        self.state().calls.clone()
    }

    /// How many calls came.
    pub fn received(&self) -> usize {
        self.state().calls.len()
    }

    /// How many calls came whose prompt contains `marker`.
    pub fn received_with(&self, marker: &str) -> usize {
        self.state().calls.iter().filter(|call| call.prompt.contains(marker)).count()
    }

    /// How many calls were answered to the end.
    pub fn completed(&self) -> usize {
        self.state().calls.iter().filter(|call| call.completed.is_some()).count()
    }

    /// How many calls were answered to the end whose prompt contains `marker`.
    pub fn completed_with(&self, marker: &str) -> usize {
        self.state().calls.iter().filter(|call| call.completed.is_some() && call.prompt.contains(marker)).count()
    }

    /// How many calls were answered with 429.
    pub fn refused(&self) -> usize {
        self.state().calls.iter().filter(|call| call.status == Some(429)).count()
    }

    /// How many calls are open now.
    pub fn open(&self) -> usize {
        self.state().open
    }

    /// The most calls that were open at once.
    pub fn max_concurrency(&self) -> usize {
        self.state().most_open
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for LlmPeer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl State {
    /// What goes wrong with a call, if anything.
    fn fault(&mut self, prompt: &str) -> Option<Fault> {
        if let Some(fault) = self.next.pop_front() {
            return Some(fault);
        }
        if let Some((_, times, fault)) =
            self.marked.iter_mut().find(|(marker, times, _)| *times > 0 && prompt.contains(marker.as_str()))
        {
            *times -= 1;
            return Some(fault.clone());
        }
        self.always.clone()
    }
}

impl Bucket {
    /// Takes a token, or says how long until there is one.
    fn take(&mut self) -> Result<(), Duration> {
        let now = Instant::now();
        self.tokens = (self.tokens + now.duration_since(self.filled).as_secs_f64() * self.rate).min(self.burst);
        self.filled = now;
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - self.tokens) / self.rate))
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>, gate: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok((socket, _)) = listener.accept().await else { continue };
        let (state, gate) = (state.clone(), gate.clone());
        // a connection that breaks concerns only its caller
        connections.spawn(async move { converse(socket, &state, gate).await.ok() });
    }
}

/// Answers the calls of one connection until it ends.
async fn converse(socket: TcpStream, state: &Mutex<State>, mut gate: watch::Receiver<bool>) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut socket = BufReader::new(socket);
    while let Some(request) = read(&mut socket).await? {
        let number = {
            let mut state = state.lock().unwrap();
            state.open += 1;
            state.most_open = state.most_open.max(state.open);
            state.calls.push(PeerCall {
                prompt: speech::prompt(&request.body),
                body: request.body.clone(),
                key: request.key.clone(),
                arrived: Instant::now(),
                completed: None,
                status: None,
            });
            state.calls.len() - 1
        };
        // a caller that goes away while it waits must not count as open
        let mut probe = [0_u8; 1];
        let answered = tokio::select! {
            answered = respond(&request, number, state, &mut gate) => Some(answered),
            _ = socket.get_ref().peek(&mut probe) => None,
        };
        let finished = match answered {
            Some(speech) => utter(socket.get_mut(), speech, number, state).await,
            None => Ok(false),
        };
        state.lock().unwrap().open -= 1;
        if !finished? {
            break;
        }
    }
    socket.get_mut().shutdown().await
}

/// Decides what is said to a call.
async fn respond(request: &Request, number: usize, state: &Mutex<State>, gate: &mut watch::Receiver<bool>) -> Speech {
    let (fault, latency, refused) = {
        let mut state = state.lock().unwrap();
        let prompt = state.calls[number].prompt.clone();
        let refused = state.bucket.as_mut().and_then(|bucket| Some((bucket.take().err()?, bucket.rate)));
        let fault = if refused.is_some() { None } else { state.fault(&prompt) };
        (fault, state.latency, refused)
    };
    if let Some((wait, rate)) = refused {
        return Speech::refusal(wait, rate);
    }
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    // the peer lives as long as this task, so the gate cannot close
    let _ = gate.wait_for(|open| *open).await;
    if fault == Some(Fault::Hang) {
        std::future::pending::<()>().await;
    }
    let (pace, usage, headers) = {
        let state = state.lock().unwrap();
        (state.pace, !state.no_usage, state.headers.clone())
    };
    Speech::new(request, usage, pace, fault.as_ref(), &headers)
}

/// Says it. False if the connection is to be closed after it.
async fn utter(socket: &mut TcpStream, speech: Speech, number: usize, state: &Mutex<State>) -> std::io::Result<bool> {
    state.lock().unwrap().calls[number].status = speech.status;
    for (place, piece) in speech.pieces.iter().enumerate() {
        if place > 1 && !speech.pace.is_zero() {
            tokio::time::sleep(speech.pace).await;
        }
        socket.write_all(piece.as_bytes()).await?;
        socket.flush().await?;
    }
    if speech.good {
        state.lock().unwrap().calls[number].completed = Some(Instant::now());
    }
    Ok(speech.keep)
}

struct Request {
    path: String,
    key: Option<String>,
    body: Value,
}

/// The next request of a connection; `None` at its end.
async fn read(socket: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if socket.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let (mut length, mut key) = (0, None);
    loop {
        line.clear();
        if socket.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap_or(0),
            "authorization" | "x-api-key" => key = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await?;
    Ok(Some(Request { path, key, body: serde_json::from_slice(&body).unwrap_or(Value::Null) }))
}
