//! The command line of the API, used by the binary `api` and by `atelier api`.

use crate::{Config, run};
use anyhow::{Context, Result};
use std::{net::SocketAddr, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Answers HTTP requests and sockets.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "api",
    version,
    after_help = "Examples:\n  api                         on ATELIER_BIND, 127.0.0.1:3000 unless it is set\n  \
                  api --bind 0.0.0.0:8080     for everybody\n\nSettings come from the environment; .env.example lists them."
)]
pub struct Arguments {
    /// Where to listen; wins over ATELIER_BIND. Port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    pub bind: Option<SocketAddr>,
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
    let mut config = Config::from_env()?;
    config.bind = arguments.bind.unwrap_or(config.bind);
    shared::telemetry::init_logs(&config.telemetry)?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be listened for")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be listened for")?;
    let shutdown = CancellationToken::new();
    let run = run(config, shutdown.clone());
    tokio::pin!(run);
    tokio::select! {
        ended = &mut run => return ended,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    shutdown.cancel();
    run.await
}

#[expect(clippy::print_stderr, reason = "logging may not be set up when a setting is wrong")]
fn complain(error: &anyhow::Error) {
    eprintln!("api: {error:#}");
}
