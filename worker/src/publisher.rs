//! Tells listeners of stored events, in batches and in order.
//!
//! A job never waits for Redis here: what finds no room, or cannot be published, is read from the table by those who
//! listen.

use redis::aio::ConnectionManager;
use shared::events::{self, Event};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Events that may wait for Redis.
const WAITING: usize = 4_096;

/// Events in one round trip.
const MOST: usize = 256;

/// The way to the task that publishes.
pub(crate) struct Publisher(mpsc::Sender<Event>);

/// The task's end of the way.
pub(crate) struct Stored(mpsc::Receiver<Event>);

/// The two ends of a new way.
pub(crate) fn new() -> (Publisher, Stored) {
    let (events, stored) = mpsc::channel(WAITING);
    (Publisher(events), Stored(stored))
}

impl Publisher {
    /// Has an event published that has been committed.
    pub(crate) fn publish(&self, event: Event) {
        if let Err(error) = self.0.try_send(event) {
            metrics::counter!("atelier_events_unpublished_total").increment(1);
            tracing::debug!(%error, "an event is not published");
        }
    }
}

impl Stored {
    /// Publishes what comes in, until `end`; what is there by then is still published.
    pub(crate) async fn run(mut self, redis: ConnectionManager, prefix: String, end: CancellationToken) {
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                received = self.0.recv_many(&mut batch, MOST) => if received == 0 { return },
                () = end.cancelled() => return,
            }
            let announcement = events::announcement(&prefix, &batch);
            batch.clear();
            let published: redis::RedisResult<()> = announcement.query_async(&mut redis.clone()).await;
            if let Err(error) = published {
                tracing::debug!(%error, "events are not published");
            }
        }
    }
}
