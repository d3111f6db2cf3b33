//! The events of one job, each once and in order, out of two sources: the table, which has them all, and Redis, which is
//! fast and may lose some. Everything that follows a job (sockets, event streams, requests that wait) follows it here.

use crate::{
    live::{Live, Subscription},
    state::State,
};
use diesel::OptionalExtension;
use shared::{
    db::Pool,
    events::{self, Change, Event},
    models::{Job, JobEvent},
};
use std::time::Duration;
use tokio::{
    sync::broadcast::error::RecvError,
    time::{self, Instant, Interval, MissedTickBehavior},
};
use uuid::Uuid;

/// Events read at once; a job over a hundred images has about a thousand.
const PAGE: i64 = 200;

/// How often the table is looked at even if nothing is heard.
const POLL: Duration = Duration::from_secs(3);

/// The same for a request that waits: it is short, and so is its client's patience.
const AWAITED_POLL: Duration = Duration::from_secs(1);

/// A listener's place in the events of one job.
pub(super) struct Feed {
    pool: Pool,
    job_id: Uuid,
    /// Number of the last event that was handed out.
    last: i32,
    live: Subscription,
    live_is_open: bool,
    poll: Interval,
    /// The table is to be looked at before anything else: there may be more than was heard.
    due: bool,
    /// The last event of the job was handed out.
    over: bool,
}

/// What to do with an event that came through Redis.
#[derive(Debug)]
enum Placed {
    /// Hand it out: it is the next one.
    Next(Event),
    /// Nothing: it was handed out before, or is not readable.
    Old,
    /// Look into the table: something before it is missing.
    Gap,
}

impl Feed {
    /// Follows a job from after event number `last`. Whoever calls this has made sure that the listener may know the job.
    pub(super) async fn follow(state: &State, job_id: Uuid, last: i32) -> Self {
        Self { last, ..Self::new(state, job_id, POLL, true).await }
    }

    /// Follows a job of which nothing is stored yet. Call this before the job is pushed: a short one ends sooner than a
    /// subscription is made.
    pub(super) async fn await_new(state: &State, job_id: Uuid) -> Self {
        Self::new(state, job_id, AWAITED_POLL, false).await
    }

    async fn new(state: &State, job_id: Uuid, every: Duration, due: bool) -> Self {
        let live = state.live.subscribe(&events::channel(&state.config.redis.prefix, job_id)).await;
        let mut poll = time::interval_at(Instant::now() + every, every);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { pool: state.pool.clone(), job_id, last: 0, live, live_is_open: true, poll, due, over: false }
    }

    /// The next events, oldest first, at least one. `None`: the job has ended and all was handed out, or it is gone. A
    /// database that is away is asked again later. Dropping the wait loses nothing.
    pub(super) async fn next(&mut self) -> Option<Vec<Event>> {
        while !self.over {
            if self.due {
                match self.read().await {
                    Ok(events) if events.is_empty() => self.due = false,
                    Ok(events) => return Some(self.hand_out(events)),
                    Err(error) => {
                        tracing::debug!(%error, job_id = %self.job_id, "stored events could not be read; trying again");
                        self.due = false;
                    }
                }
                continue;
            }
            tokio::select! {
                message = self.live.receiver.recv(), if self.live_is_open => match message {
                    Ok(Live::Message(message)) => match self.place(&message) {
                        Placed::Next(event) => return Some(self.hand_out(vec![event])),
                        Placed::Old => {}
                        Placed::Gap => self.due = true,
                    },
                    Ok(Live::Resumed) | Err(RecvError::Lagged(_)) => self.due = true,
                    Err(RecvError::Closed) => self.live_is_open = false,
                },
                _ = self.poll.tick() => self.due = true,
            }
        }
        None
    }

    /// Notes where the listener is now. No wait may stand between finding events and this.
    fn hand_out(&mut self, events: Vec<Event>) -> Vec<Event> {
        if let Some(newest) = events.last() {
            self.last = newest.seq;
            self.over = matches!(newest.body.change, Change::JobFinished { .. });
        }
        events
    }

    /// The next page of stored events. While there is nothing new this is a look at one row.
    async fn read(&mut self) -> anyhow::Result<Vec<Event>> {
        let mut conn = self.pool.get().await?;
        let Some(job) = Job::get(&mut conn, self.job_id).await.optional()? else {
            self.over = true;
            return Ok(Vec::new());
        };
        if job.last_seq > self.last {
            return Ok(JobEvent::list_after(&mut conn, self.job_id, self.last, PAGE).await?);
        }
        self.over = job.status.is_final();
        Ok(Vec::new())
    }

    fn place(&self, message: &[u8]) -> Placed {
        let Ok(event) = serde_json::from_slice::<Event>(message) else { return Placed::Old };
        if event.job_id != self.job_id || event.seq <= self.last {
            Placed::Old
        } else if event.seq == self.last + 1 {
            Placed::Next(event)
        } else {
            Placed::Gap
        }
    }
}
