//! The third stage: pieces that have come together are stored in one transaction, again and again until it is known that
//! they are stored.
//!
//! While one batch is finished the flows of the next are copied in a session of their own: with rows a session's processor
//! is the limit, and each COMMIT waits for the disk. They are finished in order, one after the other. When one fails, what
//! was copied of the next is given up, so that a session that waits never holds a lock that the failed batch needs.

use super::work::Ledger;
use super::{IngestError, ReasonLabel, Shared, give_back};
use crate::clock::Timestamp;
use crate::flow::batch::FlowBatch;
use crate::flow::segment::Segment;
use crate::store::StoreError;
use crate::store::commit::{Batch, Loaded};
use crate::store::facts::{FACT_LIMIT, FACTS};
use crate::store::partitions::DailyTable;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// The most segments that one transaction stores: enough to make its fixed costs small, few enough to end it soon.
const SEGMENTS_AT_ONCE: usize = 16;
/// Batches that are being stored at a time, each in a session of its own.
const AT_ONCE: usize = 2;
/// How long storing may fail before the server says that it is not ready.
const NOT_READY: Duration = Duration::from_secs(5);
/// How long to wait after a failed transaction, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// A piece of work, compressed.
pub(super) struct Packed {
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) segments: Vec<Segment>,
    /// The flows themselves, when they are also stored as rows.
    pub(super) flows: Vec<FlowBatch>,
    pub(super) ledger: Ledger,
    pub(super) complete_until: Timestamp,
}

/// Stores until the second stage ends. Segments are numbered from `next_segment` on.
pub(super) fn run(
    shared: &Shared,
    journal: &str,
    mut next_segment: i64,
    pieces: &Receiver<Packed>,
    empty: &SyncSender<FlowBatch>,
) -> Result<(), IngestError> {
    let mut days = HashSet::new();
    let mut under_way: VecDeque<UnderWay> = VecDeque::with_capacity(AT_ONCE);
    loop {
        while under_way.len() < AT_ONCE {
            let piece = if under_way.is_empty() { pieces.recv().ok() } else { pieces.try_recv().ok() };
            let Some(piece) = piece else { break };
            let batch = Arc::new(together(piece, pieces));
            let segments = i64::try_from(batch.segments.len()).unwrap_or(i64::MAX);
            under_way.push_back(UnderWay::begin(shared, batch, next_segment, &mut days));
            next_segment = next_segment.saturating_add(segments);
        }
        let Some(UnderWay { batch, loading }) = under_way.pop_front() else { return Ok(()) };
        let refused = store(shared, journal, &batch, loading, &mut under_way, &mut days)?;
        if refused > 0 {
            shared.metrics.rejected.get_or_create(&ReasonLabel { reason: FACT_LIMIT, unit: FACTS }).inc_by(refused);
        }
        let flows = batch.segments.iter().map(|segment| u64::from(segment.rows)).sum();
        shared.metrics.stored_flows.inc_by(flows);
        shared.metrics.commits.inc();
        shared.stored.store(batch.end, Ordering::Release);
        shared.completed(batch.complete_until);
        // A load that was given up may still be about to let go of it; the pool gets new memory then.
        let rows = Arc::try_unwrap(batch).map(|batch| batch.rows);
        for mut flows in rows.unwrap_or_else(|batch| vec![FlowBatch::default(); batch.rows.len()]) {
            flows.clear();
            give_back(empty, flows);
        }
    }
}

/// A piece with those that have come after it, as far as one transaction takes them.
fn together(mut piece: Packed, pieces: &Receiver<Packed>) -> Batch {
    while piece.segments.len() < SEGMENTS_AT_ONCE && piece.flows.is_empty() && !piece.ledger.is_full() {
        let Ok(next) = pieces.try_recv() else { break };
        piece.end = next.end;
        piece.segments.extend(next.segments);
        piece.flows.extend(next.flows);
        piece.ledger.merge(next.ledger);
        piece.complete_until = next.complete_until;
    }
    Batch {
        start: piece.start,
        end: piece.end,
        complete_until: piece.complete_until,
        segments: piece.segments,
        rows: piece.flows,
        activity: piece.ledger.activity(),
        loss: piece.ledger.loss(),
        facts: piece.ledger.take_facts(),
        unknown_elements: piece.ledger.take_unknown(),
        parked: std::mem::take(&mut piece.ledger.parked),
        unparked: std::mem::take(&mut piece.ledger.unparked),
        decoder_state: piece.ledger.decoder_state(),
    }
}

/// A batch whose flows are being copied.
struct UnderWay {
    batch: Arc<Batch>,
    loading: Loading,
}

impl UnderWay {
    fn begin(
        shared: &Shared,
        batch: Arc<Batch>,
        first_segment: i64,
        days: &mut HashSet<(DailyTable, Timestamp)>,
    ) -> Self {
        // Without its days it cannot be loaded; storing it in its turn tries again and tells why.
        let ready = shared.wait(prepare_days(shared, &batch, days)).is_ok();
        let task = ready.then(|| {
            let (database, batch) = (shared.database.clone(), Arc::clone(&batch));
            shared.runtime.spawn(async move { database.load(first_segment, &batch).await })
        });
        Self { batch, loading: Loading(task) }
    }
}

/// Flows on their way into a transaction that is given up when this is dropped; `None` when it was.
struct Loading(Option<JoinHandle<Result<Loaded, StoreError>>>);

impl Drop for Loading {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

impl Loading {
    /// What was loaded; `None` when it was given up or ended by a defect, which storing it in its turn then meets.
    async fn loaded(&mut self) -> Result<Option<Loaded>, StoreError> {
        let Some(task) = &mut self.0 else { return Ok(None) };
        let loaded = task.await;
        self.0 = None;
        loaded.ok().transpose()
    }
}

/// Stores one batch, waiting as long as the database is away. Returns how many facts were refused.
fn store(
    shared: &Shared,
    journal: &str,
    batch: &Batch,
    mut loading: Loading,
    later: &mut VecDeque<UnderWay>,
    days: &mut HashSet<(DailyTable, Timestamp)>,
) -> Result<u64, IngestError> {
    let mut pause = BACKOFF.0;
    let (mut told, mut failing, mut ready) = (None::<Instant>, None::<Instant>, true);
    loop {
        let result = shared.wait(async {
            if let Some(loaded) = loading.loaded().await? {
                return shared.database.finish(journal, batch, loaded).await;
            }
            prepare_days(shared, batch, days).await?;
            shared.database.commit(journal, batch).await
        });
        match result {
            Ok(refused) => {
                if told.is_some() {
                    tracing::info!("the database stores flows again");
                }
                if !ready {
                    (shared.tell)(true);
                }
                return Ok(refused);
            }
            Err(IngestError::Store(error)) if !matches!(error, StoreError::PositionMoved { .. }) => {
                for next in &mut *later {
                    next.loading = Loading(None);
                }
                if ready && failing.get_or_insert_with(Instant::now).elapsed() > NOT_READY {
                    ready = false;
                    (shared.tell)(false);
                }
                shared.metrics.failed_commits.inc();
                // A partition may have been dropped by hand; the next try makes it again.
                days.clear();
                if told.is_none_or(|last| last.elapsed() > Duration::from_secs(10)) {
                    told = Some(Instant::now());
                    if error.is_outage() {
                        tracing::warn!("flows wait in the journal until the database stores them: {error}");
                    } else {
                        tracing::error!("the database refuses flows, which wait in the journal: {error}");
                    }
                }
            }
            Err(error) => return Err(error),
        }
        std::thread::sleep(pause);
        pause = pause.saturating_mul(2).min(BACKOFF.1);
    }
}

/// Makes sure that the days of the batch have partitions. They were made ahead, so this asks the database once a day.
async fn prepare_days(
    shared: &Shared,
    batch: &Batch,
    days: &mut HashSet<(DailyTable, Timestamp)>,
) -> Result<(), StoreError> {
    for segment in &batch.segments {
        let day = segment.received_first.day();
        for table in DailyTable::ALL {
            let needed = table == DailyTable::FlowSegments || shared.rows;
            if needed && !days.contains(&(table, day)) {
                shared.database.ensure_day(table, day).await?;
                days.insert((table, day));
            }
        }
    }
    Ok(())
}
