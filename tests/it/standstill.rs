//! Time in which nobody received although the process lived on, and what a database forgot that was set back: answers say so.

use crate::support::faults::{Exporters, Tally};
use crate::support::server::TestServer;
use crate::support::wait_for;
use chrono::{DateTime, TimeDelta, Utc};
use std::time::Duration;

/// What the stamp of a window says: whether it is exact, and the causes of what is lost.
fn stamp(server: &TestServer, from: DateTime<Utc>, to: DateTime<Utc>) -> (bool, Vec<String>) {
    let [from, to] = [from, to].map(|moment| moment.format("%FT%T%.6fZ").to_string());
    let answer = server.json(&format!("/api/v1/top?by=dst_ip&limit=1&from={from}&to={to}"));
    let stamp = &answer["completeness"];
    let causes = stamp["lost"].as_array().unwrap().iter().map(|lost| lost["cause"].as_str().unwrap().to_owned());
    (stamp["exact"].as_bool().unwrap(), causes.collect())
}

#[test]
fn a_process_that_stood_still_says_for_how_long() {
    let server = TestServer::with(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    let mut exporters = Exporters::new(1, 2, server.collector());
    exporters.send(100);
    server.wait_for_flows(exporters.flows);
    server.database.as_ref().unwrap().record_for_three_days();
    // A pause like that of a busy machine is none.
    server.signal("STOP");
    std::thread::sleep(Duration::from_secs(2));
    server.signal("CONT");
    exporters.send(100);
    server.wait_for_flows(exporters.flows);
    assert_eq!(server.lost("collector_down"), 0);

    let stopped = Utc::now();
    server.signal("STOP");
    std::thread::sleep(Duration::from_secs(8));
    let went_on = Utc::now();
    server.signal("CONT");
    exporters.send(100);
    let told = wait_for("the standstill to be told", 20, || {
        Some(server.lost("collector_down")).filter(|seconds| *seconds > 0)
    });
    assert!((8..12).contains(&told), "{told} s are told of 8\n{}", server.log());
    server.wait_for_flows(exporters.flows);
    let (exact, causes) = stamp(&server, stopped, went_on);
    assert!(!exact && causes == ["collector_down"], "{causes:?}");
    // The hour before is another one.
    let hour = stopped - TimeDelta::hours(2);
    assert_eq!(stamp(&server, hour, hour + TimeDelta::minutes(1)), (true, Vec::new()));
    Tally::settled(&server, exporters.datagrams);
}

#[test]
fn a_journal_that_was_set_back_goes_on_behind_its_database_and_what_came_by_then_is_told() {
    let mut server = TestServer::with(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    let mut exporters = Exporters::new(1, 2, server.collector());
    exporters.send(100);
    server.wait_for_flows(exporters.flows);
    server.terminate();
    // More than an opening leaves free.
    let database = server.database.as_ref().unwrap();
    database.query("UPDATE journal_positions SET position = position + 100000000000");
    assert_eq!(database.query("SELECT FROM loss WHERE cause = 'collector_down'").len(), 0);
    server.launch();
    wait_for("it to be told", 20, || (server.lost("collector_down") > 0).then_some(()));
    assert!(server.log().contains("the journal was asked for a position it has not reached"), "{}", server.log());
    let sent = exporters.flows;
    exporters.send(100);
    server.wait_for_flows(exporters.flows - sent);
}

#[test]
fn what_a_database_that_was_set_back_lacks_is_told_where_the_journal_no_longer_has_it() {
    set_back(
        "UPDATE journal_positions AS now SET (position, next_segment, complete_until) = \
         (SELECT position, next_segment, complete_until FROM backup WHERE backup.journal_id = now.journal_id)",
    );
}

#[test]
fn so_is_what_a_database_lacks_that_was_set_back_to_before_the_collector_came() {
    set_back("DELETE FROM journal_positions");
}

/// A server whose database is set back by this statement.
fn set_back(statement: &str) {
    let server = TestServer::with(&[
        ("INGEST__COMMIT_INTERVAL_MS", "50"),
        ("JOURNAL__SEGMENT_BYTES", "8192"),
        ("JOURNAL__MAX_BYTES", "16777216"),
    ]);
    let database = server.database.as_ref().unwrap();
    let mut exporters = Exporters::new(1, 2, server.collector());
    exporters.send(100);
    server.wait_for_flows(exporters.flows);
    // What a backup has. Its time is given some seconds, which is what will be missing.
    database.query("CREATE TABLE backup AS SELECT * FROM journal_positions");
    std::thread::sleep(Duration::from_secs(3));
    exporters.send(400);
    server.wait_for_flows(exporters.flows);
    exporters.send(100);
    server.wait_for_flows(exporters.flows);
    assert_eq!(server.lost("collector_down"), 0);
    database.query(statement);
    database.query("TRUNCATE flow_segments_open, flows");
    // While nothing comes, nothing tells that the database stands elsewhere; nor does the server claim anything.
    std::thread::sleep(Duration::from_secs(3));
    exporters.send(100);
    wait_for("the gap to be told", 20, || (server.lost("collector_down") >= 2).then_some(()));
    assert!(server.log().contains("the database was set back"), "{}", server.log());
    wait_for("storing to go on", 20, || (server.metric("ingest_backlog_bytes") == 0).then_some(()));
}
