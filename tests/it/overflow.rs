//! A receive buffer that overflows: the kernel's drops are counted to the unit, and every answer for that hour says so.

use crate::support::faults::{Exporters, Tally};
use crate::support::server::TestServer;
use crate::support::wait_for;
use flowledger::clock::{Clock, HOUR, SystemClock};
use std::time::Duration;

#[test]
fn what_a_tiny_receive_buffer_drops_is_counted_to_the_unit_and_told_in_the_answer() {
    // One byte is the least that can be asked for; the kernel grants some more.
    for buffer in ["1", "65536"] {
        let settings = [("INGEST__COMMIT_INTERVAL_MS", "50"), ("COLLECTOR__RECEIVE_BUFFER_BYTES", buffer)];
        let server = TestServer::with(&settings);
        server.database.as_ref().unwrap().record_for_three_days();
        let hour = SystemClock.now().hour();
        let mut exporters = Exporters::new(1, 2, server.collector());
        // Nobody knows of what is lost before the first datagram that is heard.
        for heard in 1..=2 {
            exporters.send(1);
            wait_for("each exporter to be heard", 20, || (Tally::of(&server).received == heard).then_some(()));
        }
        // The server stands still while they send, and works while they send, by turns.
        for _ in 0..3 {
            server.signal("STOP");
            exporters.send(300);
            server.signal("CONT");
            exporters.send(300);
        }
        // Each exporter is heard once more, so that all gaps are known.
        let received = || Tally::of(&server).received;
        for _ in 0..40 {
            // What still comes in of the others must not be taken for these two.
            std::thread::sleep(Duration::from_millis(60));
            let before = received();
            exporters.send(2);
            std::thread::sleep(Duration::from_millis(60));
            if received() == before + 2 {
                break;
            }
        }
        let tally = Tally::settled(&server, exporters.datagrams);
        assert!(tally.kernel_drops > 500 && tally.journal_dropped == 0, "{tally:?}");
        let until = SystemClock.now().hour().plus(HOUR);
        let stamp = wait_for("the drops to be told", 20, || {
            let path = format!("/api/v1/top?by=src_ip&limit=1&from={hour}&to={until}");
            let stamp = server.json(&path)["completeness"].clone();
            let lost = stamp["lost"].as_array().unwrap().clone();
            let count =
                |cause: &str| lost.iter().find(|it| it["cause"] == cause).map_or(0, |it| it["count"].as_u64().unwrap());
            let told = count("kernel") == tally.kernel_drops && count("network") + tally.stored == exporters.flows;
            told.then_some(stamp)
        });
        assert_eq!(stamp["exact"], false, "{stamp}");
        let before = format!("/api/v1/top?by=src_ip&limit=1&from={}&to={hour}", hour.plus(-HOUR));
        assert_eq!(server.json(&before)["completeness"]["exact"], true);
    }
}
