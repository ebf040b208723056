//! NetFlow v1, v5 and v7 beside each other: the same records, as far as each version has room for them.

use super::build::{v1, v1_padded, v5, v7};
use super::{Bench, NOW, context_of, reasons};
use crate::flow::fields::Field;
use crate::wire::{ConfiguredSampling, Context, Loss, LossUnit, Reason, Version};

#[test]
fn v1_and_v7_records_are_those_of_v5_without_what_they_lack() {
    let mut bench = Bench::new();
    let long = v1_padded(3, 11);
    let sent = [(v5(77, 3), Version::V5), (v1(3), Version::V1), (v7(77, 3), Version::V7), (long, Version::V1)];
    for (datagram, version) in sent {
        let outcome = bench.decode(&datagram);
        assert_eq!((outcome.version, outcome.records, outcome.lost.count), (Some(version), 3, 0));
        assert_eq!(reasons(&outcome), []);
    }
    let in_v5 = bench.all(2);
    let lacks = |row: usize, lacked: &[Field]| {
        let expected: Vec<_> = in_v5.iter().filter(|(field, _)| !lacked.contains(field)).cloned().collect();
        let found: Vec<_> =
            bench.all(row).into_iter().filter(|(field, _)| *field != Field::ObservationDomain).collect();
        assert_eq!(found, expected);
        assert_eq!(bench.shown(Field::ObservationDomain, row), "0");
    };
    let engine = [Field::ObservationDomain, Field::SamplingInterval];
    lacks(8, &engine);
    for row in [5, 11] {
        lacks(row, &[&engine[..], &[Field::SrcAs, Field::DstAs, Field::SrcMask, Field::DstMask]].concat());
    }
}

#[test]
fn a_count_that_lies_rejects_all_or_nothing() {
    let cases = [
        (v1(24), 24, Ok(24)),
        (v1(29), 29, Ok(29)),
        (v1_padded(3, 8), 3, Err("count_lie")),
        (v1_padded(3, 11), 3, Ok(3)),
        (v1(3), 2, Err("count_lie")),
        (v1(3), 4, Err("count_lie")),
        (v1(0), 0, Err("count_lie")),
        (v7(0, 27), 27, Ok(27)),
        (v7(0, 28), 28, Ok(28)),
        (v7(0, 3), 2, Err("count_lie")),
        (v7(0, 3), 65_535, Err("count_lie")),
        (v7(0, 0), 0, Err("count_lie")),
    ];
    for (mut datagram, count, expected) in cases {
        datagram[2..4].copy_from_slice(&u16::to_be_bytes(count));
        let outcome = Bench::new().decode(&datagram);
        let found = if outcome.rejected.is_none() { Ok(outcome.records) } else { Err(reasons(&outcome)) };
        assert_eq!(found, expected.map_err(|reason| vec![(reason, 1)]), "{count}");
    }
}

#[test]
fn v7_counts_flows_and_v1_tells_no_loss() {
    let mut bench = Bench::new();
    assert_eq!(bench.decode(&v7(100, 5)).lost, Loss::none(LossUnit::Flows));
    assert_eq!(bench.decode(&v7(112, 5)).lost.count, 7);
    assert_eq!(bench.decode(&v7(105, 5)).lost.count, -5);
    assert_eq!(bench.decode(&v7(112, 5)).rejected, Some(Reason::Duplicate));
    // Without a number two equal datagrams may be two.
    for _ in 0..2 {
        let outcome = bench.decode(&v1(3));
        assert_eq!((outcome.records, outcome.lost.count, outcome.rejected), (3, 0, None));
    }
}

#[test]
fn the_sampling_interval_is_forced_told_or_configured() {
    let silent = {
        let mut datagram = v5(0, 1);
        datagram[22..24].copy_from_slice(&[0xc0, 0]);
        datagram
    };
    let modeless = {
        let mut datagram = v5(0, 1);
        datagram[22..24].copy_from_slice(&[0x3f, 0xff]);
        datagram
    };
    let cases = [
        (v5(0, 1), None, None, "100"),
        (v5(0, 1), None, Some(7), "100"),
        (v5(0, 1), Some(8), Some(7), "8"),
        (modeless, None, None, "16383"),
        (silent.clone(), None, None, ""),
        (silent, None, Some(7), "7"),
        (v1(1), None, None, ""),
        (v1(1), None, Some(7), "7"),
        (v7(0, 1), Some(8), None, "8"),
    ];
    for (datagram, forced, default, expected) in cases {
        let mut bench = Bench::new();
        let context = Context { sampling: ConfiguredSampling { forced, default }, ..context_of(1, 1, NOW) };
        bench.decode_as(&context, &datagram);
        assert_eq!(bench.shown(Field::SamplingInterval, 0), expected, "{forced:?} {default:?}");
    }
}
