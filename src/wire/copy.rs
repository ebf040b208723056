//! The inner loops: from records of one length into the runs of a batch's columns, one column at a time.
//!
//! Each loop is made for one wire width and one column type, so that it is a load, a byte swap and a store. Nothing is
//! allocated but the batch's own room. A number wider than its column stops at the column's largest value.

use super::plan::{Counting, Number, Plan, Source};
use super::sampling::Sampling;
use super::split::Records;
use super::times::{Base, Times};
use crate::flow::batch::{AddressRun, Column, FlowBatch, Values};
use crate::flow::fields::{Field, Kind};
use crate::flow::value::wide_from_v4;

/// Fills `out` with `convert` of the `W` bytes `offset` into each record.
fn gather<const W: usize, T>(records: &Records<'_>, offset: usize, out: &mut [T], convert: impl Fn([u8; W]) -> T) {
    for (slot, bytes) in out.iter_mut().zip(records.at(offset)) {
        if let Some(bytes) = bytes.first_chunk::<W>() {
            *slot = convert(*bytes);
        }
    }
}

/// A loop for numbers of every width into columns of one type. Widths that fit their own loop are read in one load.
macro_rules! numbers {
    ($name:ident $type:ty) => {
        fn $name(records: &Records<'_>, offset: usize, width: usize, out: &mut [$type]) {
            let fit = |value: u64| <$type>::try_from(value).unwrap_or(<$type>::MAX);
            match width {
                1 => gather(records, offset, out, |[byte]: [u8; 1]| <$type>::from(byte)),
                2 => gather(records, offset, out, |bytes| fit(u16::from_be_bytes(bytes).into())),
                4 => gather(records, offset, out, |bytes| fit(u32::from_be_bytes(bytes).into())),
                8 => gather(records, offset, out, |bytes| fit(u64::from_be_bytes(bytes))),
                3 => gather(records, offset, out, |bytes: [u8; 3]| fit(fold(&bytes))),
                5 => gather(records, offset, out, |bytes: [u8; 5]| fit(fold(&bytes))),
                6 => gather(records, offset, out, |bytes: [u8; 6]| fit(fold(&bytes))),
                _ => gather(records, offset, out, |bytes: [u8; 7]| fit(fold(&bytes))),
            }
        }
    };
}

numbers!(numbers_u8 u8);
numbers!(numbers_u16 u16);
numbers!(numbers_u32 u32);
numbers!(numbers_u64 u64);

/// The numbers that `number` stands for in each record.
pub(super) fn each_number<'a>(records: &Records<'a>, number: Number) -> impl Iterator<Item = u64> + use<'a> {
    let values = records.at(number.offset).take(records.count);
    values.map(move |bytes| bytes.get(..number.width).map_or(0, fold))
}

/// A big-endian number of up to 8 bytes.
pub(super) fn fold(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// Copies one column's values of all records into rows `row` and on.
fn copy_column(kind: Kind, source: Source, records: &Records<'_>, column: &mut Column, row: usize) {
    let count = records.count;
    match (source, kind) {
        (Source::Unsigned { offset, width }, Kind::U8) => numbers_u8(records, offset, width, column.u8_run(row, count)),
        (Source::Unsigned { offset, width }, Kind::U16) => {
            numbers_u16(records, offset, width, column.u16_run(row, count));
        }
        (Source::Unsigned { offset, width }, Kind::U32) => {
            numbers_u32(records, offset, width, column.u32_run(row, count));
        }
        (Source::Unsigned { offset, width }, _) => numbers_u64(records, offset, width, column.u64_run(row, count)),
        (Source::Label { offset }, _) => {
            gather(records, offset, column.u32_run(row, count), |[a, b, c]: [u8; 3]| {
                u32::from_be_bytes([0, a, b, c]) >> 4
            });
        }
        (Source::Dscp { offset }, _) => {
            gather(records, offset, column.u8_run(row, count), |[codepoint]: [u8; 1]| codepoint << 2);
        }
        (Source::Mac { offset }, _) => {
            gather(records, offset, column.u64_run(row, count), |bytes: [u8; 6]| fold(&bytes));
        }
        (Source::V4 { offset }, _) => match column.v4_run(row, count) {
            AddressRun::V4(out) => gather(records, offset, out, u32::from_be_bytes),
            AddressRun::Wide(out) => {
                gather(records, offset, out, |bytes| wide_from_v4(u32::from_be_bytes(bytes)));
            }
        },
        (Source::V6 { offset }, _) => gather(records, offset, column.wide_run(row, count), u128::from_be_bytes),
        (Source::Either { v4, v6 }, _) => {
            let narrow = records.at(v4).zip(records.at(v6));
            for (slot, (v4, v6)) in column.wide_run(row, count).iter_mut().zip(narrow) {
                let v4 = v4.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
                let v6 = v6.first_chunk().map_or(0, |bytes| u128::from_be_bytes(*bytes));
                *slot = if v4 == 0 && v6 != 0 { v6 } else { wide_from_v4(v4) };
            }
        }
    }
}

/// What is the same for all flows of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    /// Who sent them.
    pub(super) exporter_id: u32,
    /// The observation domain, source id or engine.
    pub(super) observation_domain: u32,
    /// What their moments are relative to.
    pub(super) base: Base,
}

/// Adds a flow to `batch` for each of `records` and returns how many had implausible times.
pub(super) fn copy(
    plan: &Plan,
    records: &Records<'_>,
    origin: &Origin,
    sampling: &Sampling<'_>,
    times: &mut Times,
    batch: &mut FlowBatch,
) -> usize {
    let count = records.count;
    let row = batch.add_rows(count);
    batch.column_mut(Field::Received).time_run(row, count).fill(origin.base.received);
    batch.column_mut(Field::ExporterId).u32_run(row, count).fill(origin.exporter_id);
    batch.column_mut(Field::ObservationDomain).u32_run(row, count).fill(origin.observation_domain);
    for &(field, source) in &plan.columns {
        copy_column(field.kind(), source, records, batch.column_mut(field), row);
    }
    sampling.fill(plan, records, batch, row);
    count_flows(plan.counting, batch, row, count);
    let corrected = times.read(plan, records, &origin.base);
    for (field, moments) in [(Field::FirstSeen, &times.first), (Field::LastSeen, &times.last)] {
        if moments.len() == count {
            let run = batch.column_mut(field).time_run(row, count);
            for (slot, &moment) in run.iter_mut().zip(moments) {
                *slot = moment;
            }
        }
    }
    corrected
}

/// What a firewall calls the beginning of a flow, and what it calls news of one that goes on (IANA element 233).
const CREATED: u8 = 1;
const UPDATED: u8 = 5;

/// Makes those of the new rows count for no flow that tell of one which another record counts, or of none.
fn count_flows(counting: Counting, batch: &mut FlowBatch, row: usize, count: usize) {
    match counting {
        Counting::Flows => {}
        Counting::Log => batch.column_mut(Field::AggregatedFlows).u64_run(row, count).fill(0),
        Counting::FirewallEvents => {
            let Values::U8(events) = batch.column(Field::FirewallEvent).values() else { return };
            let counts: Vec<u64> = events
                .get(row..row.saturating_add(count))
                .unwrap_or_default()
                .iter()
                .map(|event| u64::from(!matches!(*event, CREATED | UPDATED)))
                .collect();
            let run = batch.column_mut(Field::AggregatedFlows).u64_run(row, count);
            run.iter_mut().zip(counts).for_each(|(slot, count)| *slot = count);
        }
    }
}
