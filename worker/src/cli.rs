//! The command line of the worker, used by the binary `worker` and by `atelier worker`.

use crate::{config::Config, run};
use anyhow::Result;
use shared::{program, telemetry};
use std::process::ExitCode;
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

/// Reads the settings and runs until SIGTERM or Ctrl-C.
pub async fn main(arguments: Arguments) -> ExitCode {
    program::main("worker", |shutdown| start(arguments, shutdown)).await
}

async fn start(arguments: Arguments, shutdown: CancellationToken) -> Result<()> {
    let config = Config::from_env(&arguments.pools)?;
    telemetry::init_logs(&config.telemetry)?;
    run(config, shutdown).await
}
