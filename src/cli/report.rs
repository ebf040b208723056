//! `flowledger report run`: makes one report now and prints where its CSV lies.
//!
//! It works beside a running server, on the same database, and leaves the schedule alone: the period's own run still comes
//! when it is due. Only the path goes to standard output, so that scripts can use it.

use super::database::with_database;
use super::{environment, say};
use crate::clock::{SharedClock, SystemClock};
use crate::config::Config;
use crate::query::Engine;
use crate::reports::delivery::Deliverer;
use crate::reports::delivery::email::Mailer;
use crate::reports::{self, Period, ReportError, RunOutcome, Scheduler, Span};
use clap::{Args, Subcommand};
use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

/// What to do with reports.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a report now, drop it into its directory, and print the path of the CSV.
    Run(Run),
}

#[derive(Debug, Args)]
struct Run {
    /// The report's name, as in [[report]]; without any configured, weekly-top-downloaders.
    name: String,
    /// The ISO week to tell of; without a period, the report's last whole one.
    #[arg(long, value_name = "2026-W47", group = "period")]
    week: Option<String>,
    /// The day to tell of.
    #[arg(long, value_name = "2026-11-23", group = "period")]
    day: Option<String>,
    /// The month to tell of.
    #[arg(long, value_name = "2026-11", group = "period")]
    month: Option<String>,
    /// Mail it to its recipients too.
    #[arg(long)]
    deliver: bool,
}

impl Run {
    fn span(&self) -> Result<Option<Span>, ReportError> {
        let given = [(Period::Week, &self.week), (Period::Day, &self.day), (Period::Month, &self.month)];
        let span = given.into_iter().find_map(|(period, text)| Some(Span::parse(period, text.as_deref()?)));
        span.transpose()
    }
}

/// Does what the arguments say.
///
/// # Errors
/// What is wrong with the arguments, the configuration, the database or the deliveries.
pub fn run(arguments: &Arguments, config: Option<&Path>) -> Result<(), Box<dyn Error>> {
    crate::telemetry::start()?;
    let Command::Run(wanted) = &arguments.command;
    let span = wanted.span()?;
    let config = Config::load(config, environment())?.config;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(make(wanted, span, &config))?;
    writeln!(io::stdout(), "{}", outcome.path.display())?;
    for address in &outcome.mailed {
        say(format_args!("mailed to {address}"));
    }
    let refused: Vec<_> = outcome.refused.iter().map(|(_, error)| error.to_string()).collect();
    if refused.is_empty() { Ok(()) } else { Err(refused.join("; ").into()) }
}

async fn make(wanted: &Run, span: Option<Span>, config: &Config) -> Result<RunOutcome, Box<dyn Error>> {
    with_database(config, async |database| {
        database.prepare(|error| tracing::warn!("waiting for the database: {error}")).await?;
        let clock: SharedClock = Arc::new(SystemClock);
        let engine = Engine::new(database.clone(), Arc::clone(&clock), config.query.clone(), &config.network.local)
            .with_counting(config.counting());
        let deliverer = Deliverer { mailer: Mailer::new(&config.smtp)? };
        let metrics = reports::Metrics::default();
        let scheduler = Scheduler::new(config.definitions()?, database.clone(), engine, deliverer, clock, metrics);
        Ok(scheduler.run_now(&wanted.name, span, wanted.deliver).await?)
    })
    .await
}
