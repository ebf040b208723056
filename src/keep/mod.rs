//! Upkeep of what is stored: days are made ahead and dropped when their time is over.
//!
//! [`partitions`] decides, from what is there and what the time is, which days to make and which to drop; this file does
//! it, once at start and then every few minutes. Counters of interfaces go row by row, as old as segments. Upkeep knows
//! neither the journal nor queries.

pub mod partitions;

use crate::clock::SharedClock;
use crate::metrics::{Counter, Registry};
use crate::store::partitions::DailyTable;
use crate::store::{Database, StoreError};
use partitions::{Due, due, oldest_kept};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often upkeep looks.
const ROUND: Duration = Duration::from_secs(300);
/// The longest that a round may take: a database that is silent for ever must not end upkeep.
const LONGEST: Duration = Duration::from_secs(1_800);

/// How long flows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Days that rows of the table `flows` are kept; 0 keeps none.
    pub flows_days: u32,
    /// Days that segments and counters of interfaces are kept.
    pub segments_days: u32,
}

/// What upkeep counts.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    made: Counter,
    dropped: Counter,
    trimmed: Counter,
    failures: Counter,
}

impl Metrics {
    /// Shows the counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("keep_partitions_made", "Daily partitions made ahead", self.made.clone());
        registry.register("keep_partitions_dropped", "Daily partitions dropped after their time", self.dropped.clone());
        registry.register(
            "keep_rows_trimmed",
            "Rows of interface counters deleted after their time",
            self.trimmed.clone(),
        );
        registry.register("keep_failures", "Rounds of upkeep that the database refused", self.failures.clone());
    }
}

/// The running upkeep.
#[derive(Debug)]
pub struct Keeper {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Keeper {
    /// Starts upkeep. Must be called within a tokio runtime.
    pub fn start(settings: Settings, database: Database, clock: SharedClock, metrics: Metrics) -> Self {
        let (stop, mut stopped) = watch::channel(false);
        let task = tokio::spawn(async move {
            loop {
                let round = tokio::time::timeout(LONGEST, round(settings, &database, &clock, &metrics));
                let silent = StoreError::Silent { seconds: LONGEST.as_secs() };
                if let Err(error) = round.await.unwrap_or(Err(silent)) {
                    metrics.failures.inc();
                    tracing::warn!("upkeep tries again in {} s: {error}", ROUND.as_secs());
                }
                tokio::select! {
                    () = tokio::time::sleep(ROUND) => {}
                    _ = stopped.changed() => return,
                }
            }
        });
        Self { stop, task }
    }

    /// Whether upkeep has ended, which it only does when it is stopped or by a defect.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Lets the present round end and stops.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        if self.task.await.is_err() {
            tracing::error!("upkeep ended by a defect");
        }
    }
}

/// One round: makes what is due, then drops what is due.
async fn round(
    settings: Settings,
    database: &Database,
    clock: &SharedClock,
    metrics: &Metrics,
) -> Result<(), StoreError> {
    let newest = database.newest_received().await?;
    for (table, days) in [(DailyTable::Flows, settings.flows_days), (DailyTable::FlowSegments, settings.segments_days)]
    {
        let now = clock.now();
        let Due { make, drop, postponed } = due(&database.days(table).await?, now, newest, days);
        if postponed > 0 {
            let (table, round) = (table.name(), ROUND.as_secs());
            tracing::warn!(
                "{} days of {table} are older than {days} days: {} are dropped now, the others in rounds of {round} s; check \
                 that the clock is right, it shows {now}, and the setting of the days to keep",
                drop.len().saturating_add(postponed),
                drop.len(),
            );
        }
        for day in make {
            database.ensure_day(table, day).await?;
            metrics.made.inc();
        }
        for day in drop {
            database.drop_day(table, day).await?;
            metrics.dropped.inc();
            tracing::info!("dropped {}: its flows are older than {days} days", table.partition(day));
        }
    }
    let oldest = oldest_kept(clock.now(), newest, settings.segments_days);
    metrics.trimmed.inc_by(database.trim_counters(oldest).await?);
    Ok(())
}
