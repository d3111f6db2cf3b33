//! The command line of `atelier`.

use std::process::ExitCode;

use clap::Parser;

use crate::{admin, terminal::Terminal, up};

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
    Admin(Box<admin::Arguments>),
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
        Command::Admin(arguments) => block_on(admin::main(*arguments)),
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

    #[test]
    fn what_an_operator_writes_is_understood_or_refused() {
        let read = |words: &str| Cli::try_parse_from(words.split(' '));
        for good in [
            "atelier admin organization set-tier acme pro",
            "atelier admin --json organization list --limit 5",
            "atelier admin organization list --json",
            "atelier admin job list --status failed,cancelled --kind probe --queue probes",
            "atelier admin job retry --all-failed --kind probe",
            "atelier admin job discard 0197a1c2-6f2e-7c31-9d2e-4b1f0c5a7e10",
            "atelier admin user create ada@example.com --organization acme --role viewer",
        ] {
            assert!(read(good).is_ok(), "{good}");
        }
        for bad in [
            "atelier admin",
            "atelier admin organization set-tier acme gold",
            "atelier admin organization list --limit 0",
            "atelier admin job list --status lost",
            "atelier admin job retry",
            "atelier admin job retry --all-failed",
            "atelier admin job retry one",
            "atelier admin job retry 0197a1c2-6f2e-7c31-9d2e-4b1f0c5a7e10 --all-failed --kind probe",
            "atelier admin job discard",
            "atelier admin user create ada@example.com --role viewer",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_command_of_an_operator_shows_examples() {
        let command = Cli::command();
        let admin = command.find_subcommand("admin").unwrap();
        for subject in admin.get_subcommands() {
            for command in subject.get_subcommands() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                let called = format!("atelier admin {} {}", subject.get_name(), command.get_name());
                let shown = help.replace("admin --json", "admin");
                assert!(help.contains("Examples:") && shown.contains(&called), "{called}: {help}");
            }
        }
    }
}
