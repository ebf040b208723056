//! A journal that is full while the database is away: by its own limit, because its file system is full, or because somebody
//! else filled that. The same process goes on, what it had to drop is counted to the unit, told with its hours and exporters,
//! and what it took is stored.

use crate::kills::{rounds, stored};
use crate::support::faults::{Disk, Exporters, Tally, failing, given};
use crate::support::server::TestServer;
use crate::support::wait_for;
use flowledger::clock::{Clock, HOUR, SystemClock, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const MIB: u64 = 1 << 20;

/// What is stored of `loss`: exporter's address, hour, cause, unit, count.
fn losses(server: &TestServer) -> Vec<[String; 5]> {
    let rows = server.database.as_ref().unwrap().query(
        "SELECT coalesce(host(address), '-'), (extract(epoch FROM hour) * 1000000)::bigint::text, cause, unit, count::text \
         FROM loss LEFT JOIN exporters USING (exporter_id) ORDER BY 1, 2, 3",
    );
    rows.into_iter().map(|row| <[_; 5]>::try_from(row).unwrap().map(Option::unwrap)).collect()
}

fn sum(losses: &[[String; 5]], cause: &str) -> u64 {
    losses.iter().filter(|row| row[2] == cause).map(|row| row[4].parse::<u64>().unwrap()).sum()
}

/// The stamp of what was received in `from..to`.
fn stamp(server: &TestServer, from: Timestamp, to: Timestamp) -> Value {
    let path = format!("/api/v1/top?by=src_ip&limit=1&from={from}&to={to}");
    server.json(&path)["completeness"].clone()
}

/// The hours in which the journal dropped something, as far as can be seen from outside.
#[derive(Debug, Default)]
struct Hours {
    certain: BTreeSet<String>,
    /// Those, and both sides of an hour's end that something was sent across.
    possible: BTreeSet<String>,
}

impl Hours {
    /// Does what may make the journal drop, and notes when it did.
    fn watch<T>(&mut self, dropped: impl Fn() -> u64, work: impl FnOnce() -> T) -> T {
        let (before, from) = (dropped(), SystemClock.now().hour());
        let done = work();
        if dropped() > before {
            let hours = [from, SystemClock.now().hour()].map(|hour| hour.micros().to_string());
            if hours[0] == hours[1] {
                self.certain.insert(hours[0].clone());
            }
            self.possible.extend(hours);
        }
        done
    }
}

/// After the database is back: all is accounted for, and answers tell what is missing, when and of whom. `full` were sent
/// since `began` by exporters that came upon a full journal in these `hours`, `others` by those that never did.
fn assert_told(server: &TestServer, began: Timestamp, hours: &Hours, full: &Exporters, others: &Exporters) {
    let (datagrams, flows) = (full.datagrams + others.datagrams, full.flows + others.flows);
    let tally = Tally::settled(server, datagrams);
    assert!(tally.journal_dropped > 0 && tally.refused == 0, "{tally:?}");
    let database = server.database.as_ref().unwrap();
    assert_eq!(stored(&database.url()).flows, tally.stored);
    let known = wait_for("all drops to be told", 20, || {
        let losses = losses(server);
        let told =
            sum(&losses, "journal_full") == tally.journal_dropped && sum(&losses, "kernel") == tally.kernel_drops;
        told.then_some(losses)
    });
    // Sequence numbers know better than we how many flows the datagrams had.
    assert_eq!(tally.stored + sum(&known, "network"), flows, "{known:?}");
    let now = SystemClock.now();
    let of_journal = known.iter().filter(|row| row[2] == "journal_full");
    let told: BTreeSet<_> = of_journal.map(|row| row[1].clone()).collect();
    assert!(told.is_superset(&hours.certain) && told.is_subset(&hours.possible), "{told:?}, {hours:?}");
    let whose: BTreeSet<_> = known.iter().filter(|row| row[2] != "kernel").map(|row| row[0].clone()).collect();
    assert_eq!(whose.into_iter().collect::<Vec<_>>(), ["127.0.0.1", "127.0.0.2"], "{known:?}");
    // The same in the answer.
    database.record_for_three_days();
    let told = stamp(server, began.hour(), now.hour().plus(HOUR));
    let counts = json!([
        {"cause": "journal_full", "unit": "datagrams", "count": tally.journal_dropped},
        {"cause": "network", "unit": "flows", "count": sum(&known, "network")},
    ]);
    let lost: Value = told["lost"].as_array().unwrap().iter().filter(|it| it["cause"] != "kernel").cloned().collect();
    assert_eq!((&lost, &told["exact"]), (&counts, &false.into()), "{told}");
    let mut named: Vec<_> =
        told["exporters"].as_array().unwrap().iter().map(|it| it["address"].as_str().unwrap()).collect();
    named.sort_unstable();
    assert_eq!(named, ["127.0.0.1", "127.0.0.2"], "{told}");
    let before = stamp(server, began.hour().plus(-2 * HOUR), began.hour());
    assert_eq!((&before["lost"], &before["exact"]), (&json!([]), &true.into()), "{before}");
}

/// Fills the journal of a server whose database is away, and brings the database back. `free` makes room meanwhile, if
/// somebody does.
fn fill(server: &TestServer, free: Option<&dyn Fn()>) {
    let began = SystemClock.now();
    let (pid, database) = (server.pid(), server.database.as_ref().unwrap());
    let mut others = Exporters::new(9, 1, server.collector());
    let mut full = Exporters::new(1, 2, server.collector());
    others.send(200);
    full.send(2);
    server.wait_for_flows(others.flows + full.flows);
    database.close();
    full.send(400);
    let dropped = || server.metric("journal_dropped_datagrams_total");
    let mut hours = Hours::default();
    while dropped() == 0 {
        hours.watch(dropped, || full.send(200));
    }
    // Well into it.
    hours.watch(dropped, || full.send(1_000));
    assert!(dropped() > 500, "{} were dropped", dropped());
    if let Some(free) = free {
        free();
        let taken = || {
            full.send(2);
            let before = server.metric("journal_datagrams_total");
            full.send(2);
            std::thread::sleep(std::time::Duration::from_millis(50));
            (server.metric("journal_datagrams_total") >= before + 2).then_some(())
        };
        hours.watch(dropped, || wait_for("datagrams to be taken again", 20, taken));
        let before = dropped();
        others.send(200);
        full.send(500);
        wait_for("all to be received", 20, || {
            let Tally { kernel_drops, received, .. } = Tally::of(server);
            (kernel_drops + received == full.datagrams + others.datagrams).then_some(())
        });
        assert_eq!(dropped(), before, "there is room");
    }
    database.open();
    // What was still on its way to a full journal.
    hours.watch(dropped, || std::thread::sleep(std::time::Duration::from_millis(200)));
    wait_for("the journal to be read", 600, || {
        let Tally { read, journalled, .. } = Tally::of(server);
        (read == journalled && server.metric("ingest_backlog_bytes") == 0).then_some(())
    });
    // After a drop each exporter is heard again, so that gaps are known to the end.
    others.send(10);
    full.send(200);
    assert_told(server, began, &hours, &full, &others);
    assert_eq!(server.pid(), pid);
    let told = server.log().matches("datagrams are dropped and counted").count();
    assert!(told <= 4, "the log is told {told} times");
}

#[test]
fn a_journal_at_its_own_limit_drops_counts_tells_and_goes_on() {
    let settings = [
        ("INGEST__COMMIT_INTERVAL_MS", "50"),
        ("JOURNAL__SEGMENT_BYTES", "262144"),
        ("JOURNAL__MAX_BYTES", &(rounds(4, 64) * MIB).to_string()),
    ];
    let server = TestServer::with(&settings);
    fill(&server, None);
    assert_eq!(server.metric("journal_write_errors_total"), 0);
}

#[test]
fn a_journal_whose_file_system_is_full_drops_counts_tells_and_goes_on() {
    let Some(disk) = given(Disk::mount(rounds(6, 64) * MIB)) else { return };
    let server = on(&disk, &[]);
    fill(&server, None);
    assert!(server.metric("journal_write_errors_total") > 0);
}

#[test]
fn a_journal_whose_file_system_somebody_else_fills_goes_on_when_there_is_room_again() {
    let Some(disk) = given(Disk::mount(64 * MIB)) else { return };
    let server = on(&disk, &[]);
    let strange = disk.occupy(62 * MIB as usize);
    fill(&server, Some(&|| std::fs::remove_file(&strange).unwrap()));
    assert!(server.metric("journal_write_errors_total") > 0);
}

/// A server whose journal lies on `disk`, with room in its settings for more than fits there.
fn on(disk: &Disk, tracer: &[String]) -> TestServer {
    let journal = disk.path().join("journal").display().to_string();
    let mut server = TestServer::at_rest(&[
        ("INGEST__COMMIT_INTERVAL_MS", "50"),
        ("JOURNAL__DIRECTORY", &journal),
        ("JOURNAL__SEGMENT_BYTES", "1048576"),
        ("JOURNAL__MAX_BYTES", "1073741824"),
    ]);
    assert!(server.launch_under(tracer), "{}", server.log());
    server
}

#[test]
fn writes_that_the_disk_refuses_or_cuts_short_cost_what_is_counted_and_nothing_else() {
    // Each thread's first write is the header of the first file. 100 bytes are less than one of our records.
    for fault in ["error=ENOSPC:when=20..60+3", "error=EIO:when=20..60+5"] {
        let Some(tracer) = given(failing("pwrite64", fault)) else { return };
        let mut server = TestServer::at_rest(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
        assert!(server.launch_under(&tracer), "{}", server.log());
        let mut exporters = Exporters::new(1, 2, server.collector());
        let failed = || server.metric("journal_write_errors_total");
        wait_for("writes to fail", 30, || {
            exporters.send(64);
            (failed() >= 8).then_some(())
        });
        // Until nothing fails any more: after its last drop each exporter is heard again, so that all gaps are known.
        wait_for("writes to succeed", 30, || {
            let before = failed();
            exporters.send(800);
            (failed() == before).then_some(())
        });
        let tally = Tally::settled(&server, exporters.datagrams);
        assert!(tally.journal_dropped > 0, "{tally:?}");
        let known = wait_for("all drops to be told", 20, || {
            let losses = losses(&server);
            (sum(&losses, "journal_full") == tally.journal_dropped).then_some(losses)
        });
        assert_eq!(tally.stored + sum(&known, "network"), exporters.flows, "{fault}: {known:?}");
        assert_eq!(stored(&server.database.as_ref().unwrap().url()).flows, tally.stored);
    }
}

#[test]
fn a_write_that_never_happened_costs_the_record_it_tore_which_is_counted() {
    // The kernel says that so many bytes were written, and none was.
    let Some(tracer) = given(failing("pwrite64", "retval=100:when=20..60+3")) else { return };
    let mut server = TestServer::at_rest(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    assert!(server.launch_under(&tracer), "{}", server.log());
    let mut exporters = Exporters::new(1, 2, server.collector());
    let torn = || server.metric("journal_corrupt_records_total");
    wait_for("all torn writes", 30, || {
        exporters.send(64);
        (torn() == 14).then_some(())
    });
    exporters.send(64);
    let tally = Tally::settled(&server, exporters.datagrams);
    let known = wait_for("the damage to be told", 20, || {
        let losses = losses(&server);
        (sum(&losses, "journal_corrupt") == 14).then_some(losses)
    });
    assert_eq!((tally.journal_corrupt, tally.journal_dropped, sum(&known, "network")), (14, 0, 14 * 30), "{known:?}");
    assert_eq!(tally.stored + 14 * 30, exporters.flows);
}
