//! A counter sample, ordinary or expanded: the counters of one interface, and others that are skipped.

use super::super::reader::Reader;
use super::opaque;
use crate::flow::facts::{Counters, Fact};

/// What a counter sample holds.
pub(super) struct CounterSample {
    /// The interface and its counters.
    pub(super) facts: Option<[Fact; 2]>,
    /// How many known records could not be read.
    pub(super) unreadable: usize,
    /// Whether anything but zeros follows the last record.
    pub(super) trailing: bool,
}

/// Reads a sample; `None` when it, or one of its records, is longer than `body`.
pub(super) fn read(expanded: bool, body: &[u8]) -> Option<CounterSample> {
    let mut reader = Reader::new(body);
    let _sequence = reader.u32()?;
    let _source = reader.take(if expanded { 8 } else { 4 })?;
    let (mut facts, mut unreadable) = (None, 0usize);
    let count = reader.u32()?;
    for _ in 0..count {
        let format = reader.u32()?;
        let length = reader.u32()?;
        let body = opaque(&mut reader, length)?;
        if format == 1 {
            match interface(&mut Reader::new(body)) {
                Some(found) => facts = Some(found),
                None => unreadable = unreadable.saturating_add(1),
            }
        }
    }
    Some(CounterSample { facts, unreadable, trailing: !reader.is_padding() })
}

/// Generic interface counters. Those that the agent does not keep have all bits set and count 0.
fn interface(reader: &mut Reader<'_>) -> Option<[Fact; 2]> {
    let index = reader.u32()?;
    let _kind = reader.u32()?;
    let speed = reader.u64()?;
    let (_direction, _status) = (reader.u32()?, reader.u32()?);
    let long = |value: u64| if value == u64::MAX { 0 } else { value };
    let short = |value: u32| if value == u32::MAX { 0 } else { u64::from(value) };
    let packets = |reader: &mut Reader<'_>| {
        let (unicast, multicast, broadcast) = (reader.u32()?, reader.u32()?, reader.u32()?);
        Some(short(unicast).saturating_add(short(multicast)).saturating_add(short(broadcast)))
    };
    let in_bytes = long(reader.u64()?);
    let in_packets = packets(reader)?;
    let (in_discards, in_errors, _unknown_protocols) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let out_bytes = long(reader.u64()?);
    let out_packets = packets(reader)?;
    let (out_discards, out_errors, _promiscuous) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let counters = Counters {
        interface: index,
        in_bytes,
        in_packets,
        in_discards: short(in_discards),
        in_errors: short(in_errors),
        out_bytes,
        out_packets,
        out_discards: short(out_discards),
        out_errors: short(out_errors),
    };
    let speed = (speed > 0).then_some(speed);
    let interface = Fact::Interface { interface: index, name: None, description: None, speed };
    Some([interface, Fact::Counters(counters)])
}
