//! Data sets that come before their template, through a whole server: kept over `kill -9`, decoded once, told meanwhile.

use crate::support::server::TestServer;
use crate::support::wait_for;
use flowledger::cli::simulate::{Plan, Protocol, Stream};
use flowledger::clock::{Clock, SystemClock};
use std::net::UdpSocket;

/// A template and the datagrams of data that need it.
fn stream(protocol: Protocol, count: u64) -> (Vec<u8>, Vec<Vec<u8>>) {
    let plan = Plan {
        protocol,
        seed: 9,
        hosts: 50,
        exporters: 1,
        count: Some(count),
        template_every: 0,
        sampling_interval: 1,
    };
    let mut stream = Stream::new(plan);
    let mut datagrams = Vec::new();
    while let Some(datagram) = stream.next(SystemClock.now()) {
        datagrams.push(datagram.bytes.to_vec());
    }
    let template = datagrams.remove(0);
    (template, datagrams)
}

#[test]
fn data_before_its_template_survives_a_kill_and_is_stored_once() {
    for protocol in [Protocol::V9, Protocol::Ipfix] {
        let mut server = TestServer::start();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (template, data) = stream(protocol, 3_000);
        for datagram in &data {
            socket.send_to(datagram, server.collector()).unwrap();
        }
        let waiting = |server: &TestServer| {
            let answer = server.json("/api/v1/top?last=1h");
            let lost = answer["completeness"]["lost"].as_array().unwrap().clone();
            lost.iter().find(|loss| loss["cause"] == "parked").map(|loss| loss["count"].as_u64().unwrap())
        };
        wait_for("the sets to be known as waiting", 10, || (waiting(&server) == Some(data.len() as u64)).then_some(()));
        assert_eq!(server.json("/api/v1/top?last=1h")["totals"]["flows"], 0);
        server.kill();
        server.launch();
        socket.send_to(&template, server.collector()).unwrap();
        server.wait_for_flows(3_000);
        wait_for("nothing to wait any more", 10, || (waiting(&server).is_none()).then_some(()));
        assert_eq!(server.json("/api/v1/top?last=1h")["totals"]["flows"], 3_000);
        assert_eq!(server.json("/api/v1/exporters")["exporters"][0]["flows"], 3_000);
        // Nothing is left to be decoded again.
        server.kill();
        server.launch();
        socket.send_to(&template, server.collector()).unwrap();
        assert_eq!(server.json("/api/v1/top?last=1h")["totals"]["flows"], 3_000);
    }
}
