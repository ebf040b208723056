//! A flow of nfdump 1.6: a common part, required values in widths that flags tell, and extensions in the order of a map.
//!
//! ```text
//! type 10    u8 flags | u8 version of NetFlow | u16 map | u16 ms of first | u16 ms of last | u32 first | u32 last
//!            u8 forwarding status | u8 TCP flags | u8 protocol | u8 ToS | u16 source port | u16 destination port
//!            u16 exporter | u8 direction of a biflow | u8 reason of the end
//! type 1     the same with a u8 exporter in place of the version, and without the last line
//! then       addresses (2 x u32, or 2 x 16 bytes with flag 1) | packets (u32, u64 with flag 2) | bytes (u32, u64 with flag 4)
//!            extensions
//! map        (record type 2) u16 number | u16 size of all extensions | u16 extension, ..., 0
//! ```

use super::records::{Sources, firewall, labels, moment, time};
use crate::archive::Flow;
use crate::archive::bytes::Bytes;
use crate::flow::fields::Field;
use crate::flow::value::wide_from_v4;
use std::collections::BTreeMap;
use std::net::IpAddr;

const IPV6: u8 = 1;
const PACKETS_64: u8 = 2;
const BYTES_64: u8 = 4;
/// The most extensions in a map: there are fewer than 64.
const EXTENSIONS: usize = 64;

/// How extensions follow each other, by the map's number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Maps(BTreeMap<u16, Vec<u16>>);

impl Maps {
    /// Takes up a map. The number 0xffff means 0.
    pub(super) fn learn(&mut self, mut record: Bytes<'_>) -> Option<()> {
        let number = record.u16()?;
        record.u16()?;
        let mut extensions = Vec::new();
        while let Some(extension) = record.u16().filter(|extension| *extension != 0) {
            if extensions.len() >= EXTENSIONS {
                return None;
            }
            extensions.push(extension);
        }
        self.0.insert(if number == u16::MAX { 0 } else { number }, extensions);
        Some(())
    }
}

/// Learns whose flow of type 1 or 10 it is.
pub(super) fn learn(kind: u16, mut record: Bytes<'_>, sources: &mut Sources) -> Option<()> {
    record.u8()?;
    let second = record.u8()?;
    let map = record.u16()?;
    if sources.maps.0.get(&map).is_some_and(|map| map.contains(&23) || map.contains(&24)) {
        return Some(());
    }
    record.take(20)?;
    let number = if kind == 1 { second.into() } else { record.u16()? };
    sources.refer(number);
    Some(())
}

/// Reads a flow of type 1 or 10.
pub(super) fn flow(kind: u16, mut record: Bytes<'_>, sources: &Sources, flow: &mut Flow) -> Option<()> {
    let (flags, second, map) = (record.u8()?, record.u8()?, record.u16()?);
    let (first_ms, last_ms) = (u64::from(record.u16()?), u64::from(record.u16()?));
    let (first, last) = (u64::from(record.u32()?), u64::from(record.u32()?));
    time(flow, Field::FirstSeen, first.saturating_mul(1_000).saturating_add(first_ms));
    time(flow, Field::LastSeen, last.saturating_mul(1_000).saturating_add(last_ms));
    let status = record.u8()?;
    if status != 0 {
        flow.set(Field::ForwardingStatus, status);
    }
    flow.set(Field::TcpFlags, record.u8()?);
    flow.set(Field::Protocol, record.u8()?);
    flow.set(Field::SrcTos, record.u8()?);
    flow.set(Field::SrcPort, record.u16()?);
    flow.set(Field::DstPort, record.u16()?);
    let exporter = if kind == 1 {
        second.into()
    } else {
        let exporter = record.u16()?;
        record.u8()?;
        let reason = record.u8()?;
        if reason != 0 {
            flow.set(Field::FlowEndReason, reason);
        }
        exporter
    };
    for field in [Field::SrcIp, Field::DstIp] {
        let address = if flags & IPV6 != 0 { record.wide()? } else { wide_from_v4(record.u32()?) };
        flow.set(field, address);
    }
    for (field, wide) in [(Field::InPackets, PACKETS_64), (Field::InBytes, BYTES_64)] {
        let count = if flags & wide != 0 { record.u64()? } else { record.u32()?.into() };
        flow.set(field, count);
    }
    let mut engine = None;
    for &number in sources.maps.0.get(&map)? {
        extension(number, &mut record, flow, &mut engine)?;
    }
    sources.attribute(exporter, engine, flow);
    Some(())
}

/// The narrow or wide form of a pair of numbers.
fn pair(record: &mut Bytes<'_>, narrow: bool) -> Option<(u32, u32)> {
    if narrow { Some((record.u16()?.into(), record.u16()?.into())) } else { Some((record.u32()?, record.u32()?)) }
}

fn count(record: &mut Bytes<'_>, narrow: bool) -> Option<u64> {
    if narrow { record.u32().map(u64::from) } else { record.u64() }
}

fn address(record: &mut Bytes<'_>, narrow: bool) -> Option<u128> {
    if narrow { record.u32().map(wide_from_v4) } else { record.wide() }
}

/// Reads one extension; an unknown one leaves everything behind it unknown.
fn extension(number: u16, record: &mut Bytes<'_>, flow: &mut Flow, engine: &mut Option<u32>) -> Option<()> {
    match number {
        // Never in a map.
        0..=3 => {}
        4 | 5 => {
            let (input, output) = pair(record, number == 4)?;
            flow.set(Field::InputInterface, input);
            flow.set(Field::OutputInterface, output);
        }
        6 | 7 => {
            let (source, destination) = pair(record, number == 6)?;
            flow.set(Field::SrcAs, source);
            flow.set(Field::DstAs, destination);
        }
        8 => {
            for field in [Field::DstTos, Field::Direction, Field::SrcMask, Field::DstMask] {
                flow.set(field, record.u8()?);
            }
        }
        9 | 10 => flow.set(Field::NextHop, address(record, number == 9)?),
        11 | 12 => flow.set(Field::BgpNextHop, address(record, number == 11)?),
        13 => {
            flow.set(Field::SrcVlan, record.u16()?);
            flow.set(Field::DstVlan, record.u16()?);
        }
        14 | 15 => flow.set(Field::OutPackets, count(record, number == 14)?),
        16 | 17 => flow.set(Field::OutBytes, count(record, number == 16)?),
        18 | 19 => {
            let flows = count(record, number == 18)?;
            if flows > 0 {
                flow.set(Field::AggregatedFlows, flows);
            }
        }
        20 => {
            flow.set(Field::InSrcMac, record.u64()?);
            flow.set(Field::OutDstMac, record.u64()?);
        }
        21 => {
            flow.set(Field::InDstMac, record.u64()?);
            flow.set(Field::OutSrcMac, record.u64()?);
        }
        22 => labels(flow, Bytes(record.take(40)?))?,
        23 | 24 => flow.exporter = Some(exporter(address(record, number == 23)?)),
        25 => {
            record.u16()?;
            *engine = Some((u32::from(record.u8()?) << 8) | u32::from(record.u8()?));
        }
        26 => {
            flow.set(Field::NextAs, record.u32()?);
            flow.set(Field::PreviousAs, record.u32()?);
        }
        27 => flow.received = moment(record.u64()?),
        37 => {
            let event_time = record.u64()?;
            let connection = record.u32()?;
            // Type and code of ICMP stand where other flows have their destination port.
            let icmp = record.u16()?;
            if matches!(flow.record.get(Field::Protocol), Some(1 | 58)) {
                flow.set(Field::DstPort, icmp);
            }
            let event = record.u8()?;
            record.u8()?;
            firewall(flow, event, record.u16()?, connection);
            record.u16()?;
            if flow.record.get(Field::FirstSeen).is_none() {
                time(flow, Field::FirstSeen, event_time);
            }
        }
        38 => {
            flow.set(Field::PostNatSrcPort, record.u16()?);
            flow.set(Field::PostNatDstPort, record.u16()?);
        }
        39 | 40 => {
            flow.set(Field::PostNatSrcIp, address(record, number == 39)?);
            flow.set(Field::PostNatDstIp, address(record, number == 39)?);
        }
        // ACLs, user names in two lengths, latencies, inside and outside of old NAT events.
        41 | 42 | 45 => drop(record.take(24)?),
        43 => drop(record.take(72)?),
        46 => {
            flow.set(Field::NatEvent, record.u8()?);
            record.take(3)?;
            flow.set(Field::EgressVrf, record.u32()?);
            flow.set(Field::IngressVrf, record.u32()?);
        }
        47 => drop(record.take(8)?),
        48 => {
            let (start, end) = (record.u16()?, record.u16()?);
            record.u16()?;
            port_block(flow, start, end, record.u16()?);
        }
        _ => return None,
    }
    Some(())
}

/// Notes a block of ports; where its end is not told, its size tells it.
pub(super) fn port_block(flow: &mut Flow, start: u16, end: u16, size: u16) {
    let end = if end == 0 && size != 0 { start.saturating_add(size.saturating_sub(1)) } else { end };
    flow.set(Field::PortBlockStart, start);
    flow.set(Field::PortBlockEnd, end);
}

/// The address of an exporter.
pub(super) fn exporter(address: u128) -> IpAddr {
    crate::flow::value::address_from_wide(address)
}
