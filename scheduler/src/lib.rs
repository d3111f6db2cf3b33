//! The scheduler of Atelier: one leader does the chores that keep the queue whole and the tables small; others stand by
//! and take over within ten seconds of its end.

mod chores;
pub mod cli;
mod config;
mod cron;
mod leader;
mod objects;
mod pauses;
mod prune;
mod requeue;
mod rescue;
mod uploads;

pub use config::{Config, Pace, Retention};

use anyhow::{Context as _, Result};
use leader::Candidacy;
use metrics::gauge;
use redis::aio::ConnectionManager;
use serde_json::json;
use shared::{
    db,
    events::{self, Notice},
    models::{Ended, LiveRun, Waiting},
    monitoring,
    queue::{Hint, Queue, QueueError},
    storage::Storage,
};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Between two attempts to reach a Postgres that is away.
const AGAIN: Duration = Duration::from_secs(2);

/// Whether this process leads.
type Leading = Arc<AtomicBool>;

/// What every chore works with; cheap to clone.
#[derive(Clone)]
struct Context {
    config: Arc<Config>,
    pool: db::Pool,
    redis: ConnectionManager,
    store: Storage,
}

impl Context {
    fn new(config: Config) -> Result<Self> {
        Ok(Self {
            pool: db::pool(&config.postgres)?,
            redis: config.redis.connect().context("REDIS_URL")?,
            store: Storage::new(&config.store),
            config: Arc::new(config),
        })
    }

    fn queue(&self, name: &str) -> Queue {
        Queue::new(self.redis.clone(), &self.config.redis.prefix, name)
    }

    /// Makes waiting jobs known to Redis; returns how many were new to it.
    async fn push(&self, jobs: &[Waiting]) -> Result<usize, QueueError> {
        let mut pushed = 0;
        for (name, jobs) in by_queue(jobs) {
            let tickets: Vec<_> = jobs.into_iter().map(Waiting::ticket).collect();
            pushed += self.queue(name).push(&tickets).await?;
        }
        Ok(pushed)
    }

    /// Tells those who watch of runs that were accepted, after the commit. Who does not hear it looks for itself.
    async fn announce(&self, runs: &[LiveRun]) {
        if runs.is_empty() {
            return;
        }
        let notices: Vec<_> = runs.iter().map(|run| (run.organization_id, Notice::accepted(run))).collect();
        let told = events::notices(&self.config.redis.prefix, notices.iter().map(|(to, notice)| (*to, notice)));
        if let Err(error) = told.query_async::<()>(&mut self.redis.clone()).await {
            tracing::debug!("accepted runs were not published: {error}");
        }
    }

    /// Tells listeners and queues of jobs that have ended, after the commit. Redis only makes it fast: what is lost is found
    /// by requeue, and events are stored.
    async fn tell(&self, ended: &Ended) {
        let prefix = &self.config.redis.prefix;
        if let Err(error) = Hint::push(&ended.hints, &self.redis, prefix).await {
            tracing::debug!("jobs that followed were not pushed: {error}");
        }
        if ended.events.is_empty() {
            return;
        }
        let announcement = events::announcement(prefix, &ended.events);
        if let Err(error) = announcement.query_async::<()>(&mut self.redis.clone()).await {
            tracing::debug!("the ends of jobs were not published: {error}");
        }
    }
}

fn by_queue(jobs: &[Waiting]) -> BTreeMap<&str, Vec<&Waiting>> {
    let mut queues: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for job in jobs {
        queues.entry(job.queue.as_str()).or_default().push(job);
    }
    queues
}

/// Runs until `shutdown` is cancelled. Postgres, Redis and the object store may come and go meanwhile.
///
/// Fails if a setting turns out to be unusable: an address that cannot be parsed, a port that is taken. With
/// `config.bind` set, it installs the recorder of metrics for the whole process.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<()> {
    let leading = Leading::default();
    let bind = config.bind;
    let context = Context::new(config)?;
    tokio::select! {
        () = shutdown.cancelled() => {
            tracing::info!("the scheduler stops");
            Ok(())
        }
        never = lead(&context, &leading) => match never {},
        result = listen(bind, Arc::clone(&leading)) => match result? {},
    }
}

/// Brings the tables up to date and makes the bucket if it is missing.
pub async fn prepare(config: &Config) -> Result<()> {
    for migration in db::migrate(config.postgres.url.expose()).await? {
        tracing::info!(migration, "applied");
    }
    Storage::new(&config.store).ensure_bucket().await.context("the bucket could not be made")?;
    tracing::info!("tables and bucket are ready");
    Ok(())
}

async fn listen(bind: Option<std::net::SocketAddr>, leading: Leading) -> Result<Infallible> {
    match bind {
        Some(bind) => {
            let health = move || {
                json!({
                    "status": "healthy",
                    "version": env!("CARGO_PKG_VERSION"),
                    "leader": leading.load(Ordering::Relaxed),
                })
            };
            monitoring::serve(bind, health).await.context("ATELIER_SCHEDULER_BIND")
        }
        None => std::future::pending().await,
    }
}

/// Stands for election again and again; does the chores while elected.
async fn lead(context: &Context, leading: &Leading) -> Infallible {
    loop {
        let Err(error) = serve_a_term(context, leading).await;
        if leading.swap(false, Ordering::Relaxed) {
            tracing::warn!("no longer the leader: {error:#}");
        } else {
            tracing::debug!("no candidate at the moment: {error:#}");
        }
        gauge!("atelier_leader").set(0.0);
        sleep(AGAIN).await;
    }
}

async fn serve_a_term(context: &Context, leading: &Leading) -> Result<Infallible> {
    gauge!("atelier_leader").set(0.0);
    let mut candidacy = Candidacy::announce(&context.config.postgres).await?;
    candidacy.win().await?;
    leading.store(true, Ordering::Relaxed);
    gauge!("atelier_leader").set(1.0);
    tracing::info!("this scheduler leads now");
    // dropped, and so stopped at once, when the seat is lost
    let _chores = chores::start(context);
    candidacy.hold().await
}
