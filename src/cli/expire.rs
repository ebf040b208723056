//! `flowledger expire`: drops what is too old or too much now, as upkeep does every few minutes, or only tells what goes.

use super::database::with_database;
use super::environment;
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::keep::{self, partitions::Due};
use crate::server;
use crate::store::Database;
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

/// Prints a line for each day that goes and, unless it is a dry run, drops it.
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
    let mut lines = 0usize;
    for (table, Due { drop, postponed, .. }) in keep::too_old(settings, database, now).await? {
        for day in drop {
            writeln!(out, "{}: older than the days that are kept", table.partition(day))?;
            lines = lines.saturating_add(1);
            if !arguments.dry_run {
                database.drop_day(table, day).await?;
            }
        }
        if postponed > 0 {
            writeln!(out, "{}: {postponed} more days are older, and go later", table.name())?;
        }
    }
    if let Some(budget) = keep::over_budget(settings, database, now).await? {
        for goes in budget.goes {
            let partition = goes.table.partition(goes.day);
            writeln!(out, "{partition}: {} bytes, above [storage] max_bytes", goes.bytes)?;
            lines = lines.saturating_add(1);
            if !arguments.dry_run {
                database.drop_day(goes.table, goes.day).await?;
            }
        }
        if budget.excess > 0 {
            writeln!(out, "{} bytes stay above [storage] max_bytes: only today and totals are left", budget.excess)?;
        }
    }
    match (lines, arguments.dry_run) {
        (0, _) => writeln!(out, "nothing is to be dropped")?,
        (_, true) => writeln!(out, "nothing was dropped: this was a dry run")?,
        (count, false) => writeln!(out, "dropped {count}")?,
    }
    Ok(())
}
