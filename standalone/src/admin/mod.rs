//! `atelier admin`: what an operator does to an installation that runs, straight in PostgreSQL and Redis.
//!
//! A file a subject. A command does its work and returns an [`Answer`]: JSON for programs, a table or words for people.

mod answer;
mod ground;
mod job;
mod job_changes;
mod organization;
mod organization_limits;
mod queue;
mod user;
mod worker;

use std::{path::PathBuf, process::ExitCode};

use self::{answer::Answer, ground::Ground};
use crate::terminal::Terminal;

/// Look after an installation: organizations, users, queues, workers, jobs
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Print JSON for programs instead of tables for people
    #[arg(long, global = true)]
    json: bool,

    /// Data folder of the `atelier up` to look after [default: that of the environment's DATABASE_URL and REDIS_URL,
    /// else the folder that `atelier up` uses here]
    #[arg(long, global = true, value_name = "DIR")]
    data: Option<PathBuf>,

    #[command(subcommand)]
    subject: Subject,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Subject {
    #[command(subcommand)]
    Organization(organization::Command),
    #[command(subcommand)]
    User(user::Command),
    #[command(subcommand)]
    Queue(queue::Command),
    #[command(subcommand)]
    Worker(worker::Command),
    #[command(subcommand)]
    Job(job::Command),
}

const EXAMPLES: &str = "\
Examples:
  atelier admin organization list                      who uses the installation
  atelier admin organization set-tier acme pro         the organization with the slug acme gets another tier
  atelier admin user disable ada@example.com           keeps somebody out, at once
  atelier admin queue list                             what waits and what runs
  atelier admin queue pause webhooks                   nothing of this queue is begun until `queue resume webhooks`
  atelier admin job list --status failed               what went wrong
  atelier admin job retry --all-failed --kind webhook_delivery
  atelier admin --json worker list                     for programs

The settings are those of the programs: DATABASE_URL, REDIS_URL and so on. If the environment names neither, the
settings of the `atelier up` that was last started here are taken, or of the one whose folder --data names.

Exit status: 0 done; 1 not done, or not all of it; 2 wrong usage.";

/// Runs one command.
pub(crate) async fn main(arguments: Arguments) -> ExitCode {
    let terminal = Terminal::standard();
    match run(arguments.subject, arguments.data).await {
        Ok(answer) => answer.show(&terminal, arguments.json),
        Err(error) => {
            terminal.complain(format_args!("atelier admin: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(subject: Subject, data: Option<PathBuf>) -> anyhow::Result<Answer> {
    let mut ground = Ground::open(data.as_deref()).await?;
    let done = match subject {
        Subject::Organization(command) => organization::run(command, &mut ground).await,
        Subject::User(command) => user::run(command, &mut ground).await,
        Subject::Queue(command) => queue::run(command, &mut ground).await,
        Subject::Worker(command) => worker::run(command, &mut ground).await,
        Subject::Job(command) => job::run(command, &mut ground).await,
    };
    done.map_err(|error| ground.explain(error))
}
