//! A database whose flows differ in all that totals tell apart, and totals that SQL sums from its table `flows`.

use crate::support::postgres::{TestDatabase, wait_on};
use flowledger::clock::{Clock, DAY, HOUR, ManualClock, SECOND, SystemClock, Timestamp};
use flowledger::columns::Encoder;
use flowledger::flow::batch::FlowBatch;
use flowledger::flow::fields::Field;
use flowledger::flow::local::Local;
use flowledger::flow::value::wide_from_address;
use flowledger::query::{Counters, Engine, Settings, Window};
use flowledger::store::commit::Batch;
use flowledger::store::partitions::DailyTable;
use flowledger::store::{Address, Database};
use ipnetwork::IpNetwork;
use std::net::IpAddr;
use std::sync::Arc;

pub const JOURNAL: &str = "11111111-2222-4333-8444-555555555555";
pub const LOCAL: [&str; 3] = ["10.0.0.0/8", "192.168.0.0/16", "fd00::/8"];
/// How many days have flows.
pub const DAYS: i64 = 5;

pub fn local() -> Vec<IpNetwork> {
    LOCAL.iter().map(|text| text.parse().unwrap()).collect()
}

/// The first of the days with flows: long enough ago that all of them are over.
pub fn first_day() -> Timestamp {
    SystemClock.now().day().plus(-(DAYS + 2) * DAY)
}

pub fn addresses() -> Vec<IpAddr> {
    let mut texts: Vec<String> = (1..9).map(|host| format!("10.0.{}.{host}", host % 3)).collect();
    texts.extend((1..4).map(|host| format!("192.168.1.{host}")));
    texts.extend((1..4).map(|host| format!("fd00::{host}")));
    texts.extend((1..4).map(|host| format!("203.0.113.{host}")));
    texts.extend((1..3).map(|host| format!("2001:db8::{host}")));
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Flows of one hour, of any kind that makes a difference.
pub fn flows_of(random: &mut fastrand::Rng, hour: Timestamp) -> FlowBatch {
    let addresses = addresses();
    let rows = random.usize(1..40);
    let mut batch = FlowBatch::default();
    batch.add_rows(rows);
    let mut times: Vec<i64> = (0..rows).map(|_| hour.micros() + random.i64(0..HOUR)).collect();
    times[0] = hour.micros() + random.i64(0..2);
    times.sort_unstable();
    batch.column_mut(Field::Received).time_run(0, rows).copy_from_slice(&times);
    batch.column_mut(Field::ExporterId).u32_run(0, rows).iter_mut().for_each(|id| *id = random.u32(1..4));
    for (row, received) in times.into_iter().enumerate() {
        let host = |random: &mut fastrand::Rng| wide_from_address(addresses[random.usize(..addresses.len())]);
        let source = host(random);
        for (field, address) in
            [(Field::SrcIp, source), (Field::DstIp, if random.u8(..9) == 0 { source } else { host(random) })]
        {
            if random.u8(..12) > 0 {
                batch.column_mut(field).wide_run(row, 1)[0] = address;
            }
        }
        for (field, seldom) in
            [(Field::InBytes, 9), (Field::InPackets, 9), (Field::OutBytes, 2), (Field::OutPackets, 2)]
        {
            if random.u8(..10) < seldom {
                let bits = random.u32(1..30);
                batch.column_mut(field).u64_run(row, 1)[0] = random.u64(..1 << bits);
            }
        }
        if random.u8(..4) == 0 {
            batch.column_mut(Field::AggregatedFlows).u64_run(row, 1)[0] = random.u64(..4);
        }
        if let Some(interval) = [None, Some(0), Some(1), Some(10), Some(1_000)][random.usize(..5)] {
            batch.column_mut(Field::SamplingInterval).u32_run(row, 1)[0] = interval;
        }
        for (field, before) in [(Field::FirstSeen, 90 * SECOND), (Field::LastSeen, 5 * SECOND)] {
            if random.u8(..3) > 0 {
                batch.column_mut(field).time_run(row, 1)[0] = received - random.i64(0..before);
            }
        }
    }
    batch
}

pub fn open(test: &TestDatabase) -> Database {
    Database::new(&Address::Url(test.url())).unwrap()
}

pub fn engine(database: &Database, settings: Settings) -> Engine {
    Engine::new(database.clone(), Arc::new(ManualClock::new(SystemClock.now())), settings, &local())
}

/// A database with flows in two of three hours, of which nothing is sealed, recorded since long before.
pub fn filled(random: &mut fastrand::Rng) -> TestDatabase {
    let test = TestDatabase::create();
    wait_on(async {
        let database = open(&test);
        database.prepare(|error| panic!("{error}")).await.unwrap();
        database.journal_position(JOURNAL).await.unwrap();
        database.ensure_open().await.unwrap();
        let (mut end, mut encoder) = (0, Encoder::new(0));
        for day in 0..DAYS {
            let mut batch = Batch { start: end, end: end + 1, complete_until: SystemClock.now(), ..Batch::default() };
            end += 1;
            let day = first_day().plus(day * DAY);
            for table in DailyTable::ALL {
                database.ensure_day(table, day).await.unwrap();
            }
            for hour in 0..24 {
                if random.u8(..3) == 0 {
                    continue;
                }
                let flows = flows_of(random, day.plus(hour * HOUR));
                let half = flows.rows() / 2;
                for rows in [0..half, half..flows.rows()].into_iter().filter(|rows| !rows.is_empty()) {
                    batch.segments.push(encoder.encode(&flows, rows).unwrap());
                }
                batch.rows.push(flows);
            }
            database.commit(JOURNAL, &batch).await.unwrap();
        }
        database.close().await;
    });
    test.query(&format!("UPDATE journal_positions SET created_at = '{}'", first_day().plus(-90 * DAY)));
    partitions(&test, first_day(), DAYS);
    // What ingest puts on record with the flows.
    test.query(
        "INSERT INTO hours (hour) SELECT DISTINCT date_trunc('hour', received, 'UTC') FROM flows ON CONFLICT DO NOTHING",
    );
    test
}

/// Makes the partitions of totals for the months that the days lie in.
pub fn partitions(test: &TestDatabase, from: Timestamp, days: i64) {
    for day in 0..=days {
        let first = from.plus(day * DAY).to_utc().format("%Y-%m-01").to_string();
        for table in ["host_traffic_hourly", "host_traffic_daily"] {
            test.query(&format!(
                "CREATE TABLE IF NOT EXISTS {table}_p{} PARTITION OF {table} FOR VALUES FROM ('{first} UTC') TO \
                 (timestamptz '{first} UTC' + interval '1 month')",
                first[..7].replace('-', "_")
            ));
        }
    }
}

pub fn is_local(column: &str) -> String {
    format!("coalesce({column} <<= ANY('{{{}}}'::inet[]), false)", LOCAL.join(","))
}

/// What every row of totals is summed from, with `factor` for what sampling exporters send.
pub const FACTOR: &str = "greatest(coalesce(sampling_interval, 1), 1)::numeric";

pub fn sums(factor: &str) -> String {
    format!(
        "sum((coalesce(in_bytes, 0) + coalesce(out_bytes, 0)) * {factor}) AS bytes, \
         sum((coalesce(in_packets, 0) + coalesce(out_packets, 0)) * {factor}) AS packets, \
         sum(coalesce(aggregated_flows, 1)) AS flows"
    )
}

/// Sums up all hours and days.
pub fn sum_up(test: &TestDatabase) {
    let sides = format!(
        "SELECT dst_ip AS host, CASE WHEN src_ip = dst_ip THEN 'internal_self' WHEN {source} THEN 'internal_received' \
         ELSE 'download' END AS way, flows.* FROM flows WHERE {destination} \
         UNION ALL SELECT src_ip, CASE WHEN {destination} THEN 'internal_sent' ELSE 'upload' END, flows.* FROM flows \
         WHERE {source} AND src_ip IS DISTINCT FROM dst_ip",
        source = is_local("src_ip"),
        destination = is_local("dst_ip"),
    );
    for (table, unit) in [("hourly", "hour"), ("daily", "day")] {
        test.query(&format!(
            "INSERT INTO host_traffic_{table} SELECT host, date_trunc('{unit}', received, 'UTC'), exporter_id, \
             way::traffic_direction, {scaled}, count(*), \
             sum(coalesce(in_bytes, 0) + coalesce(out_bytes, 0)), sum(coalesce(in_packets, 0) + coalesce(out_packets, 0)), \
             coalesce(sum(greatest(coalesce(aggregated_flows, 1), 1)) FILTER (WHERE sampling_interval > 1), 0), \
             min(first_seen), max(last_seen) FROM ({sides}) AS sides GROUP BY 1, 2, 3, 4",
            scaled = sums(FACTOR)
        ));
    }
}

/// Marks all hours as sealed and all days as summed.
pub fn seal_all(test: &TestDatabase) {
    let local = Local::new(&local()).fingerprint();
    test.query(&format!("UPDATE hours SET sealed_at = now(), local = '{local}', version = version + 1"));
    test.query("DELETE FROM days");
    test.query(&format!(
        "INSERT INTO days (day, hours, versions, local) \
         SELECT date_trunc('day', hour, 'UTC'), count(*), sum(version), '{local}' FROM hours GROUP BY 1"
    ));
}

/// One of the states, 0 to 5, in which the keeper, late flows or a changed configuration leave the tables.
pub fn arrange(test: &TestDatabase, random: &mut fastrand::Rng, state: usize) {
    seal_all(test);
    let hours = test.query("SELECT hour FROM hours ORDER BY hour");
    let some = |random: &mut fastrand::Rng, count: usize| {
        let picked: Vec<String> =
            random.choose_multiple(&hours, count).iter().map(|row| format!("'{}'", row[0].as_ref().unwrap())).collect();
        picked.join(", ")
    };
    match state {
        0 => {}
        1 => {
            // The last hours are open still.
            test.query(
                "UPDATE hours SET sealed_at = NULL WHERE hour >= (SELECT max(hour) FROM hours) - interval '7 hours'",
            );
        }
        2 => {
            // Late flows opened one, which was then sealed again, but its day was not added up again.
            test.query(&format!("UPDATE hours SET version = version + 2 WHERE hour IN ({})", some(random, 1)));
        }
        3 => {
            test.query(&format!(
                "UPDATE hours SET sealed_at = NULL, version = version + 1 WHERE hour IN ({})",
                some(random, 2)
            ));
        }
        4 => {
            // Other networks were local then.
            test.query(&format!("UPDATE hours SET local = '10.0.0.0/8' WHERE hour IN ({})", some(random, 2)));
            test.query("UPDATE days SET local = '10.0.0.0/8' WHERE day = (SELECT min(day) FROM days)");
        }
        _ => {
            test.query("DELETE FROM days WHERE day < (SELECT max(day) FROM days)");
        }
    }
}

pub fn in_window(window: &Window) -> String {
    format!("received >= '{}' AND received < '{}'", window.from, window.to)
}

pub fn factor_of(counters: Counters) -> &'static str {
    if counters == Counters::Scaled { FACTOR } else { "1::numeric" }
}

pub const MOMENTS: &str =
    "(extract(epoch FROM min(first_seen)) * 1000000)::bigint, (extract(epoch FROM max(last_seen)) * 1000000)::bigint";

/// A database without flows but with totals of so many hosts over so many days, each three directions.
pub fn with_totals(hosts: u32, days: i64) -> TestDatabase {
    let test = TestDatabase::create();
    wait_on(async {
        let database = open(&test);
        database.prepare(|error| panic!("{error}")).await.unwrap();
        database.journal_position(JOURNAL).await.unwrap();
        database.close().await;
    });
    test.query(&format!("UPDATE journal_positions SET created_at = '{}'", first_day().plus(-90 * DAY)));
    partitions(&test, first_day(), days);
    test.query(&format!(
        "INSERT INTO hours (hour) SELECT generate_series(timestamptz '{}', timestamptz '{}', interval '1 hour')",
        first_day(),
        first_day().plus(days * DAY - HOUR)
    ));
    for (table, unit) in [("hourly", "hour"), ("daily", "day")] {
        test.query(&format!(
            "INSERT INTO host_traffic_{table} \
             SELECT inet '10.0.0.0' + host, moment, 1, direction::traffic_direction, (host * 7919) % 1000003, host % 97, 1, 1, \
             (host * 7919) % 1000003, host % 97, 0, moment, moment FROM generate_series(timestamptz '{}', timestamptz '{}', interval '1 {unit}') AS moment, \
             generate_series(1, {hosts}) AS host, unnest(ARRAY['download', 'upload', 'internal_received']) AS direction \
             ORDER BY moment, host, direction",
            first_day(),
            first_day().plus(days * DAY - HOUR),
        ));
    }
    test.query("ANALYZE");
    seal_all(&test);
    test
}
