//! `flowledger simulate`: a reproducible exporter, for trying out and for tests.
//!
//! Sends realistic flows as NetFlow v1, v5, v7, v9, IPFIX or sFlow over UDP, or as IPFIX over TCP or TLS, and prints what it
//! sent as JSON, to be compared with what the server answers.

mod connection;
mod error;
mod format;
mod sflow;
mod socket;
mod stream;
mod target;
mod traffic;

#[cfg(test)]
mod tests;

pub use connection::Files;
pub use error::SimulateError;
pub use format::Protocol;
pub use stream::{Datagram, Download, Plan, Stream, Totals};
pub use target::{Target, TargetError};

use super::say;
use crate::clock::{Clock, SystemClock};
use crate::collect::Scheme;
use connection::{Connection, Encryption};
use socket::Sender;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

/// The command's arguments.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// The collector: HOST:PORT or udp://HOST:PORT; IPFIX also goes to tcp://HOST:PORT and tls://HOST:PORT.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2055")]
    pub to: Target,
    /// The export format [default: v9; to tcp:// and tls:// ipfix].
    #[arg(long, value_enum)]
    pub protocol: Option<Protocol>,
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
    /// After how many datagrams of an exporter its template is sent again; 0, and every connection, sends it once.
    #[arg(long, default_value_t = 256)]
    pub template_every: u32,
    /// For sflow: out of how many packets one is sampled [default: 1000].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub sampling: Option<u32>,
    /// For `tls://`.
    #[command(flatten)]
    pub files: Files,
    /// Print the datagrams in hexadecimal, a line each, instead of sending them.
    #[arg(long)]
    pub print_only: bool,
}

/// Out of how many packets one is sampled unless it is said.
const SAMPLING_INTERVAL: u32 = 1_000;

impl Arguments {
    /// What is to be simulated.
    ///
    /// # Errors
    /// For arguments that do not go together.
    pub fn plan(&self) -> Result<Plan, SimulateError> {
        let stream = self.to.is_stream();
        let protocol = self.protocol.unwrap_or(if stream { Protocol::Ipfix } else { Protocol::default() });
        if stream && protocol != Protocol::Ipfix {
            return Err(SimulateError::Combination { protocol, to: self.to.clone() });
        }
        if self.sampling.is_some() && protocol != Protocol::Sflow {
            return Err(SimulateError::Option { option: "--sampling", wanted: "--protocol sflow" });
        }
        if self.to.scheme != Scheme::Tls && self.files != Files::default() {
            let option = if self.files.ca.is_some() { "--ca" } else { "--certificate" };
            return Err(SimulateError::Option { option, wanted: "--to tls://HOST:PORT" });
        }
        Ok(Plan {
            protocol,
            seed: self.seed,
            hosts: self.hosts,
            exporters: self.exporters,
            count: (self.count > 0).then_some(self.count),
            template_every: if stream { 0 } else { self.template_every },
            sampling_interval: self.sampling.unwrap_or(SAMPLING_INTERVAL),
        })
    }
}

/// Sends the flows and writes what was sent to `out`, as one JSON object.
///
/// # Errors
/// When arguments do not go together, a socket cannot be opened, sending fails for good, or `out` cannot be written.
pub fn run(arguments: &Arguments, out: &mut impl Write) -> Result<Totals, SimulateError> {
    let plan = arguments.plan()?;
    let mut stream = Stream::new(plan);
    let began = Instant::now();
    let refused = if arguments.print_only {
        print(&mut stream, out)?;
        0
    } else {
        if let Some(seconds) = arguments.count.checked_div(arguments.rate).filter(|seconds| *seconds > 0) {
            say(format_args!("sending {} flows in {seconds} s; --rate 0 sends as fast as it can", arguments.count));
        }
        send(arguments, &mut stream, began)?
    };
    let totals = stream.totals();
    let seconds = began.elapsed().as_secs_f64();
    let sampled = (plan.protocol == Protocol::Sflow).then_some(plan.sampling_interval);
    // What the server makes of samples stands beside what was sampled.
    let counted = |bytes: u64, packets: u64, flows: u64| {
        let mut counts = serde_json::Map::new();
        for (name, count) in [("bytes", bytes), ("packets", packets), ("flows", flows)] {
            counts.insert(name.to_owned(), count.into());
        }
        if let Some(interval) = sampled.map(u64::from) {
            counts.insert("scaled_bytes".to_owned(), bytes.saturating_mul(interval).into());
            counts.insert("scaled_packets".to_owned(), packets.saturating_mul(interval).into());
        }
        counts
    };
    let top = totals.downloads.iter().take(3).map(|&Download { host, bytes, packets, flows }| {
        let mut counts = counted(bytes, packets, flows);
        counts.insert("host".to_owned(), host.to_string().into());
        counts
    });
    let mut result = serde_json::json!({
        "protocol": plan.protocol.name(),
        "transport": arguments.to.scheme.name(),
        "seed": arguments.seed,
        "datagrams": totals.datagrams,
        "template_datagrams": totals.templates,
        "sampling_interval": sampled,
        "refused_datagrams": refused,
        "seconds": (seconds * 1_000.0).round() / 1_000.0,
        "top_downloads": top.collect::<Vec<_>>(),
    });
    if let Some(result) = result.as_object_mut() {
        result.append(&mut counted(totals.bytes, totals.packets, totals.flows));
    }
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

/// How an exporter's datagrams or messages leave.
#[derive(Debug)]
enum Outlet {
    Datagrams(Sender),
    Stream(Connection),
}

impl Outlet {
    /// Takes a datagram or message along with those gathered.
    fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Datagrams(sender) => sender.push(bytes),
            Self::Stream(connection) => connection.push(bytes),
        }
    }

    /// Sends what is gathered.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Datagrams(sender) => sender.flush(),
            Self::Stream(connection) => connection.flush(),
        }
    }

    /// Ends it, and returns how many datagrams the other side refused because nobody listened.
    fn close(self) -> io::Result<u64> {
        match self {
            Self::Datagrams(sender) => Ok(sender.refused),
            Self::Stream(connection) => connection.close().map(|()| 0),
        }
    }
}

/// The outlet of each exporter.
fn outlets(arguments: &Arguments) -> Result<Vec<Outlet>, SimulateError> {
    let target = &arguments.to;
    let encryption = match target.scheme {
        Scheme::Tls => Some(Encryption::load(&arguments.files, target)?),
        Scheme::Udp | Scheme::Tcp => None,
    };
    let to = target.resolve().map_err(|source| SimulateError::Resolve { to: target.clone(), source })?;
    let open = |number: u32| {
        let from = match to.ip() {
            IpAddr::V4(address) if address.is_loopback() => {
                IpAddr::V4(Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + number))
            }
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        if target.is_stream() {
            let connection = Connection::open(from, to, encryption.as_ref());
            connection.map(Outlet::Stream).map_err(|source| SimulateError::Connect { to: target.clone(), source })
        } else {
            let sender = Sender::open((from, 0).into(), to);
            sender.map(Outlet::Datagrams).map_err(|source| SimulateError::Open { from, to, source })
        }
    };
    (0..arguments.exporters.max(1)).map(open).collect()
}

/// Sends all datagrams at the wanted rate and returns how often the other side refused one because nobody listened.
fn send(arguments: &Arguments, stream: &mut Stream, began: Instant) -> Result<u64, SimulateError> {
    let mut outlets = outlets(arguments)?;
    let mut flows = 0u64;
    let advice = match arguments.to.scheme {
        Scheme::Udp => "",
        Scheme::Tcp => " Look into the collector's log.",
        Scheme::Tls if arguments.files.certificate.is_none() => {
            " If the collector wants certificates of exporters, give --certificate and --key."
        }
        Scheme::Tls => " Check that the collector's authorities vouch for --certificate.",
    };
    let failed = |source, flows| SimulateError::Send { to: arguments.to.clone(), flows, source, advice };
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
            let Some(outlet) = outlets.get_mut(datagram.exporter) else { continue };
            flows += datagram.flows as u64;
            outlet.push(datagram.bytes).map_err(|source| failed(source, flows))?;
            if flows > due {
                break;
            }
        }
        for outlet in &mut outlets {
            outlet.flush().map_err(|source| failed(source, flows))?;
        }
    }
    let mut refused = 0;
    for outlet in outlets {
        refused += outlet.close().map_err(|source| failed(source, flows))?;
    }
    Ok(refused)
}

/// How many datagrams leave together at most when the sender is behind its rate.
const GATHER: usize = 40;
