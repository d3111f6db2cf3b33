//! The `api` binary.

use clap::Parser;
use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    api::cli::main(api::cli::Arguments::parse()).await
}
