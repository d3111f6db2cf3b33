//! Starts the API by itself. The whole system starts with the binary `atelier`.

use anyhow::{Result, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<()> {
    rustls::crypto::ring::default_provider().install_default().map_err(|_| anyhow!("TLS is already set up"))?;
    let config = api::Config::from_env()?;
    shared::telemetry::init_logs(&config.telemetry)?;
    let shutdown = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let run = api::run(config, shutdown.clone());
    tokio::pin!(run);
    tokio::select! {
        ended = &mut run => return ended,
        _ = terminate.recv() => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    shutdown.cancel();
    run.await
}
