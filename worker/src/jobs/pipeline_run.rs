//! `pipeline_run`: runs the nodes of a pipeline.

use crate::{
    outcome::{Outcome, Stop},
    reporter::Reporter,
};
use shared::kind::PipelineRun;

pub(super) async fn run(_reporter: &Reporter<'_>, _job: &PipelineRun) -> Result<Outcome, Stop> {
    Err(Stop::retry("not_built", "This worker cannot do that yet."))
}
