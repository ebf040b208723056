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

/// What is known of a server's life, and so what must add up in it.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// Whether its journal was empty when it began: then nothing is read that it did not journal.
    pub began_empty: bool,
    /// Whether the pipeline began anew: then what was not stored was decoded twice.
    pub began_anew: bool,
}

/// Figures of about one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Figures {
    tally: Tally,
    /// Bytes of the journal that are not stored.
    backlog: u64,
    accounting_error: u64,
}

impl Figures {
    fn read(metrics: &str) -> Self {
        let sum = |name| summed(metrics, name, "");
        Self {
            tally: Tally::read(metrics),
            backlog: sum("ingest_backlog_bytes"),
            accounting_error: sum("ingest_accounting_error"),
        }
    }

    /// What does not add up, with both sides.
    fn wrong(&self, life: Life) -> Option<(&'static str, u64, u64)> {
        let Tally { received, not_allowed, journalled, journal_dropped, journal_corrupt, .. } = self.tally;
        let Tally { read, decoded, refused, records, stored, .. } = self.tally;
        let all_stored = self.backlog == 0 && !life.began_anew;
        let sums = [
            (
                "received = not allowed + journalled + dropped",
                true,
                received,
                not_allowed + journalled + journal_dropped,
            ),
            ("journalled = read", all_stored && life.began_empty && journal_corrupt == 0, journalled, read),
            ("read = decoded + refused", true, read, decoded + refused),
            ("accounting error = 0", true, self.accounting_error, 0),
            ("records = stored", all_stored, records, stored),
        ];
        sums.into_iter().find_map(|(sum, holds, one, other)| (holds && one != other).then_some((sum, one, other)))
    }
}

/// Reads figures with `metrics` until they add up; what does not, if it never will. A server that does not answer is let
/// be, and so is one that never rests.
pub fn differences(life: Life, mut metrics: impl FnMut() -> Option<String>) -> Result<(), String> {
    let begun = Instant::now();
    let mut last: Option<(Figures, Instant)> = None;
    while begun.elapsed() < PATIENCE {
        let Some(figures) = metrics().map(|text| Figures::read(&text)) else { return Ok(()) };
        let Some(wrong) = figures.wrong(life) else { return Ok(()) };
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

/// Metrics of a server that took in five datagrams, with this one in place of its like.
fn five(changed: &str) -> Option<String> {
    let metrics = [
        "collector_datagrams_total{listener=\"udp://127.0.0.1:2055\"} 5",
        "journal_datagrams_total 5",
        "ingest_datagrams_total 5",
        "ingest_datagrams_decoded_total 5",
        "ingest_flows_decoded_total 50",
        "ingest_flows_stored_total 50",
        "ingest_backlog_bytes 0",
    ];
    let name = changed.split([' ', '{']).next().unwrap();
    let others = metrics
        .iter()
        .filter(|metric| !metric.starts_with(&format!("{name}{{")) && !metric.starts_with(&format!("{name} ")));
    Some(others.chain([&changed]).map(|metric| format!("flowledger_{metric}\n")).collect())
}

#[test]
fn what_does_not_add_up_is_found_unless_there_is_a_reason() {
    let life = Life { began_empty: true, began_anew: false };
    let told = |life, changed: &'static str| differences(life, || five(changed)).err().unwrap_or_default();
    assert_eq!(told(life, "ingest_backlog_bytes 0"), "");
    assert_eq!(told(Life { began_empty: false, ..life }, "journal_datagrams_total 5"), "");
    assert_eq!(told(Life { began_anew: true, ..life }, "ingest_flows_decoded_total 60"), "");
    for (changed, sum) in [
        ("collector_datagrams_total 6", "received = "),
        ("ingest_datagrams_decoded_total 4", "read = decoded"),
        ("ingest_flows_stored_total 49", "records = stored"),
    ] {
        assert!(told(life, changed).contains(sum), "{changed}: {}", told(life, changed));
    }
}
