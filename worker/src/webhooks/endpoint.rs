//! What a worker knows of one receiver: how many requests it may have at once, how fast it answers, and whether it answers
//! at all.

use std::time::{Duration, Instant};

/// Requests at once to a receiver that nothing is known of. Each answer allows one more.
const FIRST_WINDOW: usize = 4;

/// Requests in a row without an answer that open the circuit.
const BROKEN_AFTER: u32 = 5;

/// How long an open circuit keeps all requests back, doubled each time the probe after it fails.
const FIRST_BREAK: Duration = Duration::from_secs(10);
const LONGEST_BREAK: Duration = Duration::from_secs(300);

/// Requests beyond those at once may wait in the process if their turn comes within this time.
const QUEUED: Duration = Duration::from_millis(250);

/// A receiver that takes longer is slow: such receivers share a part of the slots.
const SLOW: Duration = Duration::from_secs(1);

/// The waits of what is put back.
const SHORTEST_WAIT: Duration = Duration::from_millis(400);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// What becomes of a delivery that wants to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may go.
    Go {
        /// It finds out whether a broken receiver is back.
        probe: bool,
    },
    /// It is to come again after this time.
    Wait(Duration),
}

/// One receiver.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// Deliveries admitted and not ended.
    in_flight: usize,
    /// Requests it may have at once.
    window: usize,
    /// How long its answers take, smoothed; unknown before the first.
    latency: Option<Duration>,
    /// Requests in a row without an answer.
    silent: u32,
    circuit: Option<Break>,
    /// When the next delivery that is put back is to come again, so that they come as fast as they can be sent.
    turn: Instant,
    /// Since when deliveries are put back without any answer.
    waiting_since: Option<Instant>,
    pub(super) used: Instant,
}

#[derive(Debug)]
struct Break {
    until: Instant,
    length: Duration,
    probing: bool,
}

impl Endpoint {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            in_flight: 0,
            window: FIRST_WINDOW,
            latency: None,
            silent: 0,
            circuit: None,
            turn: now,
            waiting_since: None,
            used: now,
        }
    }

    /// Whether it is known to answer, and soon.
    pub(super) fn is_quick(&self) -> bool {
        self.silent == 0 && self.latency.is_some_and(|latency| latency < SLOW)
    }

    /// Nothing is lost if it is forgotten.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.in_flight == 0 && self.circuit.is_none() && now.duration_since(self.used) > LONGEST_BREAK
    }

    /// Asks for leave for one more delivery. `cap`: requests to any receiver at once.
    pub(super) fn admit(&mut self, cap: usize, now: Instant) -> Admission {
        self.used = now;
        if let Some(circuit) = &mut self.circuit {
            // those that are put back come again one after the other
            let spread = circuit.length.mul_f64(rand::random_range(0.0..1.0));
            if now < circuit.until {
                return Admission::Wait(circuit.until - now + spread);
            }
            if circuit.probing {
                return Admission::Wait(circuit.length.mul_f64(0.5) + spread);
            }
            circuit.probing = true;
            self.in_flight += 1;
            return Admission::Go { probe: true };
        }
        if self.in_flight < self.room(cap) {
            self.in_flight += 1;
            return Admission::Go { probe: false };
        }
        Admission::Wait(self.put_back(cap, now))
    }

    /// How many deliveries it may have, those included that wait in this process for one of the requests before them.
    fn room(&self, cap: usize) -> usize {
        let window = self.window.min(cap);
        match self.latency {
            Some(latency) if self.is_quick() => {
                let rounds = QUEUED.as_secs_f64() / latency.as_secs_f64().max(0.000_1);
                // a product of two small positive numbers
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is bounded")]
                let queued = (rounds * window as f64).min(10_000.0) as usize;
                window + queued
            }
            _ => window,
        }
    }

    /// When a delivery that finds no room is to come again: at the pace of the receiver if that is known, and otherwise the
    /// later the longer nothing is known.
    fn put_back(&mut self, cap: usize, now: Instant) -> Duration {
        let Some(latency) = self.latency else {
            let since = *self.waiting_since.get_or_insert(now);
            let wait = now.duration_since(since).clamp(SHORTEST_WAIT, LONGEST_WAIT);
            return wait.mul_f64(rand::random_range(0.5..1.5));
        };
        let pace = latency / u32::try_from(self.window.min(cap)).unwrap_or(1).max(1);
        self.turn = self.turn.max(now) + pace;
        let wait = self.turn - now;
        if wait > LONGEST_WAIT {
            // too far ahead to be planned
            return LONGEST_WAIT.mul_f64(rand::random_range(0.5..1.0));
        }
        wait.max(SHORTEST_WAIT.mul_f64(rand::random_range(0.5..1.0)))
    }

    /// It answered, whatever it said.
    pub(super) fn answered(&mut self, took: Duration, cap: usize) {
        self.latency = Some(self.latency.map_or(took, |latency| (latency * 7 + took) / 8));
        self.window = (self.window + 1).min(cap);
        self.silent = 0;
        self.circuit = None;
        self.waiting_since = None;
    }

    /// It did not answer. `probe`: this was to find out whether it is back. Returns whether the circuit opened.
    pub(super) fn silent(&mut self, probe: bool, now: Instant) -> bool {
        self.silent += 1;
        self.window = (self.window / 2).max(1);
        let length = match &self.circuit {
            Some(circuit) if probe => (circuit.length * 2).min(LONGEST_BREAK),
            // those that were on their way when it opened say nothing new
            Some(_) => return false,
            None if self.silent >= BROKEN_AFTER => FIRST_BREAK,
            None => return false,
        };
        self.circuit = Some(Break { until: now + length, length, probing: false });
        true
    }

    /// A delivery that was admitted has ended, however it did.
    pub(super) fn leave(&mut self, probe: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if probe && let Some(circuit) = &mut self.circuit {
            circuit.probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::panic, reason = "a test may stop at a broken assumption")]
    use super::*;

    const CAP: usize = 32;
    const GO: Admission = Admission::Go { probe: false };

    fn wait(admission: Admission) -> Duration {
        let Admission::Wait(wait) = admission else { panic!("it may go") };
        wait
    }

    /// Lets as many go as may, and says how many.
    fn fill(endpoint: &mut Endpoint, now: Instant) -> usize {
        (0..).take_while(|_| endpoint.admit(CAP, now) == GO).count()
    }

    #[test]
    fn a_new_receiver_gets_a_few_requests_and_more_with_each_answer() {
        let now = Instant::now();
        let mut endpoint = Endpoint::new(now);
        assert_eq!(fill(&mut endpoint, now), FIRST_WINDOW);
        for _ in 0..100 {
            endpoint.leave(false);
            // slow, so that nobody waits in the process
            endpoint.answered(Duration::from_secs(3), CAP);
        }
        assert_eq!(fill(&mut endpoint, now), CAP);
        assert!(!endpoint.is_quick());
    }

    #[test]
    fn for_a_quick_receiver_more_wait_in_the_process() {
        let now = Instant::now();
        let mut endpoint = Endpoint::new(now);
        for _ in 0..CAP {
            endpoint.answered(Duration::from_millis(50), CAP);
        }
        assert!(endpoint.is_quick());
        assert_eq!(fill(&mut endpoint, now), CAP + CAP * 5, "as many as are sent within 250 ms");
    }

    #[test]
    fn silence_opens_the_circuit_for_longer_and_longer_with_one_probe_each_time() {
        let mut now = Instant::now();
        let mut endpoint = Endpoint::new(now);
        for silence in 1..=BROKEN_AFTER {
            assert_eq!(endpoint.admit(CAP, now), GO);
            assert_eq!(endpoint.silent(false, now), silence == BROKEN_AFTER);
            endpoint.leave(false);
        }
        let mut length = FIRST_BREAK;
        for _ in 0..8 {
            let waits: Vec<_> = (0..100).map(|_| wait(endpoint.admit(CAP, now))).collect();
            assert!(waits.iter().all(|wait| (length..=length * 2).contains(wait)), "{length:?}: {waits:?}");
            now += length;
            assert_eq!(endpoint.admit(CAP, now), Admission::Go { probe: true });
            assert!(wait(endpoint.admit(CAP, now)) >= length / 2, "one probe at a time");
            assert!(endpoint.silent(true, now));
            endpoint.leave(true);
            length = (length * 2).min(LONGEST_BREAK);
        }
        now += length;
        assert_eq!(endpoint.admit(CAP, now), Admission::Go { probe: true });
        endpoint.leave(true);
        assert_eq!(endpoint.admit(CAP, now), Admission::Go { probe: true }, "a probe that said nothing is repeated");
        endpoint.answered(Duration::from_millis(5), CAP);
        endpoint.leave(true);
        assert_eq!(endpoint.admit(CAP, now), GO, "an answer closes the circuit");
    }

    #[test]
    fn ten_thousand_for_a_silent_receiver_come_again_a_few_times_only() {
        let start = Instant::now();
        let mut endpoint = Endpoint::new(start);
        assert_eq!(fill(&mut endpoint, start), FIRST_WINDOW);
        let mut due = vec![start; 10_000];
        let mut asked = 0;
        // until the first requests time out
        for tick in 0..150 {
            let now = start + Duration::from_millis(100) * tick;
            for at in due.iter_mut().filter(|at| **at <= now) {
                *at = now + wait(endpoint.admit(CAP, now));
                asked += 1;
            }
        }
        assert!(asked <= 10_000 * 9, "asked {asked} times in 15 s");
    }

    #[test]
    fn for_a_slow_receiver_they_come_again_at_its_pace() {
        let now = Instant::now();
        let mut endpoint = Endpoint::new(now);
        for _ in 0..CAP {
            endpoint.answered(Duration::from_secs(2), CAP);
        }
        assert_eq!(fill(&mut endpoint, now), CAP);
        let mut waits: Vec<_> = (0..320).map(|_| wait(endpoint.admit(CAP, now))).collect();
        waits.sort_unstable();
        let last = waits[319].as_secs_f64();
        assert!((19.0..22.0).contains(&last), "32 requests in 2 s: 320 in 20 s, not {last}");
        assert!(wait(endpoint.admit(CAP, now)) <= LONGEST_WAIT);
    }
}
