//! One socket in a hall: what it is to be told, and how far it is.

use super::{
    hall::Newcomer,
    run::{Run, Told},
    session::Session,
};
use crate::{
    auth::{
        Caller,
        caller::{Credential, Shown},
    },
    error::ApiError,
    handlers::socket_slots::Slot,
    rules::Keys,
    state::State,
};
use chrono::{DateTime, Utc};
use shared::models::{LivePlace, LiveRun};
use socketioxide::{SendError, SocketError, extract::SocketRef};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// What may wait for a socket besides the events of runs.
const PENDING: usize = 256;

/// How long a socket may take nothing of what waits for it.
const PATIENCE: Duration = Duration::from_secs(5);

/// One socket.
pub(super) struct Member {
    pub(super) socket: SocketRef,
    pub(super) session: Arc<Session>,
    pub(super) user_id: Uuid,
    pub(super) name: String,
    pub(super) slot: Arc<Slot>,
    pub(super) rooms: HashMap<LivePlace, DateTime<Utc>>,
    shown: Shown,
    credential: Credential,
    since: DateTime<Utc>,
    /// How much it was told of each run that concerns it, or did.
    places: HashMap<Uuid, usize>,
    pending: VecDeque<Arc<Told>>,
    /// Since when it has taken nothing.
    stuck: Option<Instant>,
}

/// How far a socket has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flushed {
    /// It was told everything.
    All,
    /// It reads slowly.
    Behind,
    /// It has gone, or reads too slowly.
    Lost,
}

impl Member {
    pub(super) fn new(newcomer: Newcomer) -> Self {
        let Newcomer { socket, session, admitted } = newcomer;
        Self {
            socket,
            session,
            user_id: admitted.caller.user_id,
            name: admitted.name,
            slot: Arc::new(admitted.slot),
            rooms: HashMap::new(),
            shown: admitted.shown,
            credential: admitted.caller.credential,
            since: admitted.since,
            places: HashMap::new(),
            pending: VecDeque::new(),
            stuck: None,
        }
    }

    /// Whether it was to be told of a run that was found: of one that has ended only if it ended while this socket was
    /// there.
    pub(super) fn is_concerned(&self, run: &LiveRun) -> bool {
        let ended_since = |since: &DateTime<Utc>| run.finished_at.is_none_or(|finished| finished >= *since);
        (self.user_id == run.user_id && ended_since(&self.since)) || self.rooms.get(&run.place).is_some_and(ended_since)
    }

    /// From now on it is told of this run, from its beginning; or goes on where it was.
    pub(super) fn begin(&mut self, run_id: Uuid) {
        self.places.entry(run_id).or_default();
    }

    /// Whether it was or is told of this run.
    pub(super) fn knows(&self, run_id: Uuid) -> bool {
        self.places.contains_key(&run_id)
    }

    pub(super) fn forget(&mut self, run_id: Uuid) {
        self.places.remove(&run_id);
    }

    /// Something that is told once; to be flushed.
    pub(super) fn push(&mut self, told: &Arc<Told>) {
        self.pending.push_back(Arc::clone(told));
    }

    /// Tells it as much as it takes; of runs only what is new of these, if it is not behind.
    pub(super) fn flush(&mut self, runs: &HashMap<Uuid, Run>, new: Option<&[Uuid]>) -> Flushed {
        while let Some(told) = self.pending.front() {
            if let Err(flushed) = send(&self.socket, told, &mut self.stuck) {
                return if self.pending.len() > PENDING { Flushed::Lost } else { flushed };
            }
            self.pending.pop_front();
        }
        let new = new.filter(|_| self.stuck.is_none());
        for (id, place) in &mut self.places {
            let Some(run) = runs.get(id).filter(|_| new.is_none_or(|new| new.contains(id))) else { continue };
            if self.user_id != run.user_id && !self.rooms.contains_key(&run.place) {
                continue;
            }
            while let Some(told) = run.next(place) {
                if let Err(flushed) = send(&self.socket, told, &mut self.stuck) {
                    return flushed;
                }
                *place += 1;
            }
        }
        Flushed::All
    }

    /// What it is checked by.
    pub(super) fn card(&self, organization_id: Uuid) -> Card {
        let (shown, credential) = (self.shown.clone(), self.credential.clone());
        Card { user_id: self.user_id, organization_id, shown, credential }
    }
}

/// Hands one thing to the engine, which holds a bounded number of them.
fn send(socket: &SocketRef, told: &Told, stuck: &mut Option<Instant>) -> Result<(), Flushed> {
    match socket.emit(&told.name, told) {
        Ok(()) => {
            *stuck = None;
            Ok(())
        }
        Err(SendError::Socket(SocketError::InternalChannelFull)) => {
            let since = stuck.get_or_insert_with(Instant::now);
            Err(if since.elapsed() > PATIENCE { Flushed::Lost } else { Flushed::Behind })
        }
        Err(SendError::Socket(SocketError::Closed)) => Err(Flushed::Lost),
        Err(SendError::Serialize(error)) => {
            tracing::error!(%error, name = %told.name, "an event cannot be written");
            Ok(())
        }
    }
}

/// What a socket was let in with.
pub(super) struct Card {
    user_id: Uuid,
    organization_id: Uuid,
    shown: Shown,
    credential: Credential,
}

impl Card {
    /// Whether it would be let in still: the session open, the user active and in the same organization, the key good.
    /// That an access token runs out meanwhile is no reason to go: it was good when it was shown. A database that is
    /// away says nothing against anybody.
    pub(super) async fn is_good(&self, state: &State, needed: Keys) -> bool {
        let found = match self.credential {
            Credential::Session(id) => state
                .identities
                .of_session(id)
                .await
                .map(|holder| holder.is_some_and(|holder| self.is_of(holder.user_id, holder.organization_id))),
            Credential::Key { .. } => Caller::from_shown(state, &self.shown)
                .await
                .map(|caller| self.is_of(caller.user_id, caller.organization_id) && caller.require(needed).is_ok()),
        };
        found.unwrap_or_else(|error| is_our_fault(&error))
    }

    fn is_of(&self, user_id: Uuid, organization_id: Uuid) -> bool {
        (self.user_id, self.organization_id) == (user_id, organization_id)
    }
}

fn is_our_fault(error: &ApiError) -> bool {
    error.code().status().is_server_error()
}
