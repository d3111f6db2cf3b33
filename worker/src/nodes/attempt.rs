//! The life of one node: tried until it works or is given up, then recorded.

use super::{
    Flaw, Trouble, Wait, delay, is_instant,
    output::{KeepError, Output},
    run as run_once,
    scope::{Arrived, Part, Scope},
};
use crate::{
    outcome::Stop,
    reporter::{Begun, also},
};
use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use serde_json::{Value, json};
use shared::{
    events::LogLevel,
    models::{Execution, Failure},
    pipeline::{Kind, Node, OnError, Retry},
};
use std::{sync::Arc, time::Duration};

/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What became of a node.
pub(super) enum Ended {
    Done(Arc<Output>),
    Failed(Failure),
    /// Until when, and since when it runs.
    Wait(Wait, DateTime<Utc>),
}

/// Runs the node at this place. `started_at`: it began before, and waited.
pub(super) async fn run(
    scope: &Scope<'_>,
    place: usize,
    arrived: Arrived,
    started_at: Option<DateTime<Utc>>,
) -> Result<Ended, Stop> {
    let node = &scope.definition.nodes[place];
    let reporter = scope.run.reporter;
    let name = scope.step_name(&node.id);
    let key = scope.key(&name, place);
    let before = started_at.or_else(|| reporter.begun_before(key));
    let begun = match before {
        Some(started_at) => Begun::at(key, started_at),
        None if is_instant(&node.kind) => Begun::at(key, Utc::now()),
        None => reporter.begin(key).await?,
    };
    scope.note(&name, Part::Begun(begun.started_at()));
    if let Kind::Delay(config) = &node.kind
        && let Some(wait) = delay::left(config, begun.started_at())
    {
        return Ok(Ended::Wait(wait, begun.started_at()));
    }
    match tries(scope, node, &name, &arrived).await {
        Ok(output) => record(scope, node, &begun, output).await,
        Err(Trouble::Stop(stop)) => Err(stop),
        Err(Trouble::Wait(wait)) => {
            if before.is_none() {
                reporter.log(LogLevel::Info, Some(&name), format!("The node waits: {}", wait.reason)).await;
            }
            Ok(Ended::Wait(wait, begun.started_at()))
        }
        Err(Trouble::Node(flaw)) => give_up(scope, node, begun, flaw.failure).await,
    }
}

/// Tries a node as often as its settings say.
async fn tries(scope: &Scope<'_>, node: &Node, name: &str, arrived: &Arrived) -> Result<Output, Trouble> {
    let retry = node.settings.retry.unwrap_or(Retry { attempts: 1, backoff_ms: 0 });
    let mut pause = Duration::from_millis(retry.backoff_ms).min(LONGEST_PAUSE);
    let mut tried = 0;
    loop {
        tried += 1;
        let flaw = match once(scope, node, name, arrived).await {
            Err(Trouble::Node(flaw)) if flaw.passing && tried < retry.attempts => flaw,
            other => return other,
        };
        let why = format!("Try {tried} of {} failed: {}", retry.attempts, flaw.failure.message);
        scope.run.reporter.log(LogLevel::Warn, Some(name), why).await;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn once(scope: &Scope<'_>, node: &Node, name: &str, arrived: &Arrived) -> Result<Output, Trouble> {
    // a map only waits for the nodes of its chain, which take slots themselves
    let _slot = match &node.kind {
        Kind::Map(_) => None,
        Kind::Input(_)
        | Kind::Openai(_)
        | Kind::Llm(_)
        | Kind::Prompt(_)
        | Kind::Transform(_)
        | Kind::Condition(_)
        | Kind::Merge(_)
        | Kind::Http(_)
        | Kind::ImageAnalysis(_)
        | Kind::Delay(_)
        | Kind::Output(_) => scope.run.slots.acquire().await.ok(),
    };
    let work = run_once(scope, node, name, arrived);
    let Some(seconds) = node.settings.timeout_seconds else { return work.await };
    tokio::time::timeout(Duration::from_secs(seconds), work).await.unwrap_or_else(|_| {
        let message = format!("It took longer than {seconds} s.");
        Err(Trouble::Node(Flaw { failure: Failure { code: "node_timeout".to_owned(), message }, passing: true }))
    })
}

/// What follows a failure for good.
async fn give_up(scope: &Scope<'_>, node: &Node, begun: Begun<'_>, failure: Failure) -> Result<Ended, Stop> {
    let reporter = scope.run.reporter;
    let mut output = match &node.settings.on_error {
        OnError::Fail => return fail(scope, node, begun, failure).await,
        OnError::Continue => Output::text(String::new()),
        OnError::Default(value) => {
            let text = value.get("text").and_then(Value::as_str);
            text.map_or_else(|| Output::json(value.clone()), |text| Output::text(text.to_owned()))
        }
    };
    // a condition that could not decide has decided against it
    if let Kind::Condition(_) = node.kind {
        output.branch = Some(false);
    }
    let why = format!("The node failed, and the run goes on: {}", failure.message);
    reporter.log(LogLevel::Warn, Some(&scope.step_name(&node.id)), why).await;
    output.error = Some(json!({ "code": failure.code, "message": failure.message }));
    record(scope, node, &begun, output).await
}

async fn fail(scope: &Scope<'_>, node: &Node, begun: Begun<'_>, failure: Failure) -> Result<Ended, Stop> {
    let message = format!("The node {} failed: {}", scope.step_name(&node.id), failure.message);
    let failure = Failure { code: failure.code, message };
    // in a chain it is for the map to say what follows; its own step is a part of that one
    if scope.entry.is_none() {
        let (id, node_id) = (scope.run.reporter.job_id, node.id.clone());
        let also = also(move |conn| {
            let node_id = node_id.clone();
            async move { Execution::set_error_node(conn, id, &node_id).await }.boxed()
        });
        scope.run.reporter.fail(begun, &failure.message, 0, also).await?;
    }
    Ok(Ended::Failed(failure))
}

/// Records what a node found, and what it used.
async fn record(scope: &Scope<'_>, node: &Node, begun: &Begun<'_>, output: Output) -> Result<Ended, Stop> {
    let reporter = scope.run.reporter;
    let name = scope.step_name(&node.id);
    let result = match output.to_result(scope.run.context, reporter.job_id, &name).await {
        Ok(result) => result,
        Err(KeepError::Storage(why)) => {
            return Err(Stop::retry("storage_unavailable", format!("The object store did not answer: {why}")));
        }
        Err(KeepError::TooLarge) => return too_large(scope, node, begun, "Its output is too large to be kept.").await,
        Err(KeepError::Unwritable(why)) => return too_large(scope, node, begun, &why).await,
    };
    let message = match &output.error {
        None => format!("The node {name} is done."),
        Some(_) => format!("The node {name} failed, and the run goes on."),
    };
    let mut told = json!({ "message": message });
    for key in ["tokens_used", "cost"] {
        if let Some(value) = output.metadata.get(key) {
            told[key] = value.clone();
        }
    }
    let (id, spent) = (reporter.job_id, output.spent);
    let also =
        also(move |conn| async move { Execution::count_node(conn, id, spent.tokens, spent.nanos).await }.boxed());
    reporter.complete_told(begun, result, told, also).await?;
    scope.run.count(spent);
    let output = Arc::new(output);
    scope.note(&name, Part::Done(output.clone()));
    Ok(Ended::Done(output))
}

async fn too_large(scope: &Scope<'_>, node: &Node, begun: &Begun<'_>, why: &str) -> Result<Ended, Stop> {
    let failure = Failure { code: "node_failed".to_owned(), message: why.to_owned() };
    fail(scope, node, begun.again(), failure).await
}
