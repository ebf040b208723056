//! The records of a data set, found by lengths alone: those of one length lie in a row already, and those with
//! variable-length fields are copied without them, so that the copy plan only ever sees rows of equal strides.
//!
//! Promises: what runs past the set ends it, and nothing of that record is kept. It knows no elements.

use super::plan::{Layout, Plan, Span};
use super::reader::Reader;

/// Records of one length, one after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Records<'a> {
    /// At least `length` times `count` bytes.
    pub(super) bytes: &'a [u8],
    /// Bytes of a record; may be 0 when nothing of it is kept.
    pub(super) length: usize,
    /// How many there are.
    pub(super) count: usize,
}

impl<'a> Records<'a> {
    /// The record at `index`, counted from 0; empty when nothing of records is kept.
    pub(super) fn get(&self, index: usize) -> &'a [u8] {
        let from = index.saturating_mul(self.length);
        self.bytes.get(from..from.saturating_add(self.length)).unwrap_or_default()
    }

    /// What lies `offset` bytes into each record: one slice a record, reaching into the next record's start.
    pub(super) fn at(&self, offset: usize) -> std::slice::Chunks<'a, u8> {
        self.bytes.get(offset..).unwrap_or_default().chunks(self.length.max(1))
    }

    /// The first `count` records at most.
    pub(super) fn limit(self, count: usize) -> Self {
        Self { count: self.count.min(count), ..self }
    }
}

/// The records of a data set.
#[derive(Clone, Debug)]
pub(super) struct Split<'a> {
    /// The records found.
    pub(super) records: Records<'a>,
    /// What follows the last record.
    pub(super) rest: &'a [u8],
    /// A variable-length field ran past the set, so that the rest is lost.
    pub(super) overrun: bool,
    /// Of each record its section of a packet, when that is of variable length.
    pub(super) sections: Vec<&'a [u8]>,
}

/// Finds the records in the body of a data set. Those with variable-length fields are copied into `memory` without them.
pub(super) fn split<'a>(plan: &Plan, body: &'a [u8], memory: &'a mut Vec<u8>) -> Split<'a> {
    let Layout::Variable { spans, minimum } = &plan.layout else {
        let count = body.len().checked_div(plan.record_length).unwrap_or(0);
        let (bytes, rest) = body.split_at_checked(count.saturating_mul(plan.record_length)).unwrap_or((body, &[]));
        let records = Records { bytes, length: plan.record_length, count };
        return Split { records, rest, overrun: false, sections: Vec::new() };
    };
    memory.clear();
    let mut reader = Reader::new(body);
    let (mut count, mut overrun, mut sections) = (0usize, false, Vec::new());
    while *minimum > 0 && reader.len() >= *minimum {
        let kept = memory.len();
        if compact(spans, &mut reader, memory, &mut sections).is_none() {
            memory.truncate(kept);
            sections.truncate(count);
            overrun = true;
            break;
        }
        count = count.saturating_add(1);
    }
    let rest = if overrun { &[] } else { reader.rest() };
    Split { records: Records { bytes: memory, length: plan.record_length, count }, rest, overrun, sections }
}

/// Copies the fixed spans of one record and notes where its section is; `None` when it runs past the set.
fn compact<'a>(
    spans: &[Span],
    reader: &mut Reader<'a>,
    memory: &mut Vec<u8>,
    sections: &mut Vec<&'a [u8]>,
) -> Option<()> {
    for span in spans {
        match span {
            Span::Fixed(length) => memory.extend_from_slice(reader.take(*length)?),
            Span::Variable => _ = variable(reader)?,
            Span::Section => sections.push(variable(reader)?),
        }
    }
    Some(())
}

/// A field that brings its length along (RFC 7011, 7): in one byte, or in two after a byte of 255.
fn variable<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = match reader.u8()? {
        255 => usize::from(reader.u16()?),
        short => usize::from(short),
    };
    reader.take(length)
}
