//! `delay`: lets time pass, counted from when the node began, in whichever attempt that was.

use super::Wait;
use chrono::{DateTime, TimeDelta, Utc};
use shared::pipeline::Delay;

/// What is left to wait, if anything is.
pub(super) fn left(config: &Delay, started_at: DateTime<Utc>) -> Option<Wait> {
    let seconds = config.seconds.unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, reason = "at most a day, as was checked when the definition was read")]
    let until = started_at + TimeDelta::milliseconds((seconds * 1000.0) as i64);
    (until > Utc::now()).then(|| Wait { until, reason: format!("a delay of {seconds} s") })
}
