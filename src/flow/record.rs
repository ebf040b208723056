//! One flow outside the columns: what is known of it, by field, on its way into a batch.
//!
//! For sources that tell flow by flow and each differently, such as archives. Decoders of datagrams write whole runs
//! instead.

use super::batch::{AddressRun, Column, FlowBatch};
use super::fields::{Field, Kind};
use super::value::v4_from_wide;

/// What is known of one flow. The memory is used again from flow to flow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlowRecord {
    values: Vec<(Field, u128)>,
}

impl FlowRecord {
    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.values.clear();
    }

    /// Notes a value, as [`super::value::Value::from_bits`] reads it. Of several for one field the last counts. What is
    /// beyond the field's width becomes the largest value that it holds.
    pub fn set(&mut self, field: Field, bits: impl Into<u128>) {
        self.values.push((field, bits.into()));
    }

    /// Forgets what was noted for `field`.
    pub fn unset(&mut self, field: Field) {
        self.values.retain(|(known, _)| *known != field);
    }

    /// The last value noted for `field`.
    pub fn get(&self, field: Field) -> Option<u128> {
        self.values.iter().rev().find(|(known, _)| *known == field).map(|(_, bits)| *bits)
    }

    /// Everything that is known of `row` of a batch.
    pub fn of(batch: &FlowBatch, row: usize) -> Self {
        let values = Field::ALL.into_iter().filter_map(|field| Some((field, batch.column(field).bits(row)?)));
        Self { values: values.collect() }
    }

    /// Adds the flow to `batch` as its last row.
    pub fn append(&self, batch: &mut FlowBatch) {
        let row = batch.add_rows(1);
        for &(field, bits) in &self.values {
            write(batch.column_mut(field), field.kind(), row, bits);
        }
    }
}

fn put<T: TryFrom<u128>>(room: &mut [T], bits: u128, largest: T) {
    if let Some(slot) = room.first_mut() {
        *slot = T::try_from(bits).unwrap_or(largest);
    }
}

fn write(column: &mut Column, kind: Kind, row: usize, bits: u128) {
    match kind {
        Kind::U8 => put(column.u8_run(row, 1), bits, u8::MAX),
        Kind::U16 => put(column.u16_run(row, 1), bits, u16::MAX),
        Kind::U32 => put(column.u32_run(row, 1), bits, u32::MAX),
        Kind::U64 | Kind::Mac => put(column.u64_run(row, 1), bits, u64::MAX),
        Kind::Time => put(column.time_run(row, 1), bits, i64::MAX),
        Kind::Address => match v4_from_wide(bits) {
            Some(v4) => match column.v4_run(row, 1) {
                AddressRun::V4(room) => put(room, v4.into(), 0),
                AddressRun::Wide(room) => put(room, bits, 0),
            },
            None => put(column.wide_run(row, 1), bits, 0),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::value::wide_from_v4;

    #[test]
    fn each_flow_becomes_a_row_with_what_is_known_of_it_and_nothing_else() {
        let mut batch = FlowBatch::default();
        let mut record = FlowRecord::default();
        record.set(Field::SrcPort, 80u16);
        record.set(Field::SrcPort, 443u16);
        record.set(Field::SrcIp, wide_from_v4(0x0a00_0001));
        record.set(Field::SrcVlan, 70_000u32);
        assert_eq!((record.get(Field::SrcPort), record.get(Field::DstPort)), (Some(443), None));
        record.set(Field::DstPort, 1u16);
        record.unset(Field::DstPort);
        assert_eq!(record.get(Field::DstPort), None);
        record.append(&mut batch);
        record.clear();
        record.set(Field::SrcIp, 0x2001_0db8_u128 << 96 | 1);
        record.set(Field::LastSeen, 5u64);
        record.append(&mut batch);
        let shown = |field: Field, row| batch.value(field, row).map(|value| value.to_string());
        assert_eq!(shown(Field::SrcPort, 0).as_deref(), Some("443"));
        assert_eq!(shown(Field::SrcVlan, 0).as_deref(), Some("65535"));
        assert_eq!(shown(Field::SrcIp, 0).as_deref(), Some("10.0.0.1"));
        assert_eq!(shown(Field::SrcIp, 1).as_deref(), Some("2001:db8::1"));
        let mut copy = FlowBatch::default();
        (0..2).for_each(|row| FlowRecord::of(&batch, row).append(&mut copy));
        assert_eq!(copy, batch);
        assert_eq!((shown(Field::SrcPort, 1), shown(Field::LastSeen, 0), batch.rows()), (None, None, 2));
    }
}
