//! The records of a flow sample: the packet's first bytes, or what the agent read of them, and what the router or switch
//! knew about it.
//!
//! The packet's own bytes win over what the agent read of them. Other records are skipped by their lengths.

use super::super::packet;
use super::super::reader::Reader;
use super::super::row::Row;
use super::{address, opaque};
use crate::flow::value::wide_from_v4;

/// Bytes of layer 2 in the length of an Ethernet frame: addresses, type, and the checksum at its end.
const ETHERNET: u32 = 18;

/// Reads `count` records and returns how many known ones are too short to be read; `None` when one runs past the sample.
pub(super) fn read(count: u32, reader: &mut Reader<'_>, row: &mut Row) -> Option<usize> {
    let (mut unreadable, mut frame) = (0usize, None);
    for _ in 0..count {
        let format = reader.u32()?;
        let length = reader.u32()?;
        let mut body = Reader::new(opaque(reader, length)?);
        let known = match format {
            1 => sampled_header(&mut body, row),
            2 => ethernet(&mut body, row).map(|length| frame = Some(length)),
            3 => ip(&mut body, row, false),
            4 => ip(&mut body, row, true),
            1001 => switch(&mut body, row),
            1002 => router(&mut body, row),
            1003 => gateway(&mut body, row),
            1007 => nat(&mut body, row),
            _ => Some(()),
        };
        unreadable = unreadable.saturating_add(usize::from(known.is_none()));
    }
    row.in_bytes = row.in_bytes.or(frame);
    Some(unreadable)
}

/// The first bytes of the packet. Fewer than announced are read all the same.
fn sampled_header(reader: &mut Reader<'_>, row: &mut Row) -> Option<()> {
    let (protocol, frame, stripped) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let length = usize::try_from(reader.u32()?).unwrap_or(usize::MAX);
    let rest = reader.rest();
    let header = rest.get(..length).unwrap_or(rest);
    let layer2 = packet::read(protocol, header, row);
    // What was stripped, like the checksum at the end, is not layer 3 either.
    let left = u64::from(frame).saturating_sub(stripped.into()).saturating_sub(layer2.bytes as u64);
    row.in_bytes = layer2.payload.or(row.in_bytes).or(Some(left));
    Some(())
}

/// An Ethernet frame, of which this returns the bytes of layer 3.
fn ethernet(reader: &mut Reader<'_>, row: &mut Row) -> Option<u64> {
    let length = reader.u32()?;
    // Opaque bytes are filled up to a multiple of four.
    let source = reader.u64()? >> 16;
    let destination = reader.u64()? >> 16;
    let kind = reader.u32()?;
    row.in_src_mac.get_or_insert(source);
    row.in_dst_mac.get_or_insert(destination);
    row.ethernet_type = row.ethernet_type.or(packet::ethernet_type(kind));
    Some(length.saturating_sub(ETHERNET).into())
}

/// What the agent read of an IP packet.
fn ip(reader: &mut Reader<'_>, row: &mut Row, wide: bool) -> Option<()> {
    let length = reader.u32()?;
    let protocol = reader.u32()?;
    let mut address = || {
        if wide { reader.array().map(u128::from_be_bytes) } else { reader.u32().map(wide_from_v4) }
    };
    let (source, destination) = (address()?, address()?);
    let (source_port, destination_port, flags, tos) = (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
    row.in_bytes.get_or_insert(length.into());
    row.src_ip.get_or_insert(source);
    row.dst_ip.get_or_insert(destination);
    row.src_tos = row.src_tos.or(u8::try_from(tos).ok());
    let Ok(protocol) = u8::try_from(protocol) else { return Some(()) };
    row.protocol.get_or_insert(protocol);
    if packet::has_ports(protocol) {
        row.src_port = row.src_port.or(u16::try_from(source_port).ok());
        row.dst_port = row.dst_port.or(u16::try_from(destination_port).ok());
    }
    if protocol == packet::TCP {
        row.tcp_flags = row.tcp_flags.or(u16::try_from(flags).ok());
    }
    Some(())
}

/// The switch's view. 0 means untagged, and what is no VLAN means that it is unknown.
fn switch(reader: &mut Reader<'_>, row: &mut Row) -> Option<()> {
    let (source, _priority) = (reader.u32()?, reader.u32()?);
    let (destination, _priority) = (reader.u32()?, reader.u32()?);
    let vlan = |number: u32| u16::try_from(number).ok().filter(|number| (1..=4_095).contains(number));
    row.src_vlan = vlan(source).or(row.src_vlan);
    row.dst_vlan = vlan(destination);
    Some(())
}

/// The router's view.
fn router(reader: &mut Reader<'_>, row: &mut Row) -> Option<()> {
    let next_hop = address(reader)?;
    let (source, destination) = (reader.u32()?, reader.u32()?);
    let mask = |bits: u32| u8::try_from(bits).ok().filter(|bits| *bits <= 128);
    row.next_hop = next_hop;
    row.src_mask = mask(source);
    row.dst_mask = mask(destination);
    Some(())
}

/// BGP's view.
fn gateway(reader: &mut Reader<'_>, row: &mut Row) -> Option<()> {
    let next_hop = address(reader)?;
    let (own, source, previous) = (reader.u32()?, reader.u32()?, reader.u32()?);
    let (mut next, mut last) = (None, None);
    let segments = reader.u32()?;
    for _ in 0..segments {
        let _set_or_sequence = reader.u32()?;
        let bytes = usize::try_from(reader.u32()?).ok()?.checked_mul(4)?;
        let mut path = Reader::new(reader.take(bytes)?);
        while let Some(system) = path.u32() {
            next.get_or_insert(system);
            last = Some(system);
        }
    }
    row.bgp_next_hop = next_hop;
    row.src_as = Some(source);
    row.previous_as = Some(previous);
    row.next_as = next;
    // Without a path the destination lies in the router's own system.
    row.dst_as = Some(last.unwrap_or(own));
    Some(())
}

/// The addresses after translation.
fn nat(reader: &mut Reader<'_>, row: &mut Row) -> Option<()> {
    let (source, destination) = (address(reader)?, address(reader)?);
    row.post_nat_src_ip = source;
    row.post_nat_dst_ip = destination;
    Some(())
}
