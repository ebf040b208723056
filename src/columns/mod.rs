//! Flows between memory and bytes: a batch becomes the blocks of a segment, and a block becomes a column again.
//!
//! Promises: what was encoded comes back to the bit, whatever values and gaps a batch has; a field that no flow has
//! costs nothing, a field that is the same everywhere costs a dozen bytes; bytes that were changed, cut or made up end
//! in an error and never in a panic, an endless loop or more memory than 64 Ki rows need. This module does no I/O and
//! knows neither the database nor who asks.
//!
//! # The format of a block, version 1
//!
//! A block holds one field of all rows of a segment. All numbers are little-endian; `varint` is unsigned LEB128 of at
//! most five bytes.
//!
//! ```text
//! u8   version, 1
//! u8   shape: bit 0 some rows are absent | bit 1 some addresses are IPv6 | bits 2-3 unit of times | others 0
//! u32  CRC-32C of: kind (u8), rows (u32), version, shape, and everything after this field
//! [absent rows]  runs       which rows are present
//! [IPv6]         runs       which of the present rows are IPv6
//! [times]        i64        the earliest moment; values are what comes after it, in units of 1 us, 1 ms or 1 s
//! sections       the values of the present rows, one section; addresses with IPv6: the IPv4 ones (32 bits), then the upper
//!                and the lower 64 bits of the IPv6 ones, where there are any
//! ```
//!
//! `runs` of `n` rows: varint count, then one section with the gap before each run and one with each run's length.
//!
//! A section holds a known count of numbers:
//!
//! ```text
//! u8   bits 0-1 width (0: 8, 1: 16, 2: 32, 3: 64 bits) | bits 2-3 form | others 0
//! form 0, constant:  the number, in its width
//! form 1, packed:    varint length, then that many bytes of pco (format version, chunk metadata, one page)
//! form 2, runs:      varint count, then a section of that many numbers and a section of how often each repeats;
//!                    neither of the two is form 2
//! ```
//!
//! The width is the narrowest that holds all numbers, so a counter column is unpacked at the speed of what it holds.
//! Flows of one datagram share receive time, exporter and domain, and exporters send flows of one family together: that
//! is what runs are for. What `kind` means to the checksum is [`kind_code`]; the order of the catalogue is not part of
//! the format, so fields may be added.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
#![cfg_attr(test, allow(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

mod address;
mod decode;
mod encode;
mod error;
mod input;
mod presence;
mod section;
#[cfg(test)]
mod tests;
mod time;
mod totals;

pub use decode::{Decoder, decode};
pub use encode::Encoder;
pub use error::ColumnsError;
pub use totals::{TotalsError, pack_totals, unpack_totals};

use crate::flow::fields::Kind;

/// The version of the format that this module writes.
const VERSION: u8 = 1;
/// Shape: some rows are absent.
const PARTLY_PRESENT: u8 = 1;
/// Shape: some addresses are IPv6.
const WIDE: u8 = 1 << 1;
/// Shape: how far the unit of times is shifted.
const UNIT_SHIFT: u32 = 2;
/// Shape: the bits of the unit of times.
const UNIT_MASK: u8 = 3 << UNIT_SHIFT;
/// Bytes before the first that is neither version, shape nor checksum.
const HEADER_BYTES: usize = 6;

/// What a kind is called in the checksum. Part of the format: codes are never given anew.
const fn kind_code(kind: Kind) -> u8 {
    match kind {
        Kind::U8 => 0,
        Kind::U16 => 1,
        Kind::U32 => 2,
        Kind::U64 => 3,
        Kind::Time => 4,
        Kind::Address => 5,
        Kind::Mac => 6,
    }
}

/// The checksum of a block: over what the reader believes about it (kind, rows), its first two bytes and its body.
fn checksum(kind: Kind, rows: u32, version: u8, shape: u8, body: &[u8]) -> u32 {
    let [a, b, c, d] = rows.to_le_bytes();
    crc32c::crc32c_append(crc32c::crc32c(&[kind_code(kind), a, b, c, d, version, shape]), body)
}
