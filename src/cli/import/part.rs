//! What is known of the file that is being read, between what was handed over of it and what is still to come.

use super::piece::{Piece, widen};
use crate::archive::Damage;
use crate::clock::Timestamp;
use crate::store::imports::{ImportStanding, ImportStep};
use std::path::Path;

/// The most damages of a file that are told one by one.
pub(super) const DAMAGES: usize = 20;

/// What is known of the file that is being read.
pub(super) struct Part {
    pub(super) import_id: i64,
    /// Where the file lies.
    name: String,
    /// Up to where it was handed over.
    pub(super) position: u64,
    /// Up to where the progress was told.
    pub(super) told: u64,
    /// Flows stored, left out, and their receive times, that no step has yet.
    flows: u64,
    refused: u64,
    received: Option<(Timestamp, Timestamp)>,
    /// The receive times of all that is stored.
    pub(super) bounds: Option<(Timestamp, Timestamp)>,
    /// Whether anything of it is stored.
    pub(super) kept: bool,
    pub(super) all_flows: u64,
    pub(super) all_refused: u64,
    /// What could not be read: the first of it, and how often.
    pub(super) damages: Vec<Damage>,
    pub(super) damage_count: u64,
    pub(super) damaged_before: bool,
    /// Whether the file was gone through before, for another port: then nothing of it is said or shown.
    pub(super) again: bool,
}

impl Part {
    pub(super) fn new(path: &Path, standing: &ImportStanding) -> Self {
        Self {
            import_id: standing.import_id,
            name: path.display().to_string(),
            position: standing.position,
            told: standing.position,
            flows: 0,
            refused: 0,
            received: None,
            bounds: standing.received,
            kept: standing.position > 0,
            all_flows: 0,
            all_refused: 0,
            damages: Vec::new(),
            damage_count: 0,
            damaged_before: standing.error.is_some(),
            again: false,
        }
    }

    /// Flows received at that moment are stored.
    pub(super) fn took(&mut self, received: Timestamp, flows: u64) {
        self.kept = true;
        self.flows = self.flows.saturating_add(flows);
        self.all_flows = self.all_flows.saturating_add(flows);
        widen(&mut self.received, received);
        widen(&mut self.bounds, received);
    }

    /// Something cannot be read. A file can have millions of damages; only the first are remembered.
    pub(super) fn damaged(&mut self, damage: Damage) {
        self.damage_count = self.damage_count.saturating_add(1);
        if self.damages.len() < DAMAGES {
            self.damages.push(damage);
        }
    }

    /// Flows are left out.
    pub(super) fn left_out(&mut self, flows: u64) {
        self.refused = self.refused.saturating_add(flows);
        self.all_refused = self.all_refused.saturating_add(flows);
    }

    /// Moves what no step has yet into that of the piece, which then ends at `end`.
    pub(super) fn write<'a>(&mut self, piece: &'a mut Piece, end: u64) -> &'a mut ImportStep {
        let step = piece.step(self.import_id, &self.name, self.position);
        step.end = end;
        step.flows = step.flows.saturating_add(std::mem::take(&mut self.flows));
        step.refused = step.refused.saturating_add(std::mem::take(&mut self.refused));
        if let Some((first, last)) = self.received.take() {
            widen(&mut step.received, first);
            widen(&mut step.received, last);
        }
        if step.error.is_none() {
            step.error = self.damages.first().map(ToString::to_string);
        }
        step
    }
}
