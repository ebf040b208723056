//! Flows as files: every flow of a window, for DuckDB, Spark, ClickHouse, spreadsheets and scripts.
//!
//! [`run`] has the engine hand out the flows and writes them as they come, so that memory does not grow with the window. Each
//! format is a file here; [`place`] puts files under their names, whole or not at all; [`manifest`] says beside the data what
//! it is and what it may lack. Flows are in the order of their days, in no promised order within a day. Days are those of
//! the window's zone, so that a window of whole days makes whole days of files, and the next one does not touch them.
//!
//! Counters are written as exported; the field `sampling_interval` says by what to multiply them. Nothing here knows SQL or
//! HTTP.

mod cells;
mod csv;
mod error;
mod fields;
mod manifest;
mod ndjson;
mod parquet;
mod place;
#[cfg(test)]
mod tests;

pub use error::ExportError;
pub use fields::parse as parse_fields;

use self::parquet::ParquetWriter;
use crate::clock::SharedClock;
use crate::flow::fields::Field;
use crate::query::extract::{Extract, ExtractRequest, FlowSink, Flows};
use crate::query::{Engine, Window};
use manifest::Manifest;
use place::{Complete, Directory, Output, Staged, refused};
use std::io::Write;
use std::path::PathBuf;

/// How flows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RFC 4180, one file.
    Csv,
    /// A JSON object a line, one file.
    Ndjson,
    /// Apache Parquet, a directory with one for each day below it.
    Parquet,
}

impl Format {
    /// The name in manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
            Self::Parquet => "parquet",
        }
    }
}

/// Where flows are written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Standard output; not for Parquet.
    Stdout,
    /// A file that is replaced, or for Parquet a directory that is added to.
    Path(PathBuf),
}

/// What to export.
#[derive(Clone, Debug)]
pub struct ExportRequest {
    /// Which flows, and which fields.
    pub flows: ExtractRequest,
    /// How.
    pub format: Format,
    /// Where to.
    pub destination: Destination,
    /// Where the manifest goes; `None` means beside the data, and nowhere beside standard output.
    pub manifest: Option<PathBuf>,
}

/// What was exported.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How many flows there are, what they sum up to, and what may be missing.
    pub extract: Extract,
    /// Where the manifest lies, if there is one.
    pub manifest: Option<PathBuf>,
}

/// One file of an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The path, for Parquet within its directory.
    pub path: PathBuf,
    /// How many rows it has.
    pub rows: u64,
    /// How many bytes.
    pub bytes: u64,
}

/// Writes what is asked for. When the future is dropped, or fails, nothing stays behind: files get their names at the end, in
/// one step in which it cannot be dropped.
///
/// # Errors
/// What is wrong with the request, the database or the place. [`ExportError::Closed`] when the reader of standard output has
/// had enough.
pub async fn run(engine: &Engine, clock: &SharedClock, request: &ExportRequest) -> Result<Outcome, ExportError> {
    let window = &request.flows.window;
    let (format, destination) = (request.format, request.destination.clone());
    let manifest_path = request.manifest.clone().or_else(|| manifest::path(format, &destination, window));
    let (mut written_fields, mut staged) = (Vec::new(), None);
    let open = |fields: &[Field]| {
        written_fields = fields.to_vec();
        let writer = Writer::open(format, &destination, window, fields)?;
        // Now, so that a place where no manifest can be is told before hours of reading.
        staged = manifest_path.as_deref().map(Staged::new).transpose()?;
        Ok(writer)
    };
    let (writer, extract) = engine.extract(&request.flows, open).await?;
    let manifest = |files: Vec<Written>| Manifest {
        format,
        files,
        request: &request.flows,
        fields: &written_fields,
        extract: &extract,
        generated_at: clock.now(),
    };
    let (complete, files) = tokio::task::spawn_blocking(move || writer.complete())
        .await
        .map_err(|error| ExportError::Defect(error.to_string()))??;
    // Nothing is waited for from here on. The manifest is on the disk before anything has its name, goes where it told of older
    // data, and comes last: whoever finds one finds what it tells of.
    if let Some(staged) = &mut staged {
        staged.write_all(&manifest(files).render()?).map_err(refused)?;
        staged.sync()?;
        staged.clear()?;
    }
    complete.place()?;
    if let Some(staged) = staged {
        staged.place()?;
    }
    Ok(Outcome { extract, manifest: manifest_path })
}

/// Takes flows and writes them down.
enum Writer {
    Csv(Box<csv::CsvWriter<Output>>),
    Ndjson(Box<ndjson::NdjsonWriter<Output>>),
    Parquet(Box<ParquetWriter>),
}

impl Writer {
    fn open(format: Format, destination: &Destination, window: &Window, fields: &[Field]) -> Result<Self, ExportError> {
        Ok(match (format, destination) {
            (Format::Csv, _) => {
                Self::Csv(Box::new(csv::CsvWriter::new(Output::open(destination)?, fields, window.zone)?))
            }
            (Format::Ndjson, _) => {
                Self::Ndjson(Box::new(ndjson::NdjsonWriter::new(Output::open(destination)?, fields, window.zone)))
            }
            (Format::Parquet, Destination::Stdout) => return Err(ExportError::NotAStream),
            (Format::Parquet, Destination::Path(path)) => {
                Self::Parquet(Box::new(ParquetWriter::new(Directory::open(path, window)?, fields)?))
            }
        })
    }

    /// Brings everything to the disk.
    fn complete(self) -> Result<(Complete, Vec<Written>), ExportError> {
        match self {
            Self::Csv(writer) => {
                let (output, rows) = writer.finish()?;
                output.complete(rows)
            }
            Self::Ndjson(writer) => {
                let (output, rows) = writer.finish();
                output.complete(rows)
            }
            Self::Parquet(writer) => writer.complete(),
        }
    }
}

impl FlowSink for Writer {
    type Error = ExportError;

    fn take(&mut self, flows: &Flows<'_>) -> Result<(), ExportError> {
        match self {
            Self::Csv(writer) => writer.take(flows),
            Self::Ndjson(writer) => writer.take(flows),
            Self::Parquet(writer) => writer.take(flows),
        }
    }
}
