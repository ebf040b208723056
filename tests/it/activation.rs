//! Sockets that outlive the server: what is sent while it is down waits in the kernel and is stored when it is back.

use crate::support::server::TestServer;
use crate::support::wait_for;
use flowledger::cli::simulate::{Plan, Protocol, Stream};
use flowledger::clock::{Clock, SystemClock};
use std::net::UdpSocket;

#[test]
fn what_is_sent_while_the_server_is_down_waits_in_an_inherited_socket_and_nothing_is_lost() {
    let held = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut server = TestServer::with_inherited(held, &[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let plan = Plan {
        protocol: Protocol::V9,
        seed: 3,
        hosts: 50,
        exporters: 1,
        count: Some(12_000),
        template_every: 50,
        sampling_interval: 1,
    };
    let mut stream = Stream::new(plan);
    let mut datagrams = Vec::new();
    while let Some(datagram) = stream.next(SystemClock.now()) {
        datagrams.push(datagram.bytes.to_vec());
    }
    let address = server.collector();
    let send = |part: &[Vec<u8>]| part.iter().for_each(|each| assert!(socket.send_to(each, address).is_ok()));
    let mut waited = 0;
    for part in datagrams.chunks(datagrams.len().div_ceil(3)) {
        let (before, meanwhile) = part.split_at(part.len() / 2);
        send(before);
        // What a process has read and not yet written down dies with it: here it has written down all.
        let sent = (waited + before.len()) as u64;
        wait_for("the journal to hold all", 20, || (server.metric("journal_records_total") == sent).then_some(()));
        server.kill();
        send(meanwhile);
        waited = meanwhile.len();
        server.launch();
    }
    server.wait_for_flows(12_000);
    let answer = server.json("/api/v1/top?last=1h");
    assert_eq!(answer["totals"]["flows"], 12_000);
    // What came before the server first ran was not recorded; nothing else is missing.
    let lost = answer["completeness"]["lost"].as_array().unwrap();
    assert!(lost.iter().all(|loss| loss["cause"] == "not_recorded"), "{lost:?}");
    assert_eq!(server.collector(), address);
}
