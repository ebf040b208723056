//! What can go wrong before datagrams are received, told to the person who runs the collector.

use super::address::Endpoint;
use std::io;
use std::path::PathBuf;

/// Why the collector cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// No listener, or too many.
    #[error("[collector] listen has {count} entries, but must have 1 to 65535, such as \"udp://0.0.0.0:2055\"")]
    Listeners {
        /// How many there are.
        count: usize,
    },
    /// A listener's address cannot be read.
    #[error(
        "[collector] listen: \"{listen}\" {problem}; write udp://ADDRESS:PORT, such as udp://0.0.0.0:2055 or udp://[::]:2055, \
         or tcp:// or tls:// for streams of IPFIX"
    )]
    Address {
        /// The address as configured.
        listen: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A number is out of its range.
    #[error("[collector] {key} is {value}, but must be {range}")]
    Range {
        /// Which setting.
        key: &'static str,
        /// Its value.
        value: u64,
        /// What it must be.
        range: &'static str,
    },
    /// A `tls://` listener lacks a setting.
    #[error("[collector.tls] {key} is not set, but a tls:// listener needs it: name a PEM file")]
    TlsMissing {
        /// Which setting.
        key: &'static str,
    },
    /// A file for TLS is of no use.
    #[error("[collector.tls] {key}: the file {path} {problem}")]
    Tls {
        /// The setting that names the file.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The socket cannot be bound or set up.
    #[error("[collector] cannot listen on {endpoint}: {source}; {hint}")]
    Bind {
        /// The address.
        endpoint: Endpoint,
        /// The operating system's answer.
        source: io::Error,
        /// What to do about it.
        hint: &'static str,
    },
    /// `LISTEN_FDS` makes no sense.
    #[error(
        "LISTEN_FDS is \"{value}\", but must be the number of sockets handed over, 0 to 1024; the service manager sets it"
    )]
    ListenFds {
        /// Its value.
        value: String,
    },
    /// A descriptor that was handed over cannot be used.
    #[error("the socket handed over as descriptor {descriptor} cannot be used: {source}; check the .socket unit")]
    Inherited {
        /// The descriptor.
        descriptor: i32,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A descriptor that was handed over is of a kind that no listener has.
    #[error(
        "the socket handed over as descriptor {descriptor} is none that listens on UDP or TCP; \
         let the .socket unit have ListenDatagram= or ListenStream= with an address and port, and Accept=no"
    )]
    InheritedKind {
        /// The descriptor.
        descriptor: i32,
    },
    /// A socket was handed over that nobody listens to.
    #[error(
        "the socket {socket} was handed over, but no entry of [collector] listen is the same; \
         add it there, written exactly so (or tls:// for tcp://), or take it out of the .socket unit"
    )]
    Unclaimed {
        /// Its kind and address.
        socket: String,
    },
    /// A thread cannot be started.
    #[error("[collector] cannot start a receiving thread: {source}; check the limits on processes and memory")]
    Thread {
        /// The operating system's answer.
        source: io::Error,
    },
}

impl CollectError {
    pub(super) fn bind(endpoint: Endpoint) -> impl Fn(io::Error) -> Self {
        move |source| {
            let hint = match source.kind() {
                io::ErrorKind::AddrInUse => {
                    "another program, perhaps another collector, has this port: stop it or choose another port"
                }
                io::ErrorKind::AddrNotAvailable => {
                    "this machine does not have that address: choose one that `ip address` shows"
                }
                io::ErrorKind::PermissionDenied => "ports below 1024 need root or the capability CAP_NET_BIND_SERVICE",
                _ => "check the address and that the kernel supports it",
            };
            Self::Bind { endpoint, source, hint }
        }
    }
}
