//! Waiting for the end of a job: what synchronous endpoints do between accepting work and answering.
//!
//! The end is heard through Redis at once; the table is looked at every now and then, because Redis may lose a message or
//! be away. No connection to PostgreSQL is held meanwhile.

use super::socket_feed::{Feed, Live, Stored};
use crate::{error::ApiError, live, state::State};
use shared::{
    events::{self, Change, Event},
    models::Job,
};
use std::time::Duration;
use tokio::{
    sync::broadcast::error::RecvError,
    time::{self, Instant, MissedTickBehavior},
};
use uuid::Uuid;

/// How often the table is looked at even if nothing is heard.
const POLL: Duration = Duration::from_secs(1);

/// Follows one job from before it is pushed, so that its end cannot be missed.
pub(super) struct Awaited {
    job_id: Uuid,
    subscription: live::Subscription,
    feed: Feed,
}

impl Awaited {
    /// Begins to listen. Call this before the job is pushed: a short job ends sooner than a subscription is made.
    pub(super) async fn listen(state: &State, job_id: Uuid) -> Self {
        let subscription = state.live.subscribe(&events::channel(&state.config.redis.prefix, job_id)).await;
        Self { job_id, subscription, feed: Feed::new(state.pool.clone(), job_id, 0) }
    }

    /// The job once it has ended. `None`: it has not within `patience`, and goes on.
    ///
    /// # Errors
    /// 503 if the process stops, or the job cannot be read.
    pub(super) async fn end(mut self, state: &State, patience: Duration) -> Result<Option<Job>, ApiError> {
        let deadline = Instant::now() + patience;
        let mut poll = time::interval_at(Instant::now() + POLL, POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut live_is_open = true;
        loop {
            let ended = tokio::select! {
                message = self.subscription.receiver.recv(), if live_is_open => match message {
                    Ok(live::Live::Message(message)) => match self.feed.place(&message) {
                        Live::Next(event) => is_end(&event),
                        Live::Old => false,
                        Live::Gap => self.has_ended().await,
                    },
                    Ok(live::Live::Resumed) | Err(RecvError::Lagged(_)) => self.has_ended().await,
                    Err(RecvError::Closed) => {
                        live_is_open = false;
                        false
                    }
                },
                _ = poll.tick() => self.has_ended().await,
                () = time::sleep_until(deadline) => return Ok(None),
                () = state.shutdown.cancelled() => {
                    return Err(ApiError::unavailable("The server stops; the work goes on, ask for it again", 2));
                }
            };
            if ended {
                return Ok(Some(Job::get(&mut *state.conn().await?, self.job_id).await?));
            }
        }
    }

    /// Reads what is stored; a database that is away is asked again later.
    async fn has_ended(&mut self) -> bool {
        loop {
            match self.feed.read().await {
                Ok(Stored::Events(events)) if events.iter().any(is_end) => return true,
                Ok(Stored::Events(_)) => {}
                Ok(Stored::Ended) => return true,
                Ok(Stored::Nothing) | Err(_) => return false,
            }
        }
    }
}

fn is_end(event: &Event) -> bool {
    matches!(event.body.change, Change::JobFinished { .. })
}
