//! Turns a request into a plan, runs it over segments in one snapshot, and returns exact rows with what was lost.
//!
//! [`Engine`] is the only part that waits for anything: it lists the segments of the window, has workers load the columns
//! that are needed and scan them, and adds the stamp of completeness, all from one moment of the database. [`plan`]
//! (what to read), [`scan`] (segment by segment), [`group`] (sums by key), [`rank`] (the largest), [`host`] and [`stamp`]
//! (what may be missing) are pure.

pub mod answer;
pub mod budget;
mod error;
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
pub mod window;
mod workers;

pub use answer::{
    Completeness, Counters, ExporterLoss, HostAnswer, HostRequest, LossCount, Order, TopAnswer, TopRequest, TopRow,
    Undercount, Window,
};
pub use budget::Settings;
pub use error::QueryError;
pub use group::MAX_DIMENSIONS;
pub use plan::MAX_LIMIT;

use crate::clock::SharedClock;
use crate::store::Database;
use crate::store::snapshot::{COLLECTOR_ALIVE, Snapshot};
use budget::Budget;
use host::HostScan;
use ipnetwork::IpNetwork;
use scan::{Scan, TopScan};
use stamp::{Known, UNNUMBERED};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;

/// Answers requests from what the database holds. Clones share the limit of queries at a time.
#[derive(Clone)]
pub struct Engine {
    database: Database,
    clock: SharedClock,
    settings: Settings,
    turns: Arc<Semaphore>,
}

impl Engine {
    /// An engine over `database`, within `settings`. The clock tells what is still to come in a window.
    pub fn new(database: Database, clock: SharedClock, settings: Settings) -> Self {
        let turns = Arc::new(Semaphore::new(settings.turns()));
        Self { database, clock, settings, turns }
    }

    /// The largest groups of a window. Dropping the future stops the query.
    ///
    /// # Errors
    /// A request that cannot be answered, an exhausted budget, a damaged segment, or a database that fails.
    pub async fn top(&self, request: &TopRequest) -> Result<TopAnswer, QueryError> {
        let scans = self.scans(|| TopScan::new(request))?;
        let (found, completeness) = self.run(request.window, scans).await?;
        let completeness = completeness.of(found.records(), request.counters, found.sampled_flows());
        let ranking = tokio::task::spawn_blocking(move || found.finish());
        let (rows, totals, groups) = ranking.await.map_err(|error| QueryError::Worker(error.to_string()))?;
        Ok(TopAnswer { rows, totals, groups, completeness })
    }

    /// What a host downloaded, uploaded and exchanged within the networks in `local`; see [`HostAnswer`]. When the host is
    /// itself not in `local`, nothing is internal and all flows to it are download. Dropping the future stops the query.
    ///
    /// # Errors
    /// A window in which nothing can be, an exhausted budget, a damaged segment, or a database that fails.
    pub async fn host(&self, request: &HostRequest, local: &[IpNetwork]) -> Result<HostAnswer, QueryError> {
        let scans = self.scans(|| HostScan::new(request, local))?;
        let (found, completeness) = self.run(request.window, scans).await?;
        let HostScan { download, upload, internal, records, sampled_flows, .. } = found;
        let completeness = completeness.of(records, request.counters, sampled_flows);
        Ok(HostAnswer { host: request.host.to_canonical(), download, upload, internal, completeness })
    }

    /// A scan for each worker.
    fn scans<S>(&self, new: impl Fn() -> Result<S, QueryError>) -> Result<Vec<S>, QueryError> {
        (0..self.settings.worker_count()).map(|_| new()).collect()
    }

    /// Runs the scans over the window, within the budget, when it is this query's turn.
    async fn run<S: Scan>(&self, window: Window, scans: Vec<S>) -> Result<(S, Completeness), QueryError> {
        let budget = Arc::new(Budget::new(&self.settings, Instant::now()));
        let answer = async {
            // The semaphore is never closed, so there always comes a turn.
            let _turn = self.turns.acquire().await.ok();
            let mut snapshot = self.database.snapshot().await?;
            let headers = snapshot.segments(window.from, window.to).await?;
            let completeness = self.completeness(&mut snapshot, &window).await?;
            let fields = scans.first().map(Scan::load_fields).unwrap_or_default();
            let loads = plan::loads(&headers, &window, &fields);
            Ok((workers::run(snapshot, loads, scans, &budget).await?, completeness))
        };
        tokio::time::timeout(self.settings.duration(), answer).await.unwrap_or_else(|_| Err(budget.out_of_time()))
    }

    async fn completeness(&self, snapshot: &mut Snapshot, window: &Window) -> Result<Completeness, QueryError> {
        let now = self.clock.now();
        let loss = snapshot.loss(window.from, window.to).await?;
        let recorded_from = snapshot.recorded_from().await?;
        let known = Known {
            senders: snapshot.senders(&stamp::exporters_of(&loss)).await?,
            unnumbered: snapshot.sent(UNNUMBERED.code(), window.from, window.to).await?,
            recorded_from,
            imported: snapshot.imported(window.from, window.to, recorded_from.unwrap_or(window.to)).await?,
            stored_until: snapshot.complete_until(now, COLLECTOR_ALIVE).await?,
            loss,
        };
        Ok(stamp::stamp(window, &known, now))
    }
}
