//! On loopback: what was sent is in the journal, byte for byte, or counted.

#[path = "../../tests/it/support/certificates.rs"]
mod certificates;
mod encrypted;
mod streams;

use super::*;
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::journal::{self, Chunk, DropCause, Reader, Record};
use crate::metrics::Registry;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use tempfile::TempDir;

struct Rig {
    _directory: TempDir,
    reader: Reader,
    endpoints: Vec<Endpoint>,
    addresses: Vec<SocketAddr>,
    metrics: Metrics,
    journal: journal::Metrics,
    running: Option<Running>,
}

#[derive(Default)]
struct Seen {
    datagrams: Vec<(Timestamp, SocketAddr, u16, Vec<u8>)>,
    kernel_drops: u64,
}

impl Rig {
    fn new(listen: &[&str], receive_buffer_bytes: usize) -> Self {
        let listen = listen.iter().map(|&each| each.into()).collect();
        let settings = Settings { listen, receive_buffer_bytes, ..Settings::default() };
        Self::with(&settings, &journal::Settings::default())
    }

    fn with(settings: &Settings, journal: &journal::Settings) -> Self {
        let directory = TempDir::new().unwrap();
        let journal = journal::Settings { directory: directory.path().into(), ..journal.clone() };
        let (writer, reader) = journal::open(journal).unwrap();
        let metrics = Metrics::default();
        let clock: SharedClock = Arc::new(SystemClock);
        let collector = Collector::bind(settings, Inherited::default(), &writer, &clock, &metrics).unwrap();
        let (endpoints, journal) = (collector.endpoints(), writer.metrics());
        let addresses = endpoints.iter().map(|endpoint| endpoint.address).collect();
        let running = Some(collector.start().unwrap());
        Self { _directory: directory, reader, endpoints, addresses, metrics, journal, running }
    }

    fn label(&self, listener: usize) -> ListenerLabel {
        ListenerLabel { listener: self.endpoints[listener].to_string() }
    }

    /// Reads until `count` datagrams are there or counted.
    fn read(&mut self, count: usize) -> Seen {
        let mut seen = Seen::default();
        let mut chunk = Chunk::default();
        let deadline = Instant::now() + Duration::from_secs(20);
        while seen.datagrams.len() + (seen.kernel_drops as usize) < count {
            assert!(Instant::now() < deadline, "{} and {} of {count}", seen.datagrams.len(), seen.kernel_drops);
            self.reader.read(&mut chunk, Duration::from_millis(100)).unwrap();
            for (_, record) in chunk.iter() {
                match record {
                    Record::Datagram(each) => {
                        seen.datagrams.push((each.received, each.source, each.listener, each.payload.to_vec()));
                    }
                    Record::Stream(stream) => panic!("UDP has no streams: {stream:?}"),
                    Record::Dropped(dropped) => {
                        assert_eq!((dropped.cause, dropped.exporter), (DropCause::Kernel, None));
                        seen.kernel_drops += dropped.count;
                    }
                }
            }
        }
        seen
    }
}

fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + length) as u8).collect()
}

#[test]
fn datagrams_of_every_size_arrive_byte_for_byte_by_both_families() {
    let mut rig = Rig::new(&["udp://127.0.0.1:0", "udp://[::1]:0"], 8 << 20);
    assert!(rig.addresses.iter().all(|address| address.port() != 0));
    let before = SystemClock.now();
    for (listener, local) in [(0_u16, "127.0.0.1:0"), (1, "[::1]:0")] {
        let sender = UdpSocket::bind(local).unwrap();
        // The longest there are: less 8 bytes of UDP, and over IPv4 20 bytes of IP.
        let longest = if listener == 0 { 65_507 } else { 65_527 };
        let lengths: Vec<usize> = (0..80).chain([1_472, 1_473, 9_001, 65_000, longest]).collect();
        for length in &lengths {
            sender.send_to(&payload(*length), rig.addresses[usize::from(listener)]).unwrap();
        }
        let seen = rig.read(lengths.len());
        assert_eq!(seen.kernel_drops, 0);
        for (length, (received, source, number, bytes)) in lengths.iter().zip(seen.datagrams) {
            assert_eq!(bytes, payload(*length));
            assert_eq!((source, number), (sender.local_addr().unwrap(), listener));
            assert!((before..=SystemClock.now()).contains(&received));
        }
        let label = rig.label(usize::from(listener));
        assert_eq!(rig.metrics.datagrams.get_or_create(&label).get(), lengths.len() as u64);
        assert_eq!(rig.metrics.bytes.get_or_create(&label).get(), lengths.iter().sum::<usize>() as u64);
    }
}

#[test]
fn an_ipv6_listener_takes_ipv4_and_tells_it_as_such() {
    for listen in ["udp://[::]:0", "udp://:0"] {
        let mut rig = Rig::new(&[listen], 1 << 20);
        let port = rig.addresses[0].port();
        for host in ["127.0.0.1", "::1"] {
            let host: IpAddr = host.parse().unwrap();
            let sender = UdpSocket::bind((host, 0)).unwrap();
            sender.send_to(b"flow", (host, port)).unwrap();
            assert_eq!(rig.read(1).datagrams[0].1, sender.local_addr().unwrap());
        }
    }
}

#[test]
fn what_a_tiny_buffer_drops_is_counted_to_the_unit_even_when_nothing_follows() {
    let mut rig = Rig::new(&["udp://127.0.0.1:0"], 1);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut drops = 0;
    for round in 0..3 {
        let sent = 5_000;
        for number in 0..sent {
            sender.send_to(&payload(100 + (number + round) % 200), rig.addresses[0]).unwrap();
        }
        let seen = rig.read(sent);
        assert_eq!(seen.datagrams.len() + seen.kernel_drops as usize, sent);
        drops += seen.kernel_drops;
    }
    assert!(drops > 0, "the buffer was not small enough for this test");
    rig.running.take().unwrap().stop();
    assert_eq!(rig.metrics.kernel_drops.get_or_create(&rig.label(0)).get(), drops);
    let mut chunk = Chunk::default();
    assert_eq!(rig.reader.read(&mut chunk, Duration::ZERO).unwrap(), 0, "nothing is counted twice");
}

#[test]
fn what_has_arrived_before_a_stop_is_appended() {
    for _ in 0..5 {
        let mut rig = Rig::new(&["udp://127.0.0.1:0"], 8 << 20);
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for length in 0..1_000 {
            sender.send_to(&payload(length), rig.addresses[0]).unwrap();
        }
        rig.running.take().unwrap().stop();
        assert_eq!(rig.read(1_000).datagrams.len(), 1_000);
    }
}

#[test]
fn what_a_stopped_socket_took_in_to_the_last_is_appended_and_senders_hear_that_it_is_closed() {
    for (listen, to) in [
        ("udp://127.0.0.1:0", "127.0.0.1"),
        ("udp://0.0.0.0:0", "127.0.0.1"),
        ("udp://[::1]:0", "::1"),
        ("udp://[::]:0", "::1"),
        ("udp://[::]:0", "127.0.0.1"),
    ] {
        let mut rig = Rig::new(&[listen], 8 << 20);
        let to = SocketAddr::new(to.parse().unwrap(), rig.addresses[0].port());
        let sender = thread::spawn(move || {
            let socket = UdpSocket::bind((to.ip(), 0)).unwrap();
            socket.connect(to).unwrap();
            // The kernel says it with the datagram after the first one that found the socket closed.
            (0_usize..).find(|_| socket.send(b"flow").is_err()).unwrap() - 1
        });
        thread::sleep(Duration::from_millis(20));
        rig.running.take().unwrap().stop();
        let taken = sender.join().unwrap();
        let seen = rig.read(taken);
        assert_eq!(seen.datagrams.len() + seen.kernel_drops as usize, taken, "{listen} {to}");
    }
}

#[test]
fn a_port_in_use_and_an_empty_list_are_refused_with_advice() {
    let directory = TempDir::new().unwrap();
    let settings = journal::Settings { directory: directory.path().into(), ..journal::Settings::default() };
    let (writer, _reader) = journal::open(settings).unwrap();
    let clock: SharedClock = Arc::new(SystemClock);
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let bind = |listen: Vec<String>| {
        let settings = Settings { listen, ..Settings::default() };
        Collector::bind(&settings, Inherited::default(), &writer, &clock, &Metrics::default()).unwrap_err().to_string()
    };
    let message = bind(vec![format!("udp://{}", taken.local_addr().unwrap())]);
    assert!(message.contains("another program"), "{message}");
    assert!(bind(vec![]).contains("0 entries"));
    assert!(bind(vec!["udp://192.0.2.77:0".into()]).contains("ip address"));
}

#[test]
fn datagrams_of_who_is_not_allowed_are_counted_and_go_no_further() {
    let small = journal::Settings { segment_bytes: 8 << 10, max_bytes: 64 << 10, ..journal::Settings::default() };
    let listen = ["udp://127.0.0.1:0".into(), "udp://[::]:0".into()].into();
    let allow = ["127.0.0.2", "127.0.0.8/30"].map(|network| network.parse().unwrap()).into();
    let mut rig = Rig::with(&Settings { listen, allow, ..Settings::default() }, &small);
    let sources = [("127.0.0.1", false), ("127.0.0.2", true), ("127.0.0.3", false), ("127.0.0.9", true)];
    let (each, port) = (500, rig.addresses[1].port());
    let targets = [rig.addresses[0], SocketAddr::new([127, 0, 0, 1].into(), port)];
    for (source, _) in sources {
        let sender = UdpSocket::bind((source, 0)).unwrap();
        for _ in 0..each {
            for target in targets {
                sender.send_to(&payload(60), target).unwrap();
            }
        }
    }
    rig.running.take().unwrap().stop();
    let (mut journalled, mut dropped, mut chunk) = ([0, 0], [0, 0], Chunk::default());
    while rig.reader.read(&mut chunk, Duration::ZERO).unwrap() > 0 {
        for (_, record) in chunk.iter() {
            match record {
                Record::Datagram(datagram) => {
                    assert!(sources.contains(&(datagram.source.ip().to_string().as_str(), true)), "{datagram:?}");
                    journalled[usize::from(datagram.listener)] += 1;
                }
                Record::Dropped(of) if of.cause == DropCause::JournalFull => {
                    dropped[usize::from(of.listener)] += of.count;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(dropped.iter().sum::<u64>() > 0, "the journal was too large for this test");
    for listener in 0..2 {
        let label = rig.label(listener);
        let received = rig.metrics.datagrams.get_or_create(&label).get();
        let not_allowed = rig.metrics.not_allowed.get_or_create(&label).get();
        assert_eq!((received, not_allowed), (4 * each, 2 * each));
        assert_eq!(received, journalled[listener] + not_allowed + dropped[listener]);
    }
}

#[test]
fn metrics_show_under_the_listener() {
    let rig = Rig::new(&["udp://127.0.0.1:0"], 64 << 10);
    let mut registry = Registry::default();
    rig.metrics.register(&mut registry);
    let text = registry.encode();
    let label = rig.label(0).listener;
    assert!(text.contains(&format!("flowledger_collector_datagrams_total{{listener=\"{label}\"}} 0")), "{text}");
    assert!(
        text.contains(&format!("flowledger_collector_receive_buffer_bytes{{listener=\"{label}\"}} 65536")),
        "{text}"
    );
}

#[test]
fn a_listener_that_has_ended_is_noticed() {
    let mut rig = Rig::new(&["udp://127.0.0.1:0", "udp://127.0.0.1:0"], 1 << 16);
    let running = rig.running.as_mut().unwrap();
    assert!(!running.is_finished());
    running.threads.push(thread::spawn(|| ()));
    let deadline = Instant::now() + Duration::from_secs(10);
    while !running.is_finished() {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(5));
    }
}
