//! How many flows a second one core decodes, by version, from datagrams as real exporters fill them.
//!
//! Each iteration decodes a burst of datagrams with ascending sequence numbers into one batch that is cleared and used
//! again, as the ingest pipeline does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark may stop at the first surprise"
)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flowledger::clock::Timestamp;
use flowledger::flow::batch::FlowBatch;
use flowledger::wire::{ConfiguredSampling, Context, Decoder, Limits, Transport};
use std::hint::black_box;

/// Export time in headers, seconds since 1970.
const SECONDS: u32 = 1_795_392_000;
/// Datagrams decoded into one batch.
const BURST: u32 = 100;

/// IPv4, 25 fields, as a Cisco router's v9 record: (element, length).
const V4: [(u16, u16); 25] = [
    (8, 4),
    (12, 4),
    (15, 4),
    (18, 4),
    (10, 4),
    (14, 4),
    (2, 4),
    (1, 4),
    (22, 4),
    (21, 4),
    (7, 2),
    (11, 2),
    (16, 4),
    (17, 4),
    (9, 1),
    (13, 1),
    (6, 1),
    (4, 1),
    (5, 1),
    (55, 1),
    (58, 2),
    (59, 2),
    (61, 1),
    (89, 1),
    (48, 1),
];
/// IPv6 with 64-bit counters and absolute times, 18 fields.
const V6: [(u16, u16); 18] = [
    (27, 16),
    (28, 16),
    (62, 16),
    (10, 4),
    (14, 4),
    (2, 8),
    (1, 8),
    (152, 8),
    (153, 8),
    (7, 2),
    (11, 2),
    (16, 4),
    (17, 4),
    (29, 1),
    (30, 1),
    (6, 2),
    (4, 1),
    (5, 1),
];

fn record(fields: &[(u16, u16)], number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for &(id, width) in fields {
        let value = match id {
            21 | 22 => 90_000 + number,
            152 | 153 => u64::from(SECONDS) * 1_000 - number,
            _ => number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - 8 * width.min(8)),
        };
        out.extend(std::iter::repeat_n(0x20, usize::from(width.saturating_sub(8))));
        out.extend(&value.to_be_bytes()[8 - usize::from(width.min(8))..]);
    }
    out
}

fn set(id: u16, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 4).unwrap_or(u16::MAX);
    [&id.to_be_bytes()[..], &length.to_be_bytes(), body].concat()
}

fn template(fields: &[(u16, u16)]) -> Vec<u8> {
    let mut body = vec![1, 0, 0, fields.len() as u8];
    for (id, width) in fields {
        body.extend(id.to_be_bytes());
        body.extend(width.to_be_bytes());
    }
    body
}

fn message(version: u16, sets: &[u8], records: u16) -> Vec<u8> {
    let length = if version == 9 { records } else { sets.len() as u16 + 16 };
    let mut out = [version.to_be_bytes(), length.to_be_bytes()].concat();
    if version == 9 {
        out.extend(100_000u32.to_be_bytes());
    }
    for number in [SECONDS, 0, 7] {
        out.extend(number.to_be_bytes());
    }
    out.extend(sets);
    out
}

/// A datagram of at most 1,400 bytes with its template sent before, or none.
fn templated(version: u16, fields: &[(u16, u16)]) -> (Option<Vec<u8>>, Vec<u8>, u32) {
    let length: usize = fields.iter().map(|field| usize::from(field.1)).sum();
    let records = (1_376 / length) as u16;
    let body: Vec<u8> = (0..records).flat_map(|number| record(fields, number.into())).collect();
    let template_set = if version == 9 { 0 } else { 2 };
    let definition = message(version, &set(template_set, &template(fields)), 1);
    (Some(definition), message(version, &set(256, &body), records), records.into())
}

fn v5() -> (Option<Vec<u8>>, Vec<u8>, u32) {
    let fields = [
        (8, 4),
        (12, 4),
        (15, 4),
        (10, 2),
        (14, 2),
        (2, 4),
        (1, 4),
        (22, 4),
        (21, 4),
        (7, 2),
        (11, 2),
        (0, 1),
        (6, 1),
        (4, 1),
        (5, 1),
        (16, 2),
        (17, 2),
        (9, 1),
        (13, 1),
        (0, 2),
    ];
    let mut out = vec![0, 5, 0, 30];
    for number in [100_000, SECONDS, 0, 0, 0] {
        out.extend(u32::to_be_bytes(number));
    }
    (0..30).for_each(|number| out.extend(record(&fields, number)));
    (None, out, 30)
}

/// An sFlow datagram of a switch: 6 samples, each with the first 128 bytes of a packet in a VLAN, half of them IPv6.
fn sflow() -> (Option<Vec<u8>>, Vec<u8>, u32) {
    let words = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
    let mut out = words(&[5, 1, 0xc000_0201, 0, 0, 100_000, 6]);
    for number in 0..6u32 {
        let mut packet = words(&[0x0200_0000, 0x0001_0200, 0x0000_0002, 0x8100_0064]);
        if number % 2 == 0 {
            packet.extend([8, 0, 0x45, 0, 5, 0xdc, 0, 0, 0x40, 0, 63, 6, 0, 0]);
            packet.extend(words(&[0x0a00_0000 + number, 0xc0a8_0000 + number]));
        } else {
            packet.extend([0x86, 0xdd, 0x60, 0, 0, 0, 5, 0xb4, 17, 62]);
            packet.extend(words(&[0x2001_0db8, 0, 0, number, 0x2001_0db8, 1, 0, number]));
        }
        packet.extend([0x01, 0xbb, 0xc0, number as u8]);
        packet.extend(words(&[1, 2, 0x5010_0100]));
        packet.resize(128, 0);
        let switch = words(&[1_001, 16, 100, 0, 200, 0]);
        let header = [words(&[1, 144, 1, 1_522, 4, 128]), packet].concat();
        let head = words(&[number, 5, 1_024, 102_400, 0, 5, 6, 2]);
        let body = [head, header, switch].concat();
        out.extend(words(&[1, body.len() as u32]));
        out.extend(body);
    }
    (None, out, 6)
}

fn decode(criterion: &mut Criterion) {
    let cases = [
        ("v5, 30 records", 16, 30, v5()),
        ("v9 IPv4, 25 fields", 12, 1, templated(9, &V4)),
        ("v9 IPv6, 18 fields", 12, 1, templated(9, &V6)),
        ("IPFIX IPv4, 25 fields", 8, 0, templated(10, &V4)),
        ("IPFIX IPv6, 18 fields", 8, 0, templated(10, &V6)),
        ("sflow, 6 samples", 16, 1, sflow()),
    ];
    let source = ([192, 0, 2, 1], 9_999).into();
    let received = Timestamp::from_micros(i64::from(SECONDS) * 1_000_000);
    let context = Context {
        received,
        exporter_id: 1,
        source,
        transport: Transport::Datagrams,
        sampling: ConfiguredSampling::default(),
    };
    let mut group = criterion.benchmark_group("decode");
    for (name, sequence_at, step, (definition, mut datagram, records)) in cases {
        let mut decoder = Decoder::new(Limits::default());
        let mut batch = FlowBatch::default();
        if let Some(definition) = definition {
            decoder.decode(&context, &definition, &mut batch);
        }
        let step = if step == 0 { records } else { step };
        let mut sequence = u32::from(step == 1);
        group.throughput(Throughput::Elements(u64::from(records * BURST)));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                batch.clear();
                for _ in 0..BURST {
                    datagram[sequence_at..sequence_at + 4].copy_from_slice(&sequence.to_be_bytes());
                    sequence = sequence.wrapping_add(step);
                    let outcome = decoder.decode(&context, &datagram, &mut batch);
                    assert_eq!((outcome.records, outcome.lost.count), (records, 0), "{:?}", outcome.rejected);
                }
                black_box(batch.rows())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
