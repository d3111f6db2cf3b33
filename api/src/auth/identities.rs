//! Who is behind a session or a key, as the database has it now. Nothing is remembered from one request to the next, so that
//! whatever changes counts at once; but requests that come in together share a query.

use crate::{auth::uses::Uses, error::ApiError};
use futures_util::future::{BoxFuture, FutureExt, join};
use shared::{
    db,
    grouped::{Grouped, GroupedError},
    models::{ApiKey, KeyHolder, LoginSession, SessionHolder},
};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::timeout;
use uuid::Uuid;

/// Queries of one kind at a time: while one is under way, the next one fills.
const FLIGHTS: usize = 2;

/// Most look-ups of one query.
const MOST: usize = 256;

/// How long a query may take: one that waits for a connection that is dead is not to keep all that come after it waiting.
const PATIENCE: Duration = Duration::from_secs(6);

/// Looks callers up.
pub(crate) struct Identities {
    sessions: Grouped<Uuid, SessionHolder>,
    keys: Grouped<Vec<u8>, KeyHolder>,
    /// Until it is run.
    work: Mutex<Option<BoxFuture<'static, ()>>>,
    /// What was used and is not written yet.
    pub(crate) uses: Uses,
}

impl Identities {
    /// Nobody is found until [`Identities::run`] runs.
    pub(crate) fn new(pool: &db::Pool) -> Self {
        let for_sessions = pool.clone();
        let (sessions, find_sessions) = Grouped::new(FLIGHTS, MOST, move |ids: Vec<Uuid>| {
            let pool = for_sessions.clone();
            async move { timeout(PATIENCE, sessions(pool, ids)).await? }
        });
        let for_keys = pool.clone();
        let (keys, find_keys) = Grouped::new(FLIGHTS, MOST, move |hashes: Vec<Vec<u8>>| {
            let pool = for_keys.clone();
            async move { timeout(PATIENCE, keys(pool, hashes)).await? }
        });
        let work = join(find_sessions, find_keys).map(|((), ())| ()).boxed();
        Self { sessions, keys, work: Mutex::new(Some(work)), uses: Uses::default() }
    }

    /// Looks up what is asked for; to be stopped when nobody asks any more.
    pub(crate) fn run(&self) -> BoxFuture<'static, ()> {
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        work.unwrap_or_else(|| futures_util::future::ready(()).boxed())
    }

    /// The holder of an open session of an active user.
    ///
    /// # Errors
    /// 503 if the database cannot be reached.
    pub(crate) async fn of_session(&self, id: Uuid) -> Result<Option<SessionHolder>, ApiError> {
        self.sessions.find(id).await.map_err(away)
    }

    /// The holder of a good key, by its SHA-256.
    ///
    /// # Errors
    /// 503 if the database cannot be reached.
    pub(crate) async fn of_key(&self, hash: Vec<u8>) -> Result<Option<KeyHolder>, ApiError> {
        self.keys.find(hash).await.map_err(away)
    }
}

async fn sessions(pool: db::Pool, ids: Vec<Uuid>) -> anyhow::Result<HashMap<Uuid, SessionHolder>> {
    Ok(LoginSession::list_holders(&mut *pool.get().await?, &ids).await?)
}

async fn keys(pool: db::Pool, hashes: Vec<Vec<u8>>) -> anyhow::Result<HashMap<Vec<u8>, KeyHolder>> {
    Ok(ApiKey::list_holders(&mut *pool.get().await?, &hashes).await?)
}

fn away(error: GroupedError) -> ApiError {
    ApiError::unavailable("Who you are cannot be looked up at the moment; try again", 2).because(error)
}
