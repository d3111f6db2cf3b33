//! One client of the engine, from its first request on, and how many of them may be there before they have shown who
//! they are. Whoever has is counted by its slots instead.

use crate::{
    auth::{Caller, caller::Shown},
    handlers::socket_slots::Slot,
};
use chrono::{DateTime, Utc};
use socketioxide::socket::Sid;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Clients that have not shown credentials: of all addresses, and of one.
const ALL: usize = 2_000;
const OF_ADDRESS: usize = 100;

/// For how long the number of a client that was sent away is kept: by then the engine has lost it, since its pings stay
/// without an answer.
const REMEMBERED: Duration = Duration::from_secs(120);

/// What a client may ask for before it was answered.
const UNANSWERED: usize = 16;

/// One client of the engine.
pub(super) struct Session {
    /// What its first request showed.
    pub(super) shown: Option<Shown>,
    /// Until it has shown who it is.
    pub(super) place: Mutex<Option<Place>>,
    /// Who it is; waits here for the hall.
    pub(super) admitted: Mutex<Option<Admitted>>,
    /// Whether the hall knows it.
    pub(super) entered: watch::Sender<bool>,
    /// Its connection is cut when this is cancelled.
    pub(super) cut: CancellationToken,
    unanswered: AtomicUsize,
    sid: OnceLock<Sid>,
    ended: Arc<Ended>,
}

/// Who a client is.
pub(super) struct Admitted {
    pub(super) caller: Caller,
    pub(super) shown: Shown,
    pub(super) slot: Slot,
    pub(super) name: String,
    /// When it came, by the clock of PostgreSQL.
    pub(super) since: DateTime<Utc>,
}

/// The right to one more answer.
pub(super) struct Turn<'a>(&'a AtomicUsize);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Session {
    pub(super) fn new(shown: Option<Shown>, place: Option<Place>, ended: &Arc<Ended>) -> Self {
        Self {
            shown,
            place: Mutex::new(place),
            admitted: Mutex::default(),
            entered: watch::Sender::new(false),
            cut: CancellationToken::new(),
            unanswered: AtomicUsize::new(0),
            sid: OnceLock::new(),
            ended: Arc::clone(ended),
        }
    }

    /// It has shown who it is.
    pub(super) fn admit(&self, sid: Sid, admitted: Admitted) {
        // it is the same number each time
        let _ = self.sid.set(sid);
        *locked(&self.admitted) = Some(admitted);
        *locked(&self.place) = None;
    }

    /// Takes a turn, unless too much is unanswered.
    pub(super) fn turn(&self) -> Option<Turn<'_>> {
        let turn = Turn(&self.unanswered);
        (self.unanswered.fetch_add(1, Ordering::Relaxed) < UNANSWERED).then_some(turn)
    }

    /// Cuts its connections. The engine loses it then, at once or with the next ping.
    pub(super) fn end(&self) {
        if let Some(sid) = self.sid.get() {
            self.ended.add(*sid);
        }
        self.cut.cancel();
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // nothing panics while one of these is held
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The numbers of clients that were sent away.
#[derive(Default)]
pub(super) struct Ended(Mutex<HashMap<Sid, Instant>>);

impl Ended {
    fn add(&self, sid: Sid) {
        let now = Instant::now();
        let mut ended = locked(&self.0);
        ended.retain(|_, at| now.duration_since(*at) < REMEMBERED);
        ended.insert(sid, now);
    }

    /// Whether this client was sent away.
    pub(super) fn contains(&self, sid: Sid) -> bool {
        locked(&self.0).contains_key(&sid)
    }
}

/// Who waits for credentials to be asked for.
pub(super) struct WaitingRoom {
    by_address: Mutex<HashMap<Option<IpAddr>, usize>>,
    of_address: usize,
}

/// A place in the waiting room.
pub(super) struct Place {
    room: Arc<WaitingRoom>,
    address: Option<IpAddr>,
}

impl WaitingRoom {
    /// An empty one. Without `limits` one address may take every place.
    pub(super) fn new(limits: bool) -> Self {
        Self { by_address: Mutex::default(), of_address: if limits { OF_ADDRESS } else { ALL } }
    }

    /// Takes a place, if there is one.
    pub(super) fn enter(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Place> {
        let mut by_address = locked(&self.by_address);
        if by_address.values().sum::<usize>() >= ALL {
            return None;
        }
        let taken = by_address.entry(address).or_default();
        if *taken >= self.of_address {
            return None;
        }
        *taken += 1;
        Some(Place { room: Arc::clone(self), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_address = locked(&self.room.by_address);
        if let Some(taken) = by_address.get_mut(&self.address) {
            *taken -= 1;
            if *taken == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_cannot_fill_the_waiting_room() {
        let room = Arc::new(WaitingRoom::new(true));
        let (one, other) = (Some(IpAddr::from([192, 0, 2, 1])), Some(IpAddr::from([192, 0, 2, 2])));
        let mut places: Vec<_> = std::iter::from_fn(|| room.enter(one)).take(ALL).collect();
        assert_eq!(places.len(), OF_ADDRESS);
        assert!(room.enter(other).is_some());
        places.pop();
        places.extend(room.enter(one));
        assert!(room.enter(one).is_none(), "one was free again, and is taken");
        drop(places);
        assert!(locked(&room.by_address).is_empty());
    }

    #[test]
    fn the_waiting_room_has_an_end() {
        let room = Arc::new(WaitingRoom::new(false));
        let places: Vec<_> = std::iter::from_fn(|| room.enter(None)).take(ALL + 1).collect();
        assert_eq!(places.len(), ALL);
    }

    #[test]
    fn who_asks_for_too_much_at_once_is_not_heard() {
        let session = Session::new(None, None, &Arc::default());
        let turns: Vec<_> = std::iter::from_fn(|| session.turn()).take(UNANSWERED + 1).collect();
        assert_eq!(turns.len(), UNANSWERED);
        drop(turns);
        assert!(session.turn().is_some());
    }
}
