//! Files made by hand in both layouts: every field, every compression, and files that end, lie or are damaged.

use super::*;
use crate::clock::Timestamp;
use crate::flow::batch::FlowBatch;
use crate::flow::fields::Field;
use std::io::Write as _;

fn le16(numbers: &[u16]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn le32(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn le64(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

fn record(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    let body = parts.concat();
    [le16(&[kind, body.len() as u16 + 4]), body].concat()
}

/// Records of a block, as they are packed.
fn block(kind: u16, records: &[Vec<u8>], pack: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let body = pack(&records.concat());
    [le32(&[records.len() as u32, body.len() as u32]), le16(&[kind, 0]), body].concat()
}

fn plain(bytes: &[u8]) -> Vec<u8> {
    bytes.to_vec()
}

fn layout_1(blocks: &[Vec<u8>], flags: u32, failures: u32) -> Vec<u8> {
    let mut file = [le16(&[MAGIC, 1]), le32(&[flags, blocks.len() as u32])].concat();
    file.resize(HEAD_1 - 4, 0);
    [file, le32(&[failures]), blocks.concat()].concat()
}

fn layout_2(blocks: &[Vec<u8>], compression: u8, appendix: Option<Vec<u8>>) -> Vec<u8> {
    let has = u16::from(appendix.is_some());
    let mut file = [le16(&[MAGIC, 2]), le32(&[0x0107_0101]), le64(&[1_700_000_000]), vec![compression, 0]].concat();
    file.extend([le16(&[has]), le32(&[1]), le64(&[0]), le32(&[0, blocks.len() as u32])].concat());
    [file, blocks.concat(), appendix.unwrap_or_default()].concat()
}

/// An exporter as 1.6 and 1.7.1 (families 2 and 10) and newer ones (family 0) tell it.
fn exporter(number: u16, family: u16, address: [u8; 16], domain: u32) -> Vec<u8> {
    record(7, &[le32(&[9]), address.to_vec(), le16(&[family, number]), le32(&[domain])])
}

const V4: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 192, 0, 0, 0, 0];
const MS: u64 = 1_700_000_000_000;

/// What nfdump 1.7 writes of a flow of exporter `number`, with further extensions.
fn flow_2(number: u16, extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let generic = [le64(&[MS + 1, MS + 2, MS + 3, 10, 1_000]), le16(&[4_000, 443]), vec![6, 0x1b, 64, 0xb8]];
    let mut all = vec![(1, generic.concat()), (2, le32(&[0x0a00_0001, 0xc0a8_0002]))];
    all.extend_from_slice(extensions);
    let body: Vec<_> =
        all.iter().map(|(kind, body)| [le16(&[*kind, body.len() as u16 + 4]), body.clone()].concat()).collect();
    let head = [le16(&[all.len() as u16]), vec![1, 2], le16(&[number]), vec![0, 9]].concat();
    record(11, &[head, body.concat()])
}

/// What was read: flows, what is damaged, what the file tells of exporters.
struct Found {
    flows: FlowBatch,
    /// By flow: when and by whom.
    heads: Vec<(Option<i64>, Option<String>)>,
    damages: Vec<Damage>,
    failures: Vec<Failures>,
    nameless: bool,
}

impl Found {
    fn shown(&self, field: Field, row: usize) -> Option<String> {
        self.flows.value(field, row).map(|value| value.to_string())
    }
}

fn read(file: &[u8]) -> Result<Found, ArchiveError> {
    let mut sources = Sources::default();
    let mut archive = Archive::open(file)?;
    loop {
        match archive.step()? {
            Step::Block => archive.learn(&mut sources),
            Step::Damaged(_) => {}
            Step::End(_) => break,
        }
    }
    let (nameless, all) = (sources.has_nameless(), archive.sequence_failures()?);
    let failures = sources.failures(all);
    sources.begin_again();
    let mut found = Found { flows: FlowBatch::default(), heads: Vec::new(), damages: Vec::new(), failures, nameless };
    let mut archive = Archive::open(file)?;
    loop {
        let before = archive.offset();
        match archive.step()? {
            Step::Block => {
                let damage = archive.flows(&mut sources, |flow| {
                    flow.record.append(&mut found.flows);
                    let exporter = flow.exporter.map(|address| address.to_string());
                    found.heads.push((flow.received.map(Timestamp::micros), exporter));
                });
                found.damages.extend(damage);
            }
            Step::Damaged(damage) => found.damages.push(damage),
            Step::End(damage) => {
                found.damages.extend(damage);
                assert!(archive.block.capacity() <= 2 * LIMIT + 64 && archive.stored.capacity() <= 2 * LIMIT);
                return Ok(found);
            }
        }
        assert!(archive.offset() > before && archive.offset() <= file.len() as u64);
    }
}

#[test]
fn a_flow_of_1_7_has_all_that_its_extensions_tell() {
    let wide = |last: u64| le64(&[0x2001_0db8_0000_0000, last]);
    let misc = [le32(&[7, 8]), vec![24, 16, 1, 0x20, 0, 3, 0, 0]].concat();
    let layer_2 = [le16(&[11, 12, 13, 14]), le32(&[1, 2]), le64(&[0xabcdef]), le16(&[0x0800]), vec![4, 0, 0, 0, 0, 0]];
    let extensions = [
        (4, misc),
        (5, le64(&[3, 20, 2_000])),
        (7, le32(&[64_500, 64_501])),
        (8, le32(&[0x0101_0101])),
        (11, wide(5)),
        (12, le32(&[0xc000_0201])),
        (14, le32(&[0x12345 << 4 | 1, 0, 16 << 4, 0, 0, 0, 0, 0, 0, 0])),
        (15, le64(&[0x0102_0304_0506, 2, 3, 4])),
        (16, le32(&[64_502, 64_503])),
        (22, le16(&[1_001, 1_002])),
        (21, [wide(6), wide(7)].concat()),
        (27, vec![13, 0, 1, 2]),
        (33, [le64(&[0]), le32(&[77, 0])].concat()),
        (35, b"interface".to_vec()),
        (36, le32(&[5, 6])),
        (38, layer_2.concat()),
        (39, le64(&[99])),
        (42, vec![0, 0, 60, 64]),
    ];
    let found = read(&layout_2(&[block(3, &[flow_2(1, &extensions)], plain)], 0, None)).unwrap();
    assert_eq!((found.damages, found.heads), (vec![], vec![(Some((MS as i64 + 3) * 1_000), Some("192.0.2.1".into()))]));
    let shown: Vec<_> = Field::ALL
        .into_iter()
        .filter_map(|field| Some(format!("{} {}", field.name(), found.flows.value(field, 0)?)))
        .collect();
    let expected = "observation_domain 77, first_seen 2023-11-14T22:13:20.001000Z, last_seen 2023-11-14T22:13:20.002000Z, \
        src_ip 10.0.0.1, dst_ip 192.168.0.2, src_port 4000, dst_port 443, protocol 6, in_bytes 1000, in_packets 10, \
        out_bytes 2000, out_packets 20, aggregated_flows 3, tcp_flags 27, src_tos 184, dst_tos 32, input_interface 7, \
        output_interface 8, src_as 64500, dst_as 64501, src_mask 24, dst_mask 16, next_hop 2001:db8::5, \
        bgp_next_hop 1.1.1.1, src_vlan 11, dst_vlan 13, in_src_mac 01:02:03:04:05:06, out_dst_mac 00:00:00:00:00:02, \
        in_dst_mac 00:00:00:00:00:03, out_src_mac 00:00:00:00:00:04, direction 1, forwarding_status 64, \
        previous_as 64503, next_as 64502, mpls_label_1 74565, mpls_label_3 16, ethernet_type 2048, customer_vlan 12, \
        layer2_segment_id 11259375, min_ttl 60, max_ttl 64, ingress_vrf 6, egress_vrf 5, application_id 218104066, \
        flow_id 99, flow_end_reason 3, post_nat_src_ip 2001:db8::6, post_nat_dst_ip 2001:db8::7, post_nat_src_port 1001, \
        post_nat_dst_port 1002";
    assert_eq!(shown.join(", "), expected);
}

#[test]
fn events_count_as_flows_as_they_do_when_they_come_from_the_network() {
    let firewall = |event: u8| (19, [le64(&[MS]), le32(&[5]), le16(&[1_005]), vec![event, 0]].concat());
    let nat = (25, [le64(&[MS]), le32(&[0]), vec![4, 0, 0, 0]].concat());
    let early = (25, [le64(&[MS]), le32(&[8, 9, 0]), vec![5, 0, 0, 0]].concat());
    let ports = (26, le16(&[1_024, 0, 0, 512]));
    let records = [flow_2(1, &[firewall(1)]), flow_2(1, &[firewall(2)]), flow_2(1, &[nat]), flow_2(1, &[early, ports])];
    let found = read(&layout_2(&[block(3, &records, plain)], 0, None)).unwrap();
    assert!(found.damages.is_empty() && found.nameless, "{:?}", found.damages);
    let of = |field| (0..4).map(|row| found.shown(field, row).unwrap_or_default()).collect::<Vec<_>>().join(" ");
    assert_eq!(of(Field::AggregatedFlows), "0 1  ");
    assert_eq!((of(Field::FirewallEvent), of(Field::NatEvent)), ("1 2  ".into(), "  4 5".into()));
    assert_eq!((of(Field::EgressVrf), of(Field::PortBlockEnd)), ("   8".into(), "   1535".into()));
}

/// What nfdump 1.6 writes of a flow, wide in all, with all extensions but those of the other width.
fn flow_1(kind: u16, number: u16) -> Vec<u8> {
    let (third, tail) = if kind == 1 { (number as u8, vec![]) } else { (9, [le16(&[number]), vec![0, 2]].concat()) };
    let head = [vec![7, third], le16(&[3, 1, 2]), le32(&[1_700_000_000; 2]), vec![0, 0x12, 6, 4], le16(&[4_000, 443])];
    let wide = le64(&[0x2001_0db8_0000_0000, 1, 0x2001_0db8_0000_0000, 2]);
    let extensions = [
        le32(&[1, 2]),
        le32(&[3, 4]),
        vec![5, 1, 24, 16],
        le32(&[0x0101_0101]),
        le64(&[0x2001_0db8_0000_0000, 9]),
        le16(&[11, 12]),
        le64(&[20, 2_000, 3]),
        le64(&[1, 2, 3, 4]),
        le32(&[0x12345 << 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        vec![0, 0, 1, 2],
        le32(&[5, 6]),
        le64(&[MS + 9]),
        [le64(&[MS]), le32(&[5, 0x0002_0000]), le16(&[1_005, 0])].concat(),
        le16(&[1_001, 1_002]),
        le32(&[0x0a00_0009, 0x0a00_000a]),
        vec![0; 24 + 24 + 72 + 24],
        [vec![4, 0, 0, 0], le32(&[8, 9])].concat(),
        le16(&[1_024, 0, 0, 512]),
    ];
    record(kind, &[head.concat(), tail, wide, le64(&[10, 1_000]), extensions.concat()])
}

fn map_1() -> Vec<u8> {
    let all = [5, 7, 8, 9, 12, 13, 15, 17, 19, 20, 21, 22, 25, 26, 27, 37, 38, 39, 41, 42, 43, 45, 46, 48, 0, 0];
    record(2, &[le16(&[3, 0]), le16(&all)])
}

#[test]
fn a_flow_of_1_6_has_all_that_its_map_tells_in_both_kinds_of_record() {
    let records = [map_1(), flow_1(10, 5), flow_1(1, 5), exporter(5, 2, V4, 77)];
    let found = read(&layout_1(&[block(2, &records, plain)], 0, 0)).unwrap();
    assert_eq!(found.damages, []);
    let head = (Some((MS as i64 + 9) * 1_000), Some("192.0.2.1".to_owned()));
    assert_eq!((found.heads.clone(), found.nameless), (vec![head.clone(), head], false), "who it is comes behind");
    for row in 0..2 {
        for (field, expected) in [
            (Field::ObservationDomain, "77"),
            (Field::SrcIp, "2001:db8::1"),
            (Field::DstIp, "2001:db8::2"),
            (Field::InPackets, "10"),
            (Field::InBytes, "1000"),
            (Field::OutPackets, "20"),
            (Field::OutBytes, "2000"),
            (Field::OutputInterface, "2"),
            (Field::DstAs, "4"),
            (Field::DstTos, "5"),
            (Field::SrcMask, "24"),
            (Field::NextHop, "1.1.1.1"),
            (Field::BgpNextHop, "2001:db8::9"),
            (Field::DstVlan, "12"),
            (Field::OutSrcMac, "00:00:00:00:00:04"),
            (Field::MplsLabel1, "74565"),
            (Field::NextAs, "5"),
            (Field::LastSeen, "2023-11-14T22:13:20.002000Z"),
            (Field::FirewallEvent, "2"),
            (Field::PostNatDstPort, "1002"),
            (Field::PostNatSrcIp, "10.0.0.9"),
            (Field::NatEvent, "4"),
            (Field::IngressVrf, "9"),
            (Field::PortBlockEnd, "1535"),
        ] {
            assert_eq!(found.shown(field, row).as_deref(), Some(expected), "{} of row {row}", field.name());
        }
    }
    let found = read(&layout_1(&[block(2, &[map_1(), flow_1(10, 6), exporter(5, 2, V4, 77)], plain)], 0, 0)).unwrap();
    assert!(found.nameless, "another exporter");
    assert_eq!(found.shown(Field::ObservationDomain, 0).as_deref(), Some("258"), "the engine stands for it");
}

#[test]
fn exporters_are_known_in_every_form_and_their_gaps_are_told() {
    let counters = |number| record(8, &[le32(&[1, number, 3]), le64(&[100, 1_000])]);
    let six: [u8; 16] = [0, 0, 0, 0, 0xb8, 0x0d, 1, 0x20, 7, 0, 0, 0, 0, 0, 0, 0];
    let mapped: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1];
    for (family, address, expected) in [(2, V4, "192.0.2.1"), (10, six, "2001:db8::7"), (0, mapped, "192.0.2.1")] {
        let records = [exporter(4, family, address, 9), flow_2(4, &[]), counters(4)];
        let statistics = record(0x8002, &[le64(&[0; 17]), le64(&[5])]);
        let appendix = block(3, &[record(0x8001, &[b"none\0\0".to_vec()]), statistics], plain);
        let found = read(&layout_2(&[block(3, &records, plain)], 0, Some(appendix))).unwrap();
        assert_eq!((found.heads[0].1.as_deref(), found.damages), (Some(expected), vec![]));
        let gaps: Vec<_> = found.failures.iter().map(|of| (of.exporter.map(|it| it.to_string()), of.count)).collect();
        assert_eq!(gaps, [(Some(expected.to_owned()), 3), (None, 2)]);
    }
}

#[test]
fn blocks_are_unpacked_and_a_damaged_one_costs_itself_only() {
    let lzo = |bytes: &[u8]| {
        // A run of literals is a stream as well: 3 + 15 and 255 for each byte of 0.
        let long = bytes.len() - 18;
        let mut out = vec![0];
        out.extend(std::iter::repeat_n(0, (long - 1) / 255));
        out.push(((long - 1) % 255 + 1) as u8);
        [out, bytes.to_vec(), vec![17, 0, 0]].concat()
    };
    let lz4 = |bytes: &[u8]| {
        let long = bytes.len() - 15;
        let mut out = vec![0xf0];
        out.extend(std::iter::repeat_n(255, long / 255));
        out.push((long % 255) as u8);
        [out, bytes.to_vec()].concat()
    };
    let bzip2 = |bytes: &[u8]| {
        let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
        out.write_all(bytes).unwrap();
        out.finish().unwrap()
    };
    let zstd =
        |bytes: &[u8]| ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Uncompressed);
    type Pack<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
    let packers: [(u8, u32, Pack<'_>); 5] =
        [(0, 0, &plain), (1, 1, &lzo), (2, 8, &bzip2), (3, 16, &lz4), (4, u32::MAX, &zstd)];
    for (code, flags, pack) in packers {
        let blocks: Vec<_> = (0..3).map(|_| block(3, &[flow_2(1, &[]), flow_2(1, &[])], pack)).collect();
        let file = layout_2(&blocks, code, None);
        let found = read(&file).unwrap();
        assert_eq!((found.flows.rows(), found.damages), (6, vec![]), "{code}");
        if flags != u32::MAX {
            let old: Vec<_> = (0..3).map(|_| block(2, &[map_1(), flow_1(10, 1)], pack)).collect();
            assert_eq!(read(&layout_1(&old, flags, 0)).unwrap().flows.rows(), 3, "{flags}");
        }
        let mut damaged = file.clone();
        let second = HEAD_2 + blocks[0].len();
        // A compressed block is cut in itself, a plain one in its first record.
        let at = second + BLOCK_HEAD + if code == 0 { 2 } else { 0 };
        damaged[at..at + 2].fill(if code == 0 { 0 } else { 0xee });
        let found = read(&damaged).unwrap();
        assert_eq!(found.flows.rows(), 4, "{code}");
        assert_eq!(found.damages.iter().map(|it| it.offset).collect::<Vec<_>>(), [second as u64], "{code}");
    }
}

#[test]
fn what_unpacks_to_more_than_a_block_holds_is_refused() {
    let mut bomb = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    bomb.write_all(&vec![0; 3 * LIMIT]).unwrap();
    let bomb = bomb.finish().unwrap();
    // A match of 1 GiB: 255 for each byte of 0.
    let lzo = [vec![17 + 4, 1, 2, 3, 4, 32], vec![0; LIMIT - 64], vec![1, 0, 0, 17, 0, 0]].concat();
    let lz4 = [vec![0x1f, 0, 1, 0], vec![255; LIMIT - 64], vec![0]].concat();
    for (code, packed) in [(2, bomb), (1, lzo), (3, lz4)] {
        let file = layout_2(&[block(3, &[vec![]], |_| packed.clone())], code, None);
        let found = read(&file).unwrap();
        assert_eq!((found.flows.rows(), found.damages.len()), (0, 1), "{code}");
    }
}

#[test]
fn heads_that_cannot_be_read_say_why() {
    let good = layout_2(&[], 0, None);
    let with = |at: usize, value: u8| {
        let mut file = good.clone();
        file[at] = value;
        read(&file).map(|_| ()).unwrap_err().to_string()
    };
    assert_eq!(with(0, 1), "it is no file of nfdump");
    assert_eq!(with(2, 7), "it has layout 7, and only 1 and 2 are known");
    assert_eq!(with(16, 9), "its compression has the unknown number 9");
    assert_eq!(with(17, 1), "it is encrypted");
    for end in 4..good.len() {
        assert_eq!(read(&good[..end]).map(|_| ()).unwrap_err().to_string(), "the file ends in its head");
    }
    assert!(read(&good).unwrap().damages.is_empty(), "a file may be empty");
    // nfcapd was killed before it wrote how many blocks there are.
    let mut open = layout_2(&[block(3, &[flow_2(1, &[])], plain)], 0, None);
    open[36..40].fill(0);
    let found = read(&open).unwrap();
    assert_eq!((found.flows.rows(), found.damages[0].what.as_str()), (1, "its writer never closed the file"));
}

#[test]
fn a_file_that_ends_anywhere_gives_its_whole_blocks_and_says_where_it_ends() {
    let old = layout_1(&vec![block(2, &[map_1(), flow_1(10, 1)], plain); 3], 0, 0);
    let new = layout_2(&vec![block(3, &[flow_2(1, &[]), flow_2(1, &[])], plain); 3], 0, None);
    for (file, head, a_block) in [(old, HEAD_1, 1), (new, HEAD_2, 2)] {
        let size = (file.len() - head) / 3;
        for end in head..file.len() {
            let found = read(&file[..end]).unwrap();
            let whole = (end - head) / size;
            assert_eq!(found.flows.rows(), whole * a_block, "{end}");
            assert_eq!(found.damages.iter().map(|it| it.offset).collect::<Vec<_>>(), [(head + whole * size) as u64]);
        }
    }
}

#[test]
fn no_changed_byte_makes_reading_panic_or_take_more_memory_than_blocks_have() {
    let exporter = exporter(5, 2, V4, 77);
    let old = layout_1(&vec![block(2, &[exporter.clone(), map_1(), flow_1(10, 5), flow_1(1, 5)], plain); 2], 0, 0);
    let new = layout_2(&vec![block(3, &[exporter, flow_2(5, &[(5, le64(&[1, 2, 3]))])], plain); 2], 0, None);
    for file in [old, new] {
        for at in 0..file.len() {
            for mask in [0x01, 0x10, 0x80, 0xff] {
                let mut changed = file.clone();
                changed[at] ^= mask;
                drop(read(&changed));
            }
        }
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..3_000 {
            let mut changed = file.clone();
            for _ in 0..random.usize(1..20) {
                let at = random.usize(0..changed.len());
                changed[at] = random.u8(..);
            }
            drop(read(&changed));
        }
    }
}

/// 287,167 after Christ, in milliseconds.
const WILD: u64 = 9_000_000_000_000_000;

#[test]
fn packets_at_moments_that_cannot_be_are_left_out_and_a_receive_time_that_cannot_be_is_damage() {
    let day = 86_400_000;
    let flow = |first: u64, last: u64, received: u64| {
        let generic = [le64(&[first, last, received, 1, 100]), le16(&[1, 2]), vec![6, 0, 0, 0]].concat();
        let extension = [le16(&[1, generic.len() as u16 + 4]), generic].concat();
        record(11, &[le16(&[1]), vec![0, 0], le16(&[1]), vec![0, 9], extension])
    };
    for (first, last, received, expected) in [
        (MS, WILD, MS, (true, false, Some(MS))),
        (WILD, MS, MS, (false, true, Some(MS))),
        (MS - day, MS + 300_000, MS, (true, true, Some(MS))),
        (MS - day - 1, MS + 300_001, MS, (false, false, Some(MS))),
        (MS, u64::MAX, MS, (true, false, Some(MS))),
        // Where no receive time is told, a moment that cannot be does not stand for it.
        (MS, WILD, 0, (true, false, Some(MS))),
        (WILD, WILD, 0, (false, false, None)),
    ] {
        let found = read(&layout_2(&[block(3, &[flow(first, last, received)], plain)], 0, None)).unwrap();
        let seen = |field| found.flows.value(field, 0).is_some();
        let expected = (expected.0, expected.1, expected.2.map(|ms| ms as i64 * 1_000));
        assert_eq!((seen(Field::FirstSeen), seen(Field::LastSeen), found.heads[0].0), expected, "{first} {last}");
        assert_eq!(found.damages, []);
    }
    for received in [WILD, u64::MAX] {
        let records = [flow(MS, MS, MS), flow(MS, MS, received), flow(MS, MS, MS)];
        let found = read(&layout_2(&[block(3, &records, plain)], 0, None)).unwrap();
        assert_eq!(found.heads.len(), 2);
        let what = "1 of 3 records of a block have a receive time beyond the year 9999 and are left out";
        assert_eq!(found.damages, [Damage { offset: HEAD_2 as u64, what: what.to_owned() }]);
    }
}
