//! Commands whose output nobody reads to its end, as with `head`: they end at once and complain of nothing.

use crate::support::server::program;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

/// How a command ends whose output is closed after so many lines, and what it says of it.
fn ended(arguments: &[&str], lines: usize) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().unwrap();
    let (output, input) = std::io::pipe().unwrap();
    let mut output = Some(BufReader::new(output));
    if lines == 0 {
        // Before it could write anything, since a short output may be written at once.
        output = None;
    }
    let mut command = Command::new(program());
    command.args(arguments).current_dir(folder.path()).stdin(Stdio::null()).stdout(input).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    // It holds the end that the command writes to.
    drop(command);
    if let Some(output) = output {
        assert_eq!(output.lines().take(lines).map(Result::unwrap).count(), lines);
    }
    let ended = child.wait_with_output().unwrap();
    (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
}

#[test]
fn a_command_whose_output_is_closed_ends_like_one_that_sigpipe_ended() {
    let simulate = ["simulate", "--print-only", "--count", "1000000"];
    for (arguments, lines) in [(&["check-config"][..], 0), (&simulate, 0), (&simulate, 1)] {
        assert_eq!(ended(arguments, lines), (Some(141), String::new()), "{arguments:?} after {lines} lines");
    }
}
