//! Ends leases in Redis, in batches, until Redis has heard it.

use std::time::Duration;

use redis::aio::ConnectionManager;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::lease::Lease;
use super::{Ack, CHUNK, Queue, scripts};

/// How long a stopping worker goes on trying to reach Redis. After that its leases run out by themselves.
const PATIENCE: Duration = Duration::from_secs(5);

/// A message to the acker.
pub(super) enum Settlement {
    /// With the slot that is free from now on.
    Ack(Lease, Ack, OwnedSemaphorePermit),
    /// Answered when everything before it is settled.
    Flush(oneshot::Sender<()>),
}

/// Runs until the last sender is gone and everything is settled.
pub(super) async fn run(queue: Queue, stop: CancellationToken, mut settlements: mpsc::Receiver<Settlement>) {
    let mut conn = queue.conn.clone();
    let mut batch = Vec::with_capacity(CHUNK);
    while settlements.recv_many(&mut batch, CHUNK).await > 0 {
        let mut acks = Vec::with_capacity(batch.len());
        let mut waiting = Vec::new();
        for settlement in batch.drain(..) {
            match settlement {
                Settlement::Ack(lease, Ack::Done, _slot) => acks.push((lease, None)),
                Settlement::Ack(lease, Ack::Release { after }, _slot) => acks.push((lease, Some(after))),
                Settlement::Flush(done) => waiting.push(done),
            }
        }
        if !acks.is_empty() {
            settle(&queue, &mut conn, &stop, &acks).await;
        }
        for done in waiting {
            // Whoever asked may have stopped waiting.
            let _ = done.send(());
        }
    }
}

async fn settle(
    queue: &Queue,
    conn: &mut ConnectionManager,
    stop: &CancellationToken,
    acks: &[(Lease, Option<Duration>)],
) {
    let mut backoff = Backoff::for_redis();
    let mut give_up = None;
    loop {
        match scripts::ack(conn, &queue.keys, acks).await {
            Ok(held) if held < acks.len() => {
                tracing::debug!(queue = queue.name(), stale = acks.len() - held, "some leases were no longer held");
                return;
            }
            Ok(_) => return,
            Err(error) => {
                tracing::warn!(queue = queue.name(), %error, acks = acks.len(), "ack failed, trying again")
            }
        }
        if stop.is_cancelled() && Instant::now() >= *give_up.get_or_insert_with(|| Instant::now() + PATIENCE) {
            tracing::warn!(queue = queue.name(), acks = acks.len(), "Redis is away, the leases will run out");
            return;
        }
        tokio::time::sleep(backoff.delay()).await;
    }
}
