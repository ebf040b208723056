//! The disk of the database full: that of its tables, so that it refuses rows, and that of its log, so that it dies.

use crate::faults::Subject;
use crate::kills::{private_url, rounds};
use crate::support::server::TestServer;
use crate::support::skip;
use crate::support::small_disk::SmallDisk;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Flows that come in a second: so many that a disk is soon full.
const RATE: u64 = 10_000;

/// A server with its own PostgreSQL, a small disk over a directory of it, and a stream that comes in. `None` where no disk
/// can be mounted.
fn begin(test: &str, mebibytes: u32, directory: impl Fn(&Path) -> PathBuf) -> Option<(Subject, SmallDisk)> {
    let mut server = TestServer::with_private_postgres(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    server.terminate();
    let disk = match SmallDisk::mount(&directory(&server.folder().join("data/postgres/data")), mebibytes) {
        Ok(disk) => disk,
        Err(why) => {
            skip(test, &why);
            return None;
        }
    };
    let before = disk.before(server.folder());
    assert!(server.launch_under(&before), "{}", server.log());
    let url = private_url(&server);
    Some((Subject::begin(server, url, RATE), disk))
}

#[test]
fn with_the_disk_of_the_tables_full_flows_wait_and_go_on_when_there_is_room() {
    let test = "with_the_disk_of_the_tables_full_flows_wait_and_go_on_when_there_is_room";
    let Some((subject, disk)) = begin(test, 400, |data| data.join("base")) else { return };
    let failed = subject.server.metric("ingest_commits_failed_total");
    disk.fill();
    let line = subject.says(&["flows wait in the journal", "No space left on device", "make room on the disk"]);
    println!("{line}");
    subject.readiness(503);
    subject.receives_for(rounds(2, 300));
    assert!(subject.server.metric("ingest_commits_failed_total") > failed);
    disk.free();
    subject.readiness(200);
    subject.goes_on();
    subject.settle();
}

#[test]
fn with_the_disk_of_the_log_full_postgresql_dies_and_comes_back_when_there_is_room() {
    let test = "with_the_disk_of_the_log_full_postgresql_dies_and_comes_back_when_there_is_room";
    let Some((subject, disk)) = begin(test, 200, |data| data.join("pg_wal")) else { return };
    disk.fill();
    subject.says(&["flows wait in the journal"]);
    subject.readiness(503);
    let log =
        std::fs::read_dir(subject.server.folder().join("data/postgres")).unwrap().flatten().map(|file| file.path());
    let log: String = log.filter_map(|path| path.is_file().then(|| std::fs::read_to_string(path).ok())?).collect();
    assert!(log.contains("PANIC") && log.contains("No space left on device"), "{log}");
    subject.receives_for(rounds(5, 300));
    disk.free();
    subject.readiness(200);
    std::thread::sleep(Duration::from_millis(500));
    subject.goes_on();
    subject.settle();
}
