//! Where exported files lie: whole under their names, or not there.
//!
//! A file is written under a temporary name beside its own, synced, and renamed when it is complete; a directory of Parquet is
//! made in a temporary one inside, and its days are renamed into place together at the end. What is dropped before that
//! takes its temporary files with it; only a process that ends without that leaves them, under names that begin with a dot. Our user
//! and group may read what we write. A symbolic link under the name of a file is replaced, not followed.

use super::error::ExportError;
use super::{Destination, Written};
use crate::query::Window;
use chrono::NaiveDate;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Stdout, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use uuid::Uuid;

/// How much is written at a time, in bytes.
const BUFFER: usize = 256 << 10;

/// A stream of bytes on its way to its place. Its errors hold an [`ExportError`], which [`refused`] takes out.
pub(super) enum Output {
    /// To whoever reads our standard output.
    Stdout(BufWriter<Stdout>),
    /// Into a file.
    File(Box<Staged>),
}

impl Output {
    pub(super) fn open(destination: &Destination) -> Result<Self, ExportError> {
        Ok(match destination {
            Destination::Stdout => Self::Stdout(BufWriter::with_capacity(BUFFER, io::stdout())),
            Destination::Path(path) => Self::File(Box::new(Staged::new(path)?)),
        })
    }

    /// Ends what was written, of which `rows` rows are told.
    pub(super) fn complete(self, rows: u64) -> Result<(Complete, Vec<Written>), ExportError> {
        match self {
            Self::Stdout(mut stdout) => {
                stdout.flush().map_err(stdout_error)?;
                Ok((Complete::Streamed, Vec::new()))
            }
            Self::File(mut staged) => {
                staged.sync()?;
                // The manifest lies beside it.
                let path = staged.path.file_name().map_or_else(|| staged.path.clone(), PathBuf::from);
                let written = Written { path, rows, bytes: staged.bytes };
                Ok((Complete::File(staged), vec![written]))
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes).map_err(|error| io::Error::other(stdout_error(error))),
            Self::File(staged) => staged.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush().map_err(|error| io::Error::other(stdout_error(error))),
            Self::File(staged) => staged.flush(),
        }
    }
}

fn stdout_error(error: io::Error) -> ExportError {
    if error.kind() == io::ErrorKind::BrokenPipe { ExportError::Closed } else { ExportError::Stdout(error) }
}

/// What an [`Output`] said.
pub(super) fn refused(error: io::Error) -> ExportError {
    error.downcast().unwrap_or_else(|error| ExportError::Defect(error.to_string()))
}

/// Whole and synced. What is dropped instead of placed leaves nothing.
pub(super) enum Complete {
    /// Read by somebody else already.
    Streamed,
    /// A file without its name.
    File(Box<Staged>),
    /// Days outside their directory.
    Days(Directory),
}

impl Complete {
    /// Brings it under its names.
    pub(super) fn place(self) -> Result<(), ExportError> {
        match self {
            Self::Streamed => Ok(()),
            Self::File(staged) => staged.place(),
            Self::Days(directory) => directory.place(),
        }
    }
}

/// A file that gets its name when it is whole.
pub(super) struct Staged {
    file: BufWriter<File>,
    path: PathBuf,
    temporary: PathBuf,
    bytes: u64,
    done: bool,
}

impl Staged {
    pub(super) fn new(path: &Path) -> Result<Self, ExportError> {
        let not_a_file = |what| Err(ExportError::NotAFile { path: path.to_owned(), what });
        let Some(name) = path.file_name() else { return not_a_file("no name of a file") };
        // A device or pipe would be replaced by a file.
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => return not_a_file("a directory"),
            Ok(found) if !found.is_file() => return not_a_file("no regular file"),
            _ => {}
        }
        let temporary = path.with_file_name(format!(".{}.{}.tmp", name.to_string_lossy(), Uuid::new_v4().simple()));
        let file = create(&temporary)?;
        let file = BufWriter::with_capacity(BUFFER, file);
        Ok(Self { file, path: path.to_owned(), temporary, bytes: 0, done: false })
    }

    /// Brings everything to the disk.
    pub(super) fn sync(&mut self) -> Result<(), ExportError> {
        self.file.flush().and_then(|()| self.file.get_ref().sync_all()).map_err(ExportError::file(&self.temporary))
    }

    /// Takes away the file whose place this one takes.
    pub(super) fn clear(&self) -> Result<(), ExportError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ExportError::file(&self.path)(error)),
            _ => Ok(()),
        }
    }

    /// Gives it its name.
    pub(super) fn place(mut self) -> Result<(), ExportError> {
        fs::rename(&self.temporary, &self.path).map_err(ExportError::file(&self.path))?;
        self.done = true;
        sync_directory(parent(&self.path))
    }

    fn told(&self, error: io::Error) -> io::Error {
        io::Error::other(ExportError::file(&self.temporary)(error))
    }
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes).map_err(|error| self.told(error))?;
        self.bytes = self.bytes.saturating_add(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(|error| self.told(error))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.done {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

fn create(path: &Path) -> Result<File, ExportError> {
    OpenOptions::new().write(true).create_new(true).mode(0o640).open(path).map_err(ExportError::file(path))
}

fn make_directory(path: &Path) -> Result<(), ExportError> {
    DirBuilder::new().recursive(true).mode(0o750).create(path).map_err(ExportError::file(path))
}

fn sync_directory(path: &Path) -> Result<(), ExportError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(ExportError::file(path))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A directory with one for each day in it (`day=2026-11-23`), to which days are added.
pub(super) struct Directory {
    path: PathBuf,
    staging: PathBuf,
    days: Vec<String>,
}

/// What the directory of a day is called, as Hive has it.
fn name_of(day: NaiveDate) -> String {
    format!("day={}", day.format("%Y-%m-%d"))
}

impl Directory {
    /// The directory `path`, made if it is missing, for the days of `window`.
    ///
    /// # Errors
    /// [`ExportError::Exists`] when one of them is there already.
    pub(super) fn open(path: &Path, window: &Window) -> Result<Self, ExportError> {
        make_directory(path)?;
        let date = |moment: crate::clock::Timestamp| moment.to_utc().with_timezone(&window.zone).date_naive();
        let days = date(window.from)..=date(window.to.plus(-1));
        for entry in fs::read_dir(path).map_err(ExportError::file(path))? {
            let name = entry.map_err(ExportError::file(path))?.file_name();
            let text = name.to_string_lossy();
            let day = text.strip_prefix("day=").and_then(|day| NaiveDate::parse_from_str(day, "%Y-%m-%d").ok());
            if day.is_some_and(|day| days.contains(&day)) {
                return Err(ExportError::Exists { path: path.join(name) });
            }
        }
        let staging = path.join(format!(".export-{}.tmp", Uuid::new_v4().simple()));
        make_directory(&staging)?;
        Ok(Self { path: path.to_owned(), staging, days: Vec::new() })
    }

    /// A new file for `day`, its temporary path and the one it will have within the directory.
    pub(super) fn file(&mut self, day: NaiveDate, name: &str) -> Result<(File, PathBuf, PathBuf), ExportError> {
        let day = name_of(day);
        if self.days.last() != Some(&day) {
            make_directory(&self.staging.join(&day))?;
            self.days.push(day.clone());
        }
        let within = PathBuf::from(day).join(name);
        let temporary = self.staging.join(&within);
        Ok((create(&temporary)?, temporary, within))
    }

    /// Ends what was written.
    pub(super) fn complete(self) -> Result<Complete, ExportError> {
        for day in &self.days {
            sync_directory(&self.staging.join(day))?;
        }
        Ok(Complete::Days(self))
    }

    /// Brings all days to their places, or none.
    fn place(self) -> Result<(), ExportError> {
        for (index, day) in self.days.iter().enumerate() {
            let place = self.path.join(day);
            // A directory that has something in it is not replaced.
            if let Err(error) = fs::rename(self.staging.join(day), &place) {
                for day in self.days.iter().take(index) {
                    let _ = fs::rename(self.path.join(day), self.staging.join(day));
                }
                return Err(match error.kind() {
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory => {
                        ExportError::Exists { path: place }
                    }
                    _ => ExportError::File { path: place, source: error },
                });
            }
        }
        sync_directory(&self.path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.staging);
    }
}
