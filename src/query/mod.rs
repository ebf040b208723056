//! Turns a request into a plan, runs it over segments in one snapshot, and returns exact rows with what was lost.
//!
//! [`Engine`] and what it asks in [`totals`] and [`workers`] are the only parts that wait for anything. It takes host totals
//! where they answer the request, lists the segments of the rest of the window, has workers load the columns that are needed
//! and scan them, and adds the stamp of completeness, all from one moment of the database. [`cover`] (what totals cover),
//! [`counting`] (which flows count), [`plan`] (what to read), [`scan`] (segment by segment), [`group`] (sums by key), [`rank`]
//! (the largest), [`host`] and [`stamp`] (what may be missing) are pure. [`extract`] hands out flows instead of sums, to a program of its own.

pub mod answer;
pub mod budget;
mod counting;
mod cover;
mod error;
pub mod extract;
mod group;
mod host;
mod numbering;
mod plan;
mod rank;
mod rows;
pub mod scan;
pub mod stamp;
mod table;
#[cfg(test)]
mod tests;
mod totals;
pub mod window;
mod workers;

pub use answer::{
    Completeness, Counted, Counters, ExporterLoss, HostAnswer, HostRequest, LossCount, Order, Source, TopAnswer,
    TopRequest, TopRow, Undercount, Window,
};
pub use budget::Settings;
pub use error::QueryError;
pub use group::MAX_DIMENSIONS;
pub use plan::MAX_LIMIT;

use crate::clock::{SharedClock, Timestamp};
use crate::filter::Expression;
use crate::flow::counting::Counting;
use crate::flow::local::Local;
use crate::store::Database;
use crate::store::host_traffic::Stretch;
use crate::store::snapshot::{SegmentHeader, Snapshot};
use budget::Budget;
use cover::{Gone, Plan};
use host::HostScan;
use ipnetwork::IpNetwork;
use scan::{Scan, TopScan};
use stamp::{Known, UNNUMBERED};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;
use totals::Question;

/// So many ranges are listed one by one; of more, what lies between is listed, too, and passed over.
const LISTED_RANGES: usize = 8;

/// Answers requests from what the database holds. Clones share the limit of queries at a time.
#[derive(Clone)]
pub struct Engine {
    database: Database,
    clock: SharedClock,
    settings: Settings,
    local: Arc<Local>,
    counting: Arc<Counting>,
    /// Whether all flows count, whatever the rules say.
    all_count: bool,
    turns: Arc<Semaphore>,
}

/// What was found in a window.
struct Run<S> {
    found: S,
    completeness: Completeness,
    source: Source,
}

/// What is read, what is taken from totals, and what nobody can tell any more.
struct Covered<S> {
    plan: Plan,
    stretch: Stretch,
    gone: Gone,
    /// Has the totals.
    scan: S,
}

impl Engine {
    /// An engine over `database`, within `settings`. The clock tells what is still to come in a window; what lies in the
    /// networks in `local` is inside.
    pub fn new(database: Database, clock: SharedClock, settings: Settings, local: &[IpNetwork]) -> Self {
        let turns = Arc::new(Semaphore::new(settings.turns()));
        let local = Arc::new(Local::new(local));
        Self { database, clock, settings, local, counting: Arc::default(), all_count: false, turns }
    }

    /// The same with only those flows in its answers that count by these rules.
    #[must_use]
    pub fn with_counting(self, counting: Counting) -> Self {
        Self { counting: Arc::new(counting), ..self }
    }

    /// The same with all flows in its answers, whatever the rules say.
    #[must_use]
    pub fn counting_all(&self) -> Self {
        Self { all_count: true, ..self.clone() }
    }

    /// The rules of counting.
    pub fn counting(&self) -> &Counting {
        &self.counting
    }

    /// The fingerprint of what decides which flows host totals count, as the table `hours` keeps it.
    pub fn counted_by(&self) -> String {
        self.counting.fingerprint(&self.local)
    }

    /// The largest groups of a window. Dropping the future stops the query.
    ///
    /// # Errors
    /// A request that cannot be answered, an exhausted budget, a damaged segment, or a database that fails.
    pub async fn top(&self, request: &TopRequest) -> Result<TopAnswer, QueryError> {
        let hosts = totals::hosts(request, &self.local);
        let run = self.run(&request.window, || TopScan::new(request), hosts).await?;
        let Run { found, completeness, source } = run;
        let completeness = completeness.of(found.records(), request.counters, found.sampled_flows());
        let ranking = tokio::task::spawn_blocking(move || found.finish());
        let (rows, totals, groups) = ranking.await.map_err(|error| QueryError::Worker(error.to_string()))?;
        Ok(TopAnswer { rows, totals, groups, completeness, source, counted: self.told() })
    }

    /// The local networks.
    pub fn local(&self) -> &Local {
        &self.local
    }

    /// What a host downloaded, uploaded and exchanged within the local networks; see [`HostAnswer`]. When the host is itself
    /// not local, nothing but what it sent itself is internal and all other flows to it are download. Dropping the future
    /// stops the query.
    ///
    /// # Errors
    /// A window in which nothing can be, an exhausted budget, a damaged segment, or a database that fails.
    pub async fn host(&self, request: &HostRequest) -> Result<HostAnswer, QueryError> {
        let new = || HostScan::new(request, &self.local);
        let question = new()?.host_is_local().then_some(*request);
        let Run { found, completeness, source } = self.run(&request.window, new, question).await?;
        let HostScan { download, upload, internal, records, sampled_flows, .. } = found;
        let completeness = completeness.of(records, request.counters, sampled_flows);
        let (host, counted) = (request.host.to_canonical(), self.told());
        Ok(HostAnswer { host, download, upload, internal, completeness, source, counted })
    }

    /// Which flows count in answers, for those who read them.
    fn told(&self) -> Counted {
        if self.all_count { Counted { all: true, ..Counted::default() } } else { Counted::by(&self.counting) }
    }

    /// The flows that count; `None` when all do.
    async fn counted(&self, snapshot: &mut Snapshot) -> Result<Option<Expression>, QueryError> {
        if self.all_count || self.counting.is_empty() {
            return Ok(None);
        }
        Ok(counting::counted(&self.counting.of_exporters(snapshot.exporters().await?)))
    }

    /// Runs scans over the window, within the budget, when it is this query's turn. Where totals answer the `question`, they
    /// are taken instead.
    async fn run<S: Scan>(
        &self,
        window: &Window,
        new: impl Fn() -> Result<S, QueryError>,
        question: Option<impl Question<S>>,
    ) -> Result<Run<S>, QueryError> {
        let mut scans = (1..self.settings.worker_count()).map(|_| new()).collect::<Result<Vec<S>, QueryError>>()?;
        let budget = Arc::new(Budget::new(&self.settings, Instant::now()));
        let answer = async {
            // The semaphore is never closed, so there always comes a turn.
            let _turn = self.turns.acquire().await.ok();
            let mut snapshot = self.database.snapshot_of_flows().await?;
            let counted = self.counted(&mut snapshot).await?;
            let count_only = |scan: &mut S| counted.iter().for_each(|counted| scan.count_only(counted));
            scans.iter_mut().for_each(count_only);
            let new = || {
                let mut scan = new()?;
                count_only(&mut scan);
                Ok(scan)
            };
            // Totals are of the flows that count by the rules.
            let question = question.filter(|_| !self.all_count || self.counting.is_empty());
            let covered = self.cover(&mut snapshot, window, new, question, &budget).await?;
            let headers = list(&mut snapshot, &covered.plan).await?;
            let completeness = self.completeness(&mut snapshot, window, covered.gone).await?;
            let loads = plan::loads(&headers, window, &covered.scan.load_fields());
            let source = Source {
                days: covered.stretch.days.len() as u64,
                hours: covered.stretch.hours.len() as u64,
                segments: headers.len() as u64,
            };
            scans.push(covered.scan);
            Ok(Run { found: workers::run(snapshot, loads, scans, &budget).await?, completeness, source })
        };
        tokio::time::timeout(self.settings.duration(), answer).await.unwrap_or_else(|_| Err(budget.out_of_time()))
    }

    /// Takes the totals that there are, and says what is left to be read.
    async fn cover<S: Scan>(
        &self,
        snapshot: &mut Snapshot,
        window: &Window,
        new: impl Fn() -> Result<S, QueryError>,
        question: Option<impl Question<S>>,
        budget: &Budget,
    ) -> Result<Covered<S>, QueryError> {
        let days = snapshot.hours(window.from, window.to, &self.counted_by()).await?;
        let recorded_from = snapshot.recorded_from().await?;
        let from_segments = |scan| {
            let plan = Plan::scan(window, &days);
            Covered { gone: plan.gone(recorded_from), plan, stretch: Stretch::default(), scan }
        };
        let mut scan = new()?;
        let empty = scan.memory();
        let Some(question) = question else { return Ok(from_segments(scan)) };
        let plan = Plan::new(window, &days);
        answerable(&plan, window)?;
        let stretch = plan.stretch();
        let whole = stretch.is_empty() || question.add_totals(&mut scan, snapshot, &stretch, budget).await?;
        if !whole && plan.has_flows() {
            budget.spend(scan.memory(), empty)?;
            return Ok(from_segments(new()?));
        }
        Ok(Covered { gone: plan.gone(recorded_from), plan, stretch, scan })
    }

    /// What an answer that is read from segments alone may be missing.
    async fn completeness_of_flows(
        &self,
        snapshot: &mut Snapshot,
        window: &Window,
    ) -> Result<Completeness, QueryError> {
        let days = snapshot.hours(window.from, window.to, &self.counted_by()).await?;
        let gone = Plan::scan(window, &days).gone(snapshot.recorded_from().await?);
        self.completeness(snapshot, window, gone).await
    }

    async fn completeness(
        &self,
        snapshot: &mut Snapshot,
        window: &Window,
        gone: Gone,
    ) -> Result<Completeness, QueryError> {
        let now = self.clock.now();
        let loss = snapshot.loss(window.from, window.to).await?;
        let known = Known {
            senders: snapshot.senders(&stamp::exporters_of(&loss)).await?,
            unnumbered: snapshot.sent(UNNUMBERED.code(), window.from).await?,
            not_recorded: gone.not_recorded,
            imported_hours: gone.imported_hours,
            counted_otherwise: gone.counted_otherwise,
            stored_until: snapshot.complete_until().await?,
            loss,
        };
        Ok(stamp::stamp(window, &known, now))
    }
}

/// Refuses a window that cuts an hour of which only totals are left, and says which windows can be had.
fn answerable(plan: &Plan, window: &Window) -> Result<(), QueryError> {
    let Some(nearest) = plan.nearest() else { return Ok(()) };
    let offer = |range: std::ops::Range<Timestamp>| Window { from: range.start, to: range.end, zone: window.zone };
    Err(QueryError::WindowNotOnHours { inner: nearest.inner.map(offer), outer: offer(nearest.outer) })
}

/// The segments that are to be read, in the order of time.
async fn list(snapshot: &mut Snapshot, plan: &Plan) -> Result<Vec<SegmentHeader>, QueryError> {
    let ranges = plan.ranges();
    let mut headers = Vec::new();
    if ranges.len() <= LISTED_RANGES {
        for range in ranges {
            headers.extend(snapshot.segments(range.start, range.end).await?);
        }
        return Ok(headers);
    }
    if let (Some(first), Some(last)) = (ranges.first(), ranges.last()) {
        headers = snapshot.segments(first.start, last.end).await?;
        // A segment lies in one hour, and so in one range or in none.
        headers.retain(|header| {
            let after = ranges.partition_point(|range| range.start <= header.received_last);
            let range = after.checked_sub(1).and_then(|index| ranges.get(index));
            range.is_some_and(|range| header.received_first < range.end)
        });
    }
    Ok(headers)
}
