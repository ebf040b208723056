//! From the journal to the database: decoded in order, stored once.
//!
//! Three threads, joined by [`pipeline`], pass work along. [`decode`] reads the journal, decodes into columns and cuts a
//! piece of [`work`] about once a second, when a segment is full, or when the hour changes; [`pack`] compresses it;
//! [`commit`] stores what has come together since in one transaction. Only these three and [`exporters`] wait for the
//! database, behind the seam [`storage`]. When it is away the pieces stop moving and the journal grows instead; nothing is
//! dropped here. What was stored is released from the journal. Each stage is a thing with one step, which its thread
//! repeats, so that a test can drive all of them without threads.
//!
//! Promises: pieces are stored in the order of the journal, each exactly once; the decoder's state that is stored belongs
//! to the position that is stored with it. After any surprise (another server moved the position) the pipeline starts
//! anew from what the database holds. Ingest knows neither sockets nor queries.

mod commit;
mod configured;
mod decode;
mod error;
mod exporters;
mod layouts;
mod pack;
mod pipeline;
#[cfg(test)]
mod simulation;
mod storage;
mod work;

pub use configured::{Configured, ExporterProblem, ExporterSettings, NO_INTERVAL};
pub use error::IngestError;

use crate::clock::{SharedClock, Timestamp};
use crate::flow::batch::FlowBatch;
use crate::journal::{DropCause, Dropped, Reader, Record};
use crate::metrics::{Counter, EncodeLabelSet, Family, Gauge, Registry};
use crate::store::Database;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::Duration;
use storage::{Postgres, Storage};

/// How flows are brought into the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How long flows wait for company before they are stored, in milliseconds, 10 to 60,000.
    pub commit_interval_ms: u64,
    /// The most exporters that are entered; datagrams of further ones are refused and counted.
    pub max_exporters: u32,
    /// How long stopping may take to store what was received, in seconds; what is left stays in the journal.
    pub stop_seconds: u64,
    /// What the configuration says about exporters. It stands in sections of its own.
    #[serde(skip)]
    pub exporters: Configured,
}

impl Default for Settings {
    fn default() -> Self {
        Self { commit_interval_ms: 1_000, max_exporters: 4_096, stop_seconds: 20, exporters: Configured::default() }
    }
}

impl Settings {
    fn commit_interval(&self) -> Duration {
        Duration::from_millis(self.commit_interval_ms.clamp(10, 60_000))
    }
}

/// The label of what was refused, odd or missing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabel {
    /// The reason's name, as in `/api/v1/exporters`.
    pub reason: &'static str,
    /// What is counted.
    pub unit: &'static str,
}

/// What ingest counts. `received = decoded + rejected`, in datagrams.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    datagrams: Counter,
    /// Those among them that a former process received.
    earlier: Counter,
    /// Datagrams that were dropped before the journal or by it, as it told of them since the start.
    dropped: Counter,
    decoded: Counter,
    /// Datagrams among those in `rejected`.
    refused: Counter,
    /// What `datagrams` has more than `decoded` and `refused` together, between two datagrams: 0.
    accounting_error: Gauge,
    flows: Counter,
    rejected: Family<ReasonLabel, Counter>,
    noticed: Family<ReasonLabel, Counter>,
    lost: Family<ReasonLabel, Gauge>,
    stored_flows: Counter,
    commits: Counter,
    failed_commits: Counter,
    restarts: Counter,
    /// 1 while the pipeline is at work that began at the start: 0 before that, and once it had to begin anew.
    uninterrupted: Gauge,
    backlog: Gauge,
    parked_bytes: Gauge,
    complete_until: Gauge,
}

impl Metrics {
    /// Counts a record that was read, `ours` if this process wrote it.
    fn read(&self, record: &Record<'_>, ours: bool) {
        match record {
            Record::Datagram(_) if !ours => {
                self.earlier.inc();
            }
            Record::Dropped(Dropped { cause: DropCause::Kernel | DropCause::JournalFull, count, .. }) if ours => {
                self.dropped.inc_by(*count);
            }
            _ => {}
        }
    }

    /// Shows the counters.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("ingest_datagrams", "Datagrams read from the journal", self.datagrams.clone());
        registry.register(
            "ingest_datagrams_of_earlier_starts",
            "Datagrams read from the journal that were received before the server started",
            self.earlier.clone(),
        );
        registry.register(
            "ingest_datagrams_dropped",
            "Datagrams dropped by the kernel or a full journal since the start, as read from the journal",
            self.dropped.clone(),
        );
        registry.register("ingest_datagrams_decoded", "Datagrams that were decoded", self.decoded.clone());
        registry.register("ingest_flows_decoded", "Flows found in datagrams", self.flows.clone());
        registry.register("ingest_datagrams_refused", "Datagrams that were refused whole", self.refused.clone());
        registry.register(
            "ingest_accounting_error",
            "Datagrams read that were neither decoded nor refused; 0 unless the server is defective",
            self.accounting_error.clone(),
        );
        registry.register("ingest_rejected", "Datagrams, sets and records that were refused", self.rejected.clone());
        registry.register("ingest_noticed", "What was odd and was kept all the same", self.noticed.clone());
        registry.register("ingest_lost", "What is known to be missing, by cause", self.lost.clone());
        registry.register("ingest_flows_stored", "Flows committed to PostgreSQL", self.stored_flows.clone());
        registry.register("ingest_commits", "Transactions committed", self.commits.clone());
        registry.register(
            "ingest_commits_failed",
            "Transactions that failed and were tried again",
            self.failed_commits.clone(),
        );
        registry.register("ingest_restarts", "Times the pipeline began anew from the database", self.restarts.clone());
        registry.register(
            "ingest_uninterrupted",
            "1 while the pipeline is at work and has been since it first was, 0 before and once it began anew",
            self.uninterrupted.clone(),
        );
        registry.register("ingest_backlog_bytes", "Bytes of the journal that are not stored yet", self.backlog.clone());
        registry.register(
            "ingest_parked_bytes",
            "Bytes of data sets that wait for their template",
            self.parked_bytes.clone(),
        );
        registry.register(
            "ingest_complete_until_seconds",
            "Everything received before this Unix time is stored",
            self.complete_until.clone(),
        );
    }
}

/// What the threads of one server share.
struct Shared {
    settings: Settings,
    database: Box<dyn Storage>,
    clock: SharedClock,
    metrics: Metrics,
    /// Whether flows are also stored as rows.
    rows: bool,
    /// Set once: read what is there, store it, end.
    stopping: AtomicBool,
    /// Set to end without storing what is left, because that takes too long.
    abandon: Arc<AtomicBool>,
    /// Set when a later stage has ended before the first: the first shall end, too, so that all begin anew.
    broken: AtomicBool,
    /// When this process began to receive.
    started: Timestamp,
    /// A number by which it knows its batches, drawn by chance.
    author: i64,
    /// The position up to which everything is stored.
    stored: AtomicU64,
    /// Told whenever the pipeline begins or ceases to work.
    tell: Box<dyn Fn(bool) + Send + Sync>,
    /// Lets the second stage, which waits for nothing and calls nobody who could be false, end by a defect once.
    #[cfg(test)]
    pack_panics: AtomicBool,
}

/// The running pipeline.
pub struct Ingest {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

impl Ingest {
    /// Starts the pipeline from what the database holds. `rows` tells whether flows are also stored as rows; `tell` is
    /// called with true when the pipeline has loaded its state and is at work, and with false when it must begin anew.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(
        settings: Settings,
        rows: bool,
        reader: Reader,
        database: Database,
        clock: SharedClock,
        metrics: Metrics,
        tell: impl Fn(bool) + Send + Sync + 'static,
    ) -> Result<Self, IngestError> {
        let abandon = Arc::new(AtomicBool::new(false));
        let runtime = tokio::runtime::Handle::current();
        let shared = Arc::new(Shared {
            settings,
            started: reader.opened(),
            author: fastrand::i64(..),
            database: Box::new(Postgres { database, runtime, abandon: Arc::clone(&abandon) }),
            clock,
            metrics,
            rows,
            stopping: AtomicBool::new(false),
            abandon,
            broken: AtomicBool::new(false),
            stored: AtomicU64::new(0),
            tell: Box::new(tell),
            #[cfg(test)]
            pack_panics: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("ingest".to_owned())
            .spawn(move || pipeline::run(&own, reader))
            .map_err(IngestError::Thread)?;
        Ok(Self { shared, thread })
    }

    /// Whether the pipeline's thread has ended, which it only does when it is stopped or by a defect.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stores what the journal holds and ends. When that takes longer than [`Settings::stop_seconds`], what is left stays in
    /// the journal for the next start.
    pub fn stop(self) {
        let patience = Duration::from_secs(self.shared.settings.stop_seconds);
        self.shared.stopping.store(true, Ordering::Release);
        let begun = std::time::Instant::now();
        while !self.thread.is_finished() {
            if begun.elapsed() > patience {
                self.shared.abandon.store(true, Ordering::Release);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        if self.thread.join().is_err() {
            tracing::error!("ingest ended by a defect; what it had not stored is still in the journal");
        }
    }
}

/// Gives a batch back to the first stage. When that has ended, nobody needs the memory.
fn give_back(empty: &SyncSender<FlowBatch>, batch: FlowBatch) {
    let _ = empty.try_send(batch);
}

impl Shared {
    fn stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Whether the first stage shall end without waiting for what is under way.
    fn abandoned(&self) -> bool {
        self.abandon.load(Ordering::Acquire) || self.broken.load(Ordering::Acquire)
    }

    /// Compares the counters of datagrams, of which none is under way now.
    fn account(&self) {
        let Metrics { datagrams, decoded, refused, accounting_error, .. } = &self.metrics;
        let accounted = decoded.get().saturating_add(refused.get());
        accounting_error.set(datagrams.get().wrapping_sub(accounted).cast_signed());
    }

    fn completed(&self, until: Timestamp) {
        self.metrics.complete_until.set(until.micros() / crate::clock::SECOND);
    }
}
