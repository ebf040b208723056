//! What options data tell: sampling in the order that counts, and names and numbers as facts.

use super::build::{Spec, be, iana, ipfix, v5, v9};
use super::{Bench, NOW, context_of, reasons};
use crate::flow::facts::Fact;
use crate::flow::fields::Field;
use crate::wire::{ConfiguredSampling, Context};

const SYSTEM: Spec = (1, 4, 0);
const INTERFACE: Spec = (2, 4, 0);

fn configured(forced: Option<u32>, default: Option<u32>) -> Context {
    Context { sampling: ConfiguredSampling { forced, default }, ..context_of(1, 9_999, NOW) }
}

/// The sampling intervals of all flows, empty where there is none.
fn intervals(bench: &Bench) -> Vec<String> {
    (0..bench.batch.rows()).map(|row| bench.shown(Field::SamplingInterval, row)).collect()
}

#[test]
fn the_interval_is_forced_or_the_samplers_or_the_exporters_or_the_default() {
    let told = |message: super::build::Message| {
        // Sampler 3 takes one in 50, the exporter as a whole one in 7; records name sampler 3 or the unknown sampler 4.
        let message = message.options_template(300, &[SYSTEM], &iana(&[(48, 1), (50, 4)]));
        let message = message.options_template(301, &[SYSTEM], &iana(&[(34, 4)]));
        let message = message.data(300, &[[be(1, 4), be(3, 1), be(50, 4)].concat()]);
        let message = message.data(301, &[[be(1, 4), be(7, 4)].concat()]);
        message.template(256, &iana(&[(48, 1), (1, 4)])).data(256, &[be(3 << 32 | 9, 5), be(4 << 32 | 9, 5)])
    };
    for message in [v9(0), ipfix(0)] {
        let bytes = told(message).bytes();
        for (context, expected) in [
            (configured(Some(1_000), Some(2)), ["1000", "1000"]),
            (configured(None, Some(2)), ["50", "7"]),
            (configured(None, None), ["50", "7"]),
        ] {
            let mut bench = Bench::new();
            bench.decode_as(&context, &bytes);
            assert_eq!(intervals(&bench), expected);
        }
    }
    let untold = v9(0).template(256, &iana(&[(48, 1), (1, 4)])).data(256, &[be(3 << 32, 5)]).bytes();
    for (context, expected) in [(configured(None, Some(2)), "2"), (configured(None, None), "")] {
        let mut bench = Bench::new();
        bench.decode_as(&context, &untold);
        assert_eq!(intervals(&bench), [expected]);
    }
}

#[test]
fn a_record_can_tell_its_own_interval_and_zero_is_unknown() {
    let mut bench = Bench::new();
    let spaced = ipfix(0).template(256, &iana(&[(305, 4), (306, 4)]));
    bench.decode(&spaced.data(256, &[be(1 << 32 | 99, 8), be(10 << 32 | 90, 8), be(5, 8)]).bytes());
    bench.decode(&v9(0).template(256, &iana(&[(34, 4)])).data(256, &[be(64, 4), be(0, 4), be(1, 4)]).bytes());
    assert_eq!(intervals(&bench), ["100", "10", "", "64", "", ""]);
}

#[test]
fn the_interval_of_an_interface_is_that_of_the_flows_that_arrive_there() {
    let mut bench = Bench::new();
    let message = v9(0).options_template(300, &[INTERFACE], &iana(&[(34, 4)]));
    let message = message.data(300, &[[be(5, 4), be(512, 4)].concat(), [be(6, 4), be(16, 4)].concat()]);
    let message = message.template(256, &iana(&[(10, 4), (1, 4)]));
    bench.decode(&message.data(256, &[be(5 << 32, 8), be(7 << 32, 8), be(6 << 32, 8)]).bytes());
    assert_eq!(intervals(&bench), ["512", "", "16"]);
}

#[test]
fn a_population_or_a_probability_is_an_interval_too() {
    let probability = f64::to_bits(0.001);
    for (fields, values) in
        [(iana(&[(309, 4), (310, 4)]), be(2 << 32 | 2_000, 8)), (iana(&[(311, 8)]), be(probability, 8))]
    {
        let mut bench = Bench::new();
        let message = ipfix(0).options_template(300, &[(149, 4, 0)], &fields);
        let message = message.data(300, &[[be(7, 4), values].concat()]);
        bench.decode(&message.template(256, &iana(&[(1, 4)])).data(256, &[be(1, 4)]).bytes());
        assert_eq!(intervals(&bench), ["1000"]);
    }
}

#[test]
fn a_new_interval_changes_later_flows_only_also_within_a_datagram() {
    let mut bench = Bench::new();
    let message = v9(0).options_template(301, &[SYSTEM], &iana(&[(34, 4)])).template(256, &iana(&[(1, 4)]));
    let rate = |interval| [be(1, 4), be(interval, 4)].concat();
    let message = message.data(256, &[be(1, 4)]).data(301, &[rate(100)]).data(256, &[be(2, 4)]);
    bench.decode(
        &message.data(301, &[rate(0)]).data(256, &[be(3, 4)]).data(301, &[rate(9)]).data(256, &[be(4, 4)]).bytes(),
    );
    assert_eq!(intervals(&bench), ["", "100", "100", "9"]);
}

#[test]
fn options_from_another_port_or_for_the_whole_exporter_count_and_survive_a_restart() {
    let options = |domain| {
        let mut message = ipfix(0).options_template(301, &[(144, 4, 0)], &iana(&[(34, 4)]));
        message.domain = domain;
        message.data(301, &[[be(1, 4), be(128, 4)].concat()]).bytes()
    };
    let data = ipfix(0).template(256, &iana(&[(1, 4)])).data(256, &[be(1, 4)]).bytes();
    for (port, domain) in [(1, 7), (9_999, 0), (9_999, 88)] {
        let mut bench = Bench::new();
        bench.decode_as(&context_of(1, port, NOW), &options(domain));
        let mut restored = Bench::new();
        assert_eq!(restored.decoder.restore(bench.decoder.take_changes()), 0);
        for mut bench in [bench, restored] {
            bench.decode(&data);
            bench.decode_as(&context_of(2, 9_999, NOW), &data);
            assert_eq!(intervals(&bench), ["128", ""], "from port {port}, domain {domain}; not another exporter's");
        }
    }
}

#[test]
fn the_header_of_v5_tells_the_interval() {
    let mut unsampled = v5(3, 1);
    unsampled[22..24].copy_from_slice(&[0x40, 0]);
    let mut bench = Bench::new();
    bench.decode(&v5(0, 2));
    bench.decode(&unsampled);
    bench.decode_as(&configured(Some(5), None), &v5(4, 1));
    assert_eq!(intervals(&bench), ["100", "100", "", "5"]);
}

#[test]
fn names_and_statistics_become_facts_and_texts_are_cleaned() {
    let mut bench = Bench::new();
    let fields =
        [(10, 4, 0), (82, 8, 0), (83, 65_535, 0), (95, 4, 0), (96, 8, 0), (234, 4, 0), (236, 4, 0), (42, 8, 0)];
    let message = ipfix(0).options_template(300, &[(149, 4, 0)], &fields);
    let record = [
        be(7, 4),
        be(12, 4),
        b"Gi0/1\0\0\0".to_vec(),
        vec![4, b'u', b'p', 0x1b, b'!'],
        be(13 << 24 | 80, 4),
        b"http\0\0\0\0".to_vec(),
        be(3, 4),
        b"blue".to_vec(),
        be(123_456, 8),
    ];
    let outcome = bench.decode(&message.data(300, &[record.concat()]).bytes());
    assert_eq!((outcome.options_records, reasons(&outcome)), (1, vec![("text_fixed", 1)]));
    let text = |text: &str| Some(text.to_owned());
    let expected = [
        Fact::Statistic { observation_domain: 7, statistic: "exportedFlowRecordTotalCount", value: 123_456 },
        Fact::Interface { interface: 12, name: text("Gi0/1"), description: text("up\u{fffd}!"), speed: None },
        Fact::Application { application_id: 13 << 24 | 80, name: text("http"), description: None },
        Fact::Vrf { vrf: 3, name: text("blue") },
    ];
    assert_eq!(bench.decoder.take_facts(), expected.map(|fact| (1, fact)));
    assert!(bench.decoder.take_facts().is_empty());
}

#[test]
fn v9_tells_the_interface_in_the_scope_as_well() {
    let mut bench = Bench::new();
    let message = v9(0).options_template(300, &[INTERFACE], &iana(&[(82, 4)]));
    bench.decode(&message.data(300, &[[be(9, 4), b"eth0".to_vec()].concat()]).bytes());
    let name = Some("eth0".to_owned());
    assert_eq!(
        bench.decoder.take_facts(),
        [(1, Fact::Interface { interface: 9, name, description: None, speed: None })]
    );
}

#[test]
fn elements_without_a_field_are_counted_by_enterprise_and_number() {
    let mut bench = Bench::new();
    let specs = [(1, 4, 0), (4_000, 2, 0), (77, 65_535, 9), (210, 1, 0)];
    let record = [be(1, 4), be(2, 2), vec![1, b'x'], be(0, 1)].concat();
    let message = ipfix(0).template(256, &specs).data(256, &[record.clone(), record.clone()]);
    bench.decode(&message.bytes());
    bench.decode(&ipfix(2).data(256, &[record]).bytes());
    let unknown: Vec<_> =
        bench.decoder.take_unknown().iter().map(|it| (it.exporter_id, it.enterprise, it.element, it.records)).collect();
    assert_eq!(unknown, [(1, 0, 4_000, 3), (1, 9, 77, 3)]);
    assert!(bench.decoder.take_unknown().is_empty());
}
