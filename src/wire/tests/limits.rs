//! What one exporter, and a million of them, can make the decoder remember.

use super::build::{be, iana, ipfix, v5, v9};
use super::{Bench, NOW, context_of};
use crate::clock::SECOND;
use crate::wire::{Limits, Reason};

#[test]
fn templates_of_a_session_and_fields_of_a_template_are_limited() {
    let limits = Limits { templates_per_session: 2, fields_per_template: 3, ..Limits::default() };
    for message in [v9(0), ipfix(0)] {
        let mut bench = Bench::with(limits.clone());
        let fields = |count: usize| iana(&[(8, 4), (1, 4), (2, 4), (7, 2)][..count]);
        let message = message.template(256, &fields(3)).template(257, &fields(4)).template(258, &fields(1));
        let message = message.template(259, &fields(2)).template(256, &fields(2)).data(256, &[be(1, 8)]);
        let outcome = bench.decode(&message.bytes());
        assert_eq!((outcome.templates, outcome.counts.get(Reason::TemplateLimit)), (3, 2));
        assert_eq!(outcome.records, 1, "a remembered template may still be replaced");
    }
}

#[test]
fn template_memory_is_limited_and_given_back() {
    let mut bench = Bench::with(Limits { template_bytes: 2_000, ..Limits::default() });
    let all: Vec<_> = (0..10).map(|id| v9(id).template(256 + id as u16, &iana(&[(8, 4)])).bytes()).collect();
    let refused: u32 = all.iter().map(|datagram| bench.decode(datagram).counts.get(Reason::TemplateLimit)).sum();
    assert_eq!(refused, 7);
    assert!(bench.decoder.sessions.template_bytes() <= 2_000);
    let mut restart = v9(0).template(300, &iana(&[(8, 4)]));
    restart.uptime = 5;
    let outcome = bench.decode(&restart.bytes());
    assert_eq!((outcome.restarted, outcome.templates), (true, 1));
    assert!(bench.decoder.sessions.template_bytes() < 700);
}

#[test]
fn an_exporter_fills_its_own_share_of_template_memory_and_leaves_the_rest_to_others() {
    let limits = Limits { template_bytes_per_exporter: 2_000, template_bytes: 3_000, ..Limits::default() };
    let mut bench = Bench::with(limits);
    let templates = |count: u16| (0..count).fold(v9(0), |message, id| message.template(256 + id, &iana(&[(8, 4)])));
    let mut decode = |exporter, port, count| {
        let outcome = bench.decode_as(&context_of(exporter, port, NOW), &templates(count).bytes());
        (outcome.templates, outcome.counts.get(Reason::TemplateLimit))
    };
    // A template of one field counts 536 bytes. Sessions of an exporter share what it may take.
    assert_eq!((decode(1, 1, 2), decode(1, 2, 5)), ((2, 0), (1, 4)));
    assert_eq!((decode(2, 1, 2), decode(2, 2, 1)), ((2, 0), (0, 1)), "then all memory is taken");
    assert_eq!(decode(1, 2, 1), (1, 0), "the same template again");
    // What a restart of the exporter sets free can be taken again.
    let mut anew = v9(0);
    anew.uptime = 5;
    for exporter in [1, 2] {
        assert!(bench.decode_as(&context_of(exporter, 1, NOW), &anew.bytes()).restarted);
    }
    let outcome = bench.decode_as(&context_of(2, 3, NOW), &templates(4).bytes());
    assert_eq!((outcome.templates, outcome.counts.get(Reason::TemplateLimit)), (3, 1));
}

#[test]
fn an_exporter_pushes_out_only_its_own_oldest_session() {
    let mut bench = Bench::with(Limits { sessions_per_exporter: 3, ..Limits::default() });
    let with_template = v9(0).template(256, &iana(&[(8, 4)])).bytes();
    bench.decode_as(&context_of(9, 1, NOW - 50 * SECOND), &with_template);
    for port in 1..=5 {
        let at = NOW + i64::from(port) * SECOND;
        assert_eq!(bench.decode_as(&context_of(1, port, at), &with_template).rejected, None);
    }
    assert_eq!(bench.decoder.sessions(), 4);
    let gone: Vec<_> = bench.decoder.take_changes().into_iter().filter(|state| state.state.is_empty()).collect();
    assert!(gone.iter().all(|state| state.exporter_id == 1));
    assert_eq!(gone.iter().map(|state| state.source_port).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_flood_of_exporters_is_refused_until_one_has_been_idle() {
    let limits = Limits { sessions: 10, session_idle_seconds: 60, ..Limits::default() };
    let mut bench = Bench::with(limits);
    let outcomes: Vec<_> = (0..1_000u32)
        .map(|exporter| bench.decode_as(&context_of(exporter, 1, NOW + i64::from(exporter)), &v5(0, 1)).rejected)
        .collect();
    assert_eq!(bench.decoder.sessions(), 10);
    assert_eq!(outcomes.iter().filter(|rejected| **rejected == Some(Reason::SessionLimit)).count(), 990);
    // A known exporter is not refused a session of another version; it gives up its own.
    assert_eq!(bench.decode_as(&context_of(3, 1, NOW + 2_000), &v9(0).bytes()).rejected, None);
    assert_eq!(bench.decode_as(&context_of(77, 1, NOW + 59 * SECOND), &v5(0, 1)).rejected, Some(Reason::SessionLimit));
    assert_eq!(bench.decode_as(&context_of(77, 1, NOW + 61 * SECOND), &v5(0, 1)).rejected, None);
    assert_eq!(bench.decoder.sessions(), 10);
}

#[test]
fn of_one_datagram_only_so_many_definitions_and_waiting_sets_are_taken() {
    let mut bench = Bench::new();
    let fields = [iana(&[(1, 4)]), iana(&[(2, 4)])];
    let definitions = (0..1_100).fold(v9(0), |message, number| message.template(256, &fields[number % 2]));
    let outcome = bench.decode(&definitions.bytes());
    assert_eq!((outcome.templates, outcome.counts.get(Reason::TemplateLimit)), (1_024, 76));
    let sets = (0..1_100).fold(v9(1), |message, _| message.data(256, &[be(1, 4)]));
    let outcome = bench.decode(&sets.bytes());
    let counts = [Reason::Parked, Reason::NoTemplate].map(|reason| outcome.counts.get(reason));
    assert_eq!(counts, [1_024, 76], "the template is void");
    assert!(bench.decoder.parked_bytes() > 0);
}

#[test]
fn malformed_datagrams_of_any_number_of_exporters_are_remembered_of_so_many_only() {
    let mut bench = Bench::with(Limits { sessions: 10, ..Limits::default() });
    for exporter in 0..1_000 {
        assert_eq!(bench.decode_as(&context_of(exporter, 1, NOW), &[9]).rejected, Some(Reason::TooShort));
        assert!(bench.decoder.malformed.len() <= 10);
    }
}
