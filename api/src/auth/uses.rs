//! What was used lately and is not written yet: a write for each request would cost more than the request.

use crate::state::State;
use shared::{
    db,
    models::{ApiKey, LoginSession},
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

/// How often uses are written.
const WRITTEN_EVERY: Duration = Duration::from_secs(1);

/// Most keys, and most sessions, that are remembered between two writes. Further ones are not counted.
const MOST: usize = 10_000;

/// Uses of keys and sessions.
#[derive(Default)]
pub(crate) struct Uses(Mutex<Unwritten>);

#[derive(Default)]
struct Unwritten {
    keys: HashMap<Uuid, i64>,
    sessions: HashSet<Uuid>,
}

impl Uses {
    /// A request was accepted with this key.
    pub(crate) fn of_key(&self, id: Uuid) {
        self.add(id, 1);
    }

    /// A session was used that no use is noted of for a minute.
    pub(crate) fn of_session(&self, id: Uuid) {
        self.with(|unwritten| {
            if unwritten.sessions.len() < MOST {
                unwritten.sessions.insert(id);
            }
        });
    }

    fn add(&self, id: Uuid, times: i64) {
        let lost = self.with(|unwritten| {
            let known = unwritten.keys.len();
            match unwritten.keys.get_mut(&id) {
                Some(count) => *count += times,
                None if known < MOST => {
                    unwritten.keys.insert(id, times);
                }
                None => return true,
            }
            false
        });
        if lost {
            metrics::counter!("atelier_key_uses_lost_total").increment(1);
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Unwritten) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes what there is; what could not be written waits for the next time.
    pub(crate) async fn write(&self, pool: &db::Pool) {
        let Unwritten { keys, sessions } = self.with(std::mem::take);
        if keys.is_empty() && sessions.is_empty() {
            return;
        }
        let keys: Vec<_> = keys.into_iter().collect();
        if let Err(error) = write(pool, &keys, &sessions.into_iter().collect::<Vec<_>>()).await {
            tracing::debug!("uses of keys and sessions were not written yet: {error:#}");
            for (id, times) in keys {
                self.add(id, times);
            }
        }
    }
}

async fn write(pool: &db::Pool, keys: &[(Uuid, i64)], sessions: &[Uuid]) -> anyhow::Result<()> {
    let mut conn = pool.get().await?;
    if !sessions.is_empty() {
        // a session that is not noted now is noted at its next use
        LoginSession::touch(&mut conn, sessions).await?;
    }
    if !keys.is_empty() {
        ApiKey::count_uses(&mut conn, keys).await?;
    }
    Ok(())
}

/// Writes uses again and again.
pub(crate) async fn keep_writing(state: actix_web::web::Data<State>) {
    let mut ticks = interval(WRITTEN_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = state.shutdown.cancelled() => return,
        }
        // never cut off: what is on its way is no longer among what waits
        state.identities.uses.write(&state.pool).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_are_summed_up_and_the_number_of_keys_is_bounded() {
        let uses = Uses::default();
        let id = Uuid::from_u128(1);
        (0..5).for_each(|_| uses.of_key(id));
        (0..2 * MOST).for_each(|number| uses.of_key(Uuid::from_u128(number as u128 + 2)));
        uses.of_key(id);
        uses.with(|unwritten| assert_eq!((unwritten.keys.len(), unwritten.keys.get(&id)), (MOST, Some(&6))));
    }
}
