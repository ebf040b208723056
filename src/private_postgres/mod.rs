//! A PostgreSQL of our own, for those who have none: installed programs, our data directory, a unix socket only.
//!
//! [`PrivatePostgres::launch`] finds the newest installed PostgreSQL 15 to 18, makes a cluster once (UTF-8, checksums),
//! and runs `postgres` as our child, which accepts connections when [`PrivatePostgres::ready`] returns; role and database are called `flowledger`. Promises:
//!
//! - **Nobody else gets in.** No TCP port; the socket's directory is closed to all but the server's user and root; the
//!   `peer` check lets in our own user, the server's user and root. Under root the server runs as the system user
//!   `flowledger`, or else `postgres`.
//! - **What was confirmed is kept**, through `kill -9` of either side and through power cuts: `fsync` stays on. A
//!   server that dies is started again; a server left behind by a killed Flowledger is stopped before ours starts; two
//!   launchers never meet on one directory.
//! - **Data is never upgraded or deleted.** A cluster is only run by its own major.
//!
//! It must not know what is stored: no SQL but `CREATE DATABASE`, no database client. Backups are taken with `pg_dump`
//! through the socket; the log for streaming replication is off.

mod account;
mod binaries;
mod cluster;
mod disk;
mod error;
mod leftover;
mod process;
mod socket;
mod supervisor;
#[cfg(test)]
mod tests;
mod tuning;

pub use cluster::make_directory;
pub use disk::disk_bytes;
pub use error::PrivatePostgresError;
pub use supervisor::Status;
pub use tuning::MOST_LOG_BYTES;

use account::Account;
use binaries::{Binaries, Search};
use cluster::Layout;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use supervisor::{Board, Supervisor};

/// The role that owns everything.
const ROLE: &str = "flowledger";
/// The database.
const DATABASE: &str = "flowledger";
/// How often is looked whether the server is ready.
const READY_POLL: Duration = Duration::from_millis(10);

/// Where the private PostgreSQL lives and with which programs it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The directory for the cluster, its log and its lock; made if missing. Under root, the system user that runs the
    /// server must be able to pass through every directory above it.
    pub directory: PathBuf,
    /// The directory that holds `postgres` and `initdb`; `None` looks in the usual places.
    pub binaries: Option<PathBuf>,
    /// Memory, in MiB, that caches are sized by; `None` takes the machine's.
    pub memory_mib: Option<u64>,
    /// Whether data outlives a power cut. Not to be had by configuration.
    #[serde(skip)]
    pub durability: Durability,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            directory: PathBuf::from("flowledger-data/postgres"),
            binaries: None,
            memory_mib: None,
            durability: Durability::Full,
        }
    }
}

/// Whether data outlives a power cut.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// What was confirmed is on the disk.
    #[default]
    Full,
    /// For tests and trials: nothing is synced, so starting is fast. Still outlives `kill -9`.
    Throwaway,
}

/// How to reach the server: a unix socket and the `peer` check, so without a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The directory of the socket; libpq and sqlx take it in place of a host. The same for each start on the same data
    /// directory, unless the place it is made in changes.
    pub socket_directory: PathBuf,
    /// The port in the socket's name; no TCP port is opened.
    pub port: u16,
    /// The role, a superuser of this cluster.
    pub user: String,
    /// The database.
    pub database: String,
}

/// All it takes to start the server's process, each time alike.
#[derive(Clone, Debug)]
struct Launch {
    postgres: PathBuf,
    data: PathBuf,
    log: PathBuf,
    socket_directory: PathBuf,
    settings: Vec<String>,
    account: Account,
}

/// A running PostgreSQL of our own. Dropping it stops the server.
#[derive(Debug)]
pub struct PrivatePostgres {
    connection: Connection,
    board: Arc<Board>,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    /// Dropping it tells the supervisor to stop.
    stop: Sender<()>,
    supervisor: JoinHandle<Option<PrivatePostgresError>>,
}

impl PrivatePostgres {
    /// Makes the cluster if there is none, which takes some seconds, and begins to start the server. Blocks.
    ///
    /// # Errors
    /// No programs, no unprivileged user, a directory in use or out of reach, a cluster that cannot be made.
    pub fn launch(settings: &Settings) -> Result<Self, PrivatePostgresError> {
        let account = Account::choose()?;
        let layout = Layout::prepare(&settings.directory)?;
        let lock = layout.lock()?;
        let data = layout.data();
        let major = layout.major()?;
        let binaries =
            Search::default().find(settings.binaries.as_deref(), major.map(|major| (data.as_path(), major)))?;
        layout.check_reach(&binaries, &account)?;
        leftover::clear(&data)?;
        if major.is_some() {
            layout.adopt(&account)?;
        } else {
            tracing::info!(data = %data.display(), major = binaries.major, "making a PostgreSQL cluster");
            layout.initialise(&binaries, &account, settings.durability)?;
        }
        layout.write_access(&account)?;
        let socket_directory = socket::prepare(&data, &account)?;
        let launch = launch(settings, &layout, &binaries, account, socket_directory.clone());

        let board = Arc::new(Board::new());
        let (stop, stopped) = mpsc::channel();
        let supervisor = Supervisor { launch, board: Arc::clone(&board), stop: stopped, lock };
        let supervisor = thread::Builder::new()
            .name("postgres".to_owned())
            .spawn(move || supervisor.run())
            .map_err(|source| PrivatePostgresError::Supervisor { source })?;
        let connection =
            Connection { socket_directory, port: socket::PORT, user: ROLE.to_owned(), database: DATABASE.to_owned() };
        Ok(Self { connection, board, running: Mutex::new(Some(Running { stop, supervisor })) })
    }

    /// Returns when the server accepts connections, which after a crash may take minutes.
    ///
    /// # Errors
    /// When it ended too often before, or was stopped meanwhile.
    pub async fn ready(&self) -> Result<(), PrivatePostgresError> {
        loop {
            match self.status() {
                Status::Ready { .. } => return Ok(()),
                Status::Starting if !self.is_finished() => tokio::time::sleep(READY_POLL).await,
                Status::Starting | Status::Failed { .. } | Status::Stopped => return Err(self.failure()),
            }
        }
    }

    /// Why the server is down for good. One that is not is stopped.
    pub fn failure(&self) -> PrivatePostgresError {
        self.end().unwrap_or(PrivatePostgresError::Stopped)
    }

    /// How to reach the server.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// What the server is doing now. After [`Status::Failed`] it stays down.
    pub fn status(&self) -> Status {
        self.board.status()
    }

    /// The process id of the server's first process, `None` while it does not accept connections.
    pub fn pid(&self) -> Option<u32> {
        match self.status() {
            Status::Ready { pid } => Some(pid),
            Status::Starting | Status::Failed { .. } | Status::Stopped => None,
        }
    }

    /// Whether nobody looks after the server any more: it failed, was stopped, or its supervisor ended by a defect.
    pub fn is_finished(&self) -> bool {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.as_ref().is_none_or(|running| running.supervisor.is_finished())
    }

    /// Stops the server and waits until it is gone: sessions are ended, a checkpoint is written. Calling it again does
    /// nothing.
    pub fn stop(&self) {
        self.end();
    }

    fn end(&self) -> Option<PrivatePostgresError> {
        let Running { stop, supervisor } = self.running.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        drop(stop);
        supervisor.join().unwrap_or_else(|_| {
            tracing::error!("the supervisor of PostgreSQL had ended by a panic; please report this as a bug");
            None
        })
    }
}

impl Drop for PrivatePostgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// How to reach the server that another Flowledger runs in `settings.directory` now, for a second program to work beside
/// it; `None` when none accepts connections there.
pub fn find_running(settings: &Settings) -> Option<Connection> {
    let data = std::fs::canonicalize(settings.directory.join("data")).ok()?;
    let (socket_directory, port) = leftover::socket_of_ready(&data)?;
    Some(Connection { socket_directory, port, user: ROLE.to_owned(), database: DATABASE.to_owned() })
}

fn launch(
    settings: &Settings,
    layout: &Layout,
    binaries: &Binaries,
    account: Account,
    socket_directory: PathBuf,
) -> Launch {
    let memory = settings.memory_mib.map_or_else(tuning::machine_memory, |mebibytes| mebibytes.saturating_mul(1 << 20));
    let mut options = tuning::settings(memory, settings.durability);
    options.push("listen_addresses=".to_owned());
    options.push(format!("port={}", socket::PORT));
    options.push(format!("unix_socket_directories={}", socket_directory.display()));
    options.push("unix_socket_permissions=0700".to_owned());
    options.push(format!("hba_file={}", layout.hba().display()));
    options.push(format!("ident_file={}", layout.ident().display()));
    options.push(format!("cluster_name={ROLE}"));
    Launch {
        postgres: binaries.program("postgres"),
        data: layout.data(),
        log: layout.log(),
        socket_directory,
        settings: options,
        account,
    }
}
