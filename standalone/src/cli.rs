//! The command line of `atelier`.

use std::process::ExitCode;

use clap::Parser;

use crate::{terminal::Terminal, up};

/// Atelier, a queue-driven job platform with a thin API.
#[derive(Debug, Parser)]
#[command(name = "atelier", version, propagate_version = true, after_help = "Start with: atelier up")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Up(Box<up::Arguments>),
    Api(api::cli::Arguments),
    Worker(worker::cli::Arguments),
    Scheduler(scheduler::cli::Arguments),
}

/// The whole program: reads the command line and runs what it names.
#[must_use]
pub fn main() -> ExitCode {
    // Fails only if it was done before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match Cli::parse().command {
        Command::Up(arguments) => up::run(&arguments),
        Command::Api(arguments) => block_on(api::cli::main(arguments)),
        Command::Worker(arguments) => block_on(worker::cli::main(arguments)),
        Command::Scheduler(arguments) => block_on(scheduler::cli::main(arguments)),
    }
}

fn block_on(program: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime.block_on(program),
        Err(error) => {
            Terminal::standard().complain(format_args!("atelier: cannot start threads: {error}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may stop at a broken assumption")]

    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_tour_cannot_be_both_left_out_and_all() {
        Cli::try_parse_from(["atelier", "up", "--once"]).unwrap();
        Cli::try_parse_from(["atelier", "up", "--once", "--no-tour"]).unwrap_err();
        Cli::try_parse_from(["atelier", "up", "--workers", "0"]).unwrap_err();
    }
}
