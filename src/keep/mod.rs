//! Upkeep of what is stored: days are made ahead and dropped when their time is over, hours that are over are sealed.
//!
//! [`partitions`] decides, from what is there and what the time is, which days to make and which to drop; this file does
//! it, once at start and then every few minutes. Counters of interfaces go row by row, as old as segments. [`seal`] turns an
//! hour's segments into few and large ones and, with [`totals`], into sums of its hosts; [`double_counting`] finds flows among
//! them that were told twice. Upkeep knows neither the journal nor queries.

pub mod double_counting;
pub mod pack;
pub mod partitions;
pub mod retention;
pub mod seal;
pub mod totals;

use crate::clock::{DAY, SharedClock, Timestamp};
use crate::flow::counting::Counting;
use crate::flow::local::Local;
use crate::metrics::{Counter, Gauge, Registry};
use crate::store::partitions::{DailyTable, MonthlyTable};
use crate::store::snapshot::COLLECTOR_ALIVE;
use crate::store::{Database, StoreError};
use partitions::{Due, due, oldest_kept};
use retention::{Budget, Goes};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often upkeep looks.
const ROUND: Duration = Duration::from_secs(300);
/// The longest that a round may take: a database that is silent for ever must not end upkeep.
const LONGEST: Duration = Duration::from_secs(1_800);
/// How often it looks at what the database takes.
const BUDGET: Duration = Duration::from_secs(20);
/// How often it looks for hours that are over.
const SEALING: Duration = Duration::from_secs(10);
/// Months of totals are made so far ahead.
const MONTHS_AHEAD: i64 = 7 * DAY;
/// For how many days it is kept what was told twice.
const DOUBLE_COUNTING_DAYS: u32 = 30;
/// How many hours are sealed before it looks again.
const HOURS_AT_ONCE: i64 = 24;

/// How long flows are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Days that rows of the table `flows` are kept; 0 keeps none.
    pub flows_days: u32,
    /// Days that segments and counters of interfaces are kept.
    pub segments_days: u32,
    /// The most bytes that the database may take; the oldest days go beyond that. `None` for any number.
    pub max_bytes: Option<u64>,
}

/// What upkeep counts.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    made: Counter,
    dropped: Counter,
    trimmed: Counter,
    sealed: Counter,
    summed: Counter,
    over_budget: Gauge,
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
        registry.register(
            "keep_over_budget_bytes",
            "Bytes by which the database is above [storage] max_bytes although nothing more can go",
            self.over_budget.clone(),
        );
        registry.register("keep_hours_sealed", "Hours sealed", self.sealed.clone());
        registry.register("keep_days_summed", "Days whose host totals were added up", self.summed.clone());
        registry.register("keep_failures", "Rounds of upkeep that the database refused", self.failures.clone());
    }
}

/// The running upkeep.
#[derive(Debug)]
pub struct Keeper {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
    sealer: JoinHandle<()>,
}

impl Keeper {
    /// Starts upkeep, with hosts in `local` as those that have totals, of the flows that count by `counting`. Must be called
    /// within a tokio runtime.
    pub fn start(
        settings: Settings,
        local: Local,
        counting: Counting,
        database: Database,
        clock: SharedClock,
        metrics: Metrics,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (own_database, own_clock, own_metrics, mut told) =
            (database.clone(), SharedClock::clone(&clock), metrics.clone(), stopped.clone());
        let sealer = tokio::spawn(async move {
            loop {
                let round = seal_round(&local, &counting, &own_database, &own_clock, &own_metrics);
                // An hour that is being sealed when upkeep ends, or when the database is silent, stays open.
                let more = tokio::select! {
                    outcome = in_time(round) => outcome.unwrap_or_else(|error| {
                        own_metrics.failures.inc();
                        tracing::warn!("sealing tries again in {} s: {error}", SEALING.as_secs());
                        false
                    }),
                    _ = told.changed() => return,
                };
                tokio::select! {
                    () = tokio::time::sleep(if more { Duration::ZERO } else { SEALING }) => {}
                    _ = told.changed() => return,
                }
            }
        });
        let mut told = stopped;
        let task = tokio::spawn(async move {
            loop {
                if let Err(error) = in_time(round(settings, &database, &clock, &metrics)).await {
                    metrics.failures.inc();
                    tracing::warn!("upkeep tries again in {} s: {error}", ROUND.as_secs());
                }
                let next = tokio::time::Instant::now() + ROUND;
                while tokio::time::Instant::now() < next {
                    if let Err(error) = in_time(hold_budget(settings, &database, &clock, &metrics)).await {
                        metrics.failures.inc();
                        tracing::warn!("the budget of [storage] max_bytes could not be looked after: {error}");
                    }
                    tokio::select! {
                        () = tokio::time::sleep(BUDGET) => {}
                        _ = told.changed() => return,
                    }
                }
            }
        });
        Self { stop, task, sealer }
    }

    /// Whether upkeep has ended, which it only does when it is stopped or by a defect.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished() || self.sealer.is_finished()
    }

    /// Lets the present round end and stops.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        if self.task.await.is_err() || self.sealer.await.is_err() {
            tracing::error!("upkeep ended by a defect");
        }
    }
}

/// A piece of upkeep, unless it takes too long.
async fn in_time<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let done = tokio::time::timeout(LONGEST, work).await;
    done.unwrap_or(Err(StoreError::Silent { seconds: LONGEST.as_secs() }))
}

/// What goes by age: the days of each table, the oldest first.
///
/// # Errors
/// When the database does not answer.
pub async fn too_old(
    settings: Settings,
    database: &Database,
    now: Timestamp,
) -> Result<Vec<(DailyTable, Due)>, StoreError> {
    let newest = database.newest_received().await?;
    let mut found = Vec::new();
    for (table, days) in [(DailyTable::Flows, settings.flows_days), (DailyTable::FlowSegments, settings.segments_days)]
    {
        found.push((table, due(&database.days(table).await?, now, newest, days)));
    }
    Ok(found)
}

/// What goes so that the database keeps to its budget; `None` without one.
///
/// # Errors
/// When the database does not answer.
pub async fn over_budget(
    settings: Settings,
    database: &Database,
    now: Timestamp,
) -> Result<Option<Budget>, StoreError> {
    let Some(max_bytes) = settings.max_bytes else { return Ok(None) };
    let usage = database.usage().await?;
    // A clock that is ahead must not make the day that goes on look like one that is over.
    let today = database.newest_received().await?.map_or(now, |newest| newest.min(now));
    Ok(Some(retention::over(&usage, max_bytes, today)))
}

/// Drops what goes so that the database keeps to its budget.
async fn hold_budget(
    settings: Settings,
    database: &Database,
    clock: &SharedClock,
    metrics: &Metrics,
) -> Result<(), StoreError> {
    let Some(budget) = over_budget(settings, database, clock.now()).await? else { return Ok(()) };
    let max_bytes = settings.max_bytes.unwrap_or_default();
    for Goes { table, day, bytes } in budget.goes {
        database.drop_day(table, day).await?;
        metrics.dropped.inc();
        tracing::warn!(
            "dropped {} of {bytes} bytes: the database took more than [storage] max_bytes = {max_bytes}",
            table.partition(day)
        );
    }
    metrics.over_budget.set(i64::try_from(budget.excess).unwrap_or(i64::MAX));
    if budget.excess > 0 {
        tracing::error!(
            "the database takes {} bytes more than [storage] max_bytes = {max_bytes}, and only today's flows and totals \
             are left: give it more, or set [storage] flows_days = 0 to write no rows",
            budget.excess
        );
    }
    Ok(())
}

/// Seals the hours that are over, drops the partitions that are empty by it, and adds up the days that are complete. Returns
/// whether there may be more to do at once, as after an archive was brought in.
async fn seal_round(
    local: &Local,
    counting: &Counting,
    database: &Database,
    clock: &SharedClock,
    metrics: &Metrics,
) -> Result<bool, StoreError> {
    let now = clock.now();
    // What a collector has not stored yet may belong to an hour that is over. A clock that is ahead must not seal an hour
    // that goes on.
    let until = database.complete_until(now, COLLECTOR_ALIVE).await?.unwrap_or(now).min(now);
    let mut sealed = 0i64;
    for hour in database.hours_to_seal(until, &counting.fingerprint(local), HOURS_AT_ONCE).await? {
        match seal::seal(database, hour, local, counting).await {
            Ok(true) => {
                metrics.sealed.inc();
                sealed = sealed.saturating_add(1);
            }
            Ok(false) => {}
            Err(error) => {
                metrics.failures.inc();
                tracing::warn!("the hour {hour} stays open: {error}");
            }
        }
    }
    database.drop_sealed().await?;
    metrics.summed.inc_by(sum_days(database, until, local, counting).await?);
    let more = pack::pack(database).await?;
    Ok(more || sealed >= HOURS_AT_ONCE)
}

/// Adds up the totals of the days that ended before `until` and lack them although their hours have them. Returns how many
/// days that were.
///
/// # Errors
/// When the database does not answer.
pub async fn sum_days(
    database: &Database,
    until: Timestamp,
    local: &Local,
    counting: &Counting,
) -> Result<u64, StoreError> {
    let fingerprint = counting.fingerprint(local);
    let mut summed = 0u64;
    for day in database.days_to_sum(until, &fingerprint).await? {
        database.ensure_month(MonthlyTable::HostTrafficDaily, day).await?;
        summed = summed.saturating_add(database.sum_day(day, &fingerprint).await?.into());
    }
    Ok(summed)
}

/// One round: makes what is due, then drops what is due.
async fn round(
    settings: Settings,
    database: &Database,
    clock: &SharedClock,
    metrics: &Metrics,
) -> Result<(), StoreError> {
    let now = clock.now();
    for (table, Due { make, drop, postponed }) in too_old(settings, database, now).await? {
        let days = if table == DailyTable::Flows { settings.flows_days } else { settings.segments_days };
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
    database.ensure_open().await?;
    for month in MonthlyTable::ALL {
        for moment in [clock.now(), clock.now().plus(MONTHS_AHEAD)] {
            database.ensure_month(month, moment).await?;
        }
    }
    let newest = database.newest_received().await?;
    let oldest = oldest_kept(clock.now(), newest, settings.segments_days);
    database.forget_open_hours(oldest).await?;
    database.trim_double_counting(oldest_kept(clock.now(), newest, DOUBLE_COUNTING_DAYS)).await?;
    metrics.trimmed.inc_by(database.trim_counters(oldest).await?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::store::Address;
    use std::sync::Arc;

    /// A clock that is a defect.
    struct Broken;

    impl Clock for Broken {
        fn now(&self) -> Timestamp {
            panic!("a defect")
        }
    }

    #[tokio::test]
    async fn upkeep_whose_task_panicked_is_seen_to_have_ended_and_can_be_stopped() {
        let nowhere = Address::Url("postgres://nobody@127.0.0.1:1/nothing".to_owned());
        let keeper = Keeper::start(
            Settings::default(),
            Local::new(&[]),
            Counting::default(),
            Database::new(&nowhere).unwrap(),
            Arc::new(Broken),
            Metrics::default(),
        );
        let both = async {
            while !(keeper.task.is_finished() && keeper.sealer.is_finished()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
        assert!(keeper.is_finished());
        keeper.stop().await;
    }

    #[tokio::test]
    async fn upkeep_has_ended_when_only_one_of_its_tasks_has() {
        for broken in [true, false] {
            let (stop, stopped) = watch::channel(false);
            let task = |panics: bool| {
                let mut stopped = stopped.clone();
                tokio::spawn(async move {
                    assert!(!panics, "a defect");
                    let _ = stopped.changed().await;
                })
            };
            let keeper = Keeper { stop, task: task(broken), sealer: task(!broken) };
            tokio::time::timeout(Duration::from_secs(20), async {
                while !keeper.is_finished() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await
            .unwrap();
            keeper.stop().await;
        }
    }
}
