//! `probe`: passes through every stage and does nothing else, so that the queue can be tested and measured.

use crate::{
    outcome::{Outcome, Stop},
    reporter::{Reporter, nothing},
};
use serde_json::json;
use shared::{kind::Probe, models::StepKey};
use std::time::Duration;
use uuid::Uuid;

/// Longest hold, in milliseconds.
const MAX_HOLD_MS: u64 = 60_000;

/// Most steps.
const MAX_STEPS: u16 = 100;

pub(super) async fn run(reporter: &Reporter<'_>, probe: &Probe) -> Result<Outcome, Stop> {
    let hold = Duration::from_millis(probe.hold_ms.min(MAX_HOLD_MS));
    let steps = probe.steps.min(MAX_STEPS);
    if steps == 0 && !hold.is_zero() {
        tokio::time::sleep(hold).await;
    }
    for number in 0..steps {
        let name = format!("step_{number}");
        let key = StepKey { item: Uuid::nil(), name: &name, position: i16::try_from(number).unwrap_or(i16::MAX) };
        if reporter.finished::<serde_json::Value>(key).is_some() {
            continue;
        }
        let begun = reporter.begin(key).await?;
        tokio::time::sleep(hold).await;
        reporter.complete(begun, &json!({ "held_ms": probe.hold_ms }), nothing).await?;
    }
    Ok(Outcome::Done(json!({ "steps": steps })))
}
