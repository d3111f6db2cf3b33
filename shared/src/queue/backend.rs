//! The consumer half as an apalis backend.

use std::fmt::Display;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use apalis_core::backend::finalize::Ephemeral;
use apalis_core::backend::future::BoxSyncFuture;
use apalis_core::backend::{Backend, BackendConfig};
use apalis_core::task::Task;
use apalis_core::worker::context::WorkerContext;
use futures_util::{FutureExt, Sink};
use redis::Client;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::ack::AckLayer;
use super::acker::Settlement;
use super::lease::Consumer;
use super::pump::{ClaimHook, HandBackHook, Inbox, Pump};
use super::{Queue, QueueError, Ticket, TicketSink, acker, renewer, waker};

/// How long closing waits for the pump and the last acks.
const CLOSE_LIMIT: Duration = Duration::from_secs(6);

/// Places for messages to the acker that are not acks.
const FLUSHES: usize = 4;

/// How a worker consumes a queue.
#[derive(Clone)]
pub struct BackendOptions {
    /// For the connection wake-ups come through.
    pub client: Client,
    /// How many jobs may be in hand, the worker's concurrency. At least 1.
    pub slots: usize,
    /// How long a job stays ours without a renewal. 15 s, renewed every third of it.
    pub lease: Duration,
    /// Cancelled when no more jobs may be claimed; running handlers go on. Jobs claimed but not started are handed back
    /// at once.
    pub stop: CancellationToken,
    /// Where the backend's own tasks run. After the worker has ended, close it and wait for it (some seconds at most),
    /// so that the last leases are given back before the process exits.
    pub tasks: TaskTracker,
}

impl BackendOptions {
    /// The options with the usual lease of 15 s.
    pub fn new(client: Client, slots: usize, stop: CancellationToken, tasks: TaskTracker) -> Self {
        Self { client, slots: slots.max(1), lease: Duration::from_secs(15), stop, tasks }
    }
}

/// Feeds an apalis worker with claimed jobs of type `T`. Made by [`Queue::backend`].
///
/// It never fails: whatever happens to Redis or in the claim hook is logged and tried again. The handler must return an
/// [`Ack`](super::Ack) (or a `Result` of one; an error brings the job back after a second for Postgres to decide).
pub struct LeaseBackend<T> {
    consumer: Arc<Consumer>,
    inbox: Inbox<T>,
    unstarted: Option<Unstarted<T>>,
    running: Option<Running>,
    closing: Option<BoxSyncFuture<()>>,
    sink: TicketSink,
}

/// What the background tasks will own.
struct Unstarted<T> {
    claim: ClaimHook<T>,
    hand_back: Option<HandBackHook<T>>,
    tasks: mpsc::Sender<Task<T>>,
    settlements: mpsc::Receiver<Settlement>,
}

struct Running {
    stop: CancellationToken,
    pump: Option<JoinHandle<()>>,
    listeners: [JoinHandle<()>; 2],
}

/// The pump ends by itself, the acker when the last handler is gone; only those that listen for ever are cut off.
impl Drop for Running {
    fn drop(&mut self) {
        self.stop.cancel();
        for listener in &self.listeners {
            listener.abort();
        }
    }
}

impl Queue {
    /// The consumer half for one apalis worker.
    ///
    /// `claim` is called with each batch of leased ids (never empty, at most 200) and returns the rows it could claim;
    /// the others are forgotten. If it fails, panics or takes more than 30 s the ids are released and offered again.
    pub fn backend<T, C, F, E>(&self, options: BackendOptions, claim: C) -> LeaseBackend<T>
    where
        T: Send + 'static,
        C: Fn(Vec<Uuid>) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Vec<(Uuid, T)>, E>> + Send + 'static,
        E: Display,
    {
        let claim: ClaimHook<T> = Box::new(move |ids| {
            let rows = claim(ids);
            async move { rows.await.map_err(|error| format!("{error:#}")) }.boxed()
        });
        let (settle, settlements) = mpsc::channel(options.slots + FLUSHES);
        let (tasks, inbox) = mpsc::channel(options.slots);
        LeaseBackend {
            consumer: Arc::new(Consumer::new(self.clone(), options, settle)),
            inbox: Arc::new(Mutex::new(inbox)),
            unstarted: Some(Unstarted { claim, hand_back: None, tasks, settlements }),
            running: None,
            closing: None,
            sink: self.sink(),
        }
    }
}

impl<T: Send + 'static> LeaseBackend<T> {
    /// Called when the worker stops with the rows that were claimed but not started, before their ids go back to Redis:
    /// make them `queued` again, the attempt not charged.
    #[must_use]
    pub fn hand_back<H, F>(mut self, hook: H) -> Self
    where
        H: Fn(Vec<(Uuid, T)>) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        if let Some(unstarted) = &mut self.unstarted {
            unstarted.hand_back = Some(Box::new(move |rows| hook(rows).boxed()));
        }
        self
    }

    /// Starts the background tasks, once.
    fn start(&mut self, worker: &WorkerContext) {
        let Some(Unstarted { claim, hand_back, tasks, settlements }) = self.unstarted.take() else {
            return;
        };
        let consumer = &self.consumer;
        let pump = Pump {
            consumer: consumer.clone(),
            worker: worker.clone(),
            claim,
            hand_back,
            tasks,
            inbox: self.inbox.clone(),
        };
        let spawner = &consumer.options.tasks;
        spawner.spawn(acker::run(consumer.queue.clone(), consumer.stop.clone(), settlements));
        self.running = Some(Running {
            stop: consumer.stop.clone(),
            pump: Some(spawner.spawn(pump.run())),
            listeners: [spawner.spawn(renewer::run(consumer.clone())), spawner.spawn(waker::run(consumer.clone()))],
        });
    }
}

impl<T: Send + 'static> Backend for LeaseBackend<T> {
    type Task = Task<T>;
    type Error = QueueError;

    fn poll_ready(&mut self, _: &mut Context<'_>, _: &WorkerContext) -> Poll<Result<(), QueueError>> {
        Poll::Ready(Ok(()))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, worker: &WorkerContext) -> Poll<Option<Result<Task<T>, QueueError>>> {
        self.start(worker);
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner).poll_recv(cx).map(|task| task.map(Ok))
    }

    fn poll_close(&mut self, cx: &mut Context<'_>, worker: &WorkerContext) -> Poll<Result<(), QueueError>> {
        if let Some(running) = self.running.as_mut() {
            let closing = self.closing.get_or_insert_with(|| {
                running.stop.cancel();
                close(self.consumer.clone(), running.pump.take()).boxed().into()
            });
            ready!(closing.poll_unpin(cx));
            self.closing = None;
            self.running = None;
        }
        // Closed by our own token, the worker does not know yet that this is the end and would wait for its signal.
        // The only error is "not started", and then nobody waits.
        if !worker.is_shutting_down() {
            let _ = worker.stop();
        }
        Poll::Ready(Ok(()))
    }
}

/// By now no handler runs: what is left is the pump handing back and the acker's last batch.
async fn close(consumer: Arc<Consumer>, pump: Option<JoinHandle<()>>) {
    let ended = async {
        if let Some(pump) = pump
            && pump.await.is_err()
        {
            tracing::error!(queue = consumer.queue.name(), "the pump panicked");
        }
        consumer.flush().await;
    };
    if timeout(CLOSE_LIMIT, ended).await.is_err() {
        tracing::warn!(queue = consumer.queue.name(), "closed before all leases were given back, they will run out");
    }
}

impl<T: Send + 'static> BackendConfig for LeaseBackend<T> {
    type Args = T;
    type Id = String;
    type Kind = Ephemeral;
    type Config = BackendOptions;
    type Layer = AckLayer;

    fn config(&self) -> &BackendOptions {
        &self.consumer.options
    }

    fn middleware(&mut self, worker: &mut WorkerContext) -> AckLayer {
        self.start(worker);
        AckLayer::new(self.consumer.clone())
    }
}

impl<T: Send + 'static> Sink<Task<Ticket>> for LeaseBackend<T> {
    type Error = QueueError;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), QueueError>> {
        Pin::new(&mut self.sink).poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, task: Task<Ticket>) -> Result<(), QueueError> {
        Pin::new(&mut self.sink).start_send(task)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), QueueError>> {
        Pin::new(&mut self.sink).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), QueueError>> {
        Pin::new(&mut self.sink).poll_close(cx)
    }
}
