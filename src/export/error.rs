//! Why flows were not exported.

use crate::query::QueryError;
use std::io;
use std::path::{Path, PathBuf};

/// Why flows were not exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A field that nobody knows.
    #[error("there is no field `{word}`{hint}")]
    Field {
        /// What was asked for.
        word: String,
        /// What is nearest, or where all stand.
        hint: String,
    },
    /// A field that is asked for twice.
    #[error("the field {name} stands twice; name it once")]
    Twice {
        /// Its name.
        name: &'static str,
    },
    /// Parquet to standard output.
    #[error("parquet goes into a directory, with one for each day below it: give --output DIR")]
    NotAStream,
    /// The file is none that can be replaced.
    #[error("{} is {what}; name a file, or write to standard output with --output -", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// A day is exported already. Replacing a whole day by a part of it would lose flows that nobody misses at once.
    #[error("{} is there already; remove it first, or give another directory", path.display())]
    Exists {
        /// The directory of the day.
        path: PathBuf,
    },
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Whoever read standard output does so no longer.
    #[error("nobody reads the output any more")]
    Closed,
    /// Standard output cannot be written.
    #[error("standard output: {0}")]
    Stdout(io::Error),
    /// A row or file could not be made, which only a defect in this program can cause.
    #[error("the export could not be written: {0}; this is a defect, please report it")]
    Defect(String),
    /// The flows could not be had.
    #[error(transparent)]
    Query(#[from] QueryError),
}

impl ExportError {
    /// The error of what the operating system said about `path`.
    pub(super) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::File { path, source }
    }
}
