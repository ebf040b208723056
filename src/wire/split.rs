//! The records of a data set, found by lengths alone: those of one length lie in a row already, and those with
//! variable-length fields are copied without them, so that the copy plan only ever sees rows of equal strides.
//!
//! Promises: what runs past the set ends it, and nothing of that record is kept. It knows no elements.

use super::plan::{Layout, Octets, Plan, Span};
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

    /// The octets of the record at `index`; those of variable length stand in `removed`.
    pub(super) fn octets(&self, octets: Octets, removed: &[&'a [u8]], index: usize) -> &'a [u8] {
        let found = match octets {
            Octets::Fixed { offset, width } => self.get(index).get(offset..).and_then(|rest| rest.get(..width)),
            Octets::Variable { .. } => removed.get(index).copied(),
        };
        found.unwrap_or_default()
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

/// Fields of variable length, one a record of those that are read.
#[derive(Clone, Debug, Default)]
pub(super) struct Removed<'a> {
    /// Sections of packets.
    pub(super) sections: Vec<&'a [u8]>,
    /// Applications.
    pub(super) applications: Vec<&'a [u8]>,
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
    /// What was removed from records and is to be read.
    pub(super) removed: Removed<'a>,
}

/// Finds the records in the body of a data set. Those with variable-length fields are copied into `memory` without them.
pub(super) fn split<'a>(plan: &Plan, body: &'a [u8], memory: &'a mut Vec<u8>) -> Split<'a> {
    let Layout::Variable { spans, minimum } = &plan.layout else {
        let count = body.len().checked_div(plan.record_length).unwrap_or(0);
        let (bytes, rest) = body.split_at_checked(count.saturating_mul(plan.record_length)).unwrap_or((body, &[]));
        let records = Records { bytes, length: plan.record_length, count };
        return Split { records, rest, overrun: false, removed: Removed::default() };
    };
    memory.clear();
    let mut reader = Reader::new(body);
    let (mut count, mut overrun, mut removed) = (0usize, false, Removed::default());
    while *minimum > 0 && reader.len() >= *minimum {
        let kept = memory.len();
        if compact(spans, &mut reader, memory, &mut removed).is_none() {
            memory.truncate(kept);
            removed.sections.truncate(count);
            removed.applications.truncate(count);
            overrun = true;
            break;
        }
        count = count.saturating_add(1);
    }
    let rest = if overrun { &[] } else { reader.rest() };
    Split { records: Records { bytes: memory, length: plan.record_length, count }, rest, overrun, removed }
}

/// Copies the fixed spans of one record and notes what is to be read of the others; `None` when it runs past the set.
fn compact<'a>(spans: &[Span], reader: &mut Reader<'a>, memory: &mut Vec<u8>, removed: &mut Removed<'a>) -> Option<()> {
    for span in spans {
        match span {
            Span::Fixed(length) => memory.extend_from_slice(reader.take(*length)?),
            Span::Variable => _ = variable(reader)?,
            Span::Section => removed.sections.push(variable(reader)?),
            Span::Application => removed.applications.push(variable(reader)?),
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
