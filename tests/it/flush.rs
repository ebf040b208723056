//! A flush of the journal that fails once: the kernel may have forgotten the bytes, and says so only this once. The file is
//! not trusted again, what a power cut may cost is told, and nothing is lost as long as the machine lives.

use crate::kills::stored;
use crate::support::faults::{Exporters, Tally, failing_and_traced, given};
use crate::support::server::TestServer;
use crate::support::wait_for;
use std::fs;
use std::time::Duration;

#[test]
fn a_file_that_failed_to_flush_once_is_not_trusted_again_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    // The first flush of the thread that flushes is that of the first file, whose beginning is on disk before.
    let Some(tracer) = given(failing_and_traced("fdatasync", "error=EIO:when=3", &trace)) else { return };
    let mut server = TestServer::at_rest(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    assert!(server.launch_under(&tracer), "{}", server.log());
    let database = server.database.as_ref().unwrap();
    let mut exporters = Exporters::new(1, 2, server.collector());
    exporters.send(100);
    server.wait_for_flows(exporters.flows);
    database.close();
    let failures = || server.metric("journal_sync_errors_total");
    wait_for("a flush to fail", 20, || {
        exporters.send(32);
        (failures() == 1).then_some(())
    });
    exporters.send(400);
    let files: Vec<_> = fs::read_dir(server.journal()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut files: Vec<_> =
        files.into_iter().filter(|path| path.extension().is_some_and(|it| it == "journal")).collect();
    files.sort();
    let [.., failed, next] = &files[..] else { panic!("{files:?}") };
    // What is flushed later does not vouch for the file that failed: so much a power cut may take until it is stored.
    let length = fs::metadata(failed).unwrap().len();
    let doubted = || server.metric("journal_unsynced_bytes");
    wait_for("the next file to be flushed", 20, || (doubted() < length).then_some(()));
    let bytes = doubted();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((bytes > 0, doubted()), (true, bytes));
    assert!(
        server.log().contains(&format!("{} could not be flushed to the disk", failed.display())),
        "{}",
        server.log()
    );

    // The file is never flushed again, the next one is.
    let traced = fs::read_to_string(&trace).unwrap();
    let mut after = traced.lines().skip_while(|line| !line.contains("EIO"));
    assert!(after.next().unwrap().contains(failed.to_str().unwrap()), "{traced}");
    let after: Vec<_> = after.collect();
    assert!(!after.iter().any(|line| line.contains(failed.to_str().unwrap())), "{traced}");
    assert!(after.iter().any(|line| line.contains(next.to_str().unwrap())), "{traced}");

    database.open();
    let tally = Tally::settled(&server, exporters.datagrams);
    assert_eq!((tally.stored, tally.journal_dropped, tally.journal_corrupt), (exporters.flows, 0, 0));
    assert_eq!(stored(&database.url()).flows, exporters.flows);
    wait_for("nothing to be in doubt any more", 20, || (doubted() == 0).then_some(()));
    assert_eq!(failures(), 1);
}
