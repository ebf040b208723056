//! A COMMIT that hangs: written but not answered while the server dies, slow with every flush, or with all of PostgreSQL
//! frozen in the middle of it.

use crate::faults::{EAGER, RATE, Subject};
use crate::kills::{Keeper, journalled, rounds, stored};
use crate::support::own_postgres::OwnPostgres;
use crate::support::server::TestServer;
use crate::support::{is_root, signal, traffic, wait_for};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Sessions of the server whose COMMIT is written and waits to be told that nobody else has it.
const WITHIN_COMMIT: &str = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query = 'COMMIT'";
/// Sessions of the server that write.
const WRITING: &str =
    "SELECT pid FROM pg_stat_activity WHERE application_name = 'flowledger' AND backend_xid IS NOT NULL";

fn pids(postgres: &OwnPostgres, statement: &str) -> Vec<u32> {
    postgres.query(statement).iter().map(|row| row[0].as_deref().unwrap().parse().unwrap()).collect()
}

/// Kills the server while a batch is within its transaction, begins it anew, and then lets the old transaction go on.
fn killed_within(rounds: u64, hold: impl Fn(&OwnPostgres) -> Vec<u32>, go_on: impl Fn(&OwnPostgres, &[u32])) {
    let postgres = OwnPostgres::start();
    let mut server = TestServer::beside(&postgres.url(), &EAGER);
    let keeper = Keeper::start(server.journal(), server.folder().join("kept"));
    let stream = traffic::begin(server.collector(), "v9", RATE * 20 * rounds, RATE, 19);
    let mut random = fastrand::Rng::with_seed(20);
    for _ in 0..rounds {
        let stored = server.metric("ingest_flows_stored_total");
        wait_for("flows to be stored", 60, || (server.metric("ingest_flows_stored_total") > stored).then_some(()));
        let held = hold(&postgres);
        server.kill();
        // The new server takes the position up while the old transaction may still move it.
        std::thread::scope(|scope| {
            let pause = Duration::from_millis(random.u64(200..1_500));
            let other = scope.spawn(|| server.launch());
            std::thread::sleep(pause);
            go_on(&postgres, &held);
            other.join().unwrap();
        });
    }
    stream.stop();
    wait_for("everything to be stored", 60, || (server.metric("ingest_backlog_bytes") == 0).then_some(()));
    server.terminate();
    let (journalled, stored) = (journalled(&keeper.end()), stored(&postgres.url()));
    assert!(journalled.flows > rounds * 100, "too little came through to prove anything: {journalled:?}");
    assert_eq!(stored, journalled);
}

#[test]
fn a_batch_whose_commit_was_written_when_the_server_was_killed_is_stored_once() {
    killed_within(
        rounds(4, 200),
        |postgres| {
            // With a standby that does not exist a COMMIT waits after it is written and before anybody sees it.
            postgres.set("synchronous_standby_names = 'nobody'");
            wait_for("a COMMIT that waits", 20, || {
                let waiting = pids(postgres, WITHIN_COMMIT);
                (!waiting.is_empty()).then_some(waiting)
            })
        },
        |postgres, _| postgres.set("synchronous_standby_names = ''"),
    );
}

#[test]
fn a_session_that_stood_still_when_the_server_was_killed_stores_its_batch_once_or_not_at_all() {
    killed_within(
        rounds(6, 500),
        |postgres| {
            wait_for("a session that writes", 20, || {
                let writing = pids(postgres, WRITING);
                (!writing.is_empty()).then(|| {
                    signal("STOP", &writing);
                    writing
                })
            })
        },
        |_, held| signal("CONT", held),
    );
}

#[test]
fn with_the_database_frozen_everything_is_received_and_nothing_hangs_for_ever() {
    let postgres = OwnPostgres::start();
    let subject = Subject::begin(TestServer::beside(&postgres.url(), &EAGER), postgres.url(), RATE);
    postgres.freeze();
    let begun = Instant::now();
    subject.receives_for(5);
    assert_eq!(subject.server.fetch("/healthz").0, 200);
    let asked = Instant::now();
    let (status, _, problem) = subject.server.fetch("/api/v1/top?by=dst_ip&last=1h");
    println!("a question was answered after {} s: {status} {problem}", asked.elapsed().as_secs());
    assert!([503, 504].contains(&status), "{problem}");
    // The silence ends the session that waits, and then it is told; when that is so again, the server is not ready.
    let line = subject.says(&["flows wait in the journal", "did not answer within"]);
    println!("after {} s: {line}", begun.elapsed().as_secs());
    if rounds(0, 1) > 0 {
        let problem = subject.readiness(503);
        println!("after {} s: {problem}", begun.elapsed().as_secs());
        subject.receives_for(300);
    }
    postgres.thaw();
    subject.readiness(200);
    subject.goes_on();
    subject.settle();
}

/// Lets every flush to the disk take so long, in all processes of PostgreSQL. `None` when that cannot be had.
fn slow_down(postgres: &OwnPostgres, delay: Duration) -> Option<std::process::Child> {
    if !is_root() || Command::new("strace").arg("-V").output().is_err() {
        crate::support::skip("a test that delays flushes", "only root with strace can");
        return None;
    }
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync"]);
    command.args(["-e", &format!("inject=fdatasync:delay_enter={}", delay.as_micros())]);
    for pid in postgres.pids() {
        command.args(["-p", &pid.to_string()]);
    }
    Some(command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
}

#[test]
fn with_slow_commits_flows_wait_in_the_journal_and_the_kernel_drops_none() {
    let postgres = OwnPostgres::start();
    let subject = Subject::begin(TestServer::beside(&postgres.url(), &EAGER), postgres.url(), RATE);
    let each = Duration::from_secs(rounds(2, 5));
    let Some(mut tracer) = slow_down(&postgres, each) else { return };
    std::thread::sleep(Duration::from_millis(500));
    let (commits, begun) = (subject.server.metric("ingest_commits_total"), Instant::now());
    subject.receives_for(rounds(10, 120));
    let (commits, seconds) = (subject.server.metric("ingest_commits_total") - commits, begun.elapsed().as_secs_f64());
    println!("{commits} commits in {seconds:.1} s");
    // Slow is not away: what is committed is committed once, and the server goes on being ready.
    assert!(commits > 0 && (commits as f64) < seconds / each.as_secs_f64() + 2.0, "{commits} commits");
    assert_eq!(subject.server.metric("ingest_commits_failed_total"), 0, "{}", subject.server.log());
    assert_eq!(subject.server.fetch("/readyz").0, 200);
    signal("TERM", &[tracer.id()]);
    tracer.wait().unwrap();
    subject.settle();
}
