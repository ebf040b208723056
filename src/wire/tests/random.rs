//! Random templates and records, decoded by the real decoder and a slow one.

use super::build::{Message, Spec, be, ipfix, v9};
use super::mutate::compare;
use super::naive::{Naive, shown};
use super::{Bench, NOW, SECONDS, context_of};
use crate::flow::fields::Field;
use proptest::collection::vec;
use proptest::prelude::*;

/// What [`shown`] knows, with usual lengths.
const ELEMENTS: [Spec; 14] = [
    (1, 8, 0),
    (2, 4, 0),
    (4, 1, 0),
    (5, 1, 0),
    (6, 2, 0),
    (7, 2, 0),
    (8, 4, 0),
    (10, 4, 0),
    (11, 2, 0),
    (17, 4, 0),
    (28, 16, 0),
    (56, 6, 0),
    (4_000, 3, 0),
    (1, 4, 0),
];

/// A field of a template: half of them have another length than usual, some are of an unknown enterprise.
fn spec(elements: &'static [Spec]) -> impl Strategy<Value = Spec> {
    let length = prop_oneof![
        8 => 1u16..9,
        2 => Just(4u16),
        2 => Just(16u16),
        1 => Just(6u16),
        1 => Just(0u16),
        1 => Just(50u16),
        2 => Just(65_535u16),
    ];
    let length = prop_oneof![Just(None), length.prop_map(Some)];
    let enterprise = prop_oneof![9 => Just(None), 1 => Just(Some(29_306u32))];
    (proptest::sample::select(elements), length, enterprise)
        .prop_map(|((id, usual, own), length, enterprise)| (id, length.unwrap_or(usual), enterprise.unwrap_or(own)))
}

/// A moment that is plausible, starts (whose numbers are even) before ends; `None` for other elements and widths.
fn moment(id: u16, length: u16, random: &mut impl FnMut() -> u8) -> Option<Vec<u8>> {
    let ago = u64::from(random() % 50) + if id.is_multiple_of(2) { 50 } else { 0 };
    let then = u64::from(SECONDS) - ago;
    let fraction = u64::from(random());
    Some(match (id, length) {
        (21 | 22, 4) => be(100_000 - 1_000 * ago, 4),
        (150 | 151, 4) => be(then, 4),
        (152 | 153, 8) => be(1_000 * then + fraction, 8),
        (154..=157, 8) => be((then + 2_208_988_800) << 32 | fraction << 24 | fraction, 8),
        (158 | 159, 4) => be(1_000_000 * ago + fraction, 4),
        _ => return None,
    })
}

/// A record. `least` is the length of the shortest value of variable length.
fn body(specs: &[Spec], least: usize, random: &mut impl FnMut() -> u8) -> Vec<u8> {
    let mut out = Vec::new();
    for &(id, length, enterprise) in specs {
        let mut length = usize::from(length);
        if length == 65_535 {
            length = least.max(usize::from(random()) + 40 * usize::from(random() % 2));
            if length < 255 && !random().is_multiple_of(4) {
                out.push(length as u8);
            } else {
                out.push(255);
                out.extend((length as u16).to_be_bytes());
            }
        }
        match moment(id, length as u16, random).filter(|_| enterprise == 0) {
            Some(bytes) => out.extend(bytes),
            // Addresses that are zero give way to others.
            None if random() < 20 => out.extend(vec![0; length]),
            None => out.extend((0..length).map(|_| random())),
        }
    }
    out
}

/// Whether options or flows, and fields.
type Definition = (bool, Vec<Spec>);
/// What a message defines, and its sets: which definition, by its number, and how many records.
type Contents = (Vec<Definition>, Vec<(usize, usize)>);

/// Makes a template that the protocol can have; a `strict` one describes some byte with each of its fields.
fn fit(is_ipfix: bool, strict: bool, specs: &mut [Spec]) {
    for (_, length, enterprise) in specs {
        if !is_ipfix {
            (*length, *enterprise) = ((*length).min(60), 0);
        }
        *length = (*length).max(u16::from(strict));
    }
}

/// The messages of an exporter of v9 or IPFIX, in order: templates of flows and options that come and change, sets of data,
/// some of them without a template. `strict` exporters leave out what RFC 7011 allows or forbids less than clearly: fields
/// and values without a byte, and padding as long as a record.
pub(super) fn messages(elements: &'static [Spec], strict: bool) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let definition = (proptest::bool::weighted(0.2), vec(spec(elements), 1..12));
    let message = (vec(definition, 0..4), vec((0usize..4, 1usize..6), 1..5));
    (any::<bool>(), vec(message, 1..4), any::<u64>()).prop_map(move |(is_ipfix, contents, seed)| {
        let mut state = seed | 1;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let mut known: Vec<Definition> = Vec::new();
        let mut build = |(sequence, (definitions, sets)): (usize, Contents)| {
            let mut message = if is_ipfix { ipfix(sequence as u32) } else { v9(sequence as u32) };
            for (index, (options, mut specs)) in definitions.into_iter().enumerate() {
                fit(is_ipfix, strict, &mut specs);
                let id = 256 + index as u16;
                message = if options {
                    message.options_template(id, &[(1, 4, 0)], &specs)
                } else {
                    message.template(id, &specs)
                };
                known.splice(index..known.len().min(index + 1), [(options, specs)]);
            }
            for (which, count) in sets {
                message = data(message, which, known.get(which), count, strict, &mut random);
            }
            message.bytes()
        };
        contents.into_iter().enumerate().map(&mut build).collect()
    })
}

fn data(
    message: Message,
    which: usize,
    definition: Option<&Definition>,
    count: usize,
    strict: bool,
    random: &mut impl FnMut() -> u8,
) -> Message {
    let id = 256 + which as u16;
    let Some((options, specs)) = definition else { return message.data(id, &vec![Vec::new(); count]) };
    let record = |_| {
        let scope = if *options { vec![7; 4] } else { Vec::new() };
        [scope, body(specs, usize::from(strict), random)].concat()
    };
    let records: Vec<_> = (0..count).map(record).collect();
    let varies = |spec: &&Spec| spec.1 == 65_535;
    let shortest: usize = specs.iter().map(|spec| if varies(&spec) { 1 } else { usize::from(spec.1) }).sum();
    if strict && shortest < 4 && specs.iter().any(|spec| varies(&spec)) {
        message.set(id, &records.concat())
    } else {
        message.data(id, &records)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_columns_hold_what_a_slow_decoder_reads(messages in messages(&ELEMENTS, false)) {
        let (mut bench, mut naive) = (Bench::new(), Naive::default());
        for datagram in messages {
            let before = bench.batch.rows();
            naive.decode(&datagram);
            let outcome = bench.decode_as(&context_of(1, 1, NOW), &datagram);
            compare(&outcome, &naive, "random");
            for (row, record) in naive.records.iter().enumerate() {
                for field in Field::ALL {
                    let own = [Field::Received, Field::ExporterId, Field::ObservationDomain];
                    if !own.contains(&field) {
                        let ours = bench.shown(field, before + row);
                        prop_assert_eq!(ours, shown(record, field), "{} in row {}", field.name(), row);
                    }
                }
            }
        }
    }

    #[test]
    fn any_bytes_at_all_are_accounted_for(
        version in prop_oneof![Just(1u8), Just(5), Just(7), Just(9), Just(10), any::<u8>()],
        mut bytes in vec(prop_oneof![Just(0u8), Just(1), Just(4), any::<u8>()], 0..200),
    ) {
        bytes.splice(0..0, [0, version]);
        if version == 10 && bytes.len() >= 4 {
            let length = (bytes.len() as u16).to_be_bytes();
            bytes[2..4].copy_from_slice(&length);
        }
        let (mut bench, mut naive) = (Bench::new(), Naive::default());
        naive.decode(&bytes);
        let outcome = bench.decode(&bytes);
        compare(&outcome, &naive, "any bytes");
    }

    #[test]
    fn any_samples_at_all_are_accounted_for(
        kind in 0u8..4,
        count in 0u8..8,
        blocks in vec((0u8..6, 0u8..80, vec(0u8..5, 0..80)), 0..6),
    ) {
        let address = vec![1; [0, 4, 16, 0][usize::from(kind)]];
        let mut bytes = [&[0, 0, 0, 5, 0, 0, 0, kind][..], &address, &[0; 15], &[count]].concat();
        for (format, length, body) in blocks {
            bytes.extend([0, 0, 0, format, 0, 0, 0, if length < 60 { body.len() as u8 } else { length }]);
            bytes.extend(body);
        }
        let (mut bench, mut naive) = (Bench::new(), Naive::default());
        naive.decode(&bytes);
        let outcome = bench.decode(&bytes);
        compare(&outcome, &naive, "any samples");
    }
}
