//! The worker: takes jobs from the queues of its pools, runs them, and records what comes of it.
//!
//! Where to look: [`pools`] says which queues and how many at once, `consume` puts a pool on its queues, `execute` is
//! the life of one attempt, `jobs/` holds a file a kind, `nodes/` a file a node type, [`llm`] asks language models,
//! [`mail`] sends mails, [`vision`] runs our own models.

mod cancel;
pub mod cli;
pub mod config;
mod consume;
mod context;
mod execute;
mod finisher;
mod heartbeat;
mod jobs;
pub mod llm;
pub mod mail;
mod nodes;
mod outbound;
mod outcome;
pub mod pools;
mod presence;
mod publisher;
mod reporter;
pub mod vision;
pub mod webhooks;
mod write_error;

use anyhow::{Context as _, Result};
use config::Config;
use context::Context;
use finisher::Ledger;
use serde_json::json;
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long the records of answers may take after the last job has stopped.
const SETTLING: Duration = Duration::from_secs(5);

/// Runs the pools until `shutdown`, then lets running jobs finish for the grace time and hands back the rest.
///
/// # Errors
/// When the models cannot be loaded, or a setting does not fit. A Postgres or Redis that is away is waited for.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<()> {
    let ((finisher, finishes), (publisher, stored)) = (finisher::new(), publisher::new());
    let context = Context::new(&config, finisher, publisher).await.context("the worker cannot start")?;
    let context = Arc::new(context);
    tracing::info!(
        worker = context.worker,
        pools = config.pools.names().join(","),
        model_version = context.engine.as_ref().map(vision::Engine::model_version),
        "worker ready"
    );
    // upkeep goes on until the last job has ended
    let upkeep_ends = CancellationToken::new();
    let mut upkeep = JoinSet::new();
    upkeep.spawn(heartbeat::run(context.clone(), upkeep_ends.clone()));
    upkeep.spawn(presence::run(context.clone(), config.pools.clone(), upkeep_ends.clone()));
    upkeep.spawn(cancel::listen(context.clone(), upkeep_ends.clone()));
    let (pool, redis, prefix) = (context.pool.clone(), context.redis.clone(), context.prefix.clone());
    upkeep.spawn(finishes.run(Ledger { pool, redis, prefix }, upkeep_ends.clone()));
    upkeep.spawn(stored.run(context.redis.clone(), context.prefix.clone(), upkeep_ends.clone()));

    tokio::select! {
        result = consume::run(&context, &config, shutdown) => result?,
        result = monitor(&context, config.bind) => match result? {},
    }

    // an answer that came is written down, unless the database is away for long
    if tokio::time::timeout(SETTLING, context.llm.settled()).await.is_err() {
        tracing::warn!("answers of language models are lost, because they could not be written");
    }
    upkeep_ends.cancel();
    while upkeep.join_next().await.is_some() {}
    if let Some(engine) = Arc::into_inner(context).and_then(|context| context.engine) {
        engine.stop().await;
    }
    tracing::info!("worker stopped");
    Ok(())
}

/// Answers `/health` and `/metrics`, if it is asked to.
async fn monitor(context: &Arc<Context>, bind: Option<SocketAddr>) -> Result<Infallible> {
    let Some(bind) = bind else { return std::future::pending().await };
    // weak: the listener is no reason to keep the models loaded
    let context = Arc::downgrade(context);
    let health = move || {
        let running = context.upgrade().map_or(0, |context| context.running.held().len());
        json!({ "status": "healthy", "version": env!("CARGO_PKG_VERSION"), "running_jobs": running })
    };
    shared::monitoring::serve(bind, health).await.context("ATELIER_WORKER_BIND")
}
