//! Flows in memory, as columns.
//!
//! A [`FlowBatch`] has one [`Column`] for each field of the catalogue. A column holds plain values and the runs of rows
//! that have one; what a row does not have costs nothing. Decoders append whole runs at once, so a column is filled
//! with one loop a data set. Clearing keeps the memory, so that a batch is allocated once and used for ever.
//!
//! Promises: every present row lies within the values; runs ascend, do not touch and are not empty; an address column
//! holds 32-bit values until the first IPv6 address comes, and 128-bit ones (IPv4 mapped) from then on until cleared.

use super::fields::{FIELD_COUNT, Field, Kind};
use super::segment::Totals;
use super::value::{Value, wide_from_v4};
use std::ops::Range;

/// Which rows of a column have a value: ascending runs that neither touch nor overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Presence {
    runs: Vec<Range<usize>>,
}

impl Presence {
    /// All of `rows` rows.
    pub fn all(rows: usize) -> Self {
        let mut presence = Self::default();
        presence.add(0..rows);
        presence
    }

    /// Adds a run. It must begin at or after the end of the last one; an empty run adds nothing.
    pub fn add(&mut self, run: Range<usize>) {
        if run.is_empty() {
            return;
        }
        match self.runs.last_mut() {
            Some(last) if last.end >= run.start => last.end = last.end.max(run.end),
            _ => self.runs.push(run),
        }
    }

    /// The runs, ascending.
    pub fn runs(&self) -> &[Range<usize>] {
        &self.runs
    }

    /// How many rows have a value.
    pub fn count(&self) -> usize {
        self.runs.iter().map(ExactSizeIterator::len).sum()
    }

    /// Whether no row has a value.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether each of `rows` rows has a value.
    pub fn is_all(&self, rows: usize) -> bool {
        rows == 0 || matches!(self.runs.as_slice(), [run] if run.start == 0 && run.end >= rows)
    }

    /// Whether `row` has a value.
    pub fn contains(&self, row: usize) -> bool {
        let after = self.runs.partition_point(|run| run.end <= row);
        self.runs.get(after).is_some_and(|run| run.contains(&row))
    }

    /// A walk along the rows, from the first one on.
    pub fn cursor(&self) -> Cursor<'_> {
        Cursor { runs: self.runs.iter(), current: 0..0 }
    }

    /// Forgets all runs and keeps the memory.
    pub fn clear(&mut self) {
        self.runs.clear();
    }
}

/// Walks ascending rows along ascending runs: asking row after row costs less than searching for each.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    runs: std::slice::Iter<'a, Range<usize>>,
    current: Range<usize>,
}

impl Cursor<'_> {
    /// Whether `row` has a value. Rows must be asked for in ascending order.
    pub fn holds(&mut self, row: usize) -> bool {
        while row >= self.current.end {
            match self.runs.next() {
                Some(run) => self.current = run.clone(),
                None => return false,
            }
        }
        self.current.contains(&row)
    }
}

/// The values of an address column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// All are IPv4, in host byte order.
    V4(Vec<u32>),
    /// Some are IPv6; IPv4 ones are IPv4-mapped.
    Wide(Vec<u128>),
}

/// The values of a column, one a row, up to the last row that has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    /// [`Kind::U8`].
    U8(Vec<u8>),
    /// [`Kind::U16`].
    U16(Vec<u16>),
    /// [`Kind::U32`].
    U32(Vec<u32>),
    /// [`Kind::U64`] and [`Kind::Mac`].
    U64(Vec<u64>),
    /// [`Kind::Time`], in microseconds since 1970 UTC.
    Time(Vec<i64>),
    /// [`Kind::Address`].
    Address(Addresses),
}

/// Room for a run of addresses, in the width the column has.
#[derive(Debug)]
pub enum AddressRun<'a> {
    /// IPv4 addresses.
    V4(&'a mut [u32]),
    /// Addresses of both kinds, IPv4 ones mapped.
    Wide(&'a mut [u128]),
}

/// One field of all flows of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    values: Values,
    present: Presence,
    /// Memory of the width that an address column is not using, so that changing width allocates once.
    spare_v4: Vec<u32>,
    spare_wide: Vec<u128>,
}

/// Makes room for `count` values from row `first` on and hands it out. Rows skipped since the last run are absent.
fn room<T: Copy + Default>(values: &mut Vec<T>, first: usize, count: usize) -> &mut [T] {
    values.resize(first.saturating_add(count), T::default());
    values.get_mut(first..).unwrap_or_default()
}

macro_rules! run_of {
    ($(#[$doc:meta])* $name:ident $variant:ident $type:ty) => {
        $(#[$doc])*
        pub fn $name(&mut self, first: usize, count: usize) -> &mut [$type] {
            match &mut self.values {
                Values::$variant(values) => {
                    self.present.add(first..first.saturating_add(count));
                    room(values, first, count)
                }
                _ => &mut [],
            }
        }
    };
}

impl Column {
    /// An empty column for values of `kind`.
    pub fn new(kind: Kind) -> Self {
        let values = match kind {
            Kind::U8 => Values::U8(Vec::new()),
            Kind::U16 => Values::U16(Vec::new()),
            Kind::U32 => Values::U32(Vec::new()),
            Kind::U64 | Kind::Mac => Values::U64(Vec::new()),
            Kind::Time => Values::Time(Vec::new()),
            Kind::Address => Values::Address(Addresses::V4(Vec::new())),
        };
        Self { values, present: Presence::default(), spare_v4: Vec::new(), spare_wide: Vec::new() }
    }

    /// A column of `values` of which the rows in `present` count. Rows beyond the values are dropped from `present`.
    pub fn from_values(values: Values, present: &Presence) -> Self {
        let mut column = Self { values, present: Presence::default(), spare_v4: Vec::new(), spare_wide: Vec::new() };
        let len = column.len();
        for run in present.runs() {
            column.present.add(run.start.min(len)..run.end.min(len));
        }
        column
    }

    /// The values. Those of absent rows mean nothing.
    pub fn values(&self) -> &Values {
        &self.values
    }

    /// Which rows have a value.
    pub fn present(&self) -> &Presence {
        &self.present
    }

    /// How many values are held, those of absent rows included.
    fn len(&self) -> usize {
        match &self.values {
            Values::U8(values) => values.len(),
            Values::U16(values) => values.len(),
            Values::U32(values) => values.len(),
            Values::U64(values) => values.len(),
            Values::Time(values) => values.len(),
            Values::Address(Addresses::V4(values)) => values.len(),
            Values::Address(Addresses::Wide(values)) => values.len(),
        }
    }

    run_of!(/// Room for `count` values from row `first` on, all present. Empty when the column holds another type.
        u8_run U8 u8);
    run_of!(/// Room for `count` values from row `first` on, all present. Empty when the column holds another type.
        u16_run U16 u16);
    run_of!(/// Room for `count` values from row `first` on, all present. Empty when the column holds another type.
        u32_run U32 u32);
    run_of!(/// Room for `count` values from row `first` on, all present. Empty when the column holds another type.
        u64_run U64 u64);
    run_of!(/// Room for `count` moments from row `first` on, all present. Empty when the column holds another type.
        time_run Time i64);

    /// Room for `count` IPv4 addresses from row `first` on, all present, in the width the column has.
    pub fn v4_run(&mut self, first: usize, count: usize) -> AddressRun<'_> {
        match &mut self.values {
            Values::Address(addresses) => {
                self.present.add(first..first.saturating_add(count));
                match addresses {
                    Addresses::V4(values) => AddressRun::V4(room(values, first, count)),
                    Addresses::Wide(values) => AddressRun::Wide(room(values, first, count)),
                }
            }
            _ => AddressRun::V4(&mut []),
        }
    }

    /// Room for `count` addresses of either kind from row `first` on, all present. The column becomes wide.
    pub fn wide_run(&mut self, first: usize, count: usize) -> &mut [u128] {
        if let Values::Address(Addresses::V4(narrow)) = &mut self.values {
            let mut wide = std::mem::take(&mut self.spare_wide);
            wide.clear();
            wide.extend(narrow.iter().map(|&address| wide_from_v4(address)));
            self.spare_v4 = std::mem::take(narrow);
            self.values = Values::Address(Addresses::Wide(wide));
        }
        match &mut self.values {
            Values::Address(Addresses::Wide(values)) => {
                self.present.add(first..first.saturating_add(count));
                room(values, first, count)
            }
            _ => &mut [],
        }
    }

    /// The bits of `row`'s value, as [`Value::from_bits`] reads them.
    pub fn bits(&self, row: usize) -> Option<u128> {
        if !self.present.contains(row) {
            return None;
        }
        match &self.values {
            Values::U8(values) => values.get(row).map(|&value| value.into()),
            Values::U16(values) => values.get(row).map(|&value| value.into()),
            Values::U32(values) => values.get(row).map(|&value| value.into()),
            Values::U64(values) => values.get(row).map(|&value| value.into()),
            Values::Time(values) => values.get(row).map(|&value| u128::from(value as u64)),
            Values::Address(Addresses::V4(values)) => values.get(row).map(|&value| wide_from_v4(value)),
            Values::Address(Addresses::Wide(values)) => values.get(row).copied(),
        }
    }

    /// Appends the values of `other`, a column of the same kind, from row `first` on.
    fn append(&mut self, first: usize, other: &Self) {
        for run in other.present.runs() {
            let (at, count) = (first.saturating_add(run.start), run.len());
            macro_rules! copy {
                ($room:expr, $values:expr) => {
                    if let Some(values) = $values.get(run.clone()) {
                        let room = $room;
                        if room.len() == values.len() {
                            room.copy_from_slice(values);
                        }
                    }
                };
            }
            match &other.values {
                Values::U8(values) => copy!(self.u8_run(at, count), values),
                Values::U16(values) => copy!(self.u16_run(at, count), values),
                Values::U32(values) => copy!(self.u32_run(at, count), values),
                Values::U64(values) => copy!(self.u64_run(at, count), values),
                Values::Time(values) => copy!(self.time_run(at, count), values),
                Values::Address(Addresses::Wide(values)) => copy!(self.wide_run(at, count), values),
                Values::Address(Addresses::V4(values)) => match self.v4_run(at, count) {
                    AddressRun::V4(room) => copy!(room, values),
                    AddressRun::Wide(room) => {
                        let values = values.get(run.clone()).unwrap_or_default();
                        room.iter_mut().zip(values).for_each(|(room, value)| *room = wide_from_v4(*value));
                    }
                },
            }
        }
    }

    /// Forgets all values and keeps the memory. An address column is narrow again.
    pub fn clear(&mut self) {
        self.present.clear();
        match &mut self.values {
            Values::U8(values) => values.clear(),
            Values::U16(values) => values.clear(),
            Values::U32(values) => values.clear(),
            Values::U64(values) => values.clear(),
            Values::Time(values) => values.clear(),
            Values::Address(Addresses::V4(values)) => values.clear(),
            Values::Address(Addresses::Wide(wide)) => {
                self.spare_wide = std::mem::take(wide);
                let mut narrow = std::mem::take(&mut self.spare_v4);
                narrow.clear();
                self.values = Values::Address(Addresses::V4(narrow));
            }
        }
    }
}

/// Flows in memory, a column a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowBatch {
    rows: usize,
    columns: [Column; FIELD_COUNT],
}

impl Default for FlowBatch {
    fn default() -> Self {
        Self { rows: 0, columns: Field::ALL.map(|field| Column::new(field.kind())) }
    }
}

impl FlowBatch {
    /// How many flows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Adds `count` flows without any values and returns the first one's row.
    pub fn add_rows(&mut self, count: usize) -> usize {
        let first = self.rows;
        self.rows = self.rows.saturating_add(count);
        first
    }

    /// Appends the flows of `other`.
    pub fn append(&mut self, other: &Self) {
        let first = self.add_rows(other.rows);
        for (own, other) in self.columns.iter_mut().zip(&other.columns) {
            own.append(first, other);
        }
    }

    /// The column of `field`.
    pub fn column(&self, field: Field) -> &Column {
        #[expect(clippy::indexing_slicing, reason = "the array has one column for each variant of Field")]
        &self.columns[field.index()]
    }

    /// The column of `field`, to be written.
    pub fn column_mut(&mut self, field: Field) -> &mut Column {
        #[expect(clippy::indexing_slicing, reason = "the array has one column for each variant of Field")]
        &mut self.columns[field.index()]
    }

    /// Replaces the column of `field`, as a reader of segments does.
    pub fn set_column(&mut self, field: Field, column: Column) {
        *self.column_mut(field) = column;
    }

    /// The value of `field` in `row`. For tests and single rows; loops go over the columns.
    pub fn value(&self, field: Field, row: usize) -> Option<Value> {
        self.column(field).bits(row).map(|bits| Value::from_bits(field.kind(), bits))
    }

    /// Forgets all flows and keeps the memory.
    pub fn clear(&mut self) {
        self.rows = 0;
        for column in &mut self.columns {
            column.clear();
        }
    }

    /// Sums over the flows in `rows`: both counters, and flows as the exporters aggregated them.
    pub fn totals(&self, rows: Range<usize>) -> Totals {
        let sum = |field: Field| -> (u64, usize) {
            let column = self.column(field);
            let Values::U64(values) = column.values() else { return (0, 0) };
            let (mut sum, mut count) = (0u64, 0usize);
            for run in column.present().runs() {
                let (start, end) = (run.start.max(rows.start), run.end.min(rows.end));
                for &value in values.get(start..end).unwrap_or_default() {
                    sum = sum.saturating_add(value);
                }
                count = count.saturating_add(end.saturating_sub(start));
            }
            (sum, count)
        };
        let (aggregated, counted) = sum(Field::AggregatedFlows);
        Totals {
            bytes: sum(Field::InBytes).0.saturating_add(sum(Field::OutBytes).0),
            packets: sum(Field::InPackets).0.saturating_add(sum(Field::OutPackets).0),
            flows: aggregated.saturating_add(rows.len().saturating_sub(counted) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_merge_when_they_touch_and_gaps_stay_absent() {
        let mut batch = FlowBatch::default();
        let first = batch.add_rows(2);
        batch.column_mut(Field::SrcPort).u16_run(first, 2).copy_from_slice(&[80, 443]);
        let gap = batch.add_rows(3);
        let third = batch.add_rows(1);
        batch.column_mut(Field::SrcPort).u16_run(third, 1).copy_from_slice(&[53]);
        assert_eq!(batch.column(Field::SrcPort).present().runs(), [0..2, 5..6]);
        assert_eq!(batch.value(Field::SrcPort, gap), None);
        assert_eq!(batch.value(Field::SrcPort, third), Some(Value::Number(53)));
        let next = batch.add_rows(1);
        batch.column_mut(Field::SrcPort).u16_run(next, 1).copy_from_slice(&[54]);
        assert_eq!(batch.column(Field::SrcPort).present().runs(), [0..2, 5..7]);
        assert_eq!(batch.column(Field::SrcPort).present().count(), 4);
    }

    #[test]
    fn an_address_column_widens_for_ipv6_and_is_narrow_again_after_clearing() {
        let mut batch = FlowBatch::default();
        let first = batch.add_rows(1);
        let AddressRun::V4(room) = batch.column_mut(Field::DstIp).v4_run(first, 1) else { panic!("wide too early") };
        room.copy_from_slice(&[0x0a00_0001]);
        let second = batch.add_rows(1);
        batch.column_mut(Field::DstIp).wide_run(second, 1).copy_from_slice(&[0x2001_0db8 << 96 | 7]);
        let third = batch.add_rows(1);
        let AddressRun::Wide(room) = batch.column_mut(Field::DstIp).v4_run(third, 1) else { panic!("narrow") };
        room.copy_from_slice(&[wide_from_v4(0x0a00_0002)]);
        let shown: Vec<_> = (0..3).map(|row| batch.value(Field::DstIp, row).unwrap().to_string()).collect();
        assert_eq!(shown, ["10.0.0.1", "2001:db8::7", "10.0.0.2"]);
        batch.clear();
        assert!(matches!(batch.column_mut(Field::DstIp).v4_run(0, 1), AddressRun::V4(_)));
    }

    #[test]
    fn an_appended_batch_keeps_its_values_gaps_and_addresses_of_both_kinds() {
        let batch = |wide: bool, port| {
            let mut batch = FlowBatch::default();
            batch.add_rows(3);
            batch.column_mut(Field::SrcPort).u16_run(1, 1).fill(port);
            match wide {
                true => batch.column_mut(Field::DstIp).wide_run(0, 2).fill(0x2001_0db8 << 96 | u128::from(port)),
                false => match batch.column_mut(Field::DstIp).v4_run(0, 2) {
                    AddressRun::V4(room) => room.fill(0x0a00_0000 | u32::from(port)),
                    AddressRun::Wide(_) => panic!("wide too early"),
                },
            }
            batch
        };
        for (one, other) in [(false, false), (false, true), (true, false), (true, true)] {
            let (one, other) = (batch(one, 1), batch(other, 2));
            let mut both = one.clone();
            both.append(&other);
            assert_eq!(both.rows(), 6);
            for field in Field::ALL {
                for row in 0..3 {
                    assert_eq!(both.value(field, row), one.value(field, row));
                    assert_eq!(both.value(field, row + 3), other.value(field, row));
                }
            }
        }
    }

    #[test]
    fn totals_take_both_counters_saturate_and_count_aggregated_flows() {
        let mut batch = FlowBatch::default();
        batch.add_rows(3);
        batch.column_mut(Field::InBytes).u64_run(0, 3).copy_from_slice(&[1, 2, u64::MAX]);
        batch.column_mut(Field::OutBytes).u64_run(1, 1).copy_from_slice(&[10]);
        batch.column_mut(Field::AggregatedFlows).u64_run(1, 1).copy_from_slice(&[5]);
        assert_eq!(batch.totals(0..2), Totals { bytes: 13, packets: 0, flows: 6 });
        assert_eq!(batch.totals(0..3), Totals { bytes: u64::MAX, packets: 0, flows: 7 });
    }
}
