//! What the tests stand on: a server to talk to, databases to fill, addresses to send to.
//!
//! Everything here is the real thing: the server is the program itself in a process of its own, the database is a real
//! PostgreSQL run by the project's own launcher. Tests of one run share the PostgreSQL, and each has a database of its own.

pub mod archives;
pub mod certificates;
pub mod faults;
pub mod identity;
pub mod memory;
pub mod messages;
pub mod namespaces;
pub mod own_postgres;
pub mod pcap;
pub mod postgres;
pub mod server;
pub mod small_disk;
pub mod traffic;
pub mod witness;

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

/// Waits until `probe` gives something, for at most `seconds`; panics with `what` when it does not.
pub fn wait_for<T>(what: &str, seconds: u64, mut probe: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(seconds), "waited {seconds} s in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Says that a test cannot be had here and why, past the harness, which keeps to itself what passing tests print. Where CI
/// is set every test must be had.
pub fn skip(test: &str, why: &str) {
    skip_where(std::env::var("CI").as_deref() == Ok("true"), test, why);
}

/// The same of what is no part of the project, so that its lack is no failure anywhere.
pub fn skip_anywhere(why: &str) {
    skip_where(false, std::thread::current().name().unwrap_or_default(), why);
}

fn skip_where(ci: bool, test: &str, why: &str) {
    assert!(!ci, "{test} must be had where CI is set: {why}");
    std::io::stderr().write_all(format!("SKIPPED {test}: {why}\n").as_bytes()).unwrap();
}

#[test]
fn what_is_skipped_is_a_failure_where_ci_is_set() {
    assert!(std::panic::catch_unwind(|| skip_where(true, "a test", "strace is missing")).is_err());
}

/// Sends a signal, such as `STOP`, to these processes.
pub fn signal(name: &str, pids: &[u32]) {
    let pids = pids.iter().map(u32::to_string);
    // One of them may have ended by now.
    let _ = std::process::Command::new("kill").arg(format!("-{name}")).args(pids).stderr(Stdio::null()).status();
}

/// The folder of captured exports beside the checkout, when it is there. Says so when it is not. It is no part of the
/// project, so that its lack is no failure anywhere.
pub fn captures() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/captures");
    if folder.is_dir() {
        Some(folder)
    } else {
        skip_anywhere(&format!("no captures at {}", folder.display()));
        None
    }
}
