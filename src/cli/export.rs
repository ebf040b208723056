//! `flowledger export`: writes the flows of a window as CSV, NDJSON or Parquet.
//!
//! It works beside a running server, on the same database, and reads only. Without `--to-stdout`, standard output gets the path
//! of the manifest and nothing else. Stopped by SIGINT or SIGTERM it takes away what it began.

use super::database::{locate, stop};
use super::{environment, say};
use crate::clock::{Clock, SharedClock, SystemClock};
use crate::config::Config;
use crate::export::{self, Destination, ExportError, ExportRequest, Format, Outcome};
use crate::filter::{Expression, FilterError, parse_within};
use crate::flow::local::Local;
use crate::query::extract::ExtractRequest;
use crate::query::window::{WindowRequest, resolve};
use crate::query::{Completeness, Engine, LossCount};
use crate::store::Database;
use clap::{ArgGroup, Args, ValueEnum};
use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long the work may take to stop. A writer that waits for a reader that does not read never does.
const STOP: Duration = Duration::from_secs(10);

/// Which flows, as what, and where to.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("place").required(true).args(["output", "to_stdout"])))]
pub struct Arguments {
    /// The first moment: a date (2026-11-23), a local time (2026-11-23T08:00) or RFC 3339 (2026-11-23T08:00:00+01:00).
    #[arg(long, value_name = "MOMENT")]
    from: Option<String>,
    /// The first moment after, written like --from; without it, now.
    #[arg(long, value_name = "MOMENT")]
    to: Option<String>,
    /// The time up to now, or up to --to: a number and s, m, h, d or w.
    #[arg(long, value_name = "7d")]
    last: Option<String>,
    /// An ISO week, from local Monday to local Monday.
    #[arg(long, value_name = "2026-W47")]
    week: Option<String>,
    /// The time zone in which dates are meant, days are cut, and moments are written in CSV and NDJSON [default: the
    /// configured one].
    #[arg(long, value_name = "Europe/Berlin")]
    tz: Option<String>,
    /// Which flows, in nfdump's language, such as 'dst net 10.0.0.0/8 and proto tcp' [default: all].
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Which fields, in this order, with commas, by the names of /api/v1/fields or nfdump's [default: all that occur].
    #[arg(long, value_name = "A,B,C")]
    fields: Option<String>,
    /// What is written.
    #[arg(long, value_enum)]
    format: FormatName,
    /// For csv and ndjson, a file, which is replaced, or - for standard output; for parquet, a directory, to which days are
    /// added.
    #[arg(long, short, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Write to standard output (csv and ndjson).
    #[arg(long)]
    to_stdout: bool,
    /// Where the manifest goes [default: beside the data; nowhere with standard output].
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatName {
    /// A table with a head, for spreadsheets.
    Csv,
    /// A JSON object a line; a flow's absent fields are left out.
    Ndjson,
    /// DIR/day=2026-11-23/part-0000.parquet and so on, for DuckDB, Spark and ClickHouse.
    Parquet,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Csv => Self::Csv,
            FormatName::Ndjson => Self::Ndjson,
            FormatName::Parquet => Self::Parquet,
        }
    }
}

impl Arguments {
    fn request(&self, config: &Config) -> Result<ExportRequest, Box<dyn Error>> {
        let window = WindowRequest {
            from: self.from.clone(),
            to: self.to.clone(),
            last: self.last.clone(),
            week: self.week.clone(),
            zone: self.tz.clone(),
        };
        let destination = match &self.output {
            Some(path) if path.as_os_str() != "-" => Destination::Path(path.clone()),
            _ => Destination::Stdout,
        };
        let format = Format::from(self.format);
        if (format, &destination) == (Format::Parquet, &Destination::Stdout) {
            return Err(ExportError::NotAStream.into());
        }
        Ok(ExportRequest {
            flows: ExtractRequest {
                window: resolve(&window, config.network.timezone, SystemClock.now())?,
                filter: self.expression(&Local::new(&config.network.local))?,
                fields: self.fields.as_deref().map(export::parse_fields).transpose()?,
            },
            format,
            destination,
            manifest: self.manifest.clone(),
        })
    }

    /// The filter, where `net local` means `local`; a blank one is none.
    fn expression(&self, local: &Local) -> Result<Option<Expression>, FilterError> {
        let text = self.filter.as_deref().filter(|text| !text.trim().is_empty());
        text.map(|text| parse_within(text, local)).transpose()
    }
}

/// Does what the arguments say. That nobody reads standard output any more is no failure.
///
/// # Errors
/// What is wrong with the arguments, the configuration, the database or the place.
pub fn run(arguments: &Arguments, config: Option<&Path>) -> Result<(), Box<dyn Error>> {
    crate::telemetry::start()?;
    let config = Config::load(config, environment())?.config;
    let request = arguments.request(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(write(&request, &config));
    runtime.shutdown_timeout(STOP);
    match outcome {
        Ok(outcome) => tell(&outcome, request.destination == Destination::Stdout),
        Err(error) if matches!(error.downcast_ref(), Some(ExportError::Closed)) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn write(request: &ExportRequest, config: &Config) -> Result<Outcome, Box<dyn Error>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let stopped = async {
        tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
        }
    };
    tokio::pin!(stopped);
    let (address, postgres) = locate(config).await?;
    let database = Database::new(&address)?;
    let clock: SharedClock = Arc::new(SystemClock);
    let work = async {
        database.prepare(|error| tracing::warn!("waiting for the database: {error}")).await?;
        let engine = Engine::new(database.clone(), Arc::clone(&clock), config.query.clone(), &config.network.local);
        Ok(export::run(&engine, &clock, request).await?)
    };
    let outcome = tokio::select! {
        outcome = work => outcome,
        name = &mut stopped => Err(format!("{name}: the export was stopped").into()),
    };
    // Sessions that a statement still runs in are not waited for.
    let _ = tokio::time::timeout(Duration::from_secs(1), database.close()).await;
    stop(postgres).await?;
    outcome
}

/// Says what was done: the manifest's path to standard output, the rest to standard error.
fn tell(outcome: &Outcome, streamed: bool) -> Result<(), Box<dyn Error>> {
    let extract = &outcome.extract;
    let totals = &extract.totals;
    say(format_args!(
        "{} rows: {} flows, {} packets, {} bytes; {}",
        extract.records,
        totals.flows,
        totals.packets,
        totals.bytes,
        stamp(&extract.completeness)
    ));
    if let Some(path) = outcome.manifest.as_ref().filter(|_| !streamed) {
        writeln!(io::stdout(), "{}", path.display())?;
    }
    Ok(())
}

/// The stamp on one line.
fn stamp(completeness: &Completeness) -> String {
    if completeness.exact {
        return "exact, nothing is known to be missing".to_owned();
    }
    let stale = completeness.stale_since.map(|since| format!("what was received after {since} is not all there"));
    let lost = |lost: &LossCount| format!("lost {} {} ({})", lost.count, lost.unit, lost.cause);
    let reasons: Vec<_> = stale.into_iter().chain(completeness.lost.iter().map(lost)).collect();
    format!("NOT exact: {}", reasons.join(", "))
}
