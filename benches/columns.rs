//! How fast segments are made and read, and how many bytes a flow takes.
//!
//! One core, 20 fields of realistic flows. `encode` is what ingest and keep do, `decode/all` what an export of flows
//! needs, `decode/top` what the largest downloaders need. Bytes a flow are printed first.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark may stop at the first surprise"
)]

mod realistic;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flowledger::columns::{Decoder, Encoder};
use flowledger::flow::batch::Column;
use flowledger::flow::fields::Field;
use std::hint::black_box;

const TOP: [Field; 5] = [Field::DstIp, Field::InBytes, Field::InPackets, Field::FirstSeen, Field::LastSeen];

fn columns(criterion: &mut Criterion) {
    for rows in [65_536, 4_096, 256] {
        let batch = realistic::flows(7, rows);
        let mut group = criterion.benchmark_group(format!("columns/{rows}"));
        group.throughput(Throughput::Elements(rows as u64));
        for level in [0, 4, 8] {
            let mut encoder = Encoder::new(level);
            let segment = encoder.encode(&batch, 0..rows).expect("realistic flows");
            let bytes: usize = segment.columns.iter().map(|(_, block)| block.len()).sum();
            eprintln!("{rows} flows at level {level}: {:.2} bytes a flow", bytes as f64 / rows as f64);
            group.bench_function(BenchmarkId::new("encode", level), |bencher| {
                bencher.iter(|| encoder.encode(black_box(&batch), 0..rows));
            });
            let mut decoder = Decoder::default();
            let mut columns = Field::ALL.map(|field| Column::new(field.kind()));
            for (name, wanted) in [("decode/all", Field::ALL.as_slice()), ("decode/top", &TOP)] {
                group.bench_function(BenchmarkId::new(name, level), |bencher| {
                    bencher.iter(|| {
                        for (field, block) in segment.columns.iter().filter(|(field, _)| wanted.contains(field)) {
                            let column = &mut columns[field.index()];
                            decoder.decode_into(*field, black_box(block), rows, column).expect("a fresh block");
                        }
                    });
                });
            }
        }
    }
}

criterion_group!(benches, columns);
criterion_main!(benches);
