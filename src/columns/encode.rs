//! From a batch to the blocks of a segment.

use super::address::Parts;
use super::error::{ColumnsError, Damage};
use super::section::{SectionWriter, Word};
use super::{HEADER_BYTES, PARTLY_PRESENT, UNIT_SHIFT, VERSION, WIDE, checksum, presence, time};
use crate::clock::Timestamp;
use crate::flow::batch::{Addresses, Column, FlowBatch, Values};
use crate::flow::fields::Field;
use crate::flow::segment::{MAX_SEGMENT_FLOWS, Segment};
use std::ops::Range;

/// Turns flows into segments. It keeps its memory, so one encoder serves one thread for ever.
#[derive(Debug)]
pub struct Encoder {
    sections: SectionWriter,
    gathered: Gathered,
    numbers: Vec<u64>,
    parts: Parts,
}

/// Present values of a column that has gaps, moved together.
#[derive(Debug, Default)]
struct Gathered {
    u8: Vec<u8>,
    u16: Vec<u16>,
    u32: Vec<u32>,
    u64: Vec<u64>,
    i64: Vec<i64>,
    u128: Vec<u128>,
}

impl Encoder {
    /// An encoder at compression `level`: 0 is fastest, 4 a third smaller at half the speed, 12 (and above) smallest.
    pub fn new(level: usize) -> Self {
        Self {
            sections: SectionWriter::new(level),
            gathered: Gathered::default(),
            numbers: Vec::new(),
            parts: Parts::default(),
        }
    }

    /// The flows in `rows` as a segment. They are 1 to 65,536, and all received in one UTC hour.
    pub fn encode(&mut self, batch: &FlowBatch, rows: Range<usize>) -> Result<Segment, ColumnsError> {
        if rows.is_empty() || rows.len() > MAX_SEGMENT_FLOWS || rows.end > batch.rows() {
            return Err(ColumnsError::Rows { start: rows.start, end: rows.end, rows: batch.rows() });
        }
        let (received_first, received_last) = bounds(batch.column(Field::Received), &rows)?;
        if received_first.hour() != received_last.hour() {
            return Err(ColumnsError::SeveralHours { first: received_first, last: received_last });
        }
        let mut columns = Vec::new();
        for field in Field::ALL {
            let block = self.block(field, batch.column(field), &rows);
            let block = block.map_err(|damage| ColumnsError::Compress { field, message: damage.to_string() })?;
            columns.extend(block.map(|block| (field, block)));
        }
        let totals = batch.totals(rows.clone());
        Ok(Segment { rows: rows.len() as u32, received_first, received_last, totals, columns })
    }

    /// The block of one field, or none when no row has it.
    fn block(&mut self, field: Field, column: &Column, rows: &Range<usize>) -> Result<Option<Vec<u8>>, Damage> {
        let runs = runs_within(column, rows);
        if runs.is_empty() {
            return Ok(None);
        }
        let partly = !matches!(runs.as_slice(), [run] if run.start == 0 && run.end == rows.len());
        let mut shape = if partly { PARTLY_PRESENT } else { 0 };
        let mut out = vec![0; HEADER_BYTES];
        let sections = &mut self.sections;
        if partly {
            presence::write(&mut out, sections, &runs)?;
        }
        let first = rows.start;
        match column.values() {
            Values::U8(values) => write(&mut out, sections, gather(&mut self.gathered.u8, values, first, &runs))?,
            Values::U16(values) => write(&mut out, sections, gather(&mut self.gathered.u16, values, first, &runs))?,
            Values::U32(values) | Values::Address(Addresses::V4(values)) => {
                write(&mut out, sections, gather(&mut self.gathered.u32, values, first, &runs))?;
            }
            Values::U64(values) => write(&mut out, sections, gather(&mut self.gathered.u64, values, first, &runs))?,
            Values::Time(values) => {
                let moments = gather(&mut self.gathered.i64, values, first, &runs);
                let (earliest, unit) = time::to_numbers(moments, &mut self.numbers);
                shape |= unit << UNIT_SHIFT;
                out.extend_from_slice(&earliest.to_le_bytes());
                write(&mut out, sections, &self.numbers)?;
            }
            Values::Address(Addresses::Wide(values)) => {
                if self.parts.split(gather(&mut self.gathered.u128, values, first, &runs)) {
                    shape |= WIDE;
                    self.parts.write(&mut out, sections)?;
                } else {
                    write(&mut out, sections, self.parts.v4())?;
                }
            }
        }
        if let Some((header, body)) = out.split_first_chunk_mut::<HEADER_BYTES>() {
            let [a, b, c, d] = checksum(field.kind(), rows.len() as u32, VERSION, shape, body).to_le_bytes();
            *header = [VERSION, shape, a, b, c, d];
        }
        Ok(Some(out))
    }
}

fn write<T: Word>(out: &mut Vec<u8>, sections: &mut SectionWriter, values: &[T]) -> Result<(), Damage> {
    sections.write(out, values)
}

/// The column's runs within `rows`, counted from the first of `rows`.
fn runs_within(column: &Column, rows: &Range<usize>) -> Vec<Range<usize>> {
    let runs = column.present().runs();
    let before = runs.partition_point(|run| run.end <= rows.start);
    let runs = runs.get(before..).unwrap_or_default().iter().take_while(|run| run.start < rows.end);
    runs.map(|run| run.start.saturating_sub(rows.start)..run.end.min(rows.end).saturating_sub(rows.start)).collect()
}

/// The values of `runs`, counted from row `first`: borrowed when they lie together, else moved together in `room`.
fn gather<'a, T: Copy>(room: &'a mut Vec<T>, values: &'a [T], first: usize, runs: &[Range<usize>]) -> &'a [T] {
    let values = values.get(first..).unwrap_or_default();
    if let [run] = runs {
        return values.get(run.clone()).unwrap_or_default();
    }
    room.clear();
    for run in runs {
        room.extend_from_slice(values.get(run.clone()).unwrap_or_default());
    }
    room
}

/// The earliest and the latest receive time in `rows`.
fn bounds(received: &Column, rows: &Range<usize>) -> Result<(Timestamp, Timestamp), ColumnsError> {
    let Values::Time(values) = received.values() else { return Err(ColumnsError::NotReceived) };
    let present: usize = runs_within(received, rows).iter().map(ExactSizeIterator::len).sum();
    if present != rows.len() {
        return Err(ColumnsError::NotReceived);
    }
    let values = values.get(rows.clone()).unwrap_or_default();
    let (Some(first), Some(last)) = (values.iter().min(), values.iter().max()) else {
        return Err(ColumnsError::NotReceived);
    };
    Ok((Timestamp::from_micros(*first), Timestamp::from_micros(*last)))
}
