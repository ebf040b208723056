//! Exporters that lie about texts and times, and strangers by the hundred thousand, against a whole server: what comes out at
//! the other end, in JSON, SQL, CSV, metrics and log.

use crate::support::messages::{message, numbers, set, template, words};
use crate::support::server::TestServer;
use crate::support::wait_for;
use std::net::{Ipv4Addr, UdpSocket};

/// Texts as somebody might type or send them, each with what becomes of it.
const TEXTS: [(&[u8], &str); 8] = [
    (b"=HYPERLINK(\"http://x\",\"y\")", "=HYPERLINK(\"http://x\",\"y\")"),
    (b"\\.", "\\."),
    (b"\x1b[31mred", "\u{fffd}[31mred"),
    (b"'; DROP TABLE interfaces; --", "'; DROP TABLE interfaces; --"),
    (b"<script>alert(1)</script>", "<script>alert(1)</script>"),
    (b"@a\r\nb", "@a\u{fffd}\u{fffd}b"),
    (b"caf\xe9 \xf0\x9f\x98", "caf\u{fffd} \u{fffd}"),
    (b"a\0b", "a"),
];

/// `bytes` as a field of this width, filled with zeros.
fn filled(bytes: &[u8], width: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(width, 0);
    bytes
}

#[test]
fn texts_of_any_bytes_are_stored_clean_and_hold_up_no_flow() {
    const WIDTH: u16 = 40;
    let server = TestServer::with(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    // Every byte, then the texts: as name and description of an interface and an application, and as name of a VRF.
    let any = (0..=u8::MAX).map(|byte| vec![b'=', byte, b'b']);
    let texts: Vec<_> = any.chain(TEXTS.iter().map(|(sent, _)| sent.to_vec())).collect();
    let fields = [149, 10, 82, 83, 95, 96, 94, 234, 236].map(|id| match id {
        82 | 83 | 94 | 96 | 236 => (id, WIDTH),
        _ => (id, 4),
    });
    let records = texts.iter().zip(1_000u32..).flat_map(|(text, id)| {
        let (text, id) = (filled(text, WIDTH.into()), id.to_be_bytes());
        [&[0, 0, 0, 7], &id[..], &text, &text, &id, &text, &text, &id, &text].concat()
    });
    let records: Vec<u8> = records.collect();
    assert_eq!(records.len(), texts.len() * 216);
    let flows = [template(2, 256, &[(8, 4), (1, 4)]), set(256, &words(&[0x0a00_0001, 77, 0x0a00_0002, 78]))];
    let sets = [template(3, 300, &fields), set(300, &records), flows.concat()].concat();
    let datagram = message(10, 0, 0, &sets);
    assert!(datagram.len() < 65_507);
    socket.send_to(&datagram, server.collector()).unwrap();
    server.wait_for_flows(2);

    let exporter = server.json("/api/v1/exporters/1");
    let expected = |at: usize| match at {
        0 => "=".to_owned(),
        1..32 | 127..256 => "=\u{fffd}b".to_owned(),
        32..127 => format!("={}b", at as u8 as char),
        _ => TEXTS[at - 256].1.to_owned(),
    };
    for (list, id, texts_of) in [
        ("interfaces", "interface", &["name", "description"][..]),
        ("applications", "application_id", &["name", "description"]),
        ("vrfs", "vrf", &["name"]),
    ] {
        let rows = exporter[list].as_array().unwrap();
        assert_eq!(rows.len(), texts.len(), "{list}");
        for row in rows {
            let at = row[id].as_u64().unwrap() as usize - 1_000;
            for of in texts_of {
                assert_eq!(row[of], expected(at), "{of} of {list}, text {at}");
            }
        }
    }
    let fixed = (1..=u8::MAX).filter(|byte| !(32..127).contains(byte)).count() + 3;
    assert_eq!(server.metric("ingest_noticed_total reason=\"text_fixed\""), 5 * fixed as u64);
    for (table, column) in [("interfaces", "name"), ("applications", "description"), ("vrfs", "name")] {
        let count = format!("SELECT count(*) FILTER (WHERE {column} ~ '[[:cntrl:]]'), count(*) FROM {table}");
        let rows = server.database.as_ref().unwrap().query(&count);
        assert_eq!(rows, [[Some("0".to_owned()), Some(texts.len().to_string())]]);
    }
    // Answers and reports hold no texts, only numbers, times and addresses; and no text reaches the log or the metrics.
    let csv = server.fetch("/api/v1/top?by=exporter_id,src_ip&last=1h&format=csv").2;
    let cells = csv.lines().skip(1).flat_map(|line| line.split(',').skip(1));
    assert!(cells.into_iter().all(|cell| !cell.starts_with(['=', '+', '-', '@', '\t', '\r', '"'])), "{csv}");
    assert_eq!(csv.lines().count(), 3, "{csv}");
    let metrics = server.fetch("/metrics").2;
    for output in [server.log(), metrics, csv] {
        assert!(!output.contains("HYPERLINK") && !output.contains('\u{1b}'), "{output}");
    }
}

#[test]
fn headers_from_1970_to_2106_make_no_partition_and_their_flows_are_found_now() {
    let server = TestServer::with(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    let database = server.database.as_ref().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for (number, seconds) in (0u32..).zip([0, 1 << 31, u32::MAX]) {
        let mut record = vec![0; 48];
        // Uptimes of the first and the last packet, around that of the header.
        record[24..32].copy_from_slice(&words(&[90_000, 95_000]));
        let head = [numbers(&[5, 1]), words(&[100_000, seconds, 0, number, 0])].concat();
        socket.send_to(&[head, record].concat(), server.collector()).unwrap();
    }
    server.wait_for_flows(3);
    assert_eq!(server.json("/api/v1/top?last=1h")["totals"]["flows"], 3);
    let partitions = "SELECT count(*) > 1, bool_and(to_date(right(relname, 10), 'YYYY_MM_DD') BETWEEN current_date - 2 \
                      AND current_date + 9) FROM pg_class WHERE relispartition AND relkind = 'r' \
                      AND relname ~ '^(flows|flow_segments)_p'";
    assert_eq!(database.query(partitions), [[Some("t".to_owned()), Some("t".to_owned())]]);
    let rows = "SELECT count(*), count(*) FILTER (WHERE first_seen = received AND last_seen = received) FROM flows";
    assert_eq!(database.query(rows), [[Some("3".to_owned()), Some("3".to_owned())]]);
    assert_eq!(server.metric("ingest_noticed_total reason=\"time_fixed\""), 3);
    let offset = server.json("/api/v1/exporters/1")["clock_offset_ms"]["netflow_v5"].as_i64().unwrap();
    assert!(offset > 70 * 365 * 86_400_000, "{offset} ms");
}

/// Sends a good datagram from each of so many addresses of 127.16.0.0/12.
fn flood(server: &TestServer, sources: u32) {
    let sets = [template(0, 256, &[(8, 4), (1, 4)]), set(256, &words(&[0x0a00_0001, 77]))].concat();
    let datagram = message(9, 0, 100_000, &sets);
    for number in 0..sources {
        let source = Ipv4Addr::from(0x7f10_0001 + number);
        UdpSocket::bind((source, 0)).unwrap().send_to(&datagram, server.collector()).unwrap();
    }
}

#[test]
fn a_hundred_thousand_strangers_fill_neither_metrics_nor_catalogue_nor_log() {
    const STRANGERS: u32 = 100_000;
    const EXPORTERS: u64 = 40;
    for allow in ["127.0.0.2", ""] {
        let server =
            TestServer::with(&[("COLLECTOR__ALLOW", allow), ("INGEST__MAX_EXPORTERS", &EXPORTERS.to_string())]);
        flood(&server, STRANGERS);
        let all = u64::from(STRANGERS);
        wait_for("all datagrams to be counted", 60, || {
            let [received, dropped] =
                ["datagrams", "kernel_drops"].map(|name| server.metric(&format!("collector_{name}_total")));
            (received + dropped == all).then_some(())
        });
        let received = server.metric("collector_datagrams_total");
        let refused = server.metric("collector_not_allowed_total");
        assert!(received > 0);
        let entered = if allow.is_empty() { EXPORTERS } else { 0 };
        assert_eq!(refused, if allow.is_empty() { 0 } else { received });
        if allow.is_empty() {
            let beyond = "ingest_rejected_total reason=\"exporter_limit\"";
            wait_for("all datagrams to be read", 60, || {
                (server.metric("ingest_datagrams_total") == received).then_some(())
            });
            assert_eq!(server.metric(beyond), received - entered);
            assert_eq!(server.metric("ingest_datagrams_decoded_total"), entered);
            server.wait_for_flows(entered);
            wait_for("what was refused to be stored", 10, || {
                let list = server.json("/api/v1/exporters");
                (list["unattributed"]["rejected"]["exporter_limit"] == received - entered).then_some(())
            });
        }
        let (_, _, metrics) = server.fetch("/metrics");
        assert!(metrics.len() < 1 << 20 && !metrics.contains("127.16."), "{} bytes of metrics", metrics.len());
        let exporters = server.json("/api/v1/exporters");
        assert_eq!(exporters["exporters"].as_array().unwrap().len() as u64, entered);
        let told = server.log().lines().count() as u64;
        assert!(told < 60 + entered, "{told} lines of log");
    }
}
