//! The journal's directory: its lock, its id, its segment files, and the seam through which the disk is reached.

use super::JournalId;
use super::error::JournalError;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use uuid::Uuid;

const SUFFIX: &str = ".journal";

/// The calls that reach the disk while the journal runs. Tests let them fail.
pub(super) trait Disk: Send + Sync {
    /// Makes an empty file, or empties the one that is there.
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
    }

    /// One write call: how many bytes were written, which may be fewer.
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        file.write_at(bytes, offset)
    }

    /// One read call: how many bytes were read, 0 at the end of the file.
    fn read(&self, file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        file.read_at(bytes, offset)
    }

    /// Cuts the file off after `length` bytes.
    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    /// Returns when the file's bytes are on disk.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    /// Returns when the directory's names are on disk.
    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        File::open(directory)?.sync_all()
    }

    /// Gives the file another name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    /// Deletes the file.
    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

/// The disk as it is.
pub(super) struct RealDisk;

impl Disk for RealDisk {}

/// Writes all of `bytes`: how many were written, and why not all.
pub(super) fn write_all(disk: &dyn Disk, file: &File, bytes: &[u8], offset: u64) -> (usize, io::Result<()>) {
    let mut written: usize = 0;
    while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
        match disk.write(file, rest, offset.saturating_add(written as u64)) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written = written.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

/// How long a lock is waited for: a process that ends, or a child that it has forked and that has not become its own program
/// yet, holds it a moment longer than its journal.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);
/// How often it is tried meanwhile.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Makes the directory if it is missing and takes its lock, which is held as long as the file is.
pub(super) fn lock(directory: &Path) -> Result<File, JournalError> {
    // What is in it tells who talked to whom.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(JournalError::file("make", directory))?;
    let path = directory.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(JournalError::file("open", &path))?;
    let patience = Instant::now().checked_add(LOCK_PATIENCE);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if patience.is_some_and(|end| Instant::now() < end) => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(TryLockError::WouldBlock) => return Err(JournalError::InUse { directory: directory.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(JournalError::File { action: "lock", path, source }),
        }
    }
}

/// The id kept in the directory.
pub(super) fn read_id(directory: &Path) -> Result<JournalId, JournalError> {
    let path = directory.join("id");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
            return Err(JournalError::Id { path });
        }
        Err(source) => return Err(JournalError::File { action: "read", path, source }),
    };
    Uuid::parse_str(text.trim()).map(JournalId).map_err(|_| JournalError::Id { path })
}

/// Which journal a directory holds, by what its file `id` says and what each segment says, with its path.
///
/// Segments say it under a checksum, the file has none. So where all segments agree, the file is taken for damaged when it is
/// missing, cannot be read, or differs in one character, as by a flipped bit. When it says anything else, the segments are
/// another journal's: to take their id would let two servers store as one.
pub(super) fn judge_id<'a>(
    directory: &Path,
    kept: Result<JournalId, JournalError>,
    mut told: impl Iterator<Item = (&'a Path, Uuid)> + Clone,
) -> Result<JournalId, JournalError> {
    let Some((_, first)) = told.clone().next() else { return kept };
    let agreed = told.clone().all(|(_, id)| id == first);
    let first = JournalId(first);
    if agreed && kept.as_ref().ok().is_none_or(|kept| differing(*kept, first) <= 1) {
        return Ok(first);
    }
    let kept = kept?;
    if !agreed && told.clone().all(|(_, id)| id != kept.uuid()) {
        return Err(JournalError::Id { path: directory.join("id") });
    }
    let foreign = told.find(|(_, id)| *id != kept.uuid());
    foreign.map_or(Ok(kept), |(path, _)| Err(JournalError::Foreign { path: path.to_owned() }))
}

/// In how many characters two ids differ.
fn differing(one: JournalId, other: JournalId) -> usize {
    one.to_string().bytes().zip(other.to_string().bytes()).filter(|(one, other)| one != other).count()
}

/// Gives the directory a new id, on disk when this returns.
pub(super) fn make_id(directory: &Path, disk: &dyn Disk) -> Result<JournalId, JournalError> {
    let id = JournalId(Uuid::new_v4());
    write_id(directory, disk, id)?;
    Ok(id)
}

/// Lets the directory have this id, on disk when this returns.
pub(super) fn write_id(directory: &Path, disk: &dyn Disk, id: JournalId) -> Result<(), JournalError> {
    let path = directory.join("id");
    let temporary = directory.join("id.new");
    let write = || {
        let file = disk.create(&temporary)?;
        write_all(disk, &file, format!("{id}\n").as_bytes(), 0).1?;
        disk.sync(&file)?;
        disk.rename(&temporary, &path)?;
        disk.sync_directory(directory)
    };
    write().map_err(JournalError::file("write", &path))
}

/// The file of the segment that starts at `position`.
pub(super) fn segment_path(directory: &Path, position: u64) -> PathBuf {
    directory.join(format!("{position:016x}{SUFFIX}"))
}

/// The start positions of all segment files, ascending. Other files are not looked at.
pub(super) fn segment_starts(directory: &Path) -> Result<Vec<u64>, JournalError> {
    let list = || -> io::Result<Vec<u64>> {
        let mut starts = Vec::new();
        for entry in fs::read_dir(directory)? {
            let name = entry?.file_name();
            let digits = name.to_str().and_then(|name| name.strip_suffix(SUFFIX)).filter(|digits| digits.len() == 16);
            starts.extend(digits.and_then(|digits| u64::from_str_radix(digits, 16).ok()));
        }
        starts.sort_unstable();
        Ok(starts)
    };
    list().map_err(JournalError::file("list", directory))
}
