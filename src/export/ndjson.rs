//! Flows as JSON, an object a line, with a member for each field that the flow has.
//!
//! Numbers are JSON integers, up to 2^64 - 1; everything else is text. Neither names nor values need escapes, because
//! names come from the catalogue and values are numbers, addresses and moments.

use super::cells::{Cells, Moments};
use super::error::ExportError;
use super::place::refused;
use crate::flow::fields::{Field, Kind};
use crate::query::extract::Flows;
use chrono_tz::Tz;
use std::io::Write;

/// Writes flows as NDJSON.
pub(super) struct NdjsonWriter<W> {
    output: W,
    fields: Vec<(Field, Member)>,
    moments: Moments,
    cell: Vec<u8>,
    line: Vec<u8>,
    rows: u64,
}

/// What stands around a value.
struct Member {
    before: String,
    after: &'static str,
}

impl<W: Write> NdjsonWriter<W> {
    pub(super) fn new(output: W, fields: &[Field], zone: Tz) -> Self {
        let member = |field: Field| match field.kind() {
            Kind::U8 | Kind::U16 | Kind::U32 | Kind::U64 => {
                Member { before: format!("\"{}\":", field.name()), after: "" }
            }
            Kind::Time | Kind::Address | Kind::Mac => {
                Member { before: format!("\"{}\":\"", field.name()), after: "\"" }
            }
        };
        Self {
            output,
            fields: fields.iter().map(|field| (*field, member(*field))).collect(),
            moments: Moments::new(zone),
            cell: Vec::new(),
            line: Vec::new(),
            rows: 0,
        }
    }

    pub(super) fn take(&mut self, flows: &Flows<'_>) -> Result<(), ExportError> {
        let mut columns: Vec<_> = self
            .fields
            .iter()
            .map(|(field, member)| (Cells::new(*field, flows.batch.column(*field)), member))
            .collect();
        for &row in flows.rows {
            self.line.clear();
            self.line.push(b'{');
            for (column, member) in &mut columns {
                column.write(row, &mut self.moments, &mut self.cell);
                if self.cell.is_empty() {
                    continue;
                }
                if self.line.len() > 1 {
                    self.line.push(b',');
                }
                self.line.extend_from_slice(member.before.as_bytes());
                self.line.extend_from_slice(&self.cell);
                self.line.extend_from_slice(member.after.as_bytes());
            }
            self.line.extend_from_slice(b"}\n");
            self.output.write_all(&self.line).map_err(refused)?;
        }
        self.rows = self.rows.saturating_add(flows.rows.len() as u64);
        Ok(())
    }

    /// The output, with everything in it, and how many rows there are.
    pub(super) fn finish(self) -> (W, u64) {
        (self.output, self.rows)
    }
}
