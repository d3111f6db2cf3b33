//! The `scheduler` binary: reads the settings, then runs the chores until it is told to stop.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use scheduler::Config;
use shared::{config::Reader, telemetry};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// The chores of an Atelier installation. Any number may run: one leads, the others stand by.
#[derive(Parser)]
#[command(
    name = "scheduler",
    version,
    after_help = "All settings are environment variables; .env.example explains them."
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Bring the tables up to date, make the bucket if it is missing, and end.
    Prepare,
}

#[tokio::main]
#[expect(clippy::print_stderr, reason = "settings may be what is wrong, so there may be no log yet")]
async fn main() -> ExitCode {
    // fails only if a provider is installed already, which is as good
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("scheduler: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> Result<()> {
    let config = Config::read(Reader::from_env())?;
    telemetry::init_logs(&config.telemetry)?;
    match arguments.command {
        Some(Command::Prepare) => scheduler::prepare(&config).await,
        None => {
            let shutdown = CancellationToken::new();
            let _stop = stop_on_signal(shutdown.clone())?;
            scheduler::run(config, shutdown).await
        }
    }
}

/// Cancels the token at SIGTERM and at Ctrl-C.
fn stop_on_signal(shutdown: CancellationToken) -> Result<AbortOnDropHandle<()>> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be listened for")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be listened for")?;
    #[expect(clippy::disallowed_methods, reason = "the handle is kept, and ends the task when dropped")]
    let listener = tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.cancel();
    });
    Ok(AbortOnDropHandle::new(listener))
}
