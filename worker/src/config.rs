//! The worker's settings.

use crate::{mail, pools::Pools, webhooks::Schedule};
use shared::{
    addresses::Reach,
    config::{ConfigError, ObjectStore, Postgres, Reader, Redis, Telemetry},
    llm::Catalogue,
};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Redis may stall this long before a command counts as failed; running jobs do not notice either way.
const REDIS_PATIENCE: Duration = Duration::from_secs(5);

/// Everything a worker process needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the truth is.
    pub postgres: Postgres,
    /// Where the hints are.
    pub redis: Redis,
    /// Where the image bytes are.
    pub storage: ObjectStore,
    /// How to log.
    pub telemetry: Telemetry,
    /// Where `/health` and `/metrics` are answered; nowhere if absent.
    pub bind: Option<SocketAddr>,
    /// Which queues to serve, and how.
    pub pools: Pools,
    /// The language models and who serves them.
    pub models: Catalogue,
    /// The folder with `models.toml`.
    pub models_dir: PathBuf,
    /// The ONNX Runtime library, if it is not where the system looks.
    pub onnxruntime: Option<PathBuf>,
    /// Threads that run models, each with its own sessions, which take about 60 MB. More workers scale as well.
    pub vision_threads: usize,
    /// Whether `http` nodes may reach private addresses: this host, its network.
    pub http_allow_private: bool,
    /// How webhooks are delivered.
    pub webhooks: Webhooks,
    /// How mail is sent.
    pub mail: mail::Settings,
    /// How long running jobs may go on after SIGTERM.
    pub grace: Duration,
    /// How often a running job says that it is alive; the scheduler takes it for dead after five times that.
    pub heartbeat: Duration,
}

/// How webhooks are delivered.
#[derive(Debug, Clone)]
pub struct Webhooks {
    /// Which addresses they may lead to.
    pub reach: Reach,
    /// When a delivery is tried again.
    pub schedule: Schedule,
    /// How long a receiver may take to answer.
    pub timeout: Duration,
    /// Requests to one receiver at a time.
    pub concurrency: usize,
}

impl Webhooks {
    fn read(from: &mut Reader) -> Self {
        let settings = Self {
            reach: Reach::read(from),
            schedule: from.or("ATELIER_WEBHOOK_SCHEDULE", Schedule::default()),
            timeout: from.seconds("ATELIER_WEBHOOK_TIMEOUT", 15),
            concurrency: from.or("ATELIER_WEBHOOK_CONCURRENCY", 32),
        };
        if !(1..=30).contains(&settings.timeout.as_secs()) {
            from.problem("ATELIER_WEBHOOK_TIMEOUT: between 1 and 30 seconds");
        }
        if !(1..=256).contains(&settings.concurrency) {
            from.problem("ATELIER_WEBHOOK_CONCURRENCY: between 1 and 256");
        }
        settings
    }
}

impl Config {
    /// Reads the environment and workers.toml; `pools` names those to run, none means all.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn from_env(pools: &[String]) -> Result<Self, ConfigError> {
        Self::read(Reader::from_env(), pools)
    }

    /// As [`Config::from_env`], from any source.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn read(mut from: Reader, pools: &[String]) -> Result<Self, ConfigError> {
        let listed: Option<String> = from.optional("ATELIER_POOL");
        let mut wanted: Vec<String> = pools.to_vec();
        if wanted.is_empty() {
            let names = listed.unwrap_or_default();
            wanted.extend(names.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
        }
        let file: Option<PathBuf> = from.optional("ATELIER_WORKERS_FILE");
        let pools = Pools::load(file.as_deref(), &wanted).unwrap_or_else(|problem| {
            from.problem(problem.to_string());
            Pools::default()
        });
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let config = Self {
            postgres: Postgres::read(&mut from, 16),
            redis: Redis::read(&mut from, REDIS_PATIENCE),
            storage: ObjectStore::read(&mut from),
            telemetry: Telemetry::read(&mut from),
            bind: from.optional("ATELIER_WORKER_BIND"),
            pools,
            models: Catalogue::read(&mut from),
            models_dir: from.or("ATELIER_MODELS_DIR", PathBuf::from("models")),
            onnxruntime: from.optional("ORT_DYLIB_PATH"),
            vision_threads: from.or("ATELIER_VISION_THREADS", cores.min(2)),
            http_allow_private: from.switch("ATELIER_HTTP_ALLOW_PRIVATE", false),
            webhooks: Webhooks::read(&mut from),
            mail: mail::Settings::read(&mut from),
            grace: from.seconds("ATELIER_WORKER_GRACE", 20),
            heartbeat: from.seconds("ATELIER_HEARTBEAT", 3),
        };
        if config.heartbeat.is_zero() || config.heartbeat > Duration::from_secs(5) {
            from.problem(
                "ATELIER_HEARTBEAT: between 1 and 5 seconds, since the scheduler gives up after 15 of silence",
            );
        }
        from.finish(config)
    }
}
