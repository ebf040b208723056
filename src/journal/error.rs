//! What can go wrong with a journal, told to the person who runs it.

use std::io;
use std::path::PathBuf;

/// Why the journal cannot do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A setting is out of its range.
    #[error("journal settings: {what}; change it in the section [journal] of the configuration")]
    Settings {
        /// Which setting, its value and its range.
        what: String,
    },
    /// Another process has the journal open.
    #[error(
        "the journal in {directory} is in use by another Flowledger; stop that server, or give this one a directory of its own"
    )]
    InUse {
        /// The journal's directory.
        directory: PathBuf,
    },
    /// A file or directory of the journal cannot be used.
    #[error(
        "the journal cannot {action} {path}: {source}; check that the disk is healthy and the directory is ours to write"
    )]
    File {
        /// What was tried, a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// A segment file belongs to another journal.
    #[error("{path} belongs to another journal; move it out of the directory")]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A segment file has a format that this version does not know.
    #[error(
        "{path} has journal format {version}, this Flowledger reads formats 1 to 3; start the version that wrote it"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The format's version.
        version: u32,
    },
    /// The file that holds the journal's id is missing or damaged, and the segments beside it do not tell: their headers are
    /// damaged, too, or are of several journals.
    #[error(
        "{path} does not hold the journal's id, and no segment beside it tells it beyond doubt; restore it, or move the segments away"
    )]
    Id {
        /// The file.
        path: PathBuf,
    },
    /// The log has no positions left, or a position was asked for that no journal gave out.
    #[error(
        "position {position} is beyond what a journal can hold; move the journal's directory away to begin a new one"
    )]
    Exhausted {
        /// The position.
        position: u64,
    },
    /// A payload is longer than a record can hold. Nothing of its batch was appended.
    #[error(
        "a payload of {length} bytes does not fit into a journal record (at most 65535); split it before appending"
    )]
    Oversized {
        /// The payload's length in bytes.
        length: usize,
    },
}

impl JournalError {
    /// For `map_err` after a call on `path`.
    pub(super) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
