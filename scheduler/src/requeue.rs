//! requeue: puts back into Redis what Redis has lost.
//!
//! Postgres knows every waiting job; Redis has to know those that are due or soon will be. Usually it does. A push may
//! have been lost (the process died between commit and push, Redis was out of reach), so the waiting jobs are walked
//! through again and again, a bounded number at a time: the newest, where losses are likely, in each walk, and the rest
//! in turn. Pushing is idempotent; what a worker holds or has just finished does no harm.
//!
//! All at once is lost when Redis is emptied, restarted or replaced. A canary key notices: it holds the `run_id` of the
//! Redis that has been told of everything. If it is missing or names another Redis, all waiting jobs are pushed at once.

use crate::{Context, pauses};
use anyhow::{Context as _, Result};
use chrono::{DateTime, TimeDelta, Utc};
use shared::{
    models::{Job, Waiting},
    queue,
};
use std::{collections::HashSet, time::Duration};
use tokio::time::Instant;
use uuid::Uuid;

/// Jobs read from Postgres at a time.
const PAGE: i64 = 1_000;

/// Pages per walk of each kind.
const PAGES: usize = 10;

/// Jobs due within this time belong into Redis, so that they start to the millisecond.
const HORIZON: Duration = Duration::from_secs(60);

/// Jobs due since then are looked at in every walk.
const FRESH: TimeDelta = TimeDelta::seconds(60);

/// A place among the waiting jobs, ordered by due time.
type Place = (DateTime<Utc>, Uuid);

/// Where the walk is.
#[derive(Default)]
pub(crate) struct Requeue {
    /// The next walk goes on behind this; from the start if absent.
    cursor: Option<Place>,
    next_walk: Option<Instant>,
    /// The last turn failed: Redis was out of reach, so pushes may have been lost.
    suspicious: bool,
}

impl Requeue {
    pub(crate) async fn turn(&mut self, context: &Context) -> Result<u64> {
        // noted before, so that it also holds if this turn is cut off
        let suspicious = std::mem::replace(&mut self.suspicious, true);
        // first, so that what is pushed into a paused queue stays there
        pauses::repeat(context).await?;
        let pushed = self.requeue(context, suspicious).await?;
        self.suspicious = false;
        Ok(pushed)
    }

    async fn requeue(&mut self, context: &Context, suspicious: bool) -> Result<u64> {
        let canary = Canary::look(context).await?;
        if suspicious || !canary.sings() {
            tracing::info!("Redis may have lost jobs; it is told of all that wait");
            canary.hush().await?;
            let pushed = push_all(context).await?;
            if !canary.revive().await? {
                tracing::warn!("Redis was emptied again while it was being filled");
            }
            return Ok(pushed);
        }
        if self.next_walk.is_some_and(|at| Instant::now() < at) {
            return Ok(0);
        }
        let fresh = walk(context, Some((Utc::now() - FRESH, Uuid::nil()))).await?;
        let older = walk(context, self.cursor).await?;
        self.cursor = older.end;
        self.next_walk = Some(Instant::now() + context.config.pace.requeue);
        Ok(fresh.pushed + older.pushed)
    }
}

/// What a walk did.
struct Walk {
    pushed: u64,
    /// Where to go on; absent if it came to the end.
    end: Option<Place>,
}

/// Looks at the waiting jobs behind `place` and pushes those that Redis does not know, at most [`PAGES`] pages.
async fn walk(context: &Context, mut place: Option<Place>) -> Result<Walk> {
    let mut pushed = 0;
    for _ in 0..PAGES {
        let page = read(context, place).await?;
        for (name, jobs) in crate::by_queue(&page) {
            let queue = context.queue(name);
            let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
            let missing: HashSet<_> = queue.missing(&ids).await?.into_iter().collect();
            let tickets: Vec<_> = jobs.iter().filter(|job| missing.contains(&job.id)).map(|job| job.ticket()).collect();
            queue.push(&tickets).await?;
            pushed += tickets.len() as u64;
        }
        place = page.last().map(|job| (job.run_at, job.id));
        if page.len() < PAGE as usize {
            return Ok(Walk { pushed, end: None });
        }
    }
    Ok(Walk { pushed, end: place })
}

/// Pushes every job that is due or soon will be.
async fn push_all(context: &Context) -> Result<u64> {
    let (mut place, mut pushed) = (None, 0);
    loop {
        let page = read(context, place).await?;
        pushed += context.push(&page).await? as u64;
        place = page.last().map(|job| (job.run_at, job.id));
        if page.len() < PAGE as usize {
            return Ok(pushed);
        }
    }
}

async fn read(context: &Context, place: Option<Place>) -> Result<Vec<Waiting>> {
    let mut conn = context.pool.get().await.context("no connection to PostgreSQL")?;
    Ok(Job::list_waiting(&mut conn, place, HORIZON, PAGE).await?)
}

/// The key that tells whether this Redis has been told of everything.
struct Canary {
    redis: redis::aio::ConnectionManager,
    key: String,
    run_id: String,
    found: Option<String>,
}

impl Canary {
    async fn look(context: &Context) -> Result<Self> {
        let mut redis = context.redis.clone();
        let key = format!("{}:canary", context.config.redis.prefix);
        let run_id = queue::run_id(&mut redis).await.context("Redis cannot be reached")?;
        let found = redis::cmd("GET").arg(&key).query_async(&mut redis).await?;
        Ok(Self { redis, key, run_id, found })
    }

    fn sings(&self) -> bool {
        self.found.as_deref() == Some(self.run_id.as_str())
    }

    /// Marks Redis as being filled, so that whoever leads next starts over if this one dies half-way.
    async fn hush(&self) -> Result<()> {
        let mut redis = self.redis.clone();
        Ok(redis::cmd("SET").arg(&self.key).arg("filling").query_async(&mut redis).await?)
    }

    /// Marks Redis as complete, unless the mark of [`Canary::hush`] has gone meanwhile.
    async fn revive(&self) -> Result<bool> {
        let mut redis = self.redis.clone();
        let set: Option<String> =
            redis::cmd("SET").arg(&self.key).arg(&self.run_id).arg("XX").query_async(&mut redis).await?;
        Ok(set.is_some())
    }
}
