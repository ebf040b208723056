//! `kill -9` at random moments while a bounded stream comes in.
//!
//! What the server took into its journal is kept by hard links to the journal's files, made while the server works; after
//! the last round it is read and decoded here, and must equal what the database holds: nothing lost, nothing twice. What did
//! not get into the journal is told: a witness among the exporters finds each of its flows stored or told to be lost.

use crate::support::postgres::query;
use crate::support::server::TestServer;
use crate::support::witness::Witness;
use crate::support::{traffic, wait_for};
use flowledger::flow::batch::FlowBatch;
use flowledger::flow::segment::Totals;
use flowledger::journal::{self, Chunk, Record};
use flowledger::wire::{ConfiguredSampling, Context, Decoder, Limits, Transport};
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Keeps all files of a journal by hard links, until it is told to end.
pub struct Keeper {
    kept: PathBuf,
    ended: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Keeper {
    pub fn start(journal: PathBuf, kept: PathBuf) -> Self {
        std::fs::create_dir_all(&kept).unwrap();
        let ended = Arc::new(AtomicBool::new(false));
        let (own_end, own_kept) = (Arc::clone(&ended), kept.clone());
        let thread = std::thread::spawn(move || {
            // A file may live for some milliseconds, and a thread that waits for its turn among others would miss it. Without
            // the right to real time, it waits.
            let own = std::fs::read_link("/proc/thread-self").unwrap();
            let _ = Command::new("chrt").args(["-f", "-p", "10"]).arg(own.file_name().unwrap()).output();
            let mut known = HashSet::new();
            loop {
                let last = own_end.load(Ordering::Acquire);
                link_all(&journal, &own_kept, &mut known);
                if last {
                    return;
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        Self { kept, ended, thread: Some(thread) }
    }

    pub fn end(mut self) -> PathBuf {
        self.ended.store(true, Ordering::Release);
        self.thread.take().unwrap().join().unwrap();
        self.kept.clone()
    }
}

/// Links what is not known yet. A file that is gone before is missed, which [`journalled`] notices.
fn link_all(from: &Path, to: &Path, known: &mut HashSet<OsString>) {
    let Ok(entries) = std::fs::read_dir(from) else { return };
    for name in entries.flatten().map(|entry| entry.file_name()) {
        if !known.contains(&name) && std::fs::hard_link(from.join(&name), to.join(&name)).is_ok() {
            known.insert(name);
        }
    }
}

/// A file's head, in bytes.
const HEAD: u64 = 72;

/// Each opening of a journal leaves a gap of `max_bytes`, which is more than this in every test.
const GAP: u64 = 1 << 20;

/// How many bytes of the journal lie in files that were never linked: holes that no opening has left.
fn missed(files: &[PathBuf]) -> u64 {
    let bounds: Vec<(u64, u64)> = files
        .iter()
        .map(|path| {
            let start = u64::from_str_radix(path.file_stem().unwrap().to_str().unwrap(), 16).unwrap();
            (start, start + path.metadata().unwrap().len().saturating_sub(HEAD))
        })
        .collect();
    let holes = bounds.windows(2).map(|pair| pair[1].0.saturating_sub(pair[0].1));
    holes.filter(|hole| *hole < GAP).sum()
}

/// So many files of a journal are read at a time: it holds each of them open.
const FILES_AT_ONCE: usize = 5_000;

/// Reads a kept journal and sums what its datagrams hold.
pub fn journalled(kept: &Path) -> Totals {
    let (mut files, mut others): (Vec<_>, Vec<_>) = std::fs::read_dir(kept)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .partition(|path| path.extension().is_some_and(|extension| extension == "journal"));
    // Names are positions.
    files.sort_unstable();
    assert_eq!(missed(&files), 0, "the keeper was too slow to link all files, so nothing can be compared");
    others.retain(|path| path.is_file());
    let (mut decoder, mut exporters, mut totals) = (Decoder::new(Limits::default()), HashMap::new(), Totals::default());
    for some in files.chunks(FILES_AT_ONCE) {
        let part = kept.join("part");
        std::fs::create_dir(&part).unwrap();
        for path in some.iter().chain(&others) {
            std::fs::hard_link(path, part.join(path.file_name().unwrap())).unwrap();
        }
        add(&part, &mut decoder, &mut exporters, &mut totals);
        std::fs::remove_dir_all(&part).unwrap();
    }
    totals
}

/// Adds what the datagrams of a journal hold.
fn add(journal: &Path, decoder: &mut Decoder, exporters: &mut HashMap<IpAddr, u32>, totals: &mut Totals) {
    let settings = journal::Settings { directory: journal.to_owned(), ..journal::Settings::default() };
    let (_writer, mut reader) = journal::open(settings).unwrap();
    let (mut chunk, mut flows) = (Chunk::default(), FlowBatch::default());
    while reader.read(&mut chunk, Duration::ZERO).unwrap() > 0 {
        for (_, record) in chunk.iter() {
            let datagram = match record {
                Record::Datagram(datagram) => datagram,
                Record::Stream(stream) => {
                    if let Some(&exporter_id) = exporters.get(&stream.source.ip()) {
                        decoder.forget_stream(exporter_id, stream.source);
                    }
                    continue;
                }
                Record::Dropped(_) => continue,
            };
            let next = exporters.len() as u32 + 1;
            let exporter_id = *exporters.entry(datagram.source.ip()).or_insert(next);
            let context = Context {
                received: datagram.received,
                exporter_id,
                source: datagram.source,
                transport: match datagram.transport {
                    journal::Transport::Datagram => Transport::Datagrams,
                    journal::Transport::Stream => Transport::Stream,
                },
                sampling: ConfiguredSampling::default(),
            };
            let _ = decoder.decode(&context, datagram.payload, &mut flows);
            // A template that came while the server was down comes again, for what has waited since.
            while decoder.unpark(|_| ConfiguredSampling::default(), &mut flows).is_some() {}
        }
        totals.add(&flows.totals(0..flows.rows()));
        flows.clear();
    }
}

/// What the database holds, as segments and as rows; both must agree.
pub fn stored(url: &str) -> Totals {
    // In one statement, and so of one moment.
    let found = query(
        url,
        "SELECT coalesce(sum(coalesce(in_bytes, 0) + coalesce(out_bytes, 0)), 0), \
         coalesce(sum(coalesce(in_packets, 0) + coalesce(out_packets, 0)), 0), \
         coalesce(sum(coalesce(aggregated_flows, 1)), 0), 1 FROM flows UNION ALL \
         SELECT coalesce(sum(total_bytes), 0), coalesce(sum(total_packets), 0), coalesce(sum(total_flows), 0), 2 \
         FROM segment_headers ORDER BY 4",
    );
    let sums = |row: &[Option<String>]| -> Totals {
        let number = |index: usize| row[index].as_deref().unwrap().parse().unwrap();
        Totals { bytes: number(0), packets: number(1), flows: number(2) }
    };
    let (rows, segments) = (sums(&found[0]), sums(&found[1]));
    assert_eq!(rows, segments, "rows and segments were stored in one transaction");
    segments
}

/// How many rounds: a few in an ordinary run, all with FLOWLEDGER_LONG_TESTS.
pub fn rounds(ordinary: u64, long: u64) -> u64 {
    if std::env::var_os("FLOWLEDGER_LONG_TESTS").is_some() { long } else { ordinary }
}

#[test]
fn killing_the_server_loses_and_doubles_nothing_that_was_journalled() {
    let mut server = TestServer::with(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    let keeper = Keeper::start(server.journal(), server.folder().join("kept"));
    // A server that lives for half a second on a busy machine is behind in the end.
    let patience = rounds(60, 900);
    let rounds = rounds(50, 2_000);
    let url = server.database.as_ref().unwrap().url();
    let witness = Witness::begin(&server, &url);
    // The first template comes while the server is down: what follows waits for the second one, across kills.
    server.kill();
    let stand_in = UdpSocket::bind(server.collector()).unwrap();
    stand_in.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut stream = traffic::begin(server.collector(), "v9", rounds * 60_000, 20_000, 7);
    stand_in.recv(&mut [0; 2_048]).unwrap();
    drop(stand_in);
    server.launch();
    let mut random = fastrand::Rng::with_seed(11);
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_millis(random.u64(0..400)));
        server.kill();
        server.launch();
    }
    assert!(stream.is_sending(), "the stream must outlast the rounds");
    stream.stop();
    let account = witness.end(&server, &url, patience);
    println!("the server killed {rounds} times: {account:?}");
    // A server that is down hears nothing, and the kernel gives a socket that is closed nobody's datagrams.
    assert!(account.told > rounds, "{account:?}");
    let begun = Instant::now();
    wait_for("all flows to be stored", patience, || {
        // A server that has just started has not looked at its journal yet.
        let looked = server.metric("ingest_commits_total") > 0 || begun.elapsed() > Duration::from_secs(5);
        (looked && server.metric("ingest_backlog_bytes") == 0).then_some(())
    });
    server.terminate();
    let kept = keeper.end();
    let (journalled, stored) = (journalled(&kept), stored(&url));
    assert!(journalled.flows > rounds * 100, "too little came through to prove anything: {journalled:?}");
    assert_eq!(stored, journalled);
}

#[test]
fn killing_postgresql_loses_and_doubles_nothing_that_was_journalled() {
    let mut server = TestServer::with_private_postgres(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    let keeper = Keeper::start(server.journal(), server.folder().join("kept"));
    // In many rounds PostgreSQL is away for most of the time, and much is left to be stored.
    let patience = rounds(60, 900);
    let rounds = rounds(50, 200);
    let witness = Witness::begin(&server, &private_url(&server));
    let stream = traffic::begin(server.collector(), "ipfix", rounds * 200_000, 20_000, 8);
    let mut random = fastrand::Rng::with_seed(12);
    let mut last = 0;
    for _ in 0..rounds {
        let pid = wait_for("PostgreSQL to be back", 60, || postmaster(server.folder()).filter(|&pid| pid != last));
        last = pid;
        let commits = server.metric("ingest_commits_total");
        wait_for("flows to be stored again", 60, || (server.metric("ingest_commits_total") > commits).then_some(()));
        std::thread::sleep(Duration::from_millis(random.u64(0..200)));
        let killed = Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
        assert!(killed.success());
    }
    stream.stop();
    wait_for("PostgreSQL to be back for good", 60, || {
        let ready = server.fetch("/readyz").0 == 200;
        (ready && postmaster(server.folder()).is_some_and(|pid| pid != last)).then_some(())
    });
    let account = witness.end(&server, &private_url(&server), patience);
    println!("PostgreSQL killed {rounds} times: {account:?}");
    wait_for("all flows to be stored", patience, || (server.metric("ingest_backlog_bytes") == 0).then_some(()));
    let stored = stored(&private_url(&server));
    server.terminate();
    let journalled = journalled(&keeper.end());
    assert!(journalled.flows > rounds * 1_000, "too little came through to prove anything: {journalled:?}");
    assert_eq!(stored, journalled);
}

/// The process id of a server's own PostgreSQL, when its pid file has one.
pub fn postmaster(folder: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(folder.join("data/postgres/data/postmaster.pid")).ok()?;
    let lines: Vec<_> = text.lines().collect();
    (lines.get(7)?.trim() == "ready").then(|| lines[0].trim().parse().ok()).flatten()
}

/// How to reach a server's own PostgreSQL: its pid file names the socket's directory.
pub fn private_url(server: &TestServer) -> String {
    let text = std::fs::read_to_string(server.folder().join("data/postgres/data/postmaster.pid")).unwrap();
    let lines: Vec<_> = text.lines().collect();
    format!("postgres://flowledger@localhost/flowledger?host={}&port={}", lines[4].trim(), lines[3].trim())
}
