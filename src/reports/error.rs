//! What can be wrong with reports: their settings, a request for a run, and the places they are delivered to.
//!
//! It promises that each message names the report and says what to change. It knows neither HTTP nor the command line.

use crate::query::QueryError;
use crate::store::StoreError;
use std::path::PathBuf;

/// Why a report could not be defined, run or delivered.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A setting of one report is wrong.
    #[error("report \"{report}\": {key}: {problem}")]
    Setting {
        /// The report's name as configured.
        report: String,
        /// The key in its `[[report]]` section.
        key: &'static str,
        /// What is wrong and what to write instead.
        problem: String,
    },
    /// A setting of `[smtp]` is wrong.
    #[error("[smtp] {key}: {problem}")]
    Mail {
        /// The key in `[smtp]`.
        key: &'static str,
        /// What is wrong and what to write instead.
        problem: String,
    },
    /// A run was asked of a report that is not configured.
    #[error("there is no report \"{name}\"; the configured ones are: {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// All names, with commas.
        known: String,
    },
    /// A day, week or month was not written as expected.
    #[error("\"{text}\" is not a {period}: write it like {example}")]
    Span {
        /// The text given.
        text: String,
        /// `day`, `week` or `month`.
        period: &'static str,
        /// A correct one.
        example: &'static str,
    },
    /// The rows could not be written as CSV or JSON; memory is the only place they go, so this is a fault of ours.
    #[error("the report could not be rendered: {0}")]
    Render(String),
    /// The file could not be written.
    #[error("{}: {source}; make the directory writable for the user that flowledger runs as", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A mail was not accepted.
    #[error("{0}")]
    Send(String),
    /// The wake-up timer could not be started.
    #[error("the scheduler's timer could not be started: {0}")]
    Timer(String),
    /// The question could not be answered.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The database did not take or give the record of a run.
    #[error(transparent)]
    Store(#[from] StoreError),
}
