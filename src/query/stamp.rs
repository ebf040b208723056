//! What an answer may be missing: what was lost by cause and exporter, and how many flows that are at most.
//!
//! The bound counts flows, as records that an exporter sent, because nobody knows how many bytes a lost one had. Gaps in
//! sequence numbers count flows (NetFlow v5, v7) or records (IPFIX) one by one. Where they count datagrams (NetFlow v9,
//! sFlow), and where a full journal dropped datagrams of a known exporter, each is taken for as full as the fullest that this
//! exporter ever sent: it fills its datagrams up to a size. A datagram that the journal dropped leaves a gap in the numbers,
//! too, and is counted twice: rather too much than too little. Everything else has no bound, and then the answer has none.
//! With a filter all that was lost may have been what the filter selects; so the bound is compared to what was selected.
//!
//! Hours that hold imported flows are never exact, and have no bound: another collector received them, and what it lost
//! without a trace nobody knows. For the same reason they do not count as recorded, but neither as not recorded.
//!
//! Where flows are gone, totals that other networks or rules made are better than nothing; what they would be by the present ones
//! nobody knows.
//!
//! This module does no I/O. docs/decisions/0006 and 0009 give the reasons.

use super::answer::{Completeness, ExporterLoss, LossCount, Undercount, Window};
use crate::clock::{SECOND, Timestamp};
use crate::store::facts::FACTS;
use crate::store::snapshot::{Sender, StoredLoss};
use crate::wire::Version;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// How many exporters are named at most.
pub const EXPORTERS: usize = 20;
/// The version whose datagrams have no sequence number: what of them is lost on the network leaves no trace.
pub(super) const UNNUMBERED: Version = Version::V1;
/// A cause of rejection by which nothing is missing: the same datagram was stored when it first came.
const DUPLICATE: &str = "duplicate";
/// The cause of loss that stands for a part of the window in which nothing was recorded, or whose days were dropped.
pub(super) const NOT_RECORDED: &str = "not_recorded";

/// The cause that stands for hours whose flows another collector received.
const IMPORTED: &str = "imported";
/// The cause that stands for hours whose totals were counted by other networks or rules, and whose flows are gone.
const COUNTED_OTHERWISE: &str = "counted_otherwise";

/// What the database knows about a window, all from one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// What is missing.
    pub(super) loss: Vec<StoredLoss>,
    /// The exporters that it is missing of.
    pub(super) senders: Vec<Sender>,
    /// Whether an exporter may have sent datagrams without sequence numbers.
    pub(super) unnumbered: bool,
    /// Microseconds of the window that nobody recorded, or whose flows are no longer kept and that nothing else tells of.
    pub(super) not_recorded: i64,
    /// The hours of the window in which imported flows were received.
    pub(super) imported_hours: u64,
    /// The hours of the window that are told from totals which other networks or rules made.
    pub(super) counted_otherwise: u64,
    /// Everything received before this moment is stored. `None` when there never was a collector: then nothing is on its way,
    /// and only the future is still to come.
    pub(super) stored_until: Option<Timestamp>,
}

/// Refused facts about exporters are no loss of flows, and of what came twice nothing is missing.
fn counts(row: &StoredLoss) -> bool {
    row.cause != DUPLICATE && row.unit != FACTS
}

/// The numbers of the exporters that something is missing of.
pub(super) fn exporters_of(loss: &[StoredLoss]) -> Vec<u32> {
    let mut ids: Vec<_> = loss.iter().filter(|row| counts(row)).map(|row| row.exporter_id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids.retain(|id| *id != 0);
    ids
}

/// What an answer about `window` may be missing, given what was `known` at `now`.
pub(super) fn stamp(window: &Window, known: &Known, now: Timestamp) -> Completeness {
    let loss: Vec<_> = known.loss.iter().filter(|row| counts(row)).collect();
    let mut sums = Sums::default();
    let mut concerned = BTreeMap::<u32, Sums>::new();
    for row in &loss {
        sums.add(&row.cause, &row.unit, row.count);
        if row.exporter_id != 0 {
            concerned.entry(row.exporter_id).or_default().add(&row.cause, &row.unit, row.count);
        }
    }
    let unrecorded = known.not_recorded.max(0).cast_unsigned();
    if unrecorded > 0 {
        // A part of a second is missing, too, and must not look like nothing.
        sums.add(NOT_RECORDED, "seconds", unrecorded.div_ceil(SECOND.cast_unsigned()));
    }
    if known.imported_hours > 0 {
        sums.add(IMPORTED, "hours", known.imported_hours);
    }
    if known.counted_otherwise > 0 {
        sums.add(COUNTED_OTHERWISE, "hours", known.counted_otherwise);
    }
    let bounded = !known.unnumbered && unrecorded == 0 && known.imported_hours == 0 && known.counted_otherwise == 0;
    let flows = bounded.then(|| at_most(&loss, &known.senders)).flatten();
    let mut exporters: Vec<_> = concerned.into_iter().collect();
    exporters.sort_by_key(|(id, sums)| (Reverse(sums.all()), *id));
    let more_exporters = exporters.len().saturating_sub(EXPORTERS) as u64;
    exporters.truncate(EXPORTERS);
    let lost = sums.told();
    let stored_until = known.stored_until.unwrap_or(now);
    let stale_since = (stored_until < window.to).then_some(stored_until);
    Completeness {
        exact: lost.is_empty() && stale_since.is_none(),
        stale_since,
        lost,
        undercount: flows.map(|flows| Undercount { flows, counted: 0 }),
        exporters: exporters.into_iter().map(|(id, sums)| concerns(id, &sums, &known.senders)).collect(),
        more_exporters,
        ..Completeness::default()
    }
}

fn concerns(exporter_id: u32, sums: &Sums, senders: &[Sender]) -> ExporterLoss {
    let sender = senders.iter().find(|sender| sender.exporter_id == exporter_id);
    ExporterLoss {
        exporter_id,
        address: sender.map(|sender| sender.address),
        name: sender.and_then(|sender| sender.name.clone()),
        lost: sums.told(),
    }
}

/// How many flows are lost at most; `None` when there is no telling.
fn at_most(loss: &[&StoredLoss], senders: &[Sender]) -> Option<u64> {
    loss.iter().try_fold(0u64, |sum, row| {
        let most = || {
            let sender = senders.iter().find(|sender| sender.exporter_id == row.exporter_id)?;
            (sender.most_flows > 0).then(|| row.count.saturating_mul(sender.most_flows))
        };
        let flows = match (row.cause.as_str(), row.unit.as_str()) {
            ("network", "flows" | "records") => row.count,
            ("network" | "journal_full", "datagrams") => most()?,
            // A template has no flows. Data that it would have explained is counted by itself.
            (_, "templates") => 0,
            _ => return None,
        };
        Some(sum.saturating_add(flows))
    })
}

/// Counts by cause and unit.
#[derive(Default)]
struct Sums<'a>(BTreeMap<(&'a str, &'a str), u64>);

impl<'a> Sums<'a> {
    fn add(&mut self, cause: &'a str, unit: &'a str, count: u64) {
        let sum = self.0.entry((cause, unit)).or_default();
        *sum = sum.saturating_add(count);
    }

    /// All counts together, whatever they count.
    fn all(&self) -> u64 {
        self.0.values().fold(0, |sum, count| sum.saturating_add(*count))
    }

    fn told(&self) -> Vec<LossCount> {
        let told = |((cause, unit), count): (&(&str, &str), &u64)| LossCount {
            cause: (*cause).to_owned(),
            unit: (*unit).to_owned(),
            count: *count,
        };
        self.0.iter().map(told).collect()
    }
}
