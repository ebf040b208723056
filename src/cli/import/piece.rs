//! What one transaction stores: flows by hour, and the parts of files that they are from.
//!
//! Files of small networks hold few flows each; so a piece goes on over the end of a file, and segments get full.

use crate::clock::Timestamp;
use crate::flow::batch::FlowBatch;
use crate::flow::record::FlowRecord;
use crate::flow::segment::MAX_SEGMENT_FLOWS;
use crate::store::commit::Loss;
use crate::store::imports::{ImportState, ImportStep};
use std::collections::BTreeMap;

/// So many flows make a piece: enough to fill segments, few enough to be held twice in memory.
pub(super) const FLOWS: usize = 4 * MAX_SEGMENT_FLOWS;
/// So many files, or hours, make a piece as well.
const FILES: usize = 1_024;

/// What one transaction stores.
#[derive(Debug)]
pub(super) struct Piece {
    /// By the UTC hour in which they were received.
    pub(super) flows: BTreeMap<Timestamp, FlowBatch>,
    /// Parts of files, one a file.
    pub(super) steps: Vec<ImportStep>,
    /// The names of these files.
    pub(super) files: Vec<String>,
    /// By exporter, hour, cause and unit.
    loss: BTreeMap<(u32, Timestamp, &'static str, &'static str), i64>,
    rows: usize,
    /// So many flows are enough.
    pub(super) limit: usize,
}

impl Piece {
    /// Nothing yet. With `limit` flows it is full.
    pub(super) fn new(limit: usize) -> Self {
        Self { flows: BTreeMap::new(), steps: Vec::new(), files: Vec::new(), loss: BTreeMap::new(), rows: 0, limit }
    }

    /// Whether it should be stored before more is added.
    pub(super) fn is_full(&self) -> bool {
        self.rows >= self.limit || self.steps.len() >= FILES || self.flows.len() >= FILES || self.loss.len() >= FLOWS
    }

    /// The flows that were received in the hour of `received`, where `rows` are about to be added.
    pub(super) fn hour(&mut self, received: Timestamp, rows: usize) -> &mut FlowBatch {
        self.rows = self.rows.saturating_add(rows);
        self.flows.entry(received.hour()).or_default()
    }

    /// How many flows there are in each hour, for [`Piece::go_back`].
    pub(super) fn mark(&self) -> BTreeMap<Timestamp, usize> {
        self.flows.iter().map(|(hour, flows)| (*hour, flows.rows())).collect()
    }

    /// Forgets the flows that came after `mark`.
    pub(super) fn go_back(&mut self, mark: &BTreeMap<Timestamp, usize>) {
        for (hour, flows) in &mut self.flows {
            let rows = mark.get(hour).copied().unwrap_or(0);
            if flows.rows() > rows {
                self.rows = self.rows.saturating_sub(flows.rows().saturating_sub(rows));
                let mut before = FlowBatch::default();
                (0..rows).for_each(|row| FlowRecord::of(flows, row).append(&mut before));
                *flows = before;
            }
        }
    }

    /// Notes that something is missing, or, with a negative count, that it came after all.
    pub(super) fn lost(&mut self, exporter: u32, at: Timestamp, cause: &'static str, unit: &'static str, count: i64) {
        let sum = self.loss.entry((exporter, at.hour(), cause, unit)).or_default();
        *sum = sum.saturating_add(count);
    }

    /// The part of the file `import_id`, which lies at `name` and begins at `start` when it is new.
    pub(super) fn step(&mut self, import_id: i64, name: &str, start: u64) -> &mut ImportStep {
        let new = || ImportStep {
            import_id,
            start,
            end: start,
            flows: 0,
            refused: 0,
            received: None,
            state: ImportState::Running,
            error: None,
        };
        if self.steps.last().is_none_or(|step| step.import_id != import_id) {
            self.steps.push(new());
            self.files.push(name.to_owned());
        }
        // There is one now.
        let last = self.steps.len().saturating_sub(1);
        #[expect(clippy::indexing_slicing, reason = "one was pushed when there was none")]
        &mut self.steps[last]
    }

    /// What is missing, as it is stored.
    pub(super) fn loss(&self) -> Vec<Loss> {
        let rows = self.loss.iter().filter(|(_, count)| **count != 0);
        rows.map(|(&(exporter_id, hour, cause, unit), &count)| Loss { exporter_id, hour, cause, unit, count }).collect()
    }
}

/// Widens `bounds` so that `received` lies within.
pub(super) fn widen(bounds: &mut Option<(Timestamp, Timestamp)>, received: Timestamp) {
    let (first, last) = bounds.unwrap_or((received, received));
    *bounds = Some((first.min(received), last.max(received)));
}
