//! What orchestrations do outside of models, a file each. One that fails is recorded as failed, and the run goes on.

mod bundle;
mod deployment;
mod file_system;
mod git;

use super::{
    Trouble,
    output::Output,
    ran::Ran,
    scope::{Arrived, Scope},
};
use shared::{
    models::Orchestration,
    orchestration::{phase_filename, phase_step, summary_filename},
    pipeline::Integration,
};

/// Does an operation once. `name`: that of its step.
pub(super) async fn run(
    scope: &Scope<'_>,
    name: &str,
    integration: &Integration,
    arrived: &Arrived,
) -> Result<Output, Trouble> {
    let Ran::Orchestration(run) = scope.run.ran else {
        return Err(Trouble::lasting("Only orchestrations do this."));
    };
    match integration {
        Integration::File(phase) => {
            let text = phase_text(arrived, *phase)?;
            file_system::keep(scope, run, name, &phase_filename(run, *phase), text.to_owned()).await
        }
        Integration::Commit(phase) => {
            git::commit(scope, run, *phase, phase_text(arrived, *phase)?, arrived.since).await
        }
        Integration::Summary(word) => {
            file_system::keep(scope, run, name, &summary_filename(word), summary(run, arrived)).await
        }
        Integration::Deployment => deployment::request(scope, run, name, arrived).await,
    }
}

/// What a phase has answered.
fn phase_text(arrived: &Arrived, phase: usize) -> Result<&str, Trouble> {
    let output = arrived.known.get(&phase_step(phase));
    output.map(|output| output.words()).ok_or_else(|| Trouble::integration("The phase has no text.", false))
}

/// All phases in one document.
fn summary(run: &Orchestration, arrived: &Arrived) -> String {
    let phases = run.phases.iter().enumerate().filter_map(|(phase, name)| {
        let output = arrived.known.get(&phase_step(phase))?;
        Some(format!("## Phase {phase}: {name}\n\n{}\n", output.words()))
    });
    format!("# {}\n\n{}", run.topic, phases.collect::<Vec<_>>().join("\n"))
}
