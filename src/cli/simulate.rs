//! `flowledger simulate`: a reproducible exporter, for trying out and for tests.
//!
//! Sends realistic flows over UDP as NetFlow v5, v9 or IPFIX and prints what it sent as JSON, to be compared with what the
//! server answers.

mod format;
mod socket;
mod stream;
mod traffic;

#[cfg(test)]
mod tests;

pub use format::Protocol;
pub use stream::{Datagram, Download, Plan, Stream, Totals};

use crate::clock::{Clock, SystemClock};
use socket::Sender;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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
fn senders(arguments: &Arguments) -> Result<Vec<Sender>, SimulateError> {
    let to = arguments.to;
    let open = |number: u32| {
        let from = match to.ip() {
            IpAddr::V4(address) if address.is_loopback() => {
                IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + number))
            }
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        Sender::open((from, 0).into(), to).map_err(|source| SimulateError::Open { from, to, source })
    };
    (0..arguments.exporters.max(1)).map(open).collect()
}

/// Sends all datagrams at the wanted rate and returns how often the other side refused one because nobody listened.
fn send(arguments: &Arguments, stream: &mut Stream, began: Instant) -> Result<u64, SimulateError> {
    let mut senders = senders(arguments)?;
    let mut flows = 0u64;
    let failed = |source, flows| SimulateError::Send { to: arguments.to, flows, source };
    let mut done = false;
    while !done {
        let due = if arguments.rate == 0 {
            u64::MAX
        } else {
            let due = Duration::from_secs_f64(flows as f64 / arguments.rate as f64);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
            (began.elapsed().as_secs_f64() * arguments.rate as f64) as u64
        };
        // What is due by now leaves together; the clock is read once for all of it.
        let now = SystemClock.now();
        for _ in 0..GATHER {
            let Some(datagram) = stream.next(now) else {
                done = true;
                break;
            };
            let Some(sender) = senders.get_mut(datagram.exporter) else { continue };
            flows += datagram.flows as u64;
            sender.push(datagram.bytes).map_err(|source| failed(source, flows))?;
            if flows > due {
                break;
            }
        }
        for sender in &mut senders {
            sender.flush().map_err(|source| failed(source, flows))?;
        }
    }
    Ok(senders.iter().map(|sender| sender.refused).sum())
}

/// How many datagrams leave together at most when the sender is behind its rate.
const GATHER: usize = 40;
