//! A clock that jumps under a running server: an hour back, a week ahead, over a change to daylight saving time, past the
//! year 2038. No report twice and none left out, no flow lost, no day without its partition.
//!
//! Only the server's clock jumps, by libfaketime; that of the database goes on.

use crate::kills::stored;
use crate::support::faults::{Exporters, Tally, given};
use crate::support::server::TestServer;
use crate::support::wait_for;
use chrono::{DateTime, Utc};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A wall clock that can be set.
struct Clock {
    offset: PathBuf,
    library: PathBuf,
}

impl Clock {
    fn new(folder: &Path) -> Result<Self, String> {
        let missing = || "libfaketime is missing; install Debian's package faketime".to_owned();
        let libraries = std::fs::read_dir("/usr/lib").map_err(|error| error.to_string())?;
        let place = |entry: std::fs::DirEntry| entry.path().join("faketime/libfaketimeMT.so.1");
        let library = libraries.flatten().map(place).find(|path| path.exists()).ok_or_else(missing)?;
        Ok(Self { offset: folder.join("offset"), library })
    }

    /// What a server is launched under to go by this clock. Time that only passes goes on as it does.
    fn launcher(&self) -> Vec<String> {
        let preload = format!("LD_PRELOAD={}", self.library.display());
        let file = format!("FAKETIME_TIMESTAMP_FILE={}", self.offset.display());
        let rest = ["FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1"];
        [&["env", &preload, &file], &rest[..]].concat().into_iter().map(str::to_owned).collect()
    }

    /// Sets it to this moment, whence it goes on.
    fn set(&self, moment: &str) {
        let moment: DateTime<Utc> = DateTime::parse_from_rfc3339(moment).unwrap().into();
        let offset = (moment - Utc::now()).num_seconds();
        // Never half written.
        let new = self.offset.with_extension("new");
        std::fs::write(&new, format!("{offset:+}\n")).unwrap();
        std::fs::rename(new, &self.offset).unwrap();
    }
}

/// The weekly reports: each period with how it ended, and how many do not begin where the one before ended.
fn reports(server: &TestServer) -> (Vec<String>, usize) {
    let rows = server.database.as_ref().unwrap().query(
        "SELECT period || ' ' || state, (period_start <> lag(period_end) OVER (ORDER BY period_start))::text \
         FROM report_runs ORDER BY period_start",
    );
    let gaps = rows.iter().filter(|row| row[1].as_deref() == Some("true")).count();
    (rows.into_iter().map(|row| row[0].clone().unwrap()).collect(), gaps)
}

/// Days of flows for which a table has no partition.
fn holes(server: &TestServer) -> Vec<Vec<Option<String>>> {
    server.database.as_ref().unwrap().query(
        "SELECT DISTINCT tables.name || to_char(received_first AT TIME ZONE 'UTC', '_pYYYY_MM_DD') AS missing \
         FROM segment_headers, (VALUES ('flows')) AS tables (name) \
         WHERE to_regclass(tables.name || to_char(received_first AT TIME ZONE 'UTC', '_pYYYY_MM_DD')) IS NULL",
    )
}

#[test]
fn a_clock_that_jumps_makes_no_report_twice_leaves_none_out_and_loses_no_flow() {
    let folder = tempfile::tempdir().unwrap();
    let Some(clock) = given(Clock::new(folder.path())) else { return };
    clock.set("2026-11-29T12:00:00Z");
    let mut server =
        TestServer::at_rest(&[("INGEST__COMMIT_INTERVAL_MS", "50"), ("NETWORK__TIMEZONE", "Europe/Berlin")]);
    assert!(server.launch_under(&clock.launcher()), "{}", server.log());
    let pid = server.pid();
    let mut exporters = Exporters::new(1, 2, server.collector());
    // To what it is set, for how many seconds it then goes on, how many reports there are, and the newest. They are due on
    // Mondays at 00:00 UTC while it is winter.
    let steps = [
        ("2026-11-29T12:00:00Z", 0, 1, "2026-W47 done"),
        ("2026-11-30T12:00:00Z", 0, 2, "2026-W48 done"),
        // An hour back; and back before the due moment, which then comes a second time.
        ("2026-11-30T11:00:00Z", 1, 2, "2026-W48 done"),
        ("2026-11-29T23:59:58Z", 3, 2, "2026-W48 done"),
        ("2026-11-30T12:00:00Z", 1, 2, "2026-W48 done"),
        // A week ahead.
        ("2026-12-07T12:00:00Z", 0, 3, "2026-W49 done"),
        // Three at once.
        ("2026-12-28T12:00:00Z", 0, 6, "2026-W52 done"),
        // The zone's clocks are put forward from two to three, and back from three to two.
        ("2027-03-28T00:59:58Z", 3, 18, "2027-W11 done"),
        ("2027-10-31T00:59:58Z", 3, 49, "2027-W42 done"),
        // Seconds since 1970 outgrow 31 bits. That far back not all reports are made up for.
        ("2038-01-19T03:14:06Z", 3, 0, "2038-W02 done"),
        ("2027-10-31T02:00:00Z", 1, 0, "2038-W02 done"),
    ];
    for (moment, seconds, count, newest) in steps {
        clock.set(moment);
        exporters.send(40);
        std::thread::sleep(Duration::from_secs(seconds));
        exporters.send(40);
        let tally = Tally::settled(&server, exporters.datagrams);
        assert_eq!((tally.stored, tally.kernel_drops, tally.journal_dropped), (exporters.flows, 0, 0), "{moment}");
        assert_eq!(holes(&server), [[]; 0], "{moment}");
        wait_for(&format!("reports after {moment}"), 150, || {
            let (reports, gaps) = reports(&server);
            let open = reports.iter().any(|it| !it.ends_with(" done") && !it.ends_with(" skipped"));
            let complete = count == 0 || (reports.len() == count && gaps == 0);
            let made = reports.last().is_some_and(|it| it == newest) && complete && !open;
            made.then_some(())
        });
    }
    let (periods, _) = reports(&server);
    assert_eq!(periods.iter().collect::<BTreeSet<_>>().len(), periods.len(), "{periods:?}");
    let files = std::fs::read_dir(server.folder().join("data/reports")).unwrap().map(|file| file.unwrap().path());
    let tables = files.filter(|path| path.extension().is_some_and(|it| it == "csv")).count();
    assert_eq!(tables, periods.iter().filter(|period| period.ends_with(" done")).count(), "{periods:?}");
    assert_eq!(server.pid(), pid);
    let database = server.database.as_ref().unwrap();
    assert_eq!(database.query("SELECT count(*)::text FROM loss WHERE count < 0")[0][0].as_deref(), Some("0"));
    assert_eq!(stored(&database.url()).flows, exporters.flows);
}
