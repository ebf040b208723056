//! How fast segments are scanned for the largest groups, from encoded blocks in memory, on one core.
//!
//! `dst_ip` is the main question: the local hosts that downloaded most. `src_ip` has a million remote hosts to count.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark may stop at the first surprise"
)]

mod realistic;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flowledger::clock::Timestamp;
use flowledger::columns::Encoder;
use flowledger::filter;
use flowledger::flow::fields::Dimension;
use flowledger::flow::segment::Segment;
use flowledger::query::scan::TopScan;
use flowledger::query::{Counters, Order, TopRequest, Window};
use std::hint::black_box;

const SEGMENTS: usize = 64;
const ROWS: usize = 65_536;

fn segments(level: usize) -> Vec<Segment> {
    let mut encoder = Encoder::new(level);
    let encode = |seed| encoder.encode(&realistic::flows(seed as u64, ROWS), 0..ROWS).expect("realistic flows");
    (0..SEGMENTS).map(encode).collect()
}

fn request(by: &[&str], filter: &str) -> TopRequest {
    let window = Window { from: Timestamp::default(), to: Timestamp::from_micros(i64::MAX), zone: chrono_tz::Tz::UTC };
    TopRequest {
        window,
        by: by.iter().map(|name| Dimension::parse(name).expect("a dimension")).collect(),
        order: Order::Bytes,
        limit: 10,
        filter: (!filter.is_empty()).then(|| filter::parse(filter).expect("a filter")),
        counters: Counters::Scaled,
    }
}

fn scan(criterion: &mut Criterion) {
    for level in [0, 4] {
        let segments = segments(level);
        let mut group = criterion.benchmark_group(format!("scan/level {level}"));
        group.sample_size(10).throughput(Throughput::Elements((SEGMENTS * ROWS) as u64));
        let questions: [(&str, &[&str], String); 7] = [
            ("dst_ip", &["dst_ip"], String::new()),
            ("dst_ip of dst net", &["dst_ip"], "dst net 10.20.0.0/21".into()),
            (
                "src_ip of dst ip",
                &["src_ip"],
                format!("dst ip {}", std::net::Ipv4Addr::from_bits(realistic::LOCAL + 40)),
            ),
            ("src_ip", &["src_ip"], String::new()),
            ("dst_port", &["dst_port"], String::new()),
            ("ip", &["ip"], String::new()),
            ("src_ip dst_ip", &["src_ip", "dst_ip"], "dst net 10.20.0.0/26".into()),
        ];
        for (name, by, filter) in &questions {
            let request = request(by, filter);
            group.bench_with_input(BenchmarkId::from_parameter(name), &request, |bencher, request| {
                bencher.iter(|| {
                    let mut scan = TopScan::new(request).expect("a good request");
                    segments.iter().for_each(|segment| scan.segment(black_box(segment)).expect("fresh blocks"));
                    scan.finish()
                });
            });
        }
    }
}

/// Sixteen times the flows of the same hosts: most flows find their group, as in a week's worth of them.
fn long_scan(criterion: &mut Criterion) {
    const TIMES: usize = 16;
    for level in [0, 4] {
        let segments = segments(level);
        let mut group = criterion.benchmark_group(format!("long scan/level {level}"));
        group.sample_size(10).throughput(Throughput::Elements((TIMES * SEGMENTS * ROWS) as u64));
        for by in ["dst_ip", "src_ip"] {
            let request = request(&[by], "");
            group.bench_with_input(BenchmarkId::from_parameter(by), &request, |bencher, request| {
                bencher.iter(|| {
                    let mut scan = TopScan::new(request).expect("a good request");
                    for segment in std::iter::repeat_n(&segments, TIMES).flatten() {
                        scan.segment(black_box(segment)).expect("fresh blocks");
                    }
                    scan.finish()
                });
            });
        }
    }
}

criterion_group!(benches, scan, long_scan);
criterion_main!(benches);
