//! Sampled packets as datagrams of sFlow version 5 (sflow.org, "sFlow Version 5", 2004).
//!
//! An agent that samples at one interface: each sample holds the first bytes of a packet in an Ethernet frame, and what
//! the router knew about it. All samples are equally long, so that what changes with each sending is patched in place.
//! Nothing of the decoder is used, so that each proves the other.

use super::format::{NEXT_HOP, Stamp, mask, put};
use super::traffic::Flow;

/// Bytes of a datagram's header, with an agent of IPv4.
pub(super) const HEADER: usize = 28;
/// Bytes of a flow sample with its two records.
pub(super) const SAMPLE: usize = 40 + PACKET + ROUTER;
/// Bytes of the record with a packet's first bytes.
const PACKET: usize = 8 + 16 + FIRST_BYTES as usize;
/// Bytes of the record with the router's view.
const ROUTER: usize = 8 + 16;
/// How many bytes of a frame are shown. No simulated packet is shorter.
const FIRST_BYTES: u32 = 64;
/// Bytes of a frame that the interface does not hand to the agent: its checksum.
const STRIPPED: u32 = 4;
/// The interface at which packets are sampled.
const SAMPLED_INTERFACE: u32 = 1;

fn words<const N: usize>(numbers: [u32; N]) -> Vec<u8> {
    numbers.into_iter().flat_map(u32::to_be_bytes).collect()
}

/// The first bytes of the packet that is all of `flow`.
fn frame(flow: &Flow) -> Vec<u8> {
    let ports = [flow.source_port.to_be_bytes(), flow.destination_port.to_be_bytes()].concat();
    let transport = match flow.protocol {
        // No numbers; no options, and the flags.
        6 => [&ports[..], &[0; 8], &[0x50, flow.tcp_flags, 0xff, 0xff]].concat(),
        1 => vec![8, 0],
        _ => [&ports[..], &((flow.bytes as u16).saturating_sub(20)).to_be_bytes()].concat(),
    };
    let mut out = [[2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]].concat();
    out.extend([0x08, 0x00, 0x45, flow.tos]);
    out.extend((flow.bytes as u16).to_be_bytes());
    // Number 0, not to be fragmented; no checksum, as where the network card adds it.
    out.extend([0, 0, 0x40, 0, 63, flow.protocol, 0, 0]);
    out.extend([flow.source.octets(), flow.destination.octets()].concat());
    out.extend(transport);
    out.resize(FIRST_BYTES as usize, 0);
    out
}

/// A datagram of packets, each all of a flow, without its clocks and numbers.
pub(super) fn data(packets: &[Flow]) -> Vec<u8> {
    // Version, the agent with its kind, sub-agent, sequence number, uptime, samples: what is 0 here is patched in.
    let mut out = words([5, 1, 0, 0, 0, 0, packets.len() as u32]);
    for flow in packets {
        // A flow sample: number, source, interval, pool, drops, interfaces, records.
        out.extend(words([1, SAMPLE as u32 - 8, 0, SAMPLED_INTERFACE, 0, 0, 0]));
        out.extend(words([flow.input.into(), flow.output.into(), 2]));
        // A sampled header of Ethernet: bytes of the frame, of what was stripped, of what is shown.
        let length = flow.bytes + 14 + STRIPPED;
        out.extend(words([1, PACKET as u32 - 8, 1, length, STRIPPED, FIRST_BYTES]));
        out.extend(frame(flow));
        // The router's view: next hop, masks.
        let masks = [mask(flow.source), mask(flow.destination)].map(u32::from);
        out.extend(words([1_002, ROUTER as u32 - 8, 1, u32::from_be_bytes(NEXT_HOP), masks[0], masks[1]]));
    }
    out
}

/// Stamps a datagram of `samples`.
///
/// The agent is a loopback address, which nobody but the sending machine can be called: so collectors take the address that
/// the datagram came from.
pub(super) fn stamp(datagram: &mut [u8], samples: usize, stamp: Stamp) {
    put(datagram, 8, (0x7f00_0000 | stamp.source).to_be_bytes());
    put(datagram, 12, stamp.source.to_be_bytes());
    put(datagram, 16, stamp.sequence.to_be_bytes());
    put(datagram, 20, stamp.uptime.to_be_bytes());
    for index in 0..samples {
        let at = HEADER + index * SAMPLE;
        let number = stamp.flows.wrapping_add(index as u32 + 1);
        put(datagram, at + 8, number.to_be_bytes());
        put(datagram, at + 16, stamp.sampling_interval.to_be_bytes());
        // All packets that a sample could have been taken of.
        put(datagram, at + 20, number.wrapping_mul(stamp.sampling_interval).to_be_bytes());
    }
}
