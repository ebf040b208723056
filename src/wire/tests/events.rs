//! Firewall and NAT events: fields of their own, no double totals; and exporters that send nothing but garbage.

use super::build::{be, iana, ipfix, v5, v9};
use super::{Bench, NOW, context_of};
use crate::clock::SECOND;
use crate::flow::fields::Field;
use crate::wire::{Context, Limits, Reason, Transport};

#[test]
fn a_firewalls_connection_counts_once_with_the_bytes_of_its_updates_and_its_end() {
    // As a Cisco ASA sends them: created and denied without counters, updated and ended with what came since.
    let short = iana(&[(8, 4), (12, 4), (323, 8), (233, 1), (33_002, 2), (40_001, 4)]);
    let long = iana(&[(8, 4), (12, 4), (323, 8), (233, 1), (231, 4), (232, 4), (85, 4)]);
    let milliseconds = (NOW / 1_000) as u64;
    let event = |event: u64| [be(1, 4), be(2, 4), be(milliseconds, 8), be(event, 1)].concat();
    let without = |kind: u64| [event(kind), be(1_001, 2), be(0xc000_0201, 4)].concat();
    let with = |kind: u64, up: u64, down: u64| [event(kind), be(up, 4), be(down, 4), be(9_999, 4)].concat();
    let message = v9(0).template(256, &short).template(257, &long);
    let message = message.data(256, &[without(1), without(3)]).data(257, &[with(5, 100, 1_000), with(2, 10, 500)]);
    let mut bench = Bench::new();
    assert_eq!(bench.decode(&message.bytes()).records, 4);
    let column = |field| (0..4).map(|row| bench.shown(field, row)).collect::<Vec<_>>();
    assert_eq!(column(Field::FirewallEvent), ["1", "3", "5", "2"]);
    assert_eq!(column(Field::AggregatedFlows), ["0", "1", "0", "1"]);
    assert_eq!(column(Field::InBytes), ["", "", "100", "10"], "what came since, not the total beside it");
    assert_eq!(column(Field::OutBytes), ["", "", "1000", "500"]);
    assert_eq!(column(Field::FirewallExtendedEvent), ["1001", "1001", "", ""]);
    assert_eq!(column(Field::PostNatSrcIp), ["192.0.2.1", "192.0.2.1", "", ""]);
    assert_eq!(column(Field::FirstSeen), column(Field::LastSeen));
    assert!(column(Field::FirstSeen).iter().all(|moment| moment == "2026-11-23T00:00:02.000000Z"));
    let totals = bench.batch.totals(0..4);
    assert_eq!((totals.bytes, totals.flows), (1_610, 2));
}

#[test]
fn a_log_of_translations_has_fields_and_counts_no_traffic() {
    let specs = iana(&[(230, 1), (8, 4), (225, 4), (7, 2), (227, 2), (361, 2), (362, 2), (234, 4), (324, 8)]);
    let ntp = (NOW as u64 / 1_000_000 + 2_208_988_800) << 32;
    let record = |event: u64| {
        let ports = [be(1_000, 2), be(2_000, 2), be(4_096, 2), be(4_607, 2)].concat();
        [be(event, 1), be(0x0a00_0001, 4), be(0xc000_0207, 4), ports, be(6, 4), be(ntp, 8)].concat()
    };
    let mut bench = Bench::new();
    bench.decode(&ipfix(0).template(256, &specs).data(256, &[record(1), record(2)]).bytes());
    let row: Vec<_> =
        bench.all(1).into_iter().skip(3).map(|(field, text)| format!("{} {text}", field.name())).collect();
    assert_eq!(
        row,
        [
            "first_seen 2026-11-23T00:00:02.000000Z",
            "last_seen 2026-11-23T00:00:02.000000Z",
            "src_ip 10.0.0.1",
            "src_port 1000",
            "aggregated_flows 0",
            "ingress_vrf 6",
            "nat_event 2",
            "post_nat_src_ip 192.0.2.7",
            "post_nat_src_port 2000",
            "port_block_start 4096",
            "port_block_end 4607",
        ]
    );
    // With counters it is a flow that was translated.
    let mut bench = Bench::new();
    bench.decode(&ipfix(0).template(256, &iana(&[(230, 1), (1, 4)])).data(256, &[be(9, 5)]).bytes());
    assert_eq!(bench.shown(Field::AggregatedFlows, 0), "");
}

#[test]
fn an_exporter_that_sends_only_garbage_is_looked_at_now_and_then_and_others_always() {
    let limits = Limits { malformed_in_a_row: 4, malformed_pause_seconds: 5, ..Limits::default() };
    let mut bench = Bench::with(limits);
    let bad = |sequence| v5(sequence, 3)[..100].to_vec();
    let mut decode = |exporter, second: i64, datagram: Vec<u8>| {
        bench.decode_as(&context_of(exporter, 1, NOW + second * SECOND), &datagram).rejected
    };
    for sequence in 0..3 {
        assert_eq!(decode(1, 0, bad(sequence)), Some(Reason::CountLie));
    }
    assert_eq!(decode(1, 0, v5(0, 3)), None, "a good one begins the count anew");
    for sequence in 0..4 {
        assert_eq!(decode(1, 1, bad(sequence)), Some(Reason::CountLie));
    }
    assert_eq!(decode(1, 2, v5(3, 3)), Some(Reason::RateLimited));
    assert_eq!(decode(2, 2, v5(3, 3)), None, "another exporter");
    let stream = Context { transport: Transport::Stream, ..context_of(1, 1, NOW + 2 * SECOND) };
    let message = ipfix(0).template(256, &iana(&[(1, 4)])).bytes();
    assert_eq!(bench.decode_as(&stream, &message).rejected, None, "a stream is read to its end");
    let mut decode = |exporter, second: i64, datagram: Vec<u8>| {
        bench.decode_as(&context_of(exporter, 1, NOW + second * SECOND), &datagram).rejected
    };
    assert_eq!(decode(1, 6, bad(9)), Some(Reason::CountLie), "one is tried");
    assert_eq!(decode(1, 7, v5(3, 3)), Some(Reason::RateLimited));
    assert_eq!(decode(1, 11, v5(3, 3)), None);
    assert_eq!(decode(1, 11, v5(6, 3)), None);
}
