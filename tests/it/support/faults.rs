//! What breaks a server from outside: a disk of little room, a tracer that makes calls fail, exporters that know to the unit
//! what they sent; and the sums that must come out all the same.
//!
//! Mounts and tracers need root and Debian packages. Where they are missing a test says so and passes, but not where `CI` is
//! true.

use super::server::TestServer;
use super::{skip, wait_for};
use flowledger::cli::simulate::{Plan, Protocol, Stream};
use flowledger::clock::{Clock, SystemClock};
use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// What is there, or `None` where it is missing and the test has to be skipped.
pub fn given<T>(what: Result<T, String>) -> Option<T> {
    match what {
        Ok(there) => Some(there),
        Err(why) => {
            skip(std::thread::current().name().unwrap_or_default(), &why);
            None
        }
    }
}

/// What to launch a server under so that the calls of one kind fail as `fault` says, such as `error=EIO:when=3`. The kernel
/// counts calls by thread. The server stays our own child.
pub fn failing(call: &str, fault: &str) -> Result<Vec<String>, String> {
    failing_and_traced(call, fault, Path::new("/dev/null"))
}

/// The same, with all calls of the kind and the files that they concern written to `trace`.
pub fn failing_and_traced(call: &str, fault: &str, traced: &Path) -> Result<Vec<String>, String> {
    let tracer = Command::new("strace").arg("-V").stdout(Stdio::null()).status();
    if !tracer.is_ok_and(|status| status.success()) {
        return Err("strace is missing; install Debian's package strace".to_owned());
    }
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{fault}"));
    let traced = traced.display().to_string();
    let arguments = ["strace", "-D", "-f", "-y", "-qq", "--seccomp-bpf", "-o", &traced, "-e", &trace, "-e", &inject];
    Ok(arguments.map(str::to_owned).into())
}

/// A file system of a given size, in memory, unmounted at the end.
pub struct Disk {
    folder: TempDir,
}

impl Disk {
    pub fn mount(bytes: u64) -> Result<Self, String> {
        let folder = tempfile::Builder::new().prefix("flt-disk-").tempdir().unwrap();
        let size = format!("size={bytes}");
        let arguments = ["-t", "tmpfs", "-o", &size, "flowledger-test"];
        let output = Command::new("mount").args(arguments).arg(folder.path()).output().map_err(|it| it.to_string())?;
        if output.status.success() {
            Ok(Self { folder })
        } else {
            Err(format!("only root mounts: {}", String::from_utf8_lossy(&output.stderr).trim()))
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Somebody else's file of this size.
    pub fn occupy(&self, bytes: usize) -> PathBuf {
        let path = self.path().join("of-somebody-else");
        File::create(&path).unwrap().write_all(&vec![7; bytes]).unwrap();
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.folder.path()).status();
    }
}

/// Exporters in this process, at loopback addresses of their own, with what they sent.
pub struct Exporters {
    stream: Stream,
    sockets: Vec<UdpSocket>,
    to: SocketAddr,
    pub datagrams: u64,
    pub flows: u64,
}

impl Exporters {
    /// As many exporters, from the address 127.0.0.`first` on. NetFlow v5: each datagram but the last has 30 flows, which its
    /// sequence numbers count.
    pub fn new(first: u8, count: u8, to: SocketAddr) -> Self {
        Self::of(Protocol::V5, first, count, to)
    }

    /// The same with another protocol; templates come once.
    pub fn of(protocol: Protocol, first: u8, count: u8, to: SocketAddr) -> Self {
        let plan = Plan {
            protocol,
            seed: first.into(),
            hosts: 50,
            exporters: count.into(),
            count: None,
            template_every: 0,
            sampling_interval: 1,
        };
        let bind = |number| UdpSocket::bind((Ipv4Addr::new(127, 0, 0, number), 0)).unwrap();
        let sockets = (first..first + count).map(bind).collect();
        Self { stream: Stream::new(plan), sockets, to, datagrams: 0, flows: 0 }
    }

    /// Sends so many datagrams, by turns, some 15,000 a second.
    pub fn send(&mut self, datagrams: u64) {
        for number in 1..=datagrams {
            let datagram = self.stream.next(SystemClock.now()).unwrap();
            self.sockets[datagram.exporter].send_to(datagram.bytes, self.to).unwrap();
            self.datagrams += 1;
            self.flows += datagram.flows as u64;
            if number % 16 == 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// The sum of a metric in the text of `/metrics`, over all series with `label` among their labels.
pub fn summed(metrics: &str, name: &str, label: &str) -> u64 {
    let values = metrics.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (bare, labels) = series.split_once('{').unwrap_or((series, ""));
        (bare.strip_prefix("flowledger_") == Some(name) && labels.contains(label))
            .then(|| value.parse::<u64>().unwrap())
    });
    values.sum()
}

/// What a server counts, of one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Datagrams.
    pub kernel_drops: u64,
    pub received: u64,
    pub not_allowed: u64,
    pub journalled: u64,
    pub journal_dropped: u64,
    pub journal_corrupt: u64,
    pub read: u64,
    pub decoded: u64,
    pub refused: u64,
    /// Flows.
    pub records: u64,
    pub stored: u64,
}

impl Tally {
    pub fn of(server: &TestServer) -> Self {
        Self::read(&server.fetch("/metrics").2)
    }

    /// What the text of `/metrics` tells.
    pub fn read(metrics: &str) -> Self {
        let sum = |name: &str| summed(metrics, &format!("{name}_total"), "");
        Self {
            kernel_drops: sum("collector_kernel_drops"),
            received: sum("collector_datagrams"),
            // Of streams, connections are refused and not their messages.
            not_allowed: summed(metrics, "collector_not_allowed_total", "udp://"),
            journalled: sum("journal_datagrams"),
            journal_dropped: sum("journal_dropped_datagrams"),
            journal_corrupt: sum("journal_corrupt_records"),
            read: sum("ingest_datagrams"),
            decoded: sum("ingest_datagrams_decoded"),
            refused: sum("ingest_datagrams_refused"),
            records: sum("ingest_flows_decoded"),
            stored: sum("ingest_flows_stored"),
        }
    }

    /// The sums once all of `sent` datagrams are accounted for and everything is stored: sent = dropped by the kernel +
    /// received, received = not allowed + journalled + dropped by the journal, journalled = damaged + decoded + refused,
    /// records = stored.
    pub fn settled(server: &TestServer, sent: u64) -> Self {
        let mut last = Self::default();
        let balanced = || {
            last = Self::of(server);
            let balanced = sent == last.kernel_drops + last.received
                && last.received == last.not_allowed + last.journalled + last.journal_dropped
                && last.journalled == last.journal_corrupt + last.read
                && last.read == last.decoded + last.refused
                && last.records == last.stored;
            balanced.then_some(last)
        };
        let told = format!("{sent} datagrams to be accounted for");
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wait_for(&told, 60, balanced))) {
            Ok(settled) => settled,
            Err(_) => panic!("{told}: {last:?}"),
        }
    }
}
