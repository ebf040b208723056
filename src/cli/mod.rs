//! The command line: one file a subcommand, each with its arguments and what it does.
//!
//! Commands print results to standard output and everything else to standard error. The exit code is 0 when the command
//! did what it was asked, 1 when it could not, 2 when it was asked wrongly.

pub mod check_config;
mod database;
pub mod doctor;
pub mod expire;
pub mod export;
pub mod import;
pub mod openapi;
pub mod rebuild_totals;
pub mod report;
pub mod serve;
pub mod simulate;

use clap::{Parser, Subcommand};
use std::error::Error;
use std::fmt;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// Flowledger: who used the network, from NetFlow and IPFIX, kept in PostgreSQL.
#[derive(Debug, Parser)]
#[command(name = "flowledger", version, about, max_term_width = 110)]
struct CommandLine {
    /// The configuration file; without it, `flowledger.toml` in the working directory when there is one.
    #[arg(long, short, global = true, env = "FLOWLEDGER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Receive flows, store them, answer questions, send reports: runs until SIGTERM or Ctrl-C.
    Serve,
    /// Check the configuration and print what is in effect, secrets masked.
    CheckConfig,
    /// Compare counters, journal, segments, rows and settings with each other, and name every difference. Changes nothing.
    Doctor(doctor::Arguments),
    /// Drop the days that are too old, or too much for the budget, now, or tell which.
    Expire(expire::Arguments),
    /// Write the flows of a window as CSV, NDJSON or Parquet, with a manifest that says what may be missing.
    ///
    /// A window means the time at which flows were received; without any, the last 24 hours. Flows are in the order of their
    /// days, in no particular order within a day, with counters as they were exported: the field sampling_interval says by
    /// what to multiply bytes and packets of routers that sample. Files get their names when they are complete.
    Export(export::Arguments),
    /// Bring in files of other collectors: nfdump's archives, and captures of packets with flow exports in them.
    Import(import::Arguments),
    /// Print the OpenAPI description of the HTTP interface.
    Openapi,
    /// Count the totals of local hosts anew where they were counted by another `[network] local`, or other rules of counting,
    /// than the present.
    ///
    /// Needed only for speed: until then answers about these hours are read from flows. Hours whose flows are no longer kept
    /// stay as they are.
    RebuildTotals(rebuild_totals::Arguments),
    /// Make reports.
    Report(report::Arguments),
    /// Send made-up flows, reproducibly, for trying out and for measuring.
    Simulate(simulate::Arguments),
}

/// Reads the command line, does what it says, and returns the exit code.
pub fn run() -> ExitCode {
    let line = CommandLine::parse();
    match execute(line) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough, as `head` does: the code is that of a program that SIGPIPE ended.
        Err(error) if is_broken_pipe(&*error) => ExitCode::from(141),
        Err(error) => {
            say(format_args!("{error}"));
            ExitCode::FAILURE
        }
    }
}

/// Whether standard output was closed at its other end: as it comes from there, or as a simulation tells it. An error of a
/// connection never comes as it is: it is told with what it was for, in an error of its own.
fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    let output = match error.downcast_ref() {
        Some(simulate::SimulateError::Output(output)) => Some(output),
        _ => error.downcast_ref::<std::io::Error>(),
    };
    output.is_some_and(|output| output.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Says something to standard error. Where it cannot be written it is lost: `eprintln!` would end the command by a panic.
fn say(text: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "flowledger: {text}");
}

fn execute(line: CommandLine) -> Result<(), Box<dyn Error>> {
    let config = line.config.as_deref();
    match line.command {
        Command::Serve => serve::run(config),
        Command::CheckConfig => check_config::run(config, environment(), &mut std::io::stdout().lock()),
        Command::Doctor(arguments) => doctor::run(&arguments, config, &mut std::io::stdout().lock()),
        Command::Expire(arguments) => expire::run(&arguments, config, &mut std::io::stdout().lock()),
        Command::Export(arguments) => export::run(&arguments, config),
        Command::Import(arguments) => import::run(&arguments, config, &mut std::io::stdout().lock()),
        Command::Openapi => Ok(openapi::run()?),
        Command::RebuildTotals(arguments) => rebuild_totals::run(&arguments, config, &mut std::io::stdout().lock()),
        Command::Report(arguments) => report::run(&arguments, config),
        Command::Simulate(arguments) => Ok(simulate::run(&arguments, &mut std::io::stdout().lock()).map(drop)?),
    }
}

/// The environment as the configuration reads it. A variable that is not text cannot name a setting.
fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
