//! A schedule of a pipeline.

use super::{Time, word_lists};
use serde::Serialize;
use serde_json::Value;
use shared::models::{Missed, PipelineSchedule};
use utoipa::ToSchema;
use uuid::Uuid;

/// When a pipeline runs by itself.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Schedule)]
pub(crate) struct ScheduleView {
    id: Uuid,
    pipeline_id: Uuid,
    /// Five fields, or six with seconds in front.
    cron: String,
    /// A name of the IANA time zone database.
    timezone: String,
    /// {node id: value}, for every run.
    #[schema(value_type = Object)]
    inputs: Value,
    enabled: bool,
    /// What becomes of ticks that nobody was there for.
    #[schema(schema_with = word_lists::missed)]
    missed: Missed,
    /// Null while it is not enabled.
    #[schema(required)]
    next_run_at: Option<Time>,
    #[schema(required)]
    last_run_at: Option<Time>,
    created_at: Time,
    updated_at: Time,
}

impl From<PipelineSchedule> for ScheduleView {
    fn from(schedule: PipelineSchedule) -> Self {
        Self {
            id: schedule.id,
            pipeline_id: schedule.pipeline_id,
            cron: schedule.cron,
            timezone: schedule.timezone,
            inputs: schedule.inputs,
            enabled: schedule.enabled,
            missed: schedule.missed,
            next_run_at: schedule.next_run_at.map(Time),
            last_run_at: schedule.last_run_at.map(Time),
            created_at: schedule.created_at.into(),
            updated_at: schedule.updated_at.into(),
        }
    }
}
