//! What writer, flusher and reader share: the segments there are, how far they reach, and how they wake each other.
//!
//! Locks are taken in this order: the writer's state, then the index. Neither is held while a file is flushed or deleted.

use super::error::JournalError;
use super::files::{self, Disk};
use super::metrics::Metrics;
use super::record::{self, DropCause, Dropped, Record};
use super::segment::{HEADER_BYTES, Header, HeaderFault, Segment};
use super::writer::{Room, State};
use super::{JournalId, Settings};
use crate::clock::{SharedClock, Timestamp};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The highest position an opening may begin at; what lies above is more than one process can write.
const LAST_START: u64 = (i64::MAX / 2) as u64;

/// One open journal.
pub(super) struct Shared {
    pub settings: Settings,
    pub disk: Arc<dyn Disk>,
    pub clock: SharedClock,
    /// When this process opened it.
    pub opened: Timestamp,
    pub id: JournalId,
    /// Begins the checksums of the records.
    pub seed: u32,
    pub metrics: Metrics,
    pub writer: Mutex<State>,
    /// When the earliest of the drops that wait to be told was received, in microseconds; `i64::MAX` while none waits.
    pub untold_since: AtomicI64,
    /// When machine and process were last seen to go on, in microseconds; `i64::MAX` where nobody looks.
    pub awake_until: AtomicI64,
    /// When the first of what is being appended was received, of each batch.
    pub appending: Mutex<Vec<Timestamp>>,
    pub index: Mutex<Index>,
    /// Records arrived, or the writers are gone.
    pub arrived: Condvar,
    /// There is something to flush, or the writers are gone.
    pub dirty: Condvar,
    _lock: File,
}

/// The segments and how far they reach.
#[derive(Default)]
pub(super) struct Index {
    /// Ascending, without overlaps.
    pub segments: VecDeque<Arc<Segment>>,
    /// What the files take together.
    pub file_bytes: u64,
    /// Where the next record goes.
    pub end: u64,
    /// The number of the next record.
    pub next_number: u32,
    /// A power cut leaves at least this position.
    pub durable: u64,
    /// Bytes below `durable` in segments that failed to flush: a power cut may take them, whatever later flushes say.
    pub doubted: u64,
    /// Since when there are bytes that may not be on disk.
    pub unsynced_since: Option<Instant>,
    /// Whether the reader waits for `arrived`.
    pub reader_waits: bool,
    /// Whether all writers are gone, so that the flusher shall end.
    pub closing: bool,
    /// Whether the flusher has ended: nothing more comes.
    pub closed: bool,
}

/// Locks, also after a panic elsewhere: what the locks guard is true after every single step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Index {
    /// The first segment that reaches beyond `position`.
    pub(super) fn beyond(&self, position: u64) -> Option<Arc<Segment>> {
        let at = self.segments.partition_point(|segment| segment.written() <= position);
        self.segments.get(at).cloned()
    }

    /// The segment after the one that starts at `start`.
    pub(super) fn after(&self, start: u64) -> Option<Arc<Segment>> {
        let at = self.segments.partition_point(|segment| segment.start <= start);
        self.segments.get(at).cloned()
    }

    /// Reckons what is doubted, after a flush or a deletion.
    pub(super) fn reckon_doubted(&mut self) {
        let distrusted = self.segments.iter().filter(|segment| segment.distrusted.load(Ordering::Acquire));
        let doubted = distrusted.map(|segment| {
            let synced = segment.synced.load(Ordering::Acquire);
            segment.written().min(self.durable).saturating_sub(synced)
        });
        self.doubted = doubted.fold(0, u64::saturating_add);
    }

    /// Shows sizes in the metrics.
    pub(super) fn show(&self, metrics: &Metrics) {
        let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        metrics.segments.set(gauge(self.segments.len() as u64));
        metrics.size_bytes.set(gauge(self.file_bytes));
        metrics.unsynced_bytes.set(gauge(self.end.saturating_sub(self.durable).saturating_add(self.doubted)));
    }

    /// Shows how long the oldest unsynced byte has waited until now.
    pub(super) fn show_wait(&self, metrics: &Metrics) {
        if let Some(since) = self.unsynced_since {
            let waited = i64::try_from(since.elapsed().as_millis()).unwrap_or(i64::MAX);
            // Two threads may race here; the larger wait wins within one flush.
            if metrics.unsynced_ms_max.get() < waited {
                metrics.unsynced_ms_max.set(waited);
            }
        }
    }
}

impl Shared {
    /// Locks and reads the directory, or begins a journal in it.
    pub(super) fn open(settings: Settings, disk: Arc<dyn Disk>, clock: SharedClock) -> Result<Self, JournalError> {
        let directory = settings.directory.clone();
        let directory_lock = files::lock(&directory)?;
        let opened = clock.now();
        let starts = files::segment_starts(&directory)?;
        let metrics = Metrics::default();
        let found: Vec<Found> = starts.iter().map(|start| Found::look(&directory, *start)).collect::<Result<_, _>>()?;
        let id = settle_id(&directory, &*disk, &found, &metrics)?;
        let mut index = Index::default();
        let mut gap = settings.gap();
        let mut ends = starts.iter().skip(1).map(Some).chain([None]);
        for file in found {
            let (segment, its_gap) = file.open(ends.next().flatten().copied(), opened, &metrics);
            gap = its_gap.unwrap_or(gap).max(settings.gap());
            index.file_bytes = index.file_bytes.saturating_add(segment.file_bytes.load(Ordering::Acquire));
            index.end = segment.written();
            index.segments.push_back(Arc::new(segment));
        }
        if !starts.is_empty() {
            index.end = index.end.saturating_add(gap);
            index.unsynced_since = Some(Instant::now());
        }
        if index.end > LAST_START {
            return Err(JournalError::Exhausted { position: index.end });
        }
        index.durable = index.end;
        let state = State::new(index.end);
        let begin = starts.is_empty();
        let shared = Self {
            seed: record::seed_of(id.uuid()),
            settings,
            disk,
            clock,
            opened,
            id,
            metrics,
            writer: Mutex::new(state),
            untold_since: AtomicI64::new(i64::MAX),
            awake_until: AtomicI64::new(i64::MAX),
            appending: Mutex::default(),
            index: Mutex::new(index),
            arrived: Condvar::new(),
            dirty: Condvar::new(),
            _lock: directory_lock,
        };
        if begin {
            // A directory with an id has a segment, so that the positions in use are always known.
            let path = files::segment_path(&directory, 0);
            lock(&shared.writer).begin_segment(&shared).map_err(JournalError::file("begin", path))?;
        }
        lock(&shared.index).show(&shared.metrics);
        Ok(shared)
    }

    /// If the end lies before `position`, lets a new run begin behind it and a gap, as an opening would, and returns where. What
    /// this process has appended lies before `position` and counts as read, so all its time is told as lost.
    pub(super) fn advance(&self, position: u64) -> Result<Option<u64>, JournalError> {
        if position > LAST_START {
            return Err(JournalError::Exhausted { position });
        }
        let mut state = lock(&self.writer);
        if position <= lock(&self.index).end {
            return Ok(None);
        }
        tracing::warn!(position, "the journal was asked for a position it has not reached: it goes on from there");
        let start = position.saturating_add(self.settings.gap());
        state.restart_at(self, start);
        let (received, cause) = (self.clock.now(), DropCause::StoodStill { since: self.opened });
        let lost = Record::Dropped(Dropped { received, listener: 0, cause, exporter: None, count: 0 });
        state.append(self, &[lost], Room::Reserved);
        Ok(Some(start))
    }
}

/// Which journal the directory holds; its file `id` is mended where it is damaged. Without segments nobody knows which positions
/// were used, so positions begin anew, under a new id.
fn settle_id(directory: &Path, disk: &dyn Disk, found: &[Found], metrics: &Metrics) -> Result<JournalId, JournalError> {
    if found.is_empty() {
        return files::make_id(directory, disk);
    }
    let kept = files::read_id(directory);
    let written = kept.as_ref().ok().copied();
    let told = found.iter().filter_map(|file| Some((file.path.as_path(), file.header?.id)));
    let id = files::judge_id(directory, kept, told)?;
    if written != Some(id) {
        metrics.headers_damaged.inc();
        let place = directory.display();
        match files::write_id(directory, disk, id) {
            Ok(()) => {
                tracing::warn!(
                    "the file id in {place} was damaged or missing; its segments all say {id}, so it does now"
                );
            }
            Err(error) => {
                tracing::warn!("the file id in {place} is damaged or missing; its segments all say {id}: {error}");
            }
        }
    }
    Ok(id)
}

/// A segment file of a former process.
struct Found {
    path: PathBuf,
    file: File,
    file_bytes: u64,
    /// The position in its name.
    start: u64,
    /// What it says of itself, unless that is damaged.
    header: Option<Header>,
}

impl Found {
    fn look(directory: &Path, start: u64) -> Result<Self, JournalError> {
        let path = files::segment_path(directory, start);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(JournalError::file("open", path.as_path()))?;
        let mut bytes = [0; HEADER_BYTES as usize];
        let mut read: usize = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match files::RealDisk.read(&file, rest, read as u64) {
                Ok(0) => break,
                Ok(count) => read = read.saturating_add(count),
                Err(source) => return Err(JournalError::File { action: "read", path, source }),
            }
        }
        let header = match Header::decode(&bytes) {
            Ok(header) => Some(header),
            Err(HeaderFault::Damaged) => None,
            Err(HeaderFault::Version(version)) => return Err(JournalError::Version { path, version }),
        };
        let file_bytes = file.metadata().map_err(JournalError::file("look at", path.as_path()))?.len();
        Ok(Self { path, file, file_bytes, start, header })
    }

    /// The segment, opened `now`, and what gap the next opening must leave, if the header says so.
    ///
    /// Its records end where the file does, or where the `next` file starts: what lies behind is left of an abandoned write.
    fn open(self, next: Option<u64>, now: Timestamp, metrics: &Metrics) -> (Segment, Option<u64>) {
        let Self { path, file, file_bytes, start, header } = self;
        let header = header.filter(|header| header.start == start);
        // A process that was killed while it began the file wrote less than that, and nothing behind it.
        if header.is_none() && file_bytes >= HEADER_BYTES {
            tracing::warn!("the header of {} is damaged; its records are read without it", path.display());
            metrics.headers_damaged.inc();
        }
        let end = start.saturating_add(file_bytes.saturating_sub(HEADER_BYTES)).min(next.unwrap_or(u64::MAX));
        let gap = header.map(|header| header.gap);
        let segment = Segment::new(path, file, header.ok_or(now), start, end);
        segment.file_bytes.store(file_bytes, Ordering::Release);
        (segment, gap)
    }
}
