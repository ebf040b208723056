//! For the model test of journal and ingest: a disk whose page cache and whose surface are told apart, and a journal on it
//! that is flushed by hand.
//!
//! The files of a directory are the page cache. What a flush carried to the disk is remembered beside them. After
//! `kill -9` the page cache is still there; after a power cut only what was flushed is sure to be, and what was not is there,
//! torn, or gone, by chance. All chance comes from one seed.

use super::files::{Disk, RealDisk};
use super::index::{Shared, lock};
use super::{JournalError, Reader, Record, Settings, Writer, flusher, watch};
use crate::clock::{SharedClock, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What the disk refuses until it is told otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Faults {
    /// How many more bytes fit, if it is about to be full.
    pub(crate) room: Option<usize>,
    /// Half of each write arrives, then an error.
    pub(crate) write: bool,
    /// Files cannot be cut off.
    pub(crate) truncate: bool,
    /// Flushes of files fail, and the kernel forgets what they held.
    pub(crate) sync: bool,
    /// Flushes of the directory fail.
    pub(crate) sync_directory: bool,
    /// Files cannot be deleted.
    pub(crate) remove: bool,
    /// The process dies within a write, after so many more bytes.
    pub(crate) dies_after: Option<usize>,
}

/// The disk below one directory.
pub(crate) struct SimulatedDisk {
    directory: PathBuf,
    state: Mutex<State>,
}

struct State {
    random: fastrand::Rng,
    faults: Faults,
    /// Whether the process is gone: nothing has any effect then.
    dead: bool,
    /// What is surely on the disk, by file.
    flushed: BTreeMap<PathBuf, Vec<u8>>,
    /// The names that are surely on the disk.
    names: BTreeSet<PathBuf>,
    /// Files of which a flush failed, and whether that was in this process.
    doubtful: BTreeMap<PathBuf, bool>,
}

fn gone() -> io::Error {
    io::Error::other("the process is gone")
}

impl SimulatedDisk {
    pub(crate) fn new(directory: PathBuf, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let state = State {
            random,
            faults: Faults::default(),
            dead: false,
            flushed: BTreeMap::new(),
            names: BTreeSet::new(),
            doubtful: BTreeMap::new(),
        };
        Self { directory, state: Mutex::new(state) }
    }

    pub(crate) fn set_faults(&self, faults: Faults) {
        lock(&self.state).faults = faults;
    }

    /// The process is killed: what it still does on its way out has no effect.
    pub(crate) fn kill(&self) {
        lock(&self.state).dead = true;
    }

    pub(crate) fn is_dead(&self) -> bool {
        lock(&self.state).dead
    }

    /// The next process finds the disk as it is, in good health.
    pub(crate) fn revive(&self) {
        let mut state = lock(&self.state);
        (state.dead, state.faults) = (false, Faults::default());
        state.doubtful.values_mut().for_each(|own| *own = false);
    }

    /// Whether a flush of this file, or of its name, ever failed.
    pub(crate) fn is_doubtful(&self, path: &Path) -> bool {
        lock(&self.state).doubtful.contains_key(path)
    }

    /// Turns over some bits of one byte, on the disk and in the page cache.
    pub(crate) fn damage(&self, path: &Path, offset: u64) {
        let mut state = lock(&self.state);
        let mask = state.random.u8(1..);
        let at = usize::try_from(offset).unwrap();
        let mut bytes = fs::read(path).unwrap();
        bytes[at] ^= mask;
        fs::write(path, bytes).unwrap();
        if let Some(byte) = state.flushed.get_mut(path).and_then(|bytes| bytes.get_mut(at)) {
            *byte ^= mask;
        }
    }

    /// The power fails: the page cache is lost. The process must be gone already.
    pub(crate) fn cut_power(&self) {
        let mut state = lock(&self.state);
        let now = self.names();
        let all: Vec<PathBuf> = now.union(&state.names).cloned().collect();
        for path in all {
            let (named_now, named_on_disk) = (now.contains(&path), state.names.contains(&path));
            let stays = named_now && named_on_disk || state.random.bool();
            let cached = if named_now { fs::read(&path).unwrap() } else { Vec::new() };
            if named_now {
                fs::remove_file(&path).unwrap();
            }
            if !stays {
                state.flushed.remove(&path);
                state.names.remove(&path);
                continue;
            }
            let mut bytes = state.flushed.get(&path).cloned().unwrap_or_default();
            let end = state.random.usize(bytes.len()..=cached.len().max(bytes.len()));
            // Beyond what was flushed each stretch has reached the disk, or is zero, or anything.
            while bytes.len() < end {
                let stretch = state.random.usize(1..=512).min(end - bytes.len());
                let from = bytes.len();
                match state.random.u8(0..4) {
                    0 => bytes.resize(from + stretch, 0),
                    1 => bytes.extend((0..stretch).map(|_| state.random.u8(..)).collect::<Vec<_>>()),
                    _ => bytes.extend_from_slice(&cached[from..from + stretch]),
                }
            }
            fs::write(&path, &bytes).unwrap();
            state.flushed.insert(path.clone(), bytes);
            state.names.insert(path);
        }
    }

    /// The files in the directory, but for the lock.
    fn names(&self) -> BTreeSet<PathBuf> {
        let entries = fs::read_dir(&self.directory).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| !path.ends_with("lock")).collect()
    }

    /// What an open file is called now.
    fn path_of(&self, file: &File) -> Option<PathBuf> {
        let inode = file.metadata().unwrap().ino();
        self.names().into_iter().find(|path| fs::metadata(path).unwrap().ino() == inode)
    }
}

impl Disk for SimulatedDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        let mut state = lock(&self.state);
        if state.dead {
            return Err(gone());
        }
        if state.faults.room == Some(0) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // What it held before is of no matter any more.
        state.doubtful.remove(path);
        RealDisk.create(path)
    }

    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = lock(&self.state);
        if state.dead {
            return Err(gone());
        }
        if let Some(left) = &mut state.faults.dies_after {
            let fits = bytes.len().min(*left);
            *left -= fits;
            if fits < bytes.len() {
                state.dead = true;
            }
            return if fits > 0 { RealDisk.write(file, &bytes[..fits], offset) } else { Err(gone()) };
        }
        if state.faults.write {
            RealDisk.write(file, &bytes[..bytes.len() / 2], offset)?;
            return Err(io::Error::from_raw_os_error(5));
        }
        let Some(room) = &mut state.faults.room else { return RealDisk.write(file, bytes, offset) };
        let fits = bytes.len().min(*room);
        if fits == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        *room -= fits;
        RealDisk.write(file, &bytes[..fits], offset)
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        let state = lock(&self.state);
        if state.dead || state.faults.truncate { Err(gone()) } else { RealDisk.truncate(file, length) }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let mut state = lock(&self.state);
        let path = self.path_of(file);
        if state.dead {
            return Err(gone());
        }
        let Some(path) = path else { return Ok(()) };
        if state.faults.sync {
            state.doubtful.insert(path, true);
            return Err(io::Error::from_raw_os_error(5));
        }
        match state.doubtful.get(&path) {
            Some(true) => panic!("a file whose flush failed is flushed again: {}", path.display()),
            // The kernel has forgotten that there is anything to flush.
            Some(false) => return Ok(()),
            None => {}
        }
        let bytes = fs::read(&path).unwrap();
        state.flushed.insert(path, bytes);
        Ok(())
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        if state.dead {
            return Err(gone());
        }
        let names = self.names();
        if state.faults.sync_directory {
            let unsure: Vec<_> = names.difference(&state.names).map(|path| (path.clone(), true)).collect();
            state.doubtful.extend(unsure);
            return Err(io::Error::from_raw_os_error(5));
        }
        state.names = names;
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        if state.dead {
            return Err(gone());
        }
        if let Some(bytes) = state.flushed.remove(from) {
            state.flushed.insert(to.to_owned(), bytes);
        }
        RealDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let state = lock(&self.state);
        if state.dead || state.faults.remove { Err(gone()) } else { RealDisk.remove(path) }
    }
}

/// The flusher's work, done when it is asked for.
pub(crate) struct Hand(Arc<Shared>);

/// Opens a journal that nothing flushes but the hand.
pub(crate) fn open(
    settings: Settings,
    disk: Arc<SimulatedDisk>,
    clock: SharedClock,
) -> Result<(Writer, Reader, Hand), JournalError> {
    settings.check()?;
    let shared = Arc::new(Shared::open(settings, disk, clock)?);
    Ok((Writer::unflushed(Arc::clone(&shared)), Reader::new(Arc::clone(&shared)), Hand(shared)))
}

impl Hand {
    /// Flushes what was appended: whether all of it is on disk.
    pub(crate) fn flush(&self) -> bool {
        flusher::flush(&self.0)
    }

    /// Appends the counts of dropped datagrams.
    pub(crate) fn tell(&self) {
        flusher::tell(&self.0);
    }

    /// Looks at the clock, which was last `seen` before, and returns what it says.
    pub(crate) fn look(&self, seen: Timestamp) -> Timestamp {
        watch::look(&self.0, seen)
    }

    /// What the flusher does when the last writer goes: whether all is on disk.
    pub(crate) fn close(&self) -> bool {
        lock(&self.0.index).closing = true;
        flusher::tell(&self.0);
        flusher::flush(&self.0)
    }

    /// Where the next record goes.
    pub(crate) fn end(&self) -> u64 {
        lock(&self.0.index).end
    }

    /// Where the records end that are there.
    pub(crate) fn written(&self) -> u64 {
        lock(&self.0.index).segments.back().map_or(0, |segment| segment.written())
    }

    /// Whether dropped datagrams wait to be told.
    pub(crate) fn has_pending(&self) -> bool {
        lock(&self.0.writer).has_pending()
    }

    /// The file of the record that begins at `position`, and its offset there.
    pub(crate) fn place(&self, position: u64) -> (PathBuf, u64) {
        let index = lock(&self.0.index);
        let segment = index.segments.iter().rfind(|segment| segment.start <= position).unwrap();
        assert!(position < segment.written(), "no record is published there");
        (segment.path.clone(), segment.offset_of(position))
    }
}

/// Bytes that a record takes.
pub(crate) fn record_bytes(record: &Record<'_>) -> u64 {
    record.encoded_bytes() as u64
}
