//! `atelier admin worker`: who works.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use shared::{models::BusyWorker, presence::Presence};

use super::{
    answer::{Answer, listed, maybe_at, or_dash},
    ground::Ground,
};

/// Worker processes
#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Command {
    List(List),
}

/// List the workers that are there, and what they have in work
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Workers say in Redis that they are there, and in PostgreSQL with each job that they hold. One that is in
PostgreSQL alone has died or lost Redis; the scheduler gives its jobs to others after some seconds without a
sign of life.

Examples:
  atelier admin worker list
  atelier admin worker list --json")]
pub(super) struct List {}

/// What is known of a worker.
#[derive(Default)]
struct Line {
    presence: Option<Presence>,
    running: i64,
    queues: Vec<String>,
    seen_at: Option<DateTime<Utc>>,
}

pub(super) async fn run(command: Command, ground: &mut Ground) -> anyhow::Result<Answer> {
    let Command::List(List {}) = command;
    let busy = BusyWorker::list(&mut ground.conn).await?;
    let (present, remark) = match Presence::list(&ground.redis, &ground.prefix).await {
        Ok(present) => (present, None),
        Err(error) => (Vec::new(), Some(format!("workers that have nothing to do are missing: {error}"))),
    };
    let mut lines: BTreeMap<String, Line> = BTreeMap::new();
    for (presence, seen_at) in present {
        let queues = presence.queues.clone();
        let name = presence.worker.clone();
        lines.insert(name, Line { presence: Some(presence), running: 0, queues, seen_at: Some(seen_at) });
    }
    for worker in busy {
        let line = lines.entry(worker.worker).or_default();
        line.running = worker.running;
        line.seen_at = line.seen_at.max(worker.heartbeat_at);
        if line.presence.is_none() {
            line.queues = worker.queues;
        }
    }
    let rows = lines.iter().map(|(name, line)| row(name, line)).collect();
    let head = ["worker", "running", "slots", "queues", "seen", "since", "version"];
    let all: Vec<Value> = lines.iter().map(|(name, line)| view(name, line)).collect();
    Ok(Answer::new(json!({ "workers": all }), listed(head, rows, "no worker is there")).with_remark(remark))
}

fn row(name: &str, line: &Line) -> [String; 7] {
    [
        name.to_owned(),
        line.running.to_string(),
        or_dash(line.presence.as_ref().map(|presence| presence.slots)),
        line.queues.join(", "),
        maybe_at(line.seen_at),
        maybe_at(line.presence.as_ref().map(|presence| presence.started_at)),
        or_dash(line.presence.as_ref().map(|presence| &presence.version)),
    ]
}

fn view(name: &str, line: &Line) -> Value {
    json!({
        "worker": name,
        "running": line.running,
        "slots": line.presence.as_ref().map(|presence| presence.slots),
        "queues": line.queues,
        "seen_at": line.seen_at,
        "started_at": line.presence.as_ref().map(|presence| presence.started_at),
        "version": line.presence.as_ref().map(|presence| &presence.version),
        "present": line.presence.is_some(),
    })
}
