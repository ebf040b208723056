//! An exporter of which every flow must be accounted for, whatever happens to the server while it sends.
//!
//! It sends NetFlow v5, whose sequence numbers count flows. So whatever did not come through, be it that no socket was open,
//! that the receive buffer was full, or that the server was killed with datagrams read and not yet journalled, leaves a gap
//! that the next datagram tells to the flow. A gap that goes over several restarts is told once, by the datagram that ends it.

use super::faults::Exporters;
use super::postgres::query;
use super::server::TestServer;
use super::wait_for;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The last part of its address. No other exporter of a test may have it.
const ADDRESS: u8 = 77;
/// How long it pauses between two datagrams of 30 flows.
const PAUSE: Duration = Duration::from_millis(10);

/// The exporter at work, in a thread of its own.
pub struct Witness {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Exporters>,
}

/// What became of the flows of a witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    pub sent: u64,
    /// As rows in the database.
    pub stored: u64,
    /// As lost, in the stamp of an answer.
    pub told: u64,
}

impl Witness {
    /// Begins to send to a server that is at work and commits to the database at `url`. What is lost before the first
    /// datagram is heard nobody can know; so some are stored first.
    pub fn begin(server: &TestServer, url: &str) -> Self {
        let mut exporters = Exporters::new(ADDRESS, 1, server.collector());
        exporters.send(3);
        wait_for("the witness to be heard", 60, || (stored(url) == exporters.flows).then_some(()));
        let ended = Arc::new(AtomicBool::new(false));
        let own_end = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            while !own_end.load(Ordering::Acquire) {
                exporters.send(1);
                std::thread::sleep(PAUSE);
            }
            exporters
        });
        Self { ended, thread }
    }

    /// Stops sending and checks that what was sent is what was stored and what was told to be lost, to the flow. The server
    /// must be at work and may be behind, for `patience` seconds.
    pub fn end(self, server: &TestServer, url: &str, patience: u64) -> Account {
        self.ended.store(true, Ordering::Release);
        let mut exporters = self.thread.join().unwrap();
        let begun = Instant::now();
        let mut known = 0;
        while begun.elapsed() < Duration::from_secs(patience) {
            // A gap ends with the next datagram that comes through. This one may be dropped, too, while much else comes in.
            exporters.send(1);
            let asked = Instant::now();
            while asked.elapsed() < Duration::from_secs(3) {
                known = noted(url);
                assert!(known <= exporters.flows, "{known} of {} flows\n{}", exporters.flows, server.log());
                if known == exporters.flows {
                    let account = Account { sent: exporters.flows, stored: stored(url), told: told(server) };
                    assert_eq!(account.stored + account.told, account.sent, "{account:?}\n{}", server.log());
                    return account;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        panic!("{known} of {} flows of the witness are stored or told\n{}", exporters.flows, server.log());
    }
}

/// How many of its flows are noted as stored or as lost. This costs little however many flows of others there are, while
/// counting them, or asking for an answer, may take longer than flows take to be stored.
fn noted(url: &str) -> u64 {
    let own = format!("exporter_id IN (SELECT exporter_id FROM exporters WHERE address = '127.0.0.{ADDRESS}')");
    let statement = format!(
        "SELECT ((SELECT coalesce(sum(flows), 0) FROM exporter_activity WHERE {own}) + \
         (SELECT coalesce(sum(count), 0) FROM loss WHERE {own} AND cause = 'network' AND unit = 'flows'))::text"
    );
    query(url, &statement)[0][0].as_deref().unwrap().parse().unwrap()
}

/// How many of its flows are stored.
fn stored(url: &str) -> u64 {
    let statement = format!(
        "SELECT count(*)::text FROM flows WHERE exporter_id IN (SELECT exporter_id FROM exporters WHERE address = '127.0.0.{ADDRESS}')"
    );
    query(url, &statement)[0][0].as_deref().unwrap().parse().unwrap()
}

/// How many of its flows an answer tells to be lost.
fn told(server: &TestServer) -> u64 {
    let stamp = server.json("/api/v1/top?by=protocol&limit=1&last=24h")["completeness"].clone();
    let address = format!("127.0.0.{ADDRESS}");
    let exporters = stamp["exporters"].as_array().unwrap();
    let own = exporters.iter().filter(|exporter| exporter["address"] == address.as_str());
    let lost = own.flat_map(|exporter| exporter["lost"].as_array().unwrap());
    // It sends nothing that can be refused, and the kernel does not know whose datagrams it drops.
    let in_flows = lost.filter(|loss| loss["cause"] == "network" && loss["unit"] == "flows");
    in_flows.map(|loss| loss["count"].as_u64().unwrap()).sum()
}
