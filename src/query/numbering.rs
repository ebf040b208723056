//! Numbers for values: each different value of a dimension gets the next number, starting at 0.
//!
//! Sums then stand in an array, whatever the values are, and a group of several dimensions is a tuple of numbers. Values of
//! 8 and 16 bits look their number up in an array, all others in a hash table. IPv4 addresses have a table of 32 bits,
//! also when they come among IPv6 ones.

use super::rows::Rows;
use super::table::{NONE, Table};
use crate::flow::batch::{Addresses, Column, Values};
use crate::flow::fields::Kind;
use crate::flow::value::{v4_from_wide, wide_from_v4};

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
    room: Room,
}

/// Values of picked rows, gathered.
#[derive(Debug, Default)]
struct Room {
    u32: Vec<u32>,
    u64: Vec<u64>,
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
        Self { kind, index, values: Vec::new(), room: Room::default() }
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
        match &mut self.index {
            Index::Array(array) => in_array(array, values, bits),
            Index::Number32(table) => table.number(bits as u32, || added(values, bits)),
            Index::Number64(table) => table.number(bits as u64, || added(values, bits)),
            Index::Address { v4, v6 } => in_tables(v4, v6, values, bits),
        }
    }

    /// Sets `numbers` to those of the column's values in `rows`. A number that a row does not have is 0; a row without the
    /// address, MAC or moment gets [`NONE`].
    pub(super) fn number_rows(&mut self, column: &Column, rows: Rows<'_>, numbers: &mut Vec<u32>) {
        numbers.clear();
        let Self { kind, index, values, room } = self;
        match (index, column.values()) {
            (Index::Array(array), Values::U8(cells)) => {
                rows.each(column, cells, |cell| numbers.push(in_array(array, values, cell.unwrap_or(0).into())));
            }
            (Index::Array(array), Values::U16(cells)) => {
                rows.each(column, cells, |cell| numbers.push(in_array(array, values, cell.unwrap_or(0).into())));
            }
            (Index::Number32(table), Values::U32(cells)) => {
                let cells = rows.filled(column, cells, 0, &mut room.u32);
                table.number_all(cells, numbers, |cell| added(values, cell.into()));
            }
            (Index::Number64(table), Values::U64(cells)) if *kind == Kind::U64 || rows.all_in(column) => {
                let cells = rows.filled(column, cells, 0, &mut room.u64);
                table.number_all(cells, numbers, |cell| added(values, cell.into()));
            }
            (Index::Number64(table), Values::U64(cells)) => rows.each(column, cells, |cell| {
                numbers.push(cell.map_or(NONE, |cell| table.number(cell, || added(values, cell.into()))));
            }),
            (Index::Number64(table), Values::Time(cells)) => rows.each(column, cells, |cell| {
                let bits = cell.map(|cell| cell as u64);
                numbers.push(bits.map_or(NONE, |bits| table.number(bits, || added(values, bits.into()))));
            }),
            (Index::Address { v4, .. }, Values::Address(Addresses::V4(cells))) if rows.all_in(column) => {
                let cells = rows.dense(cells, &mut room.u32);
                v4.number_all(cells, numbers, |cell| added(values, wide_from_v4(cell)));
            }
            (Index::Address { v4, .. }, Values::Address(Addresses::V4(cells))) => rows.each(column, cells, |cell| {
                numbers.push(cell.map_or(NONE, |cell| v4.number(cell, || added(values, wide_from_v4(cell)))));
            }),
            (Index::Address { v4, v6 }, Values::Address(Addresses::Wide(cells))) => rows.each(column, cells, |cell| {
                numbers.push(cell.map_or(NONE, |cell| in_tables(v4, v6, values, cell)));
            }),
            // A column of another type than its field's cannot be made; its rows are in no group.
            _ => numbers.resize(rows.len(), NONE),
        }
    }
}

/// Adds a value and returns its number.
fn added(values: &mut Vec<u128>, bits: u128) -> u32 {
    let number = values.len() as u32;
    values.push(bits);
    number
}

fn in_array(array: &mut [u32], values: &mut Vec<u128>, bits: u128) -> u32 {
    let Some(number) = array.get_mut(bits as usize) else { return NONE };
    if *number == NONE {
        *number = added(values, bits);
    }
    *number
}

fn in_tables(v4: &mut Table<u32>, v6: &mut Table<u128>, values: &mut Vec<u128>, bits: u128) -> u32 {
    match v4_from_wide(bits) {
        Some(narrow) => v4.number(narrow, || added(values, bits)),
        None => v6.number(bits, || added(values, bits)),
    }
}
