//! The chores and the loop that runs them. A new chore is a file of its own and a variant here; the compiler shows the
//! rest.
//!
//! A chore may be cut at any `await`, when the process stops or stops leading: whatever it has not committed is done
//! by the next turn, here or elsewhere.

use crate::{Context, config::Pace, cron, objects::Objects, prune, requeue::Requeue, rescue::Rescue, uploads};
use anyhow::{Context as _, Result};
use metrics::{counter, histogram};
use std::time::{Duration, Instant};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

/// Something done again and again by the leader, with what it remembers between its turns.
pub(crate) enum Chore {
    /// Puts back into Redis what Redis has lost.
    Requeue(Requeue),
    /// Takes running jobs from workers that fell silent.
    Rescue(Rescue),
    /// Runs pipelines by their schedules.
    Cron,
    /// Deletes what is too old.
    Prune,
    /// Deletes the objects of deleted rows.
    Objects(Objects),
    /// Clears away what uploads have left that never came to their end.
    Uploads,
}

impl Chore {
    /// Every chore, as it is before its first turn.
    pub(crate) fn all() -> [Self; 6] {
        [
            Self::Requeue(Requeue::default()),
            Self::Rescue(Rescue::new()),
            Self::Cron,
            Self::Prune,
            Self::Objects(Objects::default()),
            Self::Uploads,
        ]
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Requeue(_) => "requeue",
            Self::Rescue(_) => "rescue",
            Self::Cron => "cron",
            Self::Prune => "prune",
            Self::Objects(_) => "objects",
            Self::Uploads => "uploads",
        }
    }

    const fn period(&self, pace: &Pace) -> Duration {
        match self {
            // it looks after Redis every second, and keeps the pace of its walks itself
            Self::Requeue(_) => Duration::from_secs(1),
            Self::Rescue(_) => pace.rescue,
            Self::Cron => pace.cron,
            Self::Prune | Self::Uploads => pace.prune,
            Self::Objects(_) => pace.objects,
        }
    }

    /// A turn that takes longer is given up: a connection has died without a word.
    const fn patience(&self) -> Duration {
        Duration::from_secs(match self {
            // millions of jobs may have to be pushed after a loss
            Self::Requeue(_) => 600,
            Self::Rescue(_) => 20,
            Self::Cron | Self::Prune | Self::Objects(_) | Self::Uploads => 120,
        })
    }

    /// One turn; returns how many things it dealt with.
    pub(crate) async fn turn(&mut self, context: &Context) -> Result<u64> {
        match self {
            Self::Requeue(requeue) => requeue.turn(context).await,
            Self::Rescue(rescue) => rescue.turn(context).await,
            Self::Cron => cron::turn(context).await,
            Self::Prune => prune::turn(context).await,
            Self::Objects(objects) => objects.turn(context).await,
            Self::Uploads => uploads::turn(context).await,
        }
    }

    /// Turn after turn, for ever. An error is counted, logged when it is the first in a row, and forgotten.
    async fn repeat(mut self, context: Context) {
        let name = self.name();
        let (period, patience) = (self.period(&context.config.pace), self.patience());
        let mut failing = false;
        loop {
            let began = Instant::now();
            let turn = timeout(patience, self.turn(&context)).await.context("it took too long").flatten();
            histogram!("atelier_chore_duration_seconds", "chore" => name).record(began.elapsed().as_secs_f64());
            let outcome = if turn.is_ok() { "ok" } else { "error" };
            counter!("atelier_chore_runs_total", "chore" => name, "outcome" => outcome).increment(1);
            match turn {
                Ok(items) => {
                    counter!("atelier_chore_items_total", "chore" => name).increment(items);
                    if failing {
                        tracing::info!(chore = name, "the chore works again");
                    }
                    failing = false;
                    if items > 0 {
                        tracing::info!(chore = name, items, "done");
                    }
                }
                Err(error) if failing => tracing::debug!(chore = name, "still failing: {error:#}"),
                Err(error) => {
                    failing = true;
                    tracing::warn!(chore = name, "failed, and will be tried again: {error:#}");
                }
            }
            sleep(period.mul_f64(rand::random_range(0.9..1.1))).await;
        }
    }
}

/// Runs every chore. Dropping the set stops them all at once.
pub(crate) fn start(context: &Context) -> JoinSet<()> {
    let mut running = JoinSet::new();
    for chore in Chore::all() {
        running.spawn(chore.repeat(context.clone()));
    }
    running
}
