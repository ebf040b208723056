//! Lost, late, doubled and restarted: what each version's sequence number tells.

use super::build::{be, iana, ipfix, v5, v9};
use super::{Bench, NOW, context_of, reasons};
use crate::clock::SECOND;
use crate::wire::{Loss, LossUnit, Reason};

const FIELDS: [(u16, u16); 1] = [(1, 4)];

#[test]
fn v5_counts_flows_for_each_engine() {
    let mut bench = Bench::new();
    let mut lost = |datagram: Vec<u8>| bench.decode(&datagram).lost;
    assert_eq!(lost(v5(u32::MAX - 9, 10)), Loss::none(LossUnit::Flows));
    assert_eq!(lost(v5(5, 10)).count, 5);
    let mut other_engine = v5(1_000, 10);
    other_engine[21] = 9;
    assert_eq!(lost(other_engine).count, 0);
    assert_eq!(lost(v5(0, 5)).count, -5);
}

#[test]
fn v9_counts_datagrams() {
    let mut bench = Bench::new();
    let mut lost = |sequence| bench.decode(&v9(sequence).template(256, &iana(&FIELDS)).bytes()).lost;
    assert_eq!(lost(u32::MAX - 1), Loss::none(LossUnit::Datagrams));
    assert_eq!(lost(1).count, 2);
    assert_eq!(lost(0).count, -1);
    assert_eq!(lost(u32::MAX).count, -1);
    assert_eq!(lost(2).count, 0);
}

#[test]
fn ipfix_counts_records_with_those_of_options_and_not_templates() {
    let mut bench = Bench::new();
    let options = iana(&[(34, 4)]);
    let message = ipfix(100).template(256, &iana(&FIELDS)).options_template(300, &[(149, 4, 0)], &options);
    let message = message.data(256, &[be(1, 4), be(2, 4)]).data(300, &[be(1, 8)]);
    assert_eq!(bench.decode(&message.bytes()).lost, Loss::none(LossUnit::Records));
    assert_eq!(bench.decode(&ipfix(103).template(256, &iana(&FIELDS)).bytes()).lost.count, 0);
    assert_eq!(bench.decode(&ipfix(110).data(256, &[be(1, 4)]).bytes()).lost.count, 7);
    // A set without template hides its records: the next message sets the number anew.
    let unknown = bench.decode(&ipfix(111).data(257, &[be(1, 4)]).bytes());
    assert_eq!((unknown.lost.count, reasons(&unknown)), (0, vec![("parked", 1)]));
    assert_eq!(bench.decode(&ipfix(500).data(256, &[be(3, 4)]).bytes()).lost.count, 0);
    assert_eq!(bench.decode(&ipfix(502).data(256, &[be(3, 4)]).bytes()).lost.count, 1);
}

#[test]
fn the_same_datagram_twice_is_stored_once() {
    let template = iana(&FIELDS);
    let datagrams = [v5(100, 3), v9(1).template(256, &template).data(256, &[be(1, 4)]).bytes()];
    let ipfix_one = ipfix(1).template(256, &template).data(256, &[be(1, 4)]).bytes();
    for datagram in datagrams.into_iter().chain([ipfix_one]) {
        let mut bench = Bench::new();
        let stored = bench.decode(&datagram).records;
        let again = bench.decode(&datagram);
        assert_eq!((again.records, again.rejected), (0, Some(Reason::Duplicate)));
        assert_eq!(bench.batch.rows(), stored as usize);
        assert_eq!(bench.decode_as(&context_of(2, 9_999, NOW), &datagram).rejected, None, "another exporter's");
    }
}

#[test]
fn a_restart_is_no_loss_and_voids_v9_templates() {
    let mut bench = Bench::new();
    let mut before = v9(4_000_000).template(256, &iana(&FIELDS)).data(256, &[be(1, 4)]);
    before.uptime = 40 * 86_400_000;
    bench.decode(&before.bytes());
    let mut after = v9(9_000_000).data(256, &[be(1, 4)]);
    after.uptime = 60_000;
    let outcome = bench.decode_as(&context_of(1, 9_999, NOW + 120 * SECOND), &after.bytes());
    assert_eq!((outcome.restarted, outcome.lost.count, reasons(&outcome)), (true, 0, vec![("parked", 1)]));
    let mut old = v5(4_000_000, 1);
    old[4..8].copy_from_slice(&3_000_000_000u32.to_be_bytes());
    bench.decode(&old);
    let outcome = bench.decode_as(&context_of(1, 9_999, NOW + 120 * SECOND), &v5(9_000_000, 1));
    assert_eq!((outcome.restarted, outcome.lost.count), (true, 0));
}

#[test]
fn an_uptime_that_goes_back_but_not_to_nothing_is_no_restart() {
    let mut bench = Bench::new();
    // A line card that started 113 s later than the one before it, as seen on a real router.
    for (sequence, uptime) in [(0u32, 3_872_245_664u32), (1, 3_872_132_129), (2, 3_872_245_700), (3, 3_872_132_150)] {
        let mut message = v9(sequence).template(256, &iana(&FIELDS));
        message.uptime = uptime;
        let at = NOW + i64::from(sequence) * SECOND;
        assert!(!bench.decode_as(&context_of(1, 9_999, at), &message.bytes()).restarted, "{sequence}");
    }
}

#[test]
fn the_wrap_of_the_uptime_and_reordering_are_no_restart() {
    let mut bench = Bench::new();
    let mut message = v9(0).template(256, &iana(&FIELDS));
    message.uptime = u32::MAX - 30_000;
    bench.decode(&message.bytes());
    for (sequence, uptime, later) in [(2u32, 30_000u32, 60), (3, 90_000, 120), (1, 89_000, 120), (4, 95_000, 125)] {
        let mut message = v9(sequence).data(256, &[be(sequence.into(), 4)]);
        message.uptime = uptime;
        let outcome = bench.decode_as(&context_of(1, 9_999, NOW + later * SECOND), &message.bytes());
        assert_eq!((outcome.restarted, outcome.records), (false, 1), "{sequence}");
    }
}
