//! The queue's Lua scripts, one function each: what goes in, what comes out, no policy.

use std::sync::LazyLock;
use std::time::Duration;

use redis::aio::ConnectionManager;
use redis::{RedisResult, Script, ScriptInvocation};
use uuid::Uuid;

use super::keys::Keys;
use super::lease::Lease;

macro_rules! script {
    ($name:literal) => {
        LazyLock::new(|| Script::new(concat!(include_str!("scripts/prelude.lua"), include_str!($name))))
    };
}

static PUSH: LazyLock<Script> = script!("scripts/push.lua");
static CLAIM: LazyLock<Script> = script!("scripts/claim.lua");
static RENEW: LazyLock<Script> = script!("scripts/renew.lua");
static ACK: LazyLock<Script> = script!("scripts/ack.lua");
static REMOVE: LazyLock<Script> = script!("scripts/remove.lua");
static MISSING: LazyLock<Script> = script!("scripts/missing.lua");

/// How many expired leases, due jobs or stale tags one claim cleans up at most.
const SWEEP: usize = 200;

/// One row of a push as the script reads it.
pub(super) struct PushRow {
    pub(super) id: Uuid,
    pub(super) meta: Vec<u8>,
    /// Milliseconds since the epoch, 0 for now.
    pub(super) due: i64,
}

pub(super) async fn push(conn: &mut ConnectionManager, keys: &Keys, rows: &[PushRow]) -> RedisResult<usize> {
    let mut call = invocation(&PUSH, keys);
    for row in rows {
        call.arg(row.id.as_bytes().as_slice()).arg(row.meta.as_slice()).arg(row.due);
    }
    call.invoke_async(conn).await
}

/// What a claim brought.
pub(super) struct Claimed {
    pub(super) ids: Vec<Uuid>,
    /// How long until the next delayed job is due.
    pub(super) next_due: Option<Duration>,
}

pub(super) async fn claim(
    conn: &mut ConnectionManager,
    keys: &Keys,
    limit: usize,
    lease: Duration,
    token: u32,
) -> RedisResult<Claimed> {
    let (next_us, ids): (i64, Vec<Vec<u8>>) =
        invocation(&CLAIM, keys).arg(limit).arg(millis(lease)).arg(token).arg(SWEEP).invoke_async(conn).await?;
    Ok(Claimed {
        // Only this module writes members; anything else in the set is not ours to run and runs out by itself.
        ids: ids.iter().filter_map(|id| Uuid::from_slice(id).ok()).collect(),
        next_due: u64::try_from(next_us).ok().map(Duration::from_micros),
    })
}

/// Returns the places (from 0) of the leases that are lost.
pub(super) async fn renew(
    conn: &mut ConnectionManager,
    keys: &Keys,
    lease: Duration,
    leases: &[Lease],
) -> RedisResult<Vec<usize>> {
    let mut call = invocation(&RENEW, keys);
    call.arg(millis(lease));
    for lease in leases {
        call.arg(lease.id.as_bytes().as_slice()).arg(lease.token);
    }
    call.invoke_async(conn).await.map(places)
}

/// `None` forgets the job, a duration brings it back. Returns how many leases were still held.
pub(super) async fn ack(
    conn: &mut ConnectionManager,
    keys: &Keys,
    acks: &[(Lease, Option<Duration>)],
) -> RedisResult<usize> {
    let mut call = invocation(&ACK, keys);
    for (lease, after) in acks {
        call.arg(lease.id.as_bytes().as_slice()).arg(lease.token).arg(after.map_or(-1, millis));
    }
    call.invoke_async(conn).await
}

pub(super) async fn remove(conn: &mut ConnectionManager, keys: &Keys, ids: &[Uuid]) -> RedisResult<usize> {
    let mut call = invocation(&REMOVE, keys);
    for id in ids {
        call.arg(id.as_bytes().as_slice());
    }
    call.invoke_async(conn).await
}

/// Returns the places (from 0) of the ids that are missing.
pub(super) async fn missing(conn: &mut ConnectionManager, keys: &Keys, ids: &[Uuid]) -> RedisResult<Vec<usize>> {
    let mut call = invocation(&MISSING, keys);
    for id in ids {
        call.arg(id.as_bytes().as_slice());
    }
    call.invoke_async(conn).await.map(places)
}

fn invocation<'a>(script: &'a Script, keys: &Keys) -> ScriptInvocation<'a> {
    let mut call = script.prepare_invoke();
    for key in keys.all() {
        call.key(key);
    }
    call
}

/// Lua counts from 1.
fn places(found: Vec<usize>) -> Vec<usize> {
    found.into_iter().filter_map(|place| place.checked_sub(1)).collect()
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
