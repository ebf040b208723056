//! No file handles left: HTTP is refused first, flows are taken in and stored to the last, and all goes on when there are
//! handles again.

use crate::support::faults::{Exporters, Tally};
use crate::support::server::TestServer;
use crate::support::wait_for;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How many handles the server may have.
const LIMIT: usize = 64;

/// How many handles the server has.
fn handles(server: &TestServer) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap().count()
}

/// Whether the API answers within a moment.
fn answers(server: &TestServer) -> bool {
    let mut stream = TcpStream::connect(server.url("").strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    stream.read(&mut [0; 64]).is_ok_and(|read| read > 0)
}

#[test]
fn without_file_handles_http_is_refused_and_every_flow_is_stored() {
    let limit = format!("ulimit -n {LIMIT} && exec \"$0\" \"$@\"");
    let limited = ["sh", "-c", &limit].map(str::to_owned);
    // Small files, so that new ones are needed meanwhile.
    let mut server = TestServer::at_rest(&[
        ("INGEST__COMMIT_INTERVAL_MS", "50"),
        ("JOURNAL__SEGMENT_BYTES", "65536"),
        ("JOURNAL__MAX_BYTES", "67108864"),
    ]);
    assert!(server.launch_under(&limited), "{}", server.log());
    let mut exporters = Exporters::new(1, 2, server.collector());
    exporters.send(200);
    server.wait_for_flows(exporters.flows);
    assert!(answers(&server));
    let before = server.metric("journal_segments");
    // Connections that say nothing, and are closed for it after ten seconds.
    let address = server.url("").strip_prefix("http://").unwrap().to_owned();
    let silent: Vec<_> = (0..LIMIT).map(|_| TcpStream::connect(&address).unwrap()).collect();
    wait_for("all handles to be in use", 20, || (handles(&server) >= LIMIT).then_some(()));
    assert!(!answers(&server), "there is a handle left");
    exporters.send(1_000);
    assert!(!answers(&server), "there is a handle left");
    let database = server.database.as_ref().unwrap();
    let stored =
        || database.query("SELECT coalesce(sum(flow_rows), 0)::text FROM segment_headers")[0][0].clone().unwrap();
    wait_for("all to be stored without a handle", 8, || (stored() == exporters.flows.to_string()).then_some(()));
    drop(silent);
    wait_for("the API to answer again", 20, || answers(&server).then_some(()));
    exporters.send(400);
    let tally = Tally::settled(&server, exporters.datagrams);
    assert_eq!((tally.journal_dropped, tally.kernel_drops, tally.stored), (0, 0, exporters.flows), "{}", server.log());
    // A file goes with the first commit after the one behind it is on disk.
    wait_for("files to be as few as before", 20, || {
        exporters.send(2);
        (server.metric("journal_segments") <= before + 1).then_some(())
    });
}
