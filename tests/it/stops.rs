//! Stopping in order: sockets, journal, ingest, API, PostgreSQL. What came before a socket closed is stored, and the exporter
//! learns that it closed.

use crate::kills::{rounds, stored};
use crate::support::faults::Exporters;
use crate::support::server::TestServer;
use crate::support::wait_for;
use flowledger::cli::simulate::{Plan, Protocol, Stream};
use flowledger::clock::{Clock, SystemClock};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
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
        let lost = database.query("SELECT coalesce(sum(count), 0)::text FROM loss WHERE cause = 'kernel'");
        let lost: u64 = lost[0][0].as_deref().unwrap().parse().unwrap();
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

/// How the cluster was left, by its own word.
fn state(cluster: &Path) -> String {
    let version = std::fs::read_to_string(cluster.join("PG_VERSION")).unwrap();
    let program = format!("/usr/lib/postgresql/{}/bin/pg_controldata", version.trim());
    let output = std::process::Command::new(program).arg(cluster).env("LC_ALL", "C").output().unwrap();
    let told = String::from_utf8(output.stdout).unwrap();
    let line = told.lines().find(|line| line.starts_with("Database cluster state:")).unwrap();
    line.rsplit_once(':').unwrap().1.trim().to_owned()
}
