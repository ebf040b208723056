//! Datagrams of each version with everything a real exporter sends: IPv4 and IPv6, options, variable lengths, padding.

use super::build::{Message, be, iana, ipfix, v1, v5, v7, v9};
use super::build_sflow;
use super::{NOW, SECONDS};

/// A realistic template of 18 fields.
pub(super) const V4: [(u16, u16); 18] = [
    (8, 4),
    (12, 4),
    (15, 4),
    (10, 4),
    (14, 4),
    (2, 4),
    (1, 4),
    (22, 4),
    (21, 4),
    (7, 2),
    (11, 2),
    (16, 4),
    (17, 4),
    (9, 1),
    (13, 1),
    (6, 1),
    (4, 1),
    (5, 1),
];
pub(super) const V6: [(u16, u16); 10] =
    [(27, 16), (28, 16), (2, 8), (1, 8), (152, 8), (153, 8), (7, 2), (11, 2), (4, 1), (6, 2)];

/// Record `number` of a template: bytes that differ from record to record, with sane times.
pub(super) fn record(specs: &[(u16, u16)], number: u64) -> Vec<u8> {
    let value = |&(id, width): &(u16, u16)| match id {
        21 | 22 => be(99_000 - number, 4),
        152 | 153 => be((NOW / 1_000) as u64 - number, 8),
        27 | 28 => [be(0x2001_0db8 << 32, 8), be(number << 16 | u64::from(id), 8)].concat(),
        _ => be((number + u64::from(id)) & (u64::MAX >> (64 - 8 * width.min(8))), width.into()),
    };
    specs.iter().flat_map(value).collect()
}

fn both(message: Message) -> Message {
    let message = message.options_template(400, &[(1, 4, 0)], &iana(&[(34, 4), (160, 8)]));
    let message = message.template(256, &iana(&V4)).template(257, &iana(&V6));
    let message = message.data(400, &[[be(1, 4), be(100, 4), be(1_000 * (u64::from(SECONDS) - 100), 8)].concat()]);
    let message = message.data(256, &[record(&V4, 1), record(&V4, 2), record(&V4, 3)]);
    message.data(257, &[record(&V6, 1), record(&V6, 2)])
}

/// Records about single packets: frames of variable length, and IP headers in a room of fixed length.
fn packets() -> Message {
    let frame = build_sflow::ethernet(&[0x81, 0, 0, 100, 8, 0], &build_sflow::ipv4(6, &build_sflow::tcp()));
    let varying = |frame: &[u8]| [be(3, 4), be(118, 2), vec![frame.len() as u8], frame.to_vec()].concat();
    let mut header = build_sflow::ipv6(17, &build_sflow::udp(53, &[]));
    header.resize(50, 0);
    let message = ipfix(1).template(301, &iana(&[(10, 4), (312, 2), (315, 65_535)]));
    let message = message.template(302, &iana(&[(323, 8), (313, 50), (410, 2)]));
    let message = message.data(301, &[varying(&frame), varying(&frame[..20]), varying(&[])]);
    message.data(302, &[[be((NOW / 1_000) as u64, 8), header, be(48, 2)].concat()])
}

/// All fixtures by name.
pub(super) fn all() -> Vec<(&'static str, Vec<u8>)> {
    let strings = [(8, 4, 0), (371, 65_535, 0), (1, 8, 0), (96, 65_535, 9), (28, 16, 0)];
    let long = [vec![255, 1, 4], vec![b'x'; 260]].concat();
    let varying: Vec<Vec<u8>> = [vec![0], vec![3, b'a', b'b', b'c'], long]
        .into_iter()
        .map(|text| [be(0x0a00_0001, 4), text, be(9, 8), vec![2, 7, 7], vec![1; 16]].concat())
        .collect();
    vec![
        ("v1", v1(2)),
        ("v5", v5(1_000, 3)),
        ("v7", v7(1_000, 2)),
        ("sflow", build_sflow::rich(1)),
        ("v9", both(v9(1)).bytes()),
        ("ipfix", both(ipfix(1)).bytes()),
        ("ipfix with strings", ipfix(1).template(300, &strings).data(300, &varying).bytes()),
        ("ipfix with packets", packets().bytes()),
    ]
}
