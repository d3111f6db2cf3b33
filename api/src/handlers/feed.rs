//! The events of one job, each once and in order, for any number of listeners. Everything that follows a job (sockets,
//! event streams, requests that wait) follows it here.
//!
//! Whatever reads the table and hears Redis does so once for a job and process: see
//! [`Reader`](super::feed_reader::Reader). A listener is a place in what the source has gathered, so that a hundred of
//! them cost no query more than one, and one that is slow holds up nobody: what the source keeps no longer the listener
//! reads in the table by itself.

use super::feed_source::{News, Source};
use crate::state::State;
use shared::{
    db::Pool,
    events::{Change, Event},
    models::JobEvent,
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time};
use uuid::Uuid;

/// Events handed out, or read, at once; a job over a hundred images has about a thousand.
pub(super) const PAGE: i64 = 200;

/// How long a listener that has to read for itself waits before it asks a database again that was away.
const AGAIN: Duration = Duration::from_secs(1);

/// A listener's place in the events of one job.
pub(crate) struct Feed {
    pool: Pool,
    source: Arc<Source>,
    news: watch::Receiver<News>,
    /// Number of the last event that was handed out.
    last: i32,
    /// The last event of the job was handed out.
    over: bool,
}

impl Feed {
    /// Follows a job from after event number `last`. Whoever calls this has made sure that the listener may know the
    /// job.
    pub(crate) fn follow(state: &State, job_id: Uuid, last: i32) -> Self {
        let (source, news) = state.feeds.listen(state, job_id, Some(last));
        Self { pool: state.pool.clone(), source, news, last, over: false }
    }

    /// Follows a job of which nothing is stored yet. Call this before the job is pushed: a short one ends sooner than a
    /// subscription is made.
    pub(crate) async fn await_new(state: &State, job_id: Uuid) -> Self {
        let (source, mut news) = state.feeds.listen(state, job_id, None);
        // whoever makes it is held by the listener, and so is there to say it
        let _ = news.wait_for(|news| news.hears).await;
        Self { pool: state.pool.clone(), source, news, last: 0, over: false }
    }

    /// The next events, oldest first, at least one. `None`: the job has ended and all was handed out, or it is gone. A
    /// database that is away is asked again later. Dropping the wait loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Vec<Arc<Event>>> {
        while !self.over {
            let news = *self.news.borrow_and_update();
            if news.last > self.last {
                if let Some(events) = self.source.after(self.last) {
                    return Some(self.hand_out(events));
                }
                match self.read().await {
                    Ok(events) if !events.is_empty() => return Some(self.hand_out(events)),
                    // its events were deleted: what comes after them is still told
                    Ok(_) => self.last = self.source.before_first(),
                    Err(error) => {
                        tracing::debug!(%error, "stored events could not be read; trying again");
                        time::sleep(AGAIN).await;
                    }
                }
            } else if news.over || self.news.changed().await.is_err() {
                self.over = true;
            }
        }
        None
    }

    /// Notes where the listener is now. No wait may stand between finding events and this.
    fn hand_out(&mut self, events: Vec<Arc<Event>>) -> Vec<Arc<Event>> {
        if let Some(newest) = events.last() {
            self.last = newest.seq;
            self.over = matches!(newest.body.change, Change::JobFinished { .. });
        }
        events
    }

    /// The next page of stored events.
    async fn read(&self) -> anyhow::Result<Vec<Arc<Event>>> {
        let mut conn = self.pool.get().await?;
        let events = JobEvent::list_after(&mut conn, self.source.job_id, self.last, PAGE).await?;
        Ok(events.into_iter().map(Arc::new).collect())
    }
}
