//! The third stage: pieces that have come together are stored in one transaction, again and again until it is known that
//! they are stored.

use super::work::Ledger;
use super::{IngestError, ReasonLabel, Shared, give_back};
use crate::clock::Timestamp;
use crate::flow::batch::FlowBatch;
use crate::flow::segment::Segment;
use crate::store::StoreError;
use crate::store::commit::Batch;
use crate::store::facts::{FACT_LIMIT, FACTS};
use crate::store::partitions::DailyTable;
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

/// The most segments that one transaction stores: enough to make its fixed costs small, few enough to end it soon.
const SEGMENTS_AT_ONCE: usize = 16;
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

/// Stores until the second stage ends.
pub(super) fn run(
    shared: &Shared,
    journal: &str,
    pieces: &Receiver<Packed>,
    empty: &SyncSender<FlowBatch>,
) -> Result<(), IngestError> {
    let mut days = HashSet::new();
    while let Ok(mut piece) = pieces.recv() {
        while piece.segments.len() < SEGMENTS_AT_ONCE && piece.flows.is_empty() && !piece.ledger.is_full() {
            let Ok(next) = pieces.try_recv() else { break };
            piece.end = next.end;
            piece.segments.extend(next.segments);
            piece.flows.extend(next.flows);
            piece.ledger.merge(next.ledger);
            piece.complete_until = next.complete_until;
        }
        let mut batch = Batch {
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
        };
        let refused = store(shared, journal, &batch, &mut days)?;
        if refused > 0 {
            shared.metrics.rejected.get_or_create(&ReasonLabel { reason: FACT_LIMIT, unit: FACTS }).inc_by(refused);
        }
        let flows = batch.segments.iter().map(|segment| u64::from(segment.rows)).sum();
        shared.metrics.stored_flows.inc_by(flows);
        shared.metrics.commits.inc();
        shared.stored.store(batch.end, Ordering::Release);
        shared.completed(batch.complete_until);
        for mut flows in batch.rows.drain(..) {
            flows.clear();
            give_back(empty, flows);
        }
    }
    Ok(())
}

/// Stores one batch, waiting as long as the database is away. Returns how many facts were refused.
fn store(
    shared: &Shared,
    journal: &str,
    batch: &Batch,
    days: &mut HashSet<(DailyTable, Timestamp)>,
) -> Result<u64, IngestError> {
    let mut pause = BACKOFF.0;
    let (mut told, mut failing, mut ready) = (None::<Instant>, None::<Instant>, true);
    loop {
        let result = shared.wait(async {
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
