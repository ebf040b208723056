//! Sockets that outlive the server: what is sent while it is down waits in the kernel and is stored when it is back.

use crate::support::server::TestServer;
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
    for (round, part) in datagrams.chunks(datagrams.len().div_ceil(6)).enumerate() {
        // Every other part comes while nobody is there.
        if round % 2 == 1 {
            server.kill();
        }
        for datagram in part {
            socket.send_to(datagram, address).unwrap();
        }
        if round % 2 == 1 {
            server.launch();
        }
    }
    server.wait_for_flows(12_000);
    let answer = server.json("/api/v1/top?last=1h");
    assert_eq!(answer["totals"]["flows"], 12_000);
    // What came before the server first ran was not recorded; nothing else is missing.
    let lost = answer["completeness"]["lost"].as_array().unwrap();
    assert!(lost.iter().all(|loss| loss["cause"] == "not_recorded"), "{lost:?}");
    assert_eq!(server.collector(), address);
}
