//! How far the import is: a line on a terminal, drawn anew a few times a second. Nothing where standard error is no terminal.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How often the line is drawn.
const DRAW: Duration = Duration::from_millis(200);
const BAR: usize = 24;

/// What is shown. Both threads tell what they have done.
#[derive(Debug)]
pub(super) struct Progress {
    shown: bool,
    begun: Instant,
    all: u64,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bytes: u64,
    flows: u64,
    drawn: Option<Instant>,
}

impl Progress {
    /// Nothing of `all` bytes is done.
    pub(super) fn start(all: u64) -> Self {
        Self { shown: std::io::stderr().is_terminal(), begun: Instant::now(), all, state: Mutex::default() }
    }

    /// So many bytes more are read.
    pub(super) fn read(&self, bytes: u64) {
        self.change(|state| state.bytes = state.bytes.saturating_add(bytes));
    }

    /// So many flows more are stored.
    pub(super) fn stored(&self, flows: u64) {
        self.change(|state| state.flows = state.flows.saturating_add(flows));
    }

    /// Says something above the line.
    pub(super) fn say(&self, text: &str) {
        self.clear();
        crate::cli::say(format_args!("{text}"));
    }

    /// Takes the line away.
    pub(super) fn end(&self) {
        self.clear();
    }

    fn clear(&self) {
        if self.shown {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let Ok(mut state) = self.state.lock() else { return };
        change(&mut state);
        if self.shown && state.drawn.is_none_or(|drawn| drawn.elapsed() >= DRAW) {
            state.drawn = Some(Instant::now());
            let line = line(state.bytes, self.all, state.flows, self.begun.elapsed());
            let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
        }
    }
}

/// The line for `bytes` of `all` and `flows` after `elapsed`.
pub(super) fn line(bytes: u64, all: u64, flows: u64, elapsed: Duration) -> String {
    let per_mille = u128::from(bytes).saturating_mul(1_000).checked_div(all.into()).unwrap_or(1_000).min(1_000);
    let filled = usize::try_from(per_mille).unwrap_or(0).saturating_mul(BAR) / 1_000;
    let milliseconds = elapsed.as_millis().max(1);
    let rate = u128::from(flows).saturating_mul(1_000) / milliseconds;
    let left = match per_mille {
        0 => "?".to_owned(),
        done => {
            let seconds = milliseconds.saturating_mul(1_000_u128.saturating_sub(done)) / done / 1_000;
            format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
        }
    };
    let (bar, rest) = ("#".repeat(filled), ".".repeat(BAR.saturating_sub(filled)));
    format!("[{bar}{rest}] {} %  {flows} flows, {rate} a second, {left} left", per_mille / 10)
}
