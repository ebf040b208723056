//! `flowledger doctor`: compares what must be equal, and names every difference. It changes nothing.
//!
//! Counters of the running server, files of the journal, segments, rows and sums in the database are compared with each
//! other, and settings with what is safe; what is counted twice is told as a warning. This file gathers; [`checks`] compares; [`finding`] shows. It works beside a
//! running server and without one.

mod checks;
mod finding;
mod server;
#[cfg(test)]
mod tests;
mod totals;

use super::database::with_database;
use super::environment;
use crate::clock::{Clock, DAY, SystemClock, Timestamp};
use crate::columns::Decoder;
use crate::config::Config;
use crate::flow::batch::{FlowBatch, Values};
use crate::flow::fields::Field;
use crate::flow::local::Local;
use crate::flow::segment::Segment;
use crate::journal::survey::survey;
use crate::store::Database;
use crate::store::partitions::DailyTable;
use crate::store::snapshot::{SegmentHeader, Snapshot};
use chrono::NaiveDate;
use clap::Args;
use finding::{Finding, Verdict};
use server::{Figures, IDENTITIES, Identity};
use std::collections::BTreeSet;
use std::error::Error;
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::time::Duration;

/// How many segments are decoded where not all are, spread over the chosen days.
const SAMPLE: usize = 200;
/// How many segments are loaded at a time.
const LOAD: usize = 8;
/// How many days are compared where none is chosen, the newest.
const DAYS: usize = 2;
/// How often counters that move are read, and how long between.
const READINGS: (usize, Duration) = (20, Duration::from_millis(150));
/// How many damaged segments are named.
const NAMED: usize = 20;

/// What to look at.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Compare this UTC day, every segment of it, instead of the two newest.
    #[arg(long, value_name = "2026-11-23", conflicts_with = "all")]
    day: Option<NaiveDate>,
    /// Compare all days and decode every segment; this reads everything that is stored.
    #[arg(long)]
    all: bool,
    /// Where the running server answers [default: [api] listen].
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
}

/// Checks everything, prints a line for each check to `out`, and fails when something differs.
///
/// # Errors
/// What is wrong with the configuration or the database, or that differences were found.
pub fn run(arguments: &Arguments, config: Option<&Path>, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    crate::telemetry::start()?;
    let config = Config::load(config, environment())?.config;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let findings = runtime.block_on(examine(arguments, &config))?;
    for finding in &findings {
        write!(out, "{finding}")?;
    }
    match findings.iter().filter(|finding| finding.verdict == Verdict::Difference).count() {
        0 => Ok(()),
        1 => Err("1 check found a difference".into()),
        count => Err(format!("{count} checks found differences").into()),
    }
}

async fn examine(arguments: &Arguments, config: &Config) -> Result<Vec<Finding>, Box<dyn Error>> {
    let own = config.private_postgres();
    if config.database.address()?.is_none() && !own.directory.join("data").is_dir() {
        return Err(format!("there is no database in {} yet: start the server once", own.directory.display()).into());
    }
    with_database(config, async |database| compare(arguments, config, database).await).await
}

async fn compare(arguments: &Arguments, config: &Config, database: &Database) -> Result<Vec<Finding>, Box<dyn Error>> {
    let (run, newest) = database.schema().await?;
    if run != Some(newest) {
        let run = run.map_or_else(|| "none".to_owned(), |run| run.to_string());
        let differs = format!("migration {run} was the last to run, this program has {newest}; start this server");
        return Ok(vec![Finding::of("schema", "", vec![differs])]);
    }
    let mut findings = vec![Finding::of("schema", format!("migration {newest} is the last"), Vec::new())];
    let directory = config.journal().directory;
    let before = survey(&directory)?;
    let mut snapshot = database.snapshot_of_flows().await?;
    snapshot.take_time().await?;
    let journals = snapshot.journals().await?;
    let after = survey(&directory)?;
    let until = journals.iter().filter_map(|journal| journal.complete_until).max();
    findings.push(checks::durability(database.risks().await?));
    let asked = SystemClock.now();
    let told = snapshot.clock().await?;
    let now = SystemClock.now();
    findings.push(checks::clocks(asked, told, now, until));
    let kept = config.storage.keep();
    let mut present = Vec::new();
    for (table, keep) in [(DailyTable::Flows, kept.flows_days), (DailyTable::FlowSegments, kept.segments_days)] {
        let days = snapshot.days(table).await?;
        findings.push(checks::days(table, &days, now, until, keep));
        present.push(days);
    }
    let [rows_days, segment_days] = present.as_slice() else { return Ok(findings) };
    let (sent, stored) = snapshot.records().await?;
    let began = snapshot.began().await?;
    let dropped = snapshot.last_dropped(began).await?;
    let oldest = segment_days.iter().find(|day| dropped.is_none_or(|dropped| **day > dropped)).copied();
    findings.push(checks::records(sent, stored, began, oldest));
    let (repeated, of_nobody) = (snapshot.repeated_segments().await?, snapshot.segments_of_nobody().await?);
    findings.push(checks::segment_ids(&repeated, &of_nobody));
    let (local, counting) = (Local::new(&config.network.local), config.counting());
    let counted_by = counting.fingerprint(&local);
    let found = database.double_counting(None, now.plus(-DAY), now, &counted_by).await?;
    let hours = database.hours_looked_through(now.plus(-DAY), now, &counted_by).await?;
    findings.push(checks::double_counting(&found, hours));
    let otherwise = database.counted_otherwise(Timestamp::from_micros(0), now, &counted_by).await?;
    findings.push(checks::counted_by(otherwise.as_ref()));
    let chosen = chosen(arguments, segment_days, now);
    let rows = if kept.flows_days == 0 { &[] } else { rows_days.as_slice() };
    findings.push(rows_and_segments(&mut snapshot, &chosen, rows).await?);
    let every = arguments.all || arguments.day.is_some();
    findings.push(segments(&mut snapshot, &chosen, every).await?);
    findings.extend(totals::compare(&mut snapshot, &chosen, every, &local, &counting).await?);
    findings.push(match (&before, &after) {
        (Some(before), Some(after)) => checks::journal(before, &journals, after),
        _ => Finding::not_applicable("journal", format!("there is none in {}", directory.display())),
    });
    // Another collector that stores says nothing of ours.
    let own = before.as_ref().and_then(|survey| checks::stored_of(survey, &journals));
    findings.extend(of_server(arguments, config, own.map_or(until, |own| own.complete_until)).await?);
    Ok(findings)
}

/// The days to compare, of those that are there.
fn chosen(arguments: &Arguments, present: &[Timestamp], now: Timestamp) -> Vec<Timestamp> {
    let past: Vec<_> = present.iter().copied().filter(|day| *day <= now).collect();
    match arguments.day {
        Some(day) => {
            let day = Timestamp::from(day.and_time(chrono::NaiveTime::MIN).and_utc());
            past.into_iter().filter(|present| *present == day).collect()
        }
        None if arguments.all => present.to_vec(),
        None => past.iter().rev().take(DAYS).rev().copied().collect(),
    }
}

async fn rows_and_segments(
    snapshot: &mut Snapshot,
    chosen: &[Timestamp],
    rows_days: &[Timestamp],
) -> Result<Finding, Box<dyn Error>> {
    let mut sums = Vec::new();
    for day in chosen.iter().filter(|day| rows_days.contains(day)) {
        let rows = snapshot.sums_of_day(DailyTable::Flows, *day).await?;
        sums.push((*day, rows, snapshot.sums_of_day(DailyTable::FlowSegments, *day).await?));
    }
    Ok(checks::rows_and_segments(&sums))
}

/// Decodes segments of the chosen days, every one or a sample.
async fn segments(snapshot: &mut Snapshot, days: &[Timestamp], every: bool) -> Result<Finding, Box<dyn Error>> {
    let mut headers = Vec::new();
    for day in days {
        headers.extend(snapshot.segments(*day, day.plus(DAY)).await?);
    }
    let (all, wanted) = (headers.len(), if every { usize::MAX } else { SAMPLE });
    // Every so many-th, so that those that are read lie all over the days.
    let step = all.div_ceil(wanted).max(1);
    let read: Vec<_> = headers.into_iter().step_by(step).collect();
    let (mut decoder, mut batch, mut differences) = (Decoder::default(), FlowBatch::default(), Vec::new());
    for headers in read.chunks(LOAD) {
        let loaded = snapshot.load(headers, &Field::ALL).await?;
        for (header, segment) in headers.iter().zip(&loaded) {
            differences.extend(differs(header, segment, &mut decoder, &mut batch));
        }
    }
    let more = differences.len().saturating_sub(NAMED);
    differences.truncate(NAMED);
    differences.extend((more > 0).then(|| format!("and {more} more segments")));
    let compared = format!("{} of {all} decoded: sums and times are those of their columns", read.len());
    Ok(Finding::of("segments = columns", compared, differences))
}

/// What of a segment is not what its columns hold.
fn differs(header: &SegmentHeader, segment: &Segment, decoder: &mut Decoder, batch: &mut FlowBatch) -> Option<String> {
    let rows = segment.rows as usize;
    batch.clear();
    batch.add_rows(rows);
    for (field, block) in &segment.columns {
        if let Err(error) = decoder.decode_into(*field, block, rows, batch.column_mut(*field)) {
            return Some(format!("segment {}: {error}", header.segment_id));
        }
    }
    let times = match batch.column(Field::Received).values() {
        Values::Time(moments) => moments.iter().copied().min().zip(moments.iter().copied().max()),
        _ => None,
    };
    checks::segment(header.segment_id, segment, &batch.totals(0..rows), times)
}

/// What the running server tells of itself, if one runs.
async fn of_server(
    arguments: &Arguments,
    config: &Config,
    until: Option<Timestamp>,
) -> Result<Vec<Finding>, Box<dyn Error>> {
    let listen = arguments.server.as_ref().unwrap_or(&config.api.listen);
    let address = listen.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    let address = address.ok_or_else(|| format!("{listen:?} is no address: give --server 127.0.0.1:8080"))?;
    let address = server::reachable(address);
    let mut readings = match ask(address).await? {
        Ok(figures) => vec![figures],
        Err(error) => {
            let why = format!("no server answers at {address}: {error}");
            let silent = Finding::not_applicable("server's counters", why);
            return Ok(vec![checks::freshness(false, until, SystemClock.now()), silent]);
        }
    };
    let open = |readings: &[Figures]| {
        let equal = |(left, right)| left == right;
        IDENTITIES.iter().any(|identity| !readings.iter().filter_map(identity.sides).any(equal))
    };
    while readings.len() < READINGS.0 && open(&readings) {
        tokio::time::sleep(READINGS.1).await;
        let again = ask(address).await?;
        readings.push(again.map_err(|error| format!("the server at {address} answers no more: {error}"))?);
    }
    let mut findings = vec![checks::freshness(true, until, SystemClock.now())];
    findings.extend(IDENTITIES.iter().map(|Identity { check, what, sides }| {
        let samples: BTreeSet<_> = readings.iter().filter_map(sides).collect();
        checks::identity(check, what, &samples.into_iter().collect::<Vec<_>>())
    }));
    if let Some(last) = readings.last() {
        findings.push(checks::accounting(last.sum("ingest_accounting_error", "")));
        let granted = last.by_listener("collector_receive_buffer_bytes");
        findings.push(checks::buffers(&granted, config.collector.receive_buffer_bytes));
    }
    Ok(findings)
}

async fn ask(address: SocketAddr) -> Result<std::io::Result<Figures>, Box<dyn Error>> {
    Ok(tokio::task::spawn_blocking(move || server::ask(address)).await?)
}
