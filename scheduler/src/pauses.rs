//! Tells Redis again which queues are paused, and which are not any more: it may have lost it, and whoever changed it
//! may not have reached it. A part of requeue's turn.

use crate::Context;
use anyhow::{Context as _, Result};
use shared::{kind::Kind, models::QueuePause};
use std::collections::HashSet;

/// Brings Redis in line with Postgres.
pub(crate) async fn repeat(context: &Context) -> Result<()> {
    let mut conn = context.pool.get().await.context("no connection to PostgreSQL")?;
    let paused = QueuePause::list(&mut conn).await?;
    drop(conn);
    let paused: HashSet<String> = paused.into_iter().map(|pause| pause.queue).collect();
    for name in Kind::queues() {
        let queue = context.queue(name);
        match (paused.contains(name), queue.is_paused().await?) {
            (true, false) => {
                queue.pause().await?;
                tracing::info!(queue = name, "Redis is told that the queue is paused");
            }
            (false, true) => {
                queue.resume().await?;
                tracing::info!(queue = name, "Redis is told that the queue goes on");
            }
            (true, true) | (false, false) => {}
        }
    }
    Ok(())
}
