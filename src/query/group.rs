//! Groups and their sums.
//!
//! Rows come in chunks of at most [`CHUNK`]. A chunk's keys become numbers of groups first and its counters are added to the
//! groups' sums second, each in one plain loop over arrays that stay in the cache; with a million groups, the waits for
//! memory then overlap.

use super::answer::{Counters, TopRow};
use super::numbering::Numbering;
use super::rows::Rows;
use super::table::{CACHED_BYTES, NONE, Table};
use crate::clock::Timestamp;
use crate::flow::batch::{FlowBatch, Values};
use crate::flow::fields::{Dimension, Field, Kind};
use crate::flow::sampling::{sampled, scaled};
use crate::flow::segment::Totals;
use crate::flow::value::Value;
use crate::pages;
use crate::store::host_traffic::HostSums;
use std::cmp::Ordering;

/// The most rows that are added at a time.
pub(super) const CHUNK: usize = 1_024;
/// The most dimensions that flows are grouped by.
pub const MAX_DIMENSIONS: usize = 4;

/// The sums of one group. They saturate.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sums {
    pub(super) totals: Totals,
    /// The earliest first packet, `i64::MAX` for none.
    first_seen: i64,
    /// The latest last packet, `i64::MIN` for none.
    last_seen: i64,
}

impl Default for Sums {
    fn default() -> Self {
        Self { totals: Totals::default(), first_seen: i64::MAX, last_seen: i64::MIN }
    }
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.totals.add(&other.totals);
        self.first_seen = self.first_seen.min(other.first_seen);
        self.last_seen = self.last_seen.max(other.last_seen);
    }
}

impl From<&HostSums> for Sums {
    fn from(sums: &HostSums) -> Self {
        Self {
            totals: sums.totals,
            first_seen: sums.first_seen.map_or(i64::MAX, Timestamp::micros),
            last_seen: sums.last_seen.map_or(i64::MIN, Timestamp::micros),
        }
    }
}

/// What the rows of a chunk add to the sums of their groups.
#[derive(Debug)]
pub(super) struct Weights<'a> {
    bytes: &'a [u64],
    packets: &'a [u64],
    flows: &'a [u64],
    first_seen: &'a [i64],
    last_seen: &'a [i64],
    /// Sampling intervals; empty when no flow of the batch has one.
    intervals: &'a [u32],
}

/// The memory of weights that do not lie together in their columns.
#[derive(Debug, Default)]
pub(super) struct Room {
    bytes: Vec<u64>,
    packets: Vec<u64>,
    flows: Vec<u64>,
    more: Vec<u64>,
    first_seen: Vec<i64>,
    last_seen: Vec<i64>,
    intervals: Vec<u32>,
}

/// The fields that weights are made of.
pub(super) const WEIGHT_FIELDS: [Field; 8] = [
    Field::InBytes,
    Field::OutBytes,
    Field::InPackets,
    Field::OutPackets,
    Field::AggregatedFlows,
    Field::FirstSeen,
    Field::LastSeen,
    Field::SamplingInterval,
];

/// Whether a flow of `batch` has a sampling interval: if not, raw and scaled are the same.
pub(super) fn is_sampled(batch: &FlowBatch) -> bool {
    !batch.column(Field::SamplingInterval).present().is_empty()
}

fn counter<'a>(batch: &'a FlowBatch, field: Field, rows: Rows<'_>, absent: u64, room: &'a mut Vec<u64>) -> &'a [u64] {
    let column = batch.column(field);
    let Values::U64(values) = column.values() else { return &[] };
    rows.filled(column, values, absent, room)
}

fn moment<'a>(batch: &'a FlowBatch, field: Field, rows: Rows<'_>, absent: i64, room: &'a mut Vec<i64>) -> &'a [i64] {
    let column = batch.column(field);
    let Values::Time(values) = column.values() else { return &[] };
    rows.filled(column, values, absent, room)
}

/// The sampling intervals, empty when no flow of the batch has one.
fn intervals<'a>(batch: &'a FlowBatch, rows: Rows<'_>, room: &'a mut Vec<u32>) -> &'a [u32] {
    let column = batch.column(Field::SamplingInterval);
    match column.values() {
        Values::U32(values) if is_sampled(batch) => rows.filled(column, values, 1, room),
        _ => &[],
    }
}

/// The sums of two counters, of which the second is mostly missing, times `intervals` if there are any.
fn both<'a>(
    batch: &'a FlowBatch,
    (one, other): (Field, Field),
    rows: Rows<'_>,
    intervals: &[u32],
    room: &'a mut Vec<u64>,
    more: &mut Vec<u64>,
) -> &'a [u64] {
    let alone = batch.column(other).present().is_empty();
    if alone && intervals.is_empty() {
        return counter(batch, one, rows, 0, room);
    }
    room.clear();
    room.extend_from_slice(counter(batch, one, rows, 0, more));
    if !alone {
        let more = counter(batch, other, rows, 0, more);
        room.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(*more));
    }
    room.iter_mut().zip(intervals).for_each(|(sum, interval)| *sum = scaled(*sum, *interval));
    room
}

impl<'a> Weights<'a> {
    /// The weights of `rows`, in `room` where they do not lie together.
    pub(super) fn of(batch: &'a FlowBatch, rows: Rows<'_>, counters: Counters, room: &'a mut Room) -> Self {
        let intervals = intervals(batch, rows, &mut room.intervals);
        let factors = if counters == Counters::Scaled { intervals } else { &[] };
        let bytes = (Field::InBytes, Field::OutBytes);
        let packets = (Field::InPackets, Field::OutPackets);
        Self {
            bytes: both(batch, bytes, rows, factors, &mut room.bytes, &mut room.more),
            packets: both(batch, packets, rows, factors, &mut room.packets, &mut room.more),
            flows: counter(batch, Field::AggregatedFlows, rows, 1, &mut room.flows),
            first_seen: moment(batch, Field::FirstSeen, rows, i64::MAX, &mut room.first_seen),
            last_seen: moment(batch, Field::LastSeen, rows, i64::MIN, &mut room.last_seen),
            intervals,
        }
    }

    /// How many of the flows were sampled.
    pub(super) fn sampled_flows(&self) -> u64 {
        let flows = self.flows.iter().zip(self.intervals).map(|(flows, interval)| sampled(*flows, *interval));
        flows.fold(0u64, u64::saturating_add)
    }

    /// The sums of all weights.
    pub(super) fn totals(&self) -> Totals {
        let sum = |weights: &[u64]| weights.iter().fold(0u64, |sum, weight| sum.saturating_add(*weight));
        Totals { bytes: sum(self.bytes), packets: sum(self.packets), flows: sum(self.flows) }
    }
}

/// The groups that were found so far.
#[derive(Debug)]
pub(super) struct Groups {
    /// The fields of the dimensions, once for each side that a flow counts for.
    sides: Vec<Vec<Field>>,
    numberings: Vec<Numbering>,
    /// The groups of several dimensions.
    tuples: Tuples,
    sums: Vec<Sums>,
    /// Numbers of the chunk's rows, by dimension and as groups.
    numbers: Vec<Vec<u32>>,
    groups: Vec<u32>,
}

impl Groups {
    /// No groups yet, of 1 to [`MAX_DIMENSIONS`] dimensions of which at most one is a pair.
    pub(super) fn new(by: &[Dimension]) -> Self {
        let side = |source: bool| {
            by.iter().map(move |dimension| match *dimension {
                Dimension::One(field) => field,
                Dimension::Either { source: field, .. } if source => field,
                Dimension::Either { destination, .. } => destination,
            })
        };
        let mut sides = vec![side(true).collect::<Vec<_>>(), side(false).collect()];
        sides.dedup();
        Self {
            sides,
            numberings: by.iter().map(|dimension| Numbering::new(dimension.kind())).collect(),
            tuples: Tuples::default(),
            sums: Vec::new(),
            numbers: vec![Vec::with_capacity(CHUNK); by.len()],
            groups: Vec::with_capacity(CHUNK),
        }
    }

    /// How many groups there are.
    pub(super) fn len(&self) -> usize {
        self.sums.len()
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        let numberings: usize = self.numberings.iter().map(Numbering::memory).sum();
        numberings
            .saturating_add(self.tuples.memory())
            .saturating_add(self.sums.capacity().saturating_mul(size_of::<Sums>()))
    }

    /// Adds the `weights` of `rows`, at most [`CHUNK`], to their groups.
    pub(super) fn add(&mut self, batch: &FlowBatch, rows: Rows<'_>, weights: &Weights<'_>) {
        for side in &self.sides {
            for ((field, numbering), numbers) in side.iter().zip(&mut self.numberings).zip(&mut self.numbers) {
                numbering.number_rows(batch.column(*field), rows, numbers);
            }
            let groups = match (self.numbers.as_slice(), self.numberings.as_slice()) {
                ([numbers], [numbering]) => {
                    pages::grow(&mut self.sums, numbering.values().len(), Sums::default());
                    numbers
                }
                (numbers, _) => {
                    self.tuples.number_rows(numbers, &mut self.groups);
                    pages::grow(&mut self.sums, self.tuples.keys.len(), Sums::default());
                    &self.groups
                }
            };
            if size_of_val(self.sums.as_slice()) > CACHED_BYTES {
                // The waits for memory overlap better without sums in between.
                let sums = groups.iter().filter_map(|group| self.sums.get(*group as usize));
                std::hint::black_box(sums.fold(0, |touched, sums| touched ^ sums.totals.flows));
            }
            let counters = weights.bytes.iter().zip(weights.packets).zip(weights.flows);
            let moments = weights.first_seen.iter().zip(weights.last_seen);
            for ((group, ((bytes, packets), flows)), (first_seen, last_seen)) in
                groups.iter().zip(counters).zip(moments)
            {
                let totals = Totals { bytes: *bytes, packets: *packets, flows: *flows };
                if let Some(sums) = self.sums.get_mut(*group as usize) {
                    sums.add(&Sums { totals, first_seen: *first_seen, last_seen: *last_seen });
                }
            }
        }
    }

    /// Adds ready sums to the group of a host. Does nothing unless the groups have one dimension.
    pub(super) fn add_host(&mut self, sums: &HostSums) {
        let [numbering] = self.numberings.as_mut_slice() else { return };
        let number = numbering.number(sums.host);
        pages::grow(&mut self.sums, numbering.values().len(), Sums::default());
        if let Some(own) = self.sums.get_mut(number as usize) {
            own.add(&sums.into());
        }
    }

    /// Adds the groups of `other`, which has the same dimensions.
    pub(super) fn merge(&mut self, other: &Self) {
        let numbers: Vec<Vec<u32>> = self
            .numberings
            .iter_mut()
            .zip(&other.numberings)
            .map(|(own, other)| other.values().iter().map(|bits| own.number(*bits)).collect())
            .collect();
        let mut tuple = vec![Vec::with_capacity(1); numbers.len()];
        let mut group = Vec::with_capacity(1);
        for (index, sums) in other.sums.iter().enumerate() {
            let number = if let [numbers] = numbers.as_slice() {
                numbers.get(index).copied().unwrap_or(NONE)
            } else {
                for (dimension, (numbers, tuple)) in numbers.iter().zip(&mut tuple).enumerate() {
                    tuple.clear();
                    tuple.extend(numbers.get(other.value_number(index, dimension)).copied());
                }
                self.tuples.number_rows(&tuple, &mut group);
                group.first().copied().unwrap_or(NONE)
            };
            if number != NONE && number as usize >= self.sums.len() {
                pages::grow(&mut self.sums, (number as usize).saturating_add(1), Sums::default());
            }
            if let Some(own) = self.sums.get_mut(number as usize) {
                own.add(sums);
            }
        }
    }

    /// The number of the value that the group has in a dimension.
    fn value_number(&self, group: usize, dimension: usize) -> usize {
        match self.numberings.as_slice() {
            [_] => group,
            _ => part(self.tuples.keys.get(group).copied().unwrap_or_default(), dimension) as usize,
        }
    }

    /// The group's value in a dimension.
    fn value(&self, group: usize, dimension: usize) -> Value {
        let Some(numbering) = self.numberings.get(dimension) else { return Value::from_bits(Kind::U64, 0) };
        let bits = numbering.values().get(self.value_number(group, dimension)).copied().unwrap_or_default();
        Value::from_bits(numbering.kind(), bits)
    }

    /// The sums of each group, by its index.
    pub(super) fn sums(&self) -> &[Sums] {
        &self.sums
    }

    /// The order of two groups by their keys.
    pub(super) fn compare_keys(&self, one: usize, other: usize) -> Ordering {
        (0..self.numberings.len())
            .map(|dimension| self.value(one, dimension).cmp(&self.value(other, dimension)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
    }

    /// The group as a row of an answer.
    pub(super) fn row(&self, group: usize) -> TopRow {
        let sums = self.sums.get(group).copied().unwrap_or_default();
        TopRow {
            key: (0..self.numberings.len()).map(|dimension| self.value(group, dimension)).collect(),
            totals: sums.totals,
            first_seen: (sums.first_seen != i64::MAX).then(|| Timestamp::from_micros(sums.first_seen)),
            last_seen: (sums.last_seen != i64::MIN).then(|| Timestamp::from_micros(sums.last_seen)),
        }
    }
}

/// The number at position `dimension` of a tuple.
fn part(tuple: u128, dimension: usize) -> u32 {
    let shift = u32::try_from(dimension).unwrap_or(0).saturating_mul(32);
    tuple.checked_shr(shift).unwrap_or_default() as u32
}

/// Tuples of values' numbers, 32 bits each, the first dimension lowest.
#[derive(Debug, Default)]
struct Tuples {
    table: Table<u128>,
    /// The tuple of each group.
    keys: Vec<u128>,
    /// The tuples of the chunk.
    chunk: Vec<u128>,
}

impl Tuples {
    /// Sets `groups` to the numbers of the tuples that stand side by side in `numbers`. A tuple with [`NONE`] in it is none.
    fn number_rows(&mut self, numbers: &[Vec<u32>], groups: &mut Vec<u32>) {
        groups.clear();
        self.chunk.clear();
        self.chunk.resize(numbers.first().map_or(0, Vec::len), 0);
        let mut complete = true;
        for numbers in numbers.iter().rev() {
            for (tuple, number) in self.chunk.iter_mut().zip(numbers) {
                complete &= *number != NONE;
                *tuple = *tuple << 32 | u128::from(*number);
            }
        }
        let mut next = |tuple| {
            self.keys.push(tuple);
            self.keys.len().saturating_sub(1) as u32
        };
        if complete {
            self.table.number_all(&self.chunk, groups, next);
            return;
        }
        for (row, tuple) in self.chunk.iter().enumerate() {
            let in_group = numbers.iter().all(|numbers| numbers.get(row).is_some_and(|number| *number != NONE));
            groups.push(if in_group { self.table.number(*tuple, || next(*tuple)) } else { NONE });
        }
    }

    /// Bytes held.
    fn memory(&self) -> usize {
        self.table.memory().saturating_add(self.keys.capacity().saturating_mul(size_of::<u128>()))
    }
}
