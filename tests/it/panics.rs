//! A defect in a thread: never half alive. Either the server goes on and makes good what the thread left undone, or the process
//! ends at once with a failure, so that a service manager starts it again; nothing is lost either way.
//!
//! There is no switch that makes the server panic. But Rust's `thread::sleep` panics when the kernel refuses to let the
//! thread sleep for a reason that cannot be, and a tracer on that one thread makes the kernel do so.
//! Threads and tasks that never sleep so have their defects in tests beside their code: compressing in `src/ingest/pipeline.rs`,
//! upkeep and sealing in `src/keep/mod.rs`, reports in `src/reports/mod.rs`.

use crate::kills::private_url;
use crate::support::faults::{Exporters, given};
use crate::support::server::{TestServer, program};
use crate::support::wait_for;
use flowledger::cli::simulate::{Plan, Protocol, Stream};
use flowledger::clock::{Clock, SystemClock};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A thread whose next sleep is its end.
pub struct Doomed(Child);

impl Doomed {
    /// Dooms the server's thread of this name.
    pub fn new(server: &TestServer, name: &str) -> Result<Self, String> {
        let tasks = fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap().map(|entry| entry.unwrap().path());
        let named =
            |path: &std::path::PathBuf| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name);
        let task = tasks.into_iter().find(named).unwrap_or_else(|| panic!("no thread {name}"));
        let id = task.file_name().unwrap().to_str().unwrap().to_owned();
        let inject = "inject=clock_nanosleep:error=EFAULT";
        let mut tracer = Command::new("strace")
            .args(["-o", "/dev/null", "-e", "trace=clock_nanosleep", "-e", inject, "-p", &id])
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("strace: {error}; install Debian's package strace"))?;
        // It says so once the thread is bound to stop before its next call. A thread that is merely traced already may
        // still sleep unseen.
        let mut told = String::new();
        BufReader::new(tracer.stderr.as_mut().unwrap()).read_line(&mut told).unwrap();
        // A thread that is gone has met its end already.
        if !told.contains("attached") && task.exists() {
            let _ = tracer.wait();
            return Err(format!("strace may not trace here: {told}"));
        }
        Ok(Self(tracer))
    }
}

impl Drop for Doomed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_panic_where_flows_are_received_or_decoded_ends_the_process_at_once_and_loses_nothing() {
    for (thread, told) in [("collect", "a listener of the collector"), ("ingest", "storing flows")] {
        let mut server = TestServer::with(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
        let mut exporters = Exporters::new(1, 2, server.collector());
        exporters.send(100);
        server.wait_for_flows(exporters.flows);
        let Some(doomed) = given(Doomed::new(&server, thread)) else { return };
        // One: a second might come when nobody receives any more.
        exporters.send(1);
        let begun = Instant::now();
        let status = server.wait();
        drop(doomed);
        assert_eq!(status.code(), Some(1), "{}", server.log());
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
        assert!(server.log().contains(&format!("stopping: {told} has ended")), "{}", server.log());
        server.launch();
        exporters.send(100);
        server.wait_for_flows(exporters.flows);
    }
}

#[test]
fn a_panic_where_flows_are_stored_begins_anew_from_what_is_stored_while_receiving_goes_on() {
    let server = TestServer::with(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    let mut exporters = Exporters::new(1, 2, server.collector());
    exporters.send(100);
    server.wait_for_flows(exporters.flows);
    let Some(doomed) = given(Doomed::new(&server, "ingest-commit")) else { return };
    // This thread sleeps only after a transaction that failed.
    server.database.as_ref().unwrap().close();
    exporters.send(100);
    wait_for("the thread to end", 20, || server.log().contains("thread 'ingest-commit'").then_some(()));
    drop(doomed);
    exporters.send(100);
    wait_for("receiving to go on", 20, || {
        (server.metric("journal_datagrams_total") == exporters.datagrams).then_some(())
    });
    server.database.as_ref().unwrap().open();
    // A question may still come upon a session that was closed.
    wait_for("answers", 20, || (server.fetch("/api/v1/top?by=dst_ip&last=24h").0 == 200).then_some(()));
    server.wait_for_flows(exporters.flows);
    assert!(server.metric("ingest_restarts_total") >= 1);
    wait_for("the server to be ready again", 20, || (server.fetch("/readyz").0 == 200).then_some(()));
}

/// Limits how much memory the server may address, in bytes; no limit for `None`.
fn limit_memory(server: &TestServer, bytes: Option<u64>) {
    // The hard limit stays, so that the other can be lifted again.
    let limit = format!("--as={}:", bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string()));
    let status = Command::new("prlimit").args(["--pid", &server.pid().to_string(), &limit]).status();
    assert!(status.unwrap().success());
}

#[test]
fn without_memory_the_process_goes_on_or_ends_and_every_flow_is_stored_or_told() {
    let listen = ("COLLECTOR__LISTEN", "udp://127.0.0.1:0,tcp://127.0.0.1:0");
    let mut server = TestServer::with(&[("INGEST__COMMIT_INTERVAL_MS", "50"), listen]);
    let mut exporters = Exporters::new(1, 2, server.collector());
    exporters.send(100);
    server.wait_for_flows(exporters.flows);
    let statm = fs::read_to_string(format!("/proc/{}/statm", server.pid())).unwrap();
    let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
    // Not a page more than it has, while the work grows.
    limit_memory(&server, Some(pages * 4_096));
    // Each connection asks for a thread with a stack of its own, of which the first ones at least are new.
    let strangers: Vec<_> = (0..8).map(|_| TcpStream::connect(server.listener("tcp"))).collect();
    for _ in 0..10 {
        exporters.send(400);
        if server.has_ended() {
            break;
        }
    }
    // Otherwise nothing would have been tried here: a thread that could not be had, or memory, with which a process ends.
    let refusals = ["no thread can be started", "memory allocation of"];
    wait_for("memory to be refused", 20, || {
        let log = server.log();
        let refused = log.lines().find(|line| refusals.iter().any(|words| line.contains(words)))?;
        println!("{refused}");
        Some(())
    });
    drop(strangers);
    if server.has_ended() {
        assert!(!server.wait().success(), "{}", server.log());
        server.launch();
    } else {
        limit_memory(&server, None);
    }
    exporters.send(2);
    wait_for("all to be stored or told", 30, || {
        (server.stored_flows() + server.lost("network") == exporters.flows).then_some(())
    });
}

#[test]
fn a_panic_while_the_database_is_away_ends_the_process_and_loses_nothing() {
    let mut server = TestServer::with(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    let mut exporters = Exporters::new(1, 2, server.collector());
    exporters.send(100);
    server.wait_for_flows(exporters.flows);
    server.database.as_ref().unwrap().close();
    exporters.send(200);
    wait_for("a transaction to fail", 20, || (server.metric("ingest_commits_failed_total") > 0).then_some(()));
    let Some(doomed) = given(Doomed::new(&server, "ingest")) else { return };
    let begun = Instant::now();
    while !server.has_ended() && begun.elapsed() < Duration::from_secs(30) {
        exporters.send(2);
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(doomed);
    assert!(server.has_ended(), "half alive for {:?}\n{}", begun.elapsed(), server.log());
    assert_eq!(server.wait().code(), Some(1), "{}", server.log());
    // All that came meanwhile was journalled, and what found no socket any more leaves a gap that is told.
    server.database.as_ref().unwrap().open();
    server.launch();
    exporters.send(2);
    wait_for("all to be stored or told", 20, || {
        (server.stored_flows() + server.lost("network") == exporters.flows).then_some(())
    });
}

#[test]
fn a_panic_where_a_connection_is_served_ends_that_connection_and_nothing_else() {
    let server = TestServer::with(&[
        ("INGEST__COMMIT_INTERVAL_MS", "50"),
        ("COLLECTOR__LISTEN", "udp://127.0.0.1:0,tcp://127.0.0.1:0"),
        ("JOURNAL__SEGMENT_BYTES", "262144"),
        ("JOURNAL__MAX_BYTES", "4194304"),
    ]);
    let plan = |seed, flows| Plan {
        protocol: Protocol::Ipfix,
        seed,
        hosts: 50,
        exporters: 1,
        count: Some(flows),
        template_every: 0,
        sampling_interval: 1,
    };
    server.database.as_ref().unwrap().close();
    // A connection's thread sleeps only while the journal is full.
    let (to, mut stream) = (server.listener("tcp"), Stream::new(plan(1, 1_000_000)));
    let sender = std::thread::spawn(move || {
        let mut connection = TcpStream::connect(to).unwrap();
        connection.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
        loop {
            let message = stream.next(SystemClock.now()).expect("the journal has room for a million flows");
            if let Err(error) = connection.write_all(message.bytes) {
                return error.kind();
            }
        }
    });
    wait_for("the connection to wait", 60, || (server.metric("collector_stream_waits_total") > 0).then_some(()));
    let Some(doomed) = given(Doomed::new(&server, "collect-tcp")) else { return };
    wait_for("the thread to end", 20, || server.log().contains("thread 'collect-tcp'").then_some(()));
    drop(doomed);
    // The exporter learns of it at once, and comes again.
    let told = sender.join().unwrap();
    assert!(matches!(told, std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe), "{told}");
    assert_eq!(server.metric("collector_connections"), 0);
    server.database.as_ref().unwrap().open();
    let all_stored = || {
        let settled = server.metric("ingest_backlog_bytes") == 0 && server.metric("ingest_flows_stored_total") > 0;
        settled.then(|| server.metric("ingest_flows_stored_total"))
    };
    let before = wait_for("what was journalled to be stored", 60, all_stored);
    let (mut stream, mut again) = (Stream::new(plan(2, 3_000)), TcpStream::connect(to).unwrap());
    while let Some(message) = stream.next(SystemClock.now()) {
        again.write_all(message.bytes).unwrap();
    }
    let mut datagrams = Exporters::new(3, 1, server.collector());
    datagrams.send(10);
    server.wait_for_flows(before + 3_000 + datagrams.flows);
    assert_eq!(server.metric("collector_connections"), 1);
}

#[test]
fn a_panic_where_our_own_postgresql_is_stopped_is_told_and_loses_nothing() {
    let mut server = TestServer::with_private_postgres(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    let mut exporters = Exporters::new(1, 2, server.collector());
    exporters.send(100);
    server.wait_for_flows(exporters.flows);
    // Its supervisor sleeps only while it waits for the end of what it stops.
    let Some(doomed) = given(Doomed::new(&server, "postgres")) else { return };
    exporters.send(100);
    server.signal("TERM");
    // Everything else had been stopped in order by then.
    assert!(server.wait().success(), "{}", server.log());
    drop(doomed);
    assert!(server.log().contains("the supervisor of PostgreSQL had ended by a panic"), "{}", server.log());
    server.launch();
    server.wait_for_flows(exporters.flows);
    let url = private_url(&server);
    assert_eq!(crate::kills::stored(&url).flows, exporters.flows);
}

#[test]
fn a_log_that_nobody_reads_any_more_stops_nothing() {
    let mut server = TestServer::with(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    let mut exporters = Exporters::new(1, 2, server.collector());
    exporters.send(100);
    server.wait_for_flows(exporters.flows);
    server.stop_reading_the_log();
    // Storing tells that it fails, which is the last line that can be written, and later that it works again.
    server.database.as_ref().unwrap().close();
    exporters.send(100);
    wait_for("a transaction to fail", 20, || (server.metric("ingest_commits_failed_total") > 0).then_some(()));
    server.database.as_ref().unwrap().open();
    wait_for("answers", 20, || (server.fetch("/api/v1/top?by=dst_ip&last=24h").0 == 200).then_some(()));
    server.wait_for_flows(exporters.flows);
    exporters.send(100);
    server.wait_for_flows(exporters.flows);
    assert_eq!(server.metric("ingest_restarts_total"), 0);
    server.terminate();
}

#[test]
fn a_command_whose_words_cannot_be_written_ends_as_it_would_otherwise() {
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let command = Command::new(program())
        .args(["--config", "/nowhere/at-all.toml", "check-config"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(full)
        .status();
    assert_eq!(command.unwrap().code(), Some(1));
}
