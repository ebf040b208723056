//! Saved sessions: a restarted decoder goes on as if nothing had happened.

use super::build::{be, iana, ipfix, v5, v9};
use super::{Bench, NOW, context_of, fixtures, reasons};
use crate::clock::SECOND;
use crate::flow::fields::Field;
use crate::wire::{Limits, Transport};

#[test]
fn a_restored_decoder_decodes_at_once_and_knows_what_is_missing() {
    let first = v9(1).template(256, &iana(&fixtures::V4)).options_template(300, &[(1, 4, 0)], &iana(&[(34, 4)]));
    let mut bench = Bench::new();
    bench.decode(&first.bytes());
    bench.decode(&v9(4).data(256, &[fixtures::record(&fixtures::V4, 1)]).bytes());
    let init = [be(1, 4), be((NOW / 1_000 - 10_000) as u64, 8)].concat();
    let options = ipfix(1).options_template(300, &[(149, 4, 0)], &iana(&[(160, 8)])).data(300, &[init]);
    bench.decode(&options.template(256, &iana(&[(22, 4), (21, 4)])).bytes());
    bench.decode(&v5(10, 2));
    let states = bench.decoder.take_changes();
    let templates: Vec<_> =
        states.iter().map(|state| (state.version, state.observation_domain, state.templates)).collect();
    assert_eq!(templates, [(9, 7, 2), (10, 7, 2), (5, 258, 0)]);
    assert!(bench.decoder.take_changes().is_empty(), "nothing has changed since");

    let mut restored = Bench::new();
    assert_eq!(restored.decoder.restore(states.clone()), 0);
    assert!(restored.decoder.take_changes().is_empty(), "what was restored is saved already");
    for datagram in [
        v9(2).data(256, &[fixtures::record(&fixtures::V4, 2)]).bytes(),
        v9(7).data(256, &[fixtures::record(&fixtures::V4, 3)]).bytes(),
        ipfix(2).data(256, &[[be(5_000, 4), be(6_000, 4)].concat()]).bytes(),
        v5(17, 1),
    ] {
        bench.batch.clear();
        restored.batch.clear();
        let expected = bench.decode(&datagram);
        assert_eq!(restored.decode(&datagram), expected);
        assert_eq!(restored.batch, bench.batch);
        assert_eq!(expected.records, 1);
    }
    assert_eq!(restored.decoder.take_changes(), bench.decoder.take_changes());
}

#[test]
fn templates_and_sequence_of_a_stream_end_with_it_and_only_they() {
    let stream = |port| crate::wire::Context { transport: Transport::Stream, ..context_of(1, port, NOW) };
    let learn = ipfix(0).template(256, &iana(&[(1, 4)])).data(256, &[be(1, 4)]).bytes();
    let more = ipfix(1).data(256, &[be(2, 4)]).bytes();
    let (first, second) = (stream(5_000), stream(5_001));
    let mut bench = Bench::new();
    for context in [&first, &second, &context_of(1, 5_000, NOW)] {
        assert_eq!(bench.decode_as(context, &learn).records, 1);
    }
    bench.decoder.take_changes();
    bench.decoder.forget_stream(2, first.source);
    assert_eq!(bench.decoder.sessions(), 3, "another exporter's streams end alone");
    bench.decoder.forget_stream(1, first.source);
    let gone = bench.decoder.take_changes();
    assert_eq!(gone.len(), 1);
    assert_eq!((gone[0].transport, gone[0].source_port, gone[0].state.len()), (1, 5_000, 0), "told, to be deleted");
    let outcome = bench.decode_as(&first, &ipfix(40).data(256, &[be(2, 4)]).bytes());
    assert_eq!((outcome.records, outcome.lost.count), (0, 0), "a new stream counts from where it begins");
    assert_eq!(reasons(&outcome), [("no_template", 1)]);
    for context in [&second, &context_of(1, 5_000, NOW)] {
        assert_eq!(bench.decode_as(context, &more).records, 1);
    }
    bench.decoder.forget_all_streams();
    assert_eq!(bench.decoder.sessions(), 1, "datagrams have no stream that could end");
}

#[test]
fn holes_age_over_a_restart_as_they_would_have_without() {
    for before in [0u32, 30, 63] {
        let mut bench = Bench::new();
        bench.decode(&v9(0).bytes());
        (2..=2 + before).for_each(|sequence| assert_eq!(bench.decode(&v9(sequence).bytes()).rejected, None));
        let mut restored = Bench::new();
        restored.decoder.restore(bench.decoder.take_changes());
        (3 + before..66).for_each(|sequence| assert_eq!(restored.decode(&v9(sequence).bytes()).lost.count, 0));
        assert_eq!(restored.decode(&v9(1).bytes()).lost.count, -1, "{before}");
    }
}

#[test]
fn damaged_states_are_refused_or_harmless() {
    let mut bench = Bench::new();
    for (_, datagram) in fixtures::all() {
        bench.decode(&datagram);
        bench.decode_as(&context_of(1, 9_999, NOW + SECOND), &v9(9).bytes());
    }
    for state in bench.decoder.take_changes() {
        for length in 0..state.state.len() {
            let mut cut = state.clone();
            cut.state.truncate(length);
            assert_eq!(Bench::new().decoder.restore(vec![cut]), 1, "cut at {length}");
        }
        for position in 0..state.state.len() {
            for bits in [1, 0x80, 0xff] {
                let mut changed = state.clone();
                changed.state[position] ^= bits;
                let mut restored = Bench::with(Limits { template_bytes: 100_000, ..Limits::default() });
                restored.decoder.restore(vec![changed]);
                for (_, datagram) in fixtures::all() {
                    restored.decode(&datagram);
                }
            }
        }
        let mut later = state.clone();
        later.state[0] = 4;
        assert_eq!(Bench::new().decoder.restore(vec![later]), 1, "a later format");
    }
}

#[test]
fn numbers_that_go_on_elsewhere_are_confirmed_over_a_restart() {
    let mut bench = Bench::new();
    for sequence in [4_000_000_000, 0, 1] {
        assert_eq!(bench.decode(&v9(sequence).bytes()).lost.count, 0);
    }
    let mut restored = Bench::new();
    assert_eq!(restored.decoder.restore(bench.decoder.take_changes()), 0);
    assert_eq!([2, 4].map(|sequence| restored.decode(&v9(sequence).bytes()).lost.count), [0, 1]);
}

#[test]
fn sampling_told_by_options_that_waited_is_saved() {
    let mut bench = Bench::new();
    let sampled = v9(0).data(300, &[[be(1, 4), be(100, 4)].concat()]);
    bench.decode_as(&context_of(1, 1, NOW), &sampled.bytes());
    let template = v9(0).options_template(300, &[(1, 4, 0)], &iana(&[(34, 4)]));
    bench.decode_as(&context_of(1, 2, NOW), &template.bytes());
    assert_eq!(bench.decoder.take_changes().len(), 2);
    assert_eq!(bench.unpark().len(), 1);
    assert_eq!(bench.decoder.take_changes().iter().map(|state| state.source_port).collect::<Vec<_>>(), [1]);
}

#[test]
fn of_several_ports_that_tell_about_sampling_the_same_counts_after_a_restart() {
    let mut bench = Bench::new();
    for port in [3, 2] {
        let sampled = v9(0).options_template(300, &[(1, 4, 0)], &iana(&[(34, 4)]));
        let sampled = sampled.data(300, &[[be(1, 4), be(10 * u64::from(port), 4)].concat()]);
        bench.decode_as(&context_of(1, port, NOW), &sampled.bytes());
    }
    let mut restored = Bench::new();
    assert_eq!(restored.decoder.restore(bench.decoder.take_changes().into_iter().rev().collect()), 0);
    for bench in [&mut bench, &mut restored] {
        let flows = v9(0).template(256, &iana(&[(1, 4)])).data(256, &[be(1, 4)]);
        bench.decode_as(&context_of(1, 1, NOW), &flows.bytes());
        assert_eq!(bench.shown(Field::SamplingInterval, 0), "20");
    }
}
