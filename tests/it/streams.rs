//! IPFIX over TCP and TLS from the connection to the answer, across restarts and `kill -9`; and who may send at all.

use crate::kills::{Keeper, journalled, rounds, stored};
use crate::support::certificates::{Certificates, client};
use crate::support::server::TestServer;
use crate::support::{pcap, wait_for};
use flowledger::cli::simulate::{Plan, Protocol, Stream};
use flowledger::clock::{Clock, HOUR, SystemClock};
use flowledger::journal::{self, Datagram, Record, StreamEvent, Transport};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// An exporter that sends its template once.
fn exporter(protocol: Protocol, count: u64, seed: u64) -> Stream {
    Stream::new(Plan {
        protocol,
        seed,
        hosts: 100,
        exporters: 1,
        count: Some(count),
        template_every: 0,
        sampling_interval: 1,
    })
}

/// Its messages, the template's first.
fn messages(stream: &mut Stream) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| stream.next(SystemClock.now()).map(|datagram| datagram.bytes.to_vec())).collect()
}

fn dial(to: SocketAddr, own: Shown<'_>) -> io::Result<Box<dyn Connection>> {
    let socket = TcpStream::connect(to)?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let Some((certificates, name)) = own else { return Ok(Box::new(socket)) };
    let config = client(certificates, &certificates.path("ca.pem"), name, &rustls::version::TLS13);
    let connection = rustls::ClientConnection::new(Arc::new(config), to.ip().into()).unwrap();
    Ok(Box::new(rustls::StreamOwned::new(connection, socket)))
}

/// Whose certificate to show in TLS, if TLS is spoken at all.
type Shown<'a> = Option<(&'a Certificates, Option<&'a str>)>;

trait Connection: Read + Write {}
impl<T: Read + Write> Connection for T {}

fn totals(server: &TestServer) -> Value {
    server.json("/api/v1/top?by=dst_ip&last=1h")["totals"].clone()
}

#[test]
fn flows_over_tcp_and_tls_are_in_the_answer_and_strangers_are_not() {
    let certificates = Certificates::new();
    certificates.authority("ca");
    certificates.authority("other");
    for (authority, name) in [("ca", "server"), ("ca", "exporter"), ("other", "stranger")] {
        certificates.issue(authority, name);
    }
    let path = |name| certificates.path(name).display().to_string();
    let server = TestServer::with(&[
        ("COLLECTOR__LISTEN", "udp://127.0.0.1:0,tcp://127.0.0.1:0,tls://127.0.0.1:0"),
        ("COLLECTOR__TLS__CERTIFICATE", &path("server.pem")),
        ("COLLECTOR__TLS__KEY", &path("server.key")),
        ("COLLECTOR__TLS__CLIENT_CA", &path("ca.pem")),
    ]);
    let mut sent = [0, 0, 0];
    let mut open = Vec::new();
    for (scheme, own, seed) in [("tcp", None, 1), ("tls", Some((&certificates, Some("exporter"))), 2)] {
        let mut stream = exporter(Protocol::Ipfix, 3_000, seed);
        let mut connection = dial(server.listener(scheme), own).unwrap();
        connection.write_all(&messages(&mut stream).concat()).unwrap();
        connection.flush().unwrap();
        let totals = stream.totals();
        for (sum, more) in sent.iter_mut().zip([totals.bytes, totals.packets, totals.flows]) {
            *sum += more;
        }
        server.wait_for_flows(sent[2]);
        open.push(connection);
    }
    for stranger in [None, Some("stranger")] {
        let mut connection = dial(server.listener("tls"), Some((&certificates, stranger))).unwrap();
        let refused = connection
            .write_all(&messages(&mut exporter(Protocol::Ipfix, 30, 3)).concat())
            .and_then(|()| connection.flush())
            .and_then(|()| connection.read_to_end(&mut Vec::new()));
        assert!(refused.is_err(), "{stranger:?}");
    }
    let mut wrong = dial(server.listener("tcp"), None).unwrap();
    wrong.write_all(&messages(&mut exporter(Protocol::V9, 30, 4)).concat()).unwrap();
    let _ = wrong.read_to_end(&mut Vec::new());
    assert_eq!(server.metric("collector_connections"), 2);
    assert_eq!(server.metric("collector_connections_closed_total reason=\"handshake\""), 2);
    assert_eq!(server.metric("collector_connections_closed_total reason=\"not_ipfix\""), 1);
    assert_eq!(server.metric("collector_datagrams_total"), server.metric("ingest_datagrams_total"));
    let answer = totals(&server);
    for (name, sum) in ["bytes", "packets", "flows"].into_iter().zip(sent) {
        assert_eq!(answer[name], sum, "{name}");
    }
    let exporters = server.json("/api/v1/exporters");
    let known = exporters["exporters"].as_array().unwrap();
    assert_eq!(
        (known.len(), &known[0]["versions"], &known[0]["lost"]["count"]),
        (1, &Value::from(vec![10]), &0.into())
    );
}

#[test]
fn softflowd_over_tcp_gives_what_it_gives_over_udp() {
    let server = TestServer::with(&[("COLLECTOR__LISTEN", "udp://127.0.0.1:0,tcp://127.0.0.1:0")]);
    let capture = server.folder().join("own.pcap");
    pcap::write(&capture, 1_600, 3);
    let replay = |transport: &str| {
        let status = Command::new("softflowd")
            .args(["-r", capture.to_str().unwrap(), "-n", &server.listener(transport).to_string()])
            .args(["-v", "10", "-P", transport, "-a", "-d", "-c", "none"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("softflowd is needed: apt-get install softflowd");
        assert!(status.success(), "softflowd ended with {status}");
    };
    let once = |count: &Value| (count["bytes"].as_u64().unwrap(), count["packets"].as_u64().unwrap());
    replay("tcp");
    wait_for("the connection's end", 20, || {
        (server.metric("collector_connections_closed_total reason=\"peer\"") == 1).then_some(())
    });
    let messages = server.metric("collector_datagrams_total listener=\"tcp");
    wait_for("all messages to be decoded", 20, || (server.metric("ingest_datagrams_total") == messages).then_some(()));
    let flows = server.metric("ingest_flows_decoded_total");
    server.wait_for_flows(flows);
    let by_tcp = totals(&server);
    replay("udp");
    server.wait_for_flows(2 * flows);
    let both = totals(&server);
    assert_eq!(once(&both), (2 * once(&by_tcp).0, 2 * once(&by_tcp).1));
    assert_eq!(server.metric("collector_truncated_messages_total"), 0);
    let (_, _, metrics) = server.fetch("/metrics");
    assert!(!metrics.contains("ingest_rejected_total{"), "{metrics}");
}

/// A connection from a port that is to be had again.
fn connect_from(port: u16, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

#[test]
fn what_a_stream_told_lasts_as_long_as_its_messages_and_no_longer() {
    let mut server = TestServer::with(&[("COLLECTOR__LISTEN", "udp://127.0.0.1:0,tcp://127.0.0.1:0")]);
    let states = |server: &TestServer| {
        let rows = server.database.as_ref().unwrap().query("SELECT count(*) FROM decoder_state WHERE transport = 1");
        rows[0][0].as_deref().unwrap().parse::<u64>().unwrap()
    };
    let mut first = exporter(Protocol::Ipfix, 200, 1);
    let all = messages(&mut first);
    let (learned, later) = all.split_at(3);
    let mut connection = connect_from(0, server.listener("tcp"));
    let port = connection.local_addr().unwrap().port();
    connection.write_all(&learned.concat()).unwrap();
    let flows = wait_for("the first flows", 20, || Some(server.stored_flows()).filter(|&flows| flows > 0));
    // Another one that will not be seen again.
    let mut gone = connect_from(0, server.listener("tcp"));
    gone.write_all(&learned[0]).unwrap();
    wait_for("both to be known", 20, || (states(&server) == 2).then_some(()));
    // What is journalled and not stored when the server dies needs the template that is stored.
    connection.write_all(&later.concat()).unwrap();
    wait_for("the rest to be journalled", 20, || {
        (server.metric("collector_datagrams_total") == all.len() as u64 + 1).then_some(())
    });
    server.kill();
    server.launch();
    server.wait_for_flows(200);
    assert!(flows < 200);
    drop(connection);
    // The same port, as if nothing had happened: but no template.
    let mut second = connect_from(port, server.listener("tcp"));
    second.write_all(&later[0]).unwrap();
    wait_for("the refusal", 20, || {
        let (_, _, text) = server.fetch("/metrics");
        text.contains("ingest_rejected_total{reason=\"no_template\",unit=\"sets\"} 1").then_some(())
    });
    // Its own template makes it whole.
    second.write_all(&all.concat()).unwrap();
    server.wait_for_flows(400);
    drop(second);
    wait_for("no state of a stream to be left", 20, || (states(&server) == 0).then_some(()));
    server.terminate();
}

#[test]
fn an_element_without_a_field_is_told_however_short_its_stream_was() {
    let server = TestServer::with(&[("COLLECTOR__LISTEN", "tcp://127.0.0.1:0")]);
    // Template 300 of octets and an element that nobody has assigned, then a record of it.
    let template: Vec<u8> = [2, 16, 300, 2, 1, 4, 20_000, 4].iter().flat_map(|word: &u16| word.to_be_bytes()).collect();
    let data = [[1, 44, 0, 12], [0, 0, 5, 220], [0, 0, 0, 1]].concat();
    let seconds = (SystemClock.now().micros() / 1_000_000) as u32;
    let header = [[0, 10, 0, 44], seconds.to_be_bytes(), [0; 4], [0, 0, 0, 1]].concat();
    TcpStream::connect(server.listener("tcp")).unwrap().write_all(&[header, template, data].concat()).unwrap();
    server.wait_for_flows(1);
    let told = "SELECT enterprise, element, records FROM unknown_elements";
    let rows = server.database.as_ref().unwrap().query(told);
    assert_eq!(rows, [["0", "20000", "1"].map(|text| Some(text.to_owned()))]);
}

#[test]
fn killing_the_server_beside_streams_loses_and_doubles_nothing_that_was_journalled() {
    let mut server = TestServer::with(&[
        ("COLLECTOR__LISTEN", "udp://127.0.0.1:0,tcp://127.0.0.1:0"),
        ("INGEST__COMMIT_INTERVAL_MS", "50"),
    ]);
    let keeper = Keeper::start(server.journal(), server.folder().join("kept"));
    let rounds = rounds(10, 400);
    let ended = Arc::new(AtomicBool::new(false));
    let (own_end, to) = (Arc::clone(&ended), server.listener("tcp"));
    // An exporter as they are: connects again whenever it is cut off, and begins with its template.
    let sender = std::thread::spawn(move || {
        let mut connections = 0;
        for seed in 0.. {
            if own_end.load(Ordering::Acquire) {
                return connections;
            }
            let Ok(mut connection) = dial(to, None) else {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            connections += 1;
            let mut stream = exporter(Protocol::Ipfix, 20_000, seed);
            while let Some(message) = stream.next(SystemClock.now()) {
                if own_end.load(Ordering::Acquire) || connection.write_all(message.bytes).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_micros(300));
            }
        }
        connections
    });
    let mut random = fastrand::Rng::with_seed(13);
    for _ in 0..rounds {
        std::thread::sleep(Duration::from_millis(random.u64(0..400)));
        server.kill();
        server.launch();
    }
    ended.store(true, Ordering::Release);
    let connections = sender.join().unwrap();
    server.terminate();
    let kept = keeper.end();
    let (journalled, stored) = (journalled(&kept), stored(&server.database.as_ref().unwrap().url()));
    assert!(connections >= rounds, "{connections} connections");
    // What the kernel had taken in for streams that were cut is nobody's: that is told, and no more often than it happened.
    let cut = server.lost("stream_cut");
    assert!((1..=connections).contains(&cut), "{cut} of {connections} connections");
    assert!(journalled.flows > rounds * 100, "too little came through to prove anything: {journalled:?}");
    assert_eq!(stored, journalled);
}

#[test]
fn a_stream_that_ended_with_the_server_is_told_although_nothing_ever_follows() {
    let mut server = TestServer::with(&[("COLLECTOR__LISTEN", "tcp://127.0.0.1:0")]);
    for cut in 1..=2 {
        let mut connection = dial(server.listener("tcp"), None).unwrap();
        connection.write_all(&messages(&mut exporter(Protocol::Ipfix, 30, cut)).concat()).unwrap();
        wait_for("its flows", 20, || (server.metric("ingest_flows_stored_total") > 0).then_some(()));
        // Killed, then stopped in order: nobody knows in either case what the exporter had sent by then.
        if cut == 1 {
            server.kill();
        } else {
            server.terminate();
        }
        server.launch();
        wait_for("the stream to be told", 20, || (server.lost("stream_cut") == cut).then_some(()));
        // The position has moved although the journal has not.
        let output = server.command(&["doctor"]);
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(told.contains("OK          journal"), "{told}");
    }
}

#[test]
fn what_an_exporter_had_to_say_between_a_cut_and_its_next_stream_is_told_in_every_hour() {
    // With and without a restart between the two.
    for restarts in [false, true] {
        let mut server = TestServer::with(&[("COLLECTOR__LISTEN", "tcp://127.0.0.1:0")]);
        server.terminate();
        let first = SystemClock.now().hour().plus(-6 * HOUR);
        let source = "192.0.2.1:4739".parse().unwrap();
        let payloads = messages(&mut exporter(Protocol::Ipfix, 30, 1));
        let append = |server: &TestServer, said: &[(i64, StreamEvent)]| {
            let settings = journal::Settings { directory: server.journal(), ..journal::Settings::default() };
            let (writer, _reader) = journal::open(settings).unwrap();
            for (hour, event) in said {
                let (received, event) = (first.plus(hour * HOUR), *event);
                let boundary = journal::Stream { received, source, listener: 0, event };
                writer.append(&[Record::Stream(boundary)]).unwrap();
                for payload in payloads.iter().filter(|_| event == StreamEvent::Opened) {
                    let datagram = Datagram { received, source, listener: 0, transport: Transport::Stream, payload };
                    writer.append(&[Record::Datagram(datagram)]).unwrap();
                }
            }
        };
        append(&server, &[(0, StreamEvent::Opened), (0, StreamEvent::Cut)]);
        if restarts {
            server.launch();
            server.wait_for_flows(30);
            server.terminate();
        }
        // It is closed in order then, and opened once more.
        let (opened, closed) = (StreamEvent::Opened, StreamEvent::Closed);
        append(&server, &[(3, opened), (3, closed), (5, opened), (5, closed)]);
        server.launch();
        server.wait_for_flows(if restarts { 60 } else { 90 });
        let rows = server.database.as_ref().unwrap().query(&format!(
            "SELECT extract(epoch FROM hour - '{first}')::bigint / 3600, cause, count FROM loss WHERE cause LIKE 'stream%' ORDER BY 1"
        ));
        let told: Vec<_> =
            rows.into_iter().map(|row| row.into_iter().flatten().collect::<Vec<_>>().join(" ")).collect();
        let expected = ["0 stream_cut 1", "1 stream_cut_later 1", "2 stream_cut_later 1", "3 stream_cut 1"];
        assert_eq!(told, expected, "{restarts}");
    }
}

#[test]
fn only_who_is_allowed_gets_flows_in_and_a_forgotten_router_is_named() {
    let server = TestServer::with(&[
        ("COLLECTOR__LISTEN", "udp://127.0.0.1:0,tcp://127.0.0.1:0"),
        ("COLLECTOR__ALLOW", "127.0.0.2,192.0.2.0/24"),
    ]);
    for from in ["127.0.0.1", "127.0.0.2"] {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        for message in messages(&mut exporter(Protocol::V9, 300, 1)) {
            socket.send_to(&message, server.collector()).unwrap();
        }
    }
    server.wait_for_flows(300);
    let refused = server.metric("collector_not_allowed_total listener=\"udp");
    assert_eq!(server.metric("collector_datagrams_total"), 2 * refused);
    assert_eq!(server.metric("ingest_datagrams_total"), refused);
    let mut connection = dial(server.listener("tcp"), None).unwrap();
    let _ = connection.write_all(&messages(&mut exporter(Protocol::Ipfix, 30, 2)).concat());
    let _ = connection.read_to_end(&mut Vec::new());
    assert_eq!(server.metric("collector_not_allowed_total listener=\"tcp"), 1);
    let exporters = server.json("/api/v1/exporters");
    let known: Vec<IpAddr> = exporters["exporters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|exporter| exporter["address"].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(known, [IpAddr::from([127, 0, 0, 2])]);
    let log = server.log();
    let told: Vec<_> = log.lines().filter(|line| line.contains("[collector] allow does not name it")).collect();
    assert_eq!((told.len(), told[0].contains("127.0.0.1")), (1, true), "{log}");
}
