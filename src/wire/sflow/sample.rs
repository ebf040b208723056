//! A flow sample, ordinary or expanded: where and how a packet was sampled, then records about it.

use super::super::reader::Reader;
use super::super::row::Row;
use super::records;

/// The index that means no interface or an unknown one. Expanded samples have room for a longer one.
const NO_INTERFACE: [u32; 2] = [0x3fff_ffff, 0xffff_ffff];
/// IANA forwarding status "dropped, unknown reason".
const DROPPED: u8 = 128;

/// What a flow sample holds beside its flow.
pub(super) struct FlowSample {
    /// Out of how many packets one is sampled; 0 when unknown.
    pub(super) rate: u32,
    /// How many samples the source dropped since it started.
    pub(super) dropped: u32,
    /// How many known records could not be read.
    pub(super) unreadable: usize,
    /// Whether anything but zeros follows the last record.
    pub(super) trailing: bool,
}

/// An interface: what its number means (0: an index), and the number.
fn interface(expanded: bool, reader: &mut Reader<'_>) -> Option<(u32, u32)> {
    let first = reader.u32()?;
    if expanded { Some((first, reader.u32()?)) } else { Some((first >> 30, first & 0x3fff_ffff)) }
}

/// Reads a sample and notes in `row` what is known of its flow, but for the sampling interval; `None` when the sample, or
/// one of its records, is longer than `body`.
pub(super) fn read(expanded: bool, body: &[u8], row: &mut Row) -> Option<FlowSample> {
    let mut reader = Reader::new(body);
    let _sequence = reader.u32()?;
    let _source = reader.take(if expanded { 8 } else { 4 })?;
    let rate = reader.u32()?;
    let _pool = reader.u32()?;
    let dropped = reader.u32()?;
    let input = interface(expanded, &mut reader)?;
    let output = interface(expanded, &mut reader)?;
    let index = |(format, value): (u32, u32)| (format == 0 && !NO_INTERFACE.contains(&value)).then_some(value);
    row.input_interface = index(input);
    row.output_interface = index(output);
    row.forwarding_status = (output.0 == 1).then_some(DROPPED);
    let count = reader.u32()?;
    let unreadable = records::read(count, &mut reader, row)?;
    Some(FlowSample { rate, dropped, unreadable, trailing: !reader.is_padding() })
}
