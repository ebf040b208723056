//! A server that starts while its database is not there: it receives, answers, is watched and stops as ever, and nothing is lost.

use crate::panics::Doomed;
use crate::support::faults::{Exporters, given};
use crate::support::postgres::programs;
use crate::support::server::TestServer;
use crate::support::wait_for;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A server whose database lets nobody in since before the start.
fn without_database() -> TestServer {
    let mut server = TestServer::at_rest(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    server.database.as_ref().unwrap().close();
    server.launch_unready();
    server
}

/// Checks that a server says of itself what holds while it waits, and that it has journalled so many datagrams.
fn waits(server: &TestServer, datagrams: u64) {
    wait_for("all to be journalled", 20, || (server.metric("journal_datagrams_total") == datagrams).then_some(()));
    assert_eq!(server.fetch("/healthz").0, 200);
    assert_eq!(server.fetch("/readyz").0, 503);
    assert_eq!(server.fetch("/api/v1/top?by=dst_ip&last=1h").0, 503);
}

#[test]
fn what_comes_before_the_database_does_is_stored_when_it_is_there() {
    let server = without_database();
    let mut exporters = Exporters::new(1, 2, server.collector());
    exporters.send(200);
    waits(&server, exporters.datagrams);
    assert!(server.log().contains("waiting for the database"), "{}", server.log());
    exporters.send(200);
    server.database.as_ref().unwrap().open();
    wait_for("the server to be ready", 20, || (server.fetch("/readyz").0 == 200).then_some(()));
    exporters.send(200);
    server.wait_for_flows(exporters.flows);
}

#[test]
fn stopping_before_the_database_is_there_keeps_what_came() {
    let mut server = without_database();
    let mut exporters = Exporters::new(1, 2, server.collector());
    exporters.send(300);
    waits(&server, exporters.datagrams);
    let begun = Instant::now();
    server.signal("TERM");
    assert!(server.wait().success(), "{}", server.log());
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}\n{}", begun.elapsed(), server.log());
    assert!(server.log().ends_with("stopped"), "{}", server.log());
    server.database.as_ref().unwrap().open();
    server.launch();
    server.wait_for_flows(exporters.flows);
}

#[test]
fn waiting_for_the_database_is_no_downtime() {
    let mut server = TestServer::with(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    let mut exporters = Exporters::new(1, 2, server.collector());
    exporters.send(100);
    server.wait_for_flows(exporters.flows);
    server.kill();
    // Longer than what counts as a pause.
    std::thread::sleep(Duration::from_secs(6));
    server.database.as_ref().unwrap().close();
    server.launch_unready();
    exporters.send(100);
    std::thread::sleep(Duration::from_secs(8));
    exporters.send(100);
    waits(&server, 200);
    server.database.as_ref().unwrap().open();
    wait_for("the server to be ready", 20, || (server.fetch("/readyz").0 == 200).then_some(()));
    server.wait_for_flows(exporters.flows);
    let down = server.lost("collector_down");
    assert!(
        (5..12).contains(&down),
        "{down} s are told, where it was down for some 6 s and waited for 8 s\n{}",
        server.log()
    );
}

#[test]
fn a_kill_before_the_database_is_there_loses_nothing() {
    let mut server = without_database();
    let mut exporters = Exporters::new(1, 2, server.collector());
    exporters.send(300);
    waits(&server, exporters.datagrams);
    server.kill();
    server.database.as_ref().unwrap().open();
    server.launch();
    server.wait_for_flows(exporters.flows);
}

#[test]
fn a_panic_of_a_listener_before_the_database_is_there_ends_the_process() {
    let mut server = without_database();
    let mut exporters = Exporters::new(1, 2, server.collector());
    exporters.send(300);
    waits(&server, exporters.datagrams);
    let Some(doomed) = given(Doomed::new(&server, "collect")) else { return };
    exporters.send(1);
    let begun = Instant::now();
    let status = server.wait();
    drop(doomed);
    assert_eq!(status.code(), Some(1), "{}", server.log());
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}\n{}", begun.elapsed(), server.log());
    assert!(server.log().contains("stopping: a listener of the collector has ended"), "{}", server.log());
    server.database.as_ref().unwrap().open();
    server.launch();
    // The last datagram may have gone with the thread; then the exporter's next one tells of it.
    exporters.send(2);
    wait_for("all to be stored or told", 20, || {
        (server.stored_flows() + server.lost("network") == exporters.flows).then_some(())
    });
}

/// A directory with the programs of PostgreSQL, of which one is a script instead that knows the real ones as `$real`.
fn programs_but(server: &TestServer, name: &str, script: &str) -> PathBuf {
    let (real, _, _) = programs();
    let folder = server.folder().join("slow");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    for program in fs::read_dir(&real).unwrap() {
        let program = program.unwrap();
        if program.file_name() != name {
            symlink(program.path(), folder.join(program.file_name())).unwrap();
        }
    }
    fs::write(folder.join(name), format!("#!/bin/sh\nreal={}\n{script}\n", real.display())).unwrap();
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

#[test]
fn our_own_postgresql_that_takes_long_to_start_holds_up_neither_receiving_nor_stopping() {
    let (real, _, _) = programs();
    let mut server = TestServer::with_private_postgres(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    server.terminate();
    // A PostgreSQL that recovers for ever, as far as can be seen from outside.
    let script = "case $1 in --version|-V) exec $real/postgres \"$@\" ;; esac\nexec sleep 600";
    let slow = programs_but(&server, "postgres", script);
    server.set("DATABASE__BINARIES", slow.to_str().unwrap());
    server.launch_unready();
    let mut exporters = Exporters::new(1, 2, server.collector());
    exporters.send(300);
    waits(&server, exporters.datagrams);
    let begun = Instant::now();
    server.signal("TERM");
    assert!(server.wait().success(), "{}", server.log());
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}\n{}", begun.elapsed(), server.log());
    server.set("DATABASE__BINARIES", real.to_str().unwrap());
    server.launch();
    server.wait_for_flows(exporters.flows);
}

#[test]
fn stopping_while_our_own_postgresql_is_made_ends_well_and_leaves_nothing_in_the_way() {
    let (real, _, _) = programs();
    let mut server = TestServer::with_private_postgres(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    server.terminate();
    fs::remove_dir_all(server.folder().join("data")).unwrap();
    let slow = programs_but(&server, "initdb", "sleep 3\nexec $real/initdb \"$@\"");
    server.set("DATABASE__BINARIES", slow.to_str().unwrap());
    server.spawn(&[]);
    wait_for("a cluster to be made", 20, || server.log().contains("making a PostgreSQL cluster").then_some(()));
    server.signal("TERM");
    assert!(server.wait().success(), "{}", server.log());
    let log = server.log();
    assert!(log.contains("PostgreSQL is still being made") && log.ends_with("stopped"), "{log}");
    let postmaster = server.folder().join("data/postgres/data/postmaster.pid");
    assert!(!postmaster.exists(), "it was stopped in order before the end was told\n{log}");
    server.set("DATABASE__BINARIES", real.to_str().unwrap());
    server.launch();
    let mut exporters = Exporters::new(1, 2, server.collector());
    exporters.send(100);
    server.wait_for_flows(exporters.flows);
}

#[test]
fn a_database_that_nobody_can_ever_enter_again_is_not_waited_for() {
    let mut server = TestServer::at_rest(&[]);
    server.database.as_ref().unwrap().invalidate();
    assert!(!server.launch_under(&[]), "{}", server.log());
    assert_eq!(server.wait().code(), Some(1), "{}", server.log());
    assert!(server.log().contains("invalid database"), "{}", server.log());
}
