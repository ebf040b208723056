//! The reading side: records in order, straight from the page cache, walking over gaps and damage.

use super::error::JournalError;
use super::index::{Shared, lock};
use super::record::{self, Checked, DropCause, Dropped, Fault, HEADER_BYTES, MAGIC, MAX_RECORD_BYTES, Record};
use super::segment::Segment;
use super::{JournalId, Position};
use crate::clock::Timestamp;
use std::fmt;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The most bytes one read takes.
const CHUNK_BYTES: usize = 1 << 20;

/// After a wait the reader lets records gather this long, so that single datagrams do not wake it each.
const GATHER: Duration = Duration::from_millis(1);

/// What is skipped where the disk cannot be read: a page.
const UNREADABLE_BYTES: u64 = 4096;

/// Records as they were read. Reading into the same chunk again reuses its memory, about a mebibyte.
#[derive(Debug)]
pub struct Chunk {
    bytes: Vec<u8>,
    entries: Vec<(Position, Entry)>,
    opening: Option<Opening>,
}

/// Where the records of a process begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The position of the first record that is left of it, or that is known to be damaged.
    pub at: Position,
    /// When the file with that record was begun: with a record, so not before the process started. `None` when its header is
    /// damaged.
    pub begun: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug)]
enum Entry {
    /// A record that begins at this offset in the chunk's bytes.
    At(usize),
    /// Records that were damaged.
    Lost(Dropped),
}

impl Default for Chunk {
    fn default() -> Self {
        Self { bytes: vec![0; CHUNK_BYTES.max(MAX_RECORD_BYTES)], entries: Vec::new(), opening: None }
    }
}

impl Chunk {
    /// The records in order, each with the position after it: who has stored a record may seek to, or release, the position
    /// that stands beside it.
    pub fn iter(&self) -> impl Iterator<Item = (Position, Record<'_>)> {
        self.entries.iter().filter_map(|(position, entry)| match entry {
            Entry::At(offset) => Some((*position, record::decode(self.bytes.get(*offset..)?)?)),
            Entry::Lost(dropped) => Some((*position, Record::Dropped(*dropped))),
        })
    }

    /// The opening whose records begin in this chunk, with those that a power cut left.
    pub fn opening(&self) -> Option<Opening> {
        self.opening
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The reading side of a journal.
pub struct Reader {
    shared: Arc<Shared>,
    /// Where the records of this opening begin.
    opened_at: Position,
    position: u64,
    current: Option<Arc<Segment>>,
    /// Where bytes that are no records began, while no record after them was found.
    damaged_from: Option<u64>,
    /// The opening that the next record belongs to, when it is the first of it.
    opening: Option<Opening>,
    /// The number the next record has unless records are damaged.
    expected: Option<u32>,
    /// The receive time of the last record.
    received: Option<Timestamp>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let position = self.position();
        formatter.debug_struct("Reader").field("id", &self.id()).field("position", &position).finish_non_exhaustive()
    }
}

impl Reader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (position, opened_at) = {
            let index = lock(&shared.index);
            (index.segments.front().map_or(0, |segment| segment.start), Position(index.end))
        };
        Self {
            shared,
            opened_at,
            position,
            current: None,
            damaged_from: None,
            opening: None,
            expected: None,
            received: None,
        }
    }

    /// Which journal this is.
    pub fn id(&self) -> JournalId {
        self.shared.id
    }

    /// Where the next read begins.
    pub fn position(&self) -> Position {
        Position(self.position)
    }

    /// Where this opening began to append: what lies before was received by former processes, what lies behind by this one.
    pub fn opened_at(&self) -> Position {
        self.opened_at
    }

    /// When this process opened the journal: from then on it receives.
    pub fn opened(&self) -> Timestamp {
        self.shared.opened
    }

    /// Where the next appended record goes. A reader that has read everything stands here or, right after an opening,
    /// before it.
    pub fn end(&self) -> Position {
        Position(lock(&self.shared.index).end)
    }

    /// Up to when all that was received, or lost here, comes out of the reader, at the moment `now`: what is being appended holds
    /// it back, so do drops that cannot be told yet, because the disk takes nothing, and so does the last moment at which
    /// machine and process were seen to go on.
    pub fn told_until(&self, now: Timestamp) -> Timestamp {
        let untold = Timestamp::from_micros(self.shared.untold_since.load(Ordering::Acquire));
        let awake = Timestamp::from_micros(self.shared.awake_until.load(Ordering::Acquire));
        let appending = lock(&self.shared.appending).iter().copied().min().unwrap_or(now);
        now.min(untold).min(awake).min(appending)
    }

    /// Whether records behind `position` were there and have been released, so that whoever stands there misses them.
    pub fn has_released_beyond(&self, position: Position) -> bool {
        let index = lock(&self.shared.index);
        let Some(oldest) = index.segments.front() else { return false };
        // Before the first file of an opening lies a gap that never held anything.
        let follows = oldest.numbering.is_some_and(|numbering| numbering.run != oldest.start);
        follows && position.get() < oldest.start
    }

    /// Bytes of records that lie after `position`, not counting gaps.
    pub fn backlog(&self, position: Position) -> u64 {
        let index = lock(&self.shared.index);
        let beyond = |segment: &Arc<Segment>| segment.written().saturating_sub(segment.start.max(position.get()));
        index.segments.iter().map(beyond).fold(0, u64::saturating_add)
    }

    /// Reads on from `position`, which stood beside a record, or from the first record after it. A position beyond the end,
    /// as after the directory was restored from a backup, moves the end behind it, so that new records count as new; what was
    /// appended since the opening is lost then, and told as [`DropCause::StoodStill`].
    ///
    /// # Errors
    /// [`JournalError::Exhausted`] when no journal can have given out the position.
    pub fn seek(&mut self, position: Position) -> Result<(), JournalError> {
        if let Some(start) = self.shared.advance(position.get())? {
            self.opened_at = Position(start);
        }
        (self.position, self.current, self.damaged_from) = (position.get(), None, None);
        (self.opening, self.expected, self.received) = (None, None, None);
        Ok(())
    }

    /// Reads records into `chunk`, at most a mebibyte, and returns how many. Waits for the first one at most `timeout`, then
    /// returns 0. Once all writers are gone and everything is read it returns 0 without waiting.
    ///
    /// What cannot be read is skipped and told as [`DropCause::Corrupt`], so a bad spot on the disk stops nobody.
    ///
    /// # Errors
    /// None in this version; callers may pass any on.
    pub fn read(&mut self, chunk: &mut Chunk, timeout: Duration) -> Result<usize, JournalError> {
        chunk.entries.clear();
        chunk.opening = None;
        let deadline = Instant::now().checked_add(timeout);
        loop {
            match self.next_segment(chunk) {
                Some(segment) => self.fill(&segment, chunk),
                None if chunk.is_empty() && self.wait(deadline) => {}
                None => return Ok(chunk.len()),
            }
            if !chunk.is_empty() {
                return Ok(chunk.len());
            }
        }
    }

    /// Deletes the segments that lie wholly below `position`, but not the newest one on disk: its end tells the next
    /// opening which positions are used.
    ///
    /// # Errors
    /// When a file cannot be deleted. It is tried again at the next call.
    pub fn release(&mut self, position: Position) -> Result<(), JournalError> {
        loop {
            let oldest = {
                let index = lock(&self.shared.index);
                let others_on_disk = index.segments.iter().skip(1).any(|other| {
                    other.named_on_disk.load(Ordering::Acquire) && !other.distrusted.load(Ordering::Acquire)
                });
                let below = index.segments.front().filter(|oldest| oldest.written() <= position.get());
                match below {
                    Some(oldest) if others_on_disk => Arc::clone(oldest),
                    _ => return Ok(()),
                }
            };
            // The files' names are unlinked without the lock, since that can take the disk a while.
            match self.shared.disk.remove(&oldest.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(JournalError::file("delete", oldest.path.as_path())(error));
                }
                _ => {}
            }
            let mut index = lock(&self.shared.index);
            index.segments.pop_front();
            index.file_bytes = index.file_bytes.saturating_sub(oldest.file_bytes.load(Ordering::Acquire));
            index.reckon_doubted();
            index.show(&self.shared.metrics);
        }
    }

    /// The segment to read from at the present position, moving over gaps; `None` when there is nothing to read.
    fn next_segment(&mut self, chunk: &mut Chunk) -> Option<Arc<Segment>> {
        if let Some(current) = &self.current {
            if current.written() > self.position {
                return self.current.clone();
            }
            let current = Arc::clone(current);
            self.end_damage(&current, chunk);
        }
        let segment = lock(&self.shared.index).beyond(self.position)?;
        let before = self.position;
        self.position = before.max(segment.start);
        if self.current.as_ref().is_none_or(|current| current.start != segment.start) {
            // At a seek into the middle the first record's number is not known.
            let at_start = self.position == segment.start;
            self.expected = segment.numbering.filter(|_| at_start).map(|numbering| numbering.first);
            // What was read before lies before this run, or, where the header does not tell, before a gap.
            let run = segment.numbering.map(|numbering| numbering.run);
            if before < run.unwrap_or(segment.start) {
                let begun = run.map(|_| segment.begun);
                self.opening = Some(Opening { at: Position(segment.start), begun });
            }
            self.current = Some(Arc::clone(&segment));
        }
        Some(segment)
    }

    /// Reads once from the present position and finds the records in it.
    fn fill(&mut self, segment: &Segment, chunk: &mut Chunk) {
        let bound = segment.written();
        let wanted = usize::try_from(bound.saturating_sub(self.position)).unwrap_or(usize::MAX).min(chunk.bytes.len());
        let read = self.read_bytes(segment, chunk.bytes.get_mut(..wanted).unwrap_or_default());
        if read == 0 {
            // Nothing where something was written: the file was cut, or the disk has a bad spot.
            self.damaged_from.get_or_insert(self.position);
            let offset = segment.offset_of(self.position);
            let page_end = offset.saturating_sub(offset % UNREADABLE_BYTES).saturating_add(UNREADABLE_BYTES);
            self.position = self.position.saturating_add(page_end.saturating_sub(offset)).min(bound);
            return;
        }
        let base = self.position;
        let mut offset: usize = 0;
        while let Some(rest) = chunk.bytes.get(offset..read).filter(|rest| !rest.is_empty()) {
            let at = base.saturating_add(offset as u64);
            match record::check(rest, self.shared.seed, at) {
                Ok(checked) => {
                    if let Some(from) = self.damaged_from.take() {
                        let lost = self.lost(from, at, Some(checked.number));
                        let since = self.received.unwrap_or(checked.received);
                        self.tell_lost(chunk, at, since, checked.received, lost);
                    }
                    offset = self.accept(&checked, base, offset, chunk);
                }
                // A record that the chunk cuts: the next read begins with it.
                Err(Fault::Short(bytes)) if offset > 0 && at.saturating_add(bytes as u64) <= bound => break,
                Err(_) => {
                    if self.damaged_from.is_none() && self.expected.is_none() {
                        self.expected = self.number_at(segment, at);
                    }
                    self.damaged_from.get_or_insert(at);
                    let more = base.saturating_add(read as u64) < bound;
                    offset = offset.saturating_add(next_magic(rest, more));
                }
            }
        }
        self.position = base.saturating_add(offset as u64);
    }

    /// Takes the record at `offset`: the offset of the next.
    fn accept(&mut self, checked: &Checked, base: u64, offset: usize, chunk: &mut Chunk) -> usize {
        let next = offset.saturating_add(checked.bytes);
        chunk.opening = self.opening.take().or(chunk.opening);
        chunk.entries.push((Position(base.saturating_add(next as u64)), Entry::At(offset)));
        self.expected = Some(checked.number.wrapping_add(1));
        self.received = Some(checked.received);
        next
    }

    /// The number of the record that begins at `position`, after a seek to there: told by the records before it. `None` when
    /// they are damaged themselves.
    fn number_at(&self, segment: &Segment, position: u64) -> Option<u32> {
        let (mut number, mut at) = (segment.numbering?.first, segment.start);
        let mut bytes = vec![0; MAX_RECORD_BYTES];
        while at < position {
            let read = self.shared.disk.read(&segment.file, &mut bytes, segment.offset_of(at)).ok()?;
            let mut offset: usize = 0;
            while at < position
                && let Some(Ok(checked)) = bytes.get(offset..read).map(|rest| record::check(rest, self.shared.seed, at))
            {
                number = checked.number.wrapping_add(1);
                offset = offset.saturating_add(checked.bytes);
                at = at.saturating_add(checked.bytes as u64);
            }
            if offset == 0 {
                return None;
            }
        }
        Some(number)
    }

    /// Tells of damage that reaches to the end of `segment`.
    fn end_damage(&mut self, segment: &Segment, chunk: &mut Chunk) {
        let Some(from) = self.damaged_from.take() else { return };
        // The next file was begun after all that was written to this one.
        let (next, until) = {
            let index = lock(&self.shared.index);
            let run = segment.numbering.map(|numbering| numbering.run);
            match index.after(segment.start) {
                Some(next) => {
                    (next.numbering.filter(|next| Some(next.run) == run).map(|next| next.first), Some(next.begun))
                }
                None if index.end == self.position => (Some(index.next_number), None),
                None => (None, None),
            }
        };
        let lost = self.lost(from, self.position, next);
        let since = self.received.unwrap_or(segment.begun);
        let until = until.unwrap_or_else(|| self.shared.clock.now());
        self.tell_lost(chunk, self.position, since, until, lost);
    }

    /// Enters damaged records that end at `position`, between records of these moments, unless the damaged bytes were none.
    fn tell_lost(&mut self, chunk: &mut Chunk, position: u64, since: Timestamp, until: Timestamp, count: u64) {
        if count > 0 {
            let (cause, received) = (DropCause::Corrupt { since }, until.max(since));
            let dropped = Dropped { received, listener: 0, cause, exporter: None, count };
            chunk.opening = self.opening.take().or(chunk.opening);
            chunk.entries.push((Position(position), Entry::Lost(dropped)));
            self.shared.metrics.corrupt.inc_by(count);
        }
    }

    /// How many records the bytes between two positions were, where `next` is the number of the record after them. One,
    /// when the numbers do not tell or tell more than fit.
    fn lost(&self, from: u64, to: u64, next: Option<u32>) -> u64 {
        let most = to.saturating_sub(from).div_ceil(HEADER_BYTES as u64);
        let told = self.expected.zip(next).map(|(expected, next)| u64::from(next.wrapping_sub(expected)));
        told.filter(|lost| *lost <= most).unwrap_or(1)
    }

    /// Fills `bytes` from the file as far as possible: how many were read.
    fn read_bytes(&self, segment: &Segment, bytes: &mut [u8]) -> usize {
        let offset = segment.offset_of(self.position);
        let mut read: usize = 0;
        while let Some(rest) = bytes.get_mut(read..).filter(|rest| !rest.is_empty()) {
            match self.shared.disk.read(&segment.file, rest, offset.saturating_add(read as u64)) {
                Ok(0) => break,
                Ok(count) => read = read.saturating_add(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::error!("{} cannot be read: {error}; what is lost is counted", segment.path.display());
                    break;
                }
            }
        }
        read
    }

    /// Waits until there is something beyond the present position: whether there is.
    fn wait(&self, deadline: Option<Instant>) -> bool {
        let left = || deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
        let mut index = lock(&self.shared.index);
        index.reader_waits = true;
        let (mut index, _) = self
            .shared
            .arrived
            .wait_timeout_while(index, left(), |index| !index.closed && index.beyond(self.position).is_none())
            .unwrap_or_else(PoisonError::into_inner);
        index.reader_waits = false;
        let arrived = index.beyond(self.position).is_some();
        let gather = arrived && !index.closed;
        drop(index);
        if gather {
            thread::sleep(GATHER.min(left()));
        }
        arrived
    }
}

/// How far it is from the beginning of `bytes`, which is no record, to where the next may begin. If there are `more` bytes
/// after these, a magic cut by their end counts.
fn next_magic(bytes: &[u8], more: bool) -> usize {
    let found = bytes.windows(MAGIC.len()).skip(1).position(|window| window == MAGIC);
    let kept = if more { MAGIC.len().saturating_sub(1) } else { 0 };
    found.map_or_else(|| bytes.len().saturating_sub(kept).max(1), |skipped| skipped.saturating_add(1))
}
