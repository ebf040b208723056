//! What ends, ends whole: days, months and open hours go with what is to outlive them counted, whoever reads, writes or works
//! beside it.

use crate::seal::{DAY, Ledger, ask, flows, local, totals};
use crate::support::postgres::{TestDatabase, wait_on};
use flowledger::clock::{HOUR, ManualClock, Timestamp};
use flowledger::flow::counting::Counting;
use flowledger::flow::fields::Field;
use flowledger::flow::local::Local;
use flowledger::keep::expiry::{Expiry, Stays};
use flowledger::keep::seal::{seal, seal_within};
use flowledger::keep::{Keeper, Metrics, Settings};
use flowledger::store::drops::{Deleted, Dropped, Part};
use flowledger::store::partitions::{DailyTable, MonthlyTable};
use sqlx::{Connection, Executor, PgConnection};
use std::sync::Arc;
use std::time::Duration;

const SEGMENTS: Part = Part::Day(DailyTable::FlowSegments, DAY);

/// The hours on record: hour, whether sealed, what it was counted by, whether flows were dropped.
fn hours(test: &TestDatabase) -> Vec<[Option<String>; 4]> {
    let sql = "SELECT extract(hour FROM hour AT TIME ZONE 'UTC')::text, (sealed_at IS NOT NULL)::text, local, \
               flows_dropped::text FROM hours ORDER BY hour";
    ask(test, sql).into_iter().map(|row| row.try_into().unwrap()).collect()
}

fn row(hour: &str, sealed: bool, local: Option<&str>, dropped: bool) -> [Option<String>; 4] {
    [Some(hour.to_owned()), Some(sealed.to_string()), local.map(str::to_owned), Some(dropped.to_string())]
}

/// Damages a block of all segments of an hour in a table.
fn damage(test: &TestDatabase, table: &str, hour: Timestamp) {
    put(test, table, hour, "01ff");
}

/// Puts a block in the place of the flows' bytes.
fn put(test: &TestDatabase, table: &str, hour: Timestamp, block: &str) {
    let (from, to) = (hour.to_utc(), hour.plus(HOUR).to_utc());
    let sql = format!(
        "UPDATE {table} SET in_bytes = '\\x{block}' WHERE received_first >= '{from}' AND received_first < '{to}' RETURNING 1"
    );
    assert!(!ask(test, &sql).is_empty());
}

#[test]
fn a_day_that_another_server_adds_up_at_the_same_time_is_left_to_it() {
    let test = TestDatabase::create();
    let mut random = fastrand::Rng::with_seed(13);
    wait_on(async {
        let mut ledger = Ledger::open(&test).await;
        let local = local().fingerprint();
        ledger.store(flows(&mut random, DAY, 100), 100).await;
        assert!(ledger.seal(DAY).await);
        ledger.database.ensure_month(MonthlyTable::HostTrafficDaily, DAY).await.unwrap();
        assert!(ledger.database.sum_day(DAY, &local).await.unwrap());
        let mut other = PgConnection::connect(&test.url()).await.unwrap();
        other.execute("BEGIN; UPDATE days SET hours = hours").await.unwrap();
        let commit = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            other.execute("COMMIT").await.unwrap();
        };
        let (summed, ()) = futures_util::future::join(ledger.database.sum_day(DAY, &local), commit).await;
        assert!(!summed.unwrap());
        // What gave way is rolled back behind the caller's back, and holds its turn until then.
        let mut tries = 0;
        while !ledger.database.sum_day(DAY, &local).await.unwrap() {
            tries += 1;
            assert!(tries < 200, "the day is not added up");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        ledger.database.close().await;
    });
}

#[test]
fn a_partition_of_open_segments_that_was_left_half_dropped_goes_when_its_reader_has_ended() {
    let test = TestDatabase::create();
    wait_on(async {
        let ledger = Ledger::open(&test).await;
        let names = ["flow_segments_open_p2023_11_15_00", "flow_segments_open_p2023_11_15_01"];
        for (hour, name) in names.iter().enumerate() {
            ask(
                &test,
                &format!(
                    "CREATE TABLE {name} PARTITION OF flow_segments_open FOR VALUES FROM ('2023-11-15 0{hour}:00Z') TO \
                     ('2023-11-15 0{}:00Z')",
                    hour + 1
                ),
            );
        }
        // One server ended between detaching and dropping.
        ask(&test, &format!("ALTER TABLE flow_segments_open DETACH PARTITION {}", names[0]));
        let mut reader = PgConnection::connect(&test.url()).await.unwrap();
        reader.execute("BEGIN; SELECT count(*) FROM flow_segments_open").await.unwrap();
        for _ in 0..2 {
            assert!(ledger.database.drop_sealed().await.unwrap_err().is_in_use());
            // Meanwhile the next hours are made.
            ledger.database.ensure_open().await.unwrap();
        }
        assert_eq!(ask(&test, "SELECT to_regclass('flow_segments_open_p2023_11_15_00')::text")[0][0], None);
        reader.execute("COMMIT").await.unwrap();
        assert_eq!(ledger.database.drop_sealed().await.unwrap(), 1);
        let left = ask(&test, "SELECT relname FROM pg_class WHERE relname LIKE 'flow_segments_open_p2023%'");
        assert_eq!(left, Vec::<Vec<Option<String>>>::new());
        ledger.database.close().await;
    });
}

#[test]
fn a_day_of_rows_goes_although_somebody_always_uses_their_table() {
    let test = TestDatabase::create();
    let mut random = fastrand::Rng::with_seed(21);
    wait_on(async {
        let mut ledger = Ledger::open(&test).await;
        ledger.store(flows(&mut random, DAY, 100), 100).await;
        // One begins before the other ends, and each lasts longer than anybody may be held up.
        let mut users = Vec::new();
        for _ in 0..2 {
            users.push(PgConnection::connect(&test.url()).await.unwrap());
        }
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let load = tokio::spawn(async move {
            let mut longest = Duration::ZERO;
            for turn in (0..2).cycle() {
                let begun = std::time::Instant::now();
                users[turn].execute("BEGIN; SELECT FROM flows LIMIT 1").await.unwrap();
                longest = longest.max(begun.elapsed());
                tokio::time::sleep(Duration::from_millis(300)).await;
                users[1 - turn].execute("COMMIT").await.unwrap();
                if *stopped.borrow() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            longest
        });
        tokio::time::sleep(Duration::from_millis(200)).await;
        ledger.database.drop_day(DailyTable::Flows, DAY).await.unwrap();
        stop.send(true).unwrap();
        let longest = load.await.unwrap();
        assert!(longest < Duration::from_secs(1), "somebody waited {longest:?}");
        assert_eq!(ledger.database.days(DailyTable::Flows).await.unwrap(), []);
        assert_eq!(ask(&test, "SELECT to_regclass('flows_p2023_11_15')::text")[0][0], None);
        ledger.database.close().await;
    });
}

#[test]
fn a_day_that_was_detached_to_be_dropped_goes_later_and_one_that_somebody_keeps_stays() {
    let test = TestDatabase::create();
    let mut random = fastrand::Rng::with_seed(22);
    wait_on(async {
        let mut ledger = Ledger::open(&test).await;
        for day in 0..3 {
            ledger.store(flows(&mut random, DAY.plus(day * 24 * HOUR), 100), 100).await;
        }
        for day in 15..18 {
            // Somebody keeps the last one.
            if day != 17 {
                ask(&test, &format!("COMMENT ON TABLE flows_p2023_11_{day} IS 'Flowledger drops this table'"));
            }
            ask(&test, &format!("ALTER TABLE flows DETACH PARTITION flows_p2023_11_{day}"));
        }
        // Flows of a day come once more before it is dropped: it is not taken back.
        ledger.store(flows(&mut random, DAY.plus(24 * HOUR), 30), 30).await;
        ledger.database.drop_left_behind().await.unwrap();
        let days = ["15", "16", "17"].map(|day| format!("to_regclass('flows_p2023_11_{day}')::text"));
        let left = ask(&test, &format!("SELECT {}", days.join(", "))).remove(0);
        assert_eq!(left, [None, None, Some("flows_p2023_11_17".to_owned())]);
        assert_eq!(ask(&test, "SELECT count(*)::text FROM flows")[0][0].as_deref(), Some("0"));
        assert_eq!(ask(&test, "SELECT sum(flow_rows)::text FROM segment_headers")[0][0].as_deref(), Some("330"));
        ledger.database.close().await;
    });
}

#[test]
fn a_day_whose_detaching_a_reader_held_up_goes_when_he_ends_and_what_comes_meanwhile_waits_for_nobody() {
    let test = TestDatabase::create();
    let mut random = fastrand::Rng::with_seed(23);
    wait_on(async {
        let mut ledger = Ledger::open(&test).await;
        let mut session = PgConnection::connect(&test.url()).await.unwrap();
        for (round, [comes, is_empty]) in [[false, false], [true, false], [false, true]].into_iter().enumerate() {
            ask(&test, "DELETE FROM flow_segments_open");
            ledger.store(flows(&mut random, DAY, 100), 100).await;
            let mut reader = PgConnection::connect(&test.url()).await.unwrap();
            reader.execute("BEGIN; SELECT FROM flows LIMIT 1").await.unwrap();
            // As a process leaves it that ends in the middle.
            session.execute("COMMENT ON TABLE flows_p2023_11_15 IS 'Flowledger drops this table'").await.unwrap();
            session.execute("SET statement_timeout = '200ms'").await.unwrap();
            let detaching = session.execute("ALTER TABLE flows DETACH PARTITION flows_p2023_11_15 CONCURRENTLY").await;
            assert!(detaching.is_err());
            assert!(ledger.database.drop_left_behind().await.unwrap_err().is_in_use());
            // The doctor looks at it no more, since none of its rows can be read.
            let mut snapshot = ledger.database.snapshot_of_flows().await.unwrap();
            assert_eq!(snapshot.days(DailyTable::Flows).await.unwrap(), []);
            drop(snapshot);
            if comes {
                ledger.store(flows(&mut random, DAY, 20), 20).await;
            }
            if is_empty {
                // Nothing of the day is stored any more: it is taken back.
                ask(&test, "DELETE FROM flow_segments_open");
                let day = ledger.database.ensure_rows(DAY).await.unwrap_err();
                assert!(day.is_outage(), "what comes waits and is tried again: {day}");
            }
            reader.execute("COMMIT").await.unwrap();
            if is_empty {
                ledger.store(flows(&mut random, DAY, 20), 20).await;
            }
            ledger.database.drop_left_behind().await.unwrap();
            let rows = if is_empty { 120 } else { 0 };
            let found = ask(&test, "SELECT count(*)::text FROM flows")[0][0].clone();
            assert_eq!(found, Some(rows.to_string()), "{round}");
            assert_eq!(ledger.database.days(DailyTable::Flows).await.unwrap().len(), usize::from(is_empty));
        }
        // The comment is gone with the intention.
        let sql = "SELECT obj_description('flows_p2023_11_15'::regclass, 'pg_class')";
        assert_eq!(ask(&test, sql)[0][0], None);
        ledger.database.close().await;
    });
}

#[test]
fn flows_of_an_hour_that_are_stored_while_its_day_waits_to_go_are_told_to_be_uncounted() {
    let test = TestDatabase::create();
    let mut random = fastrand::Rng::with_seed(14);
    wait_on(async {
        let mut ledger = Ledger::open(&test).await;
        ledger.store(flows(&mut random, DAY, 300), 100).await;
        assert!(ledger.seal(DAY).await);
        // As an import stores them: a large segment of another hour, in a transaction that goes on.
        let mut import = PgConnection::connect(&test.url()).await.unwrap();
        import
            .execute(
                "BEGIN; CREATE TEMPORARY TABLE copy ON COMMIT DROP AS SELECT * FROM flow_segments; \
                 UPDATE copy SET segment_id = 1, received_first = received_first + interval '5 hours', \
                 received_last = received_last + interval '5 hours'; \
                 INSERT INTO flow_segments SELECT * FROM copy; \
                 INSERT INTO hours (hour) SELECT date_trunc('hour', received_first, 'UTC') FROM copy",
            )
            .await
            .unwrap();
        let commit = async {
            tokio::time::sleep(Duration::from_millis(700)).await;
            import.execute("COMMIT").await.unwrap();
        };
        let dropping = ledger.database.drop_day(DailyTable::FlowSegments, DAY);
        let (dropped, ()) = futures_util::future::join(dropping, commit).await;
        dropped.unwrap();
        let fingerprint = local().fingerprint();
        assert_eq!(hours(&test), [row("0", true, Some(&fingerprint), true), row("5", false, None, true)]);
        // Sealed without its flows it has no totals that are believed.
        assert!(ledger.seal(DAY.plus(5 * HOUR)).await);
        assert_eq!(hours(&test)[1], row("5", true, None, true));
        ledger.database.close().await;
    });
}

#[test]
fn hours_are_sealed_before_their_day_goes_unless_they_cannot_be() {
    let test = TestDatabase::create();
    let mut random = fastrand::Rng::with_seed(15);
    wait_on(async {
        let mut ledger = Ledger::open(&test).await;
        for hour in [0, 7] {
            ledger.store(flows(&mut random, DAY.plus(hour * HOUR), 500), 100).await;
            assert!(ledger.seal(DAY.plus(hour * HOUR)).await);
        }
        // One is large and uncounted, as after an import; one is open.
        ask(&test, "UPDATE hours SET sealed_at = NULL, version = 0, local = NULL; DELETE FROM host_traffic_hourly");
        ledger.store(flows(&mut random, DAY.plus(7 * HOUR), 50), 10).await;
        let (local, counting) = (local(), Counting::default());
        let database = ledger.database.clone();
        let expiry = Expiry { database: &database, local: &local, counting: &counting };
        // Another server seals one of them.
        let busy = ledger.database.begin_seal(DAY.plus(7 * HOUR)).await.unwrap().unwrap();
        let stays = expiry.drop_part(SEGMENTS).await.unwrap_err();
        assert!(matches!(stays, Stays::NotSealed(hour) if hour == DAY.plus(7 * HOUR)), "{stays}");
        assert_eq!(ledger.database.days(DailyTable::FlowSegments).await.unwrap(), [DAY]);
        drop(busy);
        tokio::time::sleep(Duration::from_millis(200)).await;
        expiry.drop_part(SEGMENTS).await.unwrap();
        assert_eq!(ledger.database.days(DailyTable::FlowSegments).await.unwrap(), []);
        let fingerprint = local.fingerprint();
        assert_eq!(hours(&test), ["0", "7"].map(|hour| row(hour, true, Some(&fingerprint), true)));
        let [found, expected] = totals(&test, "host_traffic_hourly", "hour");
        assert!(found == expected && found.len() > 20, "{found:?}\n{expected:?}");

        // One that was opened after all were sealed keeps its day, and its totals.
        ledger.store(flows(&mut random, DAY.plus(8 * HOUR), 50), 50).await;
        assert!(ledger.seal(DAY.plus(8 * HOUR)).await);
        ledger.store(flows(&mut random, DAY.plus(8 * HOUR), 50), 50).await;
        let open = database.drop_part(SEGMENTS, Some(&[])).await.unwrap();
        assert_eq!(open, Dropped::Open(DAY.plus(8 * HOUR)));
        assert_eq!(hours(&test)[2], row("8", false, Some(&fingerprint), false));
        expiry.drop_part(SEGMENTS).await.unwrap();
        assert_eq!(hours(&test)[2], row("8", true, Some(&fingerprint), true));

        // A damaged segment keeps nothing for ever.
        ledger.store(flows(&mut random, DAY.plus(9 * HOUR), 50), 50).await;
        assert!(ledger.seal(DAY.plus(9 * HOUR)).await);
        ledger.store(flows(&mut random, DAY.plus(9 * HOUR), 50), 50).await;
        // What only a later version can read does.
        put(&test, "flow_segments", DAY.plus(9 * HOUR), "ff");
        assert!(matches!(expiry.drop_part(SEGMENTS).await, Err(Stays::NotSealed(_))));
        damage(&test, "flow_segments", DAY.plus(9 * HOUR));
        expiry.drop_part(SEGMENTS).await.unwrap();
        assert_eq!(hours(&test)[3], row("9", false, None, true));
        assert_eq!(ask(&test, "SELECT FROM segment_headers").len(), 0);
        ledger.database.close().await;
    });
}

#[test]
fn open_segments_that_cannot_be_sealed_go_when_they_are_too_old() {
    let test = TestDatabase::create();
    let mut random = fastrand::Rng::with_seed(16);
    wait_on(async {
        let mut ledger = Ledger::open(&test).await;
        let hour = |number: i64| DAY.plus(number * HOUR);
        // Hour 0 waits for rules that are gone, hour 1 is damaged, hour 2 is well, hour 3 is damaged and not too old.
        ledger.store(flows(&mut random, hour(0), 30), 30).await;
        let others = Local::new(&["203.0.113.0/24".parse().unwrap()]);
        assert!(seal(&ledger.database, hour(0), &others, &Counting::default()).await.unwrap());
        ledger.database.drop_day(DailyTable::FlowSegments, DAY).await.unwrap();
        for (number, rows) in [(0, 20), (1, 30), (2, 40), (3, 50)] {
            ledger.store(flows(&mut random, hour(number), rows), 10).await;
        }
        damage(&test, "flow_segments_open", hour(1));
        damage(&test, "flow_segments_open", hour(3));
        let (local, counting) = (local(), Counting::default());
        let expiry = Expiry { database: &ledger.database, local: &local, counting: &counting };
        assert_eq!(expiry.drop_open(hour(0)).await.unwrap(), Deleted::default());
        assert_eq!(expiry.drop_open(hour(3)).await.unwrap(), Deleted { segments: 5, flows: 50 });
        let fingerprint = local.fingerprint();
        let expected = [
            row("0", false, None, true),
            row("1", false, None, true),
            row("2", true, Some(&fingerprint), false),
            row("3", false, None, false),
        ];
        assert_eq!(hours(&test), expected);
        // Of what has neither flows nor totals it stays known that they are gone; what had totals is never believed again.
        ledger.database.forget_open_hours(hour(3)).await.unwrap();
        assert!(ledger.seal(hour(0)).await);
        let gone = ["0", "1"].map(|hour| row(hour, true, None, true));
        assert_eq!(hours(&test), [&gone[..], &expected[2..]].concat());
        assert_eq!(ask(&test, "SELECT sum(flow_rows)::text FROM flow_segments_open")[0][0].as_deref(), Some("50"));
        ledger.database.close().await;
    });
}

#[test]
fn a_month_of_totals_goes_with_its_hours_and_days_and_only_when_its_segments_have_gone() {
    let test = TestDatabase::create();
    let mut random = fastrand::Rng::with_seed(17);
    wait_on(async {
        let mut ledger = Ledger::open(&test).await;
        let next_month = DAY.plus(30 * 24 * HOUR);
        for day in [DAY, next_month] {
            ledger.store(flows(&mut random, day, 100), 100).await;
            assert!(ledger.seal(day).await);
            ledger.database.ensure_month(MonthlyTable::HostTrafficDaily, day).await.unwrap();
            assert!(ledger.database.sum_day(day, &local().fingerprint()).await.unwrap());
        }
        let month = Part::Month(DailyTable::Flows.day("flows_p2023_11_01").unwrap());
        assert_eq!(ledger.database.drop_part(month, None).await.unwrap(), Dropped::HasSegments);
        ledger.database.drop_day(DailyTable::FlowSegments, DAY).await.unwrap();
        assert_eq!(ledger.database.drop_part(month, None).await.unwrap(), Dropped::Gone);
        for (table, moment) in [
            ("hours WHERE local IS NOT NULL", "hour"),
            ("days", "day"),
            ("host_traffic_hourly", "hour"),
            ("host_traffic_daily", "day"),
        ] {
            let left = ask(&test, &format!("SELECT DISTINCT {moment}::date::text FROM {table}"));
            assert_eq!(left, [[Some("2023-12-15".to_owned())]], "{table}");
        }
        let sql = "SELECT count(*)::text FROM pg_class WHERE relname LIKE 'host_traffic%_p2023_11'";
        assert_eq!(ask(&test, sql)[0][0].as_deref(), Some("0"));
        ledger.database.close().await;
    });
}

#[test]
fn totals_that_do_not_fit_into_memory_are_the_same() {
    let test = TestDatabase::create();
    let mut random = fastrand::Rng::with_seed(18);
    wait_on(async {
        let mut ledger = Ledger::open(&test).await;
        for (hour, keys) in [(0, 1), (1, 7), (2, 1_000)] {
            let hour = DAY.plus(hour * HOUR);
            ledger.store(flows(&mut random, hour, 900), 50).await;
            assert!(seal_within(&ledger.database, hour, &local(), &Counting::default(), keys).await.unwrap());
            let [found, expected] = totals(&test, "host_traffic_hourly", "hour");
            assert!(found == expected && found.len() > 20, "{keys}: {found:?}\n{expected:?}");
        }
        // Added to totals whose flows are gone.
        ledger.database.drop_day(DailyTable::FlowSegments, DAY).await.unwrap();
        ledger.store(flows(&mut random, DAY, 500), 50).await;
        assert!(seal_within(&ledger.database, DAY, &local(), &Counting::default(), 3).await.unwrap());
        let [found, expected] = totals(&test, "host_traffic_hourly", "hour");
        assert!(found == expected);
        ask(&test, "DELETE FROM host_traffic_hourly");
        // More than the database can keep, in parts and at once.
        for (hour, keys) in [(5, 1), (6, 1_000)] {
            let hour = DAY.plus(hour * HOUR);
            let mut large = flows(&mut random, hour, 4);
            for (field, value) in [(Field::SrcIp, 1u128), (Field::DstIp, 0xffff_0a00_0001)] {
                large.column_mut(field).wide_run(0, 4).fill(value);
            }
            large.column_mut(Field::ExporterId).u32_run(0, 4).fill(1);
            large.column_mut(Field::InBytes).u64_run(0, 4).fill(i64::MAX as u64 - 1);
            ledger.store(large, 1).await;
            assert!(seal_within(&ledger.database, hour, &local(), &Counting::default(), keys).await.unwrap());
        }
        let sums = ask(&test, "SELECT raw_bytes::text, records::text FROM host_traffic_hourly");
        assert_eq!(sums, vec![[Some(i64::MAX.to_string()), Some("4".to_owned())]; 2]);
        ledger.database.close().await;
    });
}

#[test]
fn hours_that_always_fail_do_not_keep_later_ones_from_being_sealed() {
    let test = TestDatabase::create();
    let mut random = fastrand::Rng::with_seed(19);
    wait_on(async {
        let mut ledger = Ledger::open(&test).await;
        for number in 0..26 {
            ledger.store(flows(&mut random, DAY.plus(number * HOUR), 5), 5).await;
        }
        for number in 0..25 {
            damage(&test, "flow_segments_open", DAY.plus(number * HOUR));
        }
        let settings = Settings { flows_days: 1_000, segments_days: 1_000, max_bytes: None };
        let clock = Arc::new(ManualClock::new(DAY.plus(30 * HOUR)));
        let metrics = Metrics::default();
        let keeper =
            Keeper::start(settings, local(), Counting::default(), ledger.database.clone(), clock, metrics.clone());
        let mut tries = 0;
        while ask(&test, "SELECT FROM hours WHERE sealed_at IS NOT NULL").is_empty() {
            tries += 1;
            assert!(tries < 50, "the last hour is not sealed");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        keeper.stop().await;
        ledger.database.close().await;
    });
}
