//! Claims jobs for free slots: ids from Redis, rows through the worker's claim hook, tasks to apalis.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use apalis_core::task::Task;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::task_id::TaskId;
use apalis_core::worker::context::WorkerContext;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use metrics::counter;
use redis::aio::ConnectionManager;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;
use uuid::Uuid;

use super::backoff::Backoff;
use super::lease::{Consumer, Lease};
use super::scripts::Claimed;
use super::{Ack, CHUNK, scripts};

/// Turns leased ids into claimed rows; what it leaves out is forgotten.
pub(super) type ClaimHook<T> =
    Box<dyn Fn(Vec<Uuid>) -> BoxFuture<'static, Result<Vec<(Uuid, T)>, String>> + Send + Sync>;

/// Undoes the claim of rows that no handler has seen.
pub(super) type HandBackHook<T> = Box<dyn Fn(Vec<(Uuid, T)>) -> BoxFuture<'static, ()> + Send + Sync>;

/// Tasks on their way from the pump to apalis. Shared, because a stopping worker is no longer asked for tasks and the
/// pump has to take back what it has not fetched.
pub(super) type Inbox<T> = Arc<Mutex<mpsc::Receiver<Task<T>>>>;

/// A hook that takes longer than this hangs; its jobs are offered again.
const HOOK_LIMIT: Duration = Duration::from_secs(30);

/// Even without a wake-up the pump looks this often at most; half of it at least, so that workers do not march in step.
const POLL: Duration = Duration::from_secs(1);

pub(super) struct Pump<T> {
    pub(super) consumer: Arc<Consumer>,
    pub(super) worker: WorkerContext,
    pub(super) claim: ClaimHook<T>,
    pub(super) hand_back: Option<HandBackHook<T>>,
    pub(super) tasks: mpsc::Sender<Task<T>>,
    pub(super) inbox: Inbox<T>,
}

impl<T: Send + 'static> Pump<T> {
    /// Runs until the worker stops, then hands back what no handler has seen.
    pub(super) async fn run(self) {
        let mut conn = self.consumer.queue.conn.clone();
        let mut redis = Backoff::for_redis();
        let mut postgres = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        while let Some(slots) = self.free_slots().await {
            let token = Lease::token();
            let Claimed { ids, next_due } = match self.lease(&mut conn, slots.len(), token).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    drop(slots);
                    tracing::warn!(queue = self.consumer.queue.name(), %error, "claim failed, trying again");
                    self.pause(redis.delay()).await;
                    continue;
                }
            };
            redis.reset();
            if ids.is_empty() {
                drop(slots);
                self.sleep(next_due).await;
                continue;
            }
            for (id, slot) in ids.iter().zip(slots) {
                self.consumer.hold(Lease { id: *id, token }, slot);
            }
            match self.rows(&ids).await {
                Ok(rows) => {
                    postgres.reset();
                    self.start(&ids, token, rows).await;
                }
                Err(error) => {
                    let delay = postgres.delay();
                    tracing::warn!(queue = self.consumer.queue.name(), %error, jobs = ids.len(), ?delay, "claim hook failed, jobs released");
                    counter!("atelier_queue_claim_errors_total", "queue" => self.consumer.queue.name.clone())
                        .increment(1);
                    for id in ids {
                        self.consumer.settle(Lease { id, token }, Ack::Release { after: delay });
                    }
                    self.pause(delay).await;
                }
            }
        }
        self.hand_back().await;
    }

    /// Waits for a free slot and takes all there are, or returns `None` if the worker stops.
    async fn free_slots(&self) -> Option<Vec<OwnedSemaphorePermit>> {
        let slots = &self.consumer.slots;
        let first = tokio::select! {
            biased;
            () = self.consumer.stop.cancelled() => return None,
            slot = slots.clone().acquire_owned() => slot.ok()?,
        };
        if self.worker.is_shutting_down() {
            return None;
        }
        let mut taken = vec![first];
        while taken.len() < CHUNK {
            let Ok(slot) = slots.clone().try_acquire_owned() else {
                break;
            };
            taken.push(slot);
        }
        Some(taken)
    }

    async fn lease(&self, conn: &mut ConnectionManager, limit: usize, token: u32) -> redis::RedisResult<Claimed> {
        scripts::claim(conn, &self.consumer.queue.keys, limit, self.consumer.options.lease, token).await
    }

    /// Nothing to do: until a push, the next delayed job or the next look.
    async fn sleep(&self, next_due: Option<Duration>) {
        let poll = POLL.mul_f64(rand::random_range(0.5..=1.0));
        tokio::select! {
            () = self.consumer.stop.cancelled() => {}
            () = self.consumer.wake.notified() => {}
            () = tokio::time::sleep(next_due.map_or(poll, |due| due.min(poll))) => {}
        }
    }

    async fn pause(&self, delay: Duration) {
        tokio::select! {
            () = self.consumer.stop.cancelled() => {}
            () = tokio::time::sleep(delay) => {}
        }
    }

    /// Asks the claim hook. Neither its panic nor its hanging may end the pump.
    async fn rows(&self, ids: &[Uuid]) -> Result<Vec<(Uuid, T)>, String> {
        let rows = async { (self.claim)(ids.to_vec()).await };
        match timeout(HOOK_LIMIT, AssertUnwindSafe(rows).catch_unwind()).await {
            Ok(Ok(rows)) => rows,
            Ok(Err(_)) => Err("it panicked".to_owned()),
            Err(_) => Err(format!("no answer within {HOOK_LIMIT:?}")),
        }
    }

    async fn start(&self, ids: &[Uuid], token: u32, rows: Vec<(Uuid, T)>) {
        let mut unclaimed: HashMap<Uuid, Lease> = ids.iter().map(|id| (*id, Lease { id: *id, token })).collect();
        counter!("atelier_queue_claimed_total", "queue" => self.consumer.queue.name.clone())
            .increment(rows.len() as u64);
        for (id, row) in rows {
            let Some(lease) = unclaimed.remove(&id) else {
                tracing::error!(queue = self.consumer.queue.name(), job_id = %id, "the claim hook returned a job it was not asked for");
                continue;
            };
            let task = TaskBuilder::new(row).task_id(TaskId::from_string(id.to_string())).data(lease).build();
            // There is room: each task in the inbox occupies a slot, and the inbox has as many places.
            if self.tasks.send(task).await.is_err() {
                self.consumer.settle(lease, Ack::HAND_BACK);
            }
        }
        for lease in unclaimed.into_values() {
            self.consumer.settle(lease, Ack::Done);
        }
    }

    async fn hand_back(self) {
        let mut leases = Vec::new();
        let mut rows = Vec::new();
        {
            let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
            while let Ok(task) = inbox.try_recv() {
                let Some(lease) = task.data().get::<Lease>().copied() else {
                    continue;
                };
                leases.push(lease);
                rows.push((lease.id, task.args));
            }
        }
        if rows.is_empty() {
            return;
        }
        tracing::info!(
            queue = self.consumer.queue.name(),
            jobs = rows.len(),
            "handing back jobs that were not started"
        );
        if let Some(hook) = &self.hand_back {
            let undone = AssertUnwindSafe(async { hook(rows).await }).catch_unwind();
            if !matches!(timeout(HOOK_LIMIT, undone).await, Ok(Ok(()))) {
                tracing::warn!(
                    queue = self.consumer.queue.name(),
                    "the hand-back hook failed, the scheduler will rescue the jobs"
                );
            }
        }
        for lease in leases {
            self.consumer.settle(lease, Ack::HAND_BACK);
        }
    }
}
