//! The life of one node: tried until it works or is given up, then recorded.

use super::{
    Flaw, Trouble, Wait, delay, is_instant,
    output::{KeepError, Output},
    ran::Left,
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
    models::{Execution, Failure, ProjectRepository},
    pipeline::{Kind, Node, OnError, Retry},
};
use std::{sync::Arc, time::Duration};

/// How often a node is run again because others were faster with what it changes.
const MOST_OVERTAKEN: u32 = 20;

/// Longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What became of a node.
pub(super) enum Ended {
    Done(Arc<Output>),
    Failed(Failure),
    /// Until when, and since when it runs.
    Wait(Wait, DateTime<Utc>),
}

/// What became of the record of a node.
enum Recorded {
    Ended(Ended),
    /// Nothing was recorded: others have changed what the node had built on.
    Overtaken,
}

/// Runs the node at this place. `started_at`: it began before, and waited.
pub(super) async fn run(
    scope: &Scope<'_>,
    place: usize,
    mut arrived: Arrived,
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
    arrived.since = begun.started_at();
    let mut overtaken = 0;
    let found = loop {
        let output = match tries(scope, node, &name, &arrived).await {
            Ok(output) => output,
            Err(trouble) => break trouble,
        };
        match record(scope, node, &begun, output).await? {
            Recorded::Ended(ended) => return Ok(ended),
            Recorded::Overtaken if overtaken < MOST_OVERTAKEN => {
                overtaken += 1;
                tokio::time::sleep(Duration::from_millis(rand::random_range(20..500))).await;
            }
            Recorded::Overtaken => break Trouble::overtaken(),
        }
    };
    match found {
        Trouble::Stop(stop) => Err(stop),
        Trouble::Wait(wait) => {
            if before.is_none() {
                reporter.log(LogLevel::Info, Some(&name), format!("The node waits: {}", wait.reason)).await;
            }
            Ok(Ended::Wait(wait, begun.started_at()))
        }
        Trouble::Node(flaw) => give_up(scope, node, begun, flaw.failure).await,
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
        | Kind::Output(_)
        | Kind::Integration(_) => scope.run.slots.acquire().await.ok(),
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
    match record(scope, node, &begun, output).await? {
        Recorded::Ended(ended) => Ok(ended),
        // it leaves nothing that anybody could be faster with
        Recorded::Overtaken => Err(Stop::retry("database_error", "The database took back what was recorded.")),
    }
}

async fn fail(scope: &Scope<'_>, node: &Node, begun: Begun<'_>, failure: Failure) -> Result<Ended, Stop> {
    let subject = scope.run.ran.subject(node, &scope.step_name(&node.id));
    let message = format!("{subject} failed: {}", failure.message);
    let failure = Failure { code: failure.code, message };
    // in a chain it is for the map to say what follows; its own step is a part of that one
    if scope.entry.is_none() {
        let id = scope.run.reporter.job_id;
        let node_id = scope.run.ran.notes_error_node().then(|| node.id.clone());
        let also = also(move |conn| {
            let node_id = node_id.clone();
            async move {
                match node_id {
                    Some(node_id) => Execution::set_error_node(conn, id, &node_id).await,
                    None => Ok(()),
                }
            }
            .boxed()
        });
        scope.run.reporter.fail(begun, &failure.message, 0, also).await?;
    }
    Ok(Ended::Failed(failure))
}

/// Records what a node found, what it used, and what it leaves.
async fn record(scope: &Scope<'_>, node: &Node, begun: &Begun<'_>, output: Output) -> Result<Recorded, Stop> {
    let reporter = scope.run.reporter;
    let name = scope.step_name(&node.id);
    let result = match output.to_result(scope.run.context, reporter.job_id, &name).await {
        Ok(result) => result,
        Err(KeepError::Storage(why)) => {
            return Err(Stop::retry("storage_unavailable", format!("The object store did not answer: {why}")));
        }
        Err(KeepError::TooLarge) => {
            let ended = too_large(scope, node, begun, "Its output is too large to be kept.").await;
            return ended.map(Recorded::Ended);
        }
        Err(KeepError::Unwritable(why)) => return too_large(scope, node, begun, &why).await.map(Recorded::Ended),
    };
    let subject = scope.run.ran.subject(node, &name);
    let message = match &output.error {
        None => format!("{subject} is done."),
        Some(_) => format!("{subject} failed, and the run goes on."),
    };
    let mut told = json!({ "message": message });
    if let Some(error) = &output.error {
        told["error"] = error.clone();
    }
    for key in ["tokens_used", "cost"] {
        if let Some(value) = output.metadata.get(key) {
            told[key] = value.clone();
        }
    }
    let id = reporter.job_id;
    let (left, count) = (output.left.clone(), scope.run.ran.count(node, &output));
    let also = also(move |conn| {
        let (left, count) = (left.clone(), count.clone());
        async move {
            if let Some(left) = left {
                left.write(conn).await?;
            }
            count.write(conn, id).await
        }
        .boxed()
    });
    if !reporter.complete_told(begun, result, told, also).await? {
        if let Some(Left::Repository(repository, _)) = &output.left {
            ProjectRepository::discard(&mut *scope.run.context.pool.get().await?, &repository.s3_key).await?;
        }
        return Ok(Recorded::Overtaken);
    }
    scope.run.count(output.spent);
    let output = Arc::new(output);
    scope.note(&name, Part::Done(output.clone()));
    Ok(Recorded::Ended(Ended::Done(output)))
}

async fn too_large(scope: &Scope<'_>, node: &Node, begun: &Begun<'_>, why: &str) -> Result<Ended, Stop> {
    let failure = Failure { code: "node_failed".to_owned(), message: why.to_owned() };
    fail(scope, node, begun.again(), failure).await
}
