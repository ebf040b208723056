//! Data sets that come before their template wait for it, within bounds, and are decoded as of when they came.

use super::build::{be, iana, ipfix, v9};
use super::{Bench, NOW, SECONDS, context_of, reasons};
use crate::clock::{SECOND, Timestamp};
use crate::flow::fields::Field;
use crate::wire::{Context, Limits, Outcome, Reason, Transport};

const FIELDS: [(u16, u16); 2] = [(1, 4), (21, 4)];

fn data(number: u32) -> Vec<u8> {
    let mut message = v9(number).data(256, &[[be(number.into(), 4), be(99_000, 4)].concat()]);
    message.seconds = SECONDS + number;
    message.bytes()
}

fn at(seconds: i64) -> Context {
    context_of(1, 9_999, NOW + seconds * SECOND)
}

#[test]
fn flows_of_a_template_a_minute_late_count_as_received_when_they_were() {
    let mut bench = Bench::new();
    for number in 0..3 {
        let outcome = bench.decode_as(&at(number.into()), &data(number));
        assert_eq!((outcome.records, reasons(&outcome)), (0, vec![("parked", 1)]));
    }
    assert!(bench.unpark().is_empty() && bench.decoder.parked_bytes() > 0);
    bench.decode_as(&at(60), &v9(3).template(256, &iana(&FIELDS)).bytes());
    let outcomes = bench.unpark();
    assert_eq!(outcomes.iter().map(|outcome| outcome.records).collect::<Vec<_>>(), [1, 1, 1]);
    for row in 0..3 {
        assert_eq!(bench.shown(Field::InBytes, row), row.to_string());
        let received = Timestamp::from_micros(NOW + row as i64 * SECOND);
        assert_eq!(bench.shown(Field::Received, row), received.to_string());
        // One second before the export time of its own header.
        assert_eq!(bench.shown(Field::LastSeen, row), received.plus(-3 * SECOND).to_string());
    }
    assert_eq!((bench.decoder.parked_bytes(), bench.unpark().len()), (0, 0), "decoded once");
}

#[test]
fn what_waits_survives_a_restart_and_is_decoded_once() {
    let mut bench = Bench::new();
    bench.decode(&data(0));
    let first = bench.decoder.take_parked();
    assert_eq!((first.added.len(), first.removed.len()), (1, 0));
    bench.decode(&data(1));
    let second = bench.decoder.take_parked();
    assert_eq!(second.added.len(), 1, "each is told once");
    let template = v9(2).template(256, &iana(&FIELDS)).bytes();

    let restored = || {
        let mut after = Bench::new();
        after.decoder.restore_parked([first.added.clone(), second.added.clone()].concat());
        after
    };
    let mut after = restored();
    after.decode(&template);
    // Released, but not decoded yet: still to be found after a crash at this point.
    assert_eq!(after.decoder.take_parked(), crate::wire::ParkedChanges::default());
    let states = after.decoder.take_changes();
    assert_eq!(after.unpark().len(), 2);
    assert_eq!(after.decoder.take_parked().removed, [0, 1]);

    let mut again = Bench::new();
    assert_eq!(again.decoder.restore(states), 0);
    again.decoder.restore_parked(first.added.clone());
    assert_eq!(again.unpark().len(), 1, "its template is known by now");

    let mut full = Bench::with(Limits { parked_bytes: 600, ..Limits::default() });
    full.decoder.restore_parked([first.added, second.added].concat());
    assert_eq!(full.decoder.take_expired(Timestamp::from_micros(NOW)).len(), 1, "no room for the second");
    assert_eq!(full.decoder.take_parked().removed, [1]);
}

#[test]
fn waiting_is_bounded_by_age_and_by_bytes_of_an_exporter_and_in_all() {
    let mut bench = Bench::new();
    bench.decode_as(&at(0), &data(0));
    bench.decode_as(&at(1_000), &data(1));
    let expired = |bench: &mut Bench, seconds: i64| {
        let expired = bench.decoder.take_expired(Timestamp::from_micros(NOW + seconds * SECOND));
        expired.into_iter().map(|it| (it.exporter_id, it.received.micros() - NOW)).collect::<Vec<_>>()
    };
    assert_eq!(expired(&mut bench, 1_800), []);
    assert_eq!(expired(&mut bench, 1_801), [(1, 0)]);
    assert_eq!(expired(&mut bench, 1_801), []);
    assert_eq!(expired(&mut bench, 90_000), [(1, 1_000 * SECOND)]);
    assert_eq!(bench.decoder.parked_bytes(), 0);

    let limits = Limits { parked_bytes_per_exporter: 3_000, parked_bytes: 4_500, ..Limits::default() };
    let mut bench = Bench::with(limits);
    let mut park = |exporter, number| {
        let outcome: Outcome = bench.decode_as(&context_of(exporter, 1, NOW), &data(number));
        outcome.counts.get(Reason::Parked)
    };
    assert_eq!((0..20).map(|number| park(1, number)).sum::<u32>(), 5, "of one exporter");
    assert_eq!((0..20).map(|number| park(2, number)).sum::<u32>(), 3, "of all");
    assert!(bench.decoder.parked_bytes() <= 4_500);
}

#[test]
fn only_its_own_template_lets_a_set_go() {
    let template = |id| v9(9).template(id, &iana(&FIELDS));
    let parked = || {
        let mut bench = Bench::new();
        bench.decode(&data(0));
        bench
    };
    let mut bench = parked();
    bench.decode(&template(257).bytes());
    bench.decode_as(&context_of(2, 9_999, NOW), &template(256).bytes());
    let mut elsewhere = template(256);
    elsewhere.domain = 8;
    bench.decode(&elsewhere.bytes());
    assert_eq!(bench.unpark().len(), 0);
    // In v9 the only other session of the domain may bring it; in IPFIX it may not.
    bench.decode_as(&context_of(1, 1, NOW), &template(256).bytes());
    assert_eq!(bench.unpark().len(), 1);
    let mut bench = Bench::new();
    bench.decode(&ipfix(0).data(256, &[be(1, 4)]).bytes());
    bench.decode_as(&context_of(1, 1, NOW), &ipfix(0).template(256, &iana(&FIELDS[..1])).bytes());
    assert_eq!(bench.unpark().len(), 0);
}

#[test]
fn what_waited_before_a_restart_of_the_exporter_waits_in_vain() {
    let mut bench = Bench::new();
    bench.decode(&data(0));
    let mut anew = v9(0).template(256, &iana(&FIELDS));
    anew.uptime = 60_000;
    assert!(bench.decode_as(&at(120), &anew.bytes()).restarted);
    assert_eq!(bench.unpark().len(), 0);
    assert_eq!(bench.decoder.take_expired(Timestamp::from_micros(NOW)).len(), 1);
}

#[test]
fn in_a_stream_nothing_waits_and_withdrawals_count() {
    let stream = Context { transport: Transport::Stream, ..at(0) };
    let fields = iana(&FIELDS[..1]);
    let data = |sequence| ipfix(sequence).data(256, &[be(1, 4)]).bytes();
    for id in [256, 2] {
        let mut bench = Bench::new();
        assert_eq!(reasons(&bench.decode_as(&stream, &data(0))), [("no_template", 1)]);
        bench.decode_as(
            &stream,
            &ipfix(1).template(256, &fields).options_template(300, &[(149, 4, 0)], &fields).bytes(),
        );
        assert_eq!(bench.decode_as(&stream, &data(1)).records, 1);
        assert_eq!(reasons(&bench.decode_as(&stream, &ipfix(2).template(id, &[]).bytes())), [("withdrawal", 1)]);
        assert_eq!(reasons(&bench.decode_as(&stream, &data(2))), [("no_template", 1)]);
        let options = ipfix(3).data(300, &[be(1, 8)]).bytes();
        assert_eq!(bench.decode_as(&stream, &options).options_records, 1, "the other templates stay");
    }
    let mut over_udp = Bench::new();
    over_udp.decode(&ipfix(0).template(256, &fields).bytes());
    over_udp.decode(&ipfix(0).template(256, &[]).bytes());
    assert_eq!(over_udp.decode(&data(0)).records, 1, "over UDP a withdrawal is ignored");
}

#[test]
fn a_template_that_is_told_again_releases_what_another_port_made_ambiguous() {
    let mut bench = Bench::with(Limits { sessions_per_exporter: 3, ..Limits::default() });
    let from = |port, seconds: i64| context_of(1, port, NOW + seconds * SECOND);
    let template = v9(0).template(256, &iana(&FIELDS)).bytes();
    bench.decode_as(&from(3, 0), &template);
    bench.decode_as(&from(2, 1), &template);
    assert_eq!(reasons(&bench.decode_as(&from(1, 2), &data(0))), [("parked", 1)], "of two ports neither is taken");
    let mut other = v9(0);
    other.domain = 8;
    bench.decode_as(&from(4, 3), &other.bytes());
    bench.decode_as(&from(2, 4), &v9(1).template(256, &iana(&FIELDS)).bytes());
    assert_eq!(bench.unpark().len(), 1, "the third port was forgotten");
}
