//! The scan against the plainest reckoning that can be: a map of values, row by row.

use super::budget::Budget;
use super::host::HostScan;
use super::scan::{Scan, TopScan};
use super::*;
use crate::clock::{HOUR, Timestamp};
use crate::columns::Encoder;
use crate::filter::{Expression, Selection, parse};
use crate::flow::batch::{AddressRun, FlowBatch};
use crate::flow::fields::{Dimension, Field, Kind, PAIRS};
use crate::flow::segment::{Segment, Totals};
use crate::flow::value::{Value, wide_from_v4};
use crate::store::snapshot::SegmentHeader;
use fastrand::Rng;
use proptest::prelude::*;
use std::collections::HashMap;
use std::net::IpAddr;

mod cover;
mod samples;
mod stamp;

const START: i64 = 1_795_392_000_000_000;

/// Flows with few different values, some of them missing, in any mixture of address families.
fn batch(random: &mut Rng, rows: usize) -> FlowBatch {
    let mut batch = FlowBatch::default();
    batch.add_rows(rows);
    let mut received = batch.column_mut(Field::Received).time_run(0, rows).iter_mut();
    received.by_ref().for_each(|room| *room = START + random.i64(0..1_000) * 1_000_000);
    for field in Field::ALL.into_iter().skip(1) {
        let always = random.bool();
        let wide = random.u8(..3) == 0;
        let huge = random.u8(..30) == 0;
        if !always && random.u8(..6) == 0 {
            continue;
        }
        let mut row = 0;
        while row < rows {
            let count = random.usize(1..=rows).min(rows - row);
            let first = row;
            row += count;
            if !always && random.u8(..3) == 0 {
                continue;
            }
            let column = batch.column_mut(field);
            let mut small = || random.u64(..if huge { u64::MAX } else { 7 });
            match field.kind() {
                Kind::U8 => column.u8_run(first, count).iter_mut().for_each(|room| *room = small() as u8),
                Kind::U16 => column.u16_run(first, count).iter_mut().for_each(|room| *room = small() as u16),
                Kind::U32 => column.u32_run(first, count).iter_mut().for_each(|room| *room = small() as u32),
                Kind::U64 | Kind::Mac => column.u64_run(first, count).iter_mut().for_each(|room| *room = small()),
                Kind::Time => {
                    column
                        .time_run(first, count)
                        .iter_mut()
                        .for_each(|room| *room = START - (small() as i64).abs() / 2);
                }
                Kind::Address => {
                    let v4 = |number: u64| 0x0a00_0000 + number as u32 % 9;
                    match (wide, column.v4_run(first, count)) {
                        (false, AddressRun::V4(room)) => room.iter_mut().for_each(|room| *room = v4(small())),
                        (_, AddressRun::Wide(room)) => {
                            room.iter_mut().for_each(|room| *room = wide_from_v4(v4(small())));
                        }
                        _ => column.wide_run(first, count).iter_mut().for_each(|room| {
                            let number = small();
                            *room = if number % 2 == 0 { wide_from_v4(v4(number)) } else { u128::from(number) };
                        }),
                    }
                }
            }
        }
    }
    batch
}

fn window(from: i64, to: i64) -> Window {
    let moment = |second: i64| Timestamp::from_micros(START + second * 1_000_000);
    Window { from: moment(from), to: moment(to), zone: chrono_tz::Tz::UTC }
}

fn dimensions(random: &mut Rng) -> Vec<Dimension> {
    let mut by = Vec::new();
    let count = random.usize(1..=4);
    while by.len() < count {
        let pair = by.iter().all(|dimension| matches!(dimension, Dimension::One(_))) && random.u8(..4) == 0;
        let dimension = match pair {
            true => Dimension::parse(PAIRS[random.usize(..PAIRS.len())].0).unwrap(),
            false => Dimension::One(Field::ALL[random.usize(..Field::ALL.len())]),
        };
        if !by.contains(&dimension) {
            by.push(dimension);
        }
    }
    random.shuffle(&mut by);
    by
}

fn request(random: &mut Rng) -> TopRequest {
    let filters = ["", "any", "src port 3", "dst net 10.0.0.0/30 or proto 6", "not ip 10.0.0.2", "ipv6 and src as < 4"];
    let filter = filters[random.usize(..filters.len())];
    TopRequest {
        window: [window(0, 3_600), window(-10, 500), window(250, 260), window(999, 4_000)][random.usize(..4)],
        by: dimensions(random),
        order: [Order::Bytes, Order::Packets, Order::Flows][random.usize(..3)],
        limit: [1, 2, 10, 10_000][random.usize(..4)],
        filter: (!filter.is_empty()).then(|| parse(filter).unwrap()),
        counters: Counters::ALL[random.usize(..2)],
    }
}

/// A value of a row as a key: numbers that are missing are 0.
fn key_value(batch: &FlowBatch, field: Field, row: usize) -> Option<Value> {
    let number = matches!(field.kind(), Kind::U8 | Kind::U16 | Kind::U32 | Kind::U64);
    batch.value(field, row).or(number.then_some(Value::Number(0)))
}

/// The sums of one row, and for how many sampled flows it counts.
fn reckon_row(batch: &FlowBatch, row: usize, counters: Counters) -> (Totals, u64) {
    let mut totals = batch.totals(row..row + 1);
    let interval = match batch.value(Field::SamplingInterval, row) {
        Some(Value::Number(interval @ 1..)) => interval,
        _ => 1,
    };
    let sampled = if interval > 1 { totals.flows.max(1) } else { 0 };
    if counters == Counters::Scaled {
        let times = |sum: u64| u64::try_from(u128::from(sum) * u128::from(interval)).unwrap_or(u64::MAX);
        (totals.bytes, totals.packets) = (times(totals.bytes), times(totals.packets));
    }
    (totals, sampled)
}

/// The answer, reckoned plainly: rows, totals and how many groups there are; and how many flows were sampled.
fn reckon(request: &TopRequest, batches: &[FlowBatch]) -> ((Vec<TopRow>, Totals, u64), u64) {
    let mut groups = HashMap::<Vec<Value>, TopRow>::new();
    let (mut totals, mut sampled_flows) = (Totals::default(), 0u64);
    let sides = 1 + usize::from(request.by.iter().any(|by| matches!(by, Dimension::Either { .. })));
    for batch in batches {
        let mut selection = Selection::all(batch.rows());
        if let Some(filter) = &request.filter {
            filter.select(batch, &mut selection);
        }
        for row in 0..batch.rows() {
            let received = Timestamp::from_micros(batch.column(Field::Received).bits(row).unwrap() as i64);
            if !selection.contains(row) || received < request.window.from || received >= request.window.to {
                continue;
            }
            let (flow, sampled) = reckon_row(batch, row, request.counters);
            totals.add(&flow);
            sampled_flows = sampled_flows.saturating_add(sampled);
            let moment = |field| match batch.value(field, row) {
                Some(Value::Time(moment)) => Some(moment),
                _ => None,
            };
            let (first_seen, last_seen) = (moment(Field::FirstSeen), moment(Field::LastSeen));
            for side in 0..sides {
                let value = |dimension: &Dimension| match *dimension {
                    Dimension::One(field) => key_value(batch, field, row),
                    Dimension::Either { source, .. } if side == 0 => key_value(batch, source, row),
                    Dimension::Either { destination, .. } => key_value(batch, destination, row),
                };
                let Some(key) = request.by.iter().map(value).collect::<Option<Vec<Value>>>() else { continue };
                let empty = TopRow { key: key.clone(), totals: Totals::default(), first_seen: None, last_seen: None };
                let group = groups.entry(key).or_insert(empty);
                group.totals.add(&flow);
                group.first_seen = [group.first_seen, first_seen].into_iter().flatten().min();
                group.last_seen = group.last_seen.max(last_seen);
            }
        }
    }
    let count = groups.len() as u64;
    let mut rows: Vec<TopRow> = groups.into_values().collect();
    let value = |row: &TopRow| match request.order {
        Order::Bytes => row.totals.bytes,
        Order::Packets => row.totals.packets,
        Order::Flows => row.totals.flows,
    };
    rows.sort_by(|one, other| value(other).cmp(&value(one)).then_with(|| one.key.cmp(&other.key)));
    rows.truncate(request.limit);
    ((rows, totals, count), sampled_flows)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_scan_finds_what_plain_reckoning_finds(seed in any::<u64>()) {
        let mut random = Rng::with_seed(seed);
        let request = request(&mut random);
        let batches: Vec<FlowBatch> = (0..random.usize(1..5))
            .map(|_| {
                let rows = [1, 30, 200, 2_500][random.usize(..4)];
                batch(&mut random, rows)
            })
            .collect();
        let mut scans = [TopScan::new(&request).unwrap(), TopScan::new(&request).unwrap()];
        for batch in &batches {
            let segment = Encoder::new(0).encode(batch, 0..batch.rows()).unwrap();
            scans[random.usize(..2)].segment(&segment).unwrap();
        }
        let [mut scan, other] = scans;
        scan.merge(other);
        prop_assert_eq!((scan.finish(), scan.sampled_flows()), reckon(&request, &batches));
    }

    #[test]
    fn a_host_has_what_plain_reckoning_gives_it(seed in any::<u64>()) {
        let mut random = Rng::with_seed(seed);
        let local: [Vec<IpNetwork>; 3] =
            [vec![], vec!["10.0.0.0/30".parse().unwrap()], vec!["10.0.0.0/8".parse().unwrap(), "::/120".parse().unwrap()]];
        let local = &local[random.usize(..3)];
        let known = Arc::new(Local::new(local));
        let host: IpAddr = ["10.0.0.1", "10.0.0.7", "::3", "::ffff:10.0.0.2"][random.usize(..4)].parse().unwrap();
        let window = [window(0, 3_600), window(100, 700)][random.usize(..2)];
        let inside = |value: Option<Value>| match value {
            Some(Value::Address(address)) => local.iter().any(|network| network.contains(address)),
            _ => false,
        };
        let host_value = Some(Value::Address(host.to_canonical()));
        let request = HostRequest { host, window, counters: Counters::ALL[random.usize(..2)] };
        let mut scans = [HostScan::new(&request, &known).unwrap(), HostScan::new(&request, &known).unwrap()];
        let (mut download, mut upload, mut internal) = Default::default();
        let mut sampled_flows = 0u64;
        for _ in 0..3 {
            let batch = batch(&mut random, 300);
            scans[random.usize(..2)].segment(&Encoder::new(0).encode(&batch, 0..300).unwrap()).unwrap();
            for row in 0..300 {
                let received = Timestamp::from_micros(batch.column(Field::Received).bits(row).unwrap() as i64);
                let (from, to) = (batch.value(Field::SrcIp, row), batch.value(Field::DstIp, row));
                if (from != host_value && to != host_value) || received < window.from || received >= window.to {
                    continue;
                }
                let sum: &mut Totals = if (from == to) || (inside(from) && inside(to)) {
                    &mut internal
                } else if to == host_value {
                    &mut download
                } else {
                    &mut upload
                };
                let (flow, sampled) = reckon_row(&batch, row, request.counters);
                sum.add(&flow);
                sampled_flows = sampled_flows.saturating_add(sampled);
            }
        }
        let [mut scan, other] = scans;
        Scan::merge(&mut scan, other);
        prop_assert_eq!((scan.download, scan.upload, scan.internal), (download, upload, internal));
        prop_assert_eq!(scan.sampled_flows, sampled_flows);
    }
}

/// `count` flows of one datagram, from `10.0.0.x` with x the row, of one byte each.
fn plain(count: usize) -> FlowBatch {
    let mut batch = FlowBatch::default();
    batch.add_rows(count);
    batch.column_mut(Field::Received).time_run(0, count).fill(START);
    let AddressRun::V4(room) = batch.column_mut(Field::SrcIp).v4_run(0, count) else { panic!("narrow") };
    room.iter_mut().enumerate().for_each(|(row, room)| *room = 0x0a00_0000 + row as u32);
    batch.column_mut(Field::InBytes).u64_run(0, count).fill(1);
    batch
}

fn top(by: &[&str], limit: usize) -> TopRequest {
    let by = by.iter().map(|name| Dimension::parse(name).unwrap()).collect();
    let (window, order) = (window(0, 3_600), Order::Bytes);
    TopRequest { window, by, order, limit, filter: None, counters: Counters::Scaled }
}

fn scan_of(request: &TopRequest, batch: &FlowBatch) -> TopScan {
    let mut scan = TopScan::new(request).unwrap();
    scan.segment(&Encoder::new(0).encode(batch, 0..batch.rows()).unwrap()).unwrap();
    scan
}

#[test]
fn equal_groups_come_in_the_order_of_their_keys_ipv4_first() {
    let mut batch = plain(3_000);
    let first = batch.add_rows(2);
    batch.column_mut(Field::Received).time_run(first, 2).fill(START);
    batch.column_mut(Field::SrcIp).wide_run(first, 2).copy_from_slice(&[2, 1]);
    batch.column_mut(Field::InBytes).u64_run(first, 2).copy_from_slice(&[1, 1]);
    for limit in [1, 5, 2_999, 10_000] {
        let (rows, totals, groups) = scan_of(&top(&["src_ip"], limit), &batch).finish();
        assert_eq!((totals.bytes, groups, rows.len()), (3_002, 3_002, limit.min(3_002)));
        assert!(rows.is_sorted_by_key(|row| row.key.clone()), "limit {limit}");
    }
    let (rows, ..) = scan_of(&top(&["src_ip"], 10_000), &batch).finish();
    assert_eq!(rows[3_001].key[0].to_string(), "::2");
}

#[test]
fn a_flow_with_itself_counts_twice_for_a_pair_and_once_in_the_totals() {
    let mut batch = plain(1);
    let AddressRun::V4(room) = batch.column_mut(Field::DstIp).v4_run(0, 1) else { panic!("narrow") };
    room.fill(0x0a00_0000);
    let (rows, totals, groups) = scan_of(&top(&["ip"], 10), &batch).finish();
    assert_eq!((rows[0].totals.bytes, rows[0].totals.flows), (2, 2));
    assert_eq!((totals.bytes, totals.flows, groups), (1, 1, 1));
}

#[test]
fn totals_of_a_segment_within_the_window_come_from_its_header_unless_it_reached_its_limit() {
    let mut segment = Encoder::new(0).encode(&plain(10), 0..10).unwrap();
    segment.totals.bytes = 77;
    let mut scan = TopScan::new(&top(&["src_ip"], 1)).unwrap();
    scan.segment(&segment).unwrap();
    assert_eq!(scan.finish().1.bytes, 77, "not from the header");
    segment.totals.bytes = i64::MAX as u64;
    let mut scan = TopScan::new(&top(&["src_ip"], 1)).unwrap();
    scan.segment(&segment).unwrap();
    assert_eq!(scan.finish().1.bytes, 10, "the database cannot keep more than 2^63 - 1");
}

#[test]
fn columns_that_no_selected_row_needs_are_not_decoded() {
    let mut segment = Encoder::new(0).encode(&plain(10), 0..10).unwrap();
    for (field, block) in &mut segment.columns {
        if *field == Field::InBytes {
            block.truncate(3);
        }
    }
    let filtered = |text: &str| TopRequest { filter: Some(parse(text).unwrap()), ..top(&["src_ip"], 1) };
    TopScan::new(&filtered("src ip 10.1.1.1")).unwrap().segment(&segment).unwrap();
    assert!(TopScan::new(&filtered("src ip 10.0.0.1")).unwrap().segment(&segment).is_err());
}

#[test]
fn scanning_stops_after_the_segment_that_broke_the_budget_and_when_cancelled() {
    let segments: Vec<Segment> = vec![Encoder::new(0).encode(&plain(5_000), 0..5_000).unwrap(); 3];
    let run = |budget: &Budget| {
        workers::scan_all(TopScan::new(&top(&["src_ip"], 1)).unwrap(), &[1, 2, 3], &segments, budget).map(|_| ())
    };
    let settings = |max_memory_bytes| Settings { max_memory_bytes, ..Settings::default() };
    assert!(matches!(
        run(&Budget::new(&settings(100_000), Instant::now())),
        Err(QueryError::Memory { limit: 100_000 })
    ));
    run(&Budget::new(&settings(10_000_000), Instant::now())).unwrap();
    let cancelled = Budget::new(&Settings::default(), Instant::now());
    cancelled.cancel();
    assert!(matches!(run(&cancelled), Err(QueryError::Cancelled)));
    let none = Settings { max_seconds: 0, ..Settings::default() };
    assert!(matches!(run(&Budget::new(&none, Instant::now())), Err(QueryError::Time { limit: 0 })));
}

#[test]
fn a_damaged_segment_is_named() {
    let mut segment = Encoder::new(0).encode(&plain(10), 0..10).unwrap();
    segment.columns[1].1[7] ^= 1;
    let budget = Budget::new(&Settings::default(), Instant::now());
    let error =
        workers::scan_all(TopScan::new(&top(&["src_ip"], 1)).unwrap(), &[4711], &[segment], &budget).unwrap_err();
    assert!(error.to_string().contains("segment 4711: the block of field src_ip is damaged"), "{error}");
}

#[test]
fn requests_that_cannot_be_answered_name_the_parameter() {
    let empty = Window { to: window(0, 1).from, ..window(0, 1) };
    let bad = [
        (TopRequest { window: empty, ..top(&["ip"], 1) }, "to"),
        (top(&[], 1), "by"),
        (top(&["src_ip", "dst_ip", "src_port", "dst_port", "protocol"], 1), "by"),
        (top(&["ip", "port"], 1), "by"),
        (top(&["src_ip", "src_ip"], 1), "by"),
        (top(&["ip"], 0), "limit"),
        (top(&["ip"], 10_001), "limit"),
    ];
    for (request, expected) in bad {
        let Err(QueryError::Request { parameter, .. }) = TopScan::new(&request) else { panic!("{request:?}") };
        assert_eq!(parameter, expected);
    }
    let host = HostRequest { host: "10.0.0.1".parse().unwrap(), window: empty, counters: Counters::Scaled };
    assert!(HostScan::new(&host, &Arc::default()).is_err());
}

#[test]
fn loads_hold_some_segments_in_the_order_of_time_and_receive_times_only_where_the_window_cuts() {
    let header = |segment_id: i64, rows| SegmentHeader {
        segment_id,
        rows,
        received_first: Timestamp::from_micros(START + segment_id * HOUR / 1_000),
        received_last: Timestamp::from_micros(START + (segment_id + 1) * HOUR / 1_000 - 1),
        open: false,
        totals: Totals::default(),
    };
    let headers: Vec<SegmentHeader> =
        (0..20).map(|id| header(id, 65_536)).chain((20..900).map(|id| header(id, 9))).collect();
    let cut = Window {
        from: Timestamp::from_micros(START + 1),
        to: Timestamp::from_micros(START + 900 * HOUR / 1_000),
        zone: chrono_tz::Tz::UTC,
    };
    let loads = plan::loads(&headers, &cut, &[Field::SrcIp]);
    let ids: Vec<i64> = loads.iter().flat_map(|load| &load.headers).map(|header| header.segment_id).collect();
    assert_eq!(ids, (0..900).collect::<Vec<_>>());
    assert_eq!(loads[0].headers.len(), 4);
    assert!(loads.iter().all(|load| load.headers.len() <= 256));
    let with_times: Vec<usize> =
        loads.iter().enumerate().filter(|(_, load)| load.fields.contains(&Field::Received)).map(|(at, _)| at).collect();
    assert_eq!(with_times, [0]);
}

#[test]
fn orders_and_counters_are_found_by_their_names() {
    assert!(Order::ALL.into_iter().all(|order| Order::parse(order.name()) == Some(order)));
    assert_eq!(Order::parse("Bytes"), None);
    assert!(Counters::ALL.into_iter().all(|counters| Counters::parse(counters.name()) == Some(counters)));
    assert_eq!((Counters::parse("RAW"), Counters::default()), (None, Counters::Scaled));
}

#[test]
fn an_expression_for_a_host_is_what_the_parser_makes_of_its_text() {
    let either = Dimension::parse("ip").unwrap();
    let network = IpNetwork::from("10.0.0.1".parse::<IpAddr>().unwrap());
    assert_eq!(parse("ip 10.0.0.1").unwrap(), Expression::Address { of: either, networks: vec![network] });
}
