//! What every job of this process shares.

use crate::{
    config::Config,
    finisher::Finisher,
    llm::{Llm, Providers},
    mail::Mailer,
    outbound::Outbound,
    publisher::Publisher,
    vision::{Engine, Registry, Runtime},
    webhooks::Webhooks,
};
use anyhow::{Context as _, Result};
use redis::aio::ConnectionManager;
use shared::{addresses::Reach, db::Pool, kind::Kind, llm::Catalogue, storage::Storage};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What servers that pipelines ask are told of who asks.
const USER_AGENT: &str = concat!("atelier/", env!("CARGO_PKG_VERSION"));

/// What every job of this process shares.
pub(crate) struct Context {
    /// Unique for each start of a process.
    pub(crate) worker: String,
    pub(crate) pool: Pool,
    pub(crate) redis: ConnectionManager,
    pub(crate) redis_client: redis::Client,
    pub(crate) prefix: String,
    pub(crate) storage: Storage,
    /// The models, if a pool of this process needs them.
    pub(crate) engine: Option<Engine>,
    /// The language models.
    pub(crate) llm: Llm,
    /// Which language models there are.
    pub(crate) models: Catalogue,
    /// Requests of pipelines to other people's servers.
    pub(crate) outbound: Outbound,
    /// Webhook deliveries.
    pub(crate) webhooks: Webhooks,
    pub(crate) mailer: Mailer,
    pub(crate) vision_threads: usize,
    pub(crate) heartbeat: Duration,
    pub(crate) running: Running,
    pub(crate) finisher: Finisher,
    pub(crate) publisher: Publisher,
    /// Held for reading by every job, for writing by a job that may have taken processes down with it: such a job runs
    /// alone, so that, if it does so again, no other job is charged for it.
    pub(crate) turn: Arc<RwLock<()>>,
}

impl Context {
    pub(crate) async fn new(config: &Config, finisher: Finisher, publisher: Publisher) -> Result<Self> {
        // a node of a pipeline may look at images, too
        let sees = [Kind::ImageAnalysis, Kind::PipelineRun].iter().any(|kind| config.pools.serves(kind.queue()));
        let engine = if sees { Some(start_engine(config).await?) } else { None };
        let host = hostname();
        let redis = config.redis.connect().context("REDIS_URL")?;
        let providers = Providers::new(redis.clone(), &config.redis.prefix)?;
        Ok(Self {
            worker: format!("{host}/{}/{}", std::process::id(), &Uuid::new_v4().simple().to_string()[..8]),
            pool: shared::db::pool(&config.postgres)?,
            redis,
            redis_client: config.redis.client().context("REDIS_URL")?,
            prefix: config.redis.prefix.clone(),
            storage: Storage::new(&config.storage),
            engine,
            llm: Llm::new(config.models.clone(), providers),
            models: config.models.clone(),
            outbound: Outbound::new(Reach::new(config.http_allow_private), USER_AGENT)?,
            webhooks: Webhooks::new(&config.webhooks, &config.pools)?,
            mailer: Mailer::new(&config.mail)?,
            vision_threads: config.vision_threads,
            heartbeat: config.heartbeat,
            running: Running::default(),
            finisher,
            publisher,
            turn: Arc::default(),
        })
    }
}

async fn start_engine(config: &Config) -> Result<Engine> {
    let runtime = Runtime::init(config.onnxruntime.as_deref())?;
    let registry = Registry::load(&config.models_dir)?;
    Ok(Engine::start(&runtime, &registry, config.vision_threads).await?)
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "worker".to_owned(), |name| name.trim().to_owned())
}

/// Why a running attempt is to stop before its handler has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// Somebody cancelled the job.
    Cancelled,
    /// Another attempt holds the job, or it ended; nothing this one writes would count.
    Lost,
    /// The process is going away.
    HandBack,
}

/// Tells one attempt to stop, once.
#[derive(Debug, Clone, Default)]
pub(crate) struct StopSignal {
    raised: CancellationToken,
    reason: Arc<OnceLock<StopReason>>,
}

impl StopSignal {
    fn raise(&self, reason: StopReason) {
        // the first reason stands
        let _ = self.reason.set(reason);
        self.raised.cancel();
    }

    /// Waits until the attempt is to stop.
    pub(crate) async fn raised(&self) -> StopReason {
        self.raised.cancelled().await;
        self.reason.get().copied().unwrap_or(StopReason::Lost)
    }
}

/// The attempts that this process holds.
#[derive(Default)]
pub(crate) struct Running(Mutex<Attempts>);

#[derive(Default)]
struct Attempts {
    held: HashMap<Uuid, (i32, StopSignal)>,
    /// Set when every attempt is to stop, also one that begins later.
    all_stop: Option<StopReason>,
}

/// Takes the attempt off the list when it ends, however it ends.
pub(crate) struct Registered<'a> {
    running: &'a Running,
    job_id: Uuid,
    attempt: i32,
    pub(crate) stop: StopSignal,
}

impl Running {
    pub(crate) fn register(&self, job_id: Uuid, attempt: i32) -> Registered<'_> {
        let stop = StopSignal::default();
        let mut attempts = self.lock();
        if let Some(reason) = attempts.all_stop {
            stop.raise(reason);
        }
        if let Some((_, older)) = attempts.held.insert(job_id, (attempt, stop.clone())) {
            older.raise(StopReason::Lost);
        }
        drop(attempts);
        Registered { running: self, job_id, attempt, stop }
    }

    /// Every job and attempt held.
    pub(crate) fn held(&self) -> Vec<(Uuid, i32)> {
        self.lock().held.iter().map(|(id, (attempt, _))| (*id, *attempt)).collect()
    }

    /// Stops the attempt that holds this job here, if one does; `attempt` narrows it to that one.
    pub(crate) fn stop(&self, job_id: Uuid, attempt: Option<i32>, reason: StopReason) {
        if let Some((held, signal)) = self.lock().held.get(&job_id)
            && attempt.is_none_or(|attempt| attempt == *held)
        {
            signal.raise(reason);
        }
    }

    /// Stops every attempt, and each that begins from now on.
    pub(crate) fn stop_all(&self, reason: StopReason) {
        let mut attempts = self.lock();
        attempts.all_stop = Some(reason);
        attempts.held.values().for_each(|(_, signal)| signal.raise(reason));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Attempts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        let held = &mut self.running.lock().held;
        if held.get(&self.job_id).is_some_and(|(attempt, _)| *attempt == self.attempt) {
            held.remove(&self.job_id);
        }
    }
}
