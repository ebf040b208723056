//! What can go wrong between "no database URL was given" and a PostgreSQL of our own that answers.
//!
//! Every message says what was wrong, where, and what the operator can do about it. This file knows no causes beyond
//! the words it is given.

use std::io;
use std::path::{Path, PathBuf};

/// Why a private PostgreSQL could not be started or kept running.
#[derive(Debug, thiserror::Error)]
pub enum PrivatePostgresError {
    /// No usable `postgres` and `initdb` of a supported major were found.
    #[error(
        "no PostgreSQL 15 to 18 was found (looked in {searched}). Install one (Debian and Ubuntu: apt-get install \
         postgresql; Fedora and RHEL: dnf install postgresql-server), or name its program directory in the private \
         PostgreSQL's setting `binaries`, or point Flowledger at a running server with [database] url"
    )]
    BinariesNotFound {
        /// The places looked at, for the operator.
        searched: String,
    },
    /// The configured program directory cannot be used.
    #[error("the configured PostgreSQL program directory {} cannot be used: {reason}", directory.display())]
    UnsuitableBinaries {
        /// The configured directory.
        directory: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The data directory belongs to a major whose programs are not installed.
    #[error(
        "the data in {} was written by PostgreSQL {major}, whose programs were not found (looked in {searched}); another \
         major cannot read it. Install PostgreSQL {major} (Debian: apt-get install postgresql-{major}), or name its \
         program directory in the private PostgreSQL's setting `binaries`", data.display()
    )]
    MajorNotFound {
        /// The cluster's data directory.
        data: PathBuf,
        /// The major in its `PG_VERSION`.
        major: u32,
        /// The places looked at, for the operator.
        searched: String,
    },
    /// Another launcher holds the lock on the same directory.
    #[error(
        "{} is in use by another Flowledger ({holder}). Stop that one first, or give this one another data directory",
        directory.display()
    )]
    InUse {
        /// The contested directory.
        directory: PathBuf,
        /// The holder as it named itself in the lock file.
        holder: String,
    },
    /// We are root and there is no unprivileged user to run PostgreSQL as, or our own user has no name.
    #[error("{reason}")]
    Account {
        /// What is missing and how to create it.
        reason: String,
    },
    /// The unprivileged user may not enter the data directory or run the programs.
    #[error(
        "PostgreSQL cannot run as root, and the system user {user} that runs it may not enter {}. Choose a data \
         directory it can reach (for example below /var/lib/flowledger), or allow it: chmod o+x {}", blocked.display(), blocked.display()
    )]
    Unreachable {
        /// The unprivileged user.
        user: String,
        /// The first directory on the way that keeps it out.
        blocked: PathBuf,
    },
    /// The place of the cluster holds something else.
    #[error(
        "{} is not empty and not a PostgreSQL data directory (it has no readable PG_VERSION). Move it away or choose another data directory",
        data.display()
    )]
    NotACluster {
        /// Where the cluster should be.
        data: PathBuf,
    },
    /// The cluster belongs to another user, and we are not root and cannot change that.
    #[error(
        "{} belongs to another user (uid {owner}) and PostgreSQL only runs as the owner of its data. Start Flowledger as that user or as root, or choose another data directory",
        data.display()
    )]
    ForeignOwner {
        /// The cluster's data directory.
        data: PathBuf,
        /// The numeric user id that owns it.
        owner: u32,
    },
    /// No directory for the unix socket could be made.
    #[error("no place for PostgreSQL's unix socket: {reason}")]
    SocketDirectory {
        /// Every place tried and why it did not do.
        reason: String,
    },
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// The operation, as a verb.
        action: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// `initdb` or `postgres --single` failed, or could not be run.
    #[error("{program} failed while preparing {}: {output}", directory.display())]
    Preparation {
        /// The program.
        program: String,
        /// The directory it was preparing.
        directory: PathBuf,
        /// The end of what it said, or why it did not run.
        output: String,
    },
    /// A server left over from an earlier run could not be stopped.
    #[error(
        "a PostgreSQL of an earlier run (process {pid}) still works on {} and did not stop when asked. Stop it by hand (kill -QUIT {pid}) and start again",
        data.display()
    )]
    Leftover {
        /// The process that stays.
        pid: u32,
        /// The cluster's data directory.
        data: PathBuf,
    },
    /// The supervising thread could not be started.
    #[error("the thread that supervises PostgreSQL could not be started: {source}")]
    Supervisor {
        /// The operating system's answer.
        source: io::Error,
    },
    /// The server ended again and again before it was ready.
    #[error("PostgreSQL ended {attempts} times in a row before it was ready ({last}). The end of its log {}:\n{tail}", log.display())]
    KeepsFailing {
        /// How often it was started.
        attempts: u32,
        /// How the last one ended.
        last: String,
        /// The server's log file.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// The server was stopped while somebody needed it, or whoever looked after it ended by a defect.
    #[error("nobody looks after the PostgreSQL of our own any more; start Flowledger again")]
    Stopped,
}

impl PrivatePostgresError {
    /// For `map_err`: a failed file operation, `action` being a verb such as "create".
    pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }
}
