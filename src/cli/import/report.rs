//! What became of all files, and the words for it.

use crate::config::Config;
use std::fmt::Write as _;

/// What became of all files.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) flows: u64,
    pub(super) whole: u64,
    pub(super) known: u64,
    pub(super) other: u64,
    pub(super) unfinished: u64,
    pub(super) old: u64,
    pub(super) future: u64,
    pub(super) timeless: u64,
    /// Datagrams of captures that look like flow exports and were sent to ports that nobody named.
    pub(super) elsewhere: u64,
    pub(super) problems: u64,
}

/// What became of a file, the more important the larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Ended {
    /// It had been brought in before.
    Known,
    /// All of its flows were left out.
    LeftOut,
    /// It is brought in.
    Whole,
    /// The same, but something could not be read, now or before.
    Damaged,
}

impl Report {
    /// Notes what became of a file.
    pub(super) fn ended(&mut self, ended: Ended) {
        let sum = match ended {
            Ended::Known => &mut self.known,
            Ended::LeftOut => return,
            Ended::Whole => &mut self.whole,
            Ended::Damaged => &mut self.problems,
        };
        *sum = sum.saturating_add(1);
    }

    /// How many files, or names, something was wrong with.
    pub(super) fn wrong(&self) -> u64 {
        self.problems
    }

    /// What became of all files, for people.
    pub(super) fn summary(&self, config: &Config) -> String {
        let mut text = format!("{} flows of {} files were brought in\n", self.flows, self.whole);
        let days = config.storage.segments_days;
        let mut line = |count: u64, what: &str| {
            if count > 0 {
                let _ = writeln!(text, "{count} {what}");
            }
        };
        line(self.known, "files had been brought in before and were left as they are");
        line(self.other, "files in directories are none of nfdump and no captures, and were passed over");
        line(self.unfinished, "files nfcapd.current are still being written and were passed over");
        let old = format!(
            "flows are older than {days} days and were left out: they would be dropped at once; raise [storage] \
             segments_days in the configuration, of the server too, before importing them"
        );
        line(self.old, &old);
        line(self.future, "flows have a receive time that is still to come, and were left out");
        line(self.timeless, "flows have no time at all, and were left out");
        let elsewhere =
            "datagrams in captures look like flow exports to other ports, and were left out; bring them in with --port";
        line(self.elsewhere, elsewhere);
        text
    }
}
