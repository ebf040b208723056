//! Sampled exporters, from the datagram to the answer: forced, told and default intervals.

use crate::support::server::TestServer;
use flowledger::cli::simulate::{Plan, Protocol, Stream};
use flowledger::clock::{Clock, SystemClock};
use std::net::UdpSocket;

#[test]
fn counters_are_multiplied_by_what_is_forced_else_by_what_the_exporter_says_else_by_the_default() {
    let mut server = TestServer::with(&[("COLLECTOR__DEFAULT_SAMPLING_INTERVAL", "10")]);
    let plan = Plan {
        protocol: Protocol::V5,
        seed: 3,
        hosts: 20,
        exporters: 1,
        count: None,
        template_every: 0,
        sampling_interval: 1,
    };
    let (mut stream, socket) = (Stream::new(plan), UdpSocket::bind("127.0.0.1:0").unwrap());
    let (mut sent, mut raw, mut scaled, mut sampled) = (0, [0, 0], [0, 0], 0);
    // The header's last word (Cisco, "NetFlow Export Datagram Format"): 2 bits of mode, 14 of interval.
    let mut send = |server: &TestServer, word: u16, interval: u64| {
        let before = stream.totals();
        let mut datagram = stream.next(SystemClock.now()).unwrap().bytes.to_vec();
        datagram[22..24].copy_from_slice(&word.to_be_bytes());
        socket.send_to(&datagram, server.collector()).unwrap();
        let after = stream.totals();
        let counters = [after.bytes - before.bytes, after.packets - before.packets];
        for (index, counter) in counters.into_iter().enumerate() {
            raw[index] += counter;
            scaled[index] += counter * interval;
        }
        sampled += if interval > 1 { after.flows - before.flows } else { 0 };
        sent = after.flows;
        server.wait_for_flows(sent);
    };
    send(&server, 0, 10);
    send(&server, 1 << 14 | 100, 100);
    for (forced, interval) in [("1000", 1_000), ("1", 1)] {
        server.terminate();
        server.set("EXPORTER", &format!("[{{address=\"127.0.0.1\",sampling_interval={forced}}}]"));
        server.launch();
        send(&server, 1 << 14 | 100, interval);
    }
    for (counters, sums) in [("scaled", scaled), ("raw", raw)] {
        let answer = server.json(&format!("/api/v1/top?by=dst_ip&last=1h&counters={counters}"));
        let totals = &answer["totals"];
        assert_eq!((&totals["bytes"], &totals["packets"]), (&sums[0].into(), &sums[1].into()), "{counters}");
        assert_eq!(totals["flows"], sent);
        assert_eq!(answer["completeness"]["estimated"], counters == "scaled");
        assert_eq!(answer["completeness"]["sampled_flows"], sampled);
    }
    // Without a word about it they are scaled.
    assert_eq!(server.json("/api/v1/top?last=1h")["totals"]["bytes"], scaled[0]);
}
