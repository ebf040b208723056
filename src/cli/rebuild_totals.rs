//! `flowledger rebuild-totals`: counts the totals of local hosts anew after a change of `[network] local` or of a counting rule.
//!
//! It works beside a running server and without one, hour by hour, each in a transaction of its own: ended anywhere, it is
//! simply started again. What is asked meanwhile is answered from flows, with the same sums.

use super::database::with_database;
use super::environment;
use crate::clock::{Clock, HOUR, SystemClock, Timestamp};
use crate::config::Config;
use crate::flow::counting::Counting;
use crate::flow::local::Local;
use crate::keep::pack::pack;
use crate::keep::seal::{Outcome, seal_again};
use crate::keep::sum_days;
use crate::query::window::{WindowRequest, resolve};
use crate::store::Database;
use clap::Args;
use std::error::Error;
use std::io::Write;
use std::path::Path;

/// Which hours.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The first moment: a date (2026-11-23), a local time (2026-11-23T08:00) or RFC 3339 (2026-11-23T08:00:00+01:00).
    #[arg(long, value_name = "MOMENT")]
    from: String,
    /// The first moment after, written like --from; without it, now.
    #[arg(long, value_name = "MOMENT")]
    to: Option<String>,
    /// The time zone in which dates are meant [default: the configured one].
    #[arg(long, value_name = "Europe/Berlin")]
    tz: Option<String>,
    /// Count those hours, too, that were counted by the present networks and rules: `flowledger doctor` names them where their
    /// totals are not what their flows are.
    #[arg(long)]
    again: bool,
}

/// Counts the hours that the window touches anew, and prints what became of them.
///
/// # Errors
/// What is wrong with the arguments, the configuration or the database, or that an hour could not be counted.
pub fn run(arguments: &Arguments, config: Option<&Path>, out: &mut impl Write) -> Result<(), Box<dyn Error>> {
    crate::telemetry::start()?;
    let config = Config::load(config, environment())?.config;
    let asked = WindowRequest {
        from: Some(arguments.from.clone()),
        to: arguments.to.clone(),
        zone: arguments.tz.clone(),
        ..WindowRequest::default()
    };
    let window = resolve(&asked, config.network.timezone, SystemClock.now())?;
    let (local, counting) = (Local::new(&config.network.local), config.counting());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(with_database(&config, async |database| {
        database.prepare(|error| tracing::warn!("waiting for the database: {error}")).await?;
        let hours = database
            .hours_to_count(
                window.from.hour(),
                window.to.plus(HOUR - 1).hour(),
                &counting.fingerprint(&local),
                arguments.again,
            )
            .await?;
        rebuild(database, &hours, &local, &counting, out).await
    }))
}

async fn rebuild(
    database: &Database,
    hours: &[Timestamp],
    local: &Local,
    counting: &Counting,
    out: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    let (mut counted, mut gone, mut failed) = (0usize, Vec::new(), 0usize);
    for (index, hour) in hours.iter().enumerate() {
        match seal_again(database, *hour, local, counting).await {
            Ok(Outcome::Counted) => counted = counted.saturating_add(1),
            Ok(Outcome::FlowsGone) => gone.push(*hour),
            Ok(Outcome::Busy) => {
                failed = failed.saturating_add(1);
                tracing::warn!("{hour}: another process was at it; start again");
            }
            Err(error) => {
                failed = failed.saturating_add(1);
                tracing::error!("{hour}: {error}");
            }
        }
        tracing::info!("{} of {} hours", index.saturating_add(1), hours.len());
    }
    let days = sum_days(database, SystemClock.now(), local, counting).await?;
    writeln!(out, "hours counted anew: {counted}; days added up: {days}")?;
    if let (Some(first), Some(last)) = (gone.first(), gone.last()) {
        writeln!(
            out,
            "hours that stay as they were counted, because their flows are no longer kept: {}, from {first} to {last}",
            gone.len()
        )?;
    }
    while pack(database).await? {}
    match failed {
        0 => Ok(()),
        1 => Err("1 hour was not counted".into()),
        count => Err(format!("{count} hours were not counted").into()),
    }
}
