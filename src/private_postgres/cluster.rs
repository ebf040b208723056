//! The files of a private cluster: where they lie, how they are made once, and who may connect.
//!
//! ```text
//! <directory>/           ours; the server's user may pass through it but not write
//!   lock                 held by the launcher for its whole life (flock)
//!   data/                the cluster, the server's user's; data.tmp/ while it is being made
//!   hba.conf ident.conf  who may connect: our user, the server's user and root, by the socket, as role flowledger
//!   postgres.log         what the server says; postgres.log.1 is the older part
//! ```
//!
//! Promises that `data/` is a whole cluster or absent: it is made beside its place and renamed. Knows nothing of running
//! servers. Nothing is ever written into `data/` from here, because its owner, less privileged than root, could have put
//! a link in the way.

use super::account::{Account, our_uid};
use super::binaries::Binaries;
use super::error::PrivatePostgresError;
use super::process::{command, run_to_end};
use super::{DATABASE, Durability, ROLE};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

/// Makes `directory`, and what is missing above it, closed to other users; under root they may pass through it, as the
/// user that runs PostgreSQL must, but not list it. A directory that exists is left as it is.
///
/// # Errors
/// What the system says.
pub fn make_directory(directory: &Path) -> io::Result<()> {
    let mode = if our_uid() == 0 { 0o711 } else { 0o700 };
    let missing: Vec<&Path> =
        directory.ancestors().take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.exists()).collect();
    for directory in missing.into_iter().rev() {
        DirBuilder::new().mode(mode).create(directory)?;
        // Whatever the umask took away.
        fs::set_permissions(directory, fs::Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Where everything of one private PostgreSQL lies; absolute paths without links.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) directory: PathBuf,
}

impl Layout {
    /// Makes the directory if need be.
    pub(super) fn prepare(directory: &Path) -> Result<Self, PrivatePostgresError> {
        make_directory(directory).map_err(PrivatePostgresError::file("create", directory))?;
        let directory = fs::canonicalize(directory).map_err(PrivatePostgresError::file("find", directory))?;
        Ok(Self { directory })
    }

    pub(super) fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub(super) fn hba(&self) -> PathBuf {
        self.directory.join("hba.conf")
    }

    pub(super) fn ident(&self) -> PathBuf {
        self.directory.join("ident.conf")
    }

    pub(super) fn log(&self) -> PathBuf {
        self.directory.join("postgres.log")
    }

    /// Takes the lock that keeps a second launcher away.
    pub(super) fn lock(&self) -> Result<Lock, PrivatePostgresError> {
        let path = self.directory.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(PrivatePostgresError::file("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let mut holder = String::new();
                if file.read_to_string(&mut holder).is_err() || holder.trim().is_empty() {
                    holder = "unknown process".to_owned();
                }
                let holder = holder.trim().to_owned();
                return Err(PrivatePostgresError::InUse { directory: self.directory.clone(), holder });
            }
            Err(fs::TryLockError::Error(error)) => return Err(PrivatePostgresError::file("lock", &path)(error)),
        }
        let mut lock = Lock(file);
        lock.0
            .set_len(0)
            .and_then(|()| writeln!(lock.0, "process {}", std::process::id()))
            .map_err(PrivatePostgresError::file("write", &path))?;
        Ok(lock)
    }

    /// The major version of the cluster, `None` if there is none yet.
    pub(super) fn major(&self) -> Result<Option<u32>, PrivatePostgresError> {
        let data = self.data();
        let not_a_cluster = || PrivatePostgresError::NotACluster { data: data.clone() };
        match fs::read_to_string(data.join("PG_VERSION")) {
            Ok(version) => version.trim().parse().map(Some).map_err(|_| not_a_cluster()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let occupied = fs::read_dir(&data).is_ok_and(|mut entries| entries.next().is_some());
                if occupied { Err(not_a_cluster()) } else { Ok(None) }
            }
            Err(error) => Err(PrivatePostgresError::file("read", &data.join("PG_VERSION"))(error)),
        }
    }

    /// Makes the cluster with role and database `flowledger`, whole or not at all.
    pub(super) fn initialise(
        &self,
        binaries: &Binaries,
        account: &Account,
        durability: Durability,
    ) -> Result<(), PrivatePostgresError> {
        let staging = self.directory.join("data.tmp");
        if staging.symlink_metadata().is_ok() {
            // Left by a run that was killed while it made the cluster; nobody has used it yet.
            fs::remove_dir_all(&staging).map_err(PrivatePostgresError::file("remove the unfinished", &staging))?;
        }
        DirBuilder::new().mode(0o700).create(&staging).map_err(PrivatePostgresError::file("create", &staging))?;
        if account.switches() {
            lchown(&staging, Some(account.server.uid), Some(account.server.gid))
                .map_err(PrivatePostgresError::file("change the owner of", &staging))?;
        }
        let mut initdb = command(&binaries.program("initdb"), account);
        initdb.arg("--pgdata").arg(&staging);
        initdb.args(["--username", ROLE, "--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums"]);
        // Who may connect is told by our own files; started by hand, the cluster lets only its owner in.
        initdb.args(["--auth-local=peer", "--auth-host=reject", "--no-instructions"]);
        if binaries.major >= 17 {
            // Built-in collation: an update of the C library can never make an index wrong.
            initdb.args(["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]);
        }
        if durability == Durability::Throwaway {
            initdb.arg("--no-sync");
        }
        run_to_end(initdb, "", &staging)?;

        // A single-user server makes the database without a client.
        let mut single = command(&binaries.program("postgres"), account);
        single.arg("--single").arg("-D").arg(&staging);
        // Without this it would report a failed statement and still end well.
        single.args(["-c", "exit_on_error=on"]);
        if durability == Durability::Throwaway {
            single.args(["-c", "fsync=off"]);
        }
        single.arg("postgres");
        run_to_end(single, &format!("CREATE DATABASE {DATABASE};\n"), &staging)?;

        let data = self.data();
        match fs::remove_dir(&data) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(PrivatePostgresError::file("replace", &data)(error));
            }
            _ => {}
        }
        fs::rename(&staging, &data).map_err(PrivatePostgresError::file("put the new cluster in place at", &data))?;
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(PrivatePostgresError::file("sync", &self.directory))
    }

    /// Makes the cluster the server's user's, if an earlier run made it another's.
    pub(super) fn adopt(&self, account: &Account) -> Result<(), PrivatePostgresError> {
        let data = self.data();
        let owner = fs::symlink_metadata(&data).map_err(PrivatePostgresError::file("inspect", &data))?.uid();
        if owner == account.server.uid {
            return Ok(());
        }
        if !account.switches() {
            return Err(PrivatePostgresError::ForeignOwner { data, owner });
        }
        tracing::warn!(data = %data.display(), user = account.server.name, "giving the cluster to the user that runs PostgreSQL");
        give(&data, account)
    }

    /// Writes who may connect, each time anew, so that the user we are today is among them.
    pub(super) fn write_access(&self, account: &Account) -> Result<(), PrivatePostgresError> {
        replace(&self.hba(), &format!("# Written by Flowledger at each start.\nlocal all {ROLE} peer map={ROLE}\n"))?;
        let mut users = vec!["root", account.server.name.as_str(), account.ours.name.as_str()];
        users.sort_unstable();
        users.dedup();
        let lines: String = users.iter().map(|user| format!("{ROLE} \"{user}\" {ROLE}\n")).collect();
        replace(&self.ident(), &format!("# Written by Flowledger at each start.\n{lines}"))
    }

    /// Fails with the directory in the way if the server's user cannot run the programs or enter our directory.
    pub(super) fn check_reach(&self, binaries: &Binaries, account: &Account) -> Result<(), PrivatePostgresError> {
        let postgres = binaries.program("postgres");
        let mut probe = command(&postgres, account);
        // The child changes its directory after it changed its user, so this tries just what the server will do.
        probe.arg("--version").current_dir(&self.directory);
        match probe.output() {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::PermissionDenied && account.switches() => {
                let ways = self.directory.ancestors().chain(postgres.ancestors());
                let blocked = ways.filter(|way| way.is_dir() && !may_enter(way, account)).last();
                Err(PrivatePostgresError::Unreachable {
                    user: account.server.name.clone(),
                    blocked: blocked.unwrap_or(&self.directory).to_owned(),
                })
            }
            Err(error) => Err(PrivatePostgresError::file("run", &postgres)(error)),
        }
    }
}

/// The right to run a server on the directory; dropping it gives it up.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing the file would not do at once if another thread is just starting a child, which holds a copy until it
        // runs its program.
        if let Err(error) = self.0.unlock() {
            tracing::debug!(%error, "the launcher's lock is given up by closing it");
        }
    }
}

/// Gives `path` and all below it to the server's user, links themselves and not what they point to.
fn give(path: &Path, account: &Account) -> Result<(), PrivatePostgresError> {
    let kind = fs::symlink_metadata(path).map_err(PrivatePostgresError::file("inspect", path))?.file_type();
    if kind.is_dir() {
        let entries = fs::read_dir(path).map_err(PrivatePostgresError::file("list", path))?;
        for entry in entries {
            give(&entry.map_err(PrivatePostgresError::file("list", path))?.path(), account)?;
        }
    }
    lchown(path, Some(account.server.uid), Some(account.server.gid))
        .map_err(PrivatePostgresError::file("change the owner of", path))
}

fn may_enter(directory: &Path, account: &Account) -> bool {
    let Ok(metadata) = fs::metadata(directory) else { return false };
    let needed = if metadata.uid() == account.server.uid {
        0o100
    } else if metadata.gid() == account.server.gid {
        0o010
    } else {
        0o001
    };
    metadata.mode() & needed != 0
}

/// Writes `text` to `path` whole: readers see the old or the new. The server's user has to read it.
fn replace(path: &Path, text: &str) -> Result<(), PrivatePostgresError> {
    let staging = path.with_extension("tmp");
    fs::write(&staging, text)
        .and_then(|()| fs::set_permissions(&staging, fs::Permissions::from_mode(0o644)))
        .and_then(|()| fs::rename(&staging, path))
        .map_err(PrivatePostgresError::file("write", path))
}
