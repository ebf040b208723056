//! Counters of sampling exporters: scaled or raw, with and without sums that are known already, and up to the largest numbers.

use super::*;

/// `plain` with the sampling interval of each row that has one.
fn sampled(intervals: &[Option<u32>]) -> FlowBatch {
    let mut batch = plain(intervals.len());
    for (row, interval) in intervals.iter().enumerate() {
        if let Some(interval) = interval {
            batch.column_mut(Field::SamplingInterval).u32_run(row, 1)[0] = *interval;
        }
    }
    batch
}

fn asked(counters: Counters) -> TopRequest {
    TopRequest { counters, ..top(&["src_ip"], 10) }
}

#[test]
fn bytes_and_packets_are_multiplied_and_flows_are_not() {
    let mut batch = sampled(&[Some(1_000), None, Some(1), Some(0), Some(50)]);
    batch.column_mut(Field::OutBytes).u64_run(0, 2).copy_from_slice(&[2, 3]);
    batch.column_mut(Field::InPackets).u64_run(4, 1)[0] = 7;
    let of = |counters| {
        let scan = scan_of(&asked(counters), &batch);
        let (rows, totals, groups) = scan.finish();
        let bytes: Vec<u64> = rows.iter().map(|row| row.totals.bytes).collect();
        (bytes, totals, groups, scan.sampled_flows())
    };
    let scaled = Totals { bytes: 3_000 + 4 + 1 + 1 + 50, packets: 350, flows: 5 };
    assert_eq!(of(Counters::Scaled), (vec![3_000, 50, 4, 1, 1], scaled, 5, 2));
    let raw = Totals { bytes: 3 + 4 + 1 + 1 + 1, packets: 7, flows: 5 };
    assert_eq!(of(Counters::Raw), (vec![4, 3, 1, 1, 1], raw, 5, 2));
}

#[test]
fn the_largest_counter_times_the_largest_interval_saturates() {
    let mut batch = sampled(&[Some(u32::MAX), Some(2), Some(u32::MAX)]);
    batch.column_mut(Field::InBytes).u64_run(0, 3).copy_from_slice(&[u64::MAX, u64::MAX / 2, 3]);
    batch.column_mut(Field::OutBytes).u64_run(0, 1)[0] = u64::MAX;
    let (rows, totals, _) = scan_of(&asked(Counters::Scaled), &batch).finish();
    let bytes: Vec<u64> = rows.iter().map(|row| row.totals.bytes).collect();
    assert_eq!(bytes, [u64::MAX, u64::MAX - 1, 3 * u64::from(u32::MAX)]);
    assert_eq!(totals.bytes, u64::MAX);
    let request =
        HostRequest { host: "10.0.0.0".parse().unwrap(), window: window(0, 3_600), counters: Counters::Scaled };
    let mut scan = HostScan::new(&request, &Arc::default()).unwrap();
    Scan::segment(&mut scan, &Encoder::new(0).encode(&batch, 0..3).unwrap()).unwrap();
    assert_eq!((scan.upload.bytes, scan.sampled_flows), (u64::MAX, 1));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sums_are_those_of_unbounded_integers_or_the_largest(
        flows in proptest::collection::vec((counter(), counter(), counter(), interval()), 1..30),
    ) {
        let mut batch = sampled(&flows.iter().map(|flow| Some(flow.3)).collect::<Vec<_>>());
        for (row, flow) in flows.iter().enumerate() {
            for (field, counter) in [(Field::InBytes, flow.0), (Field::OutBytes, flow.1), (Field::InPackets, flow.2)] {
                batch.column_mut(field).u64_run(row, 1)[0] = counter;
            }
        }
        let largest = |sum: u128| u64::try_from(sum).unwrap_or(u64::MAX);
        for counters in [Counters::Raw, Counters::Scaled] {
            let (mut bytes, mut packets) = (0u128, 0u128);
            for flow in &flows {
                let times = if counters == Counters::Scaled { u128::from(flow.3.max(1)) } else { 1 };
                bytes += (u128::from(flow.0) + u128::from(flow.1)) * times;
                packets += u128::from(flow.2) * times;
            }
            let (_, totals, _) = scan_of(&asked(counters), &batch).finish();
            prop_assert_eq!((totals.bytes, totals.packets), (largest(bytes), largest(packets)));
        }
    }
}

/// Counters of every size, often the largest.
fn counter() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), 0..1_000u64, any::<u64>(), any::<u32>().prop_map(u64::from)]
}

/// Sampling intervals, often none or the largest.
fn interval() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(1), Just(u32::MAX), any::<u32>()]
}

#[test]
fn sums_in_a_header_are_raw_so_only_raw_or_unsampled_answers_take_them() {
    let segment = |batch: &FlowBatch| {
        let mut segment = Encoder::new(0).encode(batch, 0..batch.rows()).unwrap();
        segment.totals.bytes = 77;
        segment
    };
    let (with, without) = (segment(&sampled(&[Some(10), None])), segment(&plain(2)));
    let total = |counters, segments: &[&Segment]| {
        let mut scan = TopScan::new(&asked(counters)).unwrap();
        segments.iter().for_each(|segment| scan.segment(segment).unwrap());
        (scan.finish().1.bytes, scan.sampled_flows())
    };
    assert_eq!(total(Counters::Scaled, &[&without]), (77, 0));
    assert_eq!(total(Counters::Raw, &[&with]), (77, 1));
    assert_eq!(total(Counters::Scaled, &[&with]), (11, 1));
    // The column of one segment says nothing about the next.
    assert_eq!(total(Counters::Scaled, &[&with, &without, &with]), (11 + 77 + 11, 2));
}

#[test]
fn rows_that_are_picked_keep_their_own_intervals() {
    let intervals: Vec<Option<u32>> = (0..2_500).map(|row| (row % 3 == 0).then_some(row + 2)).collect();
    let batch = sampled(&intervals);
    let expected = |row: usize| u64::from(intervals[row].unwrap_or(1));
    let request = TopRequest {
        filter: Some(parse("src ip in [10.0.0.3 10.0.0.4 10.0.9.0 10.0.9.3]").unwrap()),
        ..asked(Counters::Scaled)
    };
    let scan = scan_of(&request, &batch);
    let (rows, totals, _) = scan.finish();
    let bytes: Vec<u64> = rows.iter().map(|row| row.totals.bytes).collect();
    assert_eq!(bytes, [expected(2_307), expected(2_304), expected(3), expected(4)]);
    assert_eq!((totals.bytes, scan.sampled_flows()), (bytes.iter().sum(), 3));
}

#[test]
fn a_record_counts_among_the_sampled_flows_for_all_that_it_stands_for() {
    let mut batch = sampled(&[Some(10), Some(10), None]);
    batch.column_mut(Field::AggregatedFlows).u64_run(0, 3).copy_from_slice(&[5, 0, 7]);
    let scan = scan_of(&asked(Counters::Scaled), &batch);
    assert_eq!((scan.finish().1.flows, scan.sampled_flows(), scan.records()), (12, 6, 3));
}

#[test]
fn the_stamp_says_what_is_estimated_and_then_is_not_exact() {
    let exact = Completeness { exact: true, ..Completeness::default() };
    let told = |counters, sampled_flows| {
        let told = exact.clone().of(5, counters, sampled_flows);
        (told.exact, told.estimated, told.sampled_flows)
    };
    assert_eq!(told(Counters::Scaled, 0), (true, false, 0));
    assert_eq!(told(Counters::Scaled, 3), (false, true, 3));
    assert_eq!(told(Counters::Raw, 3), (true, false, 3));
    assert!(!Completeness::default().of(5, Counters::Raw, 0).exact);
}
