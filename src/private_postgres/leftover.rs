//! What an earlier run left working on our cluster, and how it is ended before ours starts.
//!
//! When Flowledger is killed, the kernel asks its server to shut down, but that takes a while and may not have happened
//! at all. Promises: after [`clear`], no PostgreSQL process works on the cluster. `postmaster.pid`, PostgreSQL's own
//! guard against two servers on one cluster, is left to PostgreSQL except in the one case it cannot resolve (see
//! [`drop_stale_guard`]). The caller holds the launcher's lock, so no other Flowledger interferes.

use super::error::PrivatePostgresError;
use super::process::{Signal, signal};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to finish a fast shutdown: it writes a checkpoint.
const FAST_SHUTDOWN: Duration = Duration::from_secs(60);
/// How long it may take to finish an immediate shutdown, which writes nothing.
const IMMEDIATE_SHUTDOWN: Duration = Duration::from_secs(30);
/// How long the processes of a dead server may take to notice.
const ORPHANS: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// The file in which a server names itself, and its state, to others.
pub(super) fn guard(data: &Path) -> PathBuf {
    data.join("postmaster.pid")
}

/// The process id in the first line of `postmaster.pid` (negative there for a single-user server).
pub(super) fn guarded_by(data: &Path) -> Option<u32> {
    let text = fs::read_to_string(guard(data)).ok()?;
    let pid = text.lines().next()?.trim().parse::<i32>().ok()?;
    Some(pid.unsigned_abs()).filter(|pid| *pid > 1)
}

/// Whether the server `pid` says in `postmaster.pid` that it accepts connections.
pub(super) fn is_ready(data: &Path, pid: u32) -> bool {
    let Ok(text) = fs::read_to_string(guard(data)) else { return false };
    // The eighth line is the status, padded with blanks (src/include/utils/pidfile.h).
    text.lines().next() == Some(pid.to_string().as_str())
        && text.lines().nth(7).is_some_and(|status| status.trim() == "ready")
}

/// The socket's directory and port of the server that works on the cluster and accepts connections, as it says in lines
/// four and five of `postmaster.pid`.
pub(super) fn socket_of_ready(data: &Path) -> Option<(PathBuf, u16)> {
    let pid = guarded_by(data).filter(|pid| is_server_of(*pid, data) && is_ready(data, *pid))?;
    let text = fs::read_to_string(guard(data)).ok()?;
    let mut lines = text.lines().skip(3);
    let (port, directory) = (lines.next()?.trim().parse().ok()?, lines.next()?.trim());
    tracing::debug!(pid, directory, port, "found a running server");
    (!directory.is_empty()).then(|| (PathBuf::from(directory), port))
}

/// Ends every PostgreSQL process that still works on the cluster `data` (an absolute path without links).
pub(super) fn clear(data: &Path) -> Result<(), PrivatePostgresError> {
    if let Some(pid) = guarded_by(data).filter(|pid| is_server_of(*pid, data)) {
        tracing::warn!(pid, data = %data.display(), "stopping the PostgreSQL that an earlier run left behind");
        end(data, &[pid], Signal::Interrupt, FAST_SHUTDOWN)
            .or_else(|_| end(data, &[pid], Signal::Quit, IMMEDIATE_SHUTDOWN))?;
    }
    let orphans = workers_on(data);
    if !orphans.is_empty() {
        // Their server is gone, so their work is lost anyway; until they leave, PostgreSQL refuses to start again.
        tracing::warn!(count = orphans.len(), "ending the processes of a PostgreSQL that died");
        end(data, &orphans, Signal::Quit, ORPHANS).or_else(|_| end(data, &orphans, Signal::Kill, ORPHANS))?;
    }
    drop_stale_guard(data)
}

/// Removes `postmaster.pid` in the one case where PostgreSQL would refuse to start for ever: the process it names
/// exists but is no server of this cluster. That is so when its number went to another process (after a restart of a
/// container, numbers repeat), or when it is dead but the container's first process does not collect the dead.
/// PostgreSQL only asks whether the number is taken; we know more: what that process is, that no other one works on the
/// cluster, and, by the launcher's lock, that none is being started.
fn drop_stale_guard(data: &Path) -> Result<(), PrivatePostgresError> {
    let Some(pid) = guarded_by(data).filter(|pid| Path::new("/proc").join(pid.to_string()).exists()) else {
        return Ok(());
    };
    if let Some(pid) = postgres_processes().find(|pid| matches!(work_directory(*pid), Err(hidden) if hidden)) {
        // Not allowed to see where it works, so it may be here.
        return Err(PrivatePostgresError::Leftover { pid, data: data.to_owned() });
    }
    tracing::warn!(pid, "removing a stale postmaster.pid: the process it names is not this cluster's server");
    let guard = guard(data);
    fs::remove_file(&guard).map_err(PrivatePostgresError::file("remove the stale", &guard))
}

/// Sends `kind` to `pids` and waits until they are gone.
fn end(data: &Path, pids: &[u32], kind: Signal, limit: Duration) -> Result<(), PrivatePostgresError> {
    for pid in pids {
        // A process that ended meanwhile cannot be told, and need not be.
        if let Err(error) = signal(*pid, kind) {
            tracing::debug!(pid, %error, "a leftover process could not be told to end");
        }
    }
    let deadline = Instant::now() + limit;
    loop {
        let Some(left) = pids.iter().find(|pid| is_postgres(**pid)) else { return Ok(()) };
        if Instant::now() >= deadline {
            return Err(PrivatePostgresError::Leftover { pid: *left, data: data.to_owned() });
        }
        thread::sleep(POLL);
    }
}

/// Whether `pid` runs a PostgreSQL program and is not dead and waiting to be collected.
fn is_postgres(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // "pid (name) state ...": the name may hold anything, so it ends at the last parenthesis.
    let Some((head, tail)) = stat.rsplit_once(')') else { return false };
    let name = head.split_once('(').map_or("", |(_, name)| name);
    matches!(name, "postgres" | "postmaster") && !matches!(tail.trim_start().chars().next(), Some('Z' | 'X'))
}

/// Whether `pid` is a live server of the cluster `data`, by its command line or by where it works.
fn is_server_of(pid: u32, data: &Path) -> bool {
    let named = || {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == data.as_os_str().as_encoded_bytes())
    };
    is_postgres(pid) && (named() || work_directory(pid).is_ok_and(|directory| directory == data))
}

/// Live PostgreSQL processes whose working directory is the cluster; every process of a server works there.
fn workers_on(data: &Path) -> Vec<u32> {
    postgres_processes().filter(|pid| work_directory(*pid).is_ok_and(|directory| directory == data)).collect()
}

fn postgres_processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid| is_postgres(*pid))
}

/// Where `pid` works; otherwise whether that is hidden from us (rather than that the process is gone).
fn work_directory(pid: u32) -> Result<PathBuf, bool> {
    fs::read_link(format!("/proc/{pid}/cwd")).map_err(|error| error.kind() == io::ErrorKind::PermissionDenied)
}
