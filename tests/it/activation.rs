//! Sockets that outlive the server: what is sent while it is down waits in the kernel and is stored when it is back.

use crate::support::server::TestServer;
use crate::support::wait_for;
use flowledger::cli::simulate::{Plan, Protocol, Stream};
use flowledger::clock::{Clock, SystemClock};
use std::io::Write as _;
use std::net::{TcpListener, TcpStream, UdpSocket};

#[test]
fn what_is_sent_while_the_server_is_down_waits_in_inherited_sockets_and_nothing_is_lost() {
    let (held, listening) = (UdpSocket::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let mut server = TestServer::with_inherited(held, listening, &[("INGEST__COMMIT_INTERVAL_MS", "50")]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagrams = messages(Protocol::V9, 3, 12_000);
    let (address, streams) = (server.collector(), server.listener("tcp"));
    let send = |part: &[Vec<u8>]| part.iter().for_each(|each| assert!(socket.send_to(each, address).is_ok()));
    let (mut waited, mut rounds) = (0, 0);
    let mut connections = Vec::new();
    for part in datagrams.chunks(datagrams.len().div_ceil(3)) {
        let (before, meanwhile) = part.split_at(part.len() / 2);
        send(before);
        // What a process has read and not yet written down dies with it: here it has written down all.
        let sent = (waited + before.len()) as u64;
        wait_for("the journal to hold all", 20, || (server.metric("journal_datagrams_total") == sent).then_some(()));
        server.kill();
        send(meanwhile);
        // Nobody accepts it yet, and the kernel takes what it sends.
        let mut connection = TcpStream::connect(streams).unwrap();
        let stream = messages(Protocol::Ipfix, 4 + rounds, 300);
        connection.write_all(&stream.concat()).unwrap();
        connections.push(connection);
        (waited, rounds) = (meanwhile.len() + stream.len(), rounds + 1);
        server.launch();
    }
    let flows = 12_000 + 300 * rounds;
    server.wait_for_flows(flows);
    let answer = server.json("/api/v1/top?last=1h");
    assert_eq!((rounds, &answer["totals"]["flows"]), (3, &flows.into()));
    // What came before the server first ran was not recorded; nothing else is missing, but of streams that were open at a kill
    // nobody can know.
    let lost = answer["completeness"]["lost"].as_array().unwrap();
    assert!(lost.iter().all(|loss| loss["cause"] == "not_recorded" || loss["cause"] == "stream_cut"), "{lost:?}");
    assert_eq!((server.collector(), server.listener("tcp")), (address, streams));
}

/// What an exporter of so many flows sends.
fn messages(protocol: Protocol, seed: u64, flows: u64) -> Vec<Vec<u8>> {
    let plan =
        Plan { protocol, seed, hosts: 50, exporters: 1, count: Some(flows), template_every: 50, sampling_interval: 1 };
    let mut stream = Stream::new(plan);
    std::iter::from_fn(|| stream.next(SystemClock.now()).map(|message| message.bytes.to_vec())).collect()
}
