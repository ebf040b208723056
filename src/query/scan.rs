//! Scanning segments: decode what is needed, select, and add to the groups.
//!
//! A segment's columns are decoded in two steps: what the filter and the window need, and, only when they leave a row, the
//! rest. A segment that lies in the window and meets no filter is not selected from at all, and its totals come from its
//! header, unless they are to be scaled and a flow of it was sampled. Nothing here does I/O or knows the database.

use super::QueryError;
use super::answer::{Counters, Order, TopRequest, TopRow, Window};
use super::group::{CHUNK, Groups, Room, Weights, is_sampled};
use super::rows::Rows;
use super::{plan, rank};
use crate::columns::{ColumnsError, Decoder};
use crate::filter::{Expression, Selection};
use crate::flow::batch::FlowBatch;
use crate::flow::fields::{FIELD_COUNT, Field};
use crate::flow::segment::{Segment, Totals};
use crate::store::host_traffic::HostSums;

/// What a query does with segments. A worker owns one; those of all workers are merged in the end.
pub(super) trait Scan: Send + 'static {
    /// The fields that segments must be loaded with, receive times at the window's ends apart.
    fn load_fields(&self) -> Vec<Field>;
    /// From now on takes in only flows that `counted` lets through.
    fn count_only(&mut self, counted: &Expression);
    /// Takes in one segment.
    fn segment(&mut self, segment: &Segment) -> Result<(), ColumnsError>;
    /// Bytes held for the answer.
    fn memory(&self) -> usize;
    /// Takes in what another worker found.
    fn merge(&mut self, other: Self);
}

/// Decodes segments and selects their rows.
#[derive(Debug)]
pub(super) struct Reader {
    window: Window,
    filter: Option<Expression>,
    filter_fields: Vec<Field>,
    fields: Vec<Field>,
    decoder: Decoder,
    batch: FlowBatch,
    selection: Selection,
}

/// The rows of a segment that are meant.
pub(super) struct Read<'a> {
    /// The decoded columns.
    pub(super) batch: &'a FlowBatch,
    /// The rows; `None` means all.
    pub(super) selection: Option<&'a Selection>,
}

impl Reader {
    /// A reader of `fields` of the rows received in `window` that `filter` lets through.
    pub(super) fn new(window: Window, filter: Option<Expression>, fields: Vec<Field>) -> Self {
        // An expression that lets everything through would only cost time.
        let filter = filter.filter(|filter| *filter != Expression::Any);
        Self {
            window,
            filter_fields: plan::fields_of_filter(filter.as_ref()),
            filter,
            fields,
            decoder: Decoder::default(),
            batch: FlowBatch::default(),
            selection: Selection::default(),
        }
    }

    /// From now on lets only rows through that `counted` does, too.
    pub(super) fn count_only(&mut self, counted: &Expression) {
        let filter = self.filter.take().unwrap_or(Expression::Any).and(counted.clone());
        self.filter_fields = plan::fields_of_filter(Some(&filter));
        self.filter = Some(filter);
    }

    /// The fields that segments must be loaded with, receive times at the window's ends apart.
    pub(super) fn load_fields(&self) -> Vec<Field> {
        let mut fields = [self.fields.as_slice(), &self.filter_fields].concat();
        fields.sort_unstable();
        fields.dedup();
        fields
    }

    /// The rows of `segment` that are meant, or `None` when there are none.
    pub(super) fn read(&mut self, segment: &Segment) -> Result<Option<Read<'_>>, ColumnsError> {
        let window = &self.window;
        if segment.received_last < window.from || segment.received_first >= window.to {
            return Ok(None);
        }
        let inside = window.from <= segment.received_first && segment.received_last < window.to;
        let rows = segment.rows as usize;
        self.batch.clear();
        self.batch.add_rows(rows);
        let mut decoded = [false; FIELD_COUNT];
        if !inside {
            decode(&mut self.decoder, &mut self.batch, segment, &[Field::Received], &mut decoded)?;
        }
        decode(&mut self.decoder, &mut self.batch, segment, &self.filter_fields, &mut decoded)?;
        match &self.filter {
            Some(filter) => filter.select(&self.batch, &mut self.selection),
            None if !inside => self.selection.fill(rows),
            None => {}
        }
        if !inside {
            self.selection.limit_times(self.batch.column(Field::Received), window.from, window.to);
        }
        let all = inside && self.filter.is_none();
        if !all && self.selection.is_empty() {
            return Ok(None);
        }
        decode(&mut self.decoder, &mut self.batch, segment, &self.fields, &mut decoded)?;
        Ok(Some(Read { batch: &self.batch, selection: (!all).then_some(&self.selection) }))
    }
}

/// Decodes those of `fields` that the segment has and that are not decoded yet.
fn decode(
    decoder: &mut Decoder,
    batch: &mut FlowBatch,
    segment: &Segment,
    fields: &[Field],
    decoded: &mut [bool; FIELD_COUNT],
) -> Result<(), ColumnsError> {
    for (field, block) in &segment.columns {
        let Some(done) = decoded.get_mut(field.index()) else { continue };
        if fields.contains(field) && !*done {
            decoder.decode_into(*field, block, segment.rows as usize, batch.column_mut(*field))?;
            *done = true;
        }
    }
    Ok(())
}

/// Scans segments for the largest groups.
#[derive(Debug)]
pub struct TopScan {
    reader: Reader,
    found: Found,
    order: Order,
    limit: usize,
}

/// What was found so far.
#[derive(Debug)]
struct Found {
    counters: Counters,
    totals: Totals,
    records: u64,
    sampled_flows: u64,
    groups: Groups,
    room: Room,
    picked: Vec<u16>,
}

impl TopScan {
    /// A scan that answers `request`.
    ///
    /// # Errors
    /// [`QueryError::Request`] when the request cannot be answered.
    pub fn new(request: &TopRequest) -> Result<Self, QueryError> {
        plan::check(request)?;
        Ok(Self {
            reader: Reader::new(request.window, request.filter.clone(), plan::fields_of(&request.by)),
            found: Found {
                counters: request.counters,
                totals: Totals::default(),
                records: 0,
                sampled_flows: 0,
                groups: Groups::new(&request.by),
                room: Room::default(),
                picked: Vec::with_capacity(CHUNK),
            },
            order: request.order,
            limit: request.limit,
        })
    }

    /// Takes in one segment, which has at least the fields that the request needs.
    ///
    /// # Errors
    /// When a block is damaged.
    pub fn segment(&mut self, segment: &Segment) -> Result<(), ColumnsError> {
        if let Some(read) = self.reader.read(segment)? {
            // The database keeps sums up to 2^63 - 1; one that reached it may have been more.
            let kept = [segment.totals.bytes, segment.totals.packets, segment.totals.flows];
            let known = kept.iter().all(|sum| *sum < i64::MAX as u64).then_some(&segment.totals);
            self.found.add(read.batch, read.selection, known);
        }
        Ok(())
    }

    /// Takes in what is known already of one host, which is the value of the only dimension.
    pub(super) fn add_host(&mut self, sums: &HostSums) {
        self.found.groups.add_host(sums);
        self.found.totals.add(&sums.totals);
        self.found.records = self.found.records.saturating_add(sums.records);
        self.found.sampled_flows = self.found.sampled_flows.saturating_add(sums.sampled_flows);
    }

    /// Takes in what another scan for the same request found.
    pub fn merge(&mut self, other: Self) {
        let (mut more, mut fewer) = (other.found, &mut self.found);
        if more.groups.len() > fewer.groups.len() {
            std::mem::swap(&mut more, fewer);
            fewer = &mut self.found;
        }
        fewer.groups.merge(&more.groups);
        fewer.totals.add(&more.totals);
        fewer.records = fewer.records.saturating_add(more.records);
        fewer.sampled_flows = fewer.sampled_flows.saturating_add(more.sampled_flows);
    }

    /// The rows, the totals of all selected flows, and how many groups there are.
    pub fn finish(&self) -> (Vec<TopRow>, Totals, u64) {
        let groups = &self.found.groups;
        (rank::top(groups, self.order, self.limit), self.found.totals, groups.len() as u64)
    }

    /// How many records were selected. One may stand for several flows, or for none.
    pub fn records(&self) -> u64 {
        self.found.records
    }

    /// How many of the selected flows were sampled; see [`Completeness::sampled_flows`](super::Completeness).
    pub fn sampled_flows(&self) -> u64 {
        self.found.sampled_flows
    }
}

impl Scan for TopScan {
    fn load_fields(&self) -> Vec<Field> {
        self.reader.load_fields()
    }

    fn count_only(&mut self, counted: &Expression) {
        self.reader.count_only(counted);
    }

    fn segment(&mut self, segment: &Segment) -> Result<(), ColumnsError> {
        Self::segment(self, segment)
    }

    fn memory(&self) -> usize {
        self.found.groups.memory()
    }

    fn merge(&mut self, other: Self) {
        Self::merge(self, other);
    }
}

impl Found {
    /// Adds the selected rows of `batch`, of which all have the raw sums `known` together, if they are known.
    fn add(&mut self, batch: &FlowBatch, selection: Option<&Selection>, known: Option<&Totals>) {
        let raw = self.counters == Counters::Raw || !is_sampled(batch);
        let known = known.filter(|_| raw && selection.is_none());
        if let Some(known) = known {
            self.totals.add(known);
        }
        let mut start = 0usize;
        while start < batch.rows() {
            let rows = start..start.saturating_add(CHUNK).min(batch.rows());
            start = rows.end;
            let mut picked = None;
            if let Some(selection) = selection {
                pick(selection, rows.start, &mut self.picked);
                if self.picked.is_empty() {
                    continue;
                }
                picked = (self.picked.len() < rows.len()).then_some(self.picked.as_slice());
            }
            let rows = Rows::new(&rows, picked);
            self.records = self.records.saturating_add(rows.len() as u64);
            let weights = Weights::of(batch, rows, self.counters, &mut self.room);
            self.sampled_flows = self.sampled_flows.saturating_add(weights.sampled_flows());
            if known.is_none() {
                self.totals.add(&weights.totals());
            }
            self.groups.add(batch, rows, &weights);
        }
    }
}

/// Sets `picked` to the offsets of the selected ones of the [`CHUNK`] rows from `start`, a multiple of it, on.
pub(super) fn pick(selection: &Selection, start: usize, picked: &mut Vec<u16>) {
    const WORD: usize = u64::BITS as usize;
    picked.clear();
    let words = selection.words().iter().skip(start / WORD).take(CHUNK / WORD);
    for (word, first) in words.zip((0u16..).step_by(WORD)) {
        let mut rest = *word;
        while rest != 0 {
            picked.push(first | rest.trailing_zeros() as u16);
            rest &= rest.wrapping_sub(1);
        }
    }
}
