//! `pipeline_run`: runs the nodes of a pipeline. What each found is a step, so that a run which is taken over goes on where
//! it was.

use crate::{
    nodes::{self, Output, Ran, Run, Scope},
    outcome::{Outcome, Stop},
    reporter::Reporter,
};
use serde_json::{Map, Value, json};
use shared::{
    kind::PipelineRun,
    models::{Execution, Failure},
    pipeline::{Definition, Kind, Refusal},
};
use std::{collections::HashMap, sync::Arc};

pub(super) async fn run(reporter: &Reporter<'_>, _job: &PipelineRun) -> Result<Outcome, Stop> {
    let mut conn = reporter.context.pool.get().await?;
    let execution = Execution::get(&mut conn, reporter.job_id).await?;
    drop(conn);
    reporter.job_started().await?;
    let definition = match Definition::read(&execution.nodes, &execution.connections) {
        Ok(definition) => definition,
        Err(refusal) => return Ok(invalid(&unreadable(refusal), None)),
    };
    if let Some((node, why)) = definition.problems_to_run(&reporter.context.models).into_iter().next() {
        return Ok(invalid(&why, Some(&node)));
    }
    let nothing = Map::new();
    let inputs = execution.inputs.as_object().unwrap_or(&nothing);
    let run = Run::new(reporter, Ran::Pipeline, execution.user_id, inputs, &definition);
    let scope = Scope { run: &run, definition: &definition, prefix: String::new(), entry: None };
    let walked = nodes::walk(&scope).await?;
    Ok(walked.into_outcome(|outputs| result(&execution, &run, outputs)))
}

fn unreadable(refusal: Refusal) -> String {
    match refusal {
        Refusal::Cyclic(_) => refusal.to_string(),
        Refusal::Invalid(problems) => {
            let problems: Vec<String> =
                problems.into_iter().map(|problem| format!("{} {}", problem.field, problem.message)).collect();
            format!("The pipeline is not valid: {}", problems.join("; "))
        }
    }
}

/// It cannot be run at all.
pub(super) fn invalid(why: &str, node: Option<&str>) -> Outcome {
    let failure = Failure { code: "pipeline_invalid".to_owned(), message: why.to_owned() };
    Outcome::Fail { failure, result: node.map(|node| json!({ "node_id": node })) }
}

/// What is kept of a run that came to its end: the beginnings of its results, and what it used in all attempts.
#[expect(clippy::cast_precision_loss, reason = "shown to people; 2^53 nano-dollars are nine million dollars")]
fn result(execution: &Execution, run: &Run<'_>, outputs: &HashMap<String, Arc<Output>>) -> Value {
    let (spent, executed) = run.counted();
    let mut named = Map::new();
    for node in &run.definition.nodes {
        let name = match &node.kind {
            Kind::Output(config) => config.name.as_deref().unwrap_or(&node.id),
            Kind::Input(_)
            | Kind::Openai(_)
            | Kind::Llm(_)
            | Kind::Prompt(_)
            | Kind::Transform(_)
            | Kind::Condition(_)
            | Kind::Merge(_)
            | Kind::Map(_)
            | Kind::Http(_)
            | Kind::ImageAnalysis(_)
            | Kind::Delay(_)
            | Kind::Integration(_) => {
                if run.definition.connections.iter().any(|connection| connection.source == node.id) {
                    continue;
                }
                &node.id
            }
        };
        if let Some(output) = outputs.get(&node.id) {
            let text = nodes::preview(output.words());
            named.insert(name.to_owned(), json!({ "text": text, "whole": text.len() == output.words().len() }));
        }
    }
    json!({
        "outputs": named,
        "tokens_used": execution.tokens_used + spent.tokens,
        "cost": (execution.cost_nanos + spent.nanos) as f64 / 1e9,
        "node_executions": i64::from(execution.node_executions) + executed,
    })
}
