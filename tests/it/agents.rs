//! sFlow agents behind a relay.

use crate::support::server::TestServer;
use std::net::UdpSocket;

/// An sFlow datagram of this agent with one sampled UDP packet of 100 bytes, 1 of 1,000.
fn sflow(agent: [u8; 4]) -> Vec<u8> {
    let words = |numbers: &[u32]| numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
    let head = [words(&[5, 1]), agent.to_vec(), words(&[0, 1, 100_000, 1])].concat();
    let ip = words(&[0x4500_0064, 0, 0x4011_0000, 0x0a00_0001, 0x0a00_0002, 0x0035_0035, 0x0050_0000]);
    let record = [words(&[1, 16 + 28, 11, 118, 18, 28]), ip].concat();
    let sample = [words(&[1, 5, 1_000, 1_000, 0, 5, 6, 1]), record].concat();
    [head, words(&[1, sample.len() as u32]), sample].concat()
}

#[test]
fn agents_behind_one_relay_are_exporters_each() {
    let server = TestServer::start();
    let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
    for agent in [[192, 0, 2, 11], [192, 0, 2, 12], [127, 0, 0, 1]] {
        relay.send_to(&sflow(agent), server.collector()).unwrap();
    }
    server.wait_for_flows(3);
    let answer = server.json("/api/v1/exporters");
    let exporters = answer["exporters"].as_array().unwrap().iter();
    let mut found: Vec<_> =
        exporters.map(|it| (it["address"].as_str().unwrap(), it["flows"].as_u64().unwrap())).collect();
    found.sort_unstable();
    assert_eq!(found, [("127.0.0.1", 1), ("192.0.2.11", 1), ("192.0.2.12", 1)]);
    assert_eq!(server.json("/api/v1/top?last=1h&by=src_ip")["rows"][0]["bytes"], 300_000);
}
