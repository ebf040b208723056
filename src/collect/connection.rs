//! One connection: what comes in is cut into messages, which go to the journal in order.
//!
//! Promises: a message is appended as soon as it is complete, together with the others of the same read. While the journal
//! is full nothing is read, so that the peer's TCP waits instead of anything being dropped. Records of a stream stand
//! between those of its beginning and end; a connection that never begins a message leaves none. Whoever has sent a message may
//! be silent for as long as it likes, unless its place is wanted: it may not notice that we close the connection, and what it sends
//! next would be lost.

use super::ListenerLabel;
use super::framing::{self, Buffer, NotIpfix};
use super::input::Input;
use super::metrics::{ClosedLabel, Metrics};
use super::pace::Pace;
use super::places::Place;
use crate::clock::SharedClock;
use crate::journal::{Datagram, Record, Stream, StreamEvent, Transport, Writer};
use crate::metrics::{Counter, Gauge};
use rustls::ServerConfig;
use std::io::{self, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often a full journal is asked again.
const RETRY: Duration = Duration::from_millis(20);
/// How long both sides may take to agree on a TLS connection.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long what has arrived is still taken after a stop.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the connections of one listener share.
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) number: u16,
    /// How long a connection may go without a first message, and how long any message may take.
    pub(super) idle: Duration,
    pub(super) journal: Writer,
    pub(super) clock: SharedClock,
    pub(super) stop: Arc<AtomicBool>,
    /// How TLS is spoken, where it is.
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) counters: Counters,
    /// For warnings about peers that speak something else.
    pub(super) strangers: Pace,
}

/// The counters of one listener's connections.
#[derive(Debug)]
pub(super) struct Counters {
    pub(super) connections: Gauge,
    pub(super) opened: Counter<u64>,
    closed: [Counter<u64>; End::ALL.len()],
    datagrams: Counter<u64>,
    bytes: Counter<u64>,
    truncated: Counter<u64>,
    waits: Counter<u64>,
}

impl Counters {
    pub(super) fn new(metrics: &Metrics, label: &ListenerLabel) -> Self {
        let closed = |end: End| {
            let label = ClosedLabel { listener: label.listener.clone(), reason: end.name() };
            metrics.connections_closed.get_or_create(&label).clone()
        };
        Self {
            connections: metrics.connections.get_or_create(label).clone(),
            opened: metrics.connections_opened.get_or_create(label).clone(),
            closed: End::ALL.map(closed),
            datagrams: metrics.datagrams.get_or_create(label).clone(),
            bytes: metrics.bytes.get_or_create(label).clone(),
            truncated: metrics.truncated_messages.get_or_create(label).clone(),
            waits: metrics.stream_waits.get_or_create(label).clone(),
        }
    }
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The other side closed it.
    Peer,
    /// No first message came, one was not completed, or none came where places were short, for too long.
    Idle,
    /// No TLS connection came about.
    Handshake,
    /// What came is no IPFIX.
    NotIpfix,
    /// The network or the other side broke it.
    Error,
    /// The collector stops.
    Stopped,
}

impl End {
    const ALL: [Self; 6] = [Self::Peer, Self::Idle, Self::Handshake, Self::NotIpfix, Self::Error, Self::Stopped];

    const fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Idle => "idle",
            Self::Handshake => "handshake",
            Self::NotIpfix => "not_ipfix",
            Self::Error => "error",
            Self::Stopped => "stopped",
        }
    }

    /// Whether the other side may have sent more, which its own machine or ours took over and nobody read.
    const fn may_lose(self) -> bool {
        matches!(self, Self::Idle | Self::NotIpfix | Self::Error)
    }
}

/// Counts a connection for as long as it is there, whatever ends it.
struct Open(Gauge);

impl Open {
    fn new(connections: &Gauge) -> Self {
        connections.inc();
        Self(connections.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A connection at work.
pub(super) struct Connection {
    shared: Arc<Shared>,
    source: SocketAddr,
    place: Place,
    buffer: Buffer,
    /// Whether the journal knows of it.
    told: bool,
}

impl Connection {
    /// One from `source`, which gives its place back at its end.
    pub(super) fn new(shared: Arc<Shared>, source: SocketAddr, place: Place) -> Self {
        Self { shared, source, place, buffer: Buffer::default(), told: false }
    }

    /// Serves it to its end.
    pub(super) fn run(mut self, stream: &Arc<TcpStream>) {
        let counters = &self.shared.counters;
        counters.opened.inc();
        let open = Open::new(&counters.connections);
        let end = match self.begin(stream) {
            Ok(input) => self.receive(input),
            Err(end) => end,
        };
        drop(open);
        let counters = &self.shared.counters;
        if let Some(closed) = counters.closed.get(end as usize) {
            closed.inc();
        }
        let cut = end != End::NotIpfix && !self.buffer.is_empty();
        counters.truncated.inc_by(u64::from(cut));
        tracing::debug!("{}: the connection from {} ended: {}", self.shared.name, self.source, end.name());
        // After a stop, as after a kill, the next process finds the stream open, and tells of all the time until it listens again.
        let tells = if self.told { end != End::Stopped } else { cut };
        if tells {
            self.tell(if cut || end.may_lose() { StreamEvent::Cut } else { StreamEvent::Closed });
        }
    }

    /// Tells the journal of the stream's end, waiting as long as the journal is full, but not beyond a stop.
    fn tell(&self, event: StreamEvent) {
        while matches!(self.shared.journal.offer(&[Record::Stream(self.boundary(event))]), Ok(0)) && !self.stopping() {
            thread::sleep(RETRY);
        }
    }

    /// Where its bytes come from, when both sides have come to terms.
    fn begin(&self, stream: &Arc<TcpStream>) -> Result<Input, End> {
        let begin = || {
            let mut input = Input::new(stream, self.shared.tls.as_ref()).map_err(io::Error::other)?;
            input.set_deadline(Instant::now().checked_add(HANDSHAKE).unwrap_or_else(Instant::now));
            input.shake_hands().map(|()| input)
        };
        begin().map_err(|error| {
            if self.stopping() {
                return End::Stopped;
            }
            let (name, source) = (&self.shared.name, self.source);
            self.shared.strangers.warn(|more| {
                tracing::warn!("{name}: {source} and we agree on no TLS connection: {error}{more}");
            });
            End::Handshake
        })
    }

    fn receive(&mut self, mut input: Input) -> End {
        let mut last_message = Instant::now();
        let mut stopped_at = None;
        loop {
            let stopping = self.stopping();
            if stopping {
                stopped_at.get_or_insert_with(Instant::now);
            }
            let idle_at = last_message.checked_add(self.shared.idle);
            let farewell_at = stopped_at.and_then(|at| at.checked_add(FAREWELL));
            input.set_deadline(idle_at.into_iter().chain(farewell_at).min().unwrap_or(last_message));
            let begins = self.buffer.is_empty();
            match input.read(self.buffer.room()) {
                Ok(0) if self.stopping() => return End::Stopped,
                Ok(0) => return End::Peer,
                Ok(count) => self.buffer.add(count),
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::TimedOut if stopping => return End::Stopped,
                    // The kernel looks whether the other side is still there. Nobody gives way who needs not to.
                    io::ErrorKind::TimedOut if self.told && begins && !self.place.is_wanted() => {
                        last_message = Instant::now();
                        continue;
                    }
                    io::ErrorKind::TimedOut => return End::Idle,
                    _ if self.stopping() => return End::Stopped,
                    _ => return End::Error,
                },
            }
            if begins && self.told {
                last_message = Instant::now();
            }
            let (taken, fault) = self.take_messages();
            if let Some(fault) = fault {
                let (name, source) = (&self.shared.name, self.source);
                self.shared.strangers.warn(|more| {
                    tracing::warn!("{name}: the connection from {source} is closed: {fault}{more}");
                });
                return End::NotIpfix;
            }
            if taken > 0 {
                last_message = Instant::now();
                self.buffer.remove(taken);
            }
        }
    }

    /// Hands the messages that are complete to the journal: how many bytes they were, and what is no message behind them.
    fn take_messages(&mut self) -> (usize, Option<NotIpfix>) {
        let mut messages = Vec::new();
        let mut rest = self.buffer.bytes();
        let fault = loop {
            match framing::cut(rest) {
                Ok(Some(message)) => {
                    messages.push(message);
                    rest = rest.get(message.len()..).unwrap_or_default();
                }
                Ok(None) => break None,
                Err(fault) => break Some(fault),
            }
        };
        let taken = self.buffer.bytes().len().saturating_sub(rest.len());
        if !messages.is_empty() {
            self.hand_over(&messages);
            self.told = true;
        }
        (taken, fault)
    }

    /// Appends messages, waiting as long as the journal is full. They count as received when the journal takes them: until
    /// then the stream stands still.
    fn hand_over(&self, messages: &[&[u8]]) {
        let mut left = messages;
        let mut waits = false;
        let mut first = (!self.told).then_some(());
        while !left.is_empty() {
            let Shared { number: listener, journal, clock, .. } = &*self.shared;
            let (received, listener, source) = (clock.now(), *listener, self.source);
            let opened = first.map(|()| Record::Stream(self.boundary(StreamEvent::Opened)));
            let messages = left.iter().map(|&payload| {
                Record::Datagram(Datagram { received, source, listener, transport: Transport::Stream, payload })
            });
            let records: Vec<_> = opened.into_iter().chain(messages).collect();
            if self.stopping() {
                // Nobody waits any more; what has no room is counted as dropped.
                self.received(left);
                self.append(&records);
                return;
            }
            let taken = match journal.offer(&records) {
                Ok(taken) => taken,
                Err(error) => {
                    tracing::error!("{}: messages are lost: {error}", self.shared.name);
                    return;
                }
            };
            if taken == 0 {
                if !waits {
                    waits = true;
                    self.shared.counters.waits.inc();
                }
                thread::sleep(RETRY);
                continue;
            }
            let told = usize::from(first.take().is_some());
            let (received, rest) = left.split_at_checked(taken.saturating_sub(told)).unwrap_or((left, &[]));
            self.received(received);
            left = rest;
        }
    }

    /// Counts messages as received.
    fn received(&self, messages: &[&[u8]]) {
        let bytes = messages.iter().map(|message| message.len() as u64).sum();
        self.shared.counters.datagrams.inc_by(messages.len() as u64);
        self.shared.counters.bytes.inc_by(bytes);
    }

    /// The record of the stream's beginning or end.
    fn boundary(&self, event: StreamEvent) -> Stream {
        let Shared { number, clock, .. } = &*self.shared;
        Stream { received: clock.now(), source: self.source, listener: *number, event }
    }

    fn append(&self, records: &[Record<'_>]) {
        if let Err(error) = self.shared.journal.append(records) {
            tracing::error!("{}: messages are lost: {error}", self.shared.name);
        }
    }

    fn stopping(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }
}
