//! What lies in a journal's directory, without opening the journal: a server may be at work on it.
//!
//! It only reads names, lengths and headers. Files come and go meanwhile; one that is gone before it was read is left out.

use super::error::JournalError;
use super::files::{judge_id, read_id, segment_path, segment_starts};
use super::segment::{HEADER_BYTES, Header};
use super::{JournalId, Position};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// A journal as its files tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Which journal, also where the file `id` is damaged and its other files tell.
    pub id: JournalId,
    /// Its files, in the order of their positions.
    pub files: Vec<SurveyedFile>,
}

/// One file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SurveyedFile {
    /// The position of its first record.
    pub start: Position,
    /// Where its bytes end. What follows the last complete record counts.
    pub end: Position,
    /// What its header says; `None` when that is damaged.
    pub told: Option<Told>,
}

/// What a file's header says of those around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Whether it is the first file of an opening: positions before it may never have been used.
    pub first: bool,
    /// Where its opening began.
    pub run: Position,
    /// How many positions an opening leaves free before its first file.
    pub gap: u64,
}

/// Looks at the journal in `directory`; `None` when there is none.
///
/// # Errors
/// When the directory or a file cannot be read, or its files do not tell which journal it is, or are of several: as when it is
/// opened.
pub fn survey(directory: &Path) -> Result<Option<Survey>, JournalError> {
    if !directory.join("id").exists() && !directory.join("lock").exists() {
        return Ok(None);
    }
    let kept = read_id(directory);
    let (mut files, mut told) = (Vec::new(), Vec::new());
    for start in segment_starts(directory)? {
        let path = segment_path(directory, start);
        let file = match File::open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            opened => opened.map_err(JournalError::file("open", &path))?,
        };
        let length = file.metadata().map_err(JournalError::file("read", &path))?.len();
        let mut header = Vec::new();
        file.take(HEADER_BYTES).read_to_end(&mut header).map_err(JournalError::file("read", &path))?;
        let header = Header::decode(&header).ok();
        told.extend(header.map(|header| (path, header.id)));
        files.push(SurveyedFile {
            start: Position::new(start),
            end: Position::new(start.saturating_add(length.saturating_sub(HEADER_BYTES))),
            told: header.map(|header| Told {
                first: header.run == start,
                run: Position::new(header.run),
                gap: header.gap,
            }),
        });
    }
    let id = judge_id(directory, kept, told.iter().map(|(path, id)| (path.as_path(), *id)))?;
    Ok(Some(Survey { id, files }))
}
