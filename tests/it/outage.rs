//! The database away while 20,000 flows a second come in: for some seconds, for a quarter of an hour in a long run, or for as
//! many seconds as FLOWLEDGER_OUTAGE_SECONDS says, up to an hour, beyond which the journal is full.
//!
//! Rates are compared within one run, as shares of each other, because exporter, server and PostgreSQL share the machine's
//! processors with other tests. A build that is not optimised stores some 80,000 flows a second, so with it fewer come in;
//! FLOWLEDGER_TEST_PROGRAM names one that is.

use crate::faults::Subject;
use crate::kills::rounds;
use crate::support::own_postgres::OwnPostgres;
use crate::support::server::TestServer;
use crate::support::wait_for;
use serde_json::Value;
use std::time::{Duration, Instant};

/// Flows that come in a second.
fn arrival() -> u64 {
    let optimised = !cfg!(debug_assertions) || std::env::var_os("FLOWLEDGER_TEST_PROGRAM").is_some();
    if optimised { 20_000 } else { 8_000 }
}

/// How much larger the server's memory may become while the database is away and while its backlog is caught up with, in KiB.
const GROWTH: u64 = 32 * 1_024;
/// How long fresh flows may wait for the disk while the backlog is caught up with, in milliseconds, or four times as long as
/// before it if that is more. They are flushed every 20 ms. PostgreSQL writes to the same disk what it catches up with, and
/// so do other tests, whose single flushes have taken a second; a journal that is starved by the backlog, which takes many
/// seconds to be caught up with, would wait for all of it.
const DURABLE_MS: u64 = 4_000;
/// How many times faster than flows arrive they must be caught up with.
const CATCH_UP: f64 = 5.0;

/// Resident memory of a process that is its own, in KiB: what it has mapped of files can be taken back.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// The most memory that was seen in some time.
struct Peak {
    pid: u32,
    most: u64,
}

impl Peak {
    fn look(&mut self) {
        self.most = self.most.max(memory(self.pid));
    }

    fn look_for(&mut self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.look();
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn moment(value: &Value) -> chrono::DateTime<chrono::Utc> {
    value.as_str().unwrap().parse().unwrap()
}

#[test]
fn an_outage_under_load_costs_no_flow_and_no_memory_and_is_caught_up_with_five_times_as_fast() {
    let mut postgres = OwnPostgres::start();
    let subject = Subject::begin(TestServer::beside(&postgres.url(), &[]), postgres.url(), arrival());
    let server = &subject.server;
    let mut before = Peak { pid: server.pid(), most: 0 };
    before.look_for(Duration::from_secs(rounds(6, 30)));

    let away = chrono::Utc::now();
    postgres.end();
    let begun = Instant::now();
    let wanted = std::env::var("FLOWLEDGER_OUTAGE_SECONDS").ok().map(|seconds| seconds.parse().unwrap());
    let outage = Duration::from_secs(wanted.unwrap_or_else(|| rounds(20, 900)));
    let mut during = Peak { pid: server.pid(), most: 0 };
    let mut after = Peak { pid: server.pid(), most: 0 };
    let said = subject.readiness(503);
    println!("not ready after {:.1} s: {said}", begun.elapsed().as_secs_f64());
    let (status, _, said) = server.fetch("/api/v1/top?by=dst_ip&last=1h");
    println!("asked while it is away: {status} {said}");
    assert!(status == 503 && said.contains("storage_unavailable"), "{said}");
    assert_eq!(server.fetch("/healthz").0, 200);
    during.look_for(outage.saturating_sub(begun.elapsed()));
    println!("memory: {} KiB before, {} KiB while it is away", before.most, during.most);
    assert!(during.most <= before.most + GROWTH);

    // The longest that anything has waited for the disk since the start, which only grows.
    let waited = || server.metric("journal_unsynced_ms_max");
    let waited_before = waited();
    postgres.begin();
    let stored = || server.metric("ingest_flows_stored_total");
    let (from, back) = (stored(), Instant::now());
    wait_for("flows to be stored again", 60, || (stored() > from).then_some(()));
    println!("stored again {:.1} s after the database was back", back.elapsed().as_secs_f64());
    let (from, begun) = (stored(), Instant::now());
    // Answers come while it is caught up, and say from when on flows are missing: ever later.
    let (mut stale, mut since) = (0, away - chrono::TimeDelta::hours(1));
    let mut caught_up = || {
        after.look_for(Duration::from_millis(250));
        let answer = server.json("/api/v1/top?by=protocol&limit=1&last=10s");
        let told = moment(&answer["completeness"]["stale_since"]);
        assert!(told >= since, "{told} was told after {since}");
        since = told;
        let lag = chrono::Utc::now() - told;
        stale += u32::from(lag > chrono::TimeDelta::seconds(3));
        (lag < chrono::TimeDelta::seconds(3)).then(|| (stored() - from, begun.elapsed()))
    };
    let (flows, time) = wait_for("the backlog to be caught up with", 1_800, &mut caught_up);
    let rate = flows as f64 / time.as_secs_f64();
    println!(
        "{flows} flows in {:.1} s: {rate:.0} flows/s, {:.1} times the arrival",
        time.as_secs_f64(),
        rate / arrival() as f64
    );
    assert!(stale > 0, "no answer came while it was caught up");
    after.look_for(Duration::from_secs(2));
    println!("memory: {} KiB at most while it is caught up", after.most);
    // An hour that is over is sealed beside that, which has memory of its own.
    let one_hour = away.timestamp() / 3_600 == chrono::Utc::now().timestamp() / 3_600;
    assert!(!one_hour || after.most <= before.most + GROWTH);
    println!("journal: waited {waited_before} ms at most for the disk before it was back, {} ms in the end", waited());
    assert!(waited() <= DURABLE_MS.max(4 * waited_before), "fresh flows waited {} ms for the disk", waited());
    assert!(rate >= CATCH_UP * arrival() as f64, "caught up at {rate:.0} flows/s");
    subject.settle();
}
