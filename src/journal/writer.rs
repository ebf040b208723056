//! The writing side: batches become records, records go to the newest segment in one write call.

use super::error::JournalError;
use super::files::{self, segment_path};
use super::flusher;
use super::index::{Shared, lock};
use super::metrics::Metrics;
use super::pending::Pending;
use super::record::{MAX_PAYLOAD_BYTES, Record};
use super::segment::{HEADER_BYTES, Header, Segment};
use super::watch;
use crate::clock::Timestamp;
use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long nothing is tried after a write failed. A full disk is asked again this often, not at every batch.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// How long after a failed write was told in the log further ones are not: the log may be on the same full disk.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// Bytes of a record that tells of dropped datagrams.
const NOTICE_BYTES: u64 = 56;

/// The writing side of a journal. Clones write to the same journal; when the last one goes, everything is flushed.
#[derive(Clone)]
pub struct Writer {
    handle: Arc<Handle>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Writer").field("id", &self.handle.shared.id).finish_non_exhaustive()
    }
}

/// Whether a journal that has writers is flushed.
#[derive(Clone)]
pub struct Pulse(Weak<Handle>);

impl Pulse {
    /// Whether the flushing or the watching thread has ended before the last writer went, which it only does by a defect.
    pub fn has_ended(&self) -> bool {
        let handle = self.0.upgrade();
        handle.is_some_and(|handle| [&handle.flusher, &handle.watch].into_iter().flatten().any(JoinHandle::is_finished))
    }
}

/// Ends the threads with the last writer.
struct Handle {
    shared: Arc<Shared>,
    flusher: Option<JoinHandle<()>>,
    watch: Option<JoinHandle<()>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        lock(&self.shared.index).closing = true;
        self.shared.dirty.notify_all();
        // They have no way to panic; if one did, there is nobody left to tell. What the first appends the second flushes.
        if let Some(watch) = self.watch.take() {
            watch.thread().unpark();
            let _ = watch.join();
        }
        if let Some(flusher) = self.flusher.take() {
            let _ = flusher.join();
        }
        lock(&self.shared.index).closed = true;
        self.shared.arrived.notify_all();
    }
}

impl Writer {
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self, JournalError> {
        let flusher = flusher::start(Arc::clone(&shared))
            .map_err(JournalError::file("start the flushing thread for", shared.settings.directory.as_path()))?;
        let mut handle = Handle { shared, flusher: Some(flusher), watch: None };
        let watch = watch::start(Arc::clone(&handle.shared))
            .map_err(JournalError::file("start the watching thread for", handle.shared.settings.directory.as_path()))?;
        handle.watch = Some(watch);
        Ok(Self { handle: Arc::new(handle) })
    }

    /// A writer whose flushing thread is this one.
    #[cfg(test)]
    pub(super) fn flushed_by(shared: Arc<Shared>, flusher: JoinHandle<()>) -> Self {
        Self { handle: Arc::new(Handle { shared, flusher: Some(flusher), watch: None }) }
    }

    /// A writer that nothing is flushed for but by hand.
    #[cfg(test)]
    pub(super) fn unflushed(shared: Arc<Shared>) -> Self {
        Self { handle: Arc::new(Handle { shared, flusher: None, watch: None }) }
    }

    /// Appends `records` in order, in one write call, and returns when the kernel has them: from then on `kill -9` of this
    /// process does not lose them.
    ///
    /// When the journal is full or its disk refuses to write, the rest of the batch is dropped and counted by exporter;
    /// the reader gets the counts as [`Record::Dropped`]. That is no error: receiving goes on.
    ///
    /// # Errors
    /// [`JournalError::Oversized`] when a payload is longer than [`MAX_PAYLOAD_BYTES`]; then nothing is appended.
    pub fn append(&self, records: &[Record<'_>]) -> Result<(), JournalError> {
        check(records)?;
        let shared = &self.handle.shared;
        let _appending = Appending::begin(shared, records);
        lock(&shared.writer).append(shared, records, Room::Common);
        Ok(())
    }

    /// The same for who can wait: appends as many of `records`, from the first on, as there is room for, and returns how
    /// many. The rest is neither dropped nor counted and may be offered again.
    ///
    /// # Errors
    /// [`JournalError::Oversized`] as for [`Writer::append`].
    pub fn offer(&self, records: &[Record<'_>]) -> Result<usize, JournalError> {
        check(records)?;
        let shared = &self.handle.shared;
        let _appending = Appending::begin(shared, records);
        Ok(lock(&shared.writer).offer(shared, records, Room::Common))
    }

    /// What tells whether appended bytes are still carried to the disk. It does not keep the journal open.
    pub fn pulse(&self) -> Pulse {
        Pulse(Arc::downgrade(&self.handle))
    }

    /// What this journal counts.
    pub fn metrics(&self) -> Metrics {
        self.handle.shared.metrics.clone()
    }
}

/// Lets everybody know that a batch is on its way, which may take long when the disk stalls.
struct Appending<'a> {
    shared: &'a Shared,
    since: Option<Timestamp>,
}

impl<'a> Appending<'a> {
    fn begin(shared: &'a Shared, records: &[Record<'_>]) -> Self {
        let since = records.iter().map(Record::received).min();
        lock(&shared.appending).extend(since);
        Self { shared, since }
    }
}

impl Drop for Appending<'_> {
    fn drop(&mut self) {
        let mut appending = lock(&self.shared.appending);
        if let Some(at) = appending.iter().position(|since| Some(*since) == self.since) {
            appending.swap_remove(at);
        }
    }
}

/// Whether each record fits into the journal's format.
fn check(records: &[Record<'_>]) -> Result<(), JournalError> {
    for record in records {
        if let Record::Datagram(datagram) = record
            && datagram.payload.len() > MAX_PAYLOAD_BYTES
        {
            return Err(JournalError::Oversized { length: datagram.payload.len() });
        }
    }
    Ok(())
}

/// Which part of the journal's size may be used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// All but what is set aside.
    Common,
    /// Also what is set aside for the counts of dropped datagrams.
    Reserved,
}

/// From how many counts of dropped datagrams on exporters are no longer told apart, so that all fit into what is set aside for
/// them: the other half is for the counts without exporter, a few for each hour.
fn most_counts(shared: &Shared) -> usize {
    usize::try_from(shared.settings.reserve() / NOTICE_BYTES / 2).unwrap_or(usize::MAX)
}

/// Whether there is no room on the disk, which may pass.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What the writer knows.
pub(super) struct State {
    /// The segment that takes the next batch, unless it is full or distrusted.
    active: Option<Arc<Segment>>,
    /// The position of the next record.
    next: u64,
    /// The number of the next record.
    number: u32,
    /// The position at which this run of numbers began.
    run: u64,
    /// Whether the next segment must be on disk before anything is read from it.
    sync_first: bool,
    /// The batch as it will be written, and where each of its records ends.
    buffer: Vec<u8>,
    ends: Vec<usize>,
    pending: Pending,
    retry_at: Option<Instant>,
    /// When the log was last told of a failed write.
    told: Option<Instant>,
}

impl State {
    /// The state of an opening that begins at `start`.
    pub(super) fn new(start: u64) -> Self {
        Self {
            active: None,
            next: start,
            number: 0,
            run: start,
            sync_first: true,
            buffer: Vec::new(),
            ends: Vec::new(),
            pending: Pending::default(),
            retry_at: None,
            told: None,
        }
    }

    /// Goes on at `position` as a new opening would.
    pub(super) fn restart_at(&mut self, shared: &Shared, position: u64) {
        self.active = None;
        (self.next, self.run, self.number, self.sync_first) = (position, position, 0, true);
        let mut index = lock(&shared.index);
        (index.end, index.durable, index.next_number) = (position, position, 0);
        index.show(&shared.metrics);
    }

    /// Whether dropped datagrams wait to be told.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Lets the next append try to write, however short ago a write failed.
    pub(super) fn retry_now(&mut self) {
        self.retry_at = None;
    }

    /// Appends what waits to be told, then `records`, as far as there is room; the rest waits to be told.
    pub(super) fn append(&mut self, shared: &Shared, records: &[Record<'_>], room: Room) {
        let kept = self.offer(shared, records, room);
        let most = most_counts(shared);
        for record in records.iter().skip(kept) {
            if matches!(record, Record::Datagram(_)) {
                shared.metrics.dropped.inc();
            }
            self.pending.add(record, most);
        }
        let untold = records.iter().skip(kept).map(|record| record.since().micros()).min().unwrap_or(i64::MAX);
        shared.untold_since.fetch_min(untold, Ordering::AcqRel);
        self.show_untold(shared);
    }

    /// Shows how many dropped datagrams wait to be told. With the last of them goes the time since when they wait.
    fn show_untold(&self, shared: &Shared) {
        if self.pending.is_empty() {
            shared.untold_since.store(i64::MAX, Ordering::Release);
        }
        shared.metrics.untold.set(i64::try_from(self.pending.datagrams()).unwrap_or(i64::MAX));
    }

    /// Appends what waits to be told, then `records`, as far as there is room: how many of `records`.
    fn offer(&mut self, shared: &Shared, records: &[Record<'_>], room: Room) -> usize {
        if self.active.as_ref().is_some_and(|active| active.distrusted.load(Ordering::Acquire)) {
            self.abandon(shared);
        }
        let notices = self.pending.take();
        let batch = || notices.iter().copied().map(Record::Dropped).chain(records.iter().copied());
        let room = self.room(shared, room);
        self.buffer.clear();
        self.ends.clear();
        let mut number = self.number;
        for record in batch() {
            let at = self.buffer.len();
            if at.saturating_add(record.encoded_bytes()) as u64 > room {
                break;
            }
            record.encode(shared.seed, self.next.saturating_add(at as u64), number, &mut self.buffer);
            number = number.wrapping_add(1);
            self.ends.push(self.buffer.len());
        }
        let kept = if self.buffer.is_empty() { 0 } else { self.write(shared) };
        let most = most_counts(shared);
        for notice in notices.iter().skip(kept) {
            self.pending.add(&Record::Dropped(*notice), most);
        }
        // Also when nothing more comes than what can wait, which is only offered.
        self.show_untold(shared);
        let kept = kept.saturating_sub(notices.len());
        let datagrams = records.iter().take(kept).filter(|record| matches!(record, Record::Datagram(_))).count();
        shared.metrics.datagrams.inc_by(datagrams as u64);
        kept
    }

    /// How many bytes of records may be appended now.
    fn room(&self, shared: &Shared, room: Room) -> u64 {
        if self.retry_at.is_some_and(|at| shared.clock.instant() < at) {
            return 0;
        }
        let settings = &shared.settings;
        let (reserve, beyond_disk) = match room {
            Room::Common => (settings.reserve(), settings.max_bytes),
            // The gap of the next opening has a segment to spare, so that a notice can end a standstill of the disk.
            Room::Reserved => (0, settings.gap()),
        };
        let index = lock(&shared.index);
        let unsynced = index.end.saturating_sub(index.durable);
        let free = settings.max_bytes.saturating_sub(reserve).saturating_sub(index.file_bytes);
        free.saturating_sub(HEADER_BYTES).min(beyond_disk.saturating_sub(unsynced))
    }

    /// Writes the buffer: how many records of it were written completely.
    fn write(&mut self, shared: &Shared) -> usize {
        let segment = match self.segment_for(shared, self.buffer.len() as u64) {
            Ok(segment) => segment,
            Err(error) => {
                self.failed(shared, "begin a segment", &error);
                return 0;
            }
        };
        let offset = segment.offset_of(self.next);
        let (written, outcome) = files::write_all(&*shared.disk, &segment.file, &self.buffer, offset);
        let kept = self.ends.partition_point(|end| *end <= written);
        let bytes = kept.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or(0) as u64;
        self.next = self.next.saturating_add(bytes);
        self.number = self.number.wrapping_add(u32::try_from(kept).unwrap_or(u32::MAX));
        if kept > 0 {
            self.publish(shared, &segment, bytes, kept as u64);
        }
        if let Err(error) = outcome {
            let cut = shared.disk.truncate(&segment.file, offset.saturating_add(bytes));
            self.failed(shared, "write", &error);
            if !is_full(&error) || cut.is_err() {
                self.abandon(shared);
            }
        }
        kept
    }

    /// Lets reader and flusher see what was appended.
    fn publish(&self, shared: &Shared, segment: &Segment, bytes: u64, records: u64) {
        shared.metrics.records.inc_by(records);
        shared.metrics.bytes.inc_by(bytes);
        segment.file_bytes.fetch_add(bytes, Ordering::AcqRel);
        let mut index = lock(&shared.index);
        segment.publish(self.next);
        index.file_bytes = index.file_bytes.saturating_add(bytes);
        index.end = self.next;
        index.next_number = self.number;
        index.show(&shared.metrics);
        index.show_wait(&shared.metrics);
        let was_clean = index.unsynced_since.is_none();
        if was_clean {
            index.unsynced_since = Some(Instant::now());
        }
        let reader_waits = index.reader_waits;
        drop(index);
        if was_clean {
            shared.dirty.notify_one();
        }
        if reader_waits {
            shared.arrived.notify_one();
        }
    }

    /// The segment that takes a batch of `bytes`: the active one, unless it would grow too large and another can be begun.
    fn segment_for(&mut self, shared: &Shared, bytes: u64) -> io::Result<Arc<Segment>> {
        if let Some(active) = &self.active {
            let after = active.offset_of(self.next).saturating_add(bytes);
            if self.next == active.start || after <= shared.settings.segment_bytes {
                return Ok(Arc::clone(active));
            }
        }
        match (self.begin_segment(shared), self.active.clone()) {
            // As without a handle for another file: what can still be kept is kept.
            (Err(error), Some(active)) => {
                // A full disk is told by the write that fails next.
                if !is_full(&error) {
                    self.tell(shared, "begin a segment", &error, "the last one grows");
                }
                Ok(active)
            }
            (begun, _) => begun,
        }
    }

    /// Makes the file of the next segment and takes it as the active one.
    pub(super) fn begin_segment(&mut self, shared: &Shared) -> io::Result<Arc<Segment>> {
        let disk = &*shared.disk;
        let directory = &shared.settings.directory;
        let path = segment_path(directory, self.next);
        let header = Header {
            id: shared.id.uuid(),
            start: self.next,
            run: self.run,
            gap: shared.settings.gap(),
            begun: shared.clock.now(),
            first_number: self.number,
        };
        let file = disk.create(&path)?;
        let mut complete = files::write_all(disk, &file, &header.encode(), 0).1;
        if complete.is_ok() && self.sync_first {
            complete = disk.sync(&file).and_then(|()| {
                // What fails here failed for all names that are not on disk yet.
                disk.sync_directory(directory).inspect_err(|error| flusher::distrust_unnamed(shared, error))
            });
        }
        if let Err(error) = complete {
            // If it stays, the next attempt empties it: it has the same name.
            let _ = disk.remove(&path);
            return Err(error);
        }
        let segment = Arc::new(Segment::new(path, file, Ok(header), self.next, self.next));
        segment.named_on_disk.store(self.sync_first, Ordering::Release);
        self.sync_first = false;
        self.active = Some(Arc::clone(&segment));
        let mut index = lock(&shared.index);
        index.segments.push_back(Arc::clone(&segment));
        index.file_bytes = index.file_bytes.saturating_add(HEADER_BYTES);
        index.show(&shared.metrics);
        Ok(segment)
    }

    /// Appends no more to the active segment. The next one begins where its complete records end, but never where it
    /// began: two files of one name cannot be.
    fn abandon(&mut self, shared: &Shared) {
        if self.active.take().is_some_and(|active| active.start == self.next) {
            self.next = self.next.saturating_add(1);
            lock(&shared.index).end = self.next;
        }
    }

    fn failed(&mut self, shared: &Shared, action: &str, error: &io::Error) {
        self.tell(shared, action, error, "datagrams are dropped and counted");
        self.retry_at = shared.clock.instant().checked_add(RETRY_AFTER);
    }

    /// Counts a failure, and tells what follows from it unless one was told just now.
    fn tell(&mut self, shared: &Shared, action: &str, error: &io::Error, consequence: &str) {
        shared.metrics.write_errors.inc();
        let now = shared.clock.instant();
        if self.told.is_none_or(|told| now.saturating_duration_since(told) > TELL_AGAIN) {
            self.told = Some(now);
            let directory = shared.settings.directory.display();
            tracing::warn!("the journal in {directory} cannot {action}: {error}; {consequence}");
        }
    }
}
