//! Imported days that are dropped, and imports around the first start: what is there is answered, what is gone is told, and rows
//! of a day are all there or not at all.

use crate::import::{flows, hour, import, imported, sums, window, write};
use crate::support::archives::nfdump_1_6;
use crate::support::postgres::wait_on;
use crate::support::server::TestServer;
use crate::support::{traffic, wait_for};
use chrono::{DateTime, Days, TimeDelta, Utc};
use flowledger::clock::{Clock, SystemClock, Timestamp};
use flowledger::store::partitions::DailyTable;
use flowledger::store::{Address, Database};
use std::time::Duration;

/// Five in the morning, UTC, of the day that lies so many days back.
fn morning(back: i64) -> DateTime<Utc> {
    let today = Utc::now().date_naive().and_hms_opt(5, 0, 0).unwrap().and_utc();
    today - TimeDelta::days(back)
}

/// Does something to the database as upkeep does it.
fn with_database<T>(server: &TestServer, work: impl AsyncFnOnce(&Database) -> T) -> T {
    let url = server.database.as_ref().unwrap().url();
    wait_on(async {
        let database = Database::new(&Address::Url(url)).unwrap();
        let done = work(&database).await;
        database.close().await;
        done
    })
}

fn drop_day(server: &TestServer, table: DailyTable, day: DateTime<Utc>) {
    with_database(server, async |database| database.drop_day(table, Timestamp::from(day).day()).await.unwrap());
}

fn count(server: &TestServer, sql: &str) -> u64 {
    server.database.as_ref().unwrap().query(sql)[0][0].as_deref().unwrap_or("0").parse().unwrap()
}

fn wait_until_sealed(server: &TestServer) {
    let open = "SELECT count(*) FROM hours WHERE sealed_at IS NULL AND hour < date_trunc('hour', now())";
    wait_for("all hours to be sealed", 30, || (count(server, open) == 0).then_some(()));
}

/// Sums that totals answer, or, by ports, only flows; and what is missing.
fn ask(server: &TestServer, by: &str, window: &str) -> ((u64, u64, u64), String) {
    let path = format!("/api/v1/top?by={by}&limit=1&filter=dst%20net%20192.168.0.0/16&{window}");
    let answer = server.json(&path);
    let of = |name: &str| answer["totals"][name].as_u64().unwrap();
    let lost = answer["completeness"]["lost"].as_array().unwrap();
    let lost = lost.iter().map(|row| format!("{} {} {}", row["cause"], row["unit"], row["count"]).replace('"', ""));
    let lost: Vec<_> = lost.collect();
    assert_eq!(answer["completeness"]["exact"], lost.is_empty(), "{answer}");
    ((of("flows"), of("bytes"), of("packets")), lost.join(", "))
}

#[test]
fn an_archive_that_reaches_into_today_before_the_first_start_leaves_all_of_it_there() {
    let mut server = TestServer::at_rest(&[]);
    // The last hour that is over, from its middle on, and just now.
    let begin = hour(0);
    let made = flows(600, begin + TimeDelta::minutes(40), 41);
    imported(&server, &write(&server, "nfcapd.1", &nfdump_1_6(&made, 100, 0)));
    let latest = Utc::now() - TimeDelta::seconds(2);
    imported(&server, &write(&server, "nfcapd.2", &nfdump_1_6(&flows(20, latest, 42), 100, 0)));
    server.launch();
    let started = Utc::now() + TimeDelta::seconds(1);
    wait_until_sealed(&server);
    let text = |moment: DateTime<Utc>| moment.format("%FT%TZ").to_string();
    let between = |from, to| format!("from={}&to={}", text(from), text(to));
    let (found, lost) = ask(&server, "dst_ip", &between(begin + TimeDelta::minutes(30), begin + TimeDelta::hours(1)));
    assert_eq!((found, lost.as_str()), (sums(&made), "imported hours 1"));
    assert_eq!(ask(&server, "dst_ip", "last=150m").0.0, 620);
    assert_eq!(ask(&server, "dst_port", "last=24h").0.0, 620);
    // What the server receives itself is recorded from its start on, on its first day as on others.
    std::thread::sleep(Duration::from_secs(3));
    let (_, lost) = ask(&server, "dst_ip", &between(started, started + TimeDelta::seconds(1)));
    assert!(!lost.contains("not_recorded"), "{lost}");
}

#[test]
fn an_imported_day_that_was_dropped_is_told_by_its_totals_and_is_gone_for_all_other_questions() {
    let mut server = TestServer::start();
    let begin = morning(9);
    let made = flows(900, begin + TimeDelta::minutes(10), 43);
    imported(&server, &write(&server, "nfcapd.1", &nfdump_1_6(&made, 100, 0)));
    let second = flows(500, begin + TimeDelta::minutes(70), 44);
    imported(&server, &write(&server, "nfcapd.2", &nfdump_1_6(&second, 100, 0)));
    let all = sums(&[made, second].concat());
    // It seals as soon as it starts.
    server.kill();
    server.launch();
    wait_until_sealed(&server);
    let (hours, cut) = (window(begin, 2), window(begin + TimeDelta::minutes(30), 1));
    assert_eq!(ask(&server, "dst_port", &hours), (all, "imported hours 2".to_owned()));
    assert_eq!(ask(&server, "dst_ip", &cut).1, "imported hours 2");
    drop_day(&server, DailyTable::FlowSegments, begin);
    let oldest = SystemClock.now().day();
    for round in 0..3 {
        assert_eq!(ask(&server, "dst_ip", &hours), (all, "imported hours 2".to_owned()), "round {round}");
        let gone = "imported hours 2, not_recorded seconds 7200";
        assert_eq!(ask(&server, "dst_port", &hours), ((0, 0, 0), gone.to_owned()), "round {round}");
        let (status, _, body) = server.fetch(&format!("/api/v1/top?by=dst_ip&filter=dst%20net%20192.168.0.0/16&{cut}"));
        assert_eq!(status, 422, "round {round}: {body}");
        assert!(body.contains("window_not_on_hours"), "{body}");
        match round {
            // Older than flows are kept.
            0 => with_database(&server, async |database| database.forget_open_hours(oldest).await.unwrap()),
            // The same of a day on which the server was there as well.
            _ => drop(
                server
                    .database
                    .as_ref()
                    .unwrap()
                    .query("UPDATE journal_positions SET created_at = created_at - interval '30 days'"),
            ),
        }
    }
}

#[test]
fn hours_that_were_dropped_before_they_were_sealed_are_told_as_missing() {
    // Without a server nothing is sealed.
    let mut server = TestServer::at_rest(&[]);
    let (older, begin) = (morning(12), morning(9));
    for (name, begin) in [("nfcapd.1", older), ("nfcapd.2", begin)] {
        imported(&server, &write(&server, name, &nfdump_1_6(&flows(300, begin, 45), 100, 0)));
    }
    drop_day(&server, DailyTable::FlowSegments, begin);
    let oldest = SystemClock.now().day();
    with_database(&server, async |database| database.forget_open_hours(oldest).await.unwrap());
    assert_eq!(count(&server, "SELECT count(*) FROM hours WHERE sealed_at IS NULL"), 1, "its flows are there");
    server.launch();
    server
        .database
        .as_ref()
        .unwrap()
        .query("UPDATE journal_positions SET created_at = created_at - interval '30 days'");
    wait_until_sealed(&server);
    for by in ["dst_ip", "dst_port"] {
        let gone = "imported hours 1, not_recorded seconds 3600";
        assert_eq!(ask(&server, by, &window(begin, 1)), ((0, 0, 0), gone.to_owned()), "{by}");
        assert_eq!(ask(&server, by, &window(begin, 3)).1, gone, "{by}");
        assert_eq!(ask(&server, by, &window(older, 2)).1, "imported hours 1", "{by}");
    }
    // The day is not made again for the sake of what is gone.
    let partition = DailyTable::FlowSegments.partition(Timestamp::from(begin).day());
    assert_eq!(count(&server, &format!("SELECT count(*) FROM pg_class WHERE relname = '{partition}'")), 0);
}

#[test]
fn gaps_in_an_archive_are_told_of_the_hours_between_its_flows_which_stay_sealed() {
    let mut server = TestServer::start();
    let begin = morning(9);
    let (gone, kept) = (flows(900, begin, 48), flows(500, begin + TimeDelta::hours(1), 49));
    for (index, made) in [&gone, &kept].into_iter().enumerate() {
        imported(&server, &write(&server, &format!("nfcapd.{index}"), &nfdump_1_6(made, 100, 0)));
        // It seals as soon as it starts.
        server.kill();
        server.launch();
        wait_until_sealed(&server);
        if index == 0 {
            drop_day(&server, DailyTable::FlowSegments, begin);
        }
    }
    let database = server.database.as_ref().unwrap();
    // Where flows are gone that a former rule counted, an open hour is never sealed again.
    database.query("UPDATE hours SET imported = false, local = CASE WHEN flows_dropped THEN 'former' ELSE local END");
    let sealed = |imported| {
        let rows = "SELECT hour, sealed_at, version, flows_dropped FROM hours WHERE sealed_at IS NOT NULL AND local IS NOT NULL";
        let (begin, end) = (begin.to_rfc3339(), (begin + TimeDelta::hours(2)).to_rfc3339());
        database
            .query(&format!("{rows} AND imported = {imported} AND hour >= '{begin}' AND hour < '{end}' ORDER BY hour"))
    };
    let before = sealed(false);
    assert_eq!(before.len(), 2);
    let around = [flows(10, begin - TimeDelta::hours(1), 50), flows(10, begin + TimeDelta::hours(3), 51)].concat();
    imported(&server, &write(&server, "nfcapd.2", &nfdump_1_6(&around, 100, 3)));
    assert_eq!(sealed(true), before);
    let lost = "imported hours 1, network gaps 3";
    let by_former = format!("counted_otherwise hours 1, {lost}");
    assert_eq!(ask(&server, "dst_ip", &window(begin, 1)), (sums(&gone), by_former));
    for (hours, expected) in [(-1, sums(&around[..10])), (1, sums(&kept)), (2, (0, 0, 0)), (3, sums(&around[10..]))] {
        for by in ["dst_ip", "dst_port"] {
            let found = ask(&server, by, &window(begin + TimeDelta::hours(hours), 1));
            assert_eq!(found, (expected, lost.to_owned()), "{hours} {by}");
        }
    }
}

#[test]
fn a_day_of_rows_that_is_dropped_while_its_archive_goes_in_does_not_come_back_in_part() {
    let server = TestServer::at_rest(&[("STORAGE__FLOWS_DAYS", "60")]);
    let begin = morning(9);
    // A day of which nothing is stored gets its rows.
    imported(&server, &write(&server, "nfcapd.1", &nfdump_1_6(&flows(10, begin, 46), 100, 0)));
    let (rows, segments) = ("SELECT count(*) FROM flows", "SELECT sum(flow_rows) FROM segment_headers");
    assert_eq!((count(&server, rows), count(&server, segments)), (10, 10));
    let path = write(&server, "nfcapd.2", &nfdump_1_6(&flows(20_000, begin, 47), 100, 0));
    let mut child = server.begin(&["import", "--flows-at-once", "200", path.to_str().unwrap()]);
    wait_for("rows of the archive", 60, || (count(&server, rows) > 10).then_some(()));
    drop_day(&server, DailyTable::Flows, begin);
    assert!(count(&server, segments) < 20_010, "the import was at its end before anything was dropped");
    assert!(child.wait().unwrap().success());
    assert_eq!((count(&server, rows), count(&server, segments)), (0, 20_010));
    assert_eq!(count(&server, "SELECT count(*) FROM imports WHERE state <> 'done'"), 0);
    assert!(import(&server, &[], &path).status.success());
    // Neither does another file bring it back, and the doctor compares nothing that is not there.
    imported(&server, &write(&server, "nfcapd.3", &nfdump_1_6(&flows(30, begin, 48), 100, 0)));
    assert_eq!((count(&server, rows), count(&server, segments)), (0, 20_040));
    let told = String::from_utf8(server.command(&["doctor", "--all"]).stdout).unwrap();
    assert!(told.contains("no chosen day has both rows and segments"), "{told}");
}

#[test]
fn flows_that_come_for_a_day_whose_rows_were_dropped_are_in_segments_alone() {
    let server = TestServer::with(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    traffic::send(server.collector(), "v9", 2_000, 2_000, 49);
    server.wait_for_flows(2_000);
    let today = Utc::now();
    drop_day(&server, DailyTable::Flows, today);
    traffic::send(server.collector(), "v9", 2_000, 2_000, 50);
    server.wait_for_flows(4_000);
    let rows = format!("SELECT count(*) FROM flows WHERE received < '{} 00:00Z'", today.date_naive() + Days::new(1));
    assert_eq!(count(&server, &rows), 0);
    assert_eq!(count(&server, "SELECT sum(flow_rows) FROM segment_headers"), 4_000);
    assert!(server.metric("ingest_commits_failed_total") > 0, "its rows were copied once more");
    assert_eq!(server.metric("ingest_restarts_total"), 0);
}
