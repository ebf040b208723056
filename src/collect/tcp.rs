//! One TCP listener: accepts connections and gives each a thread of its own, so that a slow or silent one delays nobody.
//!
//! Threads, because a connection then is a plain loop, and because the number of connections is limited anyway.

use super::address::Endpoint;
use super::allow::Gate;
use super::connection::{Connection, Counters, Shared};
use super::error::CollectError;
use super::pace::Pace;
use super::places::Places;
use super::socket::PATIENCE;
use super::{ListenerLabel, Surroundings};
use crate::clock::Timestamp;
use crate::journal::{Record, Stream, StreamEvent};
use crate::metrics::Counter;
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 128;
/// After how long a silence the kernel asks whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// How long the other side may take to accept what we send, which is only what TLS wants.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// Of so many addresses an hour it is told that they were refused: who was let in may have handed flows to its kernel by then.
const TOLD: usize = 256;
/// The stack of a connection's thread. The system gives memory only to the pages that are used.
const STACK_BYTES: usize = 512 << 10;

/// A bound socket and what its connections share.
pub(super) struct Listener {
    endpoint: Endpoint,
    socket: TcpListener,
    gate: Gate,
    places: Arc<Places>,
    shared: Arc<Shared>,
    refused: Counter<u64>,
    /// Whose refusal the journal was told, and in which hour.
    told: (Timestamp, HashSet<IpAddr>),
    receive_errors: Counter<u64>,
    crowd: Pace,
    errors: Pace,
}

impl fmt::Debug for Listener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Listener").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Listener {
    /// Binds the listener of this number in the journal, unless its socket was `inherited`; `tls` is how it speaks TLS, if it
    /// does.
    pub(super) fn bind(
        number: u16,
        endpoint: Endpoint,
        inherited: Option<Socket>,
        tls: Option<Arc<ServerConfig>>,
        around: &Surroundings<'_>,
    ) -> Result<Self, CollectError> {
        let socket = match inherited {
            Some(socket) => take_over(socket),
            None => bind(endpoint.address),
        };
        let socket = socket.map_err(CollectError::bind(endpoint))?;
        let endpoint = Endpoint { address: socket.local_addr().unwrap_or(endpoint.address), ..endpoint };
        let label = ListenerLabel { listener: endpoint.to_string() };
        let not_allowed = around.metrics.not_allowed.get_or_create(&label).clone();
        let shared = Shared {
            name: endpoint.to_string(),
            number,
            idle: around.idle,
            journal: around.journal.clone(),
            clock: Arc::clone(around.clock),
            stop: Arc::clone(around.stop),
            tls,
            counters: Counters::new(around.metrics, &label),
            strangers: Pace::default(),
        };
        Ok(Self {
            endpoint,
            socket,
            gate: Gate::new(around.allow, endpoint.to_string(), not_allowed),
            places: Arc::clone(around.places),
            shared: Arc::new(shared),
            refused: around.metrics.connections_refused.get_or_create(&label).clone(),
            told: Default::default(),
            receive_errors: around.metrics.receive_errors.get_or_create(&label).clone(),
            crowd: Pace::default(),
            errors: Pace::default(),
        })
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// Accepts until the collector stops, then waits for the connections to take what has arrived.
    pub(super) fn run(&mut self) {
        let mut threads = Vec::new();
        while !self.shared.stop.load(Ordering::Acquire) {
            match self.socket.accept() {
                Ok((stream, peer)) => threads.extend(self.admit(stream, peer)),
                Err(error) => self.nothing_accepted(&error),
            }
            threads.extract_if(.., |thread: &mut JoinHandle<()>| thread.is_finished()).for_each(join);
        }
        self.places.end_all();
        threads.into_iter().for_each(join);
    }

    /// Begins to serve a connection, or refuses it.
    fn admit(&mut self, stream: TcpStream, peer: SocketAddr) -> Option<JoinHandle<()>> {
        let source = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        if !self.gate.admits(source.ip(), self.shared.clock.now()) {
            return None;
        }
        let stream = Arc::new(stream);
        match self.serve(&stream, source) {
            Ok(thread) => Some(thread),
            Err(reason) => {
                self.refused.inc();
                self.tell(source);
                let name = self.endpoint;
                self.crowd.warn(|more| tracing::warn!("{name}: a connection from {source} is refused: {reason}{more}"));
                None
            }
        }
    }

    /// Tells the journal, once an hour, that a connection from there was refused, and with it what had been sent on it.
    fn tell(&mut self, source: SocketAddr) {
        let received = self.shared.clock.now();
        let (hour, addresses) = &mut self.told;
        if *hour != received.hour() {
            (*hour, *addresses) = (received.hour(), HashSet::new());
        }
        if addresses.len() < TOLD && !addresses.contains(&source.ip()) {
            let cut = Stream { received, source, listener: self.shared.number, event: StreamEvent::Cut };
            // Where there is no room, the next refusal tries again.
            if matches!(self.shared.journal.offer(&[Record::Stream(cut)]), Ok(1)) {
                addresses.insert(source.ip());
            }
        }
    }

    /// Starts the thread of a connection, if there is a place for it; otherwise tells why not.
    fn serve(&self, stream: &Arc<TcpStream>, source: SocketAddr) -> Result<JoinHandle<()>, String> {
        let place = self.places.take(source.ip(), stream)?;
        prepare(stream).map_err(|error| format!("it cannot be set up: {error}"))?;
        let (connection, stream) = (Connection::new(Arc::clone(&self.shared), source, place), Arc::clone(stream));
        let run = move || connection.run(&stream);
        let thread = thread::Builder::new().name("collect-tcp".into()).stack_size(STACK_BYTES).spawn(run);
        thread.map_err(|error| format!("no thread can be started: {error}"))
    }

    fn nothing_accepted(&self, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
            _ => {
                self.receive_errors.inc();
                let name = self.endpoint;
                self.errors.warn(|more| {
                    tracing::error!("{name} cannot accept connections: {error}; it is tried again{more}");
                });
                thread::sleep(PATIENCE);
            }
        }
    }
}

/// Binds a socket that waits for connections, at most [`PATIENCE`] at a time. An IPv6 socket takes IPv4 too.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // Connections of a former process that still linger do not keep us from the port.
    socket.set_reuse_address(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Sets up a socket that listens already as [`bind`] does one.
fn take_over(socket: Socket) -> io::Result<TcpListener> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket.into())
}

/// Sets up an accepted connection.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(WRITE_PATIENCE))?;
    socket2::SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a connection had ended by a panic; please report this as a bug");
    }
}
