//! The journal: an append-only log of received datagrams and messages on the local disk, with one writer and one reader.
//!
//! It is the only way from a socket to the decoder. What [`Writer::append`] returned for survives `kill -9`, because it
//! lies in the kernel's page cache; after the next flush it survives a power cut too. It knows neither sockets nor
//! protocols nor the database: a payload is bytes, and how far the reader's owner has committed is told to it.
//!
//! # Invariants
//!
//! 1. A [`Position`] is a byte offset into the endless log. It only grows, also across restarts, and never exceeds
//!    `i64::MAX`. A record occupies the positions from its first byte up to the next record's first byte.
//! 2. A segment file holds one run of records; it is named by the position of its first record. Positions ascend from
//!    file to file and may leave gaps between files, never inside one. The reader walks over gaps.
//! 3. Every opening continues at the end of the newest file plus a gap of `max_bytes + segment_bytes`. The gap is there
//!    because a power cut may take back positions that the database has already committed: a new record must never get
//!    one of those, or it would count as stored. It suffices because at most `max_bytes` are appended beyond what is
//!    known to be on disk (the rest is dropped and counted), because the first file of an opening is on disk before
//!    anything is read from it, and because the newest file on disk is never deleted.
//! 4. The reader sees only what was written completely. A write that failed half-way leaves its complete records; the
//!    rest is cut off, or the file is abandoned and the next one begins where the complete records end.
//! 5. What [`Writer::offer`] says it took comes out of the reader; the rest is still the caller's, who may let senders wait.
//!    Every datagram given to `append` comes out of the reader as a datagram, or is counted in a
//!    [`Dropped`] record: when the journal is full or cannot be written ([`DropCause::JournalFull`], by
//!    exporter and hour), or when its bytes were damaged on disk ([`DropCause::Corrupt`]). While the journal is full the counts wait
//!    in memory, at most some thousand (beyond that, without the address), and are written as soon as there is
//!    room, at the latest within about a second; a part of `max_bytes` is set aside for them. They do not survive
//!    `kill -9`.
//! 6. After a failed `fdatasync` a file is not trusted: the kernel may have forgotten the bytes. The failure is counted, a
//!    new file is begun, and a later success for the old one is not believed.
//!    When machine or process stood still for some seconds, so that nobody counted, the journal says from when to when; no
//!    moment counts as told before that ([`Reader::told_until`]).
//! 7. Appending never waits for the disk beyond the page cache, but for the first file of an opening (see 3).
//! 8. One process owns a journal directory, by a lock on its file `lock`. Which journal it is says every segment, under a
//!    checksum; the file `id` says it too, and is written anew where it was damaged.
//!
//! # Byte format, version 3
//!
//! Version 1 had the kinds 1 to 3 only, version 2 those up to 6; their files are read too. All numbers are little-endian. A file `<start position, 16 hexadecimal digits>.journal` is a header and records.
//!
//! | file header at | bytes | |
//! |---|---|---|
//! | 0 | 8 | `FLOWJRNL` |
//! | 8 | 4 | version, 3 |
//! | 12 | 4 | CRC-32C of the header's other bytes |
//! | 16 | 16 | journal id, a random UUID, as in the file `id` |
//! | 32 | 8 | start: the position of the first record |
//! | 40 | 8 | run: the start of the first file of this opening |
//! | 48 | 8 | the gap that the next opening must leave |
//! | 56 | 8 | when the file was begun, microseconds since 1970-01-01 UTC |
//! | 64 | 4 | number of the first record |
//! | 68 | 4 | zero |
//!
//! | record at | bytes | |
//! |---|---|---|
//! | 0 | 4 | `FLJR` |
//! | 4 | 4 | CRC-32C of the record's bytes from 8 on, begun with a value made of the journal id and the position |
//! | 8 | 2 | length of the payload |
//! | 10 | 2 | listener |
//! | 12 | 4 | number of the record in this run, modulo 2^32 |
//! | 16 | 8 | receive time, microseconds since 1970-01-01 UTC |
//! | 24 | 1 | kind: 1 datagram, 2 dropped by the kernel, 3 dropped by the journal, 4 message of a stream, 5 stream opened, 6 stream closed, 7 stream cut, 8 stood still |
//! | 25 | 1 | address family: 4, 6, or 0 for none |
//! | 26 | 2 | source port |
//! | 28 | 4 | IPv6 scope id |
//! | 32 | 16 | source address, IPv4 in the first four bytes |
//! | 48 | | payload: the datagram or message, the count of dropped datagrams in 8 bytes, since when it stood still in 8 bytes, or nothing |
//!
//! Where a record is damaged the reader looks for the next record that checks out. The checksum knows the journal and the
//! position, so bytes of a payload are never taken for a record, be they a copy of one. The numbers tell how many records
//! the damage cost. Damage at the very end of a run, such as a torn write, costs the records there and counts as one.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod error;
mod files;
mod flusher;
mod index;
mod metrics;
mod pending;
mod reader;
mod record;
mod segment;
#[cfg(test)]
pub(crate) mod simulated;
pub mod survey;
mod watch;
mod writer;

#[cfg(test)]
mod tests;

pub use error::JournalError;
pub use metrics::Metrics;
pub use reader::{Chunk, Opening, Reader};
pub use record::{Datagram, DropCause, Dropped, MAX_PAYLOAD_BYTES, Record, Stream, StreamEvent, Transport};
pub use writer::{Pulse, Writer};

use crate::clock::SystemClock;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use uuid::Uuid;

/// How a journal is kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The directory that holds the journal; made when missing.
    pub directory: PathBuf,
    /// Size at which a new file is begun, in bytes: at least 4 KiB. A file is larger only when one batch is, or while no
    /// other can be begun.
    pub segment_bytes: u64,
    /// The most that all files together take, in bytes: at least twice `segment_bytes`. Beyond it the newest datagrams are
    /// dropped and counted.
    pub max_bytes: u64,
    /// How long appended bytes wait before they are flushed to the disk, in milliseconds: 1 to 60,000. A power cut costs
    /// what was received in about this time.
    pub flush_interval_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { directory: PathBuf::from("journal"), segment_bytes: 64 << 20, max_bytes: 4 << 30, flush_interval_ms: 20 }
    }
}

impl Settings {
    /// Whether the numbers are within their ranges. [`open`] asks too.
    ///
    /// # Errors
    /// [`JournalError::Settings`] for the first one that is not.
    pub fn check(&self) -> Result<(), JournalError> {
        let refuse = |what: String| Err(JournalError::Settings { what });
        if self.segment_bytes < 4 << 10 {
            return refuse(format!("segment_bytes is {}, but must be at least 4096", self.segment_bytes));
        }
        if self.max_bytes > 1 << 50 || self.max_bytes / 2 < self.segment_bytes {
            return refuse(format!(
                "max_bytes is {}, but must be at least twice segment_bytes ({}) and at most 2^50",
                self.max_bytes, self.segment_bytes
            ));
        }
        if !(1..=60_000).contains(&self.flush_interval_ms) {
            return refuse(format!("flush_interval_ms is {}, but must be 1 to 60000", self.flush_interval_ms));
        }
        Ok(())
    }

    /// What the next opening leaves free behind the end of this one.
    fn gap(&self) -> u64 {
        self.max_bytes.saturating_add(self.segment_bytes)
    }

    /// The part of `max_bytes` that only counts of dropped datagrams may use.
    fn reserve(&self) -> u64 {
        (self.max_bytes / 64).min(1 << 20)
    }
}

/// A place in the log: a byte offset that only grows, also across restarts. It fits into an `i64`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// The position `offset`, as [`Position::get`] told it.
    pub const fn new(offset: u64) -> Self {
        Self(offset)
    }

    /// The offset in bytes, at most `i64::MAX` for every position that a journal gave out.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:x}", self.0)
    }
}

/// Which journal: positions of different journals do not compare. A directory whose files were removed becomes a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct JournalId(Uuid);

impl JournalId {
    /// The id as a random (version 4) UUID.
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for JournalId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Opens the journal in `settings.directory`, or begins one there. The reader stands at the oldest record that is left.
///
/// The directory stays locked until the reader and all clones of the writer are gone.
///
/// # Errors
/// When a setting is out of its range, another process has the journal open, the directory cannot be used, or it holds
/// files that are not of this journal or of a newer format, or files of which none tells which journal it is, nor does `id`.
pub fn open(settings: Settings) -> Result<(Writer, Reader), JournalError> {
    open_on(settings, Arc::new(files::RealDisk))
}

fn open_on(settings: Settings, disk: Arc<dyn files::Disk>) -> Result<(Writer, Reader), JournalError> {
    settings.check()?;
    let shared = Arc::new(index::Shared::open(settings, disk, Arc::new(SystemClock))?);
    let writer = Writer::start(Arc::clone(&shared))?;
    Ok((writer, Reader::new(shared)))
}
