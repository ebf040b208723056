//! The collector: receives datagrams on UDP sockets and messages on TCP connections and appends them, raw, to the journal.
//!
//! It knows neither what a datagram says nor where it ends up, so receiving waits for nothing but the page cache. One thread
//! serves each listener, and one each connection. Promises: every datagram that reached a socket is appended as it came, whatever its length (an
//! empty one too; none is cut, since a buffer holds the largest there is), or was dropped by the kernel because the
//! receive buffer was full, and is counted as [`DropCause::Kernel`](crate::journal::DropCause::Kernel) exactly once: with
//! the next datagram, or within a tenth of a second when none follows. An IPv4 source is told as IPv4 also when it came to
//! an IPv6 socket. Of a stream, every message that came to its end is appended whole and in order; only IPFIX tells where
//! its messages end, so anything else closes its connection. A full journal drops datagrams, and lets streams wait.

mod activation;
mod address;
mod allow;
mod connection;
mod error;
pub mod framing;
mod input;
mod metrics;
mod pace;
mod places;
mod socket;
mod tcp;
pub mod tls;
mod udp;

#[cfg(test)]
mod tests;

pub use activation::Inherited;
pub use address::{Endpoint, Scheme};
pub use error::CollectError;
pub use metrics::{ClosedLabel, ListenerLabel, Metrics};

use crate::clock::SharedClock;
use crate::journal::Writer;
use allow::AllowList;
use ipnetwork::IpNetwork;
use places::Places;
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Where datagrams are received.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The listeners, each `udp://ADDRESS:PORT`, or the same with `tcp` or `tls`: an IPv4 address, or an IPv6 address in brackets.
    /// `[::]`, or no address, takes IPv4 too. Port 0 lets the system choose.
    pub listen: Vec<String>,
    /// What each socket's receive buffer shall hold, in bytes: it bridges the moments in which the journal is slow. Beyond
    /// `net.core.rmem_max` only root gets it.
    pub receive_buffer_bytes: usize,
    /// Out of how many packets exporters look at one that say nothing about it, at least 1, which means all. Decoding goes
    /// by it, not the collector.
    pub default_sampling_interval: u32,
    /// The networks from which flows are taken; none means from everywhere. An IPv4 source counts as IPv4 also when it comes
    /// to an IPv6 listener.
    pub allow: Vec<IpNetwork>,
    /// Certificate, key and client authorities of `tls://` listeners.
    pub tls: tls::Settings,
    /// The most connections at once, of all listeners together, 1 to 65,535. Half of them are open to one source address.
    pub max_connections: u32,
    /// After how many seconds without a first message, amid any message, or, where there are no places left, without another one
    /// a connection is closed, 1 to 604,800.
    pub idle_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: vec!["udp://0.0.0.0:2055".into()],
            receive_buffer_bytes: 32 << 20,
            default_sampling_interval: 1,
            allow: Vec::new(),
            tls: tls::Settings::default(),
            max_connections: 256,
            idle_seconds: 1_800,
        }
    }
}

impl Settings {
    /// Where the listeners shall listen, when all settings are right. [`Collector::bind`] asks too.
    ///
    /// # Errors
    /// What is wrong with the first setting that is wrong.
    pub fn check(&self) -> Result<Vec<Endpoint>, CollectError> {
        if self.listen.is_empty() || self.listen.len() > usize::from(u16::MAX) {
            return Err(CollectError::Listeners { count: self.listen.len() });
        }
        let refuse = |key, value, range| Err(CollectError::Range { key, value, range });
        if !(1..=65_535).contains(&self.max_connections) {
            return refuse("max_connections", self.max_connections.into(), "1 to 65535");
        }
        if !(1..=604_800).contains(&self.idle_seconds) {
            return refuse("idle_seconds", self.idle_seconds, "1 to 604800");
        }
        self.listen.iter().map(|listen| address::parse(listen)).collect()
    }

    /// The same, and whether the files that TLS needs are there and good.
    ///
    /// # Errors
    /// What is wrong with the first setting or file that is wrong.
    pub fn check_files(&self) -> Result<Vec<Endpoint>, CollectError> {
        let endpoints = self.check()?;
        self.load_tls(&endpoints).map(|_| endpoints)
    }

    /// How TLS is spoken, if any listener does.
    fn load_tls(&self, endpoints: &[Endpoint]) -> Result<Option<Arc<ServerConfig>>, CollectError> {
        endpoints.iter().any(|endpoint| endpoint.scheme == Scheme::Tls).then(|| self.tls.load()).transpose()
    }
}

/// Sockets that are bound, so that datagrams queue up, but not read yet.
#[derive(Debug)]
pub struct Collector {
    listeners: Vec<Listener>,
    stop: Arc<AtomicBool>,
}

/// What all listeners of a collector share.
struct Surroundings<'a> {
    journal: &'a Writer,
    clock: &'a SharedClock,
    metrics: &'a Metrics,
    allow: &'a Arc<AllowList>,
    places: &'a Arc<Places>,
    stop: &'a Arc<AtomicBool>,
    /// How long a connection may go without a first message, and how long any message may take.
    idle: Duration,
}

/// A bound listener.
#[derive(Debug)]
enum Listener {
    Udp(udp::Listener),
    Tcp(tcp::Listener),
}

impl Collector {
    /// Binds a socket for each listener of `settings`, but for those whose sockets were `inherited`. What they receive goes to `journal`, stamped by `clock`; the number
    /// of a listener in the journal is its place in `settings.listen`.
    ///
    /// # Errors
    /// When a setting is wrong, an address cannot be bound, or an inherited socket belongs to no listener.
    pub fn bind(
        settings: &Settings,
        mut inherited: Inherited,
        journal: &Writer,
        clock: &SharedClock,
        metrics: &Metrics,
    ) -> Result<Self, CollectError> {
        let endpoints = settings.check()?;
        let tls = settings.load_tls(&endpoints)?;
        let places = Places::new(usize::try_from(settings.max_connections).unwrap_or(usize::MAX));
        let stop = Arc::default();
        let idle = Duration::from_secs(settings.idle_seconds);
        let allow = AllowList::new(&settings.allow);
        let around = Surroundings { journal, clock, metrics, allow: &allow, places: &places, stop: &stop, idle };
        let bind = |(number, endpoint): (u16, Endpoint)| {
            let inherited = inherited.claim(endpoint);
            let tls = tls.clone().filter(|_| endpoint.scheme == Scheme::Tls);
            if endpoint.scheme == Scheme::Udp {
                let socket = socket::bind(endpoint, settings.receive_buffer_bytes, inherited)?;
                return Ok(Listener::Udp(udp::Listener::new(number, socket, &around)));
            }
            tcp::Listener::bind(number, endpoint, inherited, tls, &around).map(Listener::Tcp)
        };
        let listeners = (0..).zip(endpoints).map(bind).collect::<Result<_, _>>()?;
        inherited.all_claimed()?;
        Ok(Self { listeners, stop })
    }

    /// Where the listeners listen, with the ports that the system chose.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let endpoint = |listener: &Listener| match listener {
            Listener::Udp(udp) => udp.endpoint(),
            Listener::Tcp(tcp) => tcp.endpoint(),
        };
        self.listeners.iter().map(endpoint).collect()
    }

    /// Starts receiving.
    ///
    /// # Errors
    /// When a thread cannot be started; then none is left running.
    pub fn start(self) -> Result<Running, CollectError> {
        let mut running = Running { stop: self.stop, threads: Vec::new() };
        for listener in self.listeners {
            let stop = Arc::clone(&running.stop);
            let receive = move || match listener {
                Listener::Udp(mut udp) => udp.run(&stop),
                Listener::Tcp(mut tcp) => tcp.run(),
            };
            let thread = thread::Builder::new().name("collect".into()).spawn(receive);
            // An error drops `running`, which stops the others.
            running.threads.push(thread.map_err(|source| CollectError::Thread { source })?);
        }
        Ok(running)
    }
}

/// Listeners at work. Dropping it stops them too.
#[derive(Debug)]
pub struct Running {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// Whether a listener's thread has ended, which it only does when it is stopped or by a defect.
    pub fn is_finished(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }

    /// Appends what has arrived so far and closes the sockets, which takes some tenths of a second. What a socket took in
    /// before it closed is appended; inherited sockets go on to take in datagrams, for the next process.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a listener had stopped by a panic; please report this as a bug");
            }
        }
    }
}
