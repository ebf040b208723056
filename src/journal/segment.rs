//! One segment file: its header's bytes, and what is known about it while the journal is open.

use super::record::Fields;
use crate::clock::Timestamp;
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use uuid::Uuid;

/// Bytes of a file before its first record.
pub(super) const HEADER_BYTES: u64 = 72;
const MAGIC: [u8; 8] = *b"FLOWJRNL";
/// What is written. Older versions, with fewer kinds of records, are read too.
const VERSION: u32 = 3;
const OLDEST: u32 = 1;

/// What a file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub id: Uuid,
    pub start: u64,
    pub run: u64,
    pub gap: u64,
    pub begun: Timestamp,
    pub first_number: u32,
}

/// Why a header cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderFault {
    /// It is cut short or damaged. The file's name and the records do without it.
    Damaged,
    /// A format of the future.
    Version(u32),
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        body.extend_from_slice(self.id.as_bytes());
        for number in [self.start, self.run, self.gap] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        body.extend_from_slice(&self.begun.micros().to_le_bytes());
        body.extend_from_slice(&self.first_number.to_le_bytes());
        body.extend_from_slice(&[0; 4]);
        [&MAGIC[..], &VERSION.to_le_bytes(), &checksum_of(VERSION, &body).to_le_bytes(), &body].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        Self::read(bytes).ok_or(HeaderFault::Damaged)?
    }

    fn read(bytes: &[u8]) -> Option<Result<Self, HeaderFault>> {
        let mut fields = Fields(bytes);
        let magic: [u8; 8] = fields.take()?;
        let version = fields.u32()?;
        let checksum = fields.u32()?;
        if magic != MAGIC || checksum != checksum_of(version, fields.0) {
            return None;
        }
        if !(OLDEST..=VERSION).contains(&version) {
            return Some(Err(HeaderFault::Version(version)));
        }
        Some(Ok(Self {
            id: Uuid::from_bytes(fields.take()?),
            start: fields.u64()?,
            run: fields.u64()?,
            gap: fields.u64()?,
            begun: Timestamp::from_micros(i64::from_le_bytes(fields.take()?)),
            first_number: fields.u32()?,
        }))
    }
}

fn checksum_of(version: u32, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&MAGIC), &version.to_le_bytes()), body)
}

/// An open segment file. The writer moves `written`, the flusher `synced`; the reader looks.
#[derive(Debug)]
pub(super) struct Segment {
    pub path: PathBuf,
    pub file: File,
    /// The position of its first record.
    pub start: u64,
    /// The start of its run and the number of its first record; `None` when the header is damaged.
    pub numbering: Option<Numbering>,
    /// When it was begun; for a damaged header, when it was opened.
    pub begun: Timestamp,
    /// Bytes it counts for in the size of the journal.
    pub file_bytes: AtomicU64,
    /// The end of what was written completely, a position.
    written: AtomicU64,
    /// The end of what is on disk, a position.
    pub synced: AtomicU64,
    /// Whether the directory on disk names this file.
    pub named_on_disk: AtomicBool,
    /// Whether a flush failed, so that nothing more may be appended.
    pub distrusted: AtomicBool,
}

/// Which number the first record has, and in which run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbering {
    pub run: u64,
    pub first: u32,
}

impl Segment {
    /// A segment whose records reach from `start` to `end`, in a file of `file_bytes`.
    pub(super) fn new(path: PathBuf, file: File, header: Result<Header, Timestamp>, start: u64, end: u64) -> Self {
        let (numbering, begun) = match header {
            Ok(header) => (Some(Numbering { run: header.run, first: header.first_number }), header.begun),
            Err(opened) => (None, opened),
        };
        Self {
            path,
            file,
            start,
            numbering,
            begun,
            file_bytes: AtomicU64::new(HEADER_BYTES),
            written: AtomicU64::new(end),
            synced: AtomicU64::new(start),
            named_on_disk: AtomicBool::new(false),
            distrusted: AtomicBool::new(false),
        }
    }

    /// The end of what was written completely.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Lets the reader see the records up to `position`.
    pub(super) fn publish(&self, position: u64) {
        self.written.store(position, Ordering::Release);
    }

    /// Where in the file `position` is.
    pub(super) fn offset_of(&self, position: u64) -> u64 {
        position.saturating_sub(self.start).saturating_add(HEADER_BYTES)
    }

    /// Whether the disk may not have all of it.
    pub(super) fn needs_sync(&self) -> bool {
        !self.distrusted.load(Ordering::Acquire)
            && (self.synced.load(Ordering::Acquire) < self.written() || !self.named_on_disk.load(Ordering::Acquire))
    }
}
