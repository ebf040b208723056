//! What a datagram costs on its way through the journal: appending and reading batches of 64 datagrams of 1,400 bytes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark may stop at the first surprise"
)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use flowledger::clock::Timestamp;
use flowledger::journal::{self, Chunk, Datagram, Reader, Record, Settings, Transport, Writer};
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;
use tempfile::TempDir;

const BATCH: usize = 64;
const PAYLOAD: [u8; 1_400] = [0x5A; 1_400];

fn opened(directory: &TempDir) -> (Writer, Reader) {
    let directory = directory.path().to_owned();
    journal::open(Settings { directory, max_bytes: 1 << 30, ..Settings::default() }).expect("a journal")
}

fn batch() -> Vec<Record<'static>> {
    let source = SocketAddr::from(([192, 0, 2, 1], 2_055));
    let received = Timestamp::from_micros(1_795_392_000_000_000);
    vec![
        Record::Datagram(Datagram { received, source, listener: 0, transport: Transport::Datagram, payload: &PAYLOAD });
        BATCH
    ]
}

/// Reads what there is, looking at every payload's length, and releases it.
fn drain(reader: &mut Reader, chunk: &mut Chunk) -> usize {
    let mut seen = 0;
    let mut last = None;
    while reader.read(chunk, Duration::ZERO).expect("a chunk") > 0 {
        for (position, record) in chunk.iter() {
            last = Some(position);
            seen += usize::from(matches!(black_box(record), Record::Datagram(_)));
        }
    }
    if let Some(last) = last {
        reader.release(last).expect("released");
    }
    seen
}

fn journal(criterion: &mut Criterion) {
    let directory = TempDir::new().expect("a directory");
    let (writer, mut reader) = opened(&directory);
    let mut chunk = Chunk::default();
    let batch = batch();
    let mut group = criterion.benchmark_group("journal");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("append 64 x 1400 B", |bencher| {
        bencher.iter_batched(
            || drain(&mut reader, &mut chunk),
            |_| writer.append(&batch).expect("appended"),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("append and read 64 x 1400 B", |bencher| {
        bencher.iter(|| {
            writer.append(&batch).expect("appended");
            drain(&mut reader, &mut chunk)
        });
    });
    drain(&mut reader, &mut chunk);
    let start = reader.position();
    let batches = 1_024;
    for _ in 0..batches {
        writer.append(&batch).expect("appended");
    }
    group.throughput(Throughput::Elements((batches * BATCH) as u64));
    group.bench_function("read 65536 x 1400 B", |bencher| {
        bencher.iter(|| {
            reader.seek(start).expect("a position");
            let mut seen = 0;
            while reader.read(&mut chunk, Duration::ZERO).expect("a chunk") > 0 {
                seen += black_box(chunk.iter().count());
            }
            assert_eq!(seen, batches * BATCH);
        });
    });
    group.finish();
    assert_eq!(writer.metrics().dropped.get(), 0);
}

criterion_group!(benches, journal);
criterion_main!(benches);
