//! The second stage: flows become compressed columns.

use super::commit::Packed;
use super::work::Work;
use super::{IngestError, Shared, give_back};
use crate::columns::Encoder;
use crate::flow::batch::FlowBatch;
use crate::flow::segment::MAX_SEGMENT_FLOWS;
use std::sync::mpsc::{Receiver, SyncSender};

/// The level for segments that were cut because they are full: about twice as fast as [`SMALL`], at half again its size.
const FAST: usize = 0;
/// The level for segments that were cut by time: there is time to spare.
const SMALL: usize = 4;

/// Compresses until the first stage ends.
pub(super) fn run(
    shared: &Shared,
    works: &Receiver<Work>,
    packed: &SyncSender<Packed>,
    empty: &SyncSender<FlowBatch>,
) -> Result<(), IngestError> {
    let (mut fast, mut small) = (Encoder::new(FAST), Encoder::new(SMALL));
    while let Ok(mut work) = works.recv() {
        let encoder = if work.full { &mut fast } else { &mut small };
        let rows = work.flows.rows();
        let mut segments = Vec::with_capacity(rows.div_ceil(MAX_SEGMENT_FLOWS));
        for first in (0..rows).step_by(MAX_SEGMENT_FLOWS) {
            segments.push(encoder.encode(&work.flows, first..rows.min(first.saturating_add(MAX_SEGMENT_FLOWS)))?);
        }
        // A piece without flows holds no batch of the pool, see the first stage.
        let flows = match rows {
            0 => Vec::new(),
            _ if shared.rows => vec![work.flows],
            _ => {
                work.flows.clear();
                give_back(empty, work.flows);
                Vec::new()
            }
        };
        let piece = Packed {
            start: work.start,
            end: work.end,
            segments,
            flows,
            ledger: work.ledger,
            complete_until: work.complete_until,
        };
        if packed.send(piece).is_err() {
            return Err(IngestError::StageEnded { stage: "commit" });
        }
    }
    Ok(())
}
