//! The server killed at a chosen system call: at each of the first ones of every kind that touches the journal or the
//! database. Then it starts again, and what is stored must equal what was journalled, and of a witness what was stored and told
//! to be lost must equal what was sent.
//!
//! The kernel counts calls by thread, so the n-th call of a kind is that of the thread that comes to it first. A point costs
//! two starts and what it takes to get to the call: 0.3 to 0.5 s, and some seconds when it is never reached.

use crate::kills::{Keeper, journalled, rounds, stored};
use crate::support::server::TestServer;
use crate::support::witness::Witness;
use crate::support::{traffic, wait_for};
use std::fs::File;
use std::time::{Duration, Instant};

/// How long a call is waited for. Traffic comes in and batches are committed all the while; the 500th deletion takes seconds, and
/// many where other tests run.
fn patience() -> Duration {
    Duration::from_secs(rounds(3, 60))
}

/// Kills the server, lets another be killed at its n-th call of this kind, then starts it again. Returns whether it came to
/// that call.
fn kill_at(server: &mut TestServer, call: &str, n: u64) -> bool {
    server.kill();
    start_and_kill_at(server, call, n)
}

/// The same for a server that is not running.
fn start_and_kill_at(server: &mut TestServer, call: &str, n: u64) -> bool {
    let inject = format!("inject={call}:signal=KILL:when={n}");
    let trace = format!("trace={call}");
    // The server stays our own child: the tracer is the grandchild.
    let tracer = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject].map(str::to_owned);
    let begun = Instant::now();
    let mut ended = !server.launch_under(&tracer);
    while !ended && begun.elapsed() < patience() {
        std::thread::sleep(Duration::from_millis(10));
        ended = server.has_ended();
    }
    server.kill();
    // Under a tracer the last threads may outlive the process by a moment.
    let lock = server.journal().join("lock");
    wait_for("the killed server to be gone", 20, || File::open(&lock).unwrap().try_lock().ok());
    server.launch();
    ended
}

fn sweep(call: &str) {
    // Small files and short intervals, so that every call is made often.
    let mut server = TestServer::with(&[
        ("INGEST__COMMIT_INTERVAL_MS", "10"),
        // No file is written by `write`. The keeper has to link them all, so they live longer where they do not matter.
        ("JOURNAL__SEGMENT_BYTES", if call == "write" { "131072" } else { "8192" }),
        ("JOURNAL__FLUSH_INTERVAL_MS", "1"),
        ("JOURNAL__MAX_BYTES", "16777216"),
    ]);
    let keeper = Keeper::start(server.journal(), server.folder().join("kept"));
    let points = rounds(4, 500);
    let url = server.database.as_ref().unwrap().url();
    let witness = Witness::begin(&server, &url);
    let stream = traffic::begin(
        server.collector(),
        "v9",
        points * 600_000,
        if call == "unlink" { rounds(10_000, 30_000) } else { 10_000 },
        13,
    );
    let begun = Instant::now();
    let mut reached = 0;
    // In an ordinary run the points lie apart, so that the calls of starting and those of working are both met.
    let step = rounds(5, 1);
    for n in (0..points).map(|point| 1 + point * step) {
        let killed = kill_at(&mut server, call, n);
        reached += u64::from(killed);
        // Calls beyond the last that is ever made need no trying.
        if !killed && n > 40 {
            break;
        }
    }
    let each = begun.elapsed() / u32::try_from(points).unwrap();
    println!("{call}: {reached} of {points} points reached, {} ms each", each.as_millis());
    assert!(reached >= rounds(1, points), "{call}: only {reached} of {points} points were reached");
    let flowing = || (server.metric("ingest_flows_stored_total") > 1_000).then_some(());
    wait_for("flows to be stored after the last point", 30, flowing);
    stream.stop();
    let account = witness.end(&server, &url, rounds(60, 900));
    println!("{call}: {account:?}");
    server.terminate();
    let (journalled, stored) = (journalled(&keeper.end()), stored(&url));
    assert!(journalled.flows > 0, "nothing came through");
    assert_eq!(stored, journalled, "{call}");
}

#[test]
fn killing_the_server_at_a_write_to_the_journal_loses_and_doubles_nothing() {
    sweep("pwrite64");
}

#[test]
fn killing_the_server_at_a_flush_loses_and_doubles_nothing() {
    sweep("fdatasync");
}

#[test]
fn killing_the_server_at_a_deletion_loses_and_doubles_nothing() {
    sweep("unlink");
}

#[test]
fn killing_the_server_at_a_message_to_the_database_loses_and_doubles_nothing() {
    sweep("sendto");
}

#[test]
fn killing_the_server_at_a_write_loses_and_doubles_nothing() {
    sweep("write");
}

#[test]
fn killing_the_server_at_a_renaming_that_begins_a_journal_leaves_one_that_can_be_begun() {
    let mut server = TestServer::start();
    let mut reached = 0;
    for n in 1..=3 {
        // As after a disk was replaced: everything but the lock is gone.
        server.kill();
        for entry in std::fs::read_dir(server.journal()).unwrap().map(Result::unwrap) {
            if entry.file_name() != "lock" {
                std::fs::remove_file(entry.path()).unwrap();
            }
        }
        reached += u64::from(start_and_kill_at(&mut server, "rename", n));
        traffic::send(server.collector(), "v9", 300, 0, n);
        server.wait_for_flows(300 * n);
    }
    assert!(reached > 0, "no journal is begun by a renaming");
}
