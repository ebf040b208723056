//! Files that other collectors left, as flows: nfdump's archives and captures of packets.
//!
//! [`nfdump`] reads the files of nfdump 1.6 (layout 1) and 1.7 (layout 2) block by block and gives [`Flow`]s. [`capture`]
//! reads pcap and pcapng packet by packet and gives the UDP datagrams in them, which `wire` decodes like any other. Both tell
//! where in the file they are after each step, so that reading can go on later, and what is damaged, with its offset.
//!
//! Promises: no bytes make it panic, sizes that a file claims are checked before memory is taken (at most some 16 MiB for
//! nfdump's blocks, 34 MiB for packets and their fragments), and what is damaged costs its own block, record or packet and not
//! the rest as long as the next one can be found. It reads from any [`std::io::Read`], and must not know files, the database or
//! what time it is.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod bytes;
pub mod capture;
pub mod nfdump;

use crate::clock::Timestamp;
use crate::flow::fields::Field;
use crate::flow::record::FlowRecord;
use std::io::{ErrorKind, Read};
use std::net::IpAddr;

/// How many bytes [`recognise`] wants to see.
pub const HEAD: usize = 4;

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// nfdump's, layout 1 or 2.
    Nfdump,
    /// pcap or pcapng.
    Capture,
}

impl Format {
    /// The name in the database.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nfdump => "nfdump",
            Self::Capture => "capture",
        }
    }
}

/// What kind of file begins with `head`; `None` when it is none that can be read.
pub fn recognise(head: &[u8]) -> Option<Format> {
    let &[a, b, c, d, ..] = head else { return None };
    if u16::from_le_bytes([a, b]) == nfdump::MAGIC {
        return Some(Format::Nfdump);
    }
    // pcap with microseconds and nanoseconds in both byte orders, and the section header of pcapng.
    matches!(u32::from_le_bytes([a, b, c, d]), 0xa1b2_c3d4 | 0xd4c3_b2a1 | 0xa1b2_3c4d | 0x4d3c_b2a1 | 0x0a0d_0d0a)
        .then_some(Format::Capture)
}

/// Something in a file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {what}")]
pub struct Damage {
    /// Where in the file.
    pub offset: u64,
    /// What is wrong.
    pub what: String,
}

/// Why a file cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Reading failed.
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// The head of the file is not what it must be.
    #[error("{0}")]
    Head(String),
}

/// A flow of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// When its collector received it, or what stands for that moment; `None` when nothing in the record tells a time.
    pub received: Option<Timestamp>,
    /// Who exported it, where the archive tells.
    pub exporter: Option<IpAddr>,
    /// Everything else.
    pub record: FlowRecord,
}

impl Flow {
    fn clear(&mut self) {
        self.received = None;
        self.exporter = None;
        self.record.clear();
    }

    fn set(&mut self, field: Field, bits: impl Into<u128>) {
        self.record.set(field, bits);
    }
}

/// Reads up to `buffer.len()` bytes, fewer only at the end of the input.
fn fill(input: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0usize;
    while let Some(room) = buffer.get_mut(filled..).filter(|room| !room.is_empty()) {
        match input.read(room) {
            Ok(0) => break,
            Ok(count) => filled = filled.saturating_add(count),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_recognised_by_their_first_bytes_in_both_byte_orders() {
        for (head, format) in [
            (&[0x0c, 0xa5, 1, 0][..], Some(Format::Nfdump)),
            (&[0x0c, 0xa5, 2, 0], Some(Format::Nfdump)),
            (&[0xd4, 0xc3, 0xb2, 0xa1, 2], Some(Format::Capture)),
            (&[0xa1, 0xb2, 0x3c, 0x4d], Some(Format::Capture)),
            (&[0x0a, 0x0d, 0x0d, 0x0a], Some(Format::Capture)),
            (b"text", None),
            (&[0x0c, 0xa5], None),
            (&[], None),
        ] {
            assert_eq!(recognise(head), format, "{head:?}");
        }
    }
}
