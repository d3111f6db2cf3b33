//! `atelier admin job`: what was asked for, and what became of it.

use serde_json::{Value, json};
use shared::{
    kind::Kind,
    models::{Job, JobFilter, JobLine, JobStatus, JobStep},
};
use uuid::Uuid;

use super::{
    answer::{Answer, at, listed, maybe_at, or_dash, sheet},
    ground::{Ground, unknown},
    job_changes::{self, Discard, Retry},
};

/// Longest error in a list.
const ERROR_CHARS: usize = 60;

/// Jobs, and what became of them
#[derive(Clone, Debug, clap::Subcommand)]
pub(super) enum Command {
    List(List),
    Show(Show),
    Retry(Retry),
    Discard(Discard),
}

/// List jobs
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Ended jobs of one status come latest first, waiting ones as they are due; a mix of statuses with the newest job first.

Examples:
  atelier admin job list --status failed
  atelier admin job list --status failed --kind pipeline_run,orchestration --limit 200
  atelier admin job list --status queued --queue images --json")]
pub(super) struct List {
    /// queued, running, completed, failed, cancelled; several with commas
    #[arg(long, value_name = "STATUS", value_delimiter = ',')]
    status: Vec<JobStatus>,

    /// image_analysis, pipeline_run, orchestration, chat_completion, text_generation, webhook_delivery, mail, probe;
    /// several with commas
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    kind: Vec<Kind>,

    /// Names of queues, with commas
    #[arg(long, value_name = "QUEUE", value_delimiter = ',')]
    queue: Vec<String>,

    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=10_000))]
    limit: i64,
}

/// Show a job with its steps and what went wrong in each attempt
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  atelier admin job show 0197a1c2-6f2e-7c31-9d2e-4b1f0c5a7e10")]
pub(super) struct Show {
    /// Its id
    id: Uuid,
}

pub(super) async fn run(command: Command, ground: &mut Ground) -> anyhow::Result<Answer> {
    match command {
        Command::List(List { status, kind, queue, limit }) => {
            for name in &queue {
                if !Kind::queues().contains(&name.as_str()) {
                    return Err(unknown("queue", name, "queue list"));
                }
            }
            let filter = JobFilter { statuses: status, kinds: kind, queues: queue, limit };
            let found = JobLine::list(&mut ground.conn, &filter).await?;
            let rows = found.iter().map(row).collect();
            let head = ["id", "kind", "status", "organization", "attempt", "created", "ended", "error"];
            Ok(Answer::new(json!({ "jobs": found }), listed(head, rows, "no job fits")))
        }
        Command::Show(Show { id }) => show(id, ground).await,
        Command::Retry(retry) => job_changes::retry(retry, ground).await,
        Command::Discard(discard) => job_changes::discard(discard, ground).await,
    }
}

fn row(line: &JobLine) -> [String; 8] {
    let error = line.error_message.as_deref().or(line.error_code.as_deref()).unwrap_or("-");
    let mut short: String = error.chars().take(ERROR_CHARS).collect();
    if short.len() < error.len() {
        short.push('…');
    }
    [
        line.id.to_string(),
        line.kind.to_string(),
        line.status.to_string(),
        line.organization.clone(),
        format!("{} of {}", line.attempt, line.max_attempts),
        at(line.created_at),
        maybe_at(line.finished_at),
        short,
    ]
}

async fn show(id: Uuid, ground: &mut Ground) -> anyhow::Result<Answer> {
    let line = JobLine::find(&mut ground.conn, id).await?;
    let line = line.ok_or_else(|| unknown("job", &id.to_string(), "job list"))?;
    let job = Job::get(&mut ground.conn, id).await?;
    let steps = JobStep::list(&mut ground.conn, id).await?;
    let json = json!({ "job": view(&line, &job, &steps)? });
    let mut words = sheet(vec![
        ("id", line.id.to_string()),
        ("kind", line.kind.to_string()),
        ("queue", line.queue.clone()),
        ("status", line.status.to_string()),
        ("organization", line.organization.clone()),
        ("user", line.user.clone()),
        ("attempt", format!("{} ({} of {} counted)", job.attempt, job.charged_attempts(), job.max_attempts)),
        ("worker", or_dash(line.worker.as_ref())),
        ("due", at(line.run_at)),
        ("created", at(line.created_at)),
        ("started", maybe_at(line.started_at)),
        ("ended", maybe_at(line.finished_at)),
        ("error", or_dash(line.error_message.as_ref().or(line.error_code.as_ref()))),
    ])
    .to_string();
    let rows: Vec<_> = steps
        .iter()
        .map(|step| {
            let took = or_dash(step.duration_ms.map(|ms| format!("{ms} ms")));
            let item = if step.item.is_nil() { String::new() } else { step.item.to_string() };
            [item, step.name.clone(), step.status.to_string(), took, or_dash(step.error_message.as_ref())]
        })
        .collect();
    if !rows.is_empty() {
        words.push_str(&format!("\n{}", listed(["item", "step", "status", "took", "error"], rows, "")));
    }
    let attempts: Vec<_> = job
        .errors
        .as_array()
        .into_iter()
        .flatten()
        .map(|entry| {
            let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
            [entry["attempt"].to_string(), text("at"), text("code"), text("message")]
        })
        .collect();
    if !attempts.is_empty() {
        words.push_str(&format!("\n{}", listed(["attempt", "at", "code", "what went wrong"], attempts, "")));
    }
    Ok(Answer::new(json, words))
}

fn view(line: &JobLine, job: &Job, steps: &[JobStep]) -> anyhow::Result<Value> {
    let mut view = serde_json::to_value(line)?;
    view["user_id"] = json!(job.user_id);
    view["organization_id"] = json!(job.organization_id);
    view["charged_attempts"] = json!(job.charged_attempts());
    view["crashes"] = json!(job.crashes);
    view["cancel_requested"] = json!(job.cancel_requested);
    view["heartbeat_at"] = json!(job.heartbeat_at);
    view["items"] = json!({ "total": job.items_total, "done": job.items_done, "failed": job.items_failed });
    view["errors"] = job.errors.clone();
    // what a mail says may hold a link that opens an account
    view["payload"] = if job.kind == Kind::Mail { Value::Null } else { job.payload.clone() };
    view["result"] = json!(job.result);
    view["steps"] = steps
        .iter()
        .map(|step| {
            json!({
                "item": (!step.item.is_nil()).then_some(step.item),
                "name": step.name,
                "status": step.status,
                "attempt": step.attempt,
                "started_at": step.started_at,
                "completed_at": step.completed_at,
                "duration_ms": step.duration_ms,
                "error_message": step.error_message,
            })
        })
        .collect();
    Ok(view)
}
