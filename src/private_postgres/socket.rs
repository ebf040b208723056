//! The directory of the server's unix socket: short enough for a socket address, closed to everybody else.
//!
//! Promises a directory that only the server's user (and root) can enter, whose name stays the same for the same data
//! directory. Knows nothing of PostgreSQL but the name of its socket.

use super::account::Account;
use super::error::PrivatePostgresError;
use std::env;
use std::fs::{self, DirBuilder};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

/// The port in the socket's name. No TCP port is opened, so it never collides with another server's.
pub(super) const PORT: u16 = 5432;
/// The longest path a unix socket address holds (`sun_path` without its final NUL).
const LONGEST_PATH: usize = 107;

/// Makes the socket directory for the server of the cluster `data` and empties it of an earlier server's sockets. No
/// server may be running on the cluster.
pub(super) fn prepare(data: &Path, account: &Account) -> Result<PathBuf, PrivatePostgresError> {
    let parents = if account.switches() {
        vec![PathBuf::from("/run"), PathBuf::from("/tmp")]
    } else {
        env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).into_iter().chain([PathBuf::from("/tmp")]).collect()
    };
    let mut reasons = Vec::new();
    for parent in parents {
        let directory = parent.join(name(data));
        match claim(&directory, account) {
            Ok(()) => return Ok(directory),
            Err(error) => reasons.push(format!("{}: {error}", directory.display())),
        }
    }
    Err(PrivatePostgresError::SocketDirectory { reason: reasons.join("; ") })
}

/// `flowledger-` and eight hexadecimal digits that tell one data directory from another.
fn name(data: &Path) -> String {
    let mut hasher = DefaultHasher::new();
    data.hash(&mut hasher);
    format!("flowledger-{:08x}", hasher.finish() >> 32)
}

fn claim(directory: &Path, account: &Account) -> io::Result<()> {
    let longest = directory.join(format!(".s.PGSQL.{PORT}"));
    if longest.as_os_str().len() > LONGEST_PATH {
        return Err(io::Error::other(format!("longer than the {LONGEST_PATH} bytes a socket address holds")));
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => lchown(directory, Some(account.server.uid), Some(account.server.gid))?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            // In a directory that all may write to, somebody else may have taken the name.
            let metadata = fs::symlink_metadata(directory)?;
            if !metadata.is_dir() || metadata.uid() != account.server.uid {
                return Err(io::Error::other(format!("taken by another user (uid {})", metadata.uid())));
            }
            if metadata.mode() & 0o077 != 0 {
                fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
            }
        }
        Err(error) => return Err(error),
    }
    empty(directory)
}

/// Removes the sockets of a server that is gone.
fn empty(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(".s.PGSQL.") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Removes the directory after the server has stopped; what cannot be removed is left for the next start to reuse.
pub(super) fn remove(directory: &Path) {
    let removed = empty(directory).and_then(|()| fs::remove_dir(directory));
    if let Err(error) = removed {
        tracing::debug!(directory = %directory.display(), %error, "the socket directory stays");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_closed_to_others_reused_by_us_and_refused_from_others() {
        let account = Account::choose().unwrap();
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join(name(Path::new("/a")));
        claim(&directory, &account).unwrap();
        let metadata = fs::metadata(&directory).unwrap();
        assert_eq!((metadata.mode() & 0o777, metadata.uid()), (0o700, account.server.uid));

        fs::write(directory.join(".s.PGSQL.5432.lock"), "").unwrap();
        claim(&directory, &account).unwrap();
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
        remove(&directory);
        assert!(!directory.exists());

        std::os::unix::fs::symlink(parent.path(), &directory).unwrap();
        assert!(claim(&directory, &account).unwrap_err().to_string().contains("taken"));
    }

    #[test]
    fn a_path_too_long_for_a_socket_address_is_refused() {
        let account = Account::choose().unwrap();
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("x".repeat(100));
        assert!(claim(&directory, &account).unwrap_err().to_string().contains("107 bytes"));
    }

    #[test]
    fn data_directories_are_told_apart() {
        assert_eq!(name(Path::new("/a")), name(Path::new("/a")));
        assert_ne!(name(Path::new("/a")), name(Path::new("/b")));
    }
}
