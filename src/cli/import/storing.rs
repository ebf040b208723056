//! The second thread: pieces become segments and rows, and are stored.

use super::Kept;
use super::piece::Piece;
use super::progress::Progress;
use crate::clock::Timestamp;
use crate::columns::{ColumnsError, Encoder};
use crate::flow::batch::FlowBatch;
use crate::flow::segment::{MAX_SEGMENT_FLOWS, Segment};
use crate::store::imports::ImportBatch;
use crate::store::partitions::DailyTable;
use crate::store::{Database, StoreError};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// Archives are written once and read for months: small counts more than fast.
const LEVEL: usize = 8;
/// How often a transaction is tried again while the database is away or days are dropped, and how long it waits in between.
const TRIES: (u32, Duration) = (60, Duration::from_secs(1));

/// Why pieces cannot be stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoringError {
    /// Flows cannot be compressed.
    #[error("flows of {files}: {source}")]
    Columns {
        /// The files they are from.
        files: String,
        /// Why not.
        #[source]
        source: ColumnsError,
    },
    /// The database does not store them.
    #[error("flows of {files} are not stored: {source}; what is stored stays, start the import again to go on")]
    Store {
        /// The files they are from.
        files: String,
        /// Why not.
        #[source]
        source: StoreError,
    },
}

/// The most files that are named; what comes in one transaction may be of a thousand.
const NAMED: usize = 3;

/// Files for people.
fn named(files: &[String]) -> String {
    let mut text = files.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match files.len().saturating_sub(NAMED) {
        0 => {}
        more => text.push_str(&format!(" and {more} more files")),
    }
    text
}

/// What the second thread holds.
pub(super) struct Storing {
    database: Database,
    runtime: Handle,
    kept: Kept,
    progress: Arc<Progress>,
    encoder: Encoder,
    /// Days that have their partitions, and whether their rows are written.
    days: HashMap<Timestamp, bool>,
}

impl Storing {
    pub(super) fn new(database: Database, runtime: Handle, kept: Kept, progress: Arc<Progress>) -> Self {
        Self { database, runtime, kept, progress, encoder: Encoder::new(LEVEL), days: HashMap::new() }
    }

    /// Stores a piece, again and again while the database is away or days are dropped. A day of segments that is dropped while
    /// its files are read is made anew for what follows: upkeep decides when it goes again. A day of `flows` is not, since it
    /// would hold a part of the day.
    pub(super) fn store(&mut self, piece: Piece) -> Result<(), StoringError> {
        let loss = piece.loss();
        let (mut segments, mut rows) = (Vec::new(), Vec::new());
        for (hour, flows) in piece.flows {
            let made = segments_of(&mut self.encoder, &flows);
            segments.extend(made.map_err(|source| StoringError::Columns { files: named(&piece.files), source })?);
            // An hour may have had nothing but templates.
            if flows.rows() > 0 && self.kept.rows_from.is_some_and(|from| hour.day() >= from) {
                rows.push(flows);
            }
        }
        let stored = segments.iter().map(|segment| u64::from(segment.rows)).sum();
        let mut batch = ImportBatch { steps: piece.steps, segments, rows, without_rows: BTreeSet::new(), loss };
        let mut tries = 0;
        loop {
            match self.attempt(&mut batch) {
                Ok(()) => break,
                Err(error) if (error.is_outage() || error.lacks_partition()) && tries < TRIES.0 => {
                    self.days.clear();
                    tries = tries.saturating_add(1);
                    self.progress.say(&format!("tries again: {error}"));
                    std::thread::sleep(TRIES.1);
                }
                Err(source) => return Err(StoringError::Store { files: named(&piece.files), source }),
            }
        }
        self.progress.stored(stored);
        Ok(())
    }

    fn attempt(&mut self, batch: &mut ImportBatch) -> Result<(), StoreError> {
        batch.without_rows.clear();
        for segment in &batch.segments {
            let day = segment.received_first.day();
            let written = match self.days.get(&day) {
                Some(written) => *written,
                None => self.make(day)?,
            };
            self.days.insert(day, written);
            if !written {
                batch.without_rows.insert(day);
            }
        }
        self.runtime.block_on(self.database.commit_import(batch))
    }

    /// Makes the partitions of a day. Returns whether its rows are written.
    fn make(&self, day: Timestamp) -> Result<bool, StoreError> {
        self.runtime.block_on(self.database.ensure_day(DailyTable::FlowSegments, day))?;
        let with_rows = self.kept.rows_from.is_some_and(|from| day >= from);
        Ok(with_rows && self.runtime.block_on(self.database.ensure_rows(day))?)
    }
}

/// The flows of one hour as segments of about the same size, as few as can be.
pub(super) fn segments_of(encoder: &mut Encoder, flows: &FlowBatch) -> Result<Vec<Segment>, ColumnsError> {
    let rows = flows.rows();
    let count = rows.div_ceil(MAX_SEGMENT_FLOWS);
    let size = rows.div_ceil(count.max(1)).max(1);
    let starts = (0..rows).step_by(size);
    starts.map(|start| encoder.encode(flows, start..rows.min(start.saturating_add(size)))).collect()
}
