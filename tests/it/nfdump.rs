//! The same numbers as nfdump: real exporters replay a capture, each datagram goes to Flowledger and to `nfcapd`, and the
//! three founding questions must agree row by row.

use crate::support::server::TestServer;
use crate::support::{captures, pcap, wait_for};
use serde_json::Value;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// An exporter that reads a capture file and sends to a port.
#[derive(Clone, Copy, Debug)]
enum Exporter {
    Softflowd(&'static str),
    Nfprobe(&'static str),
}

impl Exporter {
    /// Replays the whole capture and returns when everything has been sent.
    fn replay(self, capture: &Path, port: u16, folder: &Path) {
        match self {
            Self::Softflowd(version) => {
                let status = Command::new("softflowd")
                    .args(["-r", capture.to_str().unwrap(), "-n", &format!("127.0.0.1:{port}")])
                    .args(["-v", version, "-a", "-d", "-c", "none"])
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .status()
                    .expect("softflowd is needed: apt-get install softflowd");
                assert!(status.success(), "softflowd ended with {status}");
            }
            Self::Nfprobe(version) => {
                let configuration = folder.join("pmacctd.conf");
                let text = format!(
                    "daemonize: false\npcap_savefile: {}\nplugins: nfprobe\nnfprobe_receiver: 127.0.0.1:{port}\n\
                     nfprobe_version: {version}\naggregate: src_host, dst_host, src_port, dst_port, proto, tos\n",
                    capture.display()
                );
                std::fs::write(&configuration, text).unwrap();
                let log = folder.join("pmacctd.log");
                let mut child = Command::new("pmacctd")
                    .args(["-f", configuration.to_str().unwrap()])
                    .stdout(std::fs::File::create(&log).unwrap())
                    .stderr(Stdio::null())
                    .spawn()
                    .expect("pmacctd is needed: apt-get install pmacct");
                // It sends what it holds when it ends, which it does by itself at the end of the capture.
                wait_for("pmacctd to end", 30, || child.try_wait().unwrap());
            }
        }
    }
}

/// Passes each datagram on to two receivers, at a pace that both can follow.
struct FanOut {
    port: u16,
    passed: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl FanOut {
    fn start(to: [SocketAddr; 2]) -> Self {
        let inlet = UdpSocket::bind("127.0.0.1:0").unwrap();
        let outlet = UdpSocket::bind("127.0.0.1:0").unwrap();
        inlet.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let port = inlet.local_addr().unwrap().port();
        let (passed, ended) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (own_passed, own_end) = (Arc::clone(&passed), Arc::clone(&ended));
        let (sender, queue) = std::sync::mpsc::channel::<Vec<u8>>();
        // Receiving never waits for sending: the exporters send all they have at once.
        let thread = std::thread::spawn(move || {
            let pass = std::thread::spawn(move || {
                for datagram in queue {
                    for target in to {
                        outlet.send_to(&datagram, target).unwrap();
                    }
                    own_passed.fetch_add(1, Ordering::AcqRel);
                    std::thread::sleep(Duration::from_micros(300));
                }
            });
            let mut buffer = vec![0; 65_536];
            while !own_end.load(Ordering::Acquire) {
                if let Ok((length, _)) = inlet.recv_from(&mut buffer) {
                    sender.send(buffer[..length].to_vec()).unwrap();
                }
            }
            drop(sender);
            pass.join().unwrap();
        });
        Self { port, passed, ended, thread: Some(thread) }
    }

    /// Waits until everything has been passed on and gives the number of datagrams.
    fn end(mut self) -> u64 {
        std::thread::sleep(Duration::from_millis(300));
        self.ended.store(true, Ordering::Release);
        self.thread.take().unwrap().join().unwrap();
        self.passed.load(Ordering::Acquire)
    }
}

/// A real `nfcapd` that writes into a folder.
pub struct Nfcapd {
    process: Child,
    folder: PathBuf,
    pub address: SocketAddr,
}

impl Nfcapd {
    fn start(folder: &Path) -> Self {
        Self::with(folder, &[])
    }

    /// The same with further arguments; empty ones do not count.
    pub fn with(folder: &Path, arguments: &[&str]) -> Self {
        let folder = folder.join("nfcapd");
        std::fs::create_dir(&folder).unwrap();
        // It cannot be asked which port it took, so a free one is looked for first.
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Command::new("nfcapd")
            .args(["-l", folder.to_str().unwrap(), "-p", &address.port().to_string(), "-b", "127.0.0.1"])
            .args(["-B", "8000000"])
            .args(arguments.iter().filter(|argument| !argument.is_empty()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nfcapd is needed: apt-get install nfdump");
        let socket = format!(":{:04X} ", address.port());
        wait_for("nfcapd to listen", 10, || {
            std::fs::read_to_string("/proc/net/udp").unwrap().contains(&socket).then_some(())
        });
        Self { process, folder, address }
    }

    /// Ends the collector, which then writes its file.
    pub fn end(mut self) -> PathBuf {
        let killed = Command::new("kill").arg(self.process.id().to_string()).status().unwrap();
        assert!(killed.success());
        self.process.wait().unwrap();
        self.folder.clone()
    }
}

/// A row: address, bytes, packets, flows.
pub type Row = (std::net::IpAddr, u64, u64, u64);

/// All rows of `nfdump -s ELEMENT/bytes`, in our order: bytes descending, then address ascending. nfdump leaves open the
/// order of equal rows.
pub fn nfdump(archive: &Path, element: &str, filter: Option<&str>, limit: usize) -> Vec<Row> {
    let program = std::env::var("FLOWLEDGER_NFDUMP").unwrap_or_else(|_| "nfdump".to_owned());
    let output = Command::new(program)
        .args(["-R", archive.to_str().unwrap(), "-s", &format!("{element}/bytes"), "-n", "0", "-o", "csv"])
        .args(filter)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut lines = text.lines().skip_while(|line| !line.starts_with("ts,"));
    let head: Vec<_> = lines.next().unwrap_or_else(|| panic!("no table in {text}")).split(',').collect();
    let column = |names: &[&str]| head.iter().position(|name| names.contains(name)).unwrap();
    let (value, bytes, packets, flows) =
        (column(&["val"]), column(&["byt", "ibyt"]), column(&["pkt", "ipkt"]), column(&["fl"]));
    let mut rows: Vec<Row> = lines
        .take_while(|line| !line.is_empty())
        .map(|line| {
            let cells: Vec<_> = line.split(',').collect();
            let number = |index: usize| cells[index].parse().unwrap();
            (cells[value].parse().unwrap(), number(bytes), number(packets), number(flows))
        })
        .collect();
    rows.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    rows.truncate(limit);
    rows
}

pub fn rows(answer: &Value, key: &str) -> Vec<Row> {
    let number = |row: &Value, name: &str| row[name].as_u64().unwrap();
    answer["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            (
                row[key].as_str().unwrap().parse().unwrap(),
                number(row, "bytes"),
                number(row, "packets"),
                number(row, "flows"),
            )
        })
        .collect()
}

fn csv_rows(text: &str) -> Vec<Row> {
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("rank,dst_ip,bytes,packets,flows,first_seen,last_seen,share"));
    lines
        .map(|line| {
            let cells: Vec<_> = line.split(',').collect();
            (cells[1].parse().unwrap(), cells[2].parse().unwrap(), cells[3].parse().unwrap(), cells[4].parse().unwrap())
        })
        .collect()
}

/// Asks the three questions of both. `local` is the network of the local hosts; `fewest` is how many rows the first answer
/// must have at least to prove something.
fn compare(exporter: Exporter, capture: &Path, local: &str, fewest: usize) {
    let server = TestServer::start();
    let nfcapd = Nfcapd::start(server.folder());
    let fan_out = FanOut::start([server.collector(), nfcapd.address]);
    exporter.replay(capture, fan_out.port, server.folder());
    let datagrams = fan_out.end();
    assert!(datagrams > 0, "{exporter:?} sent nothing");
    wait_for("all datagrams to be decoded", 10, || {
        (server.metric("ingest_datagrams_total") == datagrams).then_some(())
    });
    let flows = server.metric("ingest_flows_decoded_total");
    server.wait_for_flows(flows);
    // nfcapd has no such counter; it gets the time that a busy machine may need.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(500) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let archive = nfcapd.end();

    let top = server.json("/api/v1/top?by=dst_ip&order=bytes&limit=10&last=1h");
    let expected = nfdump(&archive, "dstip", None, 10);
    assert!(expected.len() >= fewest, "the capture has too few hosts: {}", expected.len());
    assert_eq!(rows(&top, "dst_ip"), expected, "{exporter:?}: top 10 downloaders");

    let host = top["rows"][0]["dst_ip"].as_str().unwrap();
    let peers = server.json(&format!("/api/v1/hosts/{host}/peers?direction=download&limit=50&last=1h"));
    let filter = format!("dst ip {host}");
    assert_eq!(rows(&peers, "peer"), nfdump(&archive, "srcip", Some(&filter), 50), "{exporter:?}: servers of {host}");

    let filter = format!("dst net {local}");
    let path =
        format!("/api/v1/top?by=dstip&order=bytes&limit=100&last=1h&format=csv&filter={}", filter.replace(' ', "%20"));
    let (status, kind, csv) = server.fetch(&path);
    assert_eq!((status, kind.starts_with("text/csv")), (200, true), "{csv}");
    let expected = nfdump(&archive, "dstip", Some(&filter), 100);
    assert!(!expected.is_empty(), "the capture has no local hosts");
    assert_eq!(csv_rows(&csv), expected, "{exporter:?}: top 100 local downloaders as CSV");
}

/// A capture of our own, small enough that exporters that send all at once do not overrun a socket's queue.
fn own_capture() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    pcap::write(&folder.path().join("own.pcap"), 1_600, 3);
    folder
}

#[test]
fn softflowd_netflow_v5() {
    let folder = own_capture();
    compare(Exporter::Softflowd("5"), &folder.path().join("own.pcap"), pcap::LOCAL_NETWORK, 10);
}

#[test]
fn softflowd_netflow_v9() {
    let folder = own_capture();
    compare(Exporter::Softflowd("9"), &folder.path().join("own.pcap"), pcap::LOCAL_NETWORK, 10);
}

#[test]
fn softflowd_ipfix() {
    let folder = own_capture();
    compare(Exporter::Softflowd("10"), &folder.path().join("own.pcap"), pcap::LOCAL_NETWORK, 10);
}

#[test]
fn nfprobe_netflow_v9() {
    let folder = own_capture();
    compare(Exporter::Nfprobe("9"), &folder.path().join("own.pcap"), pcap::LOCAL_NETWORK, 10);
}

#[test]
fn nfprobe_ipfix() {
    let folder = own_capture();
    compare(Exporter::Nfprobe("10"), &folder.path().join("own.pcap"), pcap::LOCAL_NETWORK, 10);
}

#[test]
fn real_traffic_through_every_exporter() {
    let Some(captures) = captures() else { return };
    let capture = captures.join("tcpreplay/test/test.pcap");
    for exporter in [
        Exporter::Softflowd("5"),
        Exporter::Softflowd("9"),
        Exporter::Softflowd("10"),
        Exporter::Nfprobe("9"),
        Exporter::Nfprobe("10"),
    ] {
        compare(exporter, &capture, "0.0.0.0/0", 3);
    }
}
