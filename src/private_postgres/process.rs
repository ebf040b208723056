//! Starting PostgreSQL's programs as our children, and sending them signals: where the launcher calls the kernel.
//!
//! Promises of every program started here: it runs as the unprivileged user, sees none of our environment, is out of
//! reach of the terminal's Ctrl-C, and is told to end by the kernel should the thread that started it die. Knows nothing
//! of clusters.

#![allow(unsafe_code)]

use super::account::Account;
use super::error::PrivatePostgresError;
use std::env;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a PostgreSQL server can be told by signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGINT: "fast" shutdown. Ends sessions, writes a checkpoint.
    Interrupt,
    /// SIGQUIT: "immediate" shutdown. Ends at once; the next start recovers from the log.
    Quit,
    /// SIGKILL.
    Kill,
}

impl Signal {
    fn number(self) -> libc::c_int {
        match self {
            Self::Interrupt => libc::SIGINT,
            Self::Quit => libc::SIGQUIT,
            Self::Kill => libc::SIGKILL,
        }
    }
}

/// Sends `signal` to the process `pid`.
pub(super) fn signal(pid: u32, signal: Signal) -> io::Result<()> {
    // Zero and negative numbers would mean whole groups of processes.
    let pid = libc::pid_t::try_from(pid).ok().filter(|pid| *pid > 1).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: kill takes two numbers and touches no memory of ours.
    if unsafe { libc::kill(pid, signal.number()) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A command that runs `program` as the server's user. It ends when the thread that spawns it does.
pub(super) fn command(program: &Path, account: &Account) -> Command {
    let mut command = Command::new(program);
    // PGDATA, PGOPTIONS or a locale of the administrator's must not leak into the cluster.
    command.env_clear().env("LC_ALL", "C").env("TZ", "UTC");
    if let Some(path) = env::var_os("PATH") {
        command.env("PATH", path);
    }
    // The present directory may be closed to the server's user.
    command.current_dir("/").stdin(Stdio::null()).process_group(0);
    if account.switches() {
        // Being root, this also drops all supplementary groups.
        command.uid(account.server.uid).gid(account.server.gid);
    }
    let parent = std::process::id();
    // SAFETY: between fork and exec the closure only makes the system calls sigaction, prctl and getppid and builds an error
    // from a number: no allocation, no lock.
    unsafe {
        command.pre_exec(move || {
            // A server started in the background by a script ignores SIGINT, and children would inherit that.
            if libc::signal(libc::SIGINT, libc::SIG_DFL) == libc::SIG_ERR {
                return Err(io::Error::last_os_error());
            }
            // After the change of user, which would clear it.
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGINT) == -1 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before that call.
            if u32::try_from(libc::getppid()) != Ok(parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
    command
}

/// Runs `command` to its end with `input`, which must fit a pipe (a few KiB); `directory` is named in the error.
pub(super) fn run_to_end(mut command: Command, input: &str, directory: &Path) -> Result<(), PrivatePostgresError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed =
        |output: String| PrivatePostgresError::Preparation { program, directory: directory.to_owned(), output };
    let mut run = || {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take()
            && let Err(error) = stdin.write_all(input.as_bytes())
        {
            // A program that ended early says why on its standard error.
            tracing::debug!(%error, "a PostgreSQL program did not read its input");
        }
        child.wait_with_output()
    };
    match run() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = [output.stdout, output.stderr].concat();
            Err(failed(format!("{}: {}", output.status, last_lines(&String::from_utf8_lossy(&said), 10))))
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

/// The last `count` lines of `text`.
pub(super) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().rev().take(count).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = command(Path::new("/bin/sh"), &Account::choose().unwrap());
        command.args(["-c", script]);
        command
    }

    #[test]
    fn children_run_unprivileged_in_their_own_group_with_a_clean_environment() {
        let output = shell("id -u; id -G; env; ps -o pgid= -p $$; echo $$; pwd").output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = said.lines().map(str::trim).collect();
        let account = Account::choose().unwrap();
        assert_eq!(lines[0], account.server.uid.to_string());
        if account.switches() {
            assert_eq!(lines[1], account.server.gid.to_string(), "supplementary groups are dropped");
        }
        assert!(!said.contains("CARGO"), "{said}");
        assert_eq!(lines[lines.len() - 3], lines[lines.len() - 2], "leads its own group: {said}");
        assert_eq!(lines[lines.len() - 1], "/");
    }

    #[test]
    fn a_child_is_told_to_end_when_the_thread_that_started_it_dies() {
        let mut child = std::thread::spawn(|| shell("exec sleep 60").spawn().unwrap()).join().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGINT));
    }

    #[test]
    fn what_a_failing_program_said_is_in_the_error() {
        let error = run_to_end(shell("cat; echo to stderr >&2; exit 3"), "from stdin\n", Path::new("/x")).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("from stdin\nto stderr") && message.contains("exit status: 3"), "{message}");
    }

    #[test]
    fn groups_of_processes_cannot_be_signalled() {
        assert!(signal(0, Signal::Kill).is_err());
        assert!(signal(u32::MAX, Signal::Kill).is_err());
    }
}
