//! `flowledger simulate`: a reproducible exporter, for trying out and for tests.
//!
//! Sends realistic flows over UDP as NetFlow v5, v9 or IPFIX and prints what it sent as JSON, to be compared with what the
//! server answers. Plain `send` on a connected socket is enough: it was measured at 190,000 datagrams of 1,400 bytes a
//! second of CPU time on loopback, 5 million flows a second, so there is no `sendmmsg` and nothing unsafe here.

mod format;
mod stream;
mod traffic;

#[cfg(test)]
mod tests;

pub use format::Protocol;
pub use stream::{Datagram, Download, Plan, Stream, Totals};

use crate::clock::{Clock, SystemClock};
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// The command's arguments.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Where to send: the address of a collector.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:2055")]
    pub to: SocketAddr,
    /// The export format.
    #[arg(long, value_enum, default_value_t = Protocol::V9)]
    pub protocol: Protocol,
    /// Flows a second; 0 is as fast as possible.
    #[arg(long, default_value_t = 1_000)]
    pub rate: u64,
    /// How many flows to send; 0 is without end.
    #[arg(long, default_value_t = 100_000)]
    pub count: u64,
    /// The same seed gives the same flows.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Local hosts, in 192.168.0.0/16.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(traffic::MAX_LOCAL_HOSTS)))]
    pub hosts: u32,
    /// Exporters that send in turn. To a loopback address each sends from its own (127.0.0.1, 127.0.0.2, ...).
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=250))]
    pub exporters: u32,
    /// After how many datagrams of an exporter its template is sent again; 0 sends it once.
    #[arg(long, default_value_t = 256)]
    pub template_every: u32,
    /// Print the datagrams in hexadecimal, a line each, instead of sending them.
    #[arg(long)]
    pub print_only: bool,
}

impl Arguments {
    /// What is to be simulated.
    pub fn plan(&self) -> Plan {
        Plan {
            protocol: self.protocol,
            seed: self.seed,
            hosts: self.hosts,
            exporters: self.exporters,
            count: (self.count > 0).then_some(self.count),
            template_every: self.template_every,
        }
    }
}

/// Why a simulation ended early.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// A socket could not be opened.
    #[error(
        "cannot send from {from} to {to}: {source}. Check the address, and for many exporters that 127.0.0.0/8 is local."
    )]
    Open {
        /// The local address.
        from: IpAddr,
        /// The collector.
        to: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Sending failed.
    #[error("cannot send to {to} after {flows} flows: {source}.")]
    Send {
        /// The collector.
        to: SocketAddr,
        /// How many flows were sent before.
        flows: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The result could not be written.
    #[error("cannot write the result: {0}.")]
    Output(#[from] io::Error),
}

/// Sends the flows and writes what was sent to `out`, as one JSON object.
///
/// # Errors
/// When a socket cannot be opened, sending fails for good, or `out` cannot be written.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<Totals, SimulateError> {
    let mut stream = Stream::new(arguments.plan());
    let began = Instant::now();
    let refused = if arguments.print_only {
        print(&mut stream, out)?;
        0
    } else {
        send(arguments, &mut stream, began)?
    };
    let totals = stream.totals();
    let seconds = began.elapsed().as_secs_f64();
    let top: Vec<_> = totals.downloads.iter().take(3).collect();
    let top: Vec<_> = top
        .into_iter()
        .map(|host| {
            let Download { host, bytes, packets, flows } = host;
            serde_json::json!({ "host": host, "bytes": bytes, "packets": packets, "flows": flows })
        })
        .collect();
    let result = serde_json::json!({
        "protocol": arguments.protocol.name(),
        "seed": arguments.seed,
        "datagrams": totals.datagrams,
        "template_datagrams": totals.templates,
        "flows": totals.flows,
        "packets": totals.packets,
        "bytes": totals.bytes,
        "refused_datagrams": refused,
        "seconds": (seconds * 1_000.0).round() / 1_000.0,
        "top_downloads": top,
    });
    writeln!(out, "{result:#}")?;
    out.flush()?;
    Ok(totals)
}

fn print(stream: &mut Stream, out: &mut impl Write) -> io::Result<()> {
    while let Some(datagram) = stream.next(SystemClock.now()) {
        for byte in datagram.bytes {
            write!(out, "{byte:02x}")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// The socket of each exporter.
fn sockets(arguments: &Arguments) -> Result<Vec<UdpSocket>, SimulateError> {
    let to = arguments.to;
    let open = |number: u32| {
        let from = match to.ip() {
            IpAddr::V4(address) if address.is_loopback() => {
                IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + number))
            }
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((from, 0)).and_then(|socket| socket.connect(to).map(|()| socket));
        socket.map_err(|source| SimulateError::Open { from, to, source })
    };
    (0..arguments.exporters.max(1)).map(open).collect()
}

/// Sends all datagrams at the wanted rate and returns how often the other side refused one because nobody listened.
fn send(arguments: &Arguments, stream: &mut Stream, began: Instant) -> Result<u64, SimulateError> {
    let sockets = sockets(arguments)?;
    let (mut flows, mut refused) = (0u64, 0u64);
    loop {
        if arguments.rate > 0 {
            let due = Duration::from_secs_f64(flows as f64 / arguments.rate as f64);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        let Some(datagram) = stream.next(SystemClock.now()) else { return Ok(refused) };
        let Some(socket) = sockets.get(datagram.exporter) else { return Ok(refused) };
        loop {
            match socket.send(datagram.bytes) {
                Ok(_) => break,
                // Told about an earlier datagram; this one has not been sent yet.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => refused += 1,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(NO_BUFFERS) => std::thread::sleep(Duration::from_millis(1)),
                Err(source) => return Err(SimulateError::Send { to: arguments.to, flows, source }),
            }
        }
        flows += datagram.flows as u64;
    }
}

/// Linux's ENOBUFS: the interface's queue is full for a moment.
const NO_BUFFERS: i32 = 105;
