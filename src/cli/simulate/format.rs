//! Flows as datagrams of NetFlow or IPFIX, and what changes in a datagram each time it is sent. (sFlow: `sflow`.)
//!
//! A datagram is written once; sending it again patches the sequence number, the header's clocks and the moments of its
//! records, which are kept as milliseconds before the export. Nothing of the decoder is used, so that each proves the
//! other.

use super::sflow;
use super::traffic::Flow;
use crate::clock::{SECOND, Timestamp};
use std::net::Ipv4Addr;

/// A format to export in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// NetFlow v1.
    V1,
    /// NetFlow v5.
    V5,
    /// NetFlow v7, of Catalyst switches.
    V7,
    /// NetFlow v9.
    #[default]
    V9,
    /// IPFIX.
    Ipfix,
    /// sFlow version 5: each flow is one sampled packet.
    Sflow,
}

/// The identifier of the template.
const TEMPLATE: u16 = 256;
/// Element and width of each field, as the records of v9 and IPFIX have them; start and end are uptimes in v9 and
/// milliseconds since 1970 in IPFIX.
const FIELDS: [(u16, u16); 16] = [
    (8, 4),
    (12, 4),
    (15, 4),
    (10, 2),
    (14, 2),
    (2, 4),
    (1, 4),
    (7, 2),
    (11, 2),
    (6, 1),
    (4, 1),
    (5, 1),
    (16, 4),
    (17, 4),
    (9, 1),
    (13, 1),
];
/// Bytes of [`FIELDS`], after which start and end follow.
const FIELDS_LENGTH: usize = 41;
/// The router that local hosts are reached by.
pub(super) const NEXT_HOP: [u8; 4] = [10, 0, 0, 1];

impl Protocol {
    /// The name in totals and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V5 => "v5",
            Self::V7 => "v7",
            Self::V9 => "v9",
            Self::Ipfix => "ipfix",
            Self::Sflow => "sflow",
        }
    }

    /// The version that a datagram begins with.
    const fn version(self) -> u16 {
        match self {
            Self::V1 => 1,
            Self::V5 | Self::Sflow => 5,
            Self::V7 => 7,
            Self::V9 => 9,
            Self::Ipfix => 10,
        }
    }

    /// Bytes of header, set header included.
    const fn header(self) -> usize {
        match self {
            Self::V1 => 16,
            Self::V5 | Self::V7 | Self::V9 => 24,
            Self::Ipfix => 20,
            Self::Sflow => sflow::HEADER,
        }
    }

    /// Bytes of a record.
    const fn record(self) -> usize {
        match self {
            Self::V1 | Self::V5 => 48,
            Self::V7 => 52,
            Self::V9 => FIELDS_LENGTH + 8,
            Self::Ipfix => FIELDS_LENGTH + 16,
            Self::Sflow => sflow::SAMPLE,
        }
    }

    /// Where start and end stand in a record.
    const fn moments(self) -> usize {
        if self.has_templates() { FIELDS_LENGTH } else { 24 }
    }

    /// How many flows a datagram holds: as many as 1,400 bytes do, or as Cisco allows for v1 (24), v5 (30) and v7 (27).
    pub const fn flows_per_datagram(self) -> usize {
        match self {
            Self::V1 => 24,
            Self::V5 => 30,
            Self::V7 => 27,
            Self::V9 | Self::Ipfix => (1_400 - self.header() - 3) / self.record(),
            Self::Sflow => (1_400 - self.header()) / self.record(),
        }
    }

    /// Whether templates are to be sent.
    pub(super) const fn has_templates(self) -> bool {
        matches!(self, Self::V9 | Self::Ipfix)
    }

    /// By how much a datagram of `flows` moves the sequence number on: datagrams are counted in v9 and sFlow, flows else.
    pub(super) const fn sequence_step(self, flows: usize) -> u32 {
        match self {
            Self::V9 | Self::Sflow => 1,
            Self::V1 | Self::V5 | Self::V7 | Self::Ipfix => flows as u32,
        }
    }
}

/// Writes `bytes` at `at`. A place outside the datagram, which its layout excludes, is left alone.
pub(super) fn put<const N: usize>(datagram: &mut [u8], at: usize, bytes: [u8; N]) {
    if let Some(place) = datagram.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<N>) {
        *place = bytes;
    }
}

fn message(protocol: Protocol, records: u16, sets: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let count = if protocol == Protocol::Ipfix { sets.len() as u16 + 16 } else { records };
    out.extend(protocol.version().to_be_bytes());
    out.extend(count.to_be_bytes());
    // Clocks, sequence number and source are patched in.
    out.resize(if protocol.has_templates() { protocol.header() - 4 } else { protocol.header() }, 0);
    out.extend(sets);
    out
}

fn set(id: u16, body: &[u8]) -> Vec<u8> {
    let padding = body.len().next_multiple_of(4) - body.len();
    let length = (body.len() + padding + 4) as u16;
    [&id.to_be_bytes()[..], &length.to_be_bytes(), body, &[0; 3][..padding]].concat()
}

/// A datagram that holds the template alone.
pub(super) fn template(protocol: Protocol) -> Vec<u8> {
    let moments = if protocol == Protocol::Ipfix { [(152, 8), (153, 8)] } else { [(22, 4), (21, 4)] };
    let mut body = [TEMPLATE.to_be_bytes(), (FIELDS.len() as u16 + 2).to_be_bytes()].concat();
    for (element, width) in FIELDS.into_iter().chain(moments) {
        body.extend(u16::to_be_bytes(element));
        body.extend(u16::to_be_bytes(width));
    }
    message(protocol, 1, &set(if protocol == Protocol::Ipfix { 2 } else { 0 }, &body))
}

/// A datagram of flows without its clocks and numbers.
pub(super) fn data(protocol: Protocol, flows: &[Flow]) -> Vec<u8> {
    if protocol == Protocol::Sflow {
        return sflow::data(flows);
    }
    let mut body = Vec::new();
    for flow in flows {
        let addresses = [flow.source.octets(), flow.destination.octets(), NEXT_HOP].concat();
        let counters = [flow.packets.to_be_bytes(), flow.bytes.to_be_bytes()].concat();
        let ports = [flow.source_port.to_be_bytes(), flow.destination_port.to_be_bytes()].concat();
        let systems = [flow.source_as, flow.destination_as];
        let masks = [mask(flow.source), mask(flow.destination)];
        body.extend(addresses);
        body.extend([flow.input.to_be_bytes(), flow.output.to_be_bytes()].concat());
        body.extend(counters);
        if protocol.has_templates() {
            body.extend(ports);
            body.extend([flow.tcp_flags, flow.protocol, flow.tos]);
            body.extend(systems.map(|system| u32::from(system).to_be_bytes()).concat());
            body.extend(masks);
            body.extend([0; 16].iter().take(protocol.record() - FIELDS_LENGTH));
            continue;
        }
        body.extend([0; 8]);
        body.extend(ports);
        if protocol == Protocol::V1 {
            body.extend([0, 0, flow.protocol, flow.tos, flow.tcp_flags]);
            body.extend([0; 7]);
            continue;
        }
        body.extend([0, flow.tcp_flags, flow.protocol, flow.tos]);
        body.extend(systems.map(u16::to_be_bytes).concat());
        body.extend(masks);
        body.extend([0; 2]);
        if protocol == Protocol::V7 {
            // The router whose work the switch does.
            body.extend(NEXT_HOP);
        }
    }
    let sets = if protocol.has_templates() { set(TEMPLATE, &body) } else { body };
    message(protocol, flows.len() as u16, &sets)
}

/// Bits of the network that an address is in.
pub(super) const fn mask(address: Ipv4Addr) -> u8 {
    if address.is_private() { 24 } else { 16 }
}

/// What a datagram is stamped with when it is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    /// Of the exporter's stream, in what the format counts.
    pub(super) sequence: u32,
    /// The exporter's number from 1: source id, observation domain, engine id or sub-agent.
    pub(super) source: u32,
    /// How many flows it sent before.
    pub(super) flows: u32,
    /// sFlow: out of how many packets one was sampled.
    pub(super) sampling_interval: u32,
    /// The present.
    pub(super) now: Timestamp,
    /// How long the exporter has been up, in milliseconds.
    pub(super) uptime: u32,
}

/// Stamps a datagram of `flows` (none for a template).
pub(super) fn stamp(protocol: Protocol, datagram: &mut [u8], flows: &[Flow], stamp: Stamp) {
    let micros = stamp.now.micros();
    let seconds = (micros / SECOND) as u32;
    match protocol {
        Protocol::V1 | Protocol::V5 | Protocol::V7 => {
            put(datagram, 4, stamp.uptime.to_be_bytes());
            put(datagram, 8, seconds.to_be_bytes());
            put(datagram, 12, ((micros % SECOND) as u32 * 1_000).to_be_bytes());
            // The header of v1 ends here.
            if protocol != Protocol::V1 {
                put(datagram, 16, stamp.sequence.to_be_bytes());
            }
            if protocol == Protocol::V5 {
                put(datagram, 20, [0, stamp.source as u8]);
            }
        }
        Protocol::V9 => {
            put(datagram, 4, stamp.uptime.to_be_bytes());
            put(datagram, 8, seconds.to_be_bytes());
            put(datagram, 12, stamp.sequence.to_be_bytes());
            put(datagram, 16, stamp.source.to_be_bytes());
        }
        Protocol::Ipfix => {
            put(datagram, 4, seconds.to_be_bytes());
            put(datagram, 8, stamp.sequence.to_be_bytes());
            put(datagram, 12, stamp.source.to_be_bytes());
        }
        Protocol::Sflow => return sflow::stamp(datagram, flows.len(), stamp),
    }
    let first = protocol.header() + protocol.moments();
    for (index, flow) in flows.iter().enumerate() {
        let at = first + index * protocol.record();
        if protocol == Protocol::Ipfix {
            let now = micros / 1_000;
            put(datagram, at, (now - i64::from(flow.began)).to_be_bytes());
            put(datagram, at + 8, (now - i64::from(flow.ended)).to_be_bytes());
        } else {
            put(datagram, at, stamp.uptime.wrapping_sub(flow.began).to_be_bytes());
            put(datagram, at + 4, stamp.uptime.wrapping_sub(flow.ended).to_be_bytes());
        }
    }
}
