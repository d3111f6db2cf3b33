//! rescue: takes running jobs from workers that fell silent.
//!
//! A worker says every three seconds that its jobs are alive. Jobs of a worker that has not done so for
//! `ATELIER_SILENCE` wait again, for whoever is free, or end if they have used up their attempts. Should the
//! worker come back, its attempt number is out of date and nothing it writes is taken.

use crate::Context;
use anyhow::{Context as _, Result};
use diesel_async::RunQueryDsl;
use shared::models::{Ended, Job, Rescued};
use std::time::Duration;
use tokio::time::Instant;

/// Jobs per transaction.
const PAGE: i64 = 100;

/// How long workers get to show themselves when this scheduler begins to lead, and after Postgres was away: they could
/// not while it was, and it would be wrong to hold that against them.
const AMNESTY: Duration = Duration::from_secs(6);

/// Until when no worker is held to be silent.
pub(crate) struct Rescue {
    amnesty: Instant,
}

impl Rescue {
    pub(crate) fn new() -> Self {
        Self { amnesty: Instant::now() + AMNESTY }
    }

    pub(crate) async fn turn(&mut self, context: &Context) -> Result<u64> {
        // noted before, so that it also holds if this turn is cut off
        let before = std::mem::replace(&mut self.amnesty, Instant::now() + AMNESTY);
        let count = Self::rescue(context, before).await?;
        self.amnesty = before;
        Ok(count)
    }

    async fn rescue(context: &Context, amnesty: Instant) -> Result<u64> {
        let mut conn = context.pool.get().await.context("no connection to PostgreSQL")?;
        if Instant::now() < amnesty {
            // a question all the same, so that the amnesty begins anew if Postgres goes away again
            diesel::sql_query("SELECT 1").execute(&mut conn).await?;
            return Ok(0);
        }
        let mut count = 0;
        loop {
            let rescued = Job::rescue(&mut conn, context.config.pace.silence, PAGE).await?;
            let found = rescued.len();
            count += found as u64;
            let (mut again, mut ended) = (Vec::new(), Ended::default());
            for rescued in rescued {
                match rescued {
                    Rescued::Again(job) => again.push(job),
                    Rescued::Ended(Ended { events, hints, quiet: _ }) => {
                        ended.events.extend(events);
                        ended.hints.extend(hints);
                    }
                }
            }
            // From here on Redis only makes it fast: what is lost is found by requeue, and events are stored.
            if let Err(error) = context.push(&again).await {
                tracing::debug!("rescued jobs were not pushed: {error}");
            }
            context.tell(&ended).await;
            if found < PAGE as usize {
                return Ok(count);
            }
        }
    }
}
