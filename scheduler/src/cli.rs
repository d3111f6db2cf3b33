//! The command line of the scheduler, used by the binary `scheduler` and by `atelier scheduler`.

use crate::{Config, prepare, run};
use anyhow::{Context, Result};
use shared::telemetry;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
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

/// Reads the settings, runs until SIGTERM or Ctrl-C, and says on standard error what went wrong.
pub async fn main(arguments: Arguments) -> ExitCode {
    match start(arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

async fn start(arguments: Arguments) -> Result<()> {
    // fails only if a provider is installed already, which is as good
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Config::from_env()?;
    telemetry::init_logs(&config.telemetry)?;
    match arguments.command {
        Some(Command::Prepare) => prepare(&config).await,
        None => run_until_told(config).await,
    }
}

async fn run_until_told(config: Config) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be listened for")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be listened for")?;
    let shutdown = CancellationToken::new();
    let told = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = run(config, shutdown.clone()) => result,
        () = told => Ok(()),
    }
}

#[expect(clippy::print_stderr, reason = "logging may not be set up when a setting is wrong")]
fn complain(error: &anyhow::Error) {
    eprintln!("scheduler: {error:#}");
}
