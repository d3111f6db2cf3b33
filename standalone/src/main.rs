//! The `atelier` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    standalone::cli::main()
}
