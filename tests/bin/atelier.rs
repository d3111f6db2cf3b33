//! The binary under test: the same program as `atelier`.

use std::process::ExitCode;

fn main() -> ExitCode {
    standalone::cli::main()
}
