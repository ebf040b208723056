//! `flowledger import PATH...`: brings in the files of other collectors, nfdump's archives and captures of packets.
//!
//! It works beside a running server, on the same database, and without one. A file is known by its content: bringing it in
//! again changes nothing, and an import that was ended anywhere goes on where it was when it is started again. What cannot be
//! read is told with the file's name and the offset, the rest goes in, and the exit code says that something was wrong.
//!
//! Two threads: one reads files and collects flows by hour ([`reading`]), the other makes segments of them and stores them
//! ([`storing`]). [`files`] finds the files, [`part`] is what is known of the one that is read, [`piece`] is what one
//! transaction stores, and [`report`] says what became of them.

mod capture;
mod files;
mod part;
mod piece;
mod progress;
mod reading;
mod report;
mod storing;
#[cfg(test)]
mod tests;

use super::database::with_database;
use super::environment;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::Config;
use crate::keep::{self, partitions::oldest_kept};
use crate::store::{Database, StoreError};
use clap::Args;
use piece::Piece;
use progress::Progress;
use reading::Reading;
use report::Report;
use std::error::Error;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use storing::Storing;
use tokio::runtime::Handle;

/// What to bring in.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Files of nfdump (1.6 and 1.7), pcap or pcapng, and directories, which are searched with everything below them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The exporter of flows in files that do not tell it.
    #[arg(long, value_name = "ADDRESS")]
    exporter: Option<IpAddr>,
    /// A UDP port to which flows were sent in captures; can be given several times [default: the usual ones].
    #[arg(long = "port", value_name = "PORT")]
    ports: Vec<u16>,
    /// So many flows are stored at a time.
    #[arg(long, hide = true, default_value_t = piece::FLOWS)]
    flows_at_once: usize,
}

/// What flows are kept, by the moment they were received.
#[derive(Clone, Copy, Debug)]
struct Kept {
    /// Segments are kept from this day on.
    segments_from: Timestamp,
    /// Rows are kept from this day on; `None` when none are.
    rows_from: Option<Timestamp>,
    /// Nothing was received after this moment.
    until: Timestamp,
}

impl Kept {
    /// What is kept by these settings as of now.
    async fn now(database: &Database, keep: keep::Settings) -> Result<Self, StoreError> {
        let (now, newest) = (SystemClock.now(), database.newest_received().await?);
        Ok(Self {
            segments_from: oldest_kept(now, newest, keep.segments_days),
            rows_from: (keep.flows_days > 0).then(|| oldest_kept(now, newest, keep.flows_days)),
            until: now.plus(reading::CLOCKS),
        })
    }
}

/// Brings in what the arguments name, prints a summary to `out`, and fails when something was wrong.
///
/// # Errors
/// What is wrong with the configuration or the database, or that something could not be brought in.
pub fn run(arguments: &Arguments, config: Option<&Path>, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    crate::telemetry::start()?;
    let config = Config::load(config, environment())?.config;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(bring_in(arguments, &config))?;
    write!(out, "{}", report.summary(&config))?;
    match report.wrong() {
        0 => Ok(()),
        1 => Err("1 file was not brought in whole".into()),
        count => Err(format!("{count} files were not brought in whole").into()),
    }
}

async fn bring_in(arguments: &Arguments, config: &Config) -> Result<Report, Box<dyn Error>> {
    let found = files::find(&arguments.paths);
    with_database(config, async |database| {
        database.prepare(|error| tracing::warn!("waiting for the database: {error}")).await?;
        store_files(arguments, config, found, database).await
    })
    .await
}

async fn store_files(
    arguments: &Arguments,
    config: &Config,
    found: files::Found,
    database: &Database,
) -> Result<Report, Box<dyn Error>> {
    let keep = config.storage.keep();
    let kept = Kept::now(database, keep).await?;
    let progress = Arc::new(Progress::start(found.bytes));
    // While one piece is stored the next one is collected, and no more.
    let (pieces, collected) = sync_channel::<Piece>(1);
    let (runtime, told) = (Handle::current(), Arc::clone(&progress));
    let mut reading = Reading::new(database.clone(), runtime, (keep, kept), told, pieces, arguments.flows_at_once);
    reading.exporter = arguments.exporter.map(|address| address.to_canonical());
    reading.max_exporters = config.ingest.max_exporters;
    reading.configured = config.ingest().exporters;
    reading.ports.clone_from(&arguments.ports);
    let mut storing = Storing::new(database.clone(), Handle::current(), kept, Arc::clone(&progress));
    let storing = tokio::task::spawn_blocking(move || collected.iter().try_for_each(|piece| storing.store(piece)));
    let reading = tokio::task::spawn_blocking(move || reading.run(&found));
    let (stored, report) = (storing.await?, reading.await?);
    progress.end();
    // When storing ended, reading cannot go on either; the first tells why.
    stored?;
    Ok(report?)
}
