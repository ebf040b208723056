//! Numbers for values: each different value of a dimension gets the next number, starting at 0.
//!
//! Sums then stand in an array, whatever the values are, and a group of several dimensions is a tuple of numbers. Small
//! numbers look their number up in an array, everything else in a hash table with a seed of its own, so that nobody can
//! choose addresses that collide. IPv4 addresses have a table of 32 bits, also when they come among IPv6 ones.

use crate::flow::batch::{Addresses, Column, Values};
use crate::flow::fields::Kind;
use crate::flow::value::{v4_from_wide, wide_from_v4};
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use std::hash::{BuildHasher, Hash};
use std::ops::Range;

/// No number: the row is in no group.
pub(super) const NONE: u32 = u32::MAX;

/// Keys with their numbers.
#[derive(Debug)]
pub(super) struct Table<K> {
    entries: HashTable<(K, u32)>,
    state: RandomState,
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self { entries: HashTable::new(), state: RandomState::default() }
    }
}

impl<K: Hash + Eq + Copy> Table<K> {
    /// The number of `key`; a new key gets `next` and is told to `added`.
    #[inline]
    pub(super) fn number(&mut self, key: K, next: usize, added: impl FnOnce()) -> u32 {
        let hash = self.state.hash_one(key);
        if let Some((_, number)) = self.entries.find(hash, |(other, _)| *other == key) {
            return *number;
        }
        let number = next as u32;
        self.entries.insert_unique(hash, (key, number), |(other, _)| self.state.hash_one(other));
        added();
        number
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        self.entries.allocation_size()
    }
}

#[derive(Debug)]
enum Index {
    Array(Vec<u32>),
    Number32(Table<u32>),
    Number64(Table<u64>),
    Address { v4: Table<u32>, v6: Table<u128> },
}

/// The values of one dimension and their numbers.
#[derive(Debug)]
pub(super) struct Numbering {
    kind: Kind,
    index: Index,
    /// The bits of each value, by number.
    values: Vec<u128>,
}

impl Numbering {
    /// A numbering of values of `kind`.
    pub(super) fn new(kind: Kind) -> Self {
        let index = match kind {
            Kind::U8 => Index::Array(vec![NONE; 1 << 8]),
            Kind::U16 => Index::Array(vec![NONE; 1 << 16]),
            Kind::U32 => Index::Number32(Table::default()),
            Kind::U64 | Kind::Time | Kind::Mac => Index::Number64(Table::default()),
            Kind::Address => Index::Address { v4: Table::default(), v6: Table::default() },
        };
        Self { kind, index, values: Vec::new() }
    }

    /// How the values are held.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// The bits of each value, by number.
    pub(super) fn values(&self) -> &[u128] {
        &self.values
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        let index = match &self.index {
            Index::Array(array) => size_of_val(array.as_slice()),
            Index::Number32(table) => table.memory(),
            Index::Number64(table) => table.memory(),
            Index::Address { v4, v6 } => v4.memory().saturating_add(v6.memory()),
        };
        index.saturating_add(self.values.capacity().saturating_mul(size_of::<u128>()))
    }

    /// The number of the value with these bits.
    pub(super) fn number(&mut self, bits: u128) -> u32 {
        let values = &mut self.values;
        let next = values.len();
        match &mut self.index {
            Index::Array(array) => in_array(array, values, bits),
            Index::Number32(table) => table.number(bits as u32, next, || values.push(bits)),
            Index::Number64(table) => table.number(bits as u64, next, || values.push(bits)),
            Index::Address { v4, v6 } => match v4_from_wide(bits) {
                Some(narrow) => v4.number(narrow, next, || values.push(bits)),
                None => v6.number(bits, next, || values.push(bits)),
            },
        }
    }

    /// Sets `numbers` to those of the column's values in `rows`, or in those of them whose offset is in `picked`. A number
    /// that a row does not have is 0; a row without the address, MAC or moment gets [`NONE`].
    pub(super) fn number_rows(
        &mut self,
        column: &Column,
        rows: &Range<usize>,
        picked: Option<&[u16]>,
        numbers: &mut Vec<u32>,
    ) {
        numbers.clear();
        let rows = Rows { column, rows, picked };
        let values = &mut self.values;
        match (&mut self.index, column.values()) {
            (Index::Array(array), Values::U8(column)) => {
                rows.each(column, Some(0), |value| {
                    numbers.push(value.map_or(NONE, |v| in_array(array, values, v.into())));
                });
            }
            (Index::Array(array), Values::U16(column)) => {
                rows.each(column, Some(0), |value| {
                    numbers.push(value.map_or(NONE, |v| in_array(array, values, v.into())));
                });
            }
            (Index::Number32(table), Values::U32(column)) => rows.each(column, Some(0), |value| {
                numbers.push(value.map_or(NONE, |v| table.number(v, values.len(), || values.push(v.into()))));
            }),
            (Index::Number64(table), Values::U64(column)) => {
                let absent = (self.kind == Kind::U64).then_some(0);
                rows.each(column, absent, |value| {
                    numbers.push(value.map_or(NONE, |v| table.number(v, values.len(), || values.push(v.into()))));
                });
            }
            (Index::Number64(table), Values::Time(column)) => rows.each(column, None, |value| {
                let bits = |value: i64| value as u64;
                numbers
                    .push(value.map_or(NONE, |v| table.number(bits(v), values.len(), || values.push(bits(v).into()))));
            }),
            (Index::Address { v4, .. }, Values::Address(Addresses::V4(column))) => rows.each(column, None, |value| {
                numbers.push(value.map_or(NONE, |v| v4.number(v, values.len(), || values.push(wide_from_v4(v)))));
            }),
            (Index::Address { v4, v6 }, Values::Address(Addresses::Wide(column))) => rows.each(column, None, |value| {
                numbers.push(value.map_or(NONE, |v| match v4_from_wide(v) {
                    Some(narrow) => v4.number(narrow, values.len(), || values.push(v)),
                    None => v6.number(v, values.len(), || values.push(v)),
                }));
            }),
            // A column of another type than its field's cannot be made; its rows are in no group.
            _ => rows.each(&[], None, |_: Option<u8>| numbers.push(NONE)),
        }
    }
}

fn in_array(array: &mut [u32], values: &mut Vec<u128>, bits: u128) -> u32 {
    let Some(number) = array.get_mut(bits as usize) else { return NONE };
    if *number == NONE {
        *number = values.len() as u32;
        values.push(bits);
    }
    *number
}

/// The rows of a column that are looked at.
struct Rows<'a> {
    column: &'a Column,
    rows: &'a Range<usize>,
    picked: Option<&'a [u16]>,
}

impl Rows<'_> {
    /// Calls `visit` with the value of each row, in order; with `absent` for rows that have none.
    fn each<T: Copy>(&self, values: &[T], absent: Option<T>, mut visit: impl FnMut(Option<T>)) {
        let present = self.column.present();
        let after = present.runs().partition_point(|run| run.end <= self.rows.start);
        let runs = present.runs().get(after..).unwrap_or_default();
        let whole = runs.first().is_some_and(|run| run.start <= self.rows.start && run.end >= self.rows.end);
        match (whole.then(|| values.get(self.rows.clone())).flatten(), self.picked) {
            (Some(values), None) => values.iter().for_each(|value| visit(Some(*value))),
            (Some(values), Some(picked)) => {
                picked.iter().for_each(|row| visit(values.get(usize::from(*row)).copied()));
            }
            (None, None) => self.rows.clone().for_each(|row| {
                visit(if present.contains(row) { values.get(row).copied() } else { absent });
            }),
            (None, Some(picked)) => picked.iter().for_each(|offset| {
                let row = self.rows.start.saturating_add(usize::from(*offset));
                visit(if present.contains(row) { values.get(row).copied() } else { absent });
            }),
        }
    }
}
