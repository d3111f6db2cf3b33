//! The `scheduler` binary.

use clap::Parser;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    scheduler::cli::main(scheduler::cli::Arguments::parse()).await
}
