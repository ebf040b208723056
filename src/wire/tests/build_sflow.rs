//! sFlow datagrams and sampled packets for tests, put together by hand. Knows the formats independently of the decoder.

use super::build::be;

/// Big-endian numbers of four bytes.
pub(super) fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

/// A datagram of agent 198.51.100.7, sub-agent 3.
pub(super) fn datagram(sequence: u32, samples: &[Vec<u8>]) -> Vec<u8> {
    let header = words(&[5, 1, 0xc633_6407, 3, sequence, 100_000, samples.len() as u32]);
    [header, samples.concat()].concat()
}

/// A sample or a record: its format, its length, its bytes filled up to four.
pub(super) fn block(format: u32, body: &[u8]) -> Vec<u8> {
    let mut out = [words(&[format, body.len() as u32]), body.to_vec()].concat();
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// A flow sample of 1 in 512 packets from interface 5 to interface 6.
pub(super) fn flow(records: &[Vec<u8>]) -> Vec<u8> {
    flow_between(5, 6, records)
}

/// A flow sample between interfaces as they are written.
pub(super) fn flow_between(input: u32, output: u32, records: &[Vec<u8>]) -> Vec<u8> {
    let head = words(&[77, 5, 512, 51_200, 9, input, output, records.len() as u32]);
    block(1, &[head, records.concat()].concat())
}

/// An expanded flow sample between interfaces, each with what its number means.
pub(super) fn expanded([in_format, input, out_format, output]: [u32; 4], records: &[Vec<u8>]) -> Vec<u8> {
    let numbers = [77, 0, 5, 512, 51_200, 9, in_format, input, out_format, output, records.len() as u32];
    block(3, &[words(&numbers), records.concat()].concat())
}

/// The first bytes of a packet of `frame` bytes, the last four of which were stripped.
pub(super) fn sampled(protocol: u32, frame: u32, bytes: &[u8]) -> Vec<u8> {
    let mut body = [words(&[protocol, frame, 4, bytes.len() as u32]), bytes.to_vec()].concat();
    body.resize(body.len().next_multiple_of(4), 0);
    block(1, &body)
}

/// Generic counters of an interface: each differs from the others.
pub(super) fn interface_counters(index: u32) -> Vec<u8> {
    let head = [words(&[index, 6]), be(10_000_000_000, 8), words(&[1, 3])].concat();
    let input = [be(1 << 40, 8), words(&[100, 20, 3, 4, 5, 6])].concat();
    let output = [be(1 << 41, 8), words(&[200, 40, 6, 8, 9, 0])].concat();
    block(1, &[head, input, output].concat())
}

/// A counter sample.
pub(super) fn counters(records: &[Vec<u8>]) -> Vec<u8> {
    block(2, &[words(&[78, 5, records.len() as u32]), records.concat()].concat())
}

/// An expanded counter sample.
pub(super) fn expanded_counters(records: &[Vec<u8>]) -> Vec<u8> {
    block(4, &[words(&[78, 0, 5, records.len() as u32]), records.concat()].concat())
}

/// An Ethernet frame, without its checksum. `kind` may begin with tags.
pub(super) fn ethernet(kind: &[u8], payload: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 0xdd], &[2, 0, 0, 0, 0, 0x55], kind, payload].concat()
}

/// An IPv4 packet from 10.0.0.1 to 10.0.0.2.
pub(super) fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len() as u16).to_be_bytes();
    let head = [&[0x45, 0xb8], &length[..], &[0, 1, 0x40, 0, 63, protocol, 0, 0]].concat();
    [head, words(&[0x0a00_0001, 0x0a00_0002]), payload.to_vec()].concat()
}

/// An IPv6 packet from 2001:db8::1 to 2001:db8::2.
pub(super) fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let head = [&words(&[0x6b81_2345])[..], &(payload.len() as u16).to_be_bytes(), &[next, 62]].concat();
    [head, words(&[0x2001_0db8, 0, 0, 1, 0x2001_0db8, 0, 0, 2]), payload.to_vec()].concat()
}

/// A TCP header of SYN and ACK from port 443 to port 50,000.
pub(super) fn tcp() -> Vec<u8> {
    [be(443, 2), be(50_000, 2), words(&[1, 2]), vec![0x50, 0x12, 1, 0, 0, 0, 0, 0]].concat()
}

/// A UDP datagram from port 4,000 to `port`.
pub(super) fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    [be(4_000, 2), be(port.into(), 2), be(8 + payload.len() as u64, 2), be(0, 2), payload.to_vec()].concat()
}

/// A flow sample of an ordinary TCP packet over IPv4.
pub(super) fn ordinary() -> Vec<u8> {
    let frame = ethernet(&[8, 0], &ipv4(6, &tcp()));
    flow(&[sampled(1, frame.len() as u32 + 4, &frame)])
}

/// A datagram of everything that a switch and a router send.
pub(super) fn rich(sequence: u32) -> Vec<u8> {
    let frame = ethernet(&[0x81, 0, 0, 100, 0x86, 0xdd], &ipv6(17, &udp(53, &[1, 2])));
    let switch = block(1001, &words(&[100, 0, 200, 0]));
    let router = block(1002, &words(&[1, 0x0a00_00fe, 24, 16]));
    let gateway = block(1003, &words(&[1, 0x0a00_00fd, 64_500, 64_501, 64_502, 1, 2, 2, 64_503, 64_504, 0, 100]));
    let known = block(3, &words(&[60, 17, 0x0a00_0001, 0x0a00_0002, 53, 4_000, 0, 8]));
    let samples = [
        flow(&[sampled(1, 90, &frame), switch, router]),
        expanded([0, 7, 1, 2], &[gateway, known]),
        counters(&[interface_counters(5), block(2, &[0; 12])]),
        block(5, &[1, 2, 3, 4]),
    ];
    datagram(sequence, &samples)
}
