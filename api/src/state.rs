//! What every request may use: one value, shared by all threads.

use crate::{
    auth::{identities::Identities, passwords::Hasher, tokens::Keys, tries::Turns},
    config::Config,
    durations::Durations,
    error::ApiError,
    handlers::feeds::Feeds,
    limits::Limiter,
    live::Hub,
    statistics::{Machine, Requests},
};
use anyhow::{Context, Result};
use redis::{AsyncCommands, aio::ConnectionManager};
use shared::{
    db,
    events::{self, Notice},
    kind::Kind,
    queue::{Hint, Queue, Ticket},
    storage::Storage,
    telemetry::{self, PrometheusHandle},
};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{runtime::Handle, sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

/// How long a request waits for a hint to reach Redis. The row is committed; the scheduler repairs a lost hint.
const HINT_PATIENCE: Duration = Duration::from_millis(200);

/// Files that may come in at once: each takes as much memory as two parts of it.
const FILES_AT_ONCE: usize = 32;

/// Connections, keys and settings.
pub(crate) struct State {
    /// The settings.
    pub(crate) config: Config,
    /// Connections to Postgres.
    pub(crate) pool: db::Pool,
    /// The shared connection to Redis, made when first used.
    pub(crate) redis: ConnectionManager,
    /// Holds requests to the limits.
    pub(crate) limiter: Limiter,
    /// Image bytes.
    pub(crate) storage: Storage,
    /// Live events.
    pub(crate) live: Hub,
    /// Jobs that are followed.
    pub(crate) feeds: Arc<Feeds>,
    /// Cancelled when the process is asked to stop: sockets end then.
    pub(crate) shutdown: CancellationToken,
    /// Open sockets: their tasks are tracked here, and the process waits for them before it ends.
    pub(crate) sockets: TaskTracker,
    /// What has been counted since the process started.
    pub(crate) metrics: PrometheusHandle,
    pub(crate) keys: Keys,
    /// Who is behind a session or a key.
    pub(crate) identities: Identities,
    pub(crate) passwords: Hasher,
    /// Tries on one account, one after another.
    pub(crate) turns: Turns,
    pub(crate) started: Instant,
    /// How long runs of pipelines took lately.
    pub(crate) durations: Durations,
    /// Requests in work.
    pub(crate) requests: TaskTracker,
    /// For each file that comes in.
    pub(crate) room_for_files: Arc<Semaphore>,
    /// Requests that were answered, by organization.
    pub(crate) answered: Requests,
    /// How busy the machine is.
    pub(crate) machine: Machine,
    /// Where tasks run that outlive the thread which has begun them.
    runtime: Handle,
    draining: AtomicBool,
    queues: BTreeMap<&'static str, Queue>,
}

impl State {
    /// Prepares everything; nothing is connected yet, so that the API starts while Redis or the store are away. To be
    /// called within the runtime of the process.
    pub(crate) fn new(config: Config) -> Result<Self> {
        let redis = config.redis.connect().context("REDIS_URL")?;
        let queues = Kind::queues();
        let pool = db::pool(&config.postgres)?;
        Ok(Self {
            identities: Identities::new(&pool),
            feeds: Arc::new(Feeds::new(&pool)),
            pool,
            storage: Storage::new(&config.objects),
            live: Hub::new(config.redis.client().context("REDIS_URL")?),
            shutdown: CancellationToken::new(),
            sockets: TaskTracker::new(),
            metrics: telemetry::init_metrics()?,
            keys: Keys::new(&config),
            passwords: Hasher::new()?,
            turns: Turns::default(),
            started: Instant::now(),
            durations: Durations::default(),
            requests: TaskTracker::new(),
            room_for_files: Arc::new(Semaphore::new(FILES_AT_ONCE)),
            answered: Requests::default(),
            machine: Machine::default(),
            runtime: Handle::current(),
            draining: AtomicBool::new(false),
            limiter: Limiter::new(config.rate_limits.then(|| redis.clone()), &config.redis.prefix),
            queues: queues
                .into_iter()
                .map(|name| (name, Queue::new(redis.clone(), &config.redis.prefix, name)))
                .collect(),
            redis,
            config,
        })
    }

    /// A connection to Postgres; it goes back to the pool when dropped, so drop it before waiting for anything else.
    ///
    /// # Errors
    /// 503 if none is to be had in time.
    pub(crate) async fn conn(&self) -> Result<db::Connection, ApiError> {
        Ok(self.pool.get().await?)
    }

    /// The queues by name.
    pub(crate) fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.queues.values()
    }

    /// The queue of this name.
    pub(crate) fn queue(&self, name: &str) -> Option<&Queue> {
        self.queues.get(name)
    }

    /// Tells Redis about jobs that were just committed. It never fails and never takes long: a lost hint is repaired by
    /// the scheduler.
    pub(crate) async fn push(&self, queue: &str, tickets: &[Ticket]) {
        let Some(handle) = self.queue(queue) else {
            tracing::error!(queue, "there is no such queue");
            return;
        };
        let outcome = timeout(HINT_PATIENCE, handle.push(tickets)).await;
        let lost = match outcome {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        metrics::counter!("atelier_hints_lost_total", "to" => queue.to_owned()).increment(1);
        tracing::debug!(queue, lost, "the queue was not told; the scheduler will tell it");
    }

    /// Tells Redis about committed jobs of any queues; like [`State::push`] it never fails and never takes long.
    pub(crate) async fn hint(&self, hints: &[Hint]) {
        if hints.is_empty() {
            return;
        }
        let pushed = timeout(HINT_PATIENCE, Hint::push(hints, &self.redis, &self.config.redis.prefix)).await;
        if !matches!(pushed, Ok(Ok(()))) {
            metrics::counter!("atelier_hints_lost_total", "to" => "queues").increment(1);
            tracing::debug!(jobs = hints.len(), "the queues were not told; the scheduler will tell them");
        }
    }

    /// Publishes a message on a channel; like [`State::push`] it never fails and never takes long.
    pub(crate) async fn publish(&self, channel: &str, message: &str) {
        let mut redis = self.redis.clone();
        let published = timeout(HINT_PATIENCE, redis.publish::<_, _, i64>(channel, message)).await;
        if !matches!(published, Ok(Ok(_))) {
            metrics::counter!("atelier_hints_lost_total", "to" => "listeners").increment(1);
            tracing::debug!(channel, "a live event was not published; listeners find it in the table");
        }
    }

    /// Runs something that many clients share, and that no thread of the HTTP server is to take with it when it ends.
    /// The process waits for it before it ends itself.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.sockets.spawn_on(task, &self.runtime);
    }

    /// Tells the members of an organization who listen; like [`State::push`] it never fails and never takes long.
    pub(crate) async fn notify(&self, organization_id: Uuid, notice: &Notice) {
        let channel = events::organization_channel(&self.config.redis.prefix, organization_id);
        match serde_json::to_string(notice) {
            Ok(message) => self.publish(&channel, &message).await,
            Err(error) => tracing::error!(%error, "a notice cannot be written as JSON"),
        }
    }

    /// Whether the process was asked to stop.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// From now on requests are refused and `/ready` says so.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.requests.close();
        self.sockets.close();
    }
}
