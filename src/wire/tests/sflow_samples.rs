//! sFlow datagrams, samples and records: what becomes of each, and of those that lie.

use super::build::{v5, v7};
use super::build_sflow::{
    block, counters, datagram, ethernet, expanded, expanded_counters, flow, flow_between, interface_counters, ipv4,
    ordinary, rich, sampled, tcp, words,
};
use super::{Bench, NOW, context_of, reasons};
use crate::clock::SECOND;
use crate::flow::facts::{Counters, Fact};
use crate::flow::fields::Field;
use crate::wire::{ConfiguredSampling, Context, Limits, Loss, LossUnit, Reason, exporter_address};
use std::net::IpAddr;
use std::time::{Duration, Instant};

#[test]
fn a_datagram_of_a_switch_and_a_router_fills_its_fields() {
    let mut bench = Bench::new();
    let outcome = bench.decode(&rich(1));
    assert_eq!((outcome.records, outcome.sets, outcome.rejected), (2, 4, None));
    assert_eq!(reasons(&outcome), [("set_reserved", 1)]);
    let shown = |row: usize| -> Vec<_> {
        bench.all(row).into_iter().map(|(field, text)| format!("{} {text}", field.name())).collect()
    };
    let first = "\
received 2026-11-23T00:00:02.000000Z
exporter_id 1
observation_domain 3
first_seen 2026-11-23T00:00:02.000000Z
last_seen 2026-11-23T00:00:02.000000Z
src_ip 2001:db8::1
dst_ip 2001:db8::2
src_port 4000
dst_port 53
protocol 17
in_bytes 50
in_packets 1
src_tos 184
input_interface 5
output_interface 6
src_mask 24
dst_mask 16
next_hop 10.0.0.254
src_vlan 100
dst_vlan 200
in_src_mac 02:00:00:00:00:55
in_dst_mac 02:00:00:00:00:dd
sampling_interval 512
ethernet_type 34525
flow_label 74565
min_ttl 62
max_ttl 62";
    assert_eq!(shown(0).join("\n"), first);
    let second = "\
received 2026-11-23T00:00:02.000000Z
exporter_id 1
observation_domain 3
first_seen 2026-11-23T00:00:02.000000Z
last_seen 2026-11-23T00:00:02.000000Z
src_ip 10.0.0.1
dst_ip 10.0.0.2
src_port 53
dst_port 4000
protocol 17
in_bytes 60
in_packets 1
src_tos 8
input_interface 7
src_as 64501
dst_as 64504
bgp_next_hop 10.0.0.253
forwarding_status 128
sampling_interval 512
previous_as 64502
next_as 64503";
    assert_eq!(shown(1).join("\n"), second);
}

/// Fields with what they show.
type Shown<'a> = Vec<(Field, &'a str)>;

#[test]
fn records_of_single_facts_fill_their_fields() {
    use Field::{BgpNextHop, DstAs, DstVlan, EthernetType, InBytes, InDstMac, InSrcMac, NextAs, NextHop, SrcVlan};
    use Field::{PostNatDstIp, PostNatSrcIp, SrcIp, SrcMask, SrcPort, TcpFlags};
    let mac = |last: u8| vec![2, 0, 0, 0, 0, last, 0, 0];
    let frame = block(2, &[words(&[1_018]), mac(1), mac(2), words(&[0x806])].concat());
    let v6 = words(&[80, 6, 0x2001_0db8, 0, 0, 1, 0x2001_0db8, 0, 0, 2, 443, 50_000, 0x12, 0]);
    let mapped = block(4, &words(&[80, 1, 0, 0, 0xffff, 0x0a00_0001, 0, 0, 0xffff, 0x0a00_0002, 443, 50_000, 0x12, 0]));
    let hop6 = block(1002, &words(&[2, 0x2001_0db8, 0, 0, 9, 64, 129]));
    let cases: Vec<(Vec<u8>, Shown<'_>)> = vec![
        (
            frame,
            vec![
                (InSrcMac, "02:00:00:00:00:01"),
                (InDstMac, "02:00:00:00:00:02"),
                (EthernetType, "2054"),
                (InBytes, "1000"),
            ],
        ),
        (block(4, &v6), vec![(SrcIp, "2001:db8::1"), (SrcPort, "443"), (TcpFlags, "18"), (InBytes, "80")]),
        (mapped, vec![(SrcIp, "10.0.0.1"), (SrcPort, ""), (TcpFlags, "")]),
        (block(1001, &words(&[u32::MAX, 0, 0, 0])), vec![(SrcVlan, ""), (DstVlan, "")]),
        (hop6, vec![(NextHop, "2001:db8::9"), (SrcMask, "64"), (Field::DstMask, "")]),
        (block(1002, &words(&[0, 8, 8])), vec![(NextHop, ""), (SrcMask, "8")]),
        (
            block(1003, &words(&[0, 64_500, 64_501, 64_502, 0, 0, 0])),
            vec![(BgpNextHop, ""), (DstAs, "64500"), (NextAs, "")],
        ),
        (
            block(1003, &words(&[0, 1, 2, 3, 2, 2, 1, 10, 1, 2, 20, 30, 0, 0])),
            vec![(DstAs, "30"), (NextAs, "10"), (Field::PreviousAs, "3"), (Field::SrcAs, "2")],
        ),
        (block(1007, &words(&[1, 7, 1, 8])), vec![(PostNatSrcIp, "0.0.0.7"), (PostNatDstIp, "0.0.0.8")]),
        (block(4_300 << 12 | 1, &words(&[1; 9])), vec![(SrcIp, "")]),
    ];
    for (record, expected) in cases {
        let mut bench = Bench::new();
        let outcome = bench.decode(&datagram(0, &[flow(std::slice::from_ref(&record))]));
        assert_eq!((outcome.records, reasons(&outcome)), (1, vec![]));
        for (field, text) in expected {
            assert_eq!(bench.shown(field, 0), text, "{} of {record:?}", field.name());
        }
    }
}

#[test]
fn a_known_record_that_is_too_short_costs_only_itself() {
    let records = [(1, 15), (2, 23), (3, 31), (4, 55), (1001, 15), (1002, 15), (1003, 23), (1007, 11)];
    for (format, length) in records {
        let mut bytes = vec![0; length];
        bytes[3] = 1;
        let outcome = Bench::new().decode(&datagram(0, &[flow(&[block(format, &bytes)])]));
        assert_eq!((outcome.records, reasons(&outcome)), (1, vec![("field_width", 1)]), "{format}");
    }
    // A path longer than its record.
    let path = block(1003, &words(&[0, 1, 2, 3, 1, 2, 0x4000_0000, 7]));
    assert_eq!(reasons(&Bench::new().decode(&datagram(0, &[flow(&[path])]))), [("field_width", 1)]);
}

#[test]
fn the_packets_own_bytes_win_whatever_the_order() {
    let frame = ethernet(&[8, 0], &ipv4(6, &tcp()));
    let own = sampled(1, 1_518, &frame);
    let read = block(3, &words(&[999, 17, 1, 2, 3, 4, 5, 6]));
    for records in [[own.clone(), read.clone()], [read, own]] {
        let mut bench = Bench::new();
        bench.decode(&datagram(0, &[flow(&records)]));
        let fields = [Field::SrcIp, Field::Protocol, Field::SrcPort, Field::InBytes, Field::TcpFlags];
        assert_eq!(fields.map(|field| bench.shown(field, 0)), ["10.0.0.1", "6", "443", "40", "18"]);
    }
}

#[test]
fn interfaces_are_indexes_or_nothing() {
    let cases = [
        (flow_between(5, 6, &[]), ["5", "6", ""]),
        (flow_between(0, 0, &[]), ["0", "0", ""]),
        (flow_between(0x3fff_ffff, 0x3fff_ffff, &[]), ["", "", ""]),
        (flow_between(5, 1 << 30 | 3, &[]), ["5", "", "128"]),
        (flow_between(5, 2 << 30 | 3, &[]), ["5", "", ""]),
        (expanded([0, 0x4000_0005, 0, 6], &[]), ["1073741829", "6", ""]),
        (expanded([0, u32::MAX, 1, 0], &[]), ["", "", "128"]),
        (expanded([0, 0x3fff_ffff, 2, 9], &[]), ["", "", ""]),
    ];
    for (sample, expected) in cases {
        let mut bench = Bench::new();
        bench.decode(&datagram(0, std::slice::from_ref(&sample)));
        let fields = [Field::InputInterface, Field::OutputInterface, Field::ForwardingStatus];
        assert_eq!(fields.map(|field| bench.shown(field, 0)), expected, "{sample:?}");
    }
}

#[test]
fn the_sampling_interval_is_forced_told_or_configured() {
    for (told, forced, default, expected) in
        [(512, None, Some(7), "512"), (512, Some(8), Some(7), "8"), (0, None, Some(7), "7"), (0, None, None, "")]
    {
        let mut bench = Bench::new();
        let mut bytes = datagram(0, &[ordinary()]);
        bytes[44..48].copy_from_slice(&u32::to_be_bytes(told));
        let context = Context { sampling: ConfiguredSampling { forced, default }, ..context_of(1, 1, NOW) };
        bench.decode_as(&context, &bytes);
        assert_eq!(bench.shown(Field::SamplingInterval, 0), expected, "{told} {forced:?} {default:?}");
    }
}

#[test]
fn counters_become_facts_and_drops_a_statistic() {
    let expected = |interface| {
        let counters = Counters {
            interface,
            in_bytes: 1 << 40,
            in_packets: 123,
            in_discards: 4,
            in_errors: 5,
            out_bytes: 1 << 41,
            out_packets: 246,
            out_discards: 8,
            out_errors: 9,
        };
        let speed = Some(10_000_000_000);
        [Fact::Interface { interface, name: None, description: None, speed }, Fact::Counters(counters)]
    };
    let mut unknown = interface_counters(8);
    unknown[48..52].copy_from_slice(&[255; 4]);
    unknown[32..40].copy_from_slice(&[255; 8]);
    let samples = [
        counters(&[interface_counters(5), block(2, &[9; 52])]),
        expanded_counters(&[interface_counters(6)]),
        counters(&[unknown]),
        ordinary(),
    ];
    let mut bench = Bench::new();
    let outcome = bench.decode_as(&context_of(4, 1, NOW), &datagram(0, &samples));
    assert_eq!((outcome.records, outcome.sets, reasons(&outcome)), (1, 4, vec![]));
    let mut facts = bench.decoder.take_facts();
    let dropped = Fact::Statistic { observation_domain: 3, statistic: "sflowDroppedSamples", value: 9 };
    for fact in expected(5).into_iter().chain(expected(6)).chain([dropped]) {
        assert!(facts.contains(&(4, fact.clone())), "{fact:?}");
    }
    facts.retain(|(_, fact)| matches!(fact, Fact::Counters(counters) if counters.interface == 8));
    assert!(
        matches!(&facts[..], [(4, Fact::Counters(one))] if (one.in_bytes, one.in_packets) == (0, 120)),
        "{facts:?}"
    );
    assert!(bench.decoder.take_facts().is_empty());
}

#[test]
fn facts_are_limited() {
    let mut bench = Bench::with(Limits { facts: 3, ..Limits::default() });
    let samples = [5, 6, 5].map(|index| counters(&[interface_counters(index)]));
    assert_eq!(reasons(&bench.decode(&datagram(0, &samples))), [("fact_limit", 1)]);
    assert_eq!(bench.decoder.take_facts().len(), 3);
}

#[test]
fn one_bad_sample_does_not_cost_the_good_ones() {
    let mut short = ordinary();
    short[4..8].copy_from_slice(&20u32.to_be_bytes());
    short.truncate(28);
    let mut long_record = ordinary();
    long_record[44..48].copy_from_slice(&1_000u32.to_be_bytes());
    let mut many_records = ordinary();
    many_records[36..40].copy_from_slice(&u32::MAX.to_be_bytes());
    let trailing = block(1, &[&ordinary()[8..], &[1, 2, 3, 4]].concat());
    let cases = [
        (short, 2, "set_overrun"),
        (long_record, 2, "set_overrun"),
        (many_records, 2, "set_overrun"),
        (block(9, &[1; 7]), 2, "set_reserved"),
        (block(4_300 << 12 | 1, &[1; 8]), 2, "set_reserved"),
        (counters(&[block(1, &[0; 84])]), 2, "field_width"),
        (trailing, 3, "suspect"),
    ];
    for (bad, records, reason) in cases {
        let outcome = Bench::new().decode(&datagram(0, &[ordinary(), bad.clone(), ordinary()]));
        assert_eq!((outcome.records, outcome.sets, reasons(&outcome)), (records, 3, vec![(reason, 1)]), "{bad:?}");
    }
    // What follows these cannot be found.
    for (bad, reason) in [(words(&[1, 5_000]), "set_overrun"), (words(&[1]), "set_length")] {
        let outcome = Bench::new().decode(&datagram(0, &[ordinary(), bad.clone()]));
        assert_eq!((outcome.records, outcome.sets, reasons(&outcome)), (1, 2, vec![(reason, 1)]), "{bad:?}");
    }
}

#[test]
fn no_more_samples_are_read_than_the_header_says_and_padding_is_none() {
    let mut bytes = datagram(0, &[ordinary(), ordinary()]);
    let differs = vec![("count_differs", 1)];
    let cases = [
        (2u32, 0, 2, vec![]),
        (2, 100, 2, vec![]),
        (1, 0, 1, differs.clone()),
        (0, 0, 0, differs.clone()),
        (u32::MAX, 0, 2, differs),
        (3, 8, 2, vec![("set_reserved", 1)]),
    ];
    for (count, padding, records, expected) in cases {
        bytes[24..28].copy_from_slice(&count.to_be_bytes());
        let outcome = Bench::new().decode(&[&bytes[..], &vec![0; padding]].concat());
        assert_eq!((outcome.records, reasons(&outcome)), (records, expected), "{count}");
    }
}

#[test]
fn datagrams_are_counted_for_each_sub_agent_whatever_port_they_come_from() {
    let mut bench = Bench::new();
    let mut lost = |sequence, port, sub_agent: u8, uptime: u32, seconds: i64| {
        let mut bytes = datagram(sequence, &[ordinary()]);
        bytes[15] = sub_agent;
        bytes[20..24].copy_from_slice(&uptime.to_be_bytes());
        let outcome = bench.decode_as(&context_of(1, port, NOW + seconds * SECOND), &bytes);
        (outcome.lost.count, outcome.restarted, outcome.rejected)
    };
    assert_eq!(lost(u32::MAX, 1, 3, 100_000, 0), (0, false, None));
    assert_eq!(lost(2, 2, 3, 100_000, 0), (2, false, None));
    assert_eq!(lost(1, 1, 3, 100_000, 0), (-1, false, None));
    assert_eq!(lost(2, 1, 3, 100_000, 0), (0, false, Some(Reason::Duplicate)));
    assert_eq!(lost(900, 1, 4, 100_000, 0), (0, false, None));
    assert_eq!(lost(7_000, 1, 3, 5, 60), (0, true, None));
    assert_eq!(bench.decode(&datagram(9, &[])).lost, Loss::none(LossUnit::Datagrams));
}

#[test]
fn a_restored_decoder_knows_what_is_missing() {
    let sflow = |sequence| datagram(sequence, &[ordinary()]);
    for [first, second] in [[v7(10, 1), v7(13, 1)], [sflow(10), sflow(13)]] {
        let (mut before, mut after) = (Bench::new(), Bench::new());
        before.decode(&first);
        assert_eq!(after.decoder.restore(before.decoder.take_changes()), 0);
        assert_eq!(after.decode(&second).lost.count, 2);
    }
}

#[test]
fn the_exporter_is_the_agent_if_it_can_be_one() {
    let relay: IpAddr = [192, 0, 2, 1].into();
    let agent = |kind: u32, address: &[u8]| {
        let bytes = [words(&[5, kind]), address.to_vec(), words(&[0, 0, 0, 0])].concat();
        exporter_address(&bytes, relay).to_string()
    };
    assert_eq!(agent(1, &[198, 51, 100, 7]), "198.51.100.7");
    assert_eq!(agent(2, &[&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[7]].concat()), "2001:db8::7");
    assert_eq!(agent(2, &[&[0; 10][..], &[255, 255, 198, 51, 100, 7]].concat()), "198.51.100.7");
    for unusable in [[0; 4], [224, 0, 0, 1], [255; 4], [127, 0, 0, 1]] {
        assert_eq!(agent(1, &unusable), "192.0.2.1");
    }
    assert_eq!(agent(0, &[]), "192.0.2.1");
    assert_eq!(agent(2, &[[255; 4], [1; 4], [1; 4], [1; 4]].concat()), "192.0.2.1");
    assert_eq!(exporter_address(&rich(0)[..20], relay), relay);
    assert_eq!(exporter_address(&v5(0, 1), relay), relay);
}

#[test]
fn the_longest_datagram_is_bounded_in_records_and_work() {
    let fill = |unit: &[u8]| datagram(0, &vec![unit.to_vec(); (65_507 - 28) / unit.len()]);
    let raw = [words(&[1, 24]), words(&[1, 0, 0, 8]), vec![0; 8]].concat();
    let nested = block(1, &[words(&[1, 5, 1, 1, 0, 1, 1, 2_000]), raw.repeat(2_000)].concat());
    let path = block(1003, &words(&[&[0, 1, 2, 3, 1, 2, 16_000][..], &[7; 16_000]].concat()));
    let zeros = [words(&[9, 0]), vec![0; 65_000], vec![1]].concat();
    let most = |mut bytes: Vec<u8>| {
        bytes[24..28].fill(255);
        bytes
    };
    for (name, bytes) in [
        ("samples", fill(&ordinary())),
        ("empty samples", fill(&flow(&[]))),
        ("unknown samples", fill(&words(&[9, 0]))),
        ("counters", fill(&counters(&[interface_counters(1)]))),
        ("records", datagram(0, &[nested])),
        ("path", datagram(0, &[flow(&[path])])),
        ("zeros", most(datagram(0, &[zeros]))),
    ] {
        assert!(bytes.len() <= 65_507, "{name}: {}", bytes.len());
        let mut bench = Bench::new();
        let begun = Instant::now();
        bench.decode(&bytes);
        // The budget is 5 ms, which holds even unoptimised; the rest is for a busy machine.
        assert!(begun.elapsed() < Duration::from_millis(50), "{name}: {:?}", begun.elapsed());
    }
    let mut bench = Bench::with(Limits { records_per_datagram: 5, ..Limits::default() });
    let outcome = bench.decode(&datagram(0, &vec![ordinary(); 9]));
    assert_eq!((outcome.records, outcome.sets, reasons(&outcome)), (5, 9, vec![("output_limit", 4)]));
}
