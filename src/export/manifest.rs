//! What stands beside exported flows: which they are, how many, what they sum up to, and what may be missing.
//!
//! The members that reports have in their manifests have the same names and shapes here.

use super::error::ExportError;
use super::{Destination, Format, Written};
use crate::clock::Timestamp;
use crate::flow::fields::Field;
use crate::query::Window;
use crate::query::extract::{Extract, ExtractRequest};
use crate::reports::csv::time;
use crate::reports::document::{Bounds, Stamp, Sums};
use chrono::NaiveTime;
use serde::Serialize;
use std::path::PathBuf;

/// What is told.
pub(super) struct Manifest<'a> {
    pub(super) format: Format,
    pub(super) files: Vec<Written>,
    pub(super) request: &'a ExtractRequest,
    pub(super) fields: &'a [Field],
    pub(super) extract: &'a Extract,
    pub(super) generated_at: Timestamp,
}

#[derive(Serialize)]
struct Shape {
    flowledger: &'static str,
    format: &'static str,
    window: Bounds,
    filter: Option<String>,
    fields: Vec<&'static str>,
    rows: u64,
    counters: &'static str,
    totals: Sums,
    scaled_totals: Sums,
    completeness: Stamp,
    files: Vec<FileShape>,
    generated_at: String,
}

#[derive(Serialize)]
struct FileShape {
    path: String,
    rows: u64,
    bytes: u64,
}

impl Manifest<'_> {
    /// The manifest as JSON.
    pub(super) fn render(self) -> Result<Vec<u8>, ExportError> {
        let window = &self.request.window;
        let file = |file: Written| FileShape {
            path: file.path.to_string_lossy().into_owned(),
            rows: file.rows,
            bytes: file.bytes,
        };
        let shape = Shape {
            flowledger: env!("CARGO_PKG_VERSION"),
            format: self.format.name(),
            window: Bounds::from(window),
            filter: self.request.filter.as_ref().map(ToString::to_string),
            fields: self.fields.iter().map(|field| field.name()).collect(),
            rows: self.extract.records,
            counters: "raw",
            totals: Sums::from(&self.extract.totals),
            scaled_totals: Sums::from(&self.extract.scaled),
            completeness: Stamp::new(&self.extract.completeness, window.zone),
            files: self.files.into_iter().map(file).collect(),
            generated_at: time(self.generated_at, window.zone),
        };
        let mut json = serde_json::to_vec_pretty(&shape).map_err(|error| ExportError::Defect(error.to_string()))?;
        json.push(b'\n');
        Ok(json)
    }
}

/// Where the manifest lies unless it is asked for elsewhere: beside a file, its name with `.json` behind; in a directory of Parquet, under a
/// name that has the window, because further windows are added, and begins with `_`, which readers of such directories leave
/// out.
pub(super) fn path(format: Format, destination: &Destination, window: &Window) -> Option<PathBuf> {
    let Destination::Path(path) = destination else { return None };
    Some(match format {
        Format::Parquet => {
            path.join(format!("_manifest_{}_{}.json", compact(window.from, window), compact(window.to, window)))
        }
        Format::Csv | Format::Ndjson => path.with_added_extension("json"),
    })
}

/// A moment as part of a name: a day where it begins one.
fn compact(moment: Timestamp, window: &Window) -> String {
    let local = moment.to_utc().with_timezone(&window.zone);
    let midnight = local.time() == NaiveTime::MIN;
    local.format(if midnight { "%Y-%m-%d" } else { "%Y-%m-%dT%H%M%S%.f" }).to_string()
}
