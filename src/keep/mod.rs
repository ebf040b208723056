//! Upkeep of what is stored: days are made ahead and dropped when their time is over, hours that are over are sealed.
//!
//! [`partitions`] decides, from what is there and what the time is, which days to make, [`retention`] what goes, and
//! [`expiry`] drops it; this file sees to it, once at start and then every few minutes. Counters of interfaces go row by row,
//! as old as segments. [`seal`] turns an hour's segments into few and large ones and, with [`totals`], into sums of its hosts,
//! in the rounds of `sealing`; [`double_counting`] finds flows among them that were told twice. A step that fails is told and counted, and the others are
//! done all the same. Upkeep knows neither the journal nor queries.

pub mod double_counting;
pub mod expiry;
pub mod pack;
pub mod partitions;
pub mod retention;
pub mod seal;
mod sealing;
pub mod totals;

use crate::clock::{DAY, SharedClock, Timestamp};
use crate::flow::counting::Counting;
use crate::flow::local::Local;
use crate::metrics::{Counter, Gauge, Registry};
use crate::store::partitions::{DailyTable, MonthlyTable};
use crate::store::{Database, StoreError};
use expiry::{Expiry, Stays, Uncounted};
use partitions::{due, oldest_kept};
use retention::{Goes, Plan, Why};
use sealing::Failed;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How often upkeep looks.
const ROUND: Duration = Duration::from_secs(300);
/// The longest that a step may take: a database that is silent for ever must not end upkeep.
const LONGEST: Duration = Duration::from_secs(1_800);
/// How often it looks at what the database takes. What comes in between is what the database may be above its budget.
const BUDGET: Duration = Duration::from_secs(5);
/// How often the same failure is told.
const TELL_AGAIN: Duration = Duration::from_secs(300);
/// How often it looks for hours that are over.
const SEALING: Duration = Duration::from_secs(10);
/// Months of totals are made so far ahead.
const MONTHS_AHEAD: i64 = 7 * DAY;
/// For how many days it is kept what was told twice.
const DOUBLE_COUNTING_DAYS: u32 = 30;

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

impl Settings {
    /// How many days of a table are kept.
    pub const fn days(&self, table: DailyTable) -> u32 {
        match table {
            DailyTable::Flows => self.flows_days,
            DailyTable::FlowSegments => self.segments_days,
        }
    }
}

/// What upkeep counts.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    made: Counter,
    dropped: Counter,
    unsealed: Counter,
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
        registry.register("keep_partitions_dropped", "Partitions dropped after their time", self.dropped.clone());
        registry.register(
            "keep_flows_unsealed_dropped",
            "Flow records deleted that waited in open hours until their time was over, and are in no totals",
            self.unsealed.clone(),
        );
        registry.register(
            "keep_rows_trimmed",
            "Rows of interface counters deleted after their time",
            self.trimmed.clone(),
        );
        registry.register(
            "keep_over_budget_bytes",
            "Bytes by which the database is above [storage] max_bytes because nothing more can go, or because somebody uses what is to go",
            self.over_budget.clone(),
        );
        registry.register("keep_hours_sealed", "Hours sealed", self.sealed.clone());
        registry.register("keep_days_summed", "Days whose host totals were added up", self.summed.clone());
        registry.register("keep_failures", "Steps of upkeep that the database refused", self.failures.clone());
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
        let upkeep = Upkeep { settings, local, counting, database, clock, metrics, told: Arc::default() };
        let (sealing, mut told) = (upkeep.clone(), stopped.clone());
        let sealer = tokio::spawn(async move {
            let mut failed = Failed::default();
            loop {
                // An hour that is being sealed when upkeep ends, or when the database is silent, stays open.
                let more = tokio::select! {
                    more = sealing.seal_round(&mut failed) => more,
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
                let made = in_time(async {
                    upkeep.make().await;
                    Ok(())
                });
                if let Err(error) = made.await {
                    upkeep.failed("days ahead could not be made", &error);
                }
                // Everything that is dropped goes in a transaction or can be gone on with.
                tokio::select! {
                    () = upkeep.expire() => {}
                    _ = told.changed() => return,
                }
            }
        });
        Self { stop, task, sealer }
    }

    /// Whether upkeep has ended, which it only does when it is stopped or by a defect.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished() || self.sealer.is_finished()
    }

    /// Gives up what is sealed or dropped now, which the next start goes on with, and stops.
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

/// What goes now, by age if `by_age`, and so that the database keeps to its budget.
///
/// # Errors
/// When the database does not answer.
pub async fn plan(settings: &Settings, database: &Database, now: Timestamp, by_age: bool) -> Result<Plan, StoreError> {
    let newest = database.newest_received().await?;
    Ok(retention::plan(&database.usage().await?, settings, now, newest, by_age))
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

/// What upkeep works with.
#[derive(Clone)]
struct Upkeep {
    settings: Settings,
    local: Local,
    counting: Counting,
    database: Database,
    clock: SharedClock,
    metrics: Metrics,
    /// What was told lately, and when.
    told: Arc<Mutex<BTreeMap<String, Instant>>>,
}

impl Upkeep {
    /// Drops what is due, and keeps to the budget until the next round.
    async fn expire(&self) {
        let next = tokio::time::Instant::now() + ROUND;
        let round = in_time(async {
            self.drop_due().await;
            Ok(())
        });
        if let Err(error) = round.await {
            self.failed(&format!("upkeep tries again in {} s", ROUND.as_secs()), &error);
        }
        while tokio::time::Instant::now() < next {
            if let Err(error) = in_time(self.hold_budget()).await {
                self.failed("the budget of [storage] max_bytes could not be looked after", &error);
            }
            tokio::time::sleep(BUDGET).await;
        }
    }

    /// Counts a failure, and tells it unless it was told a moment ago.
    fn failed(&self, what: &str, error: &dyn std::error::Error) {
        self.metrics.failures.inc();
        if self.is_news(what) {
            tracing::warn!("{what}: {error}");
        }
    }

    /// Whether this was not told for a while; then it counts as told now.
    fn is_news(&self, what: &str) -> bool {
        let now = self.clock.instant();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, last| now.saturating_duration_since(*last) < TELL_AGAIN);
        if told.contains_key(what) {
            return false;
        }
        told.insert(what.to_owned(), now);
        true
    }

    /// What a step gave, unless it failed, which is told.
    fn step<T>(&self, what: &str, outcome: Result<T, StoreError>) -> Option<T> {
        outcome.map_err(|error| self.failed(what, &error)).ok()
    }

    fn expiry(&self) -> Expiry<'_> {
        Expiry { database: &self.database, local: &self.local, counting: &self.counting }
    }

    /// Drops what goes so that the database keeps to its budget.
    async fn hold_budget(&self) -> Result<(), StoreError> {
        let Some(max_bytes) = self.settings.max_bytes else { return Ok(()) };
        let plan = plan(&self.settings, &self.database, self.clock.now(), false).await?;
        let stays = self.carry_out(&plan).await;
        self.metrics.over_budget.set(i64::try_from(plan.excess.saturating_add(stays)).unwrap_or(i64::MAX));
        if plan.excess > 0 && self.is_news("above the budget") {
            tracing::error!(
                "the database takes {} bytes more than [storage] max_bytes = {max_bytes}, and only today's flows and totals of \
                 late are left: give it more, or set [storage] flows_days = 0 to write no rows",
                plan.excess
            );
        }
        Ok(())
    }

    /// Drops what a plan says. Returns how many bytes are still there although they were to go.
    async fn carry_out(&self, plan: &Plan) -> u64 {
        let mut stays = 0u64;
        let tell = |goes: &Goes, outcome: Result<Uncounted, Stays>| {
            let names = goes.names();
            if outcome.is_err() {
                stays = stays.saturating_add(goes.bytes());
            }
            match (outcome, goes.why) {
                (Ok(uncounted), why) => {
                    self.metrics.unsealed.inc_by(uncounted.deleted.flows);
                    self.metrics.dropped.inc_by(goes.partitions.len() as u64);
                    match why {
                        Why::Age => tracing::info!("dropped {names}: older than the days that are kept"),
                        Why::Budget => tracing::warn!(
                            "dropped {names} of {} bytes: the database took more than [storage] max_bytes",
                            goes.bytes()
                        ),
                    }
                }
                (Err(Stays::Behind), _) => {}
                (Err(why @ Stays::NotSealed(_)), _) => {
                    if self.is_news(&names) {
                        tracing::info!("{names} stays for now: {why}");
                    }
                }
                (Err(error), _) => self.failed(&format!("{names} stays for now"), &error),
            }
        };
        self.expiry().carry_out(plan, tell).await;
        stays
    }

    /// Makes what is due.
    async fn make(&self) {
        let (database, now) = (&self.database, self.clock.now());
        for table in DailyTable::ALL {
            let Some(days) = self.step("the days could not be looked up", database.days(table).await) else { continue };
            for day in due(&days, now, None, self.settings.days(table)).make {
                if self.step("a day ahead could not be made", database.ensure_day(table, day).await).is_some() {
                    self.metrics.made.inc();
                }
            }
        }
        self.step("the open hours ahead could not be made", database.ensure_open().await);
        for month in MonthlyTable::ALL {
            for moment in [now, now.plus(MONTHS_AHEAD)] {
                self.step("a month ahead could not be made", database.ensure_month(month, moment).await);
            }
        }
    }

    /// Drops what is due.
    async fn drop_due(&self) {
        let (database, settings, now) = (&self.database, &self.settings, self.clock.now());
        let Some(newest) = self.step("what is stored could not be looked up", database.newest_received().await) else {
            return;
        };
        if let Some(plan) = self.step("what is to go could not be looked up", plan(settings, database, now, true).await)
        {
            if !plan.later.is_empty() {
                let (later, round) = (plan.later.len(), ROUND.as_secs());
                tracing::warn!(
                    "{later} more days are older than what is kept and go in rounds of {round} s; check that the clock is \
                     right, it shows {now}, and the settings of the days to keep"
                );
            }
            self.carry_out(&plan).await;
        }
        let oldest = oldest_kept(now, newest, settings.segments_days);
        let open = self.expiry().drop_open(oldest).await;
        if let Some(deleted) = self.step("old open segments stay for now", open) {
            self.metrics.unsealed.inc_by(deleted.flows);
        }
        self.step("open hours without flows stay for now", database.forget_open_hours(oldest).await);
        let findings = oldest_kept(now, newest, DOUBLE_COUNTING_DAYS);
        self.step("old findings of double counting stay for now", database.trim_double_counting(findings).await);
        if let Some(trimmed) = self.step("old counters stay for now", database.trim_counters(oldest).await) {
            self.metrics.trimmed.inc_by(trimmed);
        }
    }
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
