//! `flowledger expire`: drops what is too old or too much now, as upkeep does every few minutes, or only tells what goes.

use super::database::with_database;
use super::environment;
use crate::clock::{Clock, DAY, SystemClock, Timestamp};
use crate::config::Config;
use crate::flow::local::Local;
use crate::keep;
use crate::keep::expiry::{Expiry, Stays, Uncounted};
use crate::keep::partitions::oldest_kept;
use crate::keep::retention::{Goes, Why};
use crate::server;
use crate::store::Database;
use crate::store::drops::{OpenHour, Part};
use crate::store::partitions::DailyTable;
use clap::Args;
use std::error::Error;
use std::io::Write;
use std::path::Path;

/// What to do.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only print what would be dropped.
    #[arg(long)]
    dry_run: bool,
}

/// Prints a line for each partition that goes, with its size and why, and for each open hour that goes uncounted with it, or
/// may, and, unless it is a dry run, drops it.
///
/// # Errors
/// What is wrong with the configuration or the database.
pub fn run(arguments: &Arguments, config: Option<&Path>, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    crate::telemetry::start()?;
    let config = Config::load(config, environment())?.config;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(with_database(&config, async |database| expire(arguments, &config, database, out).await))
}

async fn expire(
    arguments: &Arguments,
    config: &Config,
    database: &Database,
    out: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    let (settings, now) = (server::retention(config)?, SystemClock.now());
    let (local, counting) = (Local::new(&config.network.local), config.counting());
    let expiry = Expiry { database, local: &local, counting: &counting };
    let plan = keep::plan(&settings, database, now, true).await?;
    let oldest = oldest_kept(now, database.newest_received().await?, settings.segments_days);
    let (mut gone, mut stay, mut lines) = (0usize, 0usize, Vec::new());
    let mut tell = |goes: &Goes, outcome: Result<Uncounted, Stays>| match outcome {
        Ok(uncounted) => {
            gone = gone.saturating_add(goes.partitions.len());
            let line = |(name, bytes): &(String, u64)| format!("{name}: {bytes} bytes, {}", reason(goes.why));
            lines.extend(goes.partitions.iter().map(line));
            let line = |hour| {
                format!("the open hour {hour}: went with its day and could not be sealed, its totals are not used")
            };
            lines.extend(uncounted.hours.iter().map(line));
            if uncounted.deleted.segments > 0 {
                lines.push(format!("deleted {} flows that waited in open hours of it", uncounted.deleted.flows));
            }
        }
        Err(why) => {
            stay = stay.saturating_add(goes.partitions.len());
            lines.push(format!("still there: {}: {why}", goes.names()));
        }
    };
    if arguments.dry_run {
        plan.goes.iter().for_each(|goes| tell(goes, Ok(Uncounted::default())));
        for goes in plan.goes.iter().chain(&plan.later) {
            let Part::Day(DailyTable::FlowSegments, day) = goes.part else { continue };
            if let Some(otherwise) = expiry.counted_otherwise(day).await? {
                let (told, remedy) = (otherwise.told(), otherwise.remedy());
                lines.push(format!("WARNING: {told}, and stay so when their flows go; run before: {remedy}"));
            }
            // Those before are named below, whatever their day is.
            let open = database.open_hours(day.max(oldest), day.plus(DAY), &counting.fingerprint(&local)).await?;
            let line = |open: &OpenHour| {
                format!("the open hour {}: goes with its day, uncounted where it cannot be sealed", open.hour)
            };
            lines.extend(open.iter().map(line));
        }
    } else {
        expiry.carry_out(&plan, tell).await;
    }
    for line in lines {
        writeln!(out, "{line}")?;
    }
    for (name, bytes) in plan.later.iter().flat_map(|goes| &goes.partitions) {
        writeln!(out, "later: {name}: {bytes} bytes, {}", reason(Why::Age))?;
    }
    if plan.excess > 0 {
        writeln!(out, "{} bytes stay above [storage] max_bytes: only today and totals of late are left", plan.excess)?;
    }
    if arguments.dry_run {
        for open in database.open_hours(Timestamp::from_micros(0), oldest, &counting.fingerprint(&local)).await? {
            writeln!(
                out,
                "the open hour {}: older than the days that are kept, goes where it cannot be sealed",
                open.hour
            )?;
        }
    } else {
        let deleted = expiry.drop_open(oldest).await?;
        if deleted.segments > 0 {
            writeln!(out, "deleted {} flows of old hours that could not be sealed", deleted.flows)?;
        }
    }
    match (gone, stay, arguments.dry_run) {
        (_, _, true) if gone > 0 => writeln!(out, "nothing was dropped: this was a dry run")?,
        (0, 0, _) => writeln!(out, "nothing is to be dropped")?,
        _ => writeln!(out, "dropped {gone}")?,
    }
    match stay {
        0 => Ok(()),
        count => Err(format!("{count} partitions are still there; start again").into()),
    }
}

const fn reason(why: Why) -> &'static str {
    match why {
        Why::Age => "older than the days that are kept",
        Why::Budget => "above [storage] max_bytes",
    }
}
