//! Flows as Apache Parquet: `day=2026-11-23/part-0000.parquet`, laid out as Hive does, so that DuckDB, Spark and ClickHouse
//! read the directory as a table with a column `day`.
//!
//! Numbers are unsigned integers of their width, moments are timestamps in UTC with microseconds, addresses and MACs are text.
//! Every column can be NULL. All files of an export have the same columns. Rows are gathered in row groups of about
//! [`GROUP_ROWS`], which is what memory holds; a file ends after [`FILE_ROWS`], since what stands at its end is held, too.

#[cfg(test)]
mod tests;

use super::Written;
use super::cells::{Cells, Moments};
use super::error::ExportError;
use super::place::{Complete, Directory};
use crate::flow::batch::{Column, Values};
use crate::flow::fields::{Field, Kind};
use crate::query::extract::Flows;
use chrono::NaiveDate;
use parquet::basic::{Compression, Encoding, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, Int32Type, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesPtr};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{ColumnPath, Type, TypePtr};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A row group is written when it has this many rows; it ends with a segment, so it may have 65,535 more.
const GROUP_ROWS: usize = 131_072;
/// A file ends with the row group that reaches this many rows.
const FILE_ROWS: u64 = 16 << 20;

/// Writes flows as Parquet.
pub(super) struct ParquetWriter {
    directory: Directory,
    schema: TypePtr,
    properties: WriterPropertiesPtr,
    columns: Vec<Gathered>,
    rows: usize,
    file_rows: u64,
    day: Option<NaiveDate>,
    /// How many files the day has.
    parts: u32,
    part: Option<Part>,
    written: Vec<Written>,
}

/// The file that is being written.
struct Part {
    writer: SerializedFileWriter<File>,
    temporary: PathBuf,
    within: PathBuf,
    rows: u64,
}

impl ParquetWriter {
    pub(super) fn new(directory: Directory, fields: &[Field]) -> Result<Self, ExportError> {
        Self::with_file_rows(directory, fields, FILE_ROWS)
    }

    /// The same with files that end after `file_rows`.
    pub(super) fn with_file_rows(directory: Directory, fields: &[Field], file_rows: u64) -> Result<Self, ExportError> {
        let columns = fields.iter().map(|field| column(*field).map(Arc::new)).collect::<Result<Vec<_>, _>>();
        let schema = columns.and_then(|columns| Type::group_type_builder("flows").with_fields(columns).build());
        let schema = schema.map_err(|error| ExportError::Defect(error.to_string()))?;
        Ok(Self {
            directory,
            schema: Arc::new(schema),
            properties: Arc::new(properties(fields)),
            columns: fields.iter().map(|field| Gathered::new(*field)).collect(),
            rows: 0,
            file_rows,
            day: None,
            parts: 0,
            part: None,
            written: Vec::new(),
        })
    }

    pub(super) fn take(&mut self, flows: &Flows<'_>) -> Result<(), ExportError> {
        if self.day != Some(flows.day) {
            self.end_part()?;
            (self.day, self.parts) = (Some(flows.day), 0);
        }
        if self.part.is_none() {
            self.begin_part(flows.day)?;
        }
        for column in &mut self.columns {
            column.gather(flows.batch.column(column.field), flows.rows);
        }
        self.rows = self.rows.saturating_add(flows.rows.len());
        if self.rows >= GROUP_ROWS {
            self.end_group()?;
        }
        if self.part.as_ref().is_some_and(|part| part.rows >= self.file_rows) {
            self.end_part()?;
        }
        Ok(())
    }

    /// Ends all files and tells which they are.
    pub(super) fn complete(mut self) -> Result<(Complete, Vec<Written>), ExportError> {
        self.end_part()?;
        Ok((self.directory.complete()?, self.written))
    }

    fn begin_part(&mut self, day: NaiveDate) -> Result<(), ExportError> {
        let name = format!("part-{:04}.parquet", self.parts);
        self.parts = self.parts.saturating_add(1);
        let (file, temporary, within) = self.directory.file(day, &name)?;
        let writer = SerializedFileWriter::new(file, Arc::clone(&self.schema), Arc::clone(&self.properties))
            .map_err(failed(&temporary))?;
        self.part = Some(Part { writer, temporary, within, rows: 0 });
        Ok(())
    }

    /// Writes what was gathered as a row group.
    fn end_group(&mut self) -> Result<(), ExportError> {
        let Some(part) = self.part.as_mut().filter(|_| self.rows > 0) else { return Ok(()) };
        write_group(&mut part.writer, &mut self.columns).map_err(failed(&part.temporary))?;
        part.rows = part.rows.saturating_add(self.rows as u64);
        self.rows = 0;
        Ok(())
    }

    fn end_part(&mut self) -> Result<(), ExportError> {
        self.end_group()?;
        let Some(part) = self.part.take() else { return Ok(()) };
        let file = part.writer.into_inner().map_err(failed(&part.temporary))?;
        let bytes = file.sync_all().and_then(|()| file.metadata()).map_err(ExportError::file(&part.temporary))?.len();
        self.written.push(Written { path: part.within, rows: part.rows, bytes });
        Ok(())
    }
}

fn write_group(writer: &mut SerializedFileWriter<File>, columns: &mut [Gathered]) -> Result<(), ParquetError> {
    let mut group = writer.next_row_group()?;
    for gathered in columns {
        let Some(mut column) = group.next_column()? else { break };
        let levels = Some(gathered.levels.as_slice());
        match &mut gathered.values {
            Gathering::Int32(values) => column.typed::<Int32Type>().write_batch(values, levels, None)?,
            Gathering::Int64(values) => column.typed::<Int64Type>().write_batch(values, levels, None)?,
            Gathering::Text { text, lengths } => {
                let all = ByteArray::from(std::mem::take(text));
                let mut at = 0usize;
                let values: Vec<_> = lengths
                    .iter()
                    .map(|length| {
                        let value = all.slice(at, *length);
                        at = at.saturating_add(*length);
                        value
                    })
                    .collect();
                column.typed::<ByteArrayType>().write_batch(&values, levels, None)?
            }
        };
        column.close()?;
        gathered.clear();
    }
    group.close().map(drop)
}

/// What went wrong with the file `path`.
fn failed(path: &Path) -> impl FnOnce(ParquetError) -> ExportError {
    let path = path.to_owned();
    |error| match error {
        ParquetError::External(inner) => match inner.downcast::<io::Error>() {
            Ok(source) => ExportError::File { path, source: *source },
            Err(other) => ExportError::Defect(other.to_string()),
        },
        other => ExportError::Defect(other.to_string()),
    }
}

/// How a field is laid down.
fn column(field: Field) -> Result<Type, ParquetError> {
    let (physical, logical) = match field.kind() {
        Kind::U8 => (Physical::INT32, LogicalType::integer(8, false)),
        Kind::U16 => (Physical::INT32, LogicalType::integer(16, false)),
        Kind::U32 => (Physical::INT32, LogicalType::integer(32, false)),
        Kind::U64 => (Physical::INT64, LogicalType::integer(64, false)),
        Kind::Time => (Physical::INT64, LogicalType::timestamp(true, TimeUnit::MICROS)),
        Kind::Address | Kind::Mac => (Physical::BYTE_ARRAY, LogicalType::String),
    };
    Type::primitive_type_builder(field.name(), physical)
        .with_logical_type(Some(logical))
        .with_repetition(Repetition::OPTIONAL)
        .build()
}

fn properties(fields: &[Field]) -> WriterProperties {
    let properties = WriterProperties::builder()
        .set_created_by(concat!("flowledger version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::SNAPPY)
        // Those of pages would be held until the end of the file.
        .set_statistics_enabled(EnabledStatistics::Chunk);
    // Moments hardly repeat but lie close together.
    fields
        .iter()
        .filter(|field| field.kind() == Kind::Time)
        .fold(properties, |properties, field| {
            let path = ColumnPath::from(field.name());
            properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED)
        })
        .build()
}

/// The values of a field for a row group.
struct Gathered {
    field: Field,
    /// 1 for a row that has a value, 0 for one that has none.
    levels: Vec<i16>,
    values: Gathering,
}

/// Values of the rows that have one, in Parquet's types. Unsigned numbers keep their bits.
enum Gathering {
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Text { text: Vec<u8>, lengths: Vec<usize> },
}

impl Gathered {
    fn new(field: Field) -> Self {
        let values = match field.kind() {
            Kind::U8 | Kind::U16 | Kind::U32 => Gathering::Int32(Vec::new()),
            Kind::U64 | Kind::Time => Gathering::Int64(Vec::new()),
            Kind::Address | Kind::Mac => Gathering::Text { text: Vec::new(), lengths: Vec::new() },
        };
        Self { field, levels: Vec::new(), values }
    }

    fn clear(&mut self) {
        self.levels.clear();
        match &mut self.values {
            Gathering::Int32(values) => values.clear(),
            Gathering::Int64(values) => values.clear(),
            Gathering::Text { text, lengths } => {
                text.clear();
                lengths.clear();
            }
        }
    }

    /// Adds the values that `column` has in `rows`.
    fn gather(&mut self, column: &Column, rows: &[usize]) {
        let levels = &mut self.levels;
        match (&mut self.values, column.values()) {
            (Gathering::Int32(out), Values::U8(values)) => {
                each(column, rows, values, levels, |value| out.push(value.into()));
            }
            (Gathering::Int32(out), Values::U16(values)) => {
                each(column, rows, values, levels, |value| out.push(value.into()));
            }
            (Gathering::Int32(out), Values::U32(values)) => {
                each(column, rows, values, levels, |value| out.push(value.cast_signed()));
            }
            (Gathering::Int64(out), Values::U64(values)) => {
                each(column, rows, values, levels, |value| out.push(value.cast_signed()));
            }
            (Gathering::Int64(out), Values::Time(values)) => {
                each(column, rows, values, levels, |value| out.push(value));
            }
            (Gathering::Text { text, lengths }, _) => {
                let (mut cells, mut cell) = (Cells::new(self.field, column), Vec::new());
                let mut moments = Moments::new(chrono_tz::UTC);
                for &row in rows {
                    cells.write(row, &mut moments, &mut cell);
                    levels.push(i16::from(!cell.is_empty()));
                    if !cell.is_empty() {
                        text.extend_from_slice(&cell);
                        lengths.push(cell.len());
                    }
                }
            }
            // The catalogue decides both; a column of another type has nothing for this one.
            _ => levels.extend(rows.iter().map(|_| 0)),
        }
    }
}

/// Calls `add` with the value of each of `rows` that has one, and notes in `levels` which have.
fn each<T: Copy>(column: &Column, rows: &[usize], values: &[T], levels: &mut Vec<i16>, mut add: impl FnMut(T)) {
    let mut cursor = column.present().cursor();
    for &row in rows {
        let value = values.get(row).filter(|_| cursor.holds(row));
        levels.push(i16::from(value.is_some()));
        if let Some(value) = value {
            add(*value);
        }
    }
}
