//! Random templates and records, decoded by the real decoder and a slow one.

use super::build::{Spec, ipfix, v9};
use super::mutate::compare;
use super::naive::{Naive, shown};
use super::{Bench, NOW, context_of};
use crate::flow::fields::Field;
use proptest::prelude::*;

const ELEMENTS: [u16; 14] = [1, 2, 4, 5, 6, 7, 8, 10, 11, 17, 28, 56, 4_000, 1];

fn spec(variable: bool) -> impl Strategy<Value = Spec> {
    let length = prop_oneof![
        8 => 1u16..9,
        2 => Just(4u16),
        2 => Just(16u16),
        1 => Just(6u16),
        1 => Just(0u16),
        1 => Just(50u16),
        if variable { 2 } else { 0 } => Just(65_535u16),
    ];
    let enterprise = prop_oneof![9 => Just(0u32), 1 => Just(29_306u32)];
    (proptest::sample::select(ELEMENTS.to_vec()), length, enterprise)
        .prop_map(move |(id, length, enterprise)| (id, length, if variable { enterprise } else { 0 }))
}

fn body(specs: &[Spec], random: &mut impl FnMut() -> u8) -> Vec<u8> {
    let mut out = Vec::new();
    for &(_, length, _) in specs {
        let mut length = usize::from(length);
        if length == 65_535 {
            length = usize::from(random()) + 40 * usize::from(random() % 2);
            if length < 255 && !random().is_multiple_of(4) {
                out.push(length as u8);
            } else {
                out.push(255);
                out.extend((length as u16).to_be_bytes());
            }
        }
        out.extend((0..length).map(|_| random()));
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_columns_hold_what_a_slow_decoder_reads(
        is_ipfix in any::<bool>(),
        templates in proptest::collection::vec(proptest::collection::vec(spec(true), 1..12), 1..4),
        counts in proptest::collection::vec((0usize..4, 1usize..6), 1..5),
        seed in any::<u64>(),
    ) {
        let templates: Vec<Vec<Spec>> = templates
            .into_iter()
            .map(|specs| {
                let fit = |(id, length, enterprise): Spec| if is_ipfix { (id, length, enterprise) } else { (id, length.min(60), 0) };
                specs.into_iter().map(fit).collect()
            })
            .collect();
        let mut state = seed | 1;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let mut message = if is_ipfix { ipfix(0) } else { v9(0) };
        for (index, specs) in templates.iter().enumerate() {
            message = message.template(256 + index as u16, specs);
        }
        for (which, count) in counts {
            let records: Vec<_> = (0..count)
                .map(|_| templates.get(which).map_or_else(Vec::new, |specs| body(specs, &mut random)))
                .collect();
            message = message.data(256 + which as u16, &records);
        }
        let datagram = message.bytes();
        let (mut bench, mut naive) = (Bench::new(), Naive::default());
        naive.decode(&datagram);
        let outcome = bench.decode_as(&context_of(1, 1, NOW), &datagram);
        compare(&outcome, &naive, "random");
        for (row, record) in naive.records.iter().enumerate() {
            for field in Field::ALL {
                let own = [Field::Received, Field::ExporterId, Field::ObservationDomain];
                if !own.contains(&field) {
                    prop_assert_eq!(bench.shown(field, row), shown(record, field), "{} in row {}", field.name(), row);
                }
            }
        }
    }

    #[test]
    fn any_bytes_at_all_are_accounted_for(
        version in prop_oneof![Just(1u8), Just(5), Just(7), Just(9), Just(10), any::<u8>()],
        mut bytes in proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(4), any::<u8>()], 0..200),
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
        blocks in proptest::collection::vec((0u8..6, 0u8..80, proptest::collection::vec(0u8..5, 0..80)), 0..6),
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
