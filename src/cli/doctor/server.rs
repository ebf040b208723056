//! The counters of a running server, read from its `/metrics`. Knows HTTP just as far as that takes.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

/// How long connecting, and each read, may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is read, in bytes.
const LONGEST: u64 = 64 << 20;
/// What all names begin with.
const PREFIX: &str = "flowledger_";

/// Counters and gauges as they stood at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Figures(Vec<(String, String, i128)>);

/// Two figures that must be equal whenever nothing is under way.
pub(super) struct Identity {
    pub(super) check: &'static str,
    /// What is equal to what.
    pub(super) what: &'static str,
    /// Both; `None` where they cannot be compared.
    pub(super) sides: fn(&Figures) -> Option<(i128, i128)>,
}

/// What must hold on the way of a datagram.
pub(super) const IDENTITIES: [Identity; 5] = [
    Identity { check: "received", what: "received = not allowed + journalled + dropped", sides: Figures::received },
    Identity { check: "journalled", what: "journalled = read from the journal + damaged", sides: Figures::journalled },
    Identity { check: "dropped", what: "dropped = told by the journal", sides: Figures::dropped },
    Identity { check: "decoded", what: "read from the journal = decoded + refused", sides: Figures::decoded },
    Identity { check: "stored", what: "flows decoded = flows stored", sides: Figures::stored },
];

/// Where a server that listens on `address` is reached from this machine.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Asks the server at `address` for its figures.
pub(super) fn ask(address: SocketAddr) -> io::Result<Figures> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = format!("GET /metrics HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(LONGEST).read_to_string(&mut answer)?;
    let figures = answer.split_once("\r\n\r\n").map(|(_, body)| Figures::read(body)).unwrap_or_default();
    if figures.0.is_empty() {
        let first = answer.lines().next().unwrap_or_default();
        return Err(io::Error::other(format!("what answers is no Flowledger: {first:?}")));
    }
    Ok(figures)
}

impl Figures {
    pub(super) fn read(text: &str) -> Self {
        let figure = |line: &str| {
            let (series, value) = line.strip_prefix(PREFIX)?.rsplit_once(' ')?;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            Some((name.to_owned(), labels.to_owned(), value.parse().ok()?))
        };
        Self(text.lines().filter_map(figure).collect())
    }

    /// The sum of `name` over its labels, of those that hold `label`; `None` when there is no such figure at all.
    pub(super) fn sum(&self, name: &str, label: &str) -> Option<i128> {
        let values = self.0.iter().filter(|(known, labels, _)| known == name && labels.contains(label));
        values.map(|(_, _, value)| *value).reduce(i128::saturating_add)
    }

    /// The values of `name` by listener.
    pub(super) fn by_listener(&self, name: &str) -> Vec<(String, i128)> {
        let listener = |labels: &str| Some(labels.split_once("listener=\"")?.1.split_once('"')?.0.to_owned());
        let named = self.0.iter().filter(|(known, ..)| known == name);
        named.filter_map(|(_, labels, value)| Some((listener(labels)?, *value))).collect()
    }

    /// Datagrams and messages that were received, and those that were refused, journalled or dropped.
    pub(super) fn received(&self) -> Option<(i128, i128)> {
        // Over TCP connections are refused, not messages.
        let refused = self.sum("collector_not_allowed_total", "udp://").unwrap_or(0);
        let journalled = self.sum("journal_datagrams_total", "")?;
        let dropped = self.sum("journal_dropped_datagrams_total", "")?;
        let accounted = refused.saturating_add(journalled).saturating_add(dropped);
        Some((self.sum("collector_datagrams_total", "").unwrap_or(0), accounted))
    }

    /// Datagrams and messages that this process journalled, and those of them that were read or found damaged. `None` also
    /// while some wait to be stored, when the pipeline began anew, since it reads them twice, and when what was damaged may
    /// be of a former process.
    pub(super) fn journalled(&self) -> Option<(i128, i128)> {
        let earlier = self.sum("ingest_datagrams_of_earlier_starts_total", "")?;
        let damaged = self.sum("journal_corrupt_records_total", "")?;
        let read = self.sum("ingest_datagrams_total", "")?.saturating_sub(earlier);
        let figures = (self.sum("journal_datagrams_total", "")?, read.saturating_add(damaged));
        (self.at_rest()? && (earlier == 0 || damaged == 0)).then_some(figures)
    }

    /// Datagrams that the kernel or the journal dropped, and those of which the journal told; `None` also while it has no room
    /// to tell of some, while some wait to be stored, when the pipeline began anew, and when what the journal told was damaged.
    pub(super) fn dropped(&self) -> Option<(i128, i128)> {
        let by_kernel = self.sum("collector_kernel_drops_total", "").unwrap_or(0);
        let dropped = by_kernel.saturating_add(self.sum("journal_dropped_datagrams_total", "")?);
        let told = self.sum("ingest_datagrams_dropped_total", "")?;
        let all_told =
            self.sum("journal_untold_datagrams", "")? == 0 && self.sum("journal_corrupt_records_total", "")? == 0;
        (self.at_rest()? && all_told).then_some((dropped, told))
    }

    /// Datagrams read from the journal, and those that were decoded or refused.
    pub(super) fn decoded(&self) -> Option<(i128, i128)> {
        let refused = self.sum("ingest_rejected_total", "unit=\"datagrams\"").unwrap_or(0);
        let decoded = self.sum("ingest_datagrams_decoded_total", "")?;
        Some((self.sum("ingest_datagrams_total", "")?, decoded.saturating_add(refused)))
    }

    /// Flows decoded and flows stored; `None` also while some wait to be stored, and when the pipeline began anew, since what
    /// it had not stored is decoded twice.
    pub(super) fn stored(&self) -> Option<(i128, i128)> {
        let flows = (self.sum("ingest_flows_decoded_total", "")?, self.sum("ingest_flows_stored_total", "")?);
        self.at_rest()?.then_some(flows)
    }

    /// Whether all that was journalled is stored, by a pipeline that has begun and never began anew.
    fn at_rest(&self) -> Option<bool> {
        Some(self.sum("ingest_uninterrupted", "")? == 1 && self.sum("ingest_backlog_bytes", "")? == 0)
    }
}
