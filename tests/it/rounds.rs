//! Rounds of upkeep: an hour that fails is named and left alone for a while, and keeps no later one open; an hour that somebody
//! fills is not forgotten, and totals that were counted by other networks are told as long as they can be mended.

use crate::import::{flows as archived, hour, imported, write};
use crate::seal::{DAY, Ledger, ask, flows, local};
use crate::support::archives::nfdump_1_6;
use crate::support::postgres::{TestDatabase, wait_on};
use crate::support::server::TestServer;
use crate::support::wait_for;
use flowledger::clock::{DAY as LENGTH, HOUR, ManualClock, Timestamp};
use flowledger::flow::counting::Counting;
use flowledger::flow::local::Local;
use flowledger::keep::expiry::{Expiry, Stays};
use flowledger::keep::seal::seal;
use flowledger::keep::{Keeper, Metrics, Settings};
use flowledger::metrics::Registry;
use flowledger::store::drops::{Deleted, Part};
use flowledger::store::hours::CountedOtherwise;
use flowledger::store::partitions::DailyTable;
use sqlx::{Connection, Executor, PgConnection};
use std::sync::Arc;
use std::time::Duration;

#[test]
fn an_hour_that_cannot_be_sealed_is_not_tried_again_in_the_next_round() {
    let test = TestDatabase::create();
    let mut random = fastrand::Rng::with_seed(71);
    wait_on(async {
        let mut ledger = Ledger::open(&test).await;
        for number in 0..2 {
            ledger.store(flows(&mut random, DAY.plus(number * HOUR), 20), 5).await;
        }
        let damage =
            format!("UPDATE flow_segments_open SET in_bytes = '\\x01ff' WHERE received_first < '{}'", DAY.plus(HOUR));
        ask(&test, &format!("{damage} RETURNING 1"));
        let (metrics, mut registry) = (Metrics::default(), Registry::default());
        metrics.register(&mut registry);
        let settings = Settings { flows_days: 1_000, segments_days: 1_000, max_bytes: None };
        let clock = Arc::new(ManualClock::new(DAY.plus(30 * HOUR)));
        let keeper = Keeper::start(settings, local(), Counting::default(), ledger.database.clone(), clock, metrics);
        for (round, sealed) in [(0, "1"), (1, "2")] {
            let mut tries = 0;
            while ask(&test, "SELECT count(*)::text FROM hours WHERE sealed_at IS NOT NULL")[0][0].as_deref()
                != Some(sealed)
            {
                tries += 1;
                assert!(tries < 300, "round {round} does not come");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            // Before hour 3 is sealed in the second round, hour 0 was passed.
            ledger.store(flows(&mut random, DAY.plus(3 * HOUR), 20), 5).await;
        }
        let told = registry.encode();
        assert!(told.contains("flowledger_keep_failures_total 1\n"), "{told}");
        keeper.stop().await;
        ledger.database.close().await;
    });
}

/// Lets the database refuse the totals of hours with the code that the table `refused` has for them, each time.
const REFUSE: &str = "CREATE TABLE refused (hour timestamptz, code text); \
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE found text; BEGIN \
    SELECT code INTO found FROM refused WHERE hour = NEW.hour; \
    IF found IS NOT NULL THEN RAISE EXCEPTION 'refused' USING ERRCODE = found; END IF; RETURN NEW; END $$; \
    CREATE TRIGGER refuse BEFORE INSERT ON host_traffic_hourly FOR EACH ROW EXECUTE FUNCTION refuse()";

#[test]
fn an_hour_that_meets_what_is_an_outage_elsewhere_is_named_and_later_ones_are_sealed() {
    let mut server = TestServer::at_rest(&[("NETWORK__LOCAL", r#"["192.168.0.0/16"]"#)]);
    let begin = hour(10);
    let at = |number: i64| begin + chrono::TimeDelta::hours(number);
    let bring_in = |server: &TestServer, number: i64| {
        let file = nfdump_1_6(&archived(50, at(number), 76 + number as u64), 100, 0);
        imported(server, &write(server, &format!("nfcapd.{number}"), &file));
    };
    (0..5).for_each(|number| bring_in(&server, number));
    let codes = ["57014", "58030", "58P01", "55P03"];
    let database = server.database.as_ref().unwrap();
    database.query(REFUSE);
    for (number, code) in (0..).zip(codes) {
        database.query(&format!("INSERT INTO refused VALUES ('{}', '{code}')", at(number).to_rfc3339()));
    }
    server.launch();
    for number in [4, 5] {
        wait_for("the hour behind them to be sealed", 30, || {
            let sealed =
                format!("SELECT FROM hours WHERE sealed_at IS NOT NULL AND hour = '{}'", at(number).to_rfc3339());
            (!server.database.as_ref().unwrap().query(&sealed).is_empty()).then_some(())
        });
        // The next is sealed in another round, in which the others are left alone.
        if number == 4 {
            bring_in(&server, 5);
        }
    }
    for number in 0..4 {
        let named = format!("the hour {} stays open", Timestamp::from(at(number)));
        assert_eq!(server.log().matches(&named).count(), 1, "{named}\n{}", server.log());
    }
    assert_eq!(server.metric("keep_failures_total"), 4);
}

#[test]
fn an_outage_of_the_database_is_not_the_fault_of_the_hour_that_meets_it() {
    let test = TestDatabase::create();
    let mut random = fastrand::Rng::with_seed(77);
    wait_on(async {
        let mut ledger = Ledger::open(&test).await;
        for number in 0..2 {
            ledger.store(flows(&mut random, DAY.plus(number * HOUR), 20), 5).await;
        }
        let mut holder = PgConnection::connect(&test.url()).await.unwrap();
        holder.execute("BEGIN; SELECT FROM hours FOR UPDATE").await.unwrap();
        let settings = Settings { flows_days: 1_000, segments_days: 1_000, max_bytes: None };
        let clock = Arc::new(ManualClock::new(DAY.plus(30 * HOUR)));
        let database = ledger.database.clone();
        let keeper = Keeper::start(settings, local(), Counting::default(), database, clock, Metrics::default());
        let becomes = async |what: &str, sql: &str| {
            for _ in 0..600 {
                if !ask(&test, sql).is_empty() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            panic!("{what} does not come");
        };
        let waits = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' \
                     AND query LIKE '%FROM hours%FOR UPDATE'";
        becomes("the sealer's wait", waits).await;
        std::thread::scope(|scope| scope.spawn(|| test.close()).join().unwrap());
        tokio::time::sleep(Duration::from_secs(3)).await;
        std::thread::scope(|scope| scope.spawn(|| test.open()).join().unwrap());
        // Sooner than an hour is tried again that has failed by itself.
        let sealed = "SELECT FROM hours HAVING count(*) FILTER (WHERE sealed_at IS NOT NULL) = 2";
        becomes("the end of both hours", sealed).await;
        keeper.stop().await;
        ledger.database.close().await;
    });
}

#[test]
fn an_hour_that_may_be_sealed_later_keeps_its_day() {
    let test = TestDatabase::create();
    let mut random = fastrand::Rng::with_seed(78);
    wait_on(async {
        let mut ledger = Ledger::open(&test).await;
        ask(&test, REFUSE);
        let (local, counting) = (local(), Counting::default());
        for (number, code) in (0..).zip(["55P03", "57014", "58030", "58P01"]) {
            let day = DAY.plus(number * LENGTH);
            for hour in 0..2 {
                ledger.store(flows(&mut random, day.plus(hour * HOUR), 20), 5).await;
            }
            ask(&test, &format!("INSERT INTO refused VALUES ('{day}', '{code}')"));
            let expiry = Expiry { database: &ledger.database, local: &local, counting: &counting };
            let part = Part::Day(DailyTable::FlowSegments, day);
            let gone = expiry.drop_part(part).await;
            let open = ask(&test, "SELECT hour::text FROM hours WHERE sealed_at IS NULL");
            assert_eq!(open.len(), 1, "the other hour is sealed: {code}: {open:?}");
            let stays = gone.unwrap_err();
            assert!(matches!(&stays, Stays::Fails { hour, .. } if *hour == day), "{stays}");
            assert!(stays.to_string().contains(&format!("the hour {day} cannot be sealed now")), "{stays}");
            assert_eq!(expiry.drop_open(day.plus(LENGTH)).await.unwrap(), Deleted::default());
            ask(&test, "DELETE FROM refused");
            expiry.drop_part(part).await.unwrap();
            assert!(!ledger.database.days(DailyTable::FlowSegments).await.unwrap().contains(&day), "{code}");
        }
        ledger.database.close().await;
    });
}

#[test]
fn an_hour_whose_flows_are_committed_while_it_is_looked_at_is_not_forgotten() {
    let test = TestDatabase::create();
    let mut random = fastrand::Rng::with_seed(72);
    wait_on(async {
        let mut ledger = Ledger::open(&test).await;
        for number in 0..2 {
            ledger.store(flows(&mut random, DAY.plus(number * HOUR), 20), 5).await;
        }
        ask(&test, "CREATE TABLE aside AS SELECT * FROM flow_segments_open; DELETE FROM flow_segments_open");
        ask(&test, &format!("UPDATE hours SET flows_dropped = true WHERE hour > '{DAY}'"));
        let mut ingest = PgConnection::connect(&test.url()).await.unwrap();
        ingest
            .execute("BEGIN; SELECT FROM hours FOR SHARE; INSERT INTO flow_segments_open SELECT * FROM aside")
            .await
            .unwrap();
        let commit = async {
            tokio::time::sleep(Duration::from_millis(500)).await;
            ingest.execute("COMMIT").await.unwrap();
        };
        let forgetting = ledger.database.forget_open_hours(DAY.plus(24 * HOUR));
        let (forgotten, ()) = futures_util::future::join(forgetting, commit).await;
        forgotten.unwrap();
        let open = "SELECT count(*)::text FROM hours WHERE sealed_at IS NULL";
        assert_eq!(ask(&test, open)[0][0].as_deref(), Some("2"));
        // Nobody holds them and they are empty: one is forgotten, of the other it stays known that its flows are gone.
        ask(&test, "DELETE FROM flow_segments_open");
        ledger.database.forget_open_hours(DAY.plus(24 * HOUR)).await.unwrap();
        let left = ask(&test, "SELECT (sealed_at IS NOT NULL)::text, flows_dropped::text FROM hours");
        assert_eq!(left, [[Some("true".to_owned()), Some("true".to_owned())]]);
        ledger.database.close().await;
    });
}

#[test]
fn hours_counted_by_other_networks_are_found_as_long_as_their_flows_are_there() {
    let test = TestDatabase::create();
    let mut random = fastrand::Rng::with_seed(73);
    wait_on(async {
        let mut ledger = Ledger::open(&test).await;
        let others = Local::new(&["203.0.113.0/24".parse().unwrap()]);
        for number in [2, 3, 5] {
            let hour = DAY.plus(number * HOUR);
            ledger.store(flows(&mut random, hour, 20), 5).await;
            let by = if number == 2 { local() } else { others.clone() };
            assert!(seal(&ledger.database, hour, &by, &Counting::default()).await.unwrap());
        }
        let (until, fingerprint) = (DAY.plus(24 * HOUR), local().fingerprint());
        let database = &ledger.database;
        let found = database.counted_otherwise(DAY, until, &fingerprint).await.unwrap();
        assert_eq!(found, Some(CountedOtherwise { hours: 2, from: DAY.plus(3 * HOUR), to: DAY.plus(6 * HOUR) }));
        assert_eq!(
            found.unwrap().remedy(),
            "flowledger rebuild-totals --from 2023-11-15T03:00:00Z --to 2023-11-15T06:00:00Z"
        );
        assert_eq!(database.counted_otherwise(DAY, DAY.plus(3 * HOUR), &fingerprint).await.unwrap(), None);
        database.drop_day(DailyTable::FlowSegments, DAY).await.unwrap();
        assert_eq!(database.counted_otherwise(DAY, until, &fingerprint).await.unwrap(), None);
        database.close().await;
    });
}

#[test]
fn who_forgot_to_count_anew_is_told_by_the_doctor_before_the_day_goes_and_in_the_log_when_it_goes() {
    let mut server = TestServer::with(&[("NETWORK__LOCAL", r#"["192.168.0.0/16"]"#)]);
    let begin = hour(10);
    let next = begin + chrono::TimeDelta::days(2);
    for (day, seed) in [(begin, 74), (next, 75)] {
        imported(&server, &write(&server, &format!("nfcapd.{seed}"), &nfdump_1_6(&archived(200, day, seed), 100, 0)));
    }
    server.kill();
    server.launch();
    wait_for("the hours to be sealed", 60, || {
        let open = "SELECT FROM hours WHERE sealed_at IS NULL AND hour < date_trunc('hour', now())";
        server.database.as_ref().unwrap().query(open).is_empty().then_some(())
    });
    server.terminate();
    let line = |server: &TestServer| {
        let told = String::from_utf8(server.command(&["doctor"]).stdout).unwrap();
        told.lines().find(|line| line.contains("totals counted")).unwrap_or(&told).to_owned()
    };
    assert!(line(&server).starts_with("OK "), "{}", line(&server));
    server.set("NETWORK__LOCAL", r#"["192.168.0.0/17"]"#);
    let told = line(&server);
    let from = begin.format("%FT%TZ").to_string();
    assert!(told.starts_with("WARNING ") && told.contains(&format!("totals of 2 hours from {from} to ")), "{told}");
    // The older day is to go; it is told before, and when it goes.
    server.set("STORAGE__SEGMENTS_DAYS", "9");
    let output = server.command(&["expire", "--dry-run"]);
    let said = String::from_utf8(output.stdout).unwrap();
    let warning = format!("WARNING: the totals of 1 hours from {from} to ");
    let command = format!("run before: flowledger rebuild-totals --from {from} --to ");
    assert!(said.contains(&warning) && said.contains(&command), "{said}");
    let output = server.command(&["expire"]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains(&format!("a day went, and the totals of 1 hours from {from} to ")), "{told}");
    // The other day is counted anew by the command that the doctor names.
    let told = line(&server);
    assert!(told.contains("totals of 1 hours from "), "{told}");
    let command: Vec<_> = told.split_once("run in time: flowledger ").unwrap().1.split_whitespace().collect();
    assert!(server.command(&command).status.success());
    assert!(line(&server).starts_with("OK "), "{}", line(&server));
}
