//! The command line of the API, used by the binary `api` and by `atelier api`.

use crate::{Config, run};
use anyhow::Result;
use shared::{program, telemetry};
use std::{net::SocketAddr, process::ExitCode};
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

/// Reads the settings and runs until SIGTERM or Ctrl-C.
pub async fn main(arguments: Arguments) -> ExitCode {
    program::main("api", |shutdown| start(arguments, shutdown)).await
}

async fn start(arguments: Arguments, shutdown: CancellationToken) -> Result<()> {
    let mut config = Config::from_env()?;
    config.bind = arguments.bind.unwrap_or(config.bind);
    telemetry::init_logs(&config.telemetry)?;
    run(config, shutdown).await
}
