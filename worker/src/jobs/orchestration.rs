//! `orchestration`: runs the phases of a project, one after the other, on the engine of pipelines. What each found is a
//! step, so that a run which is taken over goes on where it was.

use super::pipeline_run::invalid;
use crate::{
    nodes::{self, Ran, Run, Scope},
    outcome::{Outcome, Stop},
    reporter::Reporter,
};
use serde_json::{Map, json};
use shared::{
    kind::Orchestration as Told,
    llm::Catalogue,
    models::{Orchestration, Project},
    orchestration::{definition, start_value},
};

/// Tokens of a prompt beside the answers of earlier phases: instructions, description, topic.
const AROUND: u32 = 1_500;

/// Characters of one token, at least, in most texts.
const CHARACTERS: u32 = 3;

/// Characters of earlier answers where the model's room is not known.
const ROOM: u32 = 24_000;

/// Most characters of earlier answers, however much room there is.
const MOST: u32 = 200_000;

pub(super) async fn run(reporter: &Reporter<'_>, _told: &Told) -> Result<Outcome, Stop> {
    let mut conn = reporter.context.pool.get().await?;
    let orchestration = Orchestration::get(&mut conn, reporter.job_id).await?;
    let project = Project::find(&mut conn, orchestration.project_id, orchestration.organization_id).await?;
    drop(conn);
    // its runs go with a project
    let Some(project) = project else { return Err(Stop::Lost) };
    reporter.job_started().await?;
    let definition = definition(&orchestration, room(&reporter.context.models, &orchestration));
    if let Some((node, why)) = definition.problems_to_run(&reporter.context.models).into_iter().next() {
        return Ok(invalid(&why, Some(&node)));
    }
    let (name, value) = start_value(&orchestration, &project.name, &project.description);
    let inputs = Map::from_iter([(name.to_owned(), value)]);
    let run = Run::new(reporter, Ran::Orchestration(&orchestration), orchestration.user_id, &inputs, &definition);
    let scope = Scope { run: &run, definition: &definition, prefix: String::new(), entry: None };
    let walked = nodes::walk(&scope).await?;
    Ok(walked.into_outcome(|_| json!({ "phases": orchestration.phases.len() })))
}

/// How many characters of earlier answers the model can be shown beside all else.
fn room(models: &Catalogue, orchestration: &Orchestration) -> usize {
    let Some(served) = models.find_served(&orchestration.model) else { return ROOM as usize };
    let answer = u32::try_from(orchestration.max_tokens).unwrap_or(u32::MAX).min(served.model.max_tokens);
    // of a small model the answers get the half
    let answer = answer.min(served.context / 2);
    let tokens = served.context.saturating_sub(answer).saturating_sub(AROUND);
    tokens.saturating_mul(CHARACTERS).min(MOST) as usize
}
