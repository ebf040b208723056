//! Which files the arguments name, in the order in which they are brought in, and what each one is.

use crate::archive::{self, Format};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// What nfcapd still writes: it gets another name when it is whole.
const UNFINISHED: &str = "nfcapd.current";

/// A file that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) path: PathBuf,
    /// Whether it was named itself, and not found in a directory.
    pub(super) itself: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In the order of their names, which for nfcapd's is that of time.
    pub(super) files: Vec<Named>,
    /// Their sizes together.
    pub(super) bytes: u64,
    /// What could not be looked into.
    pub(super) problems: Vec<String>,
    /// Files that nfcapd still writes.
    pub(super) unfinished: u64,
}

/// All files that `paths` name, directories with everything below them. Links are followed where they are named, and below
/// where they lead to files.
pub(super) fn find(paths: &[PathBuf]) -> Found {
    let mut found = Found::default();
    for path in paths {
        visit(path, true, &mut found);
    }
    found
}

fn visit(path: &Path, itself: bool, found: &mut Found) {
    let problem = |error: io::Error| format!("{}: cannot be looked at: {error}", path.display());
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return found.problems.push(problem(error)),
    };
    if metadata.is_dir() {
        let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let mut entries = match entries {
            Ok(entries) => entries,
            Err(error) => return found.problems.push(problem(error)),
        };
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            // A link to a directory may lead back here.
            let linked = entry.file_type().is_ok_and(|kind| kind.is_symlink()) && entry.path().is_dir();
            if !linked {
                visit(&entry.path(), false, found);
            }
        }
    } else if metadata.is_file() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(UNFINISHED) {
            found.unfinished = found.unfinished.saturating_add(1);
            return;
        }
        found.bytes = found.bytes.saturating_add(metadata.len());
        found.files.push(Named { path: path.to_owned(), itself });
    }
}

/// What a file is.
#[derive(Debug)]
pub(super) struct Identity {
    /// `None` when it is nothing that can be brought in; the rest is not looked at then.
    pub(super) format: Option<Format>,
    /// SHA-256 of all of it.
    pub(super) hash: [u8; 32],
    /// Its bytes.
    pub(super) size: u64,
    /// SHA-256 of its first bytes, as many as were asked for.
    pub(super) beginnings: Vec<[u8; 32]>,
}

/// Reads a file through and tells what it is, and the hashes of its beginnings of these sizes, which ascend.
///
/// # Errors
/// When it cannot be read.
pub(super) fn identify(path: &Path, sizes: &[u64]) -> io::Result<Identity> {
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 18];
    let (mut hash, mut size, mut format) = (Sha256::new(), 0u64, None);
    let (mut beginnings, mut sizes) = (Vec::new(), sizes.iter().copied().peekable());
    loop {
        let count = match file.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        let mut read = buffer.get(..count).unwrap_or_default();
        if size == 0 {
            format = archive::recognise(read);
        }
        if count == 0 || format.is_none() {
            return Ok(Identity { format, hash: hash.finalize().into(), size, beginnings });
        }
        let end = size.saturating_add(count as u64);
        while let Some(beginning) = sizes.next_if(|beginning| *beginning <= end) {
            let within = usize::try_from(beginning.saturating_sub(size)).unwrap_or(usize::MAX);
            let (before, after) = read.split_at(within.min(read.len()));
            hash.update(before);
            beginnings.push(hash.clone().finalize().into());
            (read, size) = (after, beginning.max(size));
        }
        hash.update(read);
        size = end;
    }
}
