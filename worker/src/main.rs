//! The `worker` binary.

use clap::Parser;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    worker::cli::main(worker::cli::Arguments::parse()).await
}
