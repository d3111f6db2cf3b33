//! The command line of the worker, used by the binary `worker` and by `atelier worker`.

use crate::{config::Config, run};
use anyhow::Result;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs jobs of the pools in workers.toml.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "worker",
    version,
    after_help = "Examples:\n  worker                              all pools of workers.toml\n  \
                  worker --pool images                only the images pool\n  \
                  ATELIER_WORKERS_FILE=/etc/atelier/workers.toml worker --pool images --pool probes\n\n\
                  Settings come from the environment; .env.example lists them."
)]
pub struct Arguments {
    /// Run only this pool; may be given several times.
    #[arg(long = "pool", value_name = "NAME")]
    pub pools: Vec<String>,
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
    // an error only says that a provider is installed already
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Config::from_env(&arguments.pools)?;
    shared::telemetry::init_logs(&config.telemetry)?;
    let shutdown = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let signals = async {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        shutdown.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = run(config, shutdown.clone()) => result,
        () = signals => Ok(()),
    }
}

#[expect(clippy::print_stderr, reason = "logging may not be set up when a setting is wrong")]
fn complain(error: &anyhow::Error) {
    eprintln!("worker: {error:#}");
}
