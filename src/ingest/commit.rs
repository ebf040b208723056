//! The third stage: pieces that have come together are stored in one transaction, again and again until it is known that
//! they are stored.
//!
//! While one batch is finished the flows of the next are copied in a session of their own: with rows a session's processor
//! is the limit, and each COMMIT waits for the disk. They are finished in order, one after the other. When one fails, what
//! was copied of the next is given up, so that a session that waits never holds a lock that the failed batch needs.

use super::storage::Loading;
use super::work::Ledger;
use super::{IngestError, ReasonLabel, Shared, give_back};
use crate::clock::Timestamp;
use crate::flow::batch::FlowBatch;
use crate::flow::segment::Segment;
use crate::store::StoreError;
use crate::store::commit::Batch;
use crate::store::facts::{FACT_LIMIT, FACTS};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

/// The most segments that one transaction stores: enough to make its fixed costs small, few enough to end it soon.
const SEGMENTS_AT_ONCE: usize = 16;
/// Batches that are being stored at a time, each in a session of its own.
const AT_ONCE: usize = 2;
/// How long storing may fail before the server says that it is not ready.
const NOT_READY: Duration = Duration::from_secs(5);
/// How long to wait after a failed transaction, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));
/// How long after a failure was told further ones are not.
const TELL_AGAIN: Duration = Duration::from_secs(10);

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

/// What became of a try to store the oldest batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tried {
    /// Nothing is left to be stored.
    Nothing,
    /// It is stored.
    Stored,
    /// It shall be tried again after this time.
    Failed(Duration),
}

/// What the third stage holds.
pub(super) struct Stage<'a> {
    shared: &'a Shared,
    journal: &'a str,
    /// The id of the next batch's first segment.
    next_segment: i64,
    pieces: &'a Receiver<Packed>,
    empty: &'a SyncSender<FlowBatch>,
    /// The hour in which partitions for open segments were last made.
    open_hour: Option<Timestamp>,
    /// Whether rows of these days are written, as the database said in this hour.
    days: HashMap<Timestamp, bool>,
    /// Batches on their way, in the order of the journal.
    under_way: VecDeque<UnderWay>,
    /// While storing fails.
    trouble: Option<Trouble>,
}

/// A batch on its way. Its flows are being copied, unless that was given up.
struct UnderWay {
    batch: Arc<Batch>,
    loading: Option<Box<dyn Loading>>,
}

/// How storing fails.
struct Trouble {
    since: Instant,
    pause: Duration,
    told: Option<Instant>,
    ready: bool,
}

impl<'a> Stage<'a> {
    /// A stage that numbers segments from `next_segment` on.
    pub(super) fn new(
        shared: &'a Shared,
        journal: &'a str,
        next_segment: i64,
        pieces: &'a Receiver<Packed>,
        empty: &'a SyncSender<FlowBatch>,
    ) -> Self {
        let under_way = VecDeque::with_capacity(AT_ONCE);
        Self {
            shared,
            journal,
            next_segment,
            pieces,
            empty,
            open_hour: None,
            days: HashMap::new(),
            under_way,
            trouble: None,
        }
    }

    /// Stores until the second stage ends.
    pub(super) fn run(mut self) -> Result<(), IngestError> {
        loop {
            if self.under_way.is_empty() {
                let Ok(piece) = self.pieces.recv() else { return Ok(()) };
                self.begin(piece);
            }
            if let Tried::Failed(pause) = self.step()? {
                self.shared.clock.sleep(pause);
            }
        }
    }

    /// Begins to copy what has come, then tries to store the oldest batch. When it fails, what was copied of later ones is
    /// given up, and nothing further is copied until it is stored.
    pub(super) fn step(&mut self) -> Result<Tried, IngestError> {
        while self.trouble.is_none() && self.under_way.len() < AT_ONCE {
            let Ok(piece) = self.pieces.try_recv() else { break };
            self.begin(piece);
        }
        let Some(UnderWay { mut batch, loading }) = self.under_way.pop_front() else { return Ok(Tried::Nothing) };
        match self.store(&mut batch, loading) {
            Ok(refused) => {
                self.stored(batch, refused);
                Ok(Tried::Stored)
            }
            Err(IngestError::Store(error)) if !matches!(error, StoreError::PositionMoved { .. }) => {
                self.under_way.push_front(UnderWay { batch, loading: None });
                Ok(Tried::Failed(self.failed(&error)))
            }
            Err(error) => Err(error),
        }
    }

    fn begin(&mut self, piece: Packed) {
        let mut batch = Arc::new(together(piece, self.pieces, self.shared.author));
        // Without its partitions it cannot be loaded; storing it in its turn tries again and tells why.
        let ready = self.prepare(&mut batch).is_ok();
        let loading = ready.then(|| self.shared.database.load(self.next_segment, &batch));
        let segments = i64::try_from(batch.segments.len()).unwrap_or(i64::MAX);
        self.next_segment = self.next_segment.saturating_add(segments);
        self.under_way.push_back(UnderWay { batch, loading });
    }

    /// Tries to store a batch. Returns how many facts were refused.
    fn store(&mut self, batch: &mut Arc<Batch>, loading: Option<Box<dyn Loading>>) -> Result<u64, IngestError> {
        if let Some(loading) = loading
            && let Some(refused) = loading.finish(self.journal, batch)?
        {
            return Ok(refused);
        }
        self.prepare(batch)?;
        self.shared.database.commit(self.journal, batch)
    }

    fn stored(&mut self, batch: Arc<Batch>, refused: u64) {
        let shared = self.shared;
        if let Some(trouble) = self.trouble.take() {
            tracing::info!("the database stores flows again");
            if !trouble.ready {
                (shared.tell)(true);
            }
        }
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
            give_back(self.empty, flows);
        }
    }

    /// Takes note of a failure. Returns how long to wait.
    fn failed(&mut self, error: &StoreError) -> Duration {
        for later in &mut self.under_way {
            later.loading = None;
        }
        self.shared.metrics.failed_commits.inc();
        // A partition may have been dropped; the next try asks again.
        self.days.clear();
        self.open_hour = None;
        let now = self.shared.clock.instant();
        let trouble = self.trouble.get_or_insert(Trouble { since: now, pause: BACKOFF.0, told: None, ready: true });
        if trouble.ready && now.saturating_duration_since(trouble.since) > NOT_READY {
            trouble.ready = false;
            (self.shared.tell)(false);
        }
        if trouble.told.is_none_or(|last| now.saturating_duration_since(last) > TELL_AGAIN) {
            trouble.told = Some(now);
            if error.is_outage() {
                tracing::warn!("flows wait in the journal until the database stores them: {error}");
            } else {
                tracing::error!("the database refuses flows, which wait in the journal: {error}");
            }
        }
        let pause = trouble.pause;
        trouble.pause = pause.saturating_mul(2).min(BACKOFF.1);
        pause
    }

    /// Makes sure that there are partitions for the batch, but for rows of days whose partition was dropped: these flows go to
    /// segments alone. Most partitions were made ahead, so this asks the database once an hour, and for each day of flows.
    fn prepare(&mut self, batch: &mut Arc<Batch>) -> Result<(), IngestError> {
        let hour = self.shared.clock.now().hour();
        if self.open_hour != Some(hour) && !batch.segments.is_empty() {
            self.shared.database.ensure_open()?;
            self.open_hour = Some(hour);
            self.days.clear();
        }
        let mut without_rows = BTreeSet::new();
        for segment in batch.segments.iter().filter(|_| self.shared.rows) {
            let day = segment.received_first.day();
            let written = match self.days.get(&day) {
                Some(written) => *written,
                None => self.shared.database.ensure_rows(day)?,
            };
            self.days.insert(day, written);
            if !written {
                without_rows.insert(day);
            }
        }
        if batch.without_rows != without_rows {
            Arc::make_mut(batch).without_rows = without_rows;
        }
        Ok(())
    }
}

/// A piece with those that have come after it, as far as one transaction takes them.
fn together(mut piece: Packed, pieces: &Receiver<Packed>, author: i64) -> Batch {
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
        author,
        complete_until: piece.complete_until,
        segments: piece.segments,
        rows: piece.flows,
        without_rows: BTreeSet::new(),
        activity: piece.ledger.activity(),
        loss: piece.ledger.loss(),
        facts: piece.ledger.take_facts(),
        unknown_elements: piece.ledger.take_unknown(),
        parked: std::mem::take(&mut piece.ledger.parked),
        unparked: std::mem::take(&mut piece.ledger.unparked),
        decoder_state: piece.ledger.decoder_state(),
    }
}
