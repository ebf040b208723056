//! The `flowledger` program: hands the command line to [`flowledger::cli`] and turns its answer into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    flowledger::cli::run()
}
