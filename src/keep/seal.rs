//! Sealing: an hour that is over becomes few large segments, well compressed, and the totals of its hosts. What two observation
//! points told alike is looked for on the way.
//!
//! What an hour is made of does not change by it: the same flows, in larger segments. Segments are merged in the order of
//! time as long as they fit into one. Those that are large and were sealed before stay as they are. [`groups`] decides,
//! [`Merger`] does the work on columns, and the transaction is `store::seal`'s.

use super::double_counting::{self, DoubleCounting};
use super::totals::{self, Totals};
use crate::clock::Timestamp;
use crate::columns::{ColumnsError, Decoder, Encoder};
use crate::flow::batch::FlowBatch;
use crate::flow::counting::{Counting, ExporterRules};
use crate::flow::local::Local;
use crate::flow::segment::{MAX_SEGMENT_FLOWS, Segment};
use crate::store::commit::FIRST_OF_COLLECTORS;
use crate::store::partitions::{DailyTable, MonthlyTable};
use crate::store::seal::{Again, Seal};
use crate::store::snapshot::SegmentHeader;
use crate::store::{Database, StoreError};

/// The level of compression: an hour is sealed once and kept for months.
const LEVEL: usize = 8;
/// A sealed segment with so many flows is large enough.
const LARGE: u32 = MAX_SEGMENT_FLOWS as u32 / 2;

/// Why an hour could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A segment is damaged.
    #[error("segment {segment_id} of the hour {hour} cannot be read, so the hour stays open: {source}")]
    Columns {
        /// Its id.
        segment_id: i64,
        /// The hour.
        hour: Timestamp,
        /// What is wrong.
        #[source]
        source: ColumnsError,
    },
    /// The work on columns ended by a defect.
    #[error("sealing the hour {0} ended by a defect")]
    Defect(Timestamp),
}

/// Seals an hour, with the totals of hosts in `local` over the flows that count. Returns whether it is sealed now: not when
/// another server is at it, or flows of it came meanwhile.
///
/// # Errors
/// Why it stays open; everything is as it was.
pub async fn seal(database: &Database, hour: Timestamp, local: &Local, counting: &Counting) -> Result<bool, SealError> {
    seal_within(database, hour, local, counting, totals::KEYS).await
}

/// Seals an hour as [`seal`] does, with at most about `keys` sums in memory. Whatever that is, the totals are the same.
///
/// # Errors
/// As there.
pub async fn seal_within(
    database: &Database,
    hour: Timestamp,
    local: &Local,
    counting: &Counting,
    keys: usize,
) -> Result<bool, SealError> {
    database.ensure_day(DailyTable::FlowSegments, hour).await?;
    database.ensure_month(MonthlyTable::HostTrafficHourly, hour).await?;
    match database.begin_seal(hour).await? {
        Some(seal) => finish(database, seal, hour, local, counting, keys).await,
        None => Ok(false),
    }
}

/// What became of a sealed hour that was to be sealed once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its totals are those of the networks that were given.
    Counted,
    /// Its flows are no longer kept, so its totals stay as they were.
    FlowsGone,
    /// Another server is at it, or flows of it came meanwhile.
    Busy,
}

/// Seals a sealed hour once more, so that its totals are those of the hosts in `local`, by the rules of
/// `counting`.
///
/// # Errors
/// Why it stays as it was.
pub async fn seal_again(
    database: &Database,
    hour: Timestamp,
    local: &Local,
    counting: &Counting,
) -> Result<Outcome, SealError> {
    Ok(match database.begin_seal_again(hour).await? {
        Again::Begun(seal) => {
            if finish(database, seal, hour, local, counting, totals::KEYS).await? {
                Outcome::Counted
            } else {
                Outcome::Busy
            }
        }
        Again::Busy => Outcome::Busy,
        Again::Gone => Outcome::FlowsGone,
    })
}

async fn finish(
    database: &Database,
    mut seal: Seal,
    hour: Timestamp,
    local: &Local,
    counting: &Counting,
    keys: usize,
) -> Result<bool, SealError> {
    let dropped = seal.flows_dropped();
    if dropped && seal.counted_by().is_some_and(|counted_by| counted_by != counting.fingerprint(local)) {
        return Ok(false);
    }
    let headers = seal.segments().await?;
    // Read after the segments, so that no flow in them is of an exporter that is not among these.
    let exporters = if counting.is_empty() { Vec::new() } else { database.exporter_ids().await? };
    let rules = counting.of_exporters(exporters);
    // Of segments that stay as they are.
    let needed = totals::fields(&rules, &double_counting::FIELDS);
    let flows = headers.iter().fold(0_usize, |flows, header| flows.saturating_add(header.rows as usize));
    let mut merger = Merger::new(local.clone(), rules, flows);
    if dropped {
        seal.put_present_aside().await?;
    }
    for group in groups(&headers) {
        let Some(first) = group.headers.first() else { continue };
        let merges = group.merges;
        for header in &group.headers {
            let fields = (!merges).then_some(needed.as_slice());
            let segment = seal.load(header, fields).await?;
            let counts = header.open || !dropped;
            let taken;
            (merger, taken) = on_columns(merger, hour, move |merger| merger.take(&segment, counts, merges)).await?;
            taken.map_err(|source| SealError::Columns { segment_id: header.segment_id, hour, source })?;
            if merger.totals.len() >= keys {
                seal.put_aside(merger.totals.take().iter()).await?;
            }
        }
        if merges {
            let segment_id = first.segment_id;
            let merged;
            (merger, merged) = on_columns(merger, hour, Merger::merged).await?;
            let merged = merged.map_err(|source| SealError::Columns { segment_id, hour, source })?;
            seal.remove(&group.headers).await?;
            seal.write(segment_id, &merged).await?;
        }
    }
    seal.write_totals(merger.totals.take().iter()).await?;
    let findings;
    (_, findings) = on_columns(merger, hour, |merger| merger.double_counting.findings()).await?;
    seal.write_double_counting(&findings).await?;
    Ok(seal.finish(&counting.fingerprint(local)).await?)
}

/// Does work on columns where it holds up nobody.
async fn on_columns<T: Send + 'static>(
    mut merger: Merger,
    hour: Timestamp,
    work: impl FnOnce(&mut Merger) -> T + Send + 'static,
) -> Result<(Merger, T), SealError> {
    let done = tokio::task::spawn_blocking(move || {
        let done = work(&mut merger);
        (merger, done)
    });
    done.await.map_err(|_| SealError::Defect(hour))
}

/// Segments that are taken in together.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    /// Whether they become one segment, or stay as they are.
    merges: bool,
    headers: Vec<SegmentHeader>,
}

/// What becomes of the segments of an hour, which are in the order of time.
fn groups(headers: &[SegmentHeader]) -> Vec<Group> {
    let small = |header: &SegmentHeader| header.open || header.rows < LARGE;
    let alone = headers.iter().filter(|header| small(header)).count() == 1;
    let mut groups: Vec<Group> = Vec::new();
    for header in headers {
        // A small one that was sealed and has nobody to go with stays, too.
        let merges = small(header) && (header.open || !alone);
        let rows = |group: &Group| group.headers.iter().map(|header| header.rows as usize).sum::<usize>();
        // A segment is of imports or of a collector, as its id tells.
        let imported = |header: &SegmentHeader| header.segment_id < FIRST_OF_COLLECTORS;
        let goes_with = |group: &&mut Group| {
            group.merges && group.headers.first().is_some_and(|first| imported(first) == imported(header))
        };
        let fits = |group: &&mut Group| rows(group).saturating_add(header.rows as usize) <= MAX_SEGMENT_FLOWS;
        // Large ones between them do not keep small ones apart.
        match groups.iter_mut().rfind(goes_with).filter(fits).filter(|_| merges) {
            Some(group) => group.headers.push(*header),
            None => groups.push(Group { merges, headers: vec![*header] }),
        }
    }
    groups
}

/// The work on columns.
struct Merger {
    decoder: Decoder,
    encoder: Encoder,
    one: FlowBatch,
    batch: FlowBatch,
    totals: Totals,
    double_counting: DoubleCounting,
    rules: ExporterRules,
}

impl Merger {
    /// For hosts in `local`, flows that count by `rules`, and so many of them.
    fn new(local: Local, rules: ExporterRules, flows: usize) -> Self {
        Self {
            decoder: Decoder::default(),
            encoder: Encoder::new(LEVEL),
            one: FlowBatch::default(),
            batch: FlowBatch::default(),
            totals: Totals::new(local, rules.clone()),
            double_counting: DoubleCounting::new(flows),
            rules,
        }
    }

    /// Adds the flows of a segment, if it `counts`, to the totals, looks for double counting among them and, if it `merges`, adds
    /// them to those that become one segment.
    fn take(&mut self, segment: &Segment, counts: bool, merges: bool) -> Result<(), ColumnsError> {
        let rows = segment.rows as usize;
        self.one.clear();
        self.one.add_rows(rows);
        for (field, block) in &segment.columns {
            self.decoder.decode_into(*field, block, rows, self.one.column_mut(*field))?;
        }
        if counts {
            self.totals.add(&self.one);
        }
        self.double_counting.add(&self.one, |row| self.rules.counts(&self.one, row));
        if merges {
            self.batch.append(&self.one);
        }
        Ok(())
    }

    /// Those as one segment.
    fn merged(&mut self) -> Result<Segment, ColumnsError> {
        let merged = self.encoder.encode(&self.batch, 0..self.batch.rows());
        self.batch.clear();
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::segment;

    fn header(segment_id: i64, rows: u32, open: bool) -> SegmentHeader {
        let received = Timestamp::from_micros(segment_id);
        let totals = segment::Totals::default();
        SegmentHeader { segment_id, rows, received_first: received, received_last: received, totals, open }
    }

    fn grouped(segments: &[(u32, bool)]) -> Vec<(bool, Vec<i64>)> {
        let headers: Vec<_> = (1..).zip(segments).map(|(id, (rows, open))| header(id, *rows, *open)).collect();
        let ids = |group: &Group| group.headers.iter().map(|header| header.segment_id).collect();
        groups(&headers).iter().map(|group| (group.merges, ids(group))).collect()
    }

    #[test]
    fn open_segments_become_large_ones_and_large_sealed_ones_stay() {
        const FULL: u32 = MAX_SEGMENT_FLOWS as u32;
        assert_eq!(grouped(&[]), []);
        assert_eq!(grouped(&[(5, true)]), [(true, vec![1])]);
        assert_eq!(grouped(&[(FULL, true), (FULL, true)]), [(true, vec![1]), (true, vec![2])]);
        assert_eq!(grouped(&[(FULL - 1, true), (1, true), (1, true)]), [(true, vec![1, 2]), (true, vec![3])]);
        assert_eq!(grouped(&[(FULL, false), (3, false)]), [(false, vec![1]), (false, vec![2])]);
        assert_eq!(grouped(&[(FULL, false), (3, false), (2, true)]), [(false, vec![1]), (true, vec![2, 3])]);
        let mixed = [header(1, 5, false), header(FIRST_OF_COLLECTORS, 5, true), header(2, 5, false)];
        let ids: Vec<Vec<i64>> =
            groups(&mixed).iter().map(|group| group.headers.iter().map(|header| header.segment_id).collect()).collect();
        assert_eq!(ids, [vec![1, 2], vec![FIRST_OF_COLLECTORS]]);
        assert_eq!(grouped(&[(3, false), (LARGE, false), (4, false)]), [(true, vec![1, 3]), (false, vec![2])]);
    }
}
