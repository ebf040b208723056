//! The second stage: flows become compressed columns.

use super::commit::Packed;
use super::work::Work;
use super::{IngestError, Shared, give_back};
use crate::clock::{HOUR, Timestamp};
use crate::columns::Encoder;
use crate::flow::batch::{FlowBatch, Values};
use crate::flow::fields::Field;
use crate::flow::segment::MAX_SEGMENT_FLOWS;
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender};

/// The level for segments that were cut because they are full: about twice as fast as [`SMALL`], at half again its size.
const FAST: usize = 0;
/// The level for segments that were cut by time: there is time to spare.
const SMALL: usize = 4;

/// What the second stage holds.
pub(super) struct Stage<'a> {
    shared: &'a Shared,
    empty: &'a SyncSender<FlowBatch>,
    fast: Encoder,
    small: Encoder,
}

impl<'a> Stage<'a> {
    pub(super) fn new(shared: &'a Shared, empty: &'a SyncSender<FlowBatch>) -> Self {
        Self { shared, empty, fast: Encoder::new(FAST), small: Encoder::new(SMALL) }
    }

    /// Compresses until the first stage ends.
    pub(super) fn run(mut self, works: &Receiver<Work>, packed: &SyncSender<Packed>) -> Result<(), IngestError> {
        while let Ok(work) = works.recv() {
            let piece = self.step(work)?;
            packed.send(piece).map_err(|_| IngestError::StageEnded { stage: "commit" })?;
        }
        Ok(())
    }

    /// Compresses one piece.
    pub(super) fn step(&mut self, mut work: Work) -> Result<Packed, IngestError> {
        #[cfg(test)]
        assert!(!self.shared.pack_panics.swap(false, std::sync::atomic::Ordering::AcqRel), "a defect");
        let encoder = if work.full { &mut self.fast } else { &mut self.small };
        let rows = work.flows.rows();
        let mut segments = Vec::with_capacity(rows.div_ceil(MAX_SEGMENT_FLOWS));
        for range in by_hour(&work.flows) {
            for first in range.clone().step_by(MAX_SEGMENT_FLOWS) {
                let end = range.end.min(first.saturating_add(MAX_SEGMENT_FLOWS));
                segments.push(encoder.encode(&work.flows, first..end)?);
            }
        }
        // A piece without flows holds no batch of the pool, see the first stage.
        let flows = match rows {
            0 => Vec::new(),
            _ if self.shared.rows => vec![work.flows],
            _ => {
                work.flows.clear();
                give_back(self.empty, work.flows);
                Vec::new()
            }
        };
        Ok(Packed {
            start: work.start,
            end: work.end,
            segments,
            flows,
            ledger: work.ledger,
            complete_until: work.complete_until,
        })
    }
}

/// The rows of a batch, cut where the UTC hour of reception changes. All are of one hour but for those that waited for their
/// template.
fn by_hour(flows: &FlowBatch) -> Vec<Range<usize>> {
    let Values::Time(received) = flows.column(Field::Received).values() else { return Vec::new() };
    let mut ranges = Vec::new();
    let mut first = 0;
    while let Some(moment) = received.get(first) {
        let hour = Timestamp::from_micros(*moment).hour().micros();
        let same = received.iter().skip(first).take_while(|moment| (0..HOUR).contains(&moment.saturating_sub(hour)));
        let end = first.saturating_add(same.count());
        ranges.push(first..end);
        first = end;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_that_waited_over_the_hour_get_segments_of_their_own() {
        let mut flows = FlowBatch::default();
        let hour = 495_000 * HOUR;
        for (count, moment) in [(3, hour + 5), (2, hour - 1), (1, hour - HOUR - 1), (2, hour + HOUR - 1)] {
            let row = flows.add_rows(count);
            flows.column_mut(Field::Received).time_run(row, count).fill(moment);
        }
        assert_eq!(by_hour(&flows), [0..3, 3..5, 5..6, 6..8]);
        assert!(by_hour(&FlowBatch::default()).is_empty());
    }
}
