//! The command line of the scheduler, used by the binary `scheduler` and by `atelier scheduler`.

use crate::{Config, prepare, run};
use anyhow::Result;
use shared::{program, telemetry};
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;

/// Does the chores of an installation. Any number may run: one leads, the others stand by.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "scheduler",
    version,
    after_help = "Examples:\n  scheduler prepare   before the first start and after each update\n  \
                  scheduler           for ever after\n\nSettings come from the environment; .env.example lists them."
)]
pub struct Arguments {
    /// What to do instead of the chores.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the scheduler does instead of the chores.
#[derive(Debug, Clone, Copy, clap::Subcommand)]
pub enum Command {
    /// Bring the tables up to date, make the bucket if it is missing, and end.
    Prepare,
}

/// Reads the settings and runs until SIGTERM or Ctrl-C.
pub async fn main(arguments: Arguments) -> ExitCode {
    program::main("scheduler", |shutdown| start(arguments, shutdown)).await
}

async fn start(arguments: Arguments, shutdown: CancellationToken) -> Result<()> {
    let config = Config::from_env()?;
    telemetry::init_logs(&config.telemetry)?;
    match arguments.command {
        Some(Command::Prepare) => prepare(&config).await,
        None => run(config, shutdown).await,
    }
}
