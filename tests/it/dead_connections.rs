//! Connections to the database whose other end is gone without a word: the network swallows everything.
//!
//! Each test runs in a network namespace of its own, with PostgreSQL at the other end of a wire that is cut there, so that no
//! side is told anything.

use crate::faults::{EAGER, RATE, Subject};
use crate::kills::{Keeper, journalled, rounds, stored};
use crate::support::namespaces::{COLLECTOR, enter};
use crate::support::own_postgres::OwnPostgres;
use crate::support::postgres::Session;
use crate::support::server::TestServer;
use crate::support::{signal, traffic, wait_for};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long after the wire is whole flows may wait to be stored, at most: 10 s, and something for a machine with much to do.
const FOUND: Duration = Duration::from_secs(14);

/// Cuts the wire at the database's end, or makes it whole.
fn wire(namespace: &str, state: &str) {
    let status = Command::new("ip").args(["-n", namespace, "link", "set", "wire", state]).status().unwrap();
    assert!(status.success());
}

#[test]
fn flows_are_stored_ten_seconds_after_a_cut_wire_is_whole_again() {
    let test = "dead_connections::flows_are_stored_ten_seconds_after_a_cut_wire_is_whole_again";
    let Some(namespace) = enter(test, 1_500) else { return };
    let postgres = OwnPostgres::in_namespace(&namespace, COLLECTOR);
    let subject = Subject::begin(TestServer::beside(&postgres.network_url(), &EAGER), postgres.url(), RATE);
    // Short ones are bridged by TCP, which tries again after as long as it has tried in vain; long ones end the session.
    let outages: &[u64] = if rounds(0, 1) == 0 { &[7, 23] } else { &[1, 3, 7, 13, 19, 23, 45, 180] };
    for &outage in outages {
        wire(&namespace, "down");
        subject.receives_for(outage);
        wire(&namespace, "up");
        let begun = Instant::now();
        subject.goes_on();
        let found = begun.elapsed();
        println!("cut for {outage} s: stored again {:.1} s after it was whole", found.as_secs_f64());
        assert!(found < FOUND, "{found:?} after a cut of {outage} s\n{}", subject.server.log());
        // Questions are answered, too: no dead session keeps its place.
        wait_for("an answer", 20, || (subject.server.fetch("/api/v1/top?by=dst_ip&last=1m").0 == 200).then_some(()));
    }
    subject.settle();
}

#[test]
fn a_dead_server_s_session_does_not_keep_the_journal_s_position_from_its_successor() {
    let test = "dead_connections::a_dead_server_s_session_does_not_keep_the_journal_s_position_from_its_successor";
    let Some(namespace) = enter(test, 1_500) else { return };
    let postgres = OwnPostgres::in_namespace(&namespace, COLLECTOR);
    let mut server = TestServer::beside(&postgres.network_url(), &EAGER);
    let keeper = Keeper::start(server.journal(), server.folder().join("kept"));
    let stream = traffic::begin(server.collector(), "v9", RATE * 120, RATE, 21);
    wait_for("flows to be stored", 60, || (server.metric("ingest_flows_stored_total") > 0).then_some(()));
    // A batch that has locked the position waits for somebody; meanwhile its server is cut off and dies.
    let mut other = Session::open(&postgres.url());
    other.run("BEGIN");
    other.run("LOCK TABLE exporter_activity IN ACCESS EXCLUSIVE MODE");
    let waits =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'flowledger' AND wait_event_type = 'Lock'";
    wait_for("a batch that waits", 20, || (postgres.number(waits) > 0).then_some(()));
    wire(&namespace, "down");
    server.kill();
    other.run("ROLLBACK");
    // Its successor reaches the database on another way.
    server.set("DATABASE__URL", &postgres.url());
    let begun = Instant::now();
    server.launch();
    println!("the successor was ready after {:.1} s", begun.elapsed().as_secs_f64());
    wait_for("the successor to store", 60, || (server.metric("ingest_flows_stored_total") > 0).then_some(()));
    println!("the successor stored after {:.1} s", begun.elapsed().as_secs_f64());
    assert!(begun.elapsed() < FOUND + Duration::from_secs(10), "{}", server.log());
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE client_addr IS NOT NULL";
    wait_for("the dead sessions to end", 20, || (postgres.number(sessions) == 0).then_some(()));
    println!("the dead sessions were gone after {:.1} s", begun.elapsed().as_secs_f64());
    stream.stop();
    wait_for("everything to be stored", 60, || (server.metric("ingest_backlog_bytes") == 0).then_some(()));
    server.terminate();
    wire(&namespace, "up");
    assert_eq!(stored(&postgres.url()), journalled(&keeper.end()));
}

#[test]
fn a_new_exporter_s_flows_are_stored_although_the_database_was_silent_when_it_was_to_be_entered() {
    let postgres = OwnPostgres::start();
    let mut server = TestServer::beside(&postgres.url(), &EAGER);
    postgres.freeze();
    traffic::send(server.collector(), "v5", 3_000, 3_000, 22);
    let told = ["the new exporter 127.0.0.1 waits for the database", "did not answer within"];
    wait_for("the silence to be told", 60, || told.iter().all(|words| server.log().contains(words)).then_some(()));
    postgres.thaw();
    server.wait_for_flows(3_000);
    server.terminate();
}

#[test]
fn sessions_that_fell_silent_at_rest_are_replaced_one_and_all() {
    let postgres = OwnPostgres::start();
    let mut server = TestServer::beside(&postgres.url(), &EAGER);
    traffic::send(server.collector(), "v5", 3_000, 3_000, 23);
    server.wait_for_flows(3_000);
    std::thread::sleep(Duration::from_millis(1_500));
    // To the server a session that stands still looks like one whose other end is gone.
    let silent =
        postgres.query("SELECT pid FROM pg_stat_activity WHERE application_name = 'flowledger' AND state = 'idle'");
    let silent: Vec<u32> = silent.iter().map(|row| row[0].as_deref().unwrap().parse().unwrap()).collect();
    assert!(silent.len() > 3, "{silent:?}");
    signal("STOP", &silent);
    let begun = Instant::now();
    traffic::send(server.collector(), "v5", 3_000, 3_000, 24);
    wait_for("flows to be stored", 60, || (server.metric("ingest_flows_stored_total") == 6_000).then_some(()));
    let stored = begun.elapsed();
    wait_for("an answer", 60, || (server.fetch("/api/v1/top?by=dst_ip&last=1h").0 == 200).then_some(()));
    let answered = begun.elapsed();
    println!("{} sessions fell silent: stored after {stored:?}, answered after {answered:?}", silent.len());
    assert!(answered < FOUND, "{}", server.log());
    server.wait_for_flows(6_000);
    signal("CONT", &silent);
    server.terminate();
}
