//! The task that gathers the events of one job out of two sources: the table, which has them all, and Redis, which is
//! fast and may lose some.
//!
//! It subscribes first, reads the stored events second and takes live ones third, so nothing is missed. A gap in the
//! numbers, a connection to Redis that broke, or a few seconds make it look into the table again. It ends with its last
//! listener.

use super::{feed::PAGE, feed_source::Source, feeds::Feeds};
use crate::live::{Hub, Live};
use serde::Serialize;
use shared::{
    db::Pool,
    events::Event,
    grouped::Grouped,
    models::{JobEvent, JobHead},
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    sync::broadcast::error::RecvError,
    time::{self, Instant, MissedTickBehavior},
};
use uuid::Uuid;

/// How often the table is looked at even if nothing is heard, where a request waits: it is short, and so is its
/// client's patience.
const POLL: Duration = Duration::from_secs(1);

/// The same where nobody but sockets and streams listens, in these ticks.
const PATIENT: u32 = 3;

/// What to do with an event that came through Redis.
#[derive(Debug)]
enum Placed {
    /// It is the next one.
    Next(Event),
    /// It is known, or not readable.
    Old,
    /// Something before it is missing.
    Gap,
}

/// The task behind a source.
pub(super) struct Reader {
    pub(super) source: Arc<Source>,
    pub(super) pool: Pool,
    pub(super) hub: Hub,
    pub(super) channel: String,
    /// Looks at jobs.
    pub(super) heads: Grouped<Uuid, JobHead>,
    /// The last event that the first listener has; nobody asks for what is before it.
    pub(super) from: Option<i32>,
    /// The job is in the table; one that a request waits for may come yet.
    pub(super) is_stored: bool,
    /// Number of the newest event that was taken in.
    pub(super) last: i32,
}

impl Reader {
    /// Gathers events until the job has ended or nobody listens.
    pub(super) async fn run(mut self, feeds: &Feeds) {
        let mut live = self.hub.subscribe(&self.channel).await;
        let (mut live_is_open, mut quiet) = (true, 0);
        self.source.news.send_modify(|news| news.hears = true);
        let mut poll = time::interval_at(Instant::now() + POLL, POLL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // of what is not stored yet there is nothing to read
        let mut due = self.is_stored;
        while !self.source.news.borrow().over {
            if due {
                due = self.read().await.unwrap_or_else(|error| {
                    let job_id = self.source.job_id;
                    tracing::debug!(%error, %job_id, "stored events could not be read; trying again");
                    false
                });
                quiet = 0;
                continue;
            }
            tokio::select! {
                message = live.receiver.recv(), if live_is_open => match message {
                    Ok(Live::Message(message)) => match self.place(&message) {
                        Placed::Next(event) => self.take_in(vec![(event, message.len())]),
                        Placed::Old => {}
                        Placed::Gap => due = true,
                    },
                    Ok(Live::Resumed) | Err(RecvError::Lagged(_)) => due = true,
                    Err(RecvError::Closed) => live_is_open = false,
                },
                _ = poll.tick() => {
                    quiet += 1;
                    due = quiet >= PATIENT || self.source.is_hurried();
                }
                () = self.source.news.closed() => if feeds.forget(&self.source) { return },
            }
        }
    }

    /// Reads the next page of stored events; whether there may be more. While there is nothing new this is a look at
    /// one row, together with all other looks of the moment.
    async fn read(&mut self) -> anyhow::Result<bool> {
        let job_id = self.source.job_id;
        let Some(head) = self.heads.find(job_id).await? else {
            if self.is_stored {
                self.source.end();
            }
            return Ok(false);
        };
        self.is_stored = true;
        if let Some(from) = self.from.take() {
            self.last = from.min(head.last_seq);
            self.source.begin_after(self.last);
        }
        if head.last_seq > self.last {
            let events = JobEvent::list_after(&mut *self.pool.get().await?, job_id, self.last, PAGE).await?;
            if !events.is_empty() {
                let sized = events.into_iter().map(|event| {
                    let bytes = size(&event);
                    (event, bytes)
                });
                self.take_in(sized.collect());
                return Ok(true);
            }
        }
        if head.status.is_final() {
            self.source.end();
        }
        Ok(false)
    }

    fn take_in(&mut self, events: Vec<(Event, usize)>) {
        if let Some((newest, _)) = events.last() {
            self.last = newest.seq;
            self.source.take_in(events);
        }
    }

    fn place(&self, message: &[u8]) -> Placed {
        let Ok(event) = serde_json::from_slice::<Event>(message) else { return Placed::Old };
        if event.job_id != self.source.job_id || event.seq <= self.last {
            Placed::Old
        } else if event.seq == self.last + 1 {
            Placed::Next(event)
        } else {
            Placed::Gap
        }
    }
}

/// Bytes of an event as JSON.
fn size(event: &impl Serialize) -> usize {
    struct Counted(usize);

    impl io::Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let mut counted = Counted(0);
    // what cannot be written takes no room either
    let _ = serde_json::to_writer(&mut counted, event);
    counted.0
}
