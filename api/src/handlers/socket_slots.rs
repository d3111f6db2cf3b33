//! How many open sockets of one kind a user may have, over all processes of the API: `limits.toml` says it.
//!
//! The count lives in Redis, because the sockets of one user may be spread over many processes. A slot that is not
//! renewed runs out, so a process that dies holds none for long. While Redis is away nobody is refused.

use crate::state::State;
use redis::{Script, aio::ConnectionManager};
use std::{sync::LazyLock, time::Duration};
use tokio::time::timeout;
use uuid::Uuid;

/// A slot that is not renewed for this long is free again. Sockets renew every 20 s.
const LEASE: Duration = Duration::from_secs(60);

/// How long Redis may take.
const PATIENCE: Duration = Duration::from_millis(200);

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("take_slot.lua")));

/// The right to one open socket.
#[derive(Debug)]
pub(crate) struct Slot {
    redis: Option<ConnectionManager>,
    key: String,
    id: String,
    limit: usize,
    _open: Open,
}

/// Counts one open socket while it lives.
#[derive(Debug)]
struct Open(String);

impl Open {
    fn new(kind: &str) -> Self {
        metrics::gauge!("atelier_open_sockets", "kind" => kind.to_owned()).increment(1);
        Self(kind.to_owned())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!("atelier_open_sockets", "kind" => std::mem::take(&mut self.0)).decrement(1);
    }
}

impl Slot {
    /// Takes a slot; `None` if all are taken.
    pub(crate) async fn take(state: &State, kind: &str, user_id: Uuid) -> Option<Self> {
        let slot = Self {
            redis: state.config.rate_limits.then(|| state.redis.clone()),
            key: format!("{}:sockets:{kind}:{user_id}", state.config.redis.prefix),
            id: Uuid::now_v7().to_string(),
            limit: state.config.limits.open_sockets,
            _open: Open::new(kind),
        };
        slot.hold().await.then_some(slot)
    }

    /// Holds the slot for another while.
    pub(crate) async fn renew(&self) {
        // a slot that was lost with Redis' memory is taken again; were they all gone meanwhile, this socket stays
        self.hold().await;
    }

    /// Frees the slot.
    pub(crate) async fn give_back(&self) {
        if let Some(mut redis) = self.redis.clone() {
            let mut command = redis::cmd("ZREM");
            command.arg(&self.key).arg(&self.id);
            // if this fails, the slot runs out by itself
            let _ = timeout(PATIENCE, command.query_async::<()>(&mut redis)).await;
        }
    }

    async fn hold(&self) -> bool {
        let Some(mut redis) = self.redis.clone() else { return true };
        let mut call = TAKE.key(&self.key);
        call.arg(&self.id).arg(self.limit).arg(i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX));
        match timeout(PATIENCE, call.invoke_async::<bool>(&mut redis)).await {
            Ok(Ok(held)) => held,
            Ok(Err(_)) | Err(_) => true,
        }
    }
}
