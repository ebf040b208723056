//! The main job from the first datagram to the answer.

use crate::support::certificates::Certificates;
use crate::support::server::TestServer;
use crate::support::{traffic, wait_for};
use flowledger::cli::simulate::{Plan, Protocol, Stream};
use flowledger::clock::{Clock, SystemClock};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

#[test]
fn simulated_flows_are_in_the_answer_within_three_seconds() {
    let server = TestServer::with_private_postgres(&[]);
    let start = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.6fZ");
    for (protocol, seed) in [("v5", 1), ("v9", 2), ("ipfix", 3)] {
        let before = server.stored_flows();
        let sent = traffic::send(server.collector(), protocol, 3_000, 0, seed);
        let begun = Instant::now();
        let flows = sent["flows"].as_u64().unwrap();
        server.wait_for_flows(before + flows);
        assert!(begun.elapsed() < Duration::from_secs(3), "{protocol} took {:?}", begun.elapsed());
    }
    let exporters = server.json("/api/v1/exporters");
    let exporter = &exporters["exporters"][0];
    assert_eq!(exporter["address"], "127.0.0.1");
    assert_eq!(exporter["versions"], serde_json::json!([5, 9, 10]));
    assert_eq!(exporter["flows"], 9_000);
    assert_eq!(exporter["lost"]["count"], 0);
    // A window that began after the collector and has ended is exact once everything received in it is stored, and one up to now says since when not.
    let end = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%S%.6fZ");
    let answer = wait_for("an exact answer", 10, || {
        let answer = server.json(&format!("/api/v1/top?by=dst_ip&from={start}&to={end}"));
        (answer["completeness"]["exact"] == true).then_some(answer)
    });
    assert_eq!(answer["totals"]["flows"], 9_000);
    let hour = server.json("/api/v1/top?last=1h");
    assert!(hour["completeness"]["stale_since"].is_string());
    assert_eq!(hour["completeness"]["lost"][0]["cause"], "not_recorded");
    assert_eq!(answer["rows"].as_array().unwrap().len(), 10);
}

#[test]
fn the_totals_are_those_that_were_sent_and_the_top_hosts_too() {
    let server = TestServer::start();
    let sent = traffic::send(server.collector(), "ipfix", 20_000, 20_000, 4);
    server.wait_for_flows(20_000);
    let answer = server.json("/api/v1/top?by=dst_ip&last=1h");
    for name in ["bytes", "packets", "flows"] {
        assert_eq!(answer["totals"][name], sent[name], "{name}");
    }
}

#[test]
fn every_format_over_every_transport_gives_the_totals_that_simulate_tells() {
    let certificates = Certificates::new();
    certificates.authority("ca");
    certificates.issue("ca", "server");
    certificates.issue("ca", "exporter");
    let path = |name| certificates.path(name).display().to_string();
    let (ca, certificate, key) = (path("ca.pem"), path("exporter.pem"), path("exporter.key"));
    let server = TestServer::with(&[
        ("COLLECTOR__LISTEN", "udp://127.0.0.1:0,tcp://127.0.0.1:0,tls://127.0.0.1:0"),
        ("COLLECTOR__TLS__CERTIFICATE", &path("server.pem")),
        ("COLLECTOR__TLS__KEY", &path("server.key")),
        ("COLLECTOR__TLS__CLIENT_CA", &ca),
    ]);
    let to = |scheme: &str| format!("{scheme}://{}", server.listener(scheme));
    let (udp, tcp, tls) = (to("udp"), to("tcp"), to("tls"));
    let own = ["--to", &tls, "--ca", &ca, "--certificate", &certificate, "--key", &key];
    let ways: [&[&str]; 8] = [
        &["--to", &udp, "--protocol", "v1"],
        &["--to", &udp, "--protocol", "v5"],
        &["--to", &udp, "--protocol", "v7"],
        &["--to", &udp, "--protocol", "v9"],
        &["--to", &udp, "--protocol", "ipfix"],
        &["--to", &udp, "--protocol", "sflow", "--sampling", "200"],
        &["--to", &tcp],
        &own,
    ];
    let count = |counts: &serde_json::Value, name: &str| counts[name].as_u64().unwrap();
    let (mut flows, mut raw, mut scaled) = (0, [0; 2], [0; 2]);
    for (seed, way) in ways.into_iter().enumerate() {
        let seed = seed.to_string();
        let general = ["--count", "1001", "--exporters", "2", "--rate", "20000", "--seed", &seed];
        let sent = traffic::simulate(&[way, &general].concat()).unwrap();
        assert_eq!((count(&sent, "flows"), count(&sent, "refused_datagrams")), (1_001, 0), "{way:?}");
        flows += 1_001;
        for (index, name) in ["bytes", "packets"].into_iter().enumerate() {
            raw[index] += count(&sent, name);
            let sampled = sent.get(format!("scaled_{name}")).and_then(serde_json::Value::as_u64);
            assert_eq!(sampled, way.contains(&"sflow").then(|| count(&sent, name) * 200));
            scaled[index] += sampled.unwrap_or(count(&sent, name));
        }
        server.wait_for_flows(flows);
        for (counters, sums) in [("raw", raw), ("scaled", scaled)] {
            let answer = server.json(&format!("/api/v1/top?by=dst_ip&last=1h&counters={counters}"));
            assert_eq!([count(&answer["totals"], "bytes"), count(&answer["totals"], "packets")], sums, "{way:?}");
        }
    }
    let exporters = server.json("/api/v1/exporters");
    let known = exporters["exporters"].as_array().unwrap();
    assert_eq!(known.len(), 2);
    let none = serde_json::json!({});
    for exporter in known {
        assert_eq!(exporter["versions"], serde_json::json!([1, 5, 7, 9, 10, 105]));
        for what in ["lost_by_unit", "dropped", "rejected"] {
            assert_eq!(exporter[what], none, "{exporters:#}");
        }
    }
    assert_eq!(exporters["unattributed"], serde_json::json!({"dropped": none, "rejected": none}));
    // Refusals end with a word about what to do.
    for (arguments, told) in [
        (&own[..4], "If the collector wants certificates of exporters, give --certificate and --key."),
        (&["--to", &tls, "--ca", &certificate], "cannot connect to tls://"),
        (&["--to", &tcp, "--protocol", "v9"], "Send --protocol ipfix there"),
    ] {
        let error = traffic::simulate(&[arguments, &["--count", "100"]].concat()).unwrap_err();
        assert!(error.contains(told), "{error}");
    }
    assert_eq!(server.stored_flows(), flows);
}

#[test]
fn what_cannot_be_read_is_counted_by_reason_and_costs_nothing_else() {
    let server = TestServer::start();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let junk: [&[u8]; 4] = [b"", b"\x00", &[0, 99, 0, 0, 0, 0, 0, 0], &[0, 5, 0, 31, 0, 0]];
    for datagram in junk {
        socket.send_to(datagram, server.collector()).unwrap();
    }
    traffic::send(server.collector(), "v9", 1_000, 0, 5);
    server.wait_for_flows(1_000);
    let received = wait_for("all datagrams to be read", 10, || {
        let received = server.metric("ingest_datagrams_total");
        (received == server.metric("collector_datagrams_total")).then_some(received)
    });
    assert_eq!(server.metric("ingest_datagrams_decoded_total") + 4, received);
    let (_, _, metrics) = server.fetch("/metrics");
    let rejected: u64 = metrics
        .lines()
        .filter(|line| line.starts_with("flowledger_ingest_rejected_total{") && line.contains("unit=\"datagrams\""))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(rejected, 4, "{metrics}");
}

#[test]
fn a_restart_keeps_templates_and_stored_flows() {
    let mut server = TestServer::start();
    let exporter = UdpSocket::bind("127.0.0.1:0").unwrap();
    let plan = Plan {
        protocol: Protocol::V9,
        seed: 9,
        hosts: 100,
        exporters: 1,
        count: Some(200),
        template_every: 0,
        sampling_interval: 1,
    };
    let mut stream = Stream::new(plan);
    let mut send = |server: &TestServer| {
        let datagram = stream.next(SystemClock.now()).unwrap();
        exporter.send_to(datagram.bytes, server.collector()).unwrap();
        datagram.flows as u64
    };
    assert_eq!(send(&server), 0, "the first datagram holds the template and no flow");
    let first = send(&server);
    server.wait_for_flows(first);
    server.terminate();
    server.launch();
    assert_eq!(server.stored_flows(), first);
    // The template is not sent again.
    let more = send(&server) + send(&server);
    server.wait_for_flows(first + more);
    assert_eq!(server.json("/api/v1/exporters")["exporters"][0]["lost"]["count"], 0);
}

#[test]
fn pieces_without_flows_do_not_hold_up_those_with_flows() {
    let server = TestServer::with(&[("INGEST__COMMIT_INTERVAL_MS", "20")]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 1..=12 {
        socket.send_to(b"junk", server.collector()).unwrap();
        wait_for("the junk to be counted in a transaction of its own", 10, || {
            (server.metric("ingest_commits_total") >= number).then_some(())
        });
    }
    traffic::send(server.collector(), "v5", 300, 0, 1);
    server.wait_for_flows(300);
}

#[test]
fn stopping_while_the_database_refuses_ends_and_loses_nothing() {
    let mut server = TestServer::with(&[("INGEST__COMMIT_INTERVAL_MS", "20"), ("INGEST__STOP_SECONDS", "2")]);
    let database = server.database.as_ref().unwrap();
    database.query("ALTER TABLE flow_segments_open RENAME TO flow_segments_away");
    // Long enough that every stage has all it can hold and waits for the next.
    let sent = traffic::send(server.collector(), "v9", 40_000, 20_000, 6)["flows"].as_u64().unwrap();
    wait_for("the server to say that it is not ready", 20, || (server.fetch("/readyz").0 == 503).then_some(()));
    server.terminate();
    server.database.as_ref().unwrap().query("ALTER TABLE flow_segments_away RENAME TO flow_segments_open");
    server.launch();
    server.wait_for_flows(sent);
}

#[test]
fn time_in_which_no_collector_ran_is_told_in_the_answer() {
    let mut server = TestServer::start();
    traffic::send(server.collector(), "v9", 100, 0, 7);
    server.wait_for_flows(100);
    server.terminate();
    // As if it had been down for two hours.
    let database = server.database.as_ref().unwrap();
    database.query("UPDATE journal_positions SET complete_until = complete_until - interval '2 hours'");
    server.launch();
    let seconds = wait_for("the downtime to be told", 10, || {
        let answer = server.json("/api/v1/top?last=24h");
        let lost = answer["completeness"]["lost"].as_array().unwrap().clone();
        lost.iter().find(|row| row["cause"] == "collector_down").map(|row| row["count"].as_i64().unwrap())
    });
    assert!((7_190..7_300).contains(&seconds), "{seconds} s");
}

#[test]
fn a_report_of_this_week_has_the_rows_of_the_answer() {
    use chrono::Datelike;
    let server = TestServer::start();
    traffic::send(server.collector(), "v9", 5_000, 0, 8);
    server.wait_for_flows(5_000);
    let week = chrono::Utc::now().iso_week();
    let week = format!("{}-W{:02}", week.year(), week.week());
    let output = server.command(&["report", "run", "weekly-top-downloaders", "--week", &week]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = String::from_utf8(output.stdout).unwrap();
    let report = std::fs::read_to_string(server.folder().join(path.trim())).unwrap();
    // The default report tells of all private networks; the simulated local hosts live in one of them.
    let (_, _, answer) =
        server.fetch(&format!("/api/v1/top?format=csv&limit=100&week={week}&filter=dst%20net%20192.168.0.0/16"));
    let without_share =
        |csv: &str| -> Vec<String> { csv.lines().map(|line| line.rsplit_once(',').unwrap().0.to_owned()).collect() };
    assert_eq!(without_share(&report).len(), 101);
    assert_eq!(without_share(&report), without_share(&answer));
    let manifest = path.trim().replace(".csv", ".json");
    let manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(server.folder().join(manifest)).unwrap()).unwrap();
    assert_eq!(manifest["rows"], 100);
}
