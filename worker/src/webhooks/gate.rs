//! Who may send now. A receiver that is slow or gone must not delay deliveries to others, so deliveries are let through
//! receiver by receiver before they take a slot; the rest is put back, which costs no try and no write in Postgres.

use super::endpoint::{Admission, Endpoint};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

/// Receivers remembered before those that have nothing to do are forgotten.
const REMEMBERED: usize = 10_000;

/// How long a delivery that was let through waits for its turn.
const TURN: Duration = Duration::from_secs(1);

/// When a delivery comes again that found too many others with slow receivers.
const CROWDED: std::ops::Range<f64> = 1.0..5.0;

/// Whom deliveries are counted for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Receiver {
    /// A webhook.
    Webhook(Uuid),
    /// The address that a run calls back to.
    CallBack(String),
}

/// Lets deliveries through.
pub(super) struct Gate(Mutex<State>);

struct State {
    receivers: HashMap<Receiver, (Endpoint, Arc<Semaphore>)>,
    /// Requests to one receiver at a time.
    cap: usize,
    /// Slots that receivers may have together which are slow, or not known yet.
    slow_slots: usize,
    slow: usize,
}

/// Leave to send one delivery. Dropping it without a word says nothing about the receiver.
pub(crate) struct Leave {
    gate: Arc<Gate>,
    receiver: Receiver,
    requests: Arc<Semaphore>,
    probe: bool,
    slow: bool,
}

impl Gate {
    /// `slots`: deliveries at once to all receivers together.
    pub(super) fn new(cap: usize, slots: usize) -> Self {
        let slow_slots = (slots / 2).max(1);
        Self(Mutex::new(State { receivers: HashMap::new(), cap, slow_slots, slow: 0 }))
    }

    /// Asks for leave; otherwise says after which time to ask again.
    pub(super) fn admit(self: &Arc<Self>, receiver: Receiver, now: Instant) -> Result<Leave, Duration> {
        let mut state = self.lock();
        let State { receivers, cap, slow_slots, slow } = &mut *state;
        if receivers.len() >= REMEMBERED && !receivers.contains_key(&receiver) {
            receivers.retain(|_, (endpoint, _)| !endpoint.is_idle(now));
        }
        let (endpoint, requests) =
            receivers.entry(receiver.clone()).or_insert_with(|| (Endpoint::new(now), Arc::new(Semaphore::new(*cap))));
        let is_slow = !endpoint.is_quick();
        if is_slow && *slow >= *slow_slots {
            return Err(Duration::from_secs_f64(rand::random_range(CROWDED)));
        }
        match endpoint.admit(*cap, now) {
            Admission::Wait(wait) => Err(wait),
            Admission::Go { probe } => {
                *slow += usize::from(is_slow);
                let requests = requests.clone();
                Ok(Leave { gate: self.clone(), receiver, requests, probe, slow: is_slow })
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leave {
    /// Waits for one of the requests that the receiver may have at a time. `None`: the receiver has become slow, and this
    /// delivery is to come again later, instead of keeping a slot.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        // never closed
        tokio::time::timeout(TURN, self.requests.clone().acquire_owned()).await.ok()?.ok()
    }

    /// The receiver answered, after this time.
    pub(super) fn answered(self, took: Duration) {
        let mut state = self.gate.lock();
        let cap = state.cap;
        if let Some((endpoint, _)) = state.receivers.get_mut(&self.receiver) {
            endpoint.answered(took, cap);
        }
        drop(state);
    }

    /// The receiver did not answer.
    pub(super) fn silent(self, now: Instant) {
        let mut state = self.gate.lock();
        let opened =
            state.receivers.get_mut(&self.receiver).is_some_and(|(endpoint, _)| endpoint.silent(self.probe, now));
        drop(state);
        if opened {
            metrics::counter!("atelier_webhook_circuits_opened_total").increment(1);
            match &self.receiver {
                Receiver::Webhook(id) => {
                    tracing::info!(webhook = %id, "a receiver does not answer; its deliveries wait")
                }
                Receiver::CallBack(_) => tracing::info!("the receiver of a call back does not answer; it waits"),
            }
        }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.slow = state.slow.saturating_sub(usize::from(self.slow));
        if let Some((endpoint, _)) = state.receivers.get_mut(&self.receiver) {
            endpoint.leave(self.probe);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_receivers_together_leave_half_of_the_slots_to_those_that_answer() {
        let (gate, now) = (Arc::new(Gate::new(32, 64)), Instant::now());
        let good = Receiver::Webhook(Uuid::now_v7());
        if let Ok(leave) = gate.admit(good.clone(), now) {
            leave.answered(Duration::from_millis(5));
        }
        let silent: Vec<_> = (0..100).filter_map(|_| gate.admit(Receiver::Webhook(Uuid::now_v7()), now).ok()).collect();
        assert_eq!(silent.len(), 32);
        let healthy: Vec<_> = (0..32).filter_map(|_| gate.admit(good.clone(), now).ok()).collect();
        assert_eq!(healthy.len(), 32);
        drop(silent);
        assert!(gate.admit(Receiver::CallBack("https://example.com".to_owned()), now).is_ok(), "slots come back");
    }

    #[test]
    fn receivers_that_have_nothing_to_do_are_forgotten() {
        let (gate, start) = (Arc::new(Gate::new(32, 64)), Instant::now());
        for _ in 0..REMEMBERED {
            drop(gate.admit(Receiver::Webhook(Uuid::now_v7()), start));
        }
        let later = start + Duration::from_secs(3_600);
        drop(gate.admit(Receiver::Webhook(Uuid::now_v7()), later));
        assert_eq!(gate.lock().receivers.len(), 1);
    }
}
