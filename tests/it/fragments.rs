//! Datagrams above the MTU cross the network in fragments. They are decoded whole, or, when a fragment is lost, not at all.

use crate::support::namespaces::{COLLECTOR, EXPORTER, command, enter};
use crate::support::server::TestServer;
use crate::support::traffic;
use flowledger::cli::simulate::{Plan, Protocol, Stream};
use flowledger::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

/// What every IPv4 host takes (RFC 791, 3.1), and far less than a datagram of flows.
const MTU: usize = 576;

/// How many datagrams were put together of fragments in a namespace.
fn reassembled(namespace: &str) -> u64 {
    let output = command(namespace, "cat").arg("/proc/net/snmp").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("Ip: ")).map(|line| line.split(' '));
    let (mut names, mut values) = (lines.next().unwrap(), lines.next().unwrap());
    values.nth(names.position(|name| name == "ReasmOKs").unwrap()).unwrap().parse().unwrap()
}

/// The only exporter, of which nothing was dropped or refused.
fn exporter(server: &TestServer) -> Value {
    let mut answer = server.json("/api/v1/exporters");
    assert_eq!(answer["unattributed"], json!({"dropped": {}, "rejected": {}}));
    assert_eq!(answer["exporters"].as_array().unwrap().len(), 1, "{answer:#}");
    let exporter = answer["exporters"][0].take();
    assert_eq!((&exporter["dropped"], &exporter["rejected"]), (&json!({}), &json!({})));
    assert_eq!(exporter["address"], EXPORTER);
    exporter
}

fn totals(server: &TestServer) -> [u64; 3] {
    let answer = server.json("/api/v1/top?by=dst_ip&last=1h&counters=raw");
    ["bytes", "packets", "flows"].map(|name| answer["totals"][name].as_u64().unwrap())
}

#[test]
fn datagrams_above_the_mtu_are_decoded_whole() {
    let test = "fragments::datagrams_above_the_mtu_are_decoded_whole";
    let Some(namespace) = enter(test, MTU as u32) else { return };
    let server = TestServer::in_namespace(&namespace, COLLECTOR);
    let mut sums = [0; 3];
    for (seed, protocol) in ["v1", "v5", "v7", "v9", "ipfix", "sflow"].into_iter().enumerate() {
        let before = reassembled(&namespace);
        let sent = traffic::send(server.collector(), protocol, 2_000, 0, seed as u64);
        let count = |name: &str| sent[name].as_u64().unwrap();
        for (sum, name) in sums.iter_mut().zip(["bytes", "packets", "flows"]) {
            *sum += count(name);
        }
        server.wait_for_flows(sums[2]);
        assert_eq!(totals(&server), sums, "{protocol}");
        // All but templates, and the last one, which may be short.
        let fragmented = reassembled(&namespace) - before;
        let full = count("datagrams") - count("template_datagrams");
        assert!((full - 1..=full).contains(&fragmented), "{protocol}: {fragmented} of {full}");
    }
    assert_eq!(exporter(&server)["lost_by_unit"], json!({}));
}

/// A UDP datagram from the exporter to `to` as IPv4 packets of at most [`MTU`] bytes (RFC 791, 3.2). The kernel adds
/// length and checksum of each.
fn fragments(number: u16, to: SocketAddr, payload: &[u8]) -> Vec<Vec<u8>> {
    let word = |number: usize| (number as u16).to_be_bytes();
    let udp = [word(9_999), word(to.port().into()), word(payload.len() + 8), [0, 0]].concat();
    let datagram = [&udp, payload].concat();
    // Offsets count units of 8 bytes.
    let each = (MTU - 20) / 8 * 8;
    let addresses = [EXPORTER, COLLECTOR].map(|address| address.parse::<Ipv4Addr>().unwrap().octets()).concat();
    let packet = |(index, part): (usize, &[u8])| {
        let offset = index * each;
        let more = if offset + part.len() < datagram.len() { 0x2000 } else { 0 };
        let head = [[0x45, 0], [0, 0], number.to_be_bytes(), word(more + offset / 8), [64, 17], [0, 0]].concat();
        [&head, &addresses, part].concat()
    };
    datagram.chunks(each).enumerate().map(packet).collect()
}

#[test]
fn a_datagram_that_lost_a_fragment_is_lost_as_a_whole_and_to_the_unit() {
    let test = "fragments::a_datagram_that_lost_a_fragment_is_lost_as_a_whole_and_to_the_unit";
    let Some(namespace) = enter(test, MTU as u32) else { return };
    let server = TestServer::in_namespace(&namespace, COLLECTOR);
    let wire = Socket::new(Domain::IPV4, Type::RAW, Some(255.into())).unwrap();
    wire.set_header_included_v4(true).unwrap();
    let to = server.collector();
    let (mut number, mut arrived, mut incomplete, mut sums) = (0, 0, 0, [0; 3]);
    let mut lost = BTreeMap::<&str, u64>::new();
    for protocol in [Protocol::V5, Protocol::V7, Protocol::V9, Protocol::Ipfix, Protocol::Sflow] {
        let mut stream = Stream::new(Plan {
            protocol,
            seed: 1,
            hosts: 100,
            exporters: 1,
            count: Some(20 * protocol.flows_per_datagram() as u64),
            template_every: 0,
            sampling_interval: 1_000,
        });
        let mut position = 0;
        loop {
            let before = stream.totals();
            let Some(datagram) = stream.next(SystemClock.now()) else { break };
            let (flows, mut packets) = (datagram.flows as u64, fragments(number + 1, to, datagram.bytes));
            let after = stream.totals();
            number += 1;
            position += 1;
            // Every third, but neither the template nor the last one, after which nothing could tell.
            if flows > 0 && position % 3 == 2 && position < 20 {
                assert!(packets.len() >= 3);
                // One after the other: the head of the datagram, its middle, its end.
                packets.remove([0, 1, packets.len() - 1][incomplete % 3]);
                incomplete += 1;
                let (unit, count) = match protocol {
                    Protocol::V5 | Protocol::V7 => ("flows", flows),
                    Protocol::Ipfix => ("records", flows),
                    _ => ("datagrams", 1),
                };
                *lost.entry(unit).or_default() += count;
            } else {
                arrived += 1;
                let counts = [after.bytes - before.bytes, after.packets - before.packets, after.flows - before.flows];
                for (sum, count) in sums.iter_mut().zip(counts) {
                    *sum += count;
                }
            }
            if position % 2 == 0 {
                packets.reverse();
            }
            for packet in packets {
                assert_eq!(wire.send_to(&packet, &to.into()).unwrap(), packet.len());
            }
        }
    }
    assert!(incomplete >= 30 && lost.len() == 3);
    server.wait_for_flows(sums[2]);
    assert_eq!(totals(&server), sums);
    assert_eq!(server.metric("collector_datagrams_total"), arrived);
    assert_eq!(exporter(&server)["lost_by_unit"], json!(lost));
}
