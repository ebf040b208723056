//! The accounting identity, looked at whenever a test lets go of a server that still answers: everything that was received
//! is in exactly one counter.
//!
//! Figures are not read in one moment, and a server at work is always in the midst of something. So nothing is asserted of
//! one reading: what does not add up is read again, until it does, until there is a reason why it need not yet, or until
//! nothing has moved for so long that nothing will. A server at rest costs one reading.

use super::faults::{Tally, summed};
use std::time::{Duration, Instant};

/// How long nothing may move that does not add up.
const STILL: Duration = Duration::from_secs(3);
/// How long a server that never rests is looked at.
const PATIENCE: Duration = Duration::from_secs(6);

/// Figures of about one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Figures {
    tally: Tally,
    /// Bytes of the journal that are not stored.
    backlog: u64,
    accounting_error: u64,
    /// Datagrams read that former processes had journalled.
    earlier: u64,
    /// Datagrams that were dropped, as the journal told, and those of which it could not tell yet.
    told: u64,
    untold: u64,
    /// Whether the pipeline is at work and never began anew: what was not stored then is read twice.
    uninterrupted: bool,
}

impl Figures {
    fn read(metrics: &str) -> Self {
        let sum = |name| summed(metrics, name, "");
        Self {
            tally: Tally::read(metrics),
            backlog: sum("ingest_backlog_bytes"),
            accounting_error: sum("ingest_accounting_error"),
            earlier: sum("ingest_datagrams_of_earlier_starts_total"),
            told: sum("ingest_datagrams_dropped_total"),
            untold: sum("journal_untold_datagrams"),
            uninterrupted: sum("ingest_uninterrupted") == 1,
        }
    }

    /// What does not add up, with both sides.
    fn wrong(&self) -> Option<(&'static str, u64, u64)> {
        let Tally { kernel_drops, received, not_allowed, journalled, journal_dropped, journal_corrupt, .. } =
            self.tally;
        let Tally { read, decoded, refused, records, stored, .. } = self.tally;
        let all_stored = self.backlog == 0 && self.uninterrupted;
        let undamaged = all_stored && journal_corrupt == 0;
        let sums = [
            (
                "received = not allowed + journalled + dropped",
                true,
                received,
                not_allowed + journalled + journal_dropped,
            ),
            ("journalled = read", undamaged, journalled, read.saturating_sub(self.earlier)),
            ("dropped = told", undamaged && self.untold == 0, kernel_drops + journal_dropped, self.told),
            ("read = decoded + refused", true, read, decoded + refused),
            ("accounting error = 0", true, self.accounting_error, 0),
            ("records = stored", all_stored, records, stored),
        ];
        sums.into_iter().find_map(|(sum, holds, one, other)| (holds && one != other).then_some((sum, one, other)))
    }
}

/// Reads figures with `metrics` until they add up; what does not, if it never will. A server that does not answer is let
/// be, and so is one that never rests.
pub fn differences(mut metrics: impl FnMut() -> Option<String>) -> Result<(), String> {
    let begun = Instant::now();
    let mut last: Option<(Figures, Instant)> = None;
    while begun.elapsed() < PATIENCE {
        let Some(figures) = metrics().map(|text| Figures::read(&text)) else { return Ok(()) };
        let Some(wrong) = figures.wrong() else { return Ok(()) };
        match last {
            Some((before, since)) if before == figures => {
                if since.elapsed() > STILL {
                    return Err(format!("{wrong:?}: {figures:?}"));
                }
            }
            _ => last = Some((figures, Instant::now())),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Metrics of a server that took in five datagrams, with these in place of their like.
fn five(changed: &[&str]) -> Option<String> {
    let metrics = [
        "collector_datagrams_total{listener=\"udp://127.0.0.1:2055\"} 5",
        "journal_datagrams_total 5",
        "ingest_datagrams_total 7",
        "ingest_datagrams_of_earlier_starts_total 2",
        "collector_kernel_drops_total 3",
        "ingest_datagrams_dropped_total 3",
        "ingest_datagrams_decoded_total 7",
        "ingest_flows_decoded_total 50",
        "ingest_flows_stored_total 50",
        "ingest_backlog_bytes 0",
        "ingest_uninterrupted 1",
        "journal_untold_datagrams 0",
    ];
    let name = |metric: &str| metric.split([' ', '{']).next().unwrap().to_owned();
    let replaced: Vec<String> = changed.iter().map(|changed| name(changed)).collect();
    let others = metrics.iter().filter(|metric| !replaced.contains(&name(metric)));
    Some(others.chain(changed).map(|metric| format!("flowledger_{metric}\n")).collect())
}

#[test]
fn what_does_not_add_up_is_found_unless_there_is_a_reason() {
    let told = |changed: &[&str]| differences(|| five(changed)).err().unwrap_or_default();
    assert_eq!(told(&[]), "");
    // A pipeline that began anew, or has not begun, and a journal that cannot tell yet.
    assert_eq!(told(&["ingest_flows_decoded_total 60", "ingest_uninterrupted 0"]), "");
    assert_eq!(told(&["collector_kernel_drops_total 4", "journal_untold_datagrams 1"]), "");
    for (changed, sum) in [
        ("collector_datagrams_total 6", "received = "),
        ("ingest_datagrams_of_earlier_starts_total 1", "journalled = read"),
        ("collector_kernel_drops_total 4", "dropped = told"),
        ("ingest_datagrams_decoded_total 6", "read = decoded"),
        ("ingest_flows_stored_total 49", "records = stored"),
    ] {
        assert!(told(&[changed]).contains(sum), "{changed}: {}", told(&[changed]));
    }
}
