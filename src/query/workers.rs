//! Several workers on one snapshot: each loads segments in a session of its own and scans them on a thread.
//!
//! Loads wait in one queue, so that no worker idles while another is behind. While a load is scanned the next one is on its
//! way from the database. Dropping the future stops everything: sessions end their statement, threads stop after the
//! segment they are at.

use super::QueryError;
use super::budget::Budget;
use super::plan::Load;
use super::scan::Scan;
use crate::flow::segment::Segment;
use crate::store::snapshot::Snapshot;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::task::{JoinSet, spawn_blocking};

/// Stops the threads of a query when its future is dropped, or has ended for whatever reason.
struct CancelOnDrop(Arc<Budget>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The loads that no worker has taken yet.
struct Queue {
    loads: Vec<Load>,
    next: AtomicUsize,
}

impl Queue {
    fn take(&self) -> Option<&Load> {
        self.loads.get(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// Scans `loads` with one worker for each of `scans`, or fewer when there are fewer loads, and returns what they found
/// together.
pub(super) async fn run<S: Scan>(
    mut snapshot: Snapshot,
    loads: Vec<Load>,
    mut scans: Vec<S>,
    budget: &Arc<Budget>,
) -> Result<S, QueryError> {
    let _stop = CancelOnDrop(Arc::clone(budget));
    let Some(first) = scans.pop() else { return Err(QueryError::Worker("no worker was asked for".into())) };
    scans.truncate(loads.len().saturating_sub(1));
    let queue = Arc::new(Queue { loads, next: AtomicUsize::new(0) });
    let mut tasks = JoinSet::new();
    if !scans.is_empty() {
        let name = snapshot.share().await?;
        for scan in scans {
            let joined = Snapshot::join(snapshot.database(), &name).await?;
            tasks.spawn(work(joined, Arc::clone(&queue), Arc::clone(budget), scan));
        }
    }
    tasks.spawn(work(snapshot, queue, Arc::clone(budget), first));
    let (mut merged, mut held) = (None::<S>, Vec::new());
    while let Some(ended) = tasks.join_next().await {
        let (scan, snapshot) = ended.map_err(|error| QueryError::Worker(error.to_string()))??;
        // The first one holds the partitions that the others may still read.
        held.push(snapshot);
        merged = Some(match merged {
            None => scan,
            Some(mut merged) => {
                let merge = spawn_blocking(move || {
                    merged.merge(scan);
                    merged
                });
                merge.await.map_err(|error| QueryError::Worker(error.to_string()))?
            }
        });
    }
    merged.ok_or_else(|| QueryError::Worker("it found nothing".into()))
}

/// One worker: loads and scans at the same time until the queue is empty. Returns what it read from, too.
async fn work<S: Scan>(
    mut snapshot: Snapshot,
    queue: Arc<Queue>,
    budget: Arc<Budget>,
    mut scan: S,
) -> Result<(S, Snapshot), QueryError> {
    let mut loaded = load(&mut snapshot, &queue).await?;
    while let Some((ids, segments)) = loaded {
        let budget = Arc::clone(&budget);
        let scanning = spawn_blocking(move || scan_all(scan, &ids, &segments, &budget));
        let (scanned, next) = tokio::join!(scanning, load(&mut snapshot, &queue));
        scan = scanned.map_err(|error| QueryError::Worker(error.to_string()))??;
        loaded = next?;
    }
    Ok((scan, snapshot))
}

/// The next load's segments with their ids, or nothing when the queue is empty.
async fn load(snapshot: &mut Snapshot, queue: &Queue) -> Result<Option<(Vec<i64>, Vec<Segment>)>, QueryError> {
    let Some(load) = queue.take() else { return Ok(None) };
    let segments = snapshot.load(&load.headers, &load.fields).await?;
    Ok(Some((load.headers.iter().map(|header| header.segment_id).collect(), segments)))
}

/// Scans loaded segments within the budget.
pub(super) fn scan_all<S: Scan>(
    mut scan: S,
    ids: &[i64],
    segments: &[Segment],
    budget: &Budget,
) -> Result<S, QueryError> {
    for (segment_id, segment) in ids.iter().zip(segments) {
        let before = scan.memory();
        scan.segment(segment).map_err(|source| QueryError::Columns { segment_id: *segment_id, source })?;
        budget.spend(before, scan.memory())?;
    }
    Ok(scan)
}
