//! How this replica answers organizations: kept by the minute, and written as a whole again and again, since a write for each
//! request would cost more than the request. What could not be written stays, and is written later.

use super::Times;
use crate::state::State;
use actix_web::{http::StatusCode, web};
use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use shared::{
    db,
    models::{RequestMinute, SECONDS},
};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

/// How often it is written.
const WRITTEN_EVERY: Duration = Duration::from_secs(2);

/// Most minutes of organizations that are remembered. What would begin another one is not counted.
const MOST: usize = 20_000;

/// Minutes per statement.
const PAGE: usize = 500;

/// A minute that is written stays until it has been over for so many seconds: the clock may be set back a little.
const STAYS: i64 = 120;

/// An organization, and the minutes since 1970.
type Key = (Uuid, i64);

/// Requests of this replica.
pub(crate) struct Requests {
    replica: Uuid,
    minutes: Mutex<HashMap<Key, Minute>>,
    /// One write after another: an older state of a minute is not to come after a newer one.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Clone)]
struct Minute {
    requests: i64,
    response_ms: f64,
    errors_4xx: i64,
    errors_5xx: i64,
    seconds: [i32; SECONDS],
    times: Times,
    /// Requests when it was last written.
    written: i64,
}

impl Minute {
    fn new() -> Self {
        let times = Times::default();
        Self { requests: 0, response_ms: 0.0, errors_4xx: 0, errors_5xx: 0, seconds: [0; SECONDS], times, written: 0 }
    }

    fn add(&mut self, second: usize, status: StatusCode, took: Duration) {
        self.requests += 1;
        self.response_ms += took.as_secs_f64() * 1e3;
        self.errors_4xx += i64::from(status.is_client_error());
        self.errors_5xx += i64::from(status.is_server_error());
        if let Some(count) = self.seconds.get_mut(second) {
            *count += 1;
        }
        self.times.add(took);
    }

    fn row(&self, (organization_id, minute): Key) -> Result<RequestMinute> {
        Ok(RequestMinute {
            organization_id,
            minute: DateTime::from_timestamp(minute * 60, 0).context("a minute beyond all time")?,
            requests: self.requests,
            response_ms: self.response_ms,
            errors_4xx: self.errors_4xx,
            errors_5xx: self.errors_5xx,
            seconds: self.seconds.to_vec(),
            histogram: self.times.to_bytes()?,
        })
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self { replica: Uuid::new_v4(), minutes: Mutex::default(), writing: tokio::sync::Mutex::default() }
    }
}

impl Requests {
    /// A request of an organization was answered.
    pub(crate) fn count(&self, organization_id: Uuid, status: StatusCode, took: Duration) {
        let counted = self.with(|minutes| {
            // read in here, so that time goes on from one request to the next
            let now = Utc::now().timestamp();
            let key = (organization_id, now.div_euclid(60));
            if minutes.len() >= MOST && !minutes.contains_key(&key) {
                return false;
            }
            let second = usize::try_from(now.rem_euclid(60)).unwrap_or_default();
            minutes.entry(key).or_insert_with(Minute::new).add(second, status, took);
            true
        });
        if !counted {
            metrics::counter!("atelier_request_statistics_lost_total").increment(1);
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut HashMap<Key, Minute>) -> T) -> T {
        act(&mut self.minutes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Writes what has changed; what could not be written waits for the next time.
    pub(crate) async fn write(&self, pool: &db::Pool) {
        let _turn = self.writing.lock().await;
        if let Err(error) = self.write_changed(pool).await {
            tracing::debug!("how requests were answered was not written yet: {error:#}");
        }
        let over = Utc::now().timestamp() - STAYS;
        self.with(|minutes| {
            minutes.retain(|(_, minute), known| known.written < known.requests || (minute + 1) * 60 > over);
        });
    }

    async fn write_changed(&self, pool: &db::Pool) -> Result<()> {
        let changed: Vec<(Key, Minute)> = self.with(|minutes| {
            let changed = minutes.iter().filter(|(_, minute)| minute.written < minute.requests);
            changed.map(|(key, minute)| (*key, minute.clone())).collect()
        });
        for page in changed.chunks(PAGE) {
            let rows = page.iter().map(|(key, minute)| minute.row(*key)).collect::<Result<Vec<_>>>()?;
            RequestMinute::write(&mut *pool.get().await?, self.replica, &rows).await?;
            self.with(|minutes| {
                for (key, written) in page {
                    if let Some(minute) = minutes.get_mut(key) {
                        minute.written = written.requests;
                    }
                }
            });
        }
        Ok(())
    }
}

/// Writes again and again.
pub(crate) async fn keep_writing(state: web::Data<State>) {
    let mut ticks = interval(WRITTEN_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = state.shutdown.cancelled() => return,
        }
        // never cut off: a write under way is waited for
        state.answered.write(&state.pool).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_summed_up_by_organization_and_their_number_is_bounded() {
        let requests = Requests::default();
        let organization = Uuid::from_u128(1);
        for status in [StatusCode::OK, StatusCode::NOT_FOUND, StatusCode::BAD_GATEWAY, StatusCode::CREATED] {
            requests.count(organization, status, Duration::from_millis(5));
        }
        let (mut sum, mut seconds) = (Minute::new(), 0);
        requests.with(|minutes| {
            for ((_, _), minute) in minutes.iter() {
                sum.requests += minute.requests;
                sum.response_ms += minute.response_ms;
                sum.errors_4xx += minute.errors_4xx;
                sum.errors_5xx += minute.errors_5xx;
                seconds += minute.seconds.iter().sum::<i32>();
            }
        });
        assert_eq!((sum.requests, sum.errors_4xx, sum.errors_5xx, seconds), (4, 1, 1, 4));
        assert!((sum.response_ms - 20.0).abs() < 1e-9);
        for number in 0..2 * MOST {
            requests.count(Uuid::from_u128(number as u128 + 2), StatusCode::OK, Duration::ZERO);
        }
        requests.with(|minutes| assert_eq!(minutes.len(), MOST));
    }
}
