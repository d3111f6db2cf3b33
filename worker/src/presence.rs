//! Says in Redis that this process is there, so that an operator sees workers that have nothing to do, too.

use crate::{context::Context, pools::Pools};
use chrono::Utc;
use shared::presence::Presence;
use std::{sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

/// A Redis that is away is not waited for.
const LAST_WORD: Duration = Duration::from_millis(500);

/// Says so until `end`, then that it goes.
pub(crate) async fn run(context: Arc<Context>, pools: Pools, end: CancellationToken) {
    let served = || pools.iter().flat_map(|(_, pool)| pool.queues.iter().map(move |queue| (queue, pool.concurrency)));
    let mut queues: Vec<String> = served().map(|(queue, _)| queue.clone()).collect();
    queues.sort_unstable();
    let presence = Presence {
        worker: context.worker.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        queues,
        slots: served().map(|(_, slots)| slots).sum(),
        started_at: Utc::now(),
    };
    // names and the connection are kept, the context is not: it is taken apart when the worker ends
    let (redis, prefix, every) = (context.redis.clone(), context.prefix.clone(), context.heartbeat);
    drop(context);
    let mut beat = tokio::time::interval(every);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! { _ = beat.tick() => {}, () = end.cancelled() => break }
        tokio::select! {
            said = presence.announce(&redis, &prefix) => {
                if let Err(error) = said {
                    tracing::debug!(%error, "nobody was told that this worker is there");
                }
            }
            () = end.cancelled() => break,
        }
    }
    if !matches!(timeout(LAST_WORD, presence.withdraw(&redis, &prefix)).await, Ok(Ok(()))) {
        tracing::debug!("nobody was told that this worker goes");
    }
}
