//! Saved sessions for people, and what headers say of the exporter's clock.

use super::build::{be, iana, ipfix, v5, v9};
use super::{Bench, NOW, SECONDS, context_of, fixtures};
use crate::clock::SECOND;
use crate::flow::fields::Field;
use crate::wire::{
    FieldDescription, SamplingDescription, SamplingScope, SessionDescription, TemplateDescription, Transport, Version,
    describe,
};

fn described(bench: &mut Bench) -> Vec<SessionDescription> {
    bench.decoder.take_changes().iter().map(|state| describe(state).unwrap()).collect()
}

fn field(
    enterprise: u32,
    element: u16,
    name: Option<&'static str>,
    length: u16,
    field: Option<Field>,
) -> FieldDescription {
    let length = Some(length).filter(|&length| length != 65_535);
    FieldDescription { enterprise, element, name: name.map(Into::into), length, field }
}

#[test]
fn templates_are_told_with_the_names_of_their_fields_and_what_they_feed() {
    let mut bench = Bench::new();
    let fields = [(8, 4, 0), (371, 65_535, 0), (9_268, 4, 9), (1, 8, 29_305), (21, 4, 0), (32_000, 2, 0)];
    bench.decode(&ipfix(1).template(300, &fields).options_template(299, &[(149, 4, 0)], &iana(&[(82, 16)])).bytes());
    let data = vec![
        field(0, 8, Some("sourceIPv4Address"), 4, Some(Field::SrcIp)),
        field(0, 371, Some("userName"), 65_535, None),
        field(9, 9_268, Some("clientRetransPackets"), 4, None),
        field(29_305, 1, Some("reverseOctetDeltaCount"), 8, Some(Field::OutBytes)),
        field(0, 21, Some("flowEndSysUpTime"), 4, Some(Field::LastSeen)),
        field(0, 32_000, None, 2, None),
    ];
    let options =
        vec![field(0, 149, Some("observationDomainId"), 4, None), field(0, 82, Some("interfaceName"), 16, None)];
    assert_eq!(
        described(&mut bench),
        [SessionDescription {
            transport: Transport::Datagrams,
            source_port: 9_999,
            version: Version::Ipfix,
            observation_domain: 7,
            templates: vec![
                TemplateDescription { id: 299, scope: Some(1), fields: options },
                TemplateDescription { id: 300, scope: None, fields: data },
            ],
            sampling: vec![],
        }]
    );
}

#[test]
fn scopes_of_netflow_v9_options_are_types_and_no_elements() {
    let mut bench = Bench::new();
    bench.decode(&v9(1).options_template(300, &[(2, 4, 0), (9, 2, 0)], &iana(&[(34, 4), (57_590, 2)])).bytes());
    let sessions = described(&mut bench);
    let expected = [
        field(0, 2, Some("interface"), 4, None),
        field(0, 9, None, 2, None),
        field(0, 34, Some("samplingInterval"), 4, None),
        field(0, 57_590, Some("L7_PROTO"), 2, None),
    ];
    assert_eq!(sessions[0].templates[0].fields, expected);
    assert_eq!(sessions[0].templates[0].scope, Some(2));
}

#[test]
fn sampling_is_told_by_what_it_is_for() {
    let mut bench = Bench::new();
    let options = v9(1)
        .options_template(300, &[(1, 4, 0)], &iana(&[(34, 4)]))
        .options_template(301, &[(1, 4, 0)], &iana(&[(48, 1), (50, 4)]))
        .options_template(302, &[(2, 4, 0)], &iana(&[(34, 4)]));
    let options = options.data(300, &[[be(0, 4), be(100, 4)].concat()]);
    let options = options.data(301, &[[be(0, 4), be(3, 1), be(200, 4)].concat()]);
    bench.decode(&options.data(302, &[[be(9, 4), be(300, 4)].concat()]).bytes());
    let told = |scope, interval| SamplingDescription { scope, interval };
    let expected = [
        told(SamplingScope::Exporter, 100),
        told(SamplingScope::Sampler(3), 200),
        told(SamplingScope::Interface(9), 300),
    ];
    assert_eq!(described(&mut bench)[0].sampling, expected);
}

#[test]
fn states_that_are_damaged_or_of_a_later_release_describe_nothing_or_do_no_harm() {
    let mut bench = Bench::new();
    for (_, datagram) in fixtures::all() {
        bench.decode(&datagram);
    }
    for state in bench.decoder.take_changes() {
        assert_eq!(describe(&state).unwrap().templates.len(), state.templates as usize);
        for length in 0..state.state.len() {
            let mut cut = state.clone();
            cut.state.truncate(length);
            assert_eq!(describe(&cut), None, "cut at {length}");
        }
        for position in 0..state.state.len() {
            let mut changed = state.clone();
            changed.state[position] ^= 0xff;
            let _ = describe(&changed);
        }
        let mut unknown = state.clone();
        unknown.version = 6;
        assert_eq!(describe(&unknown), None);
    }
}

#[test]
fn headers_tell_how_far_the_exporters_clock_is_ahead() {
    let mut bench = Bench::new();
    for datagram in [v9(1).bytes(), ipfix(1).bytes()] {
        let at = |received| context_of(1, 9_999, received);
        assert_eq!(bench.decode_as(&at(NOW), &datagram).clock_offset_ms, Some(-2_000));
    }
    let again = bench.decode_as(&context_of(1, 9_999, NOW), &v9(1).bytes());
    assert_eq!((again.rejected.is_some(), again.clock_offset_ms), (true, None), "a duplicate tells nothing");
    // The header has nanoseconds, too.
    let earlier = i64::from(SECONDS) * SECOND - 60 * SECOND;
    assert_eq!(bench.decode_as(&context_of(1, 9_999, earlier), &v5(1, 1)).clock_offset_ms, Some(60_123));
}
