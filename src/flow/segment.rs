//! A segment: up to 64 Ki flows as the database keeps them, one block of bytes a field.
//!
//! `columns` makes the blocks and reads them; `store` keeps them and hands back those that were asked for; neither knows
//! the other. What stands beside the blocks (count, bounds, sums) lets a reader skip a segment, or answer from it, without
//! reading a block.

use super::fields::Field;
use crate::clock::Timestamp;

/// The most flows one segment holds.
pub const MAX_SEGMENT_FLOWS: usize = 65_536;

/// Sums over a set of flows. They saturate instead of wrapping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Bytes in both counters, in and out.
    pub bytes: u64,
    /// Packets in both counters, in and out.
    pub packets: u64,
    /// Flows, counting what the exporter aggregated.
    pub flows: u64,
}

impl Totals {
    /// Adds `other`, saturating.
    pub fn add(&mut self, other: &Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.packets = self.packets.saturating_add(other.packets);
        self.flows = self.flows.saturating_add(other.flows);
    }
}

/// Flows as blocks of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// How many flows: 1 to [`MAX_SEGMENT_FLOWS`].
    pub rows: u32,
    /// The earliest receive time.
    pub received_first: Timestamp,
    /// The latest receive time, in the same UTC hour as the earliest.
    pub received_last: Timestamp,
    /// Sums over all flows.
    pub totals: Totals,
    /// A block for each field that at least one flow has, in the order of the catalogue.
    pub columns: Vec<(Field, Vec<u8>)>,
}
