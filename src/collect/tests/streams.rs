//! Streams of IPFIX on loopback: whole messages in order in the journal, and nobody in anybody's way.

use super::*;
use crate::journal::{StreamEvent, Transport};
use socket2::{Domain, Socket, Type};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

/// A record as it is compared, with the port it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Opened(u16),
    Message(u16, Vec<u8>),
    Closed(u16),
    Cut(u16),
}

fn settings(listen: &[&str]) -> Settings {
    Settings { listen: listen.iter().map(|&each| each.into()).collect(), ..Settings::default() }
}

pub(super) fn rig(settings: &Settings) -> Rig {
    Rig::with(settings, &journal::Settings::default())
}

/// A message of this length whose contents follow from its number.
pub(super) fn message(length: u16, number: usize) -> Vec<u8> {
    let mut bytes = [[0, 10], length.to_be_bytes()].concat();
    bytes.extend((4..usize::from(length)).map(|at| (at * 7 + number) as u8));
    bytes
}

pub(super) fn connect(to: SocketAddr, from: &str) -> TcpStream {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
    socket.bind(&format!("{from}:0").parse::<SocketAddr>().unwrap().into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    socket.into()
}

pub(super) fn port(stream: &TcpStream) -> u16 {
    stream.local_addr().unwrap().port()
}

/// Whether the collector ends the connection, in order or not, before the read times out.
pub(super) fn is_ended(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 16]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

pub(super) fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

impl Rig {
    /// Reads until `done` says that all is there.
    fn seen(&mut self, done: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let (mut seen, mut chunk) = (Vec::new(), Chunk::default());
        let deadline = Instant::now() + Duration::from_secs(20);
        while !done(&seen) {
            assert!(Instant::now() < deadline, "{} records only", seen.len());
            self.reader.read(&mut chunk, Duration::from_millis(20)).unwrap();
            seen.extend(chunk.iter().map(|(_, record)| match record {
                Record::Stream(stream) => match stream.event {
                    StreamEvent::Opened => Seen::Opened(stream.source.port()),
                    StreamEvent::Closed => Seen::Closed(stream.source.port()),
                    StreamEvent::Cut => Seen::Cut(stream.source.port()),
                },
                Record::Datagram(datagram) => {
                    assert_eq!(datagram.transport, Transport::Stream);
                    Seen::Message(datagram.source.port(), datagram.payload.to_vec())
                }
                Record::Dropped(dropped) => panic!("{dropped:?}"),
            }));
            self.reader.release(self.reader.position()).unwrap();
        }
        seen
    }

    /// Reads `count` records.
    pub(super) fn records(&mut self, count: usize) -> Vec<Seen> {
        self.seen(|seen| seen.len() >= count)
    }

    pub(super) fn closed(&self, listener: usize, reason: &'static str) -> u64 {
        let label = ClosedLabel { listener: self.label(listener).listener, reason };
        self.metrics.connections_closed.get_or_create(&label).get()
    }

    pub(super) fn stop(&mut self) {
        self.running.take().unwrap().stop();
    }
}

#[test]
fn messages_arrive_whole_and_in_order_however_the_stream_is_cut() {
    let mut rig = rig(&settings(&["tcp://127.0.0.1:0", "tcp://[::]:0"]));
    let (first, second) = (rig.addresses[0], SocketAddr::new([127, 0, 0, 1].into(), rig.addresses[1].port()));
    for (listener, to) in [(0, first), (1, second)] {
        let sent: Vec<_> =
            [16, 17, 1_400, u16::MAX, 16, 9_000, u16::MAX].iter().enumerate().map(|(at, &n)| message(n, at)).collect();
        let mut stream = connect(to, "127.0.0.1");
        let own = port(&stream);
        let mut random = fastrand::Rng::with_seed(5);
        let bytes = sent.concat();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(random.usize(1..=rest.len().min(20_000)));
            stream.write_all(piece).unwrap();
            thread::sleep(Duration::from_millis(1));
            rest = behind;
        }
        drop(stream);
        let mut expected = vec![Seen::Opened(own)];
        expected.extend(sent.iter().map(|message| Seen::Message(own, message.clone())));
        expected.push(Seen::Closed(own));
        assert_eq!(rig.records(expected.len()), expected, "an IPv4 source, to both");
        let (label, metrics) = (rig.label(listener), &rig.metrics);
        assert_eq!(metrics.datagrams.get_or_create(&label).get(), sent.len() as u64);
        assert_eq!(metrics.bytes.get_or_create(&label).get(), bytes.len() as u64);
        assert_eq!(metrics.truncated_messages.get_or_create(&label).get(), 0);
        assert_eq!((rig.closed(listener, "peer"), metrics.connections_opened.get_or_create(&label).get()), (1, 1));
        wait_until("it is gone", || metrics.connections.get_or_create(&label).get() == 0);
    }
}

#[test]
fn what_is_no_ipfix_closes_its_connection_and_no_other() {
    let mut rig = rig(&settings(&["tcp://127.0.0.1:0"]));
    let mut good = connect(rig.addresses[0], "127.0.0.1");
    good.write_all(&message(100, 1)).unwrap();
    let own = port(&good);
    assert_eq!(rig.records(2), [Seen::Opened(own), Seen::Message(own, message(100, 1))]);
    for junk in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 9, 0, 1], &[0, 10, 0, 15], &[0, 10, 0, 0], &[22, 3, 1, 2, 0]] {
        let mut stranger = connect(rig.addresses[0], "127.0.0.1");
        stranger.write_all(junk).unwrap();
        assert!(is_ended(&mut stranger), "{junk:?}");
    }
    let mut late = connect(rig.addresses[0], "127.0.0.1");
    let theirs = port(&late);
    late.write_all(&[message(16, 2), b"rubbish".to_vec()].concat()).unwrap();
    assert!(is_ended(&mut late));
    good.write_all(&message(200, 3)).unwrap();
    let expected = [
        Seen::Opened(theirs),
        Seen::Message(theirs, message(16, 2)),
        Seen::Cut(theirs),
        Seen::Message(own, message(200, 3)),
    ];
    assert_eq!(rig.records(4), expected, "strangers who sent no message leave no record");
    assert_eq!(rig.closed(0, "not_ipfix"), 6);
    assert_eq!(rig.metrics.truncated_messages.get_or_create(&rig.label(0)).get(), 0);
}

#[test]
fn silent_and_slow_peers_delay_nobody_and_no_stop() {
    let mut rig = rig(&settings(&["tcp://127.0.0.1:0"]));
    let silent: Vec<_> = (0..40).map(|_| connect(rig.addresses[0], "127.0.0.1")).collect();
    let mut slow = connect(rig.addresses[0], "127.0.0.2");
    slow.write_all(&message(500, 1)[..499]).unwrap();
    let mut fast = connect(rig.addresses[0], "127.0.0.3");
    let own = port(&fast);
    let sent: Vec<_> = (0..2_000).map(|number| message(1_400, number)).collect();
    let begun = Instant::now();
    fast.write_all(&sent.concat()).unwrap();
    let seen = rig.records(2_001);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(
        seen.iter().skip(1).eq(sent
            .iter()
            .map(|message| Seen::Message(own, message.clone()))
            .collect::<Vec<_>>()
            .iter())
    );
    let begun = Instant::now();
    rig.stop();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(rig.closed(0, "stopped"), 42);
    assert_eq!(rig.metrics.truncated_messages.get_or_create(&rig.label(0)).get(), 1, "the slow one's");
    drop((silent, slow));
}

#[test]
fn connections_beyond_the_limit_are_refused_and_half_of_them_are_for_others() {
    let mut rig = rig(&Settings { max_connections: 4, ..settings(&["tcp://127.0.0.1:0"]) });
    let to = rig.addresses[0];
    let mut open = Vec::new();
    for (from, refused) in [
        ("127.0.0.1", false),
        ("127.0.0.1", false),
        ("127.0.0.1", true),
        ("127.0.0.2", false),
        ("127.0.0.3", false),
        ("127.0.0.4", true),
    ] {
        let mut stream = connect(to, from);
        if refused {
            assert!(is_ended(&mut stream), "{from}");
            // It may have sent something by then.
            assert_eq!(rig.records(1), [Seen::Cut(port(&stream))]);
        } else {
            stream.write_all(&message(16, 0)).unwrap();
            assert_eq!(rig.records(2)[0], Seen::Opened(port(&stream)));
            open.push(stream);
        }
    }
    let counted = |rig: &Rig| rig.metrics.connections_refused.get_or_create(&rig.label(0)).get();
    // The next one of that hour adds nothing to that.
    assert!(is_ended(&mut connect(to, "127.0.0.4")));
    assert_eq!(counted(&rig), 3);
    assert_eq!(rig.metrics.connections.get_or_create(&rig.label(0)).get(), 4);
    let left = open.remove(0);
    let gone = port(&left);
    drop(left);
    assert_eq!(rig.records(1), [Seen::Closed(gone)]);
    wait_until("the place is free", || rig.metrics.connections.get_or_create(&rig.label(0)).get() == 3);
    // The place is given back right after the count.
    thread::sleep(Duration::from_millis(50));
    let mut next = connect(to, "127.0.0.1");
    next.write_all(&message(16, 1)).unwrap();
    assert_eq!(rig.records(2)[0], Seen::Opened(port(&next)));
    assert_eq!(counted(&rig), 3);
}

#[test]
fn connections_of_who_is_not_allowed_are_closed_and_leave_nothing() {
    let allow = vec!["127.0.0.2/32".parse().unwrap()];
    let mut rig = rig(&Settings { allow, ..settings(&["tcp://[::]:0"]) });
    let to = SocketAddr::new([127, 0, 0, 1].into(), rig.addresses[0].port());
    for from in ["127.0.0.1", "127.0.0.3"] {
        let mut stranger = connect(to, from);
        // Refused once the collector has closed it.
        let _ = stranger.write_all(&message(16, 0));
        assert!(is_ended(&mut stranger), "{from}");
    }
    let mut known = connect(to, "127.0.0.2");
    known.write_all(&message(16, 0)).unwrap();
    assert_eq!(rig.records(2)[0], Seen::Opened(port(&known)));
    let label = rig.label(0);
    assert_eq!(rig.metrics.not_allowed.get_or_create(&label).get(), 2);
    assert_eq!(rig.metrics.connections_opened.get_or_create(&label).get(), 1);
}

#[test]
fn a_message_that_is_not_completed_ends_its_connection_however_it_drips_and_rest_between_messages_does_not() {
    let mut rig = rig(&Settings { idle_seconds: 1, ..settings(&["tcp://127.0.0.1:0"]) });
    let mut silent = connect(rig.addresses[0], "127.0.0.1");
    let mut dripping = connect(rig.addresses[0], "127.0.0.1");
    let mut busy = connect(rig.addresses[0], "127.0.0.1");
    let mut resting = connect(rig.addresses[0], "127.0.0.1");
    resting.write_all(&message(16, 2)).unwrap();
    let mut rest = message(u16::MAX, 1);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(2_500) {
        busy.write_all(&message(16, 0)).unwrap();
        // Refused once the collector has closed it.
        let _ = dripping.write_all(&[rest.remove(0)]);
        thread::sleep(Duration::from_millis(100));
    }
    assert!(is_ended(&mut silent));
    assert_eq!(rig.closed(0, "idle"), 2);
    assert_eq!(rig.metrics.truncated_messages.get_or_create(&rig.label(0)).get(), 1);
    // It does not look whether we have closed the connection, and this would be lost then.
    resting.write_all(&message(16, 3)).unwrap();
    let rested = Seen::Message(port(&resting), message(16, 3));
    let messages = rig.seen(|seen| seen.contains(&rested));
    let ended = |stream: &TcpStream| messages.contains(&Seen::Cut(port(stream)));
    assert_eq!([&silent, &dripping, &busy, &resting].map(ended), [false, true, false, false]);
}

#[test]
fn who_rests_gives_way_where_places_are_short() {
    let mut rig = rig(&Settings { idle_seconds: 1, max_connections: 2, ..settings(&["tcp://127.0.0.1:0"]) });
    let mut first = connect(rig.addresses[0], "127.0.0.1");
    first.write_all(&message(16, 1)).unwrap();
    let own = port(&first);
    assert_eq!(rig.records(3)[..], [Seen::Opened(own), Seen::Message(own, message(16, 1)), Seen::Cut(own)]);
    assert!(is_ended(&mut first));
    assert_eq!(rig.closed(0, "idle"), 1);
}

#[test]
fn a_message_has_its_time_however_long_its_stream_rested_before() {
    let mut rig = rig(&Settings { idle_seconds: 2, ..settings(&["tcp://127.0.0.1:0"]) });
    let mut stream = connect(rig.addresses[0], "127.0.0.1");
    stream.write_all(&message(16, 1)).unwrap();
    rig.records(2);
    let late = message(16, 2);
    thread::sleep(Duration::from_millis(1_500));
    stream.write_all(&late[..7]).unwrap();
    thread::sleep(Duration::from_millis(1_000));
    stream.write_all(&late[7..]).unwrap();
    assert_eq!(rig.records(1), [Seen::Message(port(&stream), late)]);
}

#[test]
fn a_message_cut_by_the_end_of_its_stream_is_counted() {
    let mut rig = rig(&settings(&["tcp://127.0.0.1:0"]));
    for length in [1, 3, 4, 15, 99] {
        let mut stream = connect(rig.addresses[0], "127.0.0.1");
        let own = port(&stream);
        stream.write_all(&[message(20, 1), message(100, 2)[..length].to_vec()].concat()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert!(is_ended(&mut stream));
        assert_eq!(rig.records(3), [Seen::Opened(own), Seen::Message(own, message(20, 1)), Seen::Cut(own)]);
    }
    // Also if it was the first of its stream.
    let mut stream = connect(rig.addresses[0], "127.0.0.1");
    stream.write_all(&message(100, 2)[..50]).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rig.records(1), [Seen::Cut(port(&stream))]);
    assert_eq!(rig.metrics.truncated_messages.get_or_create(&rig.label(0)).get(), 6);
    assert_eq!(rig.closed(0, "peer"), 6);
}

#[test]
fn a_stream_that_breaks_between_two_messages_is_cut() {
    let mut rig = rig(&settings(&["tcp://127.0.0.1:0"]));
    let mut stream = connect(rig.addresses[0], "127.0.0.1");
    let own = port(&stream);
    stream.write_all(&message(20, 1)).unwrap();
    assert_eq!(rig.records(2), [Seen::Opened(own), Seen::Message(own, message(20, 1))]);
    // Ends by a reset.
    let socket = Socket::from(stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    drop(socket);
    assert_eq!(rig.records(1), [Seen::Cut(own)]);
    assert_eq!(rig.closed(0, "error"), 1);
    assert_eq!(rig.metrics.truncated_messages.get_or_create(&rig.label(0)).get(), 0);
}

#[test]
fn a_stream_that_is_cut_while_the_journal_is_full_is_told_when_there_is_room() {
    let small = journal::Settings { segment_bytes: 64 << 10, max_bytes: 256 << 10, ..journal::Settings::default() };
    let mut rig = Rig::with(&settings(&["tcp://127.0.0.1:0"]), &small);
    let mut cut = connect(rig.addresses[0], "127.0.0.2");
    let own = port(&cut);
    cut.write_all(&[message(20, 1), message(100, 2)[..50].to_vec()].concat()).unwrap();
    wait_until("its message is there", || rig.metrics.datagrams.get_or_create(&rig.label(0)).get() == 1);
    let mut full = connect(rig.addresses[0], "127.0.0.1");
    let sender = thread::spawn(move || (0..400).try_for_each(|number| full.write_all(&message(1_400, number))));
    let waits = rig.metrics.stream_waits.get_or_create(&rig.label(0)).clone();
    wait_until("the journal is full", || waits.get() > 0);
    drop(cut);
    wait_until("its end is seen", || rig.closed(0, "peer") == 1);
    thread::sleep(Duration::from_millis(50));
    let seen = rig.seen(|seen| seen.iter().filter(|seen| matches!(seen, Seen::Cut(_) | Seen::Closed(_))).count() == 2);
    sender.join().unwrap().unwrap();
    assert!(seen.contains(&Seen::Cut(own)), "{:?}", seen.last());
    assert_eq!(rig.journal.dropped.get(), 0);
}

#[test]
fn a_full_journal_lets_streams_wait_and_drops_nothing() {
    let small = journal::Settings { segment_bytes: 64 << 10, max_bytes: 256 << 10, ..journal::Settings::default() };
    let mut rig = Rig::with(&settings(&["tcp://127.0.0.1:0"]), &small);
    let sent: Vec<_> = (0..8_000).map(|number| message(1_400, number)).collect();
    let mut stream = connect(rig.addresses[0], "127.0.0.1");
    let own = port(&stream);
    let bytes = sent.concat();
    let sender = thread::spawn(move || stream.write_all(&bytes));
    let waits = rig.metrics.stream_waits.get_or_create(&rig.label(0)).clone();
    wait_until("the journal is full", || waits.get() > 0);
    let seen = rig.records(8_002);
    sender.join().unwrap().unwrap();
    assert_eq!(seen[0], Seen::Opened(own));
    assert!(seen[1..8_001].iter().zip(&sent).all(|(seen, sent)| *seen == Seen::Message(own, sent.clone())));
    assert_eq!(seen[8_001], Seen::Closed(own));
    assert_eq!(rig.journal.dropped.get(), 0);
}

#[test]
fn a_stop_while_the_journal_is_full_counts_what_it_cannot_append() {
    let small = journal::Settings { segment_bytes: 64 << 10, max_bytes: 256 << 10, ..journal::Settings::default() };
    let mut rig = Rig::with(&settings(&["tcp://127.0.0.1:0"]), &small);
    let mut stream = connect(rig.addresses[0], "127.0.0.1");
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    let sender = thread::spawn(move || (0..).try_for_each(|number| stream.write_all(&message(1_400, number))));
    let waits = rig.metrics.stream_waits.get_or_create(&rig.label(0)).clone();
    wait_until("the journal is full", || waits.get() > 0);
    rig.stop();
    assert!(sender.join().unwrap().is_err(), "the connection is closed");
    let dropped = rig.journal.dropped.get();
    assert!(dropped > 0);
    let received = rig.metrics.datagrams.get_or_create(&rig.label(0)).get();
    let (mut messages, mut told, mut chunk) = (0, 0, Chunk::default());
    while rig.reader.read(&mut chunk, Duration::ZERO).unwrap() > 0 {
        for (_, record) in chunk.iter() {
            match record {
                Record::Datagram(_) => messages += 1,
                Record::Dropped(dropped) => told += dropped.count,
                Record::Stream(_) => {}
            }
        }
    }
    assert_eq!((messages + dropped, told), (received, dropped), "received = journalled + dropped");
}

#[test]
fn what_has_arrived_before_a_stop_is_appended_and_the_stream_stays_open_for_the_next_process() {
    for _ in 0..5 {
        let mut rig = rig(&settings(&["tcp://127.0.0.1:0"]));
        let mut stream = connect(rig.addresses[0], "127.0.0.1");
        let sent: Vec<_> = (0..1_000).map(|number| message(200, number)).collect();
        stream.write_all(&sent.concat()).unwrap();
        wait_until("it is accepted", || rig.metrics.connections_opened.get_or_create(&rig.label(0)).get() == 1);
        rig.stop();
        let (seen, own) = (rig.records(1_001), port(&stream));
        let last = Seen::Message(own, message(200, 999));
        assert_eq!((seen.first(), seen.last()), (Some(&Seen::Opened(own)), Some(&last)));
        assert_eq!(rig.reader.read(&mut Chunk::default(), Duration::from_millis(50)).unwrap(), 0);
        assert_eq!(rig.closed(0, "stopped"), 1);
    }
}

#[test]
fn a_restarted_collector_gets_its_port_back_at_once() {
    let mut first = rig(&settings(&["tcp://127.0.0.1:0"]));
    let mut stream = connect(first.addresses[0], "127.0.0.1");
    stream.write_all(&message(16, 0)).unwrap();
    first.records(2);
    let again = first.endpoints[0].to_string();
    first.stop();
    let second = rig(&settings(&[again.as_str()]));
    assert_eq!(second.endpoints[0].to_string(), again);
    connect(second.addresses[0], "127.0.0.1");
}
