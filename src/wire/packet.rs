//! The first bytes of a packet: Ethernet, VLAN tags, MPLS, IPv4, IPv6, TCP, UDP, ICMP, and one level of tunnels.
//!
//! Sampled packets come in sFlow and in records of IPFIX and NetFlow v9; this is how both are read.
//!
//! Promises: what can be read is read, in order, up to where the bytes end or stop making sense; each kind of layer is
//! followed [`LAYERS`] deep at most. A tunnel's outer addresses are the flow's, its inner ones stand beside them.

use super::reader::Reader;
use super::row::Row;
use crate::flow::value::wide_from_v4;

/// How many VLAN tags, MPLS labels or IPv6 extension headers are followed.
const LAYERS: usize = 8;
/// IANA protocol number.
pub(super) const TCP: u8 = 6;
/// The UDP port of VXLAN (RFC 7348).
const VXLAN: u16 = 4_789;

/// What was found below layer 3.
pub(super) struct Layer2 {
    /// Bytes before layer 3.
    pub(super) bytes: usize,
    /// Bytes from layer 3 on, as the IP header tells them.
    pub(super) payload: Option<u64>,
}

/// sFlow's number of an Ethernet frame.
pub(super) const ETHERNET: u32 = 1;
/// sFlow's number of an IPv4 packet without anything before it.
pub(super) const IPV4: u32 = 11;
/// sFlow's number of an IPv6 packet without anything before it.
const IPV6: u32 = 12;
/// sFlow's number of a packet that begins with MPLS labels.
const MPLS: u32 = 13;

/// Reads the first bytes of a packet that begin with `protocol`, as sFlow numbers header protocols. Of IP packets the
/// version is the packet's own.
pub(super) fn read(protocol: u32, header: &[u8], row: &mut Row) -> Layer2 {
    let mut reader = Reader::new(header);
    let found = match protocol {
        ETHERNET => ethernet(&mut reader, row),
        IPV4 | IPV6 => Some(()),
        MPLS => mpls(&mut reader, row),
        _ => None,
    };
    let bytes = header.len().saturating_sub(reader.len());
    let payload = found.and_then(|()| outer(&mut reader, row));
    Layer2 { bytes, payload }
}

/// The EtherType that `number` is, unless it is a length (IEEE 802.3, 3.2.6).
pub(super) fn ethernet_type(number: u32) -> Option<u16> {
    u16::try_from(number).ok().filter(|number| *number >= 0x600)
}

/// Whether headers of this protocol begin with two ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
pub(super) const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | 17 | 33 | 132 | 136)
}

/// An Ethernet header with its tags and labels, up to an IP header; `None` when there is none.
fn ethernet(reader: &mut Reader<'_>, row: &mut Row) -> Option<()> {
    let mac = |[a, b, c, d, e, f]: [u8; 6]| u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    row.in_dst_mac = Some(mac(reader.array()?));
    row.in_src_mac = Some(mac(reader.array()?));
    let mut vlans = [None; 2];
    let number = tagged(reader, &mut vlans);
    let [outer, inner] = vlans;
    row.src_vlan = row.src_vlan.or(outer);
    row.customer_vlan = inner;
    let kind = ethernet_type(number?.into())?;
    row.ethernet_type = Some(kind);
    match kind {
        0x0800 | 0x86dd => Some(()),
        0x8847 | 0x8848 => mpls(reader, row),
        _ => None,
    }
}

/// The type after all tags; the numbers of the first two VLANs are noted. 0 is no VLAN, but a priority.
fn tagged(reader: &mut Reader<'_>, vlans: &mut [Option<u16>; 2]) -> Option<u16> {
    let mut vlans = vlans.iter_mut();
    for _ in 0..=LAYERS {
        let kind = reader.u16()?;
        if !matches!(kind, 0x8100 | 0x88a8 | 0x9100 | 0x9200) {
            return Some(kind);
        }
        let number = reader.u16()? & 0xfff;
        if let Some(vlan) = vlans.next() {
            *vlan = Some(number).filter(|&number| number > 0);
        }
    }
    None
}

/// A stack of labels, up to what follows its bottom.
fn mpls(reader: &mut Reader<'_>, row: &mut Row) -> Option<()> {
    let mut labels = [&mut row.mpls_label_1, &mut row.mpls_label_2, &mut row.mpls_label_3].into_iter();
    for _ in 0..LAYERS {
        let entry = reader.u32()?;
        if let Some(label) = labels.next() {
            *label = Some(entry >> 12);
        }
        if entry & 0x100 != 0 {
            return Some(());
        }
    }
    None
}

/// What an IP header says, as far as it goes.
#[derive(Default)]
struct Ip {
    /// All of the packet in bytes; 0 when the header does not tell.
    length: u64,
    tos: Option<u8>,
    flow_label: Option<u32>,
    ttl: Option<u8>,
    protocol: Option<u8>,
    source: Option<u128>,
    destination: Option<u128>,
}

impl Ip {
    /// Reads an IP header; returns the protocol if its header follows.
    fn read(&mut self, reader: &mut Reader<'_>) -> Option<u8> {
        match reader.rest().first()? >> 4 {
            4 => self.version_4(reader),
            6 => self.version_6(reader),
            _ => None,
        }
    }

    fn version_4(&mut self, reader: &mut Reader<'_>) -> Option<u8> {
        let options = usize::from(reader.u8()? & 15).saturating_mul(4).checked_sub(20)?;
        self.tos = Some(reader.u8()?);
        self.length = reader.u16()?.into();
        let (_id, fragment) = (reader.u16()?, reader.u16()? & 0x1fff);
        self.ttl = Some(reader.u8()?);
        let protocol = reader.u8()?;
        self.protocol = Some(protocol);
        let _checksum = reader.u16()?;
        self.source = Some(wide_from_v4(reader.u32()?));
        self.destination = Some(wide_from_v4(reader.u32()?));
        reader.take(options)?;
        (fragment == 0).then_some(protocol)
    }

    fn version_6(&mut self, reader: &mut Reader<'_>) -> Option<u8> {
        let first = reader.u32()?;
        self.tos = Some((first >> 20) as u8);
        self.flow_label = Some(first & 0xf_ffff);
        // 0 means a length in an option (RFC 2675).
        self.length = match reader.u16()? {
            0 => 0,
            payload => u64::from(payload).saturating_add(40),
        };
        let mut next = reader.u8()?;
        self.ttl = Some(reader.u8()?);
        self.source = Some(u128::from_be_bytes(reader.array()?));
        self.destination = Some(u128::from_be_bytes(reader.array()?));
        for _ in 0..=LAYERS {
            let this = next;
            match this {
                // Hop-by-hop options, routing, destination options, mobility, HIP, shim6: units of 8 bytes less one.
                0 | 43 | 60 | 135 | 139 | 140 => {
                    next = reader.u8()?;
                    let units = usize::from(reader.u8()?);
                    reader.take(units.saturating_mul(8).saturating_add(6))?;
                }
                44 => {
                    next = reader.u8()?;
                    let (_reserved, offset, _id) = (reader.u8()?, reader.u16()? & 0xfff8, reader.u32()?);
                    if offset != 0 {
                        self.protocol = Some(next);
                        return None;
                    }
                }
                // Authentication: units of 4 bytes less two.
                51 => {
                    next = reader.u8()?;
                    let units = usize::from(reader.u8()?);
                    reader.take(units.saturating_mul(4).saturating_add(6))?;
                }
                protocol => {
                    self.protocol = Some(protocol);
                    return Some(protocol);
                }
            }
        }
        None
    }
}

/// The packet itself, and what it carries. Returns its length if its header tells.
fn outer(reader: &mut Reader<'_>, row: &mut Row) -> Option<u64> {
    let mut ip = Ip::default();
    let protocol = ip.read(reader);
    row.src_ip = ip.source.or(row.src_ip);
    row.dst_ip = ip.destination.or(row.dst_ip);
    row.protocol = ip.protocol.or(row.protocol);
    row.src_tos = ip.tos.or(row.src_tos);
    row.min_ttl = ip.ttl;
    row.max_ttl = ip.ttl;
    row.flow_label = ip.flow_label;
    if let Some(protocol) = protocol {
        transport(protocol, reader, row);
    }
    (ip.length > 0).then_some(ip.length)
}

/// What `protocol`'s header tells; `None` when the bytes end before it does.
fn transport(protocol: u8, reader: &mut Reader<'_>, row: &mut Row) -> Option<()> {
    if has_ports(protocol) {
        row.src_port = Some(reader.u16()?);
        row.dst_port = Some(reader.u16()?);
    }
    match protocol {
        TCP => {
            let _numbers = reader.take(8)?;
            row.tcp_flags = Some(reader.u16()? & 0xfff);
        }
        17 if row.dst_port == Some(VXLAN) => {
            let _length_and_checksum = reader.u32()?;
            let (flags, segment) = (reader.u32()?, reader.u32()? >> 8);
            // Only with this bit the number means anything (RFC 7348, 5).
            if flags & 0x0800_0000 != 0 {
                row.layer2_segment_id = Some(segment.into());
                return inner_ethernet(reader, row);
            }
        }
        1 | 58 => {
            row.icmp_type = Some(reader.u8()?);
            row.icmp_code = Some(reader.u8()?);
        }
        4 | 41 => inner(reader, row),
        47 => return gre(reader, row),
        _ => {}
    }
    Some(())
}

/// Generic routing encapsulation (RFC 2784, RFC 2890). Version 1 (PPTP) carries no packets that could be told apart.
fn gre(reader: &mut Reader<'_>, row: &mut Row) -> Option<()> {
    let (flags, kind) = (reader.u16()?, reader.u16()?);
    // Routing (RFC 1701) has a length of its own and is obsolete.
    if flags & 0x4007 != 0 {
        return None;
    }
    for optional in [0x8000, 0x2000, 0x1000] {
        if flags & optional != 0 {
            let _checksum_key_or_number = reader.u32()?;
        }
    }
    match kind {
        0x0800 | 0x86dd => inner(reader, row),
        0x6558 => return inner_ethernet(reader, row),
        _ => {}
    }
    Some(())
}

/// A frame inside a tunnel.
fn inner_ethernet(reader: &mut Reader<'_>, row: &mut Row) -> Option<()> {
    let _addresses = reader.take(12)?;
    let kind = tagged(reader, &mut [None; 2])?;
    if matches!(kind, 0x0800 | 0x86dd) {
        inner(reader, row);
    }
    Some(())
}

/// A packet inside a tunnel.
fn inner(reader: &mut Reader<'_>, row: &mut Row) {
    let mut ip = Ip::default();
    ip.read(reader);
    row.inner_src_ip = ip.source;
    row.inner_dst_ip = ip.destination;
    row.inner_protocol = ip.protocol;
}
