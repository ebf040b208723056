//! From a block to a column.

use super::address::Parts;
use super::error::{ColumnsError, Damage};
use super::input::Input;
use super::section::{SectionReader, Word};
use super::{PARTLY_PRESENT, UNIT_MASK, UNIT_SHIFT, VERSION, WIDE, checksum, presence, time};
use crate::flow::batch::{AddressRun, Column, Presence};
use crate::flow::fields::{Field, Kind};
use crate::flow::segment::MAX_SEGMENT_FLOWS;

/// Turns blocks into columns. It keeps its memory, so one decoder serves one thread for ever.
#[derive(Debug, Default)]
pub struct Decoder {
    sections: SectionReader,
    packed: Packed,
    numbers: Vec<u64>,
    parts: Parts,
}

/// Values of present rows, before they move to their rows.
#[derive(Debug, Default)]
struct Packed {
    u8: Vec<u8>,
    u16: Vec<u16>,
    u32: Vec<u32>,
    u64: Vec<u64>,
    i64: Vec<i64>,
    u128: Vec<u128>,
}

/// The column in the block of `field` from a segment of `rows` rows. A [`Decoder`] does the same without allocating.
pub fn decode(field: Field, block: &[u8], rows: usize) -> Result<Column, ColumnsError> {
    let mut column = Column::new(field.kind());
    Decoder::default().decode_into(field, block, rows, &mut column)?;
    Ok(column)
}

impl Decoder {
    /// Replaces what is in `column`, a column of `field`, by the block of `field` from a segment of `rows` rows. After an
    /// error the column is empty.
    pub fn decode_into(
        &mut self,
        field: Field,
        block: &[u8],
        rows: usize,
        column: &mut Column,
    ) -> Result<(), ColumnsError> {
        column.clear();
        let result = self.block(field, block, rows, column);
        if result.is_err() {
            column.clear();
        }
        result
    }

    fn block(&mut self, field: Field, block: &[u8], rows: usize, column: &mut Column) -> Result<(), ColumnsError> {
        let damaged = |what: Damage| ColumnsError::Damaged { field, what };
        let mut input = Input(block);
        let version = input.byte().map_err(damaged)?;
        if version != VERSION {
            return Err(ColumnsError::Version { field, version });
        }
        let shape = input.byte().map_err(damaged)?;
        let stored = u32::from_le_bytes(input.array().map_err(damaged)?);
        if rows == 0 || rows > MAX_SEGMENT_FLOWS {
            return Err(damaged(Damage::Count));
        }
        if stored != checksum(field.kind(), rows as u32, version, shape, input.0) {
            return Err(damaged(Damage::Checksum));
        }
        self.body(field.kind(), shape, input, rows, column).map_err(damaged)
    }

    pub(super) fn body(
        &mut self,
        kind: Kind,
        shape: u8,
        mut input: Input<'_>,
        rows: usize,
        column: &mut Column,
    ) -> Result<(), Damage> {
        let allowed = match kind {
            Kind::Time => PARTLY_PRESENT | UNIT_MASK,
            Kind::Address => PARTLY_PRESENT | WIDE,
            _ => PARTLY_PRESENT,
        };
        if shape & !allowed != 0 {
            return Err(Damage::Header);
        }
        let input = &mut input;
        let sections = &mut self.sections;
        let present = match shape & PARTLY_PRESENT {
            0 => Presence::all(rows),
            _ => presence::read(input, sections, rows)?,
        };
        let packed = &mut self.packed;
        match kind {
            Kind::U8 => numbers(input, sections, &mut packed.u8, &present, column, Column::u8_run)?,
            Kind::U16 => numbers(input, sections, &mut packed.u16, &present, column, Column::u16_run)?,
            Kind::U32 => numbers(input, sections, &mut packed.u32, &present, column, Column::u32_run)?,
            Kind::U64 | Kind::Mac => numbers(input, sections, &mut packed.u64, &present, column, Column::u64_run)?,
            Kind::Time => {
                let earliest = i64::from_le_bytes(input.array()?);
                self.numbers.clear();
                self.numbers.resize(present.count(), 0);
                sections.read(input, &mut self.numbers)?;
                let unit = (shape & UNIT_MASK) >> UNIT_SHIFT;
                place(&mut packed.i64, &present, column, Column::time_run, |moments| {
                    time::to_moments(&self.numbers, earliest, unit, moments)
                })?;
            }
            Kind::Address if shape & WIDE != 0 => {
                place(&mut packed.u128, &present, column, Column::wide_run, |addresses| {
                    self.parts.read(input, sections, addresses)
                })?;
            }
            Kind::Address => numbers(input, sections, &mut packed.u32, &present, column, v4_run)?,
        }
        input.end()
    }
}

/// Hands out the room for a run of present values in a column.
type Room<T> = for<'a> fn(&'a mut Column, usize, usize) -> &'a mut [T];

/// Room for IPv4 addresses in a column that was cleared, and so is narrow.
fn v4_run(column: &mut Column, first: usize, count: usize) -> &mut [u32] {
    match column.v4_run(first, count) {
        AddressRun::V4(room) => room,
        AddressRun::Wide(_) => &mut [],
    }
}

/// Reads one section into the rows of `present`.
fn numbers<T: Word>(
    input: &mut Input<'_>,
    sections: &mut SectionReader,
    packed: &mut Vec<T>,
    present: &Presence,
    column: &mut Column,
    room: Room<T>,
) -> Result<(), Damage> {
    place(packed, present, column, room, |values| sections.read(input, values))
}

/// Has `fill` write the values of `present`: straight into the column when they lie together, else by way of `packed`.
fn place<T: Copy + Default>(
    packed: &mut Vec<T>,
    present: &Presence,
    column: &mut Column,
    room: Room<T>,
    fill: impl FnOnce(&mut [T]) -> Result<(), Damage>,
) -> Result<(), Damage> {
    if let [run] = present.runs() {
        let room = room(column, run.start, run.len());
        return if room.len() == run.len() { fill(room) } else { Err(Damage::Count) };
    }
    packed.clear();
    packed.resize(present.count(), T::default());
    fill(packed)?;
    let mut rest = packed.as_slice();
    for run in present.runs() {
        let (values, after) = rest.split_at_checked(run.len()).ok_or(Damage::Count)?;
        room(column, run.start, run.len()).iter_mut().zip(values).for_each(|(to, from)| *to = *from);
        rest = after;
    }
    Ok(())
}
