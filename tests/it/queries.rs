//! The engine over a real database: several workers give what one gives, budgets hold, and a query that nobody waits for
//! gives back its turn and its sessions.

use crate::support::postgres::{TestDatabase, query, wait_on};
use flowledger::clock::{Clock, DAY, HOUR, ManualClock, SECOND, SystemClock, Timestamp};
use flowledger::columns::Encoder;
use flowledger::flow::batch::{AddressRun, FlowBatch};
use flowledger::flow::fields::{Dimension, Field};
use flowledger::flow::segment::Segment;
use flowledger::query::{Counters, Engine, HostRequest, Order, QueryError, Settings, TopRequest, Window};
use flowledger::store::commit::{Batch, Loss};
use flowledger::store::partitions::DailyTable;
use flowledger::store::{Address, Database};
use std::sync::Arc;
use std::time::{Duration, Instant};

const JOURNAL: &str = "11111111-2222-4333-8444-555555555555";
const SEGMENTS: i64 = 600;
const ROWS: usize = 40;

/// The segment number `index`: a flow a second, from 40 sources to one destination, of as many bytes as the row.
fn segment(start: Timestamp, index: i64) -> Segment {
    let mut batch = FlowBatch::default();
    batch.add_rows(ROWS);
    let received = batch.column_mut(Field::Received).time_run(0, ROWS);
    received.iter_mut().enumerate().for_each(|(row, room)| {
        *room = start.micros() + (index + row as i64) * SECOND;
    });
    for (field, vary) in [(Field::SrcIp, 1), (Field::DstIp, 0)] {
        let AddressRun::V4(room) = batch.column_mut(field).v4_run(0, ROWS) else { panic!("narrow") };
        room.iter_mut().enumerate().for_each(|(row, room)| *room = 0x0a00_0001 + row as u32 * vary);
    }
    let bytes = batch.column_mut(Field::InBytes).u64_run(0, ROWS);
    bytes.iter_mut().enumerate().for_each(|(row, room)| *room = row as u64);
    Encoder::new(0).encode(&batch, 0..ROWS).unwrap()
}

/// A database of all segments, received from the start of the hour before last on, with a loss of seven flows.
async fn filled(test: &TestDatabase) -> (Database, Timestamp) {
    let start = SystemClock.now().hour().plus(-2 * HOUR);
    let database = Database::new(&Address::Url(test.url())).unwrap();
    database.prepare(|error| panic!("{error}")).await.unwrap();
    database.ensure_day(DailyTable::FlowSegments, start).await.unwrap();
    database.ensure_open().await.unwrap();
    database.journal_position(JOURNAL).await.unwrap();
    let loss = Loss { exporter_id: 1, hour: start, cause: "network", unit: "flows", count: 7 };
    let batch = Batch {
        end: 1,
        complete_until: start.plus(HOUR / 2),
        segments: (0..SEGMENTS).map(|index| segment(start, index)).collect(),
        loss: vec![loss],
        ..Batch::default()
    };
    database.commit(JOURNAL, &batch).await.unwrap();
    began(test, start).await;
    (database, start)
}

/// Lets the collector have recorded since `moment`.
async fn began(test: &TestDatabase, moment: Timestamp) {
    let (url, sql) = (test.url(), format!("UPDATE journal_positions SET created_at = '{moment}' RETURNING 1"));
    tokio::task::spawn_blocking(move || query(&url, &sql)).await.unwrap();
}

fn engine(database: &Database, settings: Settings) -> Engine {
    Engine::new(database.clone(), Arc::new(ManualClock::new(SystemClock.now())), settings, &[])
}

fn request(start: Timestamp, seconds: std::ops::Range<i64>) -> TopRequest {
    TopRequest {
        window: Window {
            from: start.plus(seconds.start * SECOND),
            to: start.plus(seconds.end * SECOND),
            zone: chrono_tz::Tz::UTC,
        },
        by: vec![Dimension::parse("src_ip").unwrap()],
        order: Order::Bytes,
        limit: 3,
        filter: None,
        counters: Counters::Scaled,
    }
}

#[test]
fn several_workers_find_what_one_finds_and_the_stamp_tells_what_may_be_missing() {
    let test = TestDatabase::create();
    wait_on(async {
        let (database, start) = filled(&test).await;
        for seconds in [0..3_600, 100..101, 30..615, 5_000..6_000] {
            let request = request(start, seconds.clone());
            // Row r of segment i was received in second i + r.
            let (mut bytes, mut flows) = (0, 0);
            for (index, row) in (0..SEGMENTS).flat_map(|index| (0..ROWS as i64).map(move |row| (index, row))) {
                if seconds.contains(&(index + row)) {
                    bytes += row as u64;
                    flows += 1;
                }
            }
            for workers in [1, 2, 5] {
                let engine = engine(&database, Settings { workers, ..Settings::default() });
                let answer = engine.top(&request).await.unwrap();
                assert_eq!((answer.totals.bytes, answer.totals.flows), (bytes, flows), "{seconds:?} {workers}");
                assert_eq!(answer.groups, if flows == 0 { 0 } else { ROWS as u64 });
                let first: Option<String> = answer.rows.first().map(|row| row.key[0].to_string());
                assert_eq!(first, (flows > 0).then(|| "10.0.0.40".into()));
                let host = "10.0.0.1".parse().unwrap();
                let host = HostRequest { host, window: request.window, counters: Counters::Scaled };
                let host = engine.host(&host).await.unwrap();
                // Flows of row 0 go from the host to itself; all others come to it.
                assert_eq!(host.download.bytes + host.internal.bytes, bytes);
                assert_eq!(host.download.flows + host.internal.flows, flows);
                assert_eq!(host.internal.bytes, 0);
                let lost: Vec<u64> = answer.completeness.lost.iter().map(|row| row.count).collect();
                assert_eq!(lost, if seconds.start < 3_600 { vec![7] } else { vec![] });
                let behind = (seconds.end > 1_800).then(|| start.plus(HOUR / 2));
                assert_eq!((answer.completeness.exact, answer.completeness.stale_since), (false, behind));
            }
        }
        database.close().await;
    });
}

#[test]
fn budgets_hold_and_a_dropped_query_gives_back_what_it_took() {
    let test = TestDatabase::create();
    wait_on(async {
        let (database, start) = filled(&test).await;
        let request = request(start, 0..3_600);
        let small = engine(&database, Settings { max_memory_bytes: 1_000, ..Settings::default() });
        assert!(matches!(small.top(&request).await, Err(QueryError::Memory { limit: 1_000 })));
        let brief = engine(&database, Settings { max_seconds: 0, ..Settings::default() });
        assert!(matches!(brief.top(&request).await, Err(QueryError::Time { limit: 0 })));
        let one = engine(&database, Settings { max_queries: 1, workers: 4, ..Settings::default() });
        for millis in 0..40 {
            let _ = tokio::time::timeout(Duration::from_millis(millis), one.top(&request)).await;
        }
        assert_eq!(one.top(&request).await.unwrap().totals.flows, SEGMENTS as u64 * ROWS as u64);
        // No session still reads the snapshot of a query that was dropped.
        let busy = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL \
                    AND pid <> pg_backend_pid()";
        let begun = Instant::now();
        loop {
            let url = test.url();
            let left = tokio::task::spawn_blocking(move || query(&url, busy)).await.unwrap();
            if left.is_empty() {
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "sessions still in a transaction: {left:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        database.close().await;
    });
}

#[test]
fn an_answer_says_how_much_of_its_window_was_never_recorded_or_is_no_longer_kept() {
    let test = TestDatabase::create();
    wait_on(async {
        let (database, start) = filled(&test).await;
        let engine = engine(&database, Settings::default());
        let missing = async |from: i64, to: i64| {
            let answer = engine.top(&request(start, from..to)).await.unwrap();
            let lost = answer.completeness.lost;
            assert!(!answer.completeness.exact || lost.is_empty());
            lost.iter().find(|row| row.cause == "not_recorded").map(|row| (row.unit.clone(), row.count))
        };
        let seconds = |count| Some(("seconds".to_owned(), count));
        assert_eq!(missing(0, 600).await, None);
        assert_eq!(missing(-60, 600).await, seconds(60));
        assert_eq!(missing(-7_200, -3_600).await, seconds(3_600));
        // The collector began long before; only today's partition is left.
        began(&test, start.plus(-9 * DAY)).await;
        let today = start.micros().saturating_sub(start.day().micros()) / SECOND;
        assert_eq!(missing(-today, 600).await, None);
        assert_eq!(missing(-today - 60, 600).await, seconds(60));
        // Flows of open hours do not lie in the day's partition; those of sealed ones do.
        database.drop_day(DailyTable::FlowSegments, start.day()).await.unwrap();
        assert_eq!(missing(0, 600).await, None);
        let (url, sql) = (test.url(), "UPDATE hours SET sealed_at = now(), version = 1, local = '' RETURNING 1");
        tokio::task::spawn_blocking(move || query(&url, sql)).await.unwrap();
        database.ensure_day(DailyTable::FlowSegments, start.day()).await.unwrap();
        database.drop_day(DailyTable::FlowSegments, start.day()).await.unwrap();
        assert_eq!(missing(0, 600).await, seconds(600));
        database.close().await;
    });
}

#[test]
fn what_is_taken_back_in_a_later_hour_hides_no_loss_of_that_hour() {
    let test = TestDatabase::create();
    wait_on(async {
        let (database, start) = filled(&test).await;
        let loss = |hour, unit, count| Loss { exporter_id: 1, hour, cause: "network", unit, count };
        let later = start.plus(HOUR);
        let loss = vec![loss(later, "flows", -5), loss(later, "datagrams", -1), loss(later, "records", 3)];
        database.commit(JOURNAL, &Batch { start: 1, end: 2, loss, ..Batch::default() }).await.unwrap();
        let answer = engine(&database, Settings::default()).top(&request(start, 0..7_200)).await.unwrap();
        let lost: Vec<_> = answer.completeness.lost.iter().map(|row| (row.unit.as_str(), row.count)).collect();
        assert_eq!(lost, [("flows", 7), ("records", 3)]);
        database.close().await;
    });
}

#[test]
fn what_a_later_hour_found_missing_counts_for_windows_that_end_before_it() {
    let test = TestDatabase::create();
    wait_on(async {
        let (database, start) = filled(&test).await;
        let loss = |hours: i64, cause, count| Loss {
            exporter_id: 1,
            hour: start.plus(hours * HOUR),
            cause,
            unit: "records",
            count,
        };
        // A link that was down from one hour into the third.
        let loss = vec![loss(0, "network_later", 5), loss(1, "network_later", 5), loss(2, "network", 5)];
        database.commit(JOURNAL, &Batch { start: 1, end: 2, loss, ..Batch::default() }).await.unwrap();
        let records = async |seconds: std::ops::Range<i64>| {
            let answer = engine(&database, Settings::default()).top(&request(start, seconds)).await.unwrap();
            let found = answer.completeness.lost.iter().find(|row| row.unit == "records");
            (found.map(|row| (row.cause.clone(), row.count)), answer.completeness.exact)
        };
        for seconds in [0..600, 0..3_600, 0..7_200, 3_600..4_000, 0..10_800, 7_200..10_800, 3_600..10_800] {
            let told = records(seconds.clone()).await;
            assert_eq!(told, (Some(("network".to_owned(), 5)), false), "{seconds:?}");
        }
        assert_eq!(records(10_800..14_400).await.0, None);
        database.close().await;
    });
}
