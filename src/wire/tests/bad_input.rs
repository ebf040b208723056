//! Bad input, row by row: what is counted, and that the good beside it is kept.

use super::build::{be, iana, ipfix, v1, v5, v7, v9};
use super::build_sflow::rich;
use super::{Bench, NOW, context_of, reasons};
use crate::flow::fields::Field;
use crate::wire::{Limits, Reason, Version, recognise};

pub(super) const GOOD: [(u16, u16); 2] = [(8, 4), (1, 4)];

pub(super) fn good_record() -> Vec<u8> {
    [be(0x0a00_0001, 4), be(77, 4)].concat()
}

/// Template 999 and one record of it.
pub(super) fn and_good(message: super::build::Message) -> Vec<u8> {
    message.template(999, &iana(&GOOD)).data(999, &[good_record()]).bytes()
}

#[test]
fn datagrams_are_recognised_or_refused_by_their_headers() {
    let v9_header = v9(0).bytes();
    let ipfix_header = ipfix(0).bytes();
    let cases: Vec<(Vec<u8>, Result<Version, Reason>)> = vec![
        (vec![], Err(Reason::TooShort)),
        (vec![0], Err(Reason::TooShort)),
        (vec![0, 9], Err(Reason::TooShort)),
        (v9_header[..19].to_vec(), Err(Reason::TooShort)),
        (v9_header, Ok(Version::V9)),
        (ipfix_header[..15].to_vec(), Err(Reason::TooShort)),
        (ipfix_header, Ok(Version::Ipfix)),
        (v5(0, 1)[..23].to_vec(), Err(Reason::TooShort)),
        (v5(0, 1), Ok(Version::V5)),
        (vec![0, 8, 0, 0], Err(Reason::UnknownVersion)),
        (vec![0, 0, 0, 4, 0, 0, 0, 1], Err(Reason::UnknownVersion)),
        (vec![0, 0, 0, 5, 0, 0, 0, 3], Err(Reason::UnknownVersion)),
        (vec![0, 0, 0, 5], Err(Reason::TooShort)),
        (rich(0)[..27].to_vec(), Err(Reason::TooShort)),
        (rich(0), Ok(Version::Sflow)),
        (v1(1), Ok(Version::V1)),
        (v7(0, 1), Ok(Version::V7)),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), Err(Reason::UnknownVersion)),
    ];
    for (datagram, expected) in cases {
        assert_eq!(recognise(&datagram), expected, "{datagram:?}");
        let mut bench = Bench::new();
        let outcome = bench.decode(&datagram);
        assert_eq!(outcome.rejected, expected.err(), "{datagram:?}");
    }
}

#[test]
fn a_v5_count_that_lies_rejects_all_or_nothing() {
    for (count, records) in [(0u16, 30), (31, 31), (65_535, 30), (30, 29), (29, 30), (1, 2), (0, 0)] {
        let mut datagram = v5(0, records);
        datagram[2..4].copy_from_slice(&count.to_be_bytes());
        let outcome = Bench::new().decode(&datagram);
        assert_eq!((outcome.records, reasons(&outcome)), (0, vec![("count_lie", 1)]), "{count} with {records}");
    }
}

#[test]
fn an_ipfix_length_other_than_the_datagrams_discards_the_message() {
    let datagram = and_good(ipfix(0));
    for length in 0..=u16::MAX {
        let mut lie = datagram.clone();
        lie[2..4].copy_from_slice(&length.to_be_bytes());
        let outcome = Bench::new().decode(&lie);
        if usize::from(length) == datagram.len() {
            assert_eq!((outcome.records, reasons(&outcome)), (1, vec![]));
        } else {
            assert_eq!((outcome.records, reasons(&outcome)), (0, vec![("length_mismatch", 1)]), "{length}");
        }
    }
}

#[test]
fn set_lengths_that_lie_are_counted_and_padding_is_not() {
    for message in [v9(0), ipfix(0)] {
        let body = good_record();
        let message = message.template(999, &iana(&GOOD));
        for length in 0..=3 {
            let outcome = Bench::new().decode(&message.clone().raw_set(999, length, &body).bytes());
            assert_eq!((outcome.records, outcome.counts.get(Reason::SetLength)), (0, 1), "{length}");
        }
        for length in 4..=16 {
            let outcome = Bench::new().decode(&message.clone().raw_set(999, length, &body).bytes());
            let counts =
                [Reason::SetOverrun, Reason::SetLength, Reason::SetReserved].map(|reason| outcome.counts.get(reason));
            let expected = match length {
                // What is left of the record is read as a set of its own, or cannot be.
                4 | 8 => continue,
                12 => (1, [0, 0, 0]),
                13.. => (0, [1, 0, 0]),
                _ => continue,
            };
            assert_eq!((outcome.records, counts), expected, "{length}");
        }
        for padding in 0..8 {
            let mut padded = body.clone();
            padded.resize(body.len() + padding.min(7), 0);
            let outcome = Bench::new().decode(&message.clone().set(999, &padded).bytes());
            let count = outcome.counts.get(Reason::Suspect);
            assert_eq!((outcome.records, count), (1, 0), "{padding} bytes of padding");
        }
        let mut odd = body.clone();
        odd.push(1);
        let outcome = Bench::new().decode(&message.clone().set(999, &odd).bytes());
        assert_eq!((outcome.records, outcome.counts.get(Reason::Suspect)), (1, 1));
        let outcome = Bench::new().decode(&message.clone().set(999, &[1, 2, 3]).bytes());
        assert_eq!((outcome.records, outcome.counts.get(Reason::SetOverrun)), (0, 1));
        let outcome = Bench::new().decode(&and_good(message.clone().set(255, &[1, 2, 3, 4])));
        assert_eq!((outcome.records, outcome.counts.get(Reason::SetReserved)), (1, 1));
    }
    // A large datagram with a zero-filled tail has exactly its records.
    let mut filled = and_good(v9(0));
    filled.resize(1_400, 0);
    let outcome = Bench::new().decode(&filled);
    assert_eq!((outcome.records, reasons(&outcome)), (1, vec![]));
}

#[test]
fn zero_size_templates_are_counted_and_void_the_old_ones() {
    let zero = [(4, 0, 0), (4_000, 0, 0)];
    for (message, empty) in [(v9(0), "template_zero"), (ipfix(0), "withdrawal")] {
        for options in [false, true] {
            let start = message.clone().template(256, &iana(&GOOD));
            let none =
                if options { start.clone().options_template(256, &[], &[]) } else { start.clone().template(256, &[]) };
            let outcome = Bench::new().decode(&and_good(none.data(256, &[good_record()])));
            // A withdrawal over UDP is ignored, so the old template still decodes.
            let (records, missing) = if empty == "withdrawal" { (2, 0) } else { (1, 1) };
            assert_eq!((outcome.records, outcome.counts.get(Reason::Parked)), (records, missing), "{empty} {options}");
            assert!(reasons(&outcome).contains(&(empty, 1)), "{empty} {options} {:?}", reasons(&outcome));
            let all =
                if options { start.options_template(256, &zero[..1], &zero[1..]) } else { start.template(256, &zero) };
            let outcome = Bench::new().decode(&and_good(all.data(256, &[good_record()])));
            assert_eq!((outcome.records, outcome.counts.get(Reason::Parked)), (1, 1));
            assert_eq!(outcome.counts.get(Reason::TemplateZero), 1);
        }
    }
}

#[test]
fn field_counts_that_lie_take_no_memory_and_void_the_old_template() {
    for message in [v9(0), ipfix(0)] {
        let set = message.template_set();
        for count in [3u16, 5, 65_532, 65_535] {
            let body = [be(256, 2), be(count.into(), 2), vec![0, 8, 0, 4, 0, 1, 0, 4]].concat();
            let lie = message.clone().template(256, &iana(&GOOD)).set(set, &body).data(256, &[good_record()]);
            let mut bench = Bench::new();
            let outcome = bench.decode(&and_good(lie));
            assert_eq!((outcome.records, outcome.counts.get(Reason::TemplateInvalid)), (1, 1), "{count}");
            assert_eq!(outcome.counts.get(Reason::Parked), 1);
            assert!(bench.decoder.fields.capacity() <= 64, "memory for fields that are not there");
        }
        for short in 1..8 {
            let outcome = Bench::new().decode(&and_good(message.clone().set(set, &[1; 8][..short])));
            assert_eq!((outcome.records, outcome.counts.get(Reason::TemplateInvalid)), (1, 1), "{short}");
        }
        for id in [1u8, 255] {
            let outcome = Bench::new().decode(&and_good(message.clone().set(set, &[0, id, 0, 1, 0, 8, 0, 4])));
            assert_eq!((outcome.records, outcome.counts.get(Reason::TemplateInvalid)), (1, 1), "id {id}");
        }
    }
}

#[test]
fn options_templates_that_lie_are_counted() {
    // v9: scope and option lengths in bytes, not multiples of four, past the set. IPFIX: more scopes than fields.
    for (scope, rest) in [(3u64, 4u64), (4, 6), (400, 4), (65_535, 65_535)] {
        let body = [be(300, 2), be(scope, 2), be(rest, 2), vec![0, 1, 0, 4, 0, 34, 0, 4]].concat();
        let outcome = Bench::new().decode(&and_good(v9(0).set(1, &body)));
        assert_eq!((outcome.records, outcome.counts.get(Reason::TemplateInvalid)), (1, 1), "{scope} {rest}");
    }
    for (count, scope) in [(2u64, 3u64), (200, 1), (65_535, 1)] {
        let body = [be(300, 2), be(count, 2), be(scope, 2), vec![0, 1, 0, 4, 0, 34, 0, 4]].concat();
        let outcome = Bench::new().decode(&and_good(ipfix(0).set(3, &body)));
        assert_eq!((outcome.records, outcome.counts.get(Reason::TemplateInvalid)), (1, 1), "{count} {scope}");
    }
    // A scope field of no length, as Juniper's, is fine.
    let message = v9(0).options_template(300, &[(1, 0, 0)], &iana(&[(34, 4)])).data(300, &[be(100, 4)]);
    let outcome = Bench::new().decode(&message.bytes());
    assert_eq!((outcome.options_records, reasons(&outcome)), (1, vec![]));
}

#[test]
fn the_sentinel_of_variable_length_is_not_valid_in_v9() {
    let (fine, varying) = (iana(&[(1, 4)]), iana(&[(371, 65_535)]));
    let messages = [
        v9(0).template(256, &varying),
        v9(0).template(256, &[&fine[..], &varying].concat()),
        v9(0).options_template(256, &varying, &fine),
        v9(0).options_template(256, &fine, &varying),
    ];
    for message in messages {
        let outcome = Bench::new().decode(&and_good(message.data(256, &[vec![1; 8]])));
        let counts = [Reason::TemplateInvalid, Reason::Parked].map(|reason| outcome.counts.get(reason));
        assert_eq!((outcome.records, counts), (1, [1, 1]));
    }
}

#[test]
fn every_width_of_every_known_field_is_read_or_left_unset() {
    for width in (0..=40).chain([50, 255, 256, 1_000, 65_534, 65_535]) {
        for (id, field, widths) in [
            (8, Field::SrcIp, vec![4]),
            (28, Field::DstIp, vec![16]),
            (56, Field::InSrcMac, vec![6]),
            (22, Field::FirstSeen, vec![4]),
            (153, Field::LastSeen, vec![8]),
            (32, Field::IcmpType, vec![2]),
            (1, Field::InBytes, (1..=8).collect()),
            (4, Field::Protocol, (1..=8).collect()),
        ] {
            if width == 65_535 {
                continue;
            }
            let record = [vec![1; width], be(9, 2)].concat();
            let mut bench = Bench::new();
            let specs = iana(&[(id, width as u16), (11, 2)]);
            let mut message = v9(0).template(256, &specs);
            if width < 60_000 {
                message = message.data(256, &[record]);
            }
            let outcome = bench.decode(&message.bytes());
            if width >= 60_000 {
                continue;
            }
            let possible = widths.contains(&width);
            assert_eq!(bench.shown(Field::DstPort, 0), "9");
            assert_eq!(!bench.shown(field, 0).is_empty(), possible, "element {id} of {width} bytes");
            assert_eq!(outcome.counts.get(Reason::FieldWidth) > 0, !possible, "element {id} of {width} bytes");
        }
    }
}

#[test]
fn variable_lengths_that_overrun_drop_the_rest_of_their_set_only() {
    let specs = [(8, 4, 0), (371, 65_535, 0)];
    let whole = [be(1, 4), vec![2, 7, 7]].concat();
    for broken in [vec![255], vec![255, 255], vec![255, 255, 255], vec![255, 0], vec![200, 1], vec![9; 9]] {
        let record = [be(2, 4), broken.clone()].concat();
        let body = [whole.clone(), whole.clone(), record].concat();
        let outcome = Bench::new().decode(&and_good(ipfix(0).template(256, &specs).set(256, &body)));
        let counts = (outcome.records, outcome.counts.get(Reason::VarlenOverrun));
        assert_eq!(counts, (3, 1), "{broken:?}");
    }
}

#[test]
fn templates_are_replaced_and_one_identifier_has_one_meaning() {
    for message in [v9(0), ipfix(0)] {
        let data = |message: super::build::Message| message.data(256, &[good_record()]);
        let other = iana(&[(1, 4), (8, 4)]);
        let mut bench = Bench::new();
        let old = data(message.clone().template(256, &iana(&GOOD)));
        let new = data(old.template(256, &iana(&GOOD)).template(256, &other));
        let outcome = bench.decode(&new.bytes());
        assert_eq!((outcome.records, outcome.templates), (2, 3));
        assert_eq!(outcome.counts.get(Reason::TemplateChanged), 1, "the same layout again is no change");
        assert_eq!([0, 1].map(|row| bench.shown(Field::InBytes, row)), ["77", "167772161"]);
        let last_is_options = data(message.clone().template(256, &other).options_template(256, &[], &iana(&GOOD)));
        let outcome = Bench::new().decode(&last_is_options.bytes());
        assert_eq!((outcome.records, outcome.options_records), (0, 1));
        let last_is_data = data(message.clone().options_template(256, &[], &other).template(256, &iana(&GOOD)));
        let outcome = Bench::new().decode(&last_is_data.bytes());
        assert_eq!((outcome.records, outcome.options_records), (1, 0));
    }
}

#[test]
fn a_withdrawal_of_all_is_ignored_too() {
    let message = ipfix(0).template(256, &iana(&GOOD)).set(2, &[0, 2, 0, 0]).set(3, &[0, 3, 0, 0]);
    let outcome = Bench::new().decode(&message.data(256, &[good_record()]).bytes());
    assert_eq!((outcome.records, reasons(&outcome)), (1, vec![("withdrawal", 2)]));
}

#[test]
fn the_v9_count_is_only_compared() {
    let mut message = v9(0).template(256, &iana(&GOOD)).data(256, &[good_record(), good_record()]);
    assert_eq!(reasons(&Bench::new().decode(&message.bytes())), []);
    for count in [0, 1, 2, 4, 65_535] {
        message.count = count;
        let outcome = Bench::new().decode(&message.bytes());
        assert_eq!((outcome.records, reasons(&outcome)), (2, vec![("count_differs", 1)]));
    }
}

#[test]
fn sessions_with_the_same_identifiers_stay_apart() {
    let template =
        |message: super::build::Message, order: [(u16, u16); 2]| message.template(256, &iana(&order)).bytes();
    let (one, two) = (GOOD, [(1, 4), (8, 4)]);
    // Exporter, port and domain each make a session of their own, with its own layout.
    let sessions = [(1, 10, 7), (2, 10, 7), (1, 11, 7), (1, 10, 8)];
    for is_ipfix in [false, true] {
        let mut bench = Bench::new();
        let message = |sequence, domain| {
            let mut message = if is_ipfix { ipfix(sequence) } else { v9(sequence) };
            message.domain = domain;
            message
        };
        for (index, (exporter, port, domain)) in sessions.into_iter().enumerate() {
            let order = if index % 2 == 0 { one } else { two };
            bench.decode_as(&context_of(exporter, port, NOW), &template(message(0, domain), order));
        }
        for (index, (exporter, port, domain)) in sessions.into_iter().enumerate() {
            let data = message(u32::from(!is_ipfix), domain).data(256, &[good_record()]).bytes();
            let outcome = bench.decode_as(&context_of(exporter, port, NOW), &data);
            assert_eq!(outcome.records, 1);
            let expected = if index % 2 == 0 { "77" } else { "167772161" };
            assert_eq!(bench.shown(Field::InBytes, index), expected, "session {index}");
        }
    }
}

#[test]
fn v9_data_from_another_port_finds_the_only_sessions_template() {
    let data = |sequence| v9(sequence).data(256, &[good_record()]).bytes();
    let mut bench = Bench::new();
    bench.decode_as(&context_of(1, 10, NOW), &v9(0).template(256, &iana(&GOOD)).bytes());
    assert_eq!(bench.decode_as(&context_of(1, 11, NOW), &data(1)).records, 1);
    assert_eq!(bench.decode_as(&context_of(2, 11, NOW), &data(1)).records, 0, "another exporter");
    // Now there are two others, and which one is meant cannot be known.
    assert_eq!(bench.decode_as(&context_of(1, 12, NOW), &data(1)).records, 0);
    let mut bench = Bench::new();
    bench.decode_as(&context_of(1, 10, NOW), &ipfix(0).template(256, &iana(&GOOD)).bytes());
    let outcome = bench.decode_as(&context_of(1, 11, NOW), &ipfix(0).data(256, &[good_record()]).bytes());
    assert_eq!(outcome.counts.get(Reason::Parked), 1, "IPFIX says by port");
}

#[test]
fn one_datagram_yields_no_more_records_than_the_limit() {
    let mut bench = Bench::with(Limits { records_per_datagram: 100, ..Limits::default() });
    let template = ipfix(0).template(256, &iana(&[(4, 1)]));
    let message = template.set(256, &[6; 60]).set(256, &[17; 65_000]);
    let outcome = bench.decode(&message.bytes());
    assert_eq!((outcome.records, outcome.counts.get(Reason::OutputLimit)), (100, 64_960));
    let next = ipfix(65_060).data(256, &[vec![6; 4]]).bytes();
    assert_eq!(bench.decode(&next).lost.count, 0, "the sequence counts what was not kept, too");
}
