//! The job queue: an apalis backend of our own on Redis, with the producer half used by `api` and `scheduler`.
//!
//! Postgres holds the truth and Redis carries hints. A [`Ticket`] is a job id and what its order depends on; the job
//! itself is a row. Losing all of Redis therefore loses nothing: the scheduler pushes every due row again, and pushing
//! is idempotent by id. A worker's pump leases as many ids as it has free slots ([`BackendOptions::slots`]), hands the
//! whole batch to the worker's *claim hook* (one `UPDATE … RETURNING` in Postgres) and gives what the hook returns to
//! apalis. What the hook does not return was taken, finished or cancelled by someone else and is forgotten.
//!
//! A lease is 15 s long and renewed every third of that for as long as the handler runs. If Redis stalls, restarts or is
//! emptied, the pump, the renewer and the acker try again for ever with a capped backoff; handlers never notice. A
//! lease that was lost meanwhile is logged, and its ack does nothing: the attempt number in Postgres decides whose
//! result counts.
//!
//! Order: [`Priority`] classes in front of each other; inside a class start-time fair queueing between tenants, so that
//! one tenant's flood delays another by at most one job, and a tenant of weight 10 gets ten times the share of one of
//! weight 1. Equal claims go by id, which is by age for version 7 ids.
//!
//! A retry is decided in Postgres. The worker then either pushes a ticket with the later `run_at` (safe before and after
//! the ack: a ticket pushed for a leased id is kept until the ack and brings the job back then) and acks with
//! [`Ack::Done`], or acks with [`Ack::Release`].

mod ack;
mod acker;
mod backend;
mod backoff;
mod keys;
mod lease;
mod pump;
mod push;
mod renewer;
mod scripts;
mod sink;
mod waker;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use redis::aio::ConnectionManager;
use redis::{AsyncCommands, InfoDict};
use uuid::Uuid;

pub use ack::{Ack, AckLayer, AckService, spawn_handlers};
pub use backend::{BackendOptions, LeaseBackend};
pub use push::Hint;
pub use sink::TicketSink;

pub use crate::kind::Priority;

use keys::Keys;

/// How many ids go into one script call. Larger calls are slower per id and hold up everybody else.
const CHUNK: usize = 200;

/// One waiting job as Redis knows it: the id and what its place in the queue depends on. No payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// The job's id, the key of every later call.
    pub id: Uuid,
    /// Who the job's share is charged to.
    pub tenant: Uuid,
    /// The tenant's share against others; 0 counts as 1.
    pub weight: u16,
    /// The class the job waits in.
    pub priority: Priority,
    /// When the job is due, to the millisecond (rounded up); `None` or a past time means now.
    pub run_at: Option<DateTime<Utc>>,
}

/// How many jobs are where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Due and waiting for a free slot.
    pub ready: u64,
    /// Waiting for their time.
    pub delayed: u64,
    /// In a worker's hands.
    pub leased: u64,
}

/// Redis could not be asked, or did not answer in time. The call may or may not have had its effect; all calls of
/// [`Queue`] may be repeated.
#[derive(Debug, thiserror::Error)]
#[error("the queue {queue} could not be reached in Redis")]
pub struct QueueError {
    queue: Arc<str>,
    #[source]
    source: redis::RedisError,
}

/// A handle on one queue. Cheap to clone: the connection is shared and pipelines what its clones send.
#[derive(Clone)]
pub struct Queue {
    conn: ConnectionManager,
    keys: Arc<Keys>,
    name: Arc<str>,
}

impl Queue {
    /// The queue `name` under the key prefix `prefix`. The connection's response timeout bounds every call.
    pub fn new(conn: ConnectionManager, prefix: &str, name: &str) -> Self {
        Self { conn, keys: Arc::new(Keys::new(prefix, name)), name: name.into() }
    }

    /// The queue's name without the prefix.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many jobs wait and how many are being worked on.
    pub async fn depth(&self) -> Result<Depth, QueueError> {
        let (ready, delayed, leased) = redis::pipe()
            .zcard(self.keys.ready())
            .zcard(self.keys.delayed())
            .zcard(self.keys.leases())
            .query_async(&mut self.conn.clone())
            .await
            .map_err(|source| self.error(source))?;
        Ok(Depth { ready, delayed, leased })
    }

    /// How many jobs are in front of this one, or `None` if it is not waiting for a slot (delayed, leased or unknown).
    /// A later job of an earlier class or of another tenant may still overtake it.
    pub async fn position(&self, id: Uuid) -> Result<Option<u64>, QueueError> {
        let id = id.as_bytes().as_slice();
        self.conn.clone().zrank(self.keys.ready(), id).await.map_err(|source| self.error(source))
    }

    /// Forgets waiting jobs, for instance cancelled ones, and returns how many were waiting. A job that is leased is not
    /// touched (its worker has to be told by other means), but a retry pushed for it is forgotten.
    pub async fn remove(&self, ids: &[Uuid]) -> Result<usize, QueueError> {
        let mut removed = 0;
        for chunk in ids.chunks(CHUNK) {
            removed += scripts::remove(&mut self.conn.clone(), &self.keys, chunk)
                .await
                .map_err(|source| self.error(source))?;
        }
        Ok(removed)
    }

    /// Which of these jobs Redis does not know: neither waiting nor leased. They have to be pushed (again).
    pub async fn missing(&self, ids: &[Uuid]) -> Result<Vec<Uuid>, QueueError> {
        let mut missing = Vec::new();
        for chunk in ids.chunks(CHUNK) {
            let places = scripts::missing(&mut self.conn.clone(), &self.keys, chunk)
                .await
                .map_err(|source| self.error(source))?;
            missing.extend(places.into_iter().filter_map(|place| chunk.get(place)));
        }
        Ok(missing)
    }

    /// Keeps workers from claiming anything; jobs go on being accepted, and those that run go on running. Redis may forget
    /// it: the truth is in Postgres, where the claim looks too, and the scheduler says it again.
    pub async fn pause(&self) -> Result<(), QueueError> {
        self.conn.clone().set(self.keys.paused(), 1).await.map_err(|source| self.error(source))
    }

    /// Lets workers claim again, at once.
    pub async fn resume(&self) -> Result<(), QueueError> {
        redis::pipe()
            .del(self.keys.paused())
            .ignore()
            .publish(self.keys.wake(), "")
            .ignore()
            .query_async(&mut self.conn.clone())
            .await
            .map_err(|source| self.error(source))
    }

    /// Whether Redis knows the queue as paused.
    pub async fn is_paused(&self) -> Result<bool, QueueError> {
        self.conn.clone().exists(self.keys.paused()).await.map_err(|source| self.error(source))
    }

    /// How many workers listen for jobs of this queue.
    pub async fn listeners(&self) -> Result<u64, QueueError> {
        let counted: Vec<(String, u64)> = redis::cmd("PUBSUB")
            .arg("NUMSUB")
            .arg(self.keys.wake())
            .query_async(&mut self.conn.clone())
            .await
            .map_err(|source| self.error(source))?;
        Ok(counted.into_iter().map(|(_, count)| count).sum())
    }

    fn error(&self, source: redis::RedisError) -> QueueError {
        QueueError { queue: self.name.clone(), source }
    }
}

/// The id Redis gave itself when it started. Another id than before means Redis was restarted and may have forgotten
/// jobs; the scheduler then looks for missing ones at once. (`FLUSHALL` does not change it.)
pub async fn run_id(conn: &mut ConnectionManager) -> redis::RedisResult<String> {
    let info: InfoDict = redis::cmd("INFO").arg("server").query_async(conn).await?;
    info.get("run_id").ok_or_else(|| redis::RedisError::from((redis::ErrorKind::Parse, "INFO names no run_id")))
}
