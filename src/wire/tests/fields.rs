//! Every field of the catalogue, from every element that feeds it.

use super::build::{be, iana, ipfix, v5, v9};
use super::{Bench, NOW, SECONDS, reasons};
use crate::clock::SECOND;
use crate::flow::fields::Field;

#[test]
fn a_v5_record_fills_all_its_fields() {
    let mut bench = Bench::new();
    let outcome = bench.decode(&v5(77, 30));
    assert_eq!((outcome.records, outcome.rejected, outcome.lost.count, reasons(&outcome)), (30, None, 0, vec![]));
    let row: Vec<_> = bench.all(29).into_iter().map(|(field, text)| format!("{} {text}", field.name())).collect();
    let expected = "\
received 2026-11-23T00:00:02.000000Z
exporter_id 1
observation_domain 258
first_seen 2026-11-22T23:59:50.123456Z
last_seen 2026-11-22T23:59:55.123456Z
src_ip 192.168.0.29
dst_ip 8.8.8.29
src_port 40029
dst_port 443
protocol 6
in_bytes 1529
in_packets 39
tcp_flags 27
src_tos 16
input_interface 3
output_interface 4
src_as 64512
dst_as 15169
src_mask 24
dst_mask 16
next_hop 10.0.0.1
sampling_interval 100";
    assert_eq!(row.join("\n"), expected);
}

/// Elements with their width, the bytes sent, and what they become.
pub(super) fn rows() -> Vec<(u16, usize, u64, Field, &'static str)> {
    use Field::{
        AggregatedFlows, BgpNextHop, Direction, DstAs, DstIp, DstMask, DstPort, DstTos, DstVlan, ForwardingStatus,
        IcmpCode, IcmpType, InBytes, InDstMac, InPackets, InSrcMac, InputInterface, MaxTtl, MinTtl, NextHop, OutBytes,
        OutDstMac, OutPackets, OutSrcMac, OutputInterface, Protocol, SrcAs, SrcIp, SrcMask, SrcPort, SrcTos, SrcVlan,
        TcpFlags,
    };
    vec![
        (1, 8, u64::MAX, InBytes, "18446744073709551615"),
        (1, 4, 5, InBytes, "5"),
        (85, 8, 6, InBytes, "6"),
        (231, 8, 7, InBytes, "7"),
        (2, 4, 8, InPackets, "8"),
        (86, 4, 9, InPackets, "9"),
        (298, 8, 10, InPackets, "10"),
        (23, 8, 11, OutBytes, "11"),
        (232, 8, 12, OutBytes, "12"),
        (24, 8, 13, OutPackets, "13"),
        (299, 8, 14, OutPackets, "14"),
        (3, 8, 15, AggregatedFlows, "15"),
        (4, 1, 17, Protocol, "17"),
        (5, 1, 0xb8, SrcTos, "184"),
        (55, 1, 0x2e, DstTos, "46"),
        (6, 1, 0x1b, TcpFlags, "27"),
        (6, 2, 0x1c2, TcpFlags, "450"),
        (7, 2, 65_535, SrcPort, "65535"),
        (180, 2, 1, SrcPort, "1"),
        (182, 2, 2, SrcPort, "2"),
        (11, 2, 53, DstPort, "53"),
        (181, 2, 54, DstPort, "54"),
        (183, 2, 55, DstPort, "55"),
        (8, 4, 0xc000_0201, SrcIp, "192.0.2.1"),
        (12, 4, 0xc000_0202, DstIp, "192.0.2.2"),
        (27, 16, 3, SrcIp, "::3"),
        (28, 16, 0xffff_0a00_0001, DstIp, "10.0.0.1"),
        (15, 4, 0xc000_0203, NextHop, "192.0.2.3"),
        (62, 16, 4, NextHop, "::4"),
        (18, 4, 0xc000_0204, BgpNextHop, "192.0.2.4"),
        (63, 16, 5, BgpNextHop, "::5"),
        (9, 1, 24, SrcMask, "24"),
        (29, 1, 64, SrcMask, "64"),
        (13, 1, 16, DstMask, "16"),
        (30, 1, 48, DstMask, "48"),
        (10, 2, 500, InputInterface, "500"),
        (10, 4, 70_000, InputInterface, "70000"),
        (252, 4, 70_001, InputInterface, "70001"),
        (14, 4, 70_002, OutputInterface, "70002"),
        (253, 4, 70_003, OutputInterface, "70003"),
        (16, 2, 64_512, SrcAs, "64512"),
        (16, 4, 4_200_000_000, SrcAs, "4200000000"),
        (17, 4, 15_169, DstAs, "15169"),
        (58, 2, 100, SrcVlan, "100"),
        (243, 2, 101, SrcVlan, "101"),
        (59, 2, 102, DstVlan, "102"),
        (254, 2, 103, DstVlan, "103"),
        (56, 6, 0x0102_0304_0506, InSrcMac, "01:02:03:04:05:06"),
        (57, 6, 0x0102_0304_0507, OutDstMac, "01:02:03:04:05:07"),
        (80, 6, 0x0102_0304_0508, InDstMac, "01:02:03:04:05:08"),
        (81, 6, 0x0102_0304_0509, OutSrcMac, "01:02:03:04:05:09"),
        (32, 2, 0x0803, IcmpType, "8"),
        (32, 2, 0x0803, IcmpCode, "3"),
        (139, 2, 0x8004, IcmpType, "128"),
        (139, 2, 0x8004, IcmpCode, "4"),
        (176, 1, 3, IcmpType, "3"),
        (177, 1, 1, IcmpCode, "1"),
        (178, 1, 129, IcmpType, "129"),
        (179, 1, 2, IcmpCode, "2"),
        (61, 1, 1, Direction, "1"),
        (89, 1, 0x40, ForwardingStatus, "64"),
        (89, 4, 0x80, ForwardingStatus, "128"),
        (192, 1, 64, MinTtl, "64"),
        (192, 1, 64, MaxTtl, "64"),
        (195, 1, 46, SrcTos, "184"),
    ]
}

fn wide(number: u64, width: usize) -> Vec<u8> {
    let mut bytes = vec![0; width.saturating_sub(8)];
    bytes.extend(be(number, width.min(8)));
    bytes
}

#[test]
fn every_element_feeds_its_field_in_v9_and_ipfix() {
    for (id, width, sent, field, shown) in rows() {
        for message in [v9(0), ipfix(0)] {
            let mut bench = Bench::new();
            let specs = iana(&[(4_000, 3), (id, width as u16), (4_001, 1)]);
            let record = [vec![9, 9, 9], wide(sent, width), vec![9]].concat();
            let datagram = message.template(256, &specs).data(256, &[record.clone(), record]).bytes();
            let outcome = bench.decode(&datagram);
            assert_eq!((outcome.records, reasons(&outcome)), (2, vec![]), "element {id}");
            assert_eq!(bench.shown(field, 1), shown, "element {id}");
        }
    }
}

#[test]
fn numbers_of_every_width_are_right_and_too_large_ones_stop_at_the_largest() {
    for (id, field, bits) in
        [(1, Field::InBytes, 64), (10, Field::InputInterface, 32), (7, Field::SrcPort, 16), (4, Field::Protocol, 8)]
    {
        for width in 1..=8usize {
            for sent in [0, 1, 200, u64::MAX >> (64 - 8 * width)] {
                let mut bench = Bench::new();
                let datagram =
                    ipfix(0).template(256, &iana(&[(id, width as u16)])).data(256, &[be(sent, width)]).bytes();
                let largest = u64::MAX >> (64 - bits);
                let outcome = bench.decode(&datagram);
                assert!(outcome.records >= 1);
                assert_eq!(bench.shown(field, 0), sent.min(largest).to_string(), "element {id} of {width} bytes");
            }
        }
    }
}

#[test]
fn the_better_element_wins_whatever_the_order_and_the_first_of_equals() {
    type Case<'a> = (&'a [(u16, u16)], &'a [u64], Field, &'a str);
    let cases: [Case<'_>; 8] = [
        (&[(85, 4), (1, 4)], &[1, 2], Field::InBytes, "2"),
        (&[(1, 4), (231, 4), (85, 4)], &[1, 2, 3], Field::InBytes, "1"),
        (&[(1, 4), (1, 4)], &[1, 2], Field::InBytes, "1"),
        (&[(8, 4), (8, 4)], &[0x0a00_0001, 2], Field::SrcIp, "10.0.0.1"),
        (&[(28, 16), (28, 16)], &[1, 2], Field::DstIp, "::1"),
        (&[(32, 2), (176, 1), (177, 1)], &[0x0102, 3, 4], Field::IcmpType, "3"),
        (&[(8, 4), (27, 16)], &[0x0a00_0001, 9], Field::SrcIp, "10.0.0.1"),
        (&[(27, 16), (8, 4)], &[9, 0], Field::SrcIp, "::9"),
    ];
    for (specs, values, field, shown) in cases {
        let mut bench = Bench::new();
        let record: Vec<u8> = specs.iter().zip(values).flat_map(|(spec, &value)| wide(value, spec.1.into())).collect();
        bench.decode(&v9(0).template(256, &iana(specs)).data(256, &[record]).bytes());
        assert_eq!(bench.shown(field, 0), shown, "{specs:?}");
    }
}

#[test]
fn the_reverse_direction_of_a_biflow_is_the_out_counters() {
    let mut bench = Bench::new();
    let specs = [(1, 8, 0), (2, 8, 0), (1, 8, 29_305), (2, 8, 29_305), (1, 8, 9)];
    let record = [1, 2, 3, 4, 5].map(|number| be(number, 8)).concat();
    bench.decode(&ipfix(0).template(256, &specs).data(256, &[record]).bytes());
    let shown =
        [Field::InBytes, Field::InPackets, Field::OutBytes, Field::OutPackets].map(|field| bench.shown(field, 0));
    assert_eq!(shown, ["1", "2", "3", "4"]);
}

#[test]
fn ipv4_ipv6_and_mapped_addresses_share_a_column() {
    let mut bench = Bench::new();
    let message = v9(0).template(256, &iana(&[(8, 4)])).template(257, &iana(&[(27, 16)]));
    let message = message.data(256, &[be(0x0a00_0001, 4)]);
    let message = message.data(257, &[wide(7, 16), wide(0xffff_0a00_0002, 16)]);
    bench.decode(&message.data(256, &[be(0x0a00_0003, 4)]).bytes());
    let shown: Vec<_> = (0..4).map(|row| bench.shown(Field::SrcIp, row)).collect();
    assert_eq!(shown, ["10.0.0.1", "::7", "10.0.0.2", "10.0.0.3"]);
}

/// Start and end relative to the receive time, in microseconds, and how many records were corrected.
fn times_of(ipfix_message: bool, specs: &[(u16, u16)], values: &[u64]) -> (Option<i64>, Option<i64>, u32) {
    let mut bench = Bench::new();
    let record: Vec<u8> = specs.iter().zip(values).flat_map(|(spec, &value)| be(value, spec.1.into())).collect();
    let message = if ipfix_message { ipfix(0) } else { v9(0) };
    let outcome = bench.decode(&message.template(256, &iana(specs)).data(256, &[record]).bytes());
    let at = |field| bench.batch.column(field).bits(0).map(|bits| bits as u64 as i64 - NOW);
    let fixed = outcome.counts.get(crate::wire::Reason::TimeFixed);
    (at(Field::FirstSeen), at(Field::LastSeen), fixed)
}

#[test]
fn start_and_end_are_read_in_every_form() {
    let export = u64::from(SECONDS);
    let ntp = |seconds: u64, fraction: u64| (seconds + 2_208_988_800) << 32 | fraction;
    let second = SECOND;
    type Case<'a> = (bool, &'a [(u16, u16)], Vec<u64>, Option<i64>, Option<i64>);
    let cases: Vec<Case<'_>> = vec![
        (false, &[(22, 4), (21, 4)], vec![99_000, 99_500], Some(-3 * second), Some(-5 * second / 2)),
        (true, &[(22, 4), (21, 4)], vec![99_000, 99_500], None, None),
        (
            true,
            &[(22, 4), (21, 4), (160, 8)],
            vec![5_000, 6_000, (export - 10) * 1_000],
            Some(-7 * second),
            Some(-6 * second),
        ),
        (true, &[(150, 4), (151, 4)], vec![export - 3, export - 1], Some(-5 * second), Some(-3 * second)),
        (true, &[(152, 8), (153, 8)], vec![export * 1_000 - 1, export * 1_000], Some(-2_001_000), Some(-2_000_000)),
        (
            true,
            &[(154, 8), (155, 8)],
            vec![ntp(export - 1, 1 << 31), ntp(export, 1 << 30)],
            Some(-2_500_000),
            Some(-1_750_000),
        ),
        (
            true,
            &[(156, 8), (157, 8)],
            vec![ntp(export - 1, 1 << 31), ntp(export, 1 << 30)],
            Some(-2_500_000),
            Some(-1_750_000),
        ),
        (true, &[(158, 4), (159, 4)], vec![500_000, 20], Some(-2_500_000), Some(-2_000_020)),
        (true, &[(152, 8), (161, 4)], vec![export * 1_000 - 1_000, 250], Some(-3_000_000), Some(-2_750_000)),
        (true, &[(152, 8), (162, 4)], vec![export * 1_000 - 1_000, 250], Some(-3_000_000), Some(-2_999_750)),
        (true, &[(153, 8), (161, 4)], vec![export * 1_000, 250], Some(-2_250_000), Some(-2_000_000)),
        (
            true,
            &[(152, 8), (153, 8), (161, 4)],
            vec![export * 1_000, export * 1_000, 999],
            Some(-2_000_000),
            Some(-2_000_000),
        ),
        (true, &[(150, 4), (152, 8)], vec![export, export * 1_000 - 1], Some(-2_001_000), None),
        (true, &[(161, 4)], vec![250], None, None),
    ];
    for (is_ipfix, specs, values, first, last) in cases {
        assert_eq!(times_of(is_ipfix, specs, &values), (first, last, 0), "{specs:?}");
    }
}

#[test]
fn exporter_clocks_from_1970_to_2106_never_reach_the_flows() {
    for seconds in [0, 1 << 31, u64::from(u32::MAX), u64::from(SECONDS) + 8 * 3_600] {
        assert_eq!(times_of(true, &[(150, 4), (151, 4)], &[seconds, seconds]), (Some(0), Some(0), 1));
    }
    let reversed = times_of(true, &[(150, 4), (151, 4)], &[SECONDS.into(), u64::from(SECONDS) - 9]);
    assert_eq!(reversed, (Some(-2 * SECOND), Some(-2 * SECOND), 1));
}

#[test]
fn the_start_of_an_ipfix_exporter_is_taken_from_its_options() {
    let mut bench = Bench::new();
    let init = (u64::from(SECONDS) - 10) * 1_000;
    let options = [be(1, 4), be(init, 8)].concat();
    let message = ipfix(0).options_template(300, &iana(&[(149, 4)]), &iana(&[(160, 8)])).data(300, &[options]);
    let outcome = bench.decode(&message.bytes());
    assert_eq!((outcome.records, outcome.options_records), (0, 1));
    let record = [be(5_000, 4), be(6_000, 4)].concat();
    bench.decode(&ipfix(1).template(256, &iana(&[(22, 4), (21, 4)])).data(256, &[record]).bytes());
    assert_eq!(bench.shown(Field::FirstSeen, 0), "2026-11-22T23:59:55.000000Z");
    assert_eq!(bench.shown(Field::LastSeen, 0), "2026-11-22T23:59:56.000000Z");
}
