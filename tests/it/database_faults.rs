//! What a database at work can meet: locks held by others, a changed schema, a role without rights, a second server.
//!
//! In each test flows come in all the while. They wait in the journal, the server says why, and goes on by itself.

use crate::faults::{EAGER, RATE, Subject};
use crate::kills::{Keeper, journalled, rounds, stored};
use crate::support::own_postgres::OwnPostgres;
use crate::support::postgres::{Session, query};
use crate::support::server::TestServer;
use crate::support::{traffic, wait_for};
use flowledger::flow::segment::Totals;
use std::time::{Duration, Instant};

/// Lets somebody lock a table as DDL does, for longer than a lock is waited for.
fn lock(table: &str) {
    let subject = Subject::in_shared();
    let mut other = Session::open(&subject.url);
    other.run("BEGIN");
    other.run(&format!("LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"));
    let begun = Instant::now();
    let (failed, stored) =
        (subject.server.metric("ingest_commits_failed_total"), subject.server.metric("ingest_flows_stored_total"));
    subject.says(&["flows wait in the journal", "lock timeout"]);
    let told = begun.elapsed();
    assert!(subject.server.metric("ingest_commits_failed_total") > failed);
    subject.piles_up(RATE * 20);
    assert_eq!(subject.server.fetch("/healthz").0, 200);
    std::thread::sleep(Duration::from_secs(rounds(0, 300)));
    let meanwhile = subject.server.metric("ingest_flows_stored_total") - stored;
    assert!(meanwhile < RATE, "{meanwhile} flows were stored behind the lock");
    other.run("ROLLBACK");
    subject.goes_on();
    println!("{table}: the lock was told after {} ms", told.as_millis());
    subject.settle();
}

#[test]
fn flows_wait_for_a_lock_on_the_rows_and_the_log_says_so() {
    lock("flows");
}

#[test]
fn flows_wait_for_a_lock_on_the_segments_and_the_log_says_so() {
    lock("flow_segments_open");
}

#[test]
fn flows_wait_for_a_lock_on_the_positions_and_the_log_says_so() {
    lock("journal_positions");
}

impl Subject {
    /// Lets somebody change the database so that it refuses what the server writes, and then take that back.
    fn refuse(&self, breaks: &str, mends: &str, words: &[&str]) {
        query(&self.url, breaks);
        let line = self.says(&[&["the database refuses flows, which wait in the journal"], words].concat());
        println!("{line}");
        let problem = self.readiness(503);
        assert!(problem.contains("waits in the journal"), "{problem}");
        self.piles_up(RATE * 20);
        query(&self.url, mends);
        self.readiness(200);
        self.says(&["the database stores flows again"]);
        self.goes_on();
    }
}

/// The same on a server with a database in the shared PostgreSQL.
fn refuse(breaks: &str, mends: &str, words: &[&str]) {
    let subject = Subject::in_shared();
    subject.refuse(breaks, mends, words);
    subject.settle();
}

#[test]
fn a_renamed_column_is_named_and_flows_wait_until_it_is_put_right() {
    refuse(
        "ALTER TABLE flows RENAME COLUMN in_bytes TO bytes_in",
        "ALTER TABLE flows RENAME COLUMN bytes_in TO in_bytes",
        &["in_bytes", "flows", "schema"],
    );
}

#[test]
fn a_dropped_table_is_named_and_flows_wait_until_it_is_put_right() {
    refuse(
        "ALTER TABLE exporter_activity RENAME TO activity",
        "ALTER TABLE activity RENAME TO exporter_activity",
        &["exporter_activity", "schema"],
    );
}

#[test]
fn a_role_without_rights_is_told_and_flows_wait_until_it_has_them_again() {
    let postgres = OwnPostgres::start();
    postgres.query("CREATE ROLE collector LOGIN; ALTER DATABASE flowledger OWNER TO collector");
    let url = postgres.url().replacen("flowledger@", "collector@", 1);
    let subject = Subject::begin(TestServer::beside(&url, &EAGER), postgres.url(), RATE);
    subject.refuse(
        "REVOKE INSERT ON flows, flow_segments_open FROM collector",
        "GRANT INSERT ON flows, flow_segments_open TO collector",
        &["permission denied for table flow", "give the role its rights"],
    );
    subject.settle();
}

#[test]
fn a_second_server_on_one_journal_is_refused_and_the_first_goes_on() {
    let subject = Subject::in_shared();
    let second = subject.server.command(&["serve"]);
    let told = String::from_utf8(second.stderr).unwrap();
    assert!(!second.status.success() && told.contains("in use by another Flowledger; stop that server"), "{told}");
    println!("{told}");
    subject.goes_on();
    subject.settle();
}

#[test]
fn two_servers_with_a_journal_each_store_everything_in_one_database() {
    let first = TestServer::with(&EAGER);
    let url = first.database.as_ref().unwrap().url();
    let second = TestServer::beside(&url, &EAGER);
    let mut servers = [first, second];
    let keepers = servers.each_ref().map(|server| Keeper::start(server.journal(), server.folder().join("kept")));
    // Both hear of the same exporter, whose activity is one row.
    let streams = servers.each_ref().map(|server| traffic::begin(server.collector(), "ipfix", 20_000, RATE, 18));
    for _ in 0..rounds(3, 200) {
        std::thread::sleep(Duration::from_millis(300));
        servers[1].kill();
        servers[1].launch();
    }
    let sent = streams.map(traffic::Stream::end);
    for server in &servers {
        wait_for("everything to be stored", 60, || (server.metric("ingest_backlog_bytes") == 0).then_some(()));
        assert_eq!(server.metric("ingest_restarts_total"), 0, "{}", server.log());
    }
    for server in &mut servers {
        server.terminate();
    }
    let mut all = Totals::default();
    for keeper in keepers {
        all.add(&journalled(&keeper.end()));
    }
    assert_eq!(stored(&url), all);
    // What came while the second was down is lost, but nothing else.
    assert!(all.flows > sent[0]["flows"].as_u64().unwrap(), "{all:?}");
    let collectors = query(&url, "SELECT count(DISTINCT segment_id >> 40) FROM segment_headers");
    assert_eq!(collectors[0][0].as_deref(), Some("2"));
}
