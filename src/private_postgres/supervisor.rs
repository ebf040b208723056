//! The thread that keeps the server running: starts it, notices when it is ready or dead, starts it again, stops it.
//!
//! Promises: a server that was ready once is started again for ever, at growing pauses, because what keeps it down, such
//! as a full disk, may pass; one that ends five times in a row before it was ever ready is given up, with the end of its
//! log as the reason. There is no limit on how long a start may take, because recovery after a crash may rightly take
//! minutes; the wait is told in the log. All children are started from this one thread, because the kernel's "tell the
//! child when its parent dies" is about the parent's thread.

use super::cluster::Lock;
use super::error::PrivatePostgresError;
use super::leftover;
use super::process::{Signal, command, last_lines, signal};
use super::{Launch, socket};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// So many ends in a row and a server that was never ready is given up.
const ATTEMPTS: u32 = 5;
/// First pause before another start; it doubles up to the longest, which is longer after a start that failed than after
/// the end of a server that had been ready.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
const LONGEST_PAUSE_FAILED: Duration = Duration::from_secs(30);
/// How often failed starts are told, at most.
const FAILURES_TOLD: Duration = Duration::from_secs(60);
/// A server that was ready for so long is healthy: the next pause is the first one again.
const HEALTHY: Duration = Duration::from_secs(2);
/// How long a fast shutdown may take before an immediate one is asked for, and that before a kill.
const FAST_SHUTDOWN: Duration = Duration::from_secs(60);
const IMMEDIATE_SHUTDOWN: Duration = Duration::from_secs(30);
/// How often the server is looked at while it starts or stops, and while it runs.
const POLL_CHANGING: Duration = Duration::from_millis(10);
const POLL_RUNNING: Duration = Duration::from_millis(100);
/// How often a long start or shutdown is told.
const PROGRESS: Duration = Duration::from_secs(10);
/// How often the log's size is looked at, and how many bytes it may have.
const LOG_CHECK: Duration = Duration::from_secs(10);
const LOG_LIMIT: u64 = 16 * 1024 * 1024;

/// What the supervised server is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is being started, or started again; connections are refused.
    Starting,
    /// It accepts connections.
    Ready {
        /// The process id of the server's first process (the postmaster).
        pid: u32,
    },
    /// It ended too often without ever having been ready and will not be started again.
    Failed {
        /// Why, with the end of its log.
        reason: String,
    },
    /// It was stopped because we asked.
    Stopped,
}

/// The status as the supervisor tells it and others look at it.
#[derive(Debug)]
pub(super) struct Board(Mutex<Status>);

impl Board {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Status::Starting))
    }

    fn locked(&self) -> MutexGuard<'_, Status> {
        // A status is replaced whole, so it is right even if a holder panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, status: Status) {
        *self.locked() = status;
    }

    pub(super) fn status(&self) -> Status {
        self.locked().clone()
    }
}

/// How one life of the server ended.
enum End {
    Asked,
    BeforeReady(String),
    AfterReady { how: String, lived: Duration },
}

/// The loop's own state.
pub(super) struct Supervisor {
    pub(super) launch: Launch,
    pub(super) board: std::sync::Arc<Board>,
    /// Disconnected when the server shall stop.
    pub(super) stop: Receiver<()>,
    /// Held for as long as a server may be running.
    pub(super) lock: Lock,
}

impl Supervisor {
    /// Runs until asked to stop or until the server is given up; returns why it was given up.
    pub(super) fn run(self) -> Option<PrivatePostgresError> {
        let mut failures = 0;
        let mut pause = FIRST_PAUSE;
        let mut ever_ready = false;
        let mut told: Option<Instant> = None;
        let given_up = loop {
            let longest = match self.one_life() {
                End::Asked => break None,
                End::BeforeReady(how) => {
                    failures += 1;
                    if failures >= ATTEMPTS && !ever_ready {
                        break Some(PrivatePostgresError::KeepsFailing {
                            attempts: failures,
                            last: how,
                            log: self.launch.log.clone(),
                            tail: last_lines(&end_of(&self.launch.log), 10),
                        });
                    }
                    if told.is_none_or(|told| told.elapsed() >= FAILURES_TOLD) {
                        told = Some(Instant::now());
                        let (log, said) = (self.launch.log.display(), last_lines(&end_of(&self.launch.log), 3));
                        tracing::error!(end = how, attempt = failures, %log, said, "PostgreSQL does not start; trying on");
                    }
                    LONGEST_PAUSE_FAILED
                }
                End::AfterReady { how, lived } => {
                    ever_ready = true;
                    failures = 0;
                    told = None;
                    if lived >= HEALTHY {
                        pause = FIRST_PAUSE;
                    }
                    tracing::error!(end = how, "PostgreSQL died; starting it again");
                    LONGEST_PAUSE
                }
            };
            pause = pause.min(longest);
            self.board.set(Status::Starting);
            if self.asked_to_stop(pause) {
                break None;
            }
            pause = pause.saturating_mul(2);
        };
        socket::remove(&self.launch.socket_directory);
        // Another launcher may take over from here.
        drop(self.lock);
        self.board.set(match &given_up {
            Some(error) => Status::Failed { reason: error.to_string() },
            None => Status::Stopped,
        });
        given_up
    }

    /// Waits for `pause` or until asked to stop, and says whether it was asked.
    fn asked_to_stop(&self, pause: Duration) -> bool {
        self.stop.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected)
    }

    /// Starts the server and stays with it until it is gone.
    fn one_life(&self) -> End {
        if let Err(error) = leftover::clear(&self.launch.data) {
            return End::BeforeReady(error.to_string());
        }
        let mut child = match self.spawn() {
            Ok(child) => child,
            Err(error) => return End::BeforeReady(format!("it cannot be run: {error}")),
        };
        let pid = child.id();
        let started = Instant::now();
        let mut ready: Option<Instant> = None;
        let mut told = started;
        let mut log_checked = started;
        loop {
            match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return end(status.to_string(), ready),
                Err(error) => return end(format!("its end could not be learnt: {error}"), ready),
            }
            if ready.is_none() {
                if leftover::is_ready(&self.launch.data, pid) {
                    ready = Some(Instant::now());
                    let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
                    tracing::info!(pid, milliseconds, socket = %self.launch.socket_directory.display(), "PostgreSQL is ready");
                    self.board.set(Status::Ready { pid });
                } else if told.elapsed() >= PROGRESS {
                    told = Instant::now();
                    let said = last_lines(&end_of(&self.launch.log), 1);
                    tracing::info!(seconds = started.elapsed().as_secs(), said, "PostgreSQL is still starting");
                }
            }
            if log_checked.elapsed() >= LOG_CHECK {
                log_checked = Instant::now();
                if let Err(error) = limit(&self.launch.log, LOG_LIMIT) {
                    tracing::warn!(log = %self.launch.log.display(), %error, "PostgreSQL's log could not be rotated");
                }
            }
            if self.asked_to_stop(if ready.is_some() { POLL_RUNNING } else { POLL_CHANGING }) {
                shut_down(&mut child);
                return End::Asked;
            }
        }
    }

    fn spawn(&self) -> io::Result<Child> {
        limit(&self.launch.log, LOG_LIMIT)?;
        // Appending, the server goes on at the start when the file is emptied under it.
        let log = OpenOptions::new().append(true).create(true).mode(0o640).open(&self.launch.log)?;
        let mut server = command(&self.launch.postgres, &self.launch.account);
        server.arg("-D").arg(&self.launch.data);
        for setting in &self.launch.settings {
            server.arg("-c").arg(setting);
        }
        server.stdout(Stdio::from(log.try_clone()?)).stderr(Stdio::from(log)).spawn()
    }
}

fn end(how: String, ready: Option<Instant>) -> End {
    match ready {
        Some(since) => End::AfterReady { how, lived: since.elapsed() },
        None => End::BeforeReady(how),
    }
}

/// Asks the server to end, ever more firmly, and waits until it has.
fn shut_down(child: &mut Child) {
    for (kind, patience) in [(Signal::Interrupt, FAST_SHUTDOWN), (Signal::Quit, IMMEDIATE_SHUTDOWN)] {
        if let Err(error) = signal(child.id(), kind) {
            tracing::warn!(?kind, %error, "PostgreSQL could not be told to stop");
        }
        let asked = Instant::now();
        let mut told = asked;
        while asked.elapsed() < patience {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                tracing::info!(seconds = asked.elapsed().as_secs(), "PostgreSQL is still stopping");
            }
            std::thread::sleep(POLL_CHANGING);
        }
        tracing::warn!(?kind, seconds = patience.as_secs(), "PostgreSQL did not stop in time");
    }
    // The last resort; what was confirmed is in the log and recovered at the next start.
    if let Err(error) = child.kill().and_then(|()| child.wait()) {
        tracing::error!(%error, "PostgreSQL could not be killed");
    }
}

/// The last few KiB of the log, empty if there is none.
fn end_of(log: &Path) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}

/// Once the log has more than `bytes`, makes it the older part and empties it. A server that has it open writes on;
/// what it writes between the copy and the emptying is lost, which for this log is acceptable.
fn limit(log: &Path, bytes: u64) -> io::Result<()> {
    match fs::metadata(log) {
        Ok(metadata) if metadata.len() > bytes => {}
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    let mut older = log.as_os_str().to_owned();
    older.push(".1");
    fs::copy(log, older)?;
    OpenOptions::new().write(true).open(log)?.set_len(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_full_log_becomes_the_older_part_and_its_writer_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("postgres.log");
        limit(&log, 4).unwrap();
        let mut writer = OpenOptions::new().append(true).create(true).open(&log).unwrap();
        writer.write_all(b"one\n").unwrap();
        limit(&log, 4).unwrap();
        assert_eq!(end_of(&log), "one\n");
        writer.write_all(b"two\n").unwrap();
        limit(&log, 4).unwrap();
        writer.write_all(b"three\n").unwrap();
        assert_eq!(end_of(&log), "three\n");
        assert_eq!(end_of(&directory.path().join("postgres.log.1")), "one\ntwo\n");
    }
}
