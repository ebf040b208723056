//! Files of other collectors, put together by hand: of nfdump 1.6, and captures of datagrams.
//!
//! Knows both formats independently of what reads them.

use std::net::IpAddr;

/// A flow over TCP or UDP.
#[derive(Clone, Copy, Debug)]
pub struct OldFlow {
    /// When it was received, in milliseconds since 1970; `None` leaves the extension out that tells it.
    pub received: Option<u64>,
    /// When it ended, in milliseconds since 1970.
    pub ended: u64,
    /// Of the same family as the destination.
    pub source: IpAddr,
    pub destination: IpAddr,
    pub ports: (u16, u16),
    pub protocol: u8,
    pub packets: u32,
    pub bytes: u32,
    /// By which it came and left.
    pub interfaces: (u16, u16),
}

/// The exporter of all flows that tell one: 192.0.2.16.
const ROUTER: u32 = 0xc000_0210;
/// Extensions: interfaces in two bytes, the router's address, the receive time.
const MAPS: [&[u16]; 2] = [&[4, 23, 27], &[4]];

fn bytes16(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn record(kind: u16, body: &[u8]) -> Vec<u8> {
    [&bytes16(&[kind, body.len() as u16 + 4]), body].concat()
}

fn map(number: u16, extensions: &[u16]) -> Vec<u8> {
    let sizes = extensions.iter().map(|extension| if *extension == 27 { 8 } else { 4 });
    let mut body = bytes16(&[number, sizes.sum()]);
    body.extend(bytes16(extensions));
    body.extend([0, 0]);
    if !body.len().is_multiple_of(4) {
        body.extend([0, 0]);
    }
    record(2, &body)
}

/// An address as the format has it: IPv6 in two numbers of eight bytes, the higher one first.
fn address(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.to_bits().to_le_bytes().to_vec(),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            [(bits >> 64) as u64, bits as u64].into_iter().flat_map(u64::to_le_bytes).collect()
        }
    }
}

fn flow(flow: &OldFlow) -> Vec<u8> {
    let mut body = bytes16(&[0x0900 | u16::from(flow.source.is_ipv6())]);
    let (began, ended) = (flow.ended - 1_500, flow.ended);
    body.extend(bytes16(&[u16::from(flow.received.is_none()), (began % 1_000) as u16, (ended % 1_000) as u16]));
    body.extend([(began / 1_000) as u32, (ended / 1_000) as u32].into_iter().flat_map(u32::to_le_bytes));
    body.extend([0, 0x1b, flow.protocol, 0]);
    body.extend(bytes16(&[flow.ports.0, flow.ports.1, 1, 0]));
    body.extend([address(flow.source), address(flow.destination)].concat());
    body.extend([flow.packets, flow.bytes].into_iter().flat_map(u32::to_le_bytes));
    body.extend(bytes16(&[flow.interfaces.0, flow.interfaces.1]));
    if let Some(received) = flow.received {
        body.extend(ROUTER.to_le_bytes());
        body.extend(received.to_le_bytes());
    }
    record(10, &body)
}

/// A file of nfdump 1.6 without compression, with so many flows a block, whose writer noticed so many gaps.
pub fn nfdump_1_6(flows: &[OldFlow], a_block: usize, gaps: u32) -> Vec<u8> {
    let blocks: Vec<_> = flows.chunks(a_block).collect();
    let mut file = bytes16(&[0xa50c, 1]);
    file.extend([0, blocks.len() as u32].into_iter().flat_map(u32::to_le_bytes));
    file.resize(12 + 128 + 15 * 8 + 12, 0);
    file.extend(gaps.to_le_bytes());
    for (index, block) in blocks.into_iter().enumerate() {
        let mut records: Vec<_> = block.iter().map(flow).collect();
        if index == 0 {
            records.splice(0..0, [map(0, MAPS[0]), map(1, MAPS[1])]);
        }
        let (count, body) = (records.len() as u32, records.concat());
        file.extend([count, body.len() as u32].into_iter().flat_map(u32::to_le_bytes));
        file.extend(bytes16(&[2, 0]));
        file.extend(body);
    }
    file
}

/// A file of nfdump 1.7 without compression, in one block. Each TCP flow, 100 bytes in one packet from 10.0.0.1 to 192.168.0.1, tells the
/// last byte of its exporter, 192.0.2.x, and its first packet, last packet and receive time, in milliseconds since 1970.
pub fn nfdump_1_7(flows: &[(u8, [u64; 3])]) -> Vec<u8> {
    nfdump_1_7_in(&[flows])
}

/// The same in several blocks.
pub fn nfdump_1_7_in(blocks: &[&[(u8, [u64; 3])]]) -> Vec<u8> {
    let extension = |kind: u16, body: Vec<u8>| [bytes16(&[kind, body.len() as u16 + 4]), body].concat();
    let flow = |(last, times): &(u8, [u64; 3])| {
        let mut generic: Vec<u8> = times.iter().chain(&[1, 100]).flat_map(|number| number.to_le_bytes()).collect();
        generic.extend(bytes16(&[4_000, 443]));
        generic.extend([6, 0x1b, 0, 0]);
        let addresses = [0x0a00_0001_u32, 0xc0a8_0001].into_iter().flat_map(u32::to_le_bytes).collect();
        let exporter = (ROUTER & 0xffff_ff00 | u32::from(*last)).to_le_bytes().to_vec();
        let head = [bytes16(&[3]), vec![0, 0], bytes16(&[1]), vec![0, 9]].concat();
        record(11, &[head, extension(1, generic), extension(2, addresses), extension(12, exporter)].concat())
    };
    let mut file = bytes16(&[0xa50c, 2]);
    file.extend(0x0107_0101_u32.to_le_bytes());
    // Created, compression and encryption, appendix; creator, offset of the appendix, block size, blocks.
    file.resize(36, 0);
    file.extend((blocks.len() as u32).to_le_bytes());
    for flows in blocks {
        let body: Vec<_> = flows.iter().flat_map(flow).collect();
        file.extend([flows.len() as u32, body.len() as u32].into_iter().flat_map(u32::to_le_bytes));
        file.extend(bytes16(&[3, 0]));
        file.extend(body);
    }
    file
}

/// A pcap of UDP datagrams from 192.0.2.17 to this port, each with its receive time in microseconds since 1970.
pub fn capture(datagrams: &[(u64, Vec<u8>)], port: u16) -> Vec<u8> {
    capture_from(17, datagrams, port)
}

/// The same from 192.0.2.`last`.
pub fn capture_from(last: u8, datagrams: &[(u64, Vec<u8>)], port: u16) -> Vec<u8> {
    let mut file = 0xa1b2_c3d4_u32.to_le_bytes().to_vec();
    file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 101, 0, 0, 0]);
    for (received, payload) in datagrams {
        let udp = payload.len() as u16 + 8;
        let mut packet = vec![0x45, 0];
        packet.extend((udp + 20).to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, last, 192, 0, 2, 1]);
        for number in [5_000, port, udp, 0] {
            packet.extend(number.to_be_bytes());
        }
        packet.extend(payload);
        let length = packet.len() as u32;
        for word in [(received / 1_000_000) as u32, (received % 1_000_000) as u32, length, length] {
            file.extend(word.to_le_bytes());
        }
        file.extend(packet);
    }
    file
}
