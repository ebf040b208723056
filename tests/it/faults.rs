//! A server at work whose database is about to meet a fault, and what must hold when it is over: what was journalled is
//! stored, once, in its order; nothing was dropped; everything is accounted for; and nobody did anything to the server.

use crate::kills::{Keeper, journalled, postmaster, rounds, stored};
use crate::support::postgres::query;
use crate::support::server::TestServer;
use crate::support::{traffic, wait_for};
use flowledger::flow::segment::Totals;

/// How many flows a second come in, in most tests.
pub const RATE: u64 = 4_000;
/// Settings under which a server commits often.
pub const EAGER: [(&str, &str); 1] = [("INGEST__COMMIT_INTERVAL_MS", "50")];

/// A server, what it took in, and a stream that comes in.
pub struct Subject {
    pub server: TestServer,
    /// The database.
    pub url: String,
    keeper: Keeper,
    stream: traffic::Stream,
}

impl Subject {
    /// Lets `rate` flows a second come in, for some minutes at most, and waits until some are stored.
    pub fn begin(server: TestServer, url: String, rate: u64) -> Self {
        let keeper = Keeper::start(server.journal(), server.folder().join("kept"));
        let stream = traffic::begin(server.collector(), "v9", rate * rounds(180, 7_200), rate, 17);
        let subject = Self { server, url, keeper, stream };
        subject.goes_on();
        subject
    }

    /// The same with a database in the shared PostgreSQL.
    pub fn in_shared() -> Self {
        let server = TestServer::with(&EAGER);
        let url = server.database.as_ref().unwrap().url();
        Self::begin(server, url, RATE)
    }

    /// Waits until flows are stored that were not when it was called.
    pub fn goes_on(&self) {
        let stored = self.server.metric("ingest_flows_stored_total");
        wait_for("flows to be stored", 60, || (self.server.metric("ingest_flows_stored_total") > stored).then_some(()));
    }

    /// Waits until the journal has become so many bytes larger.
    pub fn piles_up(&self, bytes: u64) {
        let size = || self.server.metric("journal_size_bytes");
        let before = size();
        wait_for("the journal to grow", 60, || (size() > before + bytes).then_some(()));
    }

    /// Goes on for some seconds and checks that the journal takes what comes all the while.
    pub fn receives_for(&self, seconds: u64) {
        let begun = self.server.metric("journal_datagrams_total");
        for _ in 0..seconds {
            let before = self.server.metric("journal_datagrams_total");
            std::thread::sleep(std::time::Duration::from_secs(1));
            assert!(self.server.metric("journal_datagrams_total") > before, "nothing is received any more");
        }
        println!("{} datagrams were received", self.server.metric("journal_datagrams_total") - begun);
    }

    /// Waits for a line in the server's log that contains all of `words`.
    pub fn says(&self, words: &[&str]) -> String {
        let line =
            |log: String| log.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned);
        wait_for(&format!("{words:?} in the log"), 60, || line(self.server.log()))
    }

    /// Waits until `/readyz` answers `status`, and gives its body.
    pub fn readiness(&self, status: u16) -> String {
        wait_for(&format!("/readyz to answer {status}"), 60, || {
            let (answered, _, body) = self.server.fetch("/readyz");
            (answered == status).then_some(body)
        })
    }

    /// Ends the stream, waits until everything is stored, and checks what must hold. Returns what was stored.
    pub fn settle(mut self) -> Totals {
        self.stream.stop();
        wait_for("everything to be stored", 120, || {
            let settled = self.server.metric("ingest_backlog_bytes") == 0 && self.server.fetch("/readyz").0 == 200;
            settled.then_some(())
        });
        for dropped in ["collector_kernel_drops_total", "journal_dropped_datagrams_total"] {
            assert_eq!(self.server.metric(dropped), 0, "{dropped}\n{}", self.server.log());
        }
        let address = self.server.url("");
        let doctor = self.server.command(&["doctor", "--server", address.strip_prefix("http://").unwrap()]);
        let told = String::from_utf8(doctor.stdout).unwrap();
        // The shared PostgreSQL is not durable, and the doctor says so.
        let differs = |line: &&str| line.contains("DIFFERENCE") && !line.contains("durability");
        assert_eq!(told.lines().find(differs), None, "{told}");
        // A PostgreSQL of the server's own ends with it.
        let own = postmaster(self.server.folder()).map(|_| {
            in_order(&self.url);
            stored(&self.url)
        });
        self.server.terminate();
        let journalled = journalled(&self.keeper.end());
        let stored = own.unwrap_or_else(|| {
            in_order(&self.url);
            stored(&self.url)
        });
        assert!(journalled.flows > 1_000, "too little came through to prove anything: {journalled:?}");
        assert_eq!(stored, journalled);
        stored
    }
}

/// What came first was stored first: ids of segments are given out in the order of commits.
fn in_order(url: &str) {
    let before = "SELECT count(*) FROM (SELECT received_first, lag(received_first) OVER (ORDER BY segment_id) AS before \
                  FROM segment_headers) AS each WHERE received_first < before";
    assert_eq!(query(url, before)[0][0].as_deref(), Some("0"), "segments that are older than one stored before");
}
