//! What the programs have in common, from `main` to the last word.

use anyhow::{Context, Result};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs a program until it ends by itself or, after SIGTERM or Ctrl-C, has stopped in good order. What went wrong is
/// said on standard error.
pub async fn main<F: Future<Output = Result<()>>>(name: &str, start: impl FnOnce(CancellationToken) -> F) -> ExitCode {
    // fails only if a provider is installed already, which is as good
    let _ = rustls::crypto::ring::default_provider().install_default();
    match until_told(start).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(name, &error);
            ExitCode::FAILURE
        }
    }
}

async fn until_told<F: Future<Output = Result<()>>>(start: impl FnOnce(CancellationToken) -> F) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be listened for")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be listened for")?;
    let shutdown = CancellationToken::new();
    let program = start(shutdown.clone());
    tokio::pin!(program);
    tokio::select! {
        ended = &mut program => return ended,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    shutdown.cancel();
    program.await
}

#[expect(clippy::print_stderr, reason = "logging may not be set up when a setting is wrong")]
fn complain(name: &str, error: &anyhow::Error) {
    eprintln!("{name}: {error:#}");
}
