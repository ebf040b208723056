//! What the first stage notes of what is missing or odd: under which cause, of whom, and in which hours.
//!
//! A loss that is only found later may have happened at any moment since all was still well. It counts in the hour in which it
//! was found; each earlier hour since then has the same count under the cause with `_later` behind it, so that no answer about
//! it is called complete, and the sum over all hours stays the sum of what was lost. What is taken back is taken back from the
//! same hours.

use super::Stage;
use crate::clock::{DAY, HOUR, SECOND, Timestamp};
use crate::ingest::ReasonLabel;
use crate::ingest::work::Ledger;
use crate::journal::{DropCause, Dropped};
use crate::store::facts::{FACT_LIMIT, FACTS};
use crate::wire::{Outcome, Reason, Unit};

/// A cause of loss that may be found later than it happened.
#[derive(Clone, Copy)]
pub(super) struct Cause {
    /// What it is called in the hour in which it was found.
    pub(super) name: &'static str,
    /// What it is called in the hours before that one.
    later: &'static str,
}

/// What sequence numbers show.
pub(super) const NETWORK: Cause = Cause { name: "network", later: "network_later" };
/// Streams that ended amid a message, or of whose end nobody knows.
const STREAM_CUT: Cause = Cause { name: "stream_cut", later: "stream_cut_later" };
const KERNEL: Cause = Cause { name: "kernel", later: "kernel_later" };
const JOURNAL_CORRUPT: Cause = Cause { name: "journal_corrupt", later: "journal_corrupt_later" };
/// The cause for seconds in which nobody received.
const COLLECTOR_DOWN: &str = "collector_down";
/// How much later than a datagram was dropped by the kernel that may be noticed, in microseconds.
const KERNEL_NOTICED: i64 = 200_000;
/// The most of the past that one loss is noted in, in microseconds: a clock that is set may make it decades.
const LONGEST_DOWN: i64 = 3_660 * DAY;
const LONGEST_LOSS: i64 = 31 * DAY;

/// The part of each hour from one moment to another.
fn hours(from: Timestamp, to: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> {
    let next = move |from: Timestamp| (from < to).then(|| (from, from.hour().plus(HOUR).min(to)));
    std::iter::successors(next(from), move |(_, to)| next(*to))
}

impl Stage<'_> {
    /// Notes the elements that no field takes.
    pub(super) fn missed(&mut self, ledger: &mut Ledger, at: Timestamp) {
        for element in self.decoder.take_unknown() {
            let room = ledger.missed(at, element);
            self.untold(ledger, element.exporter_id, at, usize::from(!room));
        }
    }

    /// Notes that so many more data sets wait for their template: until then their flows are in no answer.
    pub(super) fn waits(&self, ledger: &mut Ledger, exporter: u32, received: Timestamp, count: i64) {
        self.lost(ledger, exporter, received, Reason::Parked.name(), Reason::Parked.unit().name(), count);
    }

    /// Notes the reasons that decoding met.
    pub(super) fn counted(&self, ledger: &mut Ledger, exporter: u32, received: Timestamp, outcome: &Outcome) {
        for (reason, count) in outcome.counts.iter() {
            let (kept, name, unit) = (reason.kept(), reason.name(), reason.unit().name());
            if kept {
                self.shared.metrics.noticed.get_or_create(&ReasonLabel { reason: name, unit }).inc_by(count.into());
            } else if reason == Reason::Parked {
                self.waits(ledger, exporter, received, count.into());
            } else {
                self.rejected(ledger, exporter, received, name, unit, count);
            }
        }
    }

    /// Notes what was refused, in the ledger and in the counters.
    pub(super) fn rejected(
        &self,
        ledger: &mut Ledger,
        exporter: u32,
        at: Timestamp,
        reason: &'static str,
        unit: &'static str,
        count: u32,
    ) {
        ledger.lost(exporter, at, reason, unit, count.into());
        self.shared.metrics.rejected.get_or_create(&ReasonLabel { reason, unit }).inc_by(count.into());
        if unit == Unit::Datagrams.name() {
            self.shared.metrics.refused.inc_by(count.into());
        }
    }

    /// Notes how many facts found no room.
    pub(super) fn untold(&self, ledger: &mut Ledger, exporter: u32, at: Timestamp, count: usize) {
        if count > 0 {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            self.rejected(ledger, exporter, at, FACT_LIMIT, FACTS, count);
        }
    }

    /// Notes what is missing, in the ledger and in the counters.
    pub(super) fn lost(
        &self,
        ledger: &mut Ledger,
        exporter: u32,
        at: Timestamp,
        cause: &'static str,
        unit: &'static str,
        count: i64,
    ) {
        ledger.lost(exporter, at, cause, unit, count);
        // A gauge, because what turns out to be only late is taken back.
        self.shared.metrics.lost.get_or_create(&ReasonLabel { reason: cause, unit }).inc_by(count);
    }

    /// Notes a loss between two moments that was found at the second, or, with a negative count, that it came after all.
    pub(super) fn lost_between(
        &self,
        ledger: &mut Ledger,
        exporter: u32,
        (since, until): (Timestamp, Timestamp),
        cause: Cause,
        unit: &'static str,
        count: i64,
    ) {
        if count == 0 {
            return;
        }
        self.lost(ledger, exporter, until, cause.name, unit, count);
        for (hour, _) in hours(since.max(until.plus(-LONGEST_LOSS)), until.hour()) {
            ledger.lost_earlier(exporter, hour, cause.later, unit, count);
        }
    }

    /// Notes what the journal tells of datagrams that are not in it.
    pub(super) fn note_dropped(&self, dropped: &Dropped, ledger: &mut Ledger) {
        let received = dropped.received;
        let exporter = dropped.exporter.and_then(|address| self.exporters.get(address)).map_or(0, |known| known.id);
        let count = i64::try_from(dropped.count).unwrap_or(i64::MAX);
        let (cause, since) = match dropped.cause {
            DropCause::Kernel => (KERNEL, received.plus(-KERNEL_NOTICED)),
            // The reader knows nothing from before the place where it was told to begin.
            DropCause::Corrupt { since } => {
                (JOURNAL_CORRUPT, self.recorded_until.map_or(since, |_| self.last_received))
            }
            DropCause::StoodStill { since } => return down(ledger, since, received),
            // Each hour's drops are counted by themselves.
            DropCause::JournalFull => {
                return self.lost(ledger, exporter, received, "journal_full", "datagrams", count);
            }
        };
        self.lost_between(ledger, exporter, (since, received), cause, "datagrams", count);
    }

    /// Notes for how long nobody received, between the last that earlier processes recorded and the start of the next one.
    pub(super) fn note_downtime(&self, ledger: &mut Ledger, started: Timestamp) {
        let Some(recorded_until) = self.down_since(started) else { return };
        down(ledger, recorded_until, started);
        tracing::warn!("nothing was received from {recorded_until} to {started}: answers for that time say so");
    }

    /// Notes that what was received up to `received` is gone: the database stands where it stood before, as after it was
    /// restored, and the journal no longer has what followed.
    pub(super) fn note_set_back(&self, ledger: &mut Ledger, received: Timestamp) {
        // A database that knows nothing of the journal calls everything before this process not recorded.
        let recorded_until = self.recorded_until.unwrap_or(self.shared.started);
        down(ledger, recorded_until, received);
        tracing::error!(
            "the database was set back: what was received from {recorded_until} to {received} is in neither of database and \
             journal; answers for that time say so"
        );
    }

    /// Forgets the streams of earlier processes, and notes that nobody knows what they still had to say: the kernel took in more
    /// than was read.
    pub(super) fn note_dead_streams(&mut self, ledger: &mut Ledger, started: Timestamp) {
        self.missed(ledger, started);
        let since = self.recorded_until.unwrap_or(started).min(started);
        for exporter in self.decoder.forget_all_streams() {
            self.lost_between(ledger, exporter, (since, started), STREAM_CUT, "streams", 1);
            self.cut_since.insert(exporter, started);
        }
    }

    /// Notes that a stream was cut; the exporter's number is 0 while nothing of it has been recognised.
    pub(super) fn note_cut(&mut self, ledger: &mut Ledger, exporter: u32, received: Timestamp) {
        self.lost(ledger, exporter, received, STREAM_CUT.name, "streams", 1);
        // Another stream of the exporter, as after it began anew, goes on to tell what it has to say.
        if exporter != 0 && !self.decoder.has_streams(Some(exporter)) {
            self.cut_since.insert(exporter, received);
        }
    }

    /// Notes that an exporter whose stream was cut has opened one again: what it had to say in between, to itself or to a
    /// connection of which it did not know that it was none any more, is lost. The hour of the cut tells so already; if it is
    /// a later one now, the stream counts once more.
    pub(super) fn note_reopened(&mut self, ledger: &mut Ledger, exporter: u32, received: Timestamp) {
        let Some(cut) = self.cut_since.remove(&exporter) else { return };
        if cut.hour() < received.hour() {
            self.lost_between(ledger, exporter, (cut.hour().plus(HOUR), received), STREAM_CUT, "streams", 1);
        }
    }
}

/// Notes that nobody received from one moment to another.
fn down(ledger: &mut Ledger, from: Timestamp, to: Timestamp) {
    for (from, to) in hours(from.max(to.plus(-LONGEST_DOWN)), to) {
        let seconds = to.micros().saturating_sub(from.micros()).saturating_add(SECOND - 1) / SECOND;
        ledger.lost(0, from, COLLECTOR_DOWN, "seconds", seconds);
    }
}
