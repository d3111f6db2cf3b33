//! How long runs of a pipeline took lately, remembered for a few seconds: it is told with every accepted run, and asking the
//! table each time would cost more than accepting does.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use uuid::Uuid;

/// How long a figure is good.
const VALID: Duration = Duration::from_secs(10);

/// Pipelines that are remembered at once.
const MOST: usize = 10_000;

/// The middle duration of each pipeline in milliseconds; `None` where nothing was completed yet.
#[derive(Debug, Default)]
pub(crate) struct Durations(Mutex<HashMap<Uuid, (Instant, Option<f64>)>>);

impl Durations {
    /// The figure of a pipeline, if it was asked for a moment ago.
    pub(crate) fn get(&self, pipeline_id: Uuid) -> Option<Option<f64>> {
        let (at, duration) = self.lock().get(&pipeline_id).copied()?;
        (at.elapsed() < VALID).then_some(duration)
    }

    /// Remembers the figure of a pipeline.
    pub(crate) fn put(&self, pipeline_id: Uuid, duration: Option<f64>) {
        let mut known = self.lock();
        if known.len() >= MOST {
            known.retain(|_, (at, _)| at.elapsed() < VALID);
        }
        if known.len() < MOST {
            known.insert(pipeline_id, (Instant::now(), duration));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, (Instant, Option<f64>)>> {
        // nothing panics while it is held; were it so, the map would still be sound
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
