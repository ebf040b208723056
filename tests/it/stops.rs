//! Stopping in order: sockets, journal, ingest, API, PostgreSQL. What came before a socket closed is stored, and the exporter
//! learns that it closed.

use crate::kills::{private_url, rounds, stored};
use crate::support::faults::Exporters;
use crate::support::postgres::{Session, query};
use crate::support::server::TestServer;
use crate::support::wait_for;
use flowledger::cli::simulate::{Plan, Protocol, Stream};
use flowledger::clock::{Clock, SystemClock};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

/// Two exporters, each in a thread of its own while it sends NetFlow v5.
struct Senders(Vec<Sender>);

struct Sender {
    stream: Stream,
    socket: UdpSocket,
    /// Flows that the server's socket took.
    taken: u64,
}

impl Sender {
    /// Sends until the socket at `to` is closed.
    fn send(mut self, to: SocketAddr) -> Self {
        self.socket.connect(to).unwrap();
        for sent in 1_u64.. {
            let datagram = self.stream.next(SystemClock.now()).unwrap();
            if self.socket.send(datagram.bytes).is_err() {
                break;
            }
            self.taken += datagram.flows as u64;
            if sent % 8 == 0 {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        // The kernel says it with the datagram after the first one that found the socket closed.
        self.taken -= 30;
        self
    }
}

impl Senders {
    fn new(first: u8) -> Self {
        let sender = |number: u8| {
            let plan = Plan {
                protocol: Protocol::V5,
                seed: number.into(),
                hosts: 50,
                exporters: 1,
                count: None,
                template_every: 0,
                sampling_interval: 1,
            };
            let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, number), 0)).unwrap();
            Sender { stream: Stream::new(plan), socket, taken: 0 }
        };
        Self([first, first + 1].map(sender).into())
    }

    /// Sends to the server, tells it to stop once so many more datagrams have arrived, and sends until its sockets are closed.
    fn send_and_stop(&mut self, server: &TestServer, datagrams: u64) {
        let (to, before) = (server.collector(), server.metric("collector_datagrams_total"));
        let senders = self.0.drain(..).map(|sender| std::thread::spawn(move || sender.send(to))).collect::<Vec<_>>();
        wait_for("datagrams to arrive", 20, || {
            (server.metric("collector_datagrams_total") > before + datagrams).then_some(())
        });
        server.signal("TERM");
        self.0.extend(senders.into_iter().map(|sender| sender.join().unwrap()));
    }

    fn taken(&self) -> u64 {
        self.0.iter().map(|sender| sender.taken).sum()
    }
}

#[test]
fn all_that_came_before_the_socket_closed_is_stored_when_the_server_is_stopped_under_load() {
    let mut server = TestServer::with(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    let mut senders = Senders::new(1);
    for round in 0..rounds(8, 100) {
        senders.send_and_stop(&server, 200 + 10 * round);
        assert!(server.wait().success(), "{}", server.log());
        let database = server.database.as_ref().unwrap();
        let lost = server.lost("kernel");
        // Each datagram has 30 flows. Without the rights to a large receive buffer the kernel drops some, and they are known.
        let known = stored(&database.url()).flows + 30 * lost;
        assert_eq!(known, senders.taken(), "round {round}, {lost} dropped\n{}", server.log());
        server.launch();
    }
}

#[test]
fn what_a_stopped_server_could_not_store_is_stored_after_the_next_start() {
    let mut server = TestServer::with(&[("INGEST__COMMIT_INTERVAL_MS", "50"), ("INGEST__STOP_SECONDS", "1")]);
    let mut exporters = Exporters::new(1, 2, server.collector());
    let mut senders = Senders::new(3);
    exporters.send(100);
    server.wait_for_flows(exporters.flows);
    server.database.as_ref().unwrap().close();
    senders.send_and_stop(&server, 500);
    // The sockets are closed, and the API still answers.
    assert_eq!(server.fetch("/healthz").0, 200);
    assert!(server.wait().success(), "{}", server.log());
    let flows = exporters.flows + senders.taken();
    server.database.as_ref().unwrap().open();
    server.launch();
    server.wait_for_flows(flows);
}

#[test]
fn a_postgresql_of_our_own_ends_last_and_in_order() {
    let mut server = TestServer::with_private_postgres(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    let mut senders = Senders::new(1);
    senders.send_and_stop(&server, 1_000);
    assert!(server.wait().success(), "{}", server.log());
    let cluster = server.folder().join("data/postgres/data");
    assert!(!cluster.join("postmaster.pid").exists());
    assert_eq!(state(&cluster), "shut down");
    server.launch();
    server.wait_for_flows(senders.taken());
}

#[test]
fn a_request_that_waits_is_answered_whole_after_the_sockets_are_closed_and_all_is_stored_and_before_postgresql_ends() {
    let mut server = TestServer::with_private_postgres(&[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    let mut exporters = Exporters::new(1, 2, server.collector());
    exporters.send(100);
    server.wait_for_flows(exporters.flows);
    let (answered, url) = (exporters.flows, private_url(&server));
    // Answers tell what was lost; storing flows asks nothing of that table while nothing is lost.
    let mut other = Session::open(&url);
    other.run("BEGIN");
    other.run("LOCK TABLE loss IN ACCESS EXCLUSIVE MODE");
    let mut request = TcpStream::connect(server.url("").strip_prefix("http://").unwrap()).unwrap();
    let path = "/api/v1/top?by=dst_ip&limit=1000&last=24h";
    write!(request, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let waits = "SELECT count(*)::text FROM pg_locks WHERE NOT granted AND relation = 'loss'::regclass";
    wait_for("the request to wait", 20, || (query(&url, waits)[0][0].as_deref() == Some("1")).then_some(()));
    exporters.send(100);
    server.signal("TERM");

    // First the sockets close.
    wait_for("the sockets to be closed", 20, || UdpSocket::bind(server.collector()).ok().map(drop));
    // Then all is stored, while the request still waits and our PostgreSQL works.
    wait_for("all to be stored", 20, || (stored(&url).flows == exporters.flows).then_some(()));
    request.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let early = request.read(&mut [0; 1]).map_err(|error| error.kind());
    assert_eq!(early, Err(std::io::ErrorKind::WouldBlock), "{}", server.log());
    assert!(!server.has_ended(), "{}", server.log());

    other.run("ROLLBACK");
    drop(other);
    request.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut answer = String::new();
    request.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    assert_eq!(length, Some(body.len()), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert!(body["totals"]["flows"].as_u64().unwrap() >= answered, "{body}");
    assert!(server.wait().success(), "{}", server.log());
    let cluster = server.folder().join("data/postgres/data");
    assert_eq!((cluster.join("postmaster.pid").exists(), state(&cluster).as_str()), (false, "shut down"));
}

/// How the cluster was left, by its own word.
fn state(cluster: &Path) -> String {
    let version = std::fs::read_to_string(cluster.join("PG_VERSION")).unwrap();
    let program = format!("/usr/lib/postgresql/{}/bin/pg_controldata", version.trim());
    let output = std::process::Command::new(program).arg(cluster).env("LC_ALL", "C").output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let line = told.lines().find(|line| line.starts_with("Database cluster state:")).unwrap();
    line.rsplit_once(':').unwrap().1.trim().to_owned()
}
