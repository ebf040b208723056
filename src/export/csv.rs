//! Flows as CSV (RFC 4180): a head with the names of the fields, and a row a flow. What a flow does not have is an empty
//! cell.

use super::cells::{Cells, Moments};
use super::error::ExportError;
use super::place::refused;
use crate::flow::fields::Field;
use crate::query::extract::Flows;
use chrono_tz::Tz;
use std::io::Write;

/// Writes flows as CSV.
pub(super) struct CsvWriter<W: Write> {
    writer: csv::Writer<W>,
    fields: Vec<Field>,
    moments: Moments,
    cell: Vec<u8>,
    rows: u64,
}

impl<W: Write> CsvWriter<W> {
    pub(super) fn new(output: W, fields: &[Field], zone: Tz) -> Result<Self, ExportError> {
        let mut writer = csv::Writer::from_writer(output);
        writer.write_record(fields.iter().map(|field| field.name())).map_err(failed)?;
        Ok(Self { writer, fields: fields.to_vec(), moments: Moments::new(zone), cell: Vec::new(), rows: 0 })
    }

    pub(super) fn take(&mut self, flows: &Flows<'_>) -> Result<(), ExportError> {
        let mut columns: Vec<_> =
            self.fields.iter().map(|field| Cells::new(*field, flows.batch.column(*field))).collect();
        for &row in flows.rows {
            for column in &mut columns {
                column.write(row, &mut self.moments, &mut self.cell);
                self.writer.write_field(&self.cell).map_err(failed)?;
            }
            self.writer.write_record(None::<&[u8]>).map_err(failed)?;
        }
        self.rows = self.rows.saturating_add(flows.rows.len() as u64);
        Ok(())
    }

    /// The output, with everything in it, and how many rows there are.
    pub(super) fn finish(mut self) -> Result<(W, u64), ExportError> {
        self.writer.flush().map_err(refused)?;
        let output = self.writer.into_inner().map_err(|error| ExportError::Defect(error.to_string()))?;
        Ok((output, self.rows))
    }
}

fn failed(error: csv::Error) -> ExportError {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => refused(error),
        other => ExportError::Defect(format!("{other:?}")),
    }
}
