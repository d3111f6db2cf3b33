//! `atelier admin queue`: what waits, and whether it may begin.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use shared::{
    kind::Kind,
    models::{QueueCounts, QueuePause},
    queue::{Depth, Queue, QueueError},
};

use super::{
    answer::{Answer, at, listed, maybe_at, or_dash},
    ground::{Ground, away, unknown},
};

/// Queues: what waits, and whether it may begin
#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Command {
    List(List),
    Pause(Pause),
    Resume(Resume),
}

/// List the queues with what waits and runs, as PostgreSQL and as Redis know it
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
waiting, delayed and running are counted in PostgreSQL, which is right; ready, later and leased are what Redis
knows, and may lag behind by seconds. listeners are worker processes that serve the queue.

Examples:
  atelier admin queue list
  atelier admin queue list --json")]
pub(super) struct List {}

/// Begin nothing of a queue until it is resumed
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Jobs go on being accepted and wait; those that run go on. Workers need no restart, and losing Redis does not resume it.

Examples:
  atelier admin queue pause webhooks")]
pub(super) struct Pause {
    /// Name of the queue
    queue: String,
}

/// Let a paused queue go on, at once
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  atelier admin queue resume webhooks")]
pub(super) struct Resume {
    /// Name of the queue
    queue: String,
}

/// A queue as the list shows it.
struct Line {
    queue: &'static str,
    kinds: Vec<&'static str>,
    counts: Option<QueueCounts>,
    paused_at: Option<DateTime<Utc>>,
    depth: Option<Depth>,
    listeners: Option<u64>,
}

pub(super) async fn run(command: Command, ground: &mut Ground) -> anyhow::Result<Answer> {
    match command {
        Command::List(List {}) => list(ground).await,
        Command::Pause(Pause { queue }) => {
            let queue = known(&queue)?;
            let changed = QueuePause::insert(&mut ground.conn, queue).await?;
            let told = ground.queue(queue).pause().await;
            Ok(answer(queue, true, changed).with_remark(told.err().as_ref().map(away)))
        }
        Command::Resume(Resume { queue }) => {
            let queue = known(&queue)?;
            let changed = QueuePause::delete(&mut ground.conn, queue).await?;
            let told = ground.queue(queue).resume().await;
            Ok(answer(queue, false, changed).with_remark(told.err().as_ref().map(away)))
        }
    }
}

fn known(name: &str) -> anyhow::Result<&'static str> {
    let queues = Kind::queues();
    queues.into_iter().find(|queue| *queue == name).ok_or_else(|| unknown("queue", name, "queue list"))
}

fn answer(queue: &str, paused: bool, changed: bool) -> Answer {
    let words = match (paused, changed) {
        (true, true) => format!("{queue} is paused; `atelier admin queue resume {queue}` lets it go on"),
        (true, false) => format!("{queue} was paused already"),
        (false, true) => format!("{queue} goes on"),
        (false, false) => format!("{queue} was not paused"),
    };
    Answer::new(json!({ "queue": queue, "paused": paused, "changed": changed }), words)
}

async fn list(ground: &mut Ground) -> anyhow::Result<Answer> {
    let counts = QueueCounts::list(&mut ground.conn).await?;
    let mut counts: HashMap<String, QueueCounts> = counts.into_iter().map(|line| (line.queue.clone(), line)).collect();
    let pauses = QueuePause::list(&mut ground.conn).await?;
    let (mut lines, mut remark) = (Vec::new(), None);
    for name in Kind::queues() {
        let mut seen = None;
        // a Redis that is away is asked once
        if remark.is_none() {
            match look(&ground.queue(name)).await {
                Ok(found) => seen = Some(found),
                Err(error) => remark = Some(format!("what Redis knows is missing: {error}")),
            }
        }
        lines.push(Line {
            queue: name,
            kinds: Kind::ALL.iter().filter(|kind| kind.queue() == name).map(|kind| kind.as_str()).collect(),
            counts: counts.remove(name),
            paused_at: pauses.iter().find(|pause| pause.queue == name).map(|pause| pause.paused_at),
            depth: seen.map(|(depth, _)| depth),
            listeners: seen.map(|(_, listeners)| listeners),
        });
    }
    let head =
        ["queue", "waiting", "delayed", "running", "waiting since", "ready", "later", "leased", "listeners", "paused"];
    let rows = lines.iter().map(row).collect();
    let all: Vec<Value> = lines.iter().map(view).collect();
    Ok(Answer::new(json!({ "queues": all }), listed(head, rows, "")).with_remark(remark))
}

/// What Redis knows of a queue.
async fn look(queue: &Queue) -> Result<(Depth, u64), QueueError> {
    Ok((queue.depth().await?, queue.listeners().await?))
}

fn row(line: &Line) -> [String; 10] {
    let count = |of: fn(&QueueCounts) -> i64| line.counts.as_ref().map_or(0, of).to_string();
    [
        line.queue.to_owned(),
        count(|counts| counts.waiting),
        count(|counts| counts.delayed),
        count(|counts| counts.running),
        maybe_at(line.counts.as_ref().and_then(|counts| counts.waiting_since)),
        or_dash(line.depth.map(|depth| depth.ready)),
        or_dash(line.depth.map(|depth| depth.delayed)),
        or_dash(line.depth.map(|depth| depth.leased)),
        or_dash(line.listeners),
        line.paused_at.map_or_else(|| "no".to_owned(), |since| format!("since {}", at(since))),
    ]
}

fn view(line: &Line) -> Value {
    let count = |of: fn(&QueueCounts) -> i64| line.counts.as_ref().map_or(0, of);
    json!({
        "queue": line.queue,
        "kinds": line.kinds,
        "waiting": count(|counts| counts.waiting),
        "delayed": count(|counts| counts.delayed),
        "running": count(|counts| counts.running),
        "waiting_since": line.counts.as_ref().and_then(|counts| counts.waiting_since),
        "paused": line.paused_at.is_some(),
        "paused_at": line.paused_at,
        "listeners": line.listeners,
        "redis": line.depth.map(|depth| json!({
            "ready": depth.ready, "delayed": depth.delayed, "leased": depth.leased,
        })),
    })
}
