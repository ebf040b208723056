//! The collector: receives datagrams on UDP sockets and appends them, raw, to the journal.
//!
//! It knows neither what a datagram says nor where it ends up, so receiving waits for nothing but the page cache. One thread
//! serves each listener. Promises: every datagram that reached a socket is appended as it came, whatever its length (an
//! empty one too; none is cut, since a buffer holds the largest there is), or was dropped by the kernel because the
//! receive buffer was full, and is counted as [`DropCause::Kernel`](crate::journal::DropCause::Kernel) exactly once: with
//! the next datagram, or within a tenth of a second when none follows. An IPv4 source is told as IPv4 also when it came to
//! an IPv6 socket.

mod address;
mod error;
mod socket;
mod udp;

#[cfg(test)]
mod tests;

pub use error::CollectError;

use crate::clock::SharedClock;
use crate::journal::Writer;
use crate::metrics::{Counter, EncodeLabelSet, Family, Gauge, Registry};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use udp::Listener;

/// Where datagrams are received.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The listeners, each `udp://ADDRESS:PORT`: an IPv4 address, or an IPv6 address in brackets. `[::]`, or no address,
    /// takes IPv4 too. Port 0 lets the system choose.
    pub listen: Vec<String>,
    /// What each socket's receive buffer shall hold, in bytes: it bridges the moments in which the journal is slow. Beyond
    /// `net.core.rmem_max` only root gets it.
    pub receive_buffer_bytes: usize,
    /// Out of how many packets exporters look at one that say nothing about it, at least 1, which means all. Decoding goes
    /// by it, not the collector.
    pub default_sampling_interval: u32,
}

impl Default for Settings {
    fn default() -> Self {
        let listen = vec!["udp://0.0.0.0:2055".into()];
        Self { listen, receive_buffer_bytes: 32 << 20, default_sampling_interval: 1 }
    }
}

/// Which listener a figure is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ListenerLabel {
    /// Its address, as `udp://0.0.0.0:2055`.
    pub listener: String,
}

/// What the collector counts, by listener.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Datagrams received.
    pub datagrams: Family<ListenerLabel, Counter<u64>>,
    /// Bytes in them, without IP and UDP headers.
    pub bytes: Family<ListenerLabel, Counter<u64>>,
    /// Datagrams that the kernel dropped because the receive buffer was full.
    pub kernel_drops: Family<ListenerLabel, Counter<u64>>,
    /// Receive calls that failed.
    pub receive_errors: Family<ListenerLabel, Counter<u64>>,
    /// The receive buffer that the kernel granted, in bytes.
    pub receive_buffer_bytes: Family<ListenerLabel, Gauge>,
}

impl Metrics {
    /// Shows them all.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("collector_datagrams", "Datagrams received", self.datagrams.clone());
        registry.register("collector_bytes", "Bytes of datagrams received", self.bytes.clone());
        registry.register(
            "collector_kernel_drops",
            "Datagrams that the kernel dropped because the receive buffer was full",
            self.kernel_drops.clone(),
        );
        registry.register("collector_receive_errors", "Receive calls that failed", self.receive_errors.clone());
        registry.register(
            "collector_receive_buffer_bytes",
            "Receive buffer that the kernel granted",
            self.receive_buffer_bytes.clone(),
        );
    }
}

/// Sockets that are bound, so that datagrams queue up, but not read yet.
#[derive(Debug)]
pub struct Collector {
    listeners: Vec<Listener>,
}

impl Collector {
    /// Binds a socket for each listener of `settings`. What they receive goes to `journal`, stamped by `clock`; the number
    /// of a listener in the journal is its place in `settings.listen`.
    ///
    /// # Errors
    /// When there is no listener or an address cannot be read or bound.
    pub fn bind(
        settings: &Settings,
        journal: &Writer,
        clock: &SharedClock,
        metrics: &Metrics,
    ) -> Result<Self, CollectError> {
        if settings.listen.is_empty() || settings.listen.len() > usize::from(u16::MAX) {
            return Err(CollectError::Listeners { count: settings.listen.len() });
        }
        let bind = |(number, listen): (u16, &String)| {
            let socket = socket::bind(listen, address::parse(listen)?, settings.receive_buffer_bytes)?;
            Ok(Listener::new(number, socket, journal.clone(), Arc::clone(clock), metrics))
        };
        let listeners = (0..).zip(&settings.listen).map(bind).collect::<Result<_, _>>()?;
        Ok(Self { listeners })
    }

    /// The addresses that the listeners are bound to, with the ports that the system chose.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(Listener::address).collect()
    }

    /// Starts receiving.
    ///
    /// # Errors
    /// When a thread cannot be started; then none is left running.
    pub fn start(self) -> Result<Running, CollectError> {
        let mut running = Running { stop: Arc::default(), threads: Vec::new() };
        for mut listener in self.listeners {
            let stop = Arc::clone(&running.stop);
            let thread = thread::Builder::new().name("collect-udp".into()).spawn(move || listener.run(&stop));
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

    /// Appends what has arrived so far and closes the sockets; takes about a tenth of a second, under heavy traffic up to a
    /// second more.
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
