//! Sealing an hour over a real database: the same flows in fewer segments, totals of its hosts, and nothing lost to what
//! comes at the same time.

use crate::support::postgres::{TestDatabase, wait_on};
use crate::support::server::TestServer;
use flowledger::clock::{HOUR, SECOND, Timestamp};
use flowledger::columns::Encoder;
use flowledger::filter;
use flowledger::flow::batch::FlowBatch;
use flowledger::flow::counting::Counting;
use flowledger::flow::fields::{Dimension, Field};
use flowledger::flow::local::Local;
use flowledger::flow::value::wide_from_address;
use flowledger::keep::seal::{Outcome, seal, seal_again};
use flowledger::query::{Counters, Engine, Order, Settings, TopRequest, TopRow, Window};
use flowledger::store::commit::Batch;
use flowledger::store::partitions::{DailyTable, MonthlyTable};
use flowledger::store::{Address, Database};
use std::sync::Arc;

const JOURNAL: &str = "11111111-2222-4333-8444-555555555555";
/// The start of a day long ago.
pub const DAY: Timestamp = Timestamp::from_micros(1_700_006_400 * SECOND);

/// The local networks of the tests.
pub fn local() -> Local {
    Local::new(&["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()])
}

/// `rows` flows received within the hour from `hour` on, between local and remote hosts of both address families.
pub fn flows(random: &mut fastrand::Rng, hour: Timestamp, rows: usize) -> FlowBatch {
    let mut flows = FlowBatch::default();
    flows.add_rows(rows);
    let mut moments: Vec<i64> = (0..rows).map(|_| hour.micros() + random.i64(0..HOUR)).collect();
    moments.sort_unstable();
    let six = random.bool();
    let mut address = || -> u128 {
        let host = random.u16(1..12);
        let text = match random.u8(0..if six { 4 } else { 2 }) {
            0 => format!("10.0.0.{host}"),
            1 => format!("203.0.113.{host}"),
            2 => format!("fd00::{host}"),
            _ => format!("2001:db8::{host}"),
        };
        wide_from_address(text.parse().unwrap())
    };
    for (row, moment) in moments.into_iter().enumerate() {
        let ends = [address(), address()];
        flows.column_mut(Field::Received).time_run(row, 1).fill(moment);
        for (field, end) in [Field::SrcIp, Field::DstIp].into_iter().zip(ends) {
            flows.column_mut(field).wide_run(row, 1).fill(end);
        }
    }
    let mut random = random.fork();
    for row in 0..rows {
        flows.column_mut(Field::ExporterId).u32_run(row, 1).fill(random.u32(1..3));
        flows.column_mut(Field::InBytes).u64_run(row, 1).fill(random.u64(0..1_000_000));
        flows.column_mut(Field::InPackets).u64_run(row, 1).fill(random.u64(1..1_000));
        if random.u8(0..4) == 0 {
            flows.column_mut(Field::OutBytes).u64_run(row, 1).fill(random.u64(0..1_000));
            flows.column_mut(Field::AggregatedFlows).u64_run(row, 1).fill(random.u64(0..4));
            flows.column_mut(Field::FirstSeen).time_run(row, 1).fill(random.i64(0..HOUR));
        }
        if random.u8(0..8) == 0 {
            flows.column_mut(Field::SamplingInterval).u32_run(row, 1).fill(random.u32(0..100));
        }
    }
    flows
}

/// A database and a collector.
pub struct Ledger {
    pub database: Database,
    journal: &'static str,
    position: u64,
}

impl Ledger {
    pub async fn open(test: &TestDatabase) -> Self {
        Self::of(test, JOURNAL).await
    }

    async fn of(test: &TestDatabase, journal: &'static str) -> Self {
        let database = Database::new(&Address::Url(test.url())).unwrap();
        database.prepare(|error| panic!("{error}")).await.unwrap();
        database.ensure_open().await.unwrap();
        database.journal_position(journal).await.unwrap();
        Self { database, journal, position: 0 }
    }

    /// Stores flows of one hour in segments of `size`.
    pub async fn store(&mut self, flows: FlowBatch, size: usize) {
        let mut encoder = Encoder::new(0);
        let firsts = (0..flows.rows()).step_by(size);
        let segments: Vec<_> =
            firsts.map(|first| encoder.encode(&flows, first..flows.rows().min(first + size)).unwrap()).collect();
        let hour = segments[0].received_first;
        let written = self.database.ensure_rows(hour.day()).await.unwrap();
        let without_rows = (!written).then(|| hour.day()).into_iter().collect();
        let (start, end) = (self.position, self.position + 1);
        let complete_until = hour.plus(HOUR);
        let batch = Batch { start, end, complete_until, segments, rows: vec![flows], without_rows, ..Batch::default() };
        self.database.commit(self.journal, &batch).await.unwrap();
        self.position = end;
    }

    pub async fn seal(&self, hour: Timestamp) -> bool {
        seal(&self.database, hour, &local(), &Counting::default()).await.unwrap()
    }

    /// The answers to some questions about the day, by scanning segments.
    async fn answers(&self) -> Vec<Vec<TopRow>> {
        let clock = Arc::new(flowledger::clock::ManualClock::new(DAY.plus(30 * HOUR)));
        let engine = Engine::new(self.database.clone(), clock, Settings::default(), &[]);
        let mut answers = Vec::new();
        for (by, filter) in [
            (vec![Field::DstIp], None),
            (vec![Field::SrcIp, Field::DstIp], Some("packets > 500")),
            (vec![Field::ExporterId], Some("src net 10.0.0.0/8")),
        ] {
            let window = Window { from: DAY.plus(HOUR / 3), to: DAY.plus(24 * HOUR), zone: chrono_tz::UTC };
            let request = TopRequest {
                window,
                by: by.into_iter().map(Dimension::One).collect(),
                order: Order::Bytes,
                limit: 500,
                filter: filter.map(|text| filter::parse(text).unwrap()),
                counters: Counters::Scaled,
            };
            answers.push(engine.top(&request).await.unwrap().rows);
        }
        answers
    }
}

/// Asks beside the runtime of the test.
pub fn ask(test: &TestDatabase, statement: &str) -> Vec<Vec<Option<String>>> {
    std::thread::scope(|scope| scope.spawn(|| test.query(statement)).join().unwrap())
}

/// How many segments lie in each table, and how many flows.
fn segments(test: &TestDatabase) -> [i64; 3] {
    [
        "SELECT count(*) FROM flow_segments",
        "SELECT count(*) FROM flow_segments_open",
        "SELECT sum(flow_rows) FROM segment_headers",
    ]
    .map(|sql| ask(test, sql)[0][0].as_deref().unwrap().parse().unwrap())
}

/// Host totals as they are and, from the rows of `flows`, as they should be.
pub fn totals(test: &TestDatabase, table: &str, unit: &str) -> [Vec<Vec<Option<String>>>; 2] {
    let sums = "sum(raw_bytes * interval)::text, sum(packets * interval)::text, sum(flows)::text, count(*)::text, \
                sum(raw_bytes)::text, sum(packets)::text, \
                sum(CASE WHEN interval > 1 THEN greatest(flows, 1) ELSE 0 END)::text, min(first_seen)::text";
    let inside = |side: &str| format!("({side} <<= '10.0.0.0/8' OR {side} <<= 'fd00::/8')");
    let (source, destination) = (inside("src_ip"), inside("dst_ip"));
    let expected = format!(
        "WITH counted AS (SELECT *, coalesce(in_bytes, 0) + coalesce(out_bytes, 0) AS raw_bytes, \
         coalesce(in_packets, 0) AS packets, coalesce(aggregated_flows, 1) AS flows, \
         greatest(coalesce(sampling_interval, 1), 1) AS interval FROM flows), \
         ways AS (SELECT dst_ip AS host, CASE WHEN src_ip = dst_ip THEN 'internal_self' WHEN {source} \
         THEN 'internal_received' ELSE 'download' END AS way, counted.* FROM counted WHERE {destination} \
         UNION ALL SELECT src_ip, CASE WHEN {destination} THEN 'internal_sent' ELSE 'upload' END, counted.* FROM counted \
         WHERE {source} AND src_ip <> dst_ip) \
         SELECT host::text, date_trunc('{unit}', received, 'UTC')::text AS start, exporter_id::text, way, {sums} \
         FROM ways GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
    );
    let found = format!(
        "SELECT host::text, {unit}::text, exporter_id::text, direction::text, bytes::text, packets::text, flows::text, \
         records::text, raw_bytes::text, raw_packets::text, sampled_flows::text, first_seen::text FROM {table} \
         ORDER BY 1, 2, 3, 4"
    );
    [ask(test, &found), ask(test, &expected)]
}

#[test]
fn a_sealed_hour_has_the_same_flows_in_fewer_segments_and_the_totals_of_its_hosts() {
    let test = TestDatabase::create();
    let mut random = fastrand::Rng::with_seed(5);
    wait_on(async {
        let mut ledger = Ledger::open(&test).await;
        for hour in [0, 1, 2, 23] {
            let rows = random.usize(1..9_000);
            let hour = flows(&mut random, DAY.plus(hour * HOUR), rows);
            ledger.store(hour, 1 + rows / 40).await;
        }
        let (before, [sealed, open, rows]) = (ledger.answers().await, segments(&test));
        assert!(sealed == 0 && open > 80);
        let until = DAY.plus(24 * HOUR);
        let due = ledger.database.hours_to_seal(until, None, &local().fingerprint(), 10).await.unwrap();
        assert_eq!(due, [0, 1, 2, 23].map(|hour| DAY.plus(hour * HOUR)));
        assert_eq!(
            ledger.database.hours_to_seal(until.plus(-1), None, &local().fingerprint(), 10).await.unwrap(),
            due[..3]
        );
        for hour in &due {
            assert!(ledger.seal(*hour).await);
            assert!(!ledger.seal(*hour).await, "it is sealed already");
            assert_eq!(ledger.answers().await, before);
        }
        assert_eq!(segments(&test), [4, 0, rows]);
        let [found, expected] = totals(&test, "host_traffic_hourly", "hour");
        assert!(found == expected && found.len() > 100, "{found:?}\n{expected:?}");

        // Flows that come late open the hour; sealed again it counts them, too.
        for size in [7, 3_000] {
            let late = flows(&mut random, due[1], 3_000);
            ledger.store(late, size).await;
            let before = ledger.answers().await;
            assert_eq!(
                ledger.database.hours_to_seal(until, None, &local().fingerprint(), 10).await.unwrap(),
                due[1..2]
            );
            assert!(ledger.seal(due[1]).await);
            assert_eq!(ledger.answers().await, before);
            let [found, expected] = totals(&test, "host_traffic_hourly", "hour");
            assert!(found == expected);
        }
        ledger.database.close().await;
    });
    assert_eq!(segments(&test)[..2], [4, 0]);
}

#[test]
fn flows_that_come_while_their_hour_is_sealed_are_not_lost_and_wait_for_nobody() {
    let test = TestDatabase::create();
    let mut random = fastrand::Rng::with_seed(6);
    wait_on(async {
        let mut ledger = Ledger::open(&test).await;
        ledger.store(flows(&mut random, DAY, 500), 50).await;
        ledger.database.ensure_day(DailyTable::FlowSegments, DAY).await.unwrap();
        ledger.database.ensure_month(MonthlyTable::HostTrafficHourly, DAY).await.unwrap();
        let mut first = ledger.database.begin_seal(DAY).await.unwrap().unwrap();
        assert!(ledger.database.begin_seal(DAY).await.unwrap().is_none(), "somebody is at it");
        let headers = first.segments().await.unwrap();
        let one = first.load(&headers[0], None).await.unwrap();
        first.remove(&headers[..1]).await.unwrap();
        first.write(headers[0].segment_id, &one).await.unwrap();
        first.write_totals(std::iter::empty()).await.unwrap();
        let late = flows(&mut random, DAY, 300);
        let stored = tokio::time::timeout(std::time::Duration::from_secs(10), ledger.store(late, 100)).await;
        stored.expect("who stores waits for a sealer only while that commits");
        assert!(!first.finish(&local().fingerprint()).await.unwrap());
        assert_eq!(segments(&test), [0, 13, 800]);
        assert!(ledger.seal(DAY).await);
        assert_eq!(segments(&test), [1, 0, 800]);
        let [found, expected] = totals(&test, "host_traffic_hourly", "hour");
        assert!(found == expected);
        ledger.database.close().await;
    });
}

#[test]
fn a_day_is_added_up_when_all_its_hours_are_sealed_and_counts_until_one_is_opened() {
    let test = TestDatabase::create();
    let mut random = fastrand::Rng::with_seed(7);
    wait_on(async {
        let mut ledger = Ledger::open(&test).await;
        let (local, until) = (local().fingerprint(), DAY.plus(24 * HOUR));
        for hour in [3, 9] {
            ledger.store(flows(&mut random, DAY.plus(hour * HOUR), 400), 100).await;
        }
        ledger.database.ensure_month(MonthlyTable::HostTrafficDaily, DAY).await.unwrap();
        ledger.seal(DAY.plus(3 * HOUR)).await;
        assert_eq!(ledger.database.days_to_sum(until, &local).await.unwrap(), []);
        assert!(!ledger.database.sum_day(DAY, &local).await.unwrap());
        ledger.seal(DAY.plus(9 * HOUR)).await;
        assert_eq!(ledger.database.days_to_sum(until.plus(-1), &local).await.unwrap(), []);
        assert_eq!(ledger.database.days_to_sum(until, "others").await.unwrap(), []);
        assert_eq!(ledger.database.days_to_sum(until, &local).await.unwrap(), [DAY]);
        assert!(ledger.database.sum_day(DAY, &local).await.unwrap());
        assert_eq!(ledger.database.days_to_sum(until, &local).await.unwrap(), []);
        let [found, expected] = totals(&test, "host_traffic_daily", "day");
        assert!(found == expected && found.len() > 20, "{found:?}\n{expected:?}");
        // One more hour, and one that is opened again.
        for hour in [4, 9] {
            let hour = DAY.plus(hour * HOUR);
            ledger.store(flows(&mut random, hour, 40), 100).await;
            assert_eq!(ledger.database.days_to_sum(until, &local).await.unwrap(), []);
            assert!(ledger.seal(hour).await);
            assert_eq!(ledger.database.days_to_sum(until, &local).await.unwrap(), [DAY]);
            assert!(ledger.database.sum_day(DAY, &local).await.unwrap());
            let [found, expected] = totals(&test, "host_traffic_daily", "day");
            assert!(found == expected);
        }
        ledger.database.close().await;
    });
}

#[test]
fn a_partition_of_open_segments_goes_when_it_is_empty_and_its_hour_is_over() {
    let test = TestDatabase::create();
    let mut random = fastrand::Rng::with_seed(8);
    let partitions = || {
        let sql = "SELECT relid::regclass::text FROM pg_partition_tree('flow_segments_open') WHERE isleaf ORDER BY 1";
        ask(&test, sql).into_iter().flatten().flatten().collect::<Vec<_>>()
    };
    wait_on(async {
        let mut ledger = Ledger::open(&test).await;
        ledger.store(flows(&mut random, DAY, 40), 10).await;
        let present = partitions();
        let over = "flow_segments_open_p2023_11_15_00";
        ask(
            &test,
            &format!(
                "CREATE TABLE {over} PARTITION OF flow_segments_open FOR VALUES FROM ('2023-11-15 00:00Z') TO \
             ('2023-11-15 01:00Z')"
            ),
        );
        ask(&test, "UPDATE flow_segments_open SET stored = '2023-11-15 00:30Z'");
        assert_eq!(ledger.database.drop_sealed().await.unwrap(), 0, "it is not empty");
        assert!(ledger.seal(DAY).await);
        assert_eq!(ledger.database.drop_sealed().await.unwrap(), 1);
        assert_eq!(partitions(), present);
        assert_eq!(ask(&test, "SELECT to_regclass('flow_segments_open_p2023_11_15_00')::text")[0][0], None);
        ledger.database.close().await;
    });
    assert_eq!(segments(&test), [1, 0, 40]);
}

#[test]
fn two_collectors_with_late_flows_of_one_sealed_hour_do_not_wait_for_each_other_for_ever() {
    let test = TestDatabase::create();
    let mut random = fastrand::Rng::with_seed(9);
    wait_on(async {
        let mut one = Ledger::open(&test).await;
        let mut other = Ledger::of(&test, "99999999-2222-4333-8444-555555555555").await;
        for round in 0..10 {
            one.store(flows(&mut random, DAY, 20), 10).await;
            assert!(one.seal(DAY).await, "{round}");
            // One of two that wait for each other would fail.
            let late = [flows(&mut random, DAY, 20), flows(&mut random, DAY, 30)];
            let [first, second] = late;
            futures_util::future::join(one.store(first, 10), other.store(second, 10)).await;
        }
        assert!(one.seal(DAY).await);
        let [found, expected] = totals(&test, "host_traffic_hourly", "hour");
        assert!(found == expected);
        one.database.close().await;
        other.database.close().await;
    });
}

#[test]
fn flows_that_come_after_those_of_their_hour_were_dropped_are_added_to_its_totals() {
    let test = TestDatabase::create();
    let mut random = fastrand::Rng::with_seed(10);
    wait_on(async {
        let mut ledger = Ledger::open(&test).await;
        ledger.store(flows(&mut random, DAY, 900), 100).await;
        assert!(ledger.seal(DAY).await);
        for rows in [500, 40] {
            ledger.database.drop_day(DailyTable::FlowSegments, DAY).await.unwrap();
            assert_eq!(
                seal_again(&ledger.database, DAY, &local(), &Counting::default()).await.unwrap(),
                Outcome::FlowsGone
            );
            // Twice, so that those that came first are counted once, too.
            for _ in 0..2 {
                ledger.store(flows(&mut random, DAY, rows), 100).await;
                assert!(ledger.seal(DAY).await);
                let [found, expected] = totals(&test, "host_traffic_hourly", "hour");
                assert!(found == expected, "{found:?}\n{expected:?}");
            }
        }
        // Counted by other networks, they would make totals that are neither these nor those: they wait until these are back.
        ledger.store(flows(&mut random, DAY, 10), 10).await;
        let others = Local::new(&["203.0.113.0/24".parse().unwrap()]);
        assert!(!seal(&ledger.database, DAY, &others, &Counting::default()).await.unwrap());
        assert_eq!(ledger.database.hours_to_seal(DAY.plus(HOUR), None, &others.fingerprint(), 10).await.unwrap(), []);
        // An upkeep by age leaves an hour with totals, too.
        ledger.database.forget_open_hours(DAY.plus(HOUR)).await.unwrap();
        assert_eq!(
            ledger.database.hours_to_seal(DAY.plus(HOUR), None, &local().fingerprint(), 10).await.unwrap(),
            [DAY]
        );
        assert!(ledger.seal(DAY).await);
        let [found, expected] = totals(&test, "host_traffic_hourly", "hour");
        assert!(found == expected);
        ledger.database.close().await;
    });
}

#[test]
fn an_hour_whose_flows_are_dropped_before_they_were_counted_never_has_totals_that_are_believed() {
    let test = TestDatabase::create();
    let mut random = fastrand::Rng::with_seed(12);
    wait_on(async {
        let mut ledger = Ledger::open(&test).await;
        ledger.store(flows(&mut random, DAY, 300), 100).await;
        assert!(ledger.seal(DAY).await);
        // Opened by late flows, of which those in large segments are dropped with their day.
        ledger.store(flows(&mut random, DAY, 300), 100).await;
        ask(&test, "UPDATE hours SET sealed_at = NULL");
        ledger.database.drop_day(DailyTable::FlowSegments, DAY).await.unwrap();
        assert!(ledger.seal(DAY).await);
        assert_eq!(ask(&test, "SELECT local, flows_dropped::text FROM hours"), [[None, Some("true".to_owned())]]);
        assert_eq!(
            seal_again(&ledger.database, DAY, &local(), &Counting::default()).await.unwrap(),
            Outcome::FlowsGone
        );
        // A sealed hour without segments is not counted anew, whatever the hour remembers.
        ask(&test, "UPDATE hours SET flows_dropped = false");
        ledger.database.drop_day(DailyTable::FlowSegments, DAY).await.unwrap();
        ask(&test, "UPDATE hours SET flows_dropped = false");
        assert_eq!(
            seal_again(&ledger.database, DAY, &local(), &Counting::default()).await.unwrap(),
            Outcome::FlowsGone
        );
        ledger.database.close().await;
    });
}

#[test]
fn totals_are_counted_anew_after_a_change_of_the_local_networks() {
    let mut server = TestServer::start();
    server.terminate();
    let mut random = fastrand::Rng::with_seed(11);
    let networks = ["10.0.0.4/30", "203.0.113.0/24"];
    let changed: Vec<ipnetwork::IpNetwork> = networks.map(|text| text.parse().unwrap()).to_vec();
    let asked = |test: &TestDatabase| {
        wait_on(async {
            let database = Database::new(&Address::Url(test.url())).unwrap();
            let clock = Arc::new(flowledger::clock::ManualClock::new(DAY.plus(30 * HOUR)));
            let engine = Engine::new(database.clone(), clock, Settings::default(), &changed);
            let request = TopRequest {
                window: Window { from: DAY, to: DAY.plus(24 * HOUR), zone: chrono_tz::UTC },
                by: vec![Dimension::One(Field::DstIp)],
                order: Order::Bytes,
                limit: 500,
                filter: Some(filter::parse("dst net 203.0.113.0/24").unwrap()),
                counters: Counters::Scaled,
            };
            let answer = engine.top(&request).await.unwrap();
            database.close().await;
            answer
        })
    };
    let test = server.database.as_ref().unwrap();
    let sealed: Vec<Timestamp> = [0, 5, 23].map(|hour| DAY.plus(hour * HOUR)).to_vec();
    wait_on(async {
        let mut ledger = Ledger::open(test).await;
        for hour in &sealed {
            ledger.store(flows(&mut random, *hour, 600), 100).await;
            assert!(ledger.seal(*hour).await);
        }
        ledger.database.close().await;
    });
    let before = asked(test);
    assert_eq!((before.source.hours, before.source.segments), (0, 3));
    let rebuild = |server: &mut TestServer, from: &str| {
        server.set("NETWORK__LOCAL", r#"["10.0.0.4/30", "203.0.113.0/24"]"#);
        let output = server.command(&["rebuild-totals", "--from", from, "--to", "2023-11-16"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(rebuild(&mut server, "2023-11-15T05:00"), "hours counted anew: 2; days added up: 0\n");
    assert_eq!(rebuild(&mut server, "2023-11-15"), "hours counted anew: 1; days added up: 1\n");
    assert_eq!(rebuild(&mut server, "2023-11-15"), "hours counted anew: 0; days added up: 0\n");
    let after = asked(server.database.as_ref().unwrap());
    assert_eq!((after.source.days, after.source.segments), (1, 0));
    assert_eq!((after.rows, after.groups), (before.rows, before.groups));
}
