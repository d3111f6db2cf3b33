//! Says that the attempts of this process are alive, one statement for all, and hears which of them are to stop.

use crate::context::{Context, StopReason};
use shared::models::{Job, Pulse};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How soon a beat that failed is tried again. When Postgres comes back, the scheduler gives workers a few seconds to
/// show themselves.
const SOON: Duration = Duration::from_secs(1);

/// Beats until `end`.
pub(crate) async fn run(context: Arc<Context>, end: CancellationToken) {
    let mut beat = tokio::time::interval(context.heartbeat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! { _ = beat.tick() => {}, () = end.cancelled() => return }
        let held = context.running.held();
        if held.is_empty() {
            continue;
        }
        match pulses(&context, &held).await {
            Ok(pulses) => react(&context, &held, pulses),
            Err(error) => {
                tracing::warn!(jobs = held.len(), error = format!("{error:#}"), "no heartbeat, trying again");
                beat.reset_after(SOON.min(context.heartbeat));
            }
        }
    }
}

async fn pulses(context: &Context, held: &[(Uuid, i32)]) -> anyhow::Result<Vec<Pulse>> {
    let mut conn = context.pool.get().await?;
    Ok(Job::heartbeat(&mut conn, held).await?)
}

fn react(context: &Context, held: &[(Uuid, i32)], pulses: Vec<Pulse>) {
    let alive: HashMap<Uuid, bool> = pulses.into_iter().map(|pulse| (pulse.id, pulse.cancel_requested)).collect();
    for (job_id, attempt) in held {
        match alive.get(job_id) {
            Some(false) => {}
            Some(true) => context.running.stop(*job_id, Some(*attempt), StopReason::Cancelled),
            // also an attempt that has just ended by itself; the signal reaches nobody then
            None => context.running.stop(*job_id, Some(*attempt), StopReason::Lost),
        }
    }
}
