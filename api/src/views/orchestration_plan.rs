//! What is to be expected of an orchestration that has just been accepted.

use super::word_lists::phase_status;
use chrono::TimeDelta;
use serde::Serialize;
use shared::{
    models::{JobStep, Orchestration, PhaseDurations, StepStatus},
    orchestration::{phase_code, phase_step},
};
use utoipa::ToSchema;

/// How long a phase takes before anything is known, in milliseconds.
const UNKNOWN: f64 = 300_000.0;

/// Longest estimate of a phase, in milliseconds: a day.
const LONGEST: f64 = 86_400_000.0;

/// A phase that is to come.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct PlannedPhase {
    #[schema(example = "Phase 0")]
    code: String,
    #[schema(example = "Ideation")]
    name: String,
    /// `completed` if an earlier orchestration has done it.
    #[schema(schema_with = phase_status)]
    status: &'static str,
    #[schema(example = "5 minutes")]
    estimated_duration: String,
}

/// The phases with how long each will take, and how long all that are left will take together.
pub(crate) fn planned_phases(
    orchestration: &Orchestration,
    steps: &[JobStep],
    durations: &PhaseDurations,
) -> (Vec<PlannedPhase>, TimeDelta) {
    let mut left = 0.0;
    let phases = orchestration.phases.iter().enumerate().map(|(phase, name)| {
        let step = phase_step(phase);
        let done = steps.iter().any(|found| found.name == step && found.status == StepStatus::Completed);
        let ms = durations.of(name).unwrap_or(UNKNOWN).clamp(0.0, LONGEST);
        left += if done { 0.0 } else { ms };
        PlannedPhase {
            code: phase_code(phase),
            name: name.clone(),
            status: if done { "completed" } else { "pending" },
            estimated_duration: in_words(ms),
        }
    });
    let phases = phases.collect();
    (phases, TimeDelta::milliseconds(whole(left)))
}

/// A duration for people: `12 seconds`, `1 minute`, `5 minutes`, `2 hours`.
fn in_words(ms: f64) -> String {
    let seconds = whole(ms / 1000.0).max(1);
    let (count, unit) = match seconds {
        ..60 => (seconds, "second"),
        60..3600 => ((seconds + 30) / 60, "minute"),
        _ => ((seconds + 1800) / 3600, "hour"),
    };
    if count == 1 { format!("1 {unit}") } else { format!("{count} {unit}s") }
}

#[expect(clippy::cast_possible_truncation, reason = "it is bounded")]
fn whole(number: f64) -> i64 {
    number.round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_as_people_tell_them() {
        for (ms, words) in [
            (0.0, "1 second"),
            (1_400.0, "1 second"),
            (12_000.0, "12 seconds"),
            (60_000.0, "1 minute"),
            (100_000.0, "2 minutes"),
            (UNKNOWN, "5 minutes"),
            (3_600_000.0, "1 hour"),
            (7_300_000.0, "2 hours"),
        ] {
            assert_eq!(in_words(ms), words, "{ms}");
        }
    }
}
