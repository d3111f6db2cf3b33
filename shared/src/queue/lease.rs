//! What a worker holds: its leases, its free slots and the ways to give them back.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::counter;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::acker::Settlement;
use super::{Ack, BackendOptions, Queue};

/// The right to work on a job for a while. The token is drawn anew for each claim: if the lease ran out and the job was
/// claimed again, even by the same process, the two are told apart (but for one case in 262,144, and then the attempt
/// number in Postgres still does).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Lease {
    pub(super) id: Uuid,
    pub(super) token: u32,
}

impl Lease {
    /// Below the `TOKENS` of the scripts.
    pub(super) fn token() -> u32 {
        rand::random_range(0..262_144)
    }
}

/// A lease in hand and the slot it occupies.
struct Held {
    slot: OwnedSemaphorePermit,
    lost: bool,
}

/// The consumer half's shared state: what pump, renewer, acker and the ack layer have in common.
pub(super) struct Consumer {
    pub(super) queue: Queue,
    pub(super) options: BackendOptions,
    /// Cancelled when no more jobs may be claimed.
    pub(super) stop: CancellationToken,
    /// Set by a push that an idle worker has to hear of.
    pub(super) wake: Notify,
    pub(super) slots: Arc<Semaphore>,
    held: Mutex<HashMap<Lease, Held>>,
    settlements: mpsc::Sender<Settlement>,
}

impl Consumer {
    pub(super) fn new(queue: Queue, options: BackendOptions, settlements: mpsc::Sender<Settlement>) -> Self {
        Self {
            stop: options.stop.child_token(),
            wake: Notify::new(),
            slots: Arc::new(Semaphore::new(options.slots)),
            held: Mutex::default(),
            queue,
            options,
            settlements,
        }
    }

    pub(super) fn hold(&self, lease: Lease, slot: OwnedSemaphorePermit) {
        self.held().insert(lease, Held { slot, lost: false });
    }

    /// Has the lease ended in Redis. The slot travels along and is free again once the acker has taken it up, so that
    /// jobs are never claimed faster than they are acked.
    pub(super) fn settle(&self, lease: Lease, ack: Ack) {
        let Some(held) = self.held().remove(&lease) else { return };
        // Called from `Drop` too, so it may not wait; nor need it: the channel has a place for each slot.
        if self.settlements.try_send(Settlement::Ack(lease, ack, held.slot)).is_err() {
            tracing::warn!(queue = self.queue.name(), job_id = %lease.id, "the acker is gone, the lease will run out");
        }
    }

    /// The acker answers when everything settled before has reached Redis.
    pub(super) async fn flush(&self) {
        let (done, flushed) = tokio::sync::oneshot::channel();
        if self.settlements.send(Settlement::Flush(done)).await.is_ok() && flushed.await.is_err() {
            tracing::warn!(queue = self.queue.name(), "the acker ended before all leases were given back");
        }
    }

    /// The leases to renew.
    pub(super) fn leases(&self) -> Vec<Lease> {
        self.held().iter().filter(|(_, held)| !held.lost).map(|(lease, _)| *lease).collect()
    }

    /// Remembers that Redis no longer knows the lease. The handler goes on: only Postgres may stop it.
    pub(super) fn lose(&self, lease: Lease) {
        let mut held = self.held();
        let Some(entry) = held.get_mut(&lease) else {
            return;
        };
        entry.lost = true;
        drop(held);
        counter!("atelier_queue_lease_lost_total", "queue" => self.queue.name.clone()).increment(1);
        tracing::warn!(queue = self.queue.name(), job_id = %lease.id, "lease lost, Postgres decides whose result counts");
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Lease, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
