//! Warnings that strangers can cause, kept from filling the log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often one kind of warning is written at most.
const PAUSE: Duration = Duration::from_secs(60);

/// Lets one warning through a minute.
#[derive(Debug, Default)]
pub(super) struct Pace(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    held_back: u64,
}

impl Pace {
    /// Calls `warn` if that is due, with words for how many warnings were held back since the last one.
    pub(super) fn warn(&self, warn: impl FnOnce(&str)) {
        self.warn_at(Instant::now(), warn);
    }

    fn warn_at(&self, now: Instant, warn: impl FnOnce(&str)) {
        let held_back = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.last.is_some_and(|last| now.saturating_duration_since(last) < PAUSE) {
                state.held_back = state.held_back.saturating_add(1);
                return;
            }
            state.last = Some(now);
            std::mem::take(&mut state.held_back)
        };
        let more = if held_back == 0 { String::new() } else { format!(" ({held_back} more since the last warning)") };
        warn(&more);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_warning_a_minute_tells_how_many_it_stands_for() {
        let (pace, begun) = (Pace::default(), Instant::now());
        let mut told = Vec::new();
        for seconds in [0, 1, 59, 60, 61, 130, 300] {
            pace.warn_at(begun + Duration::from_secs(seconds), |more| told.push((seconds, more.to_owned())));
        }
        let expected =
            [(0, ""), (60, " (2 more since the last warning)"), (130, " (1 more since the last warning)"), (300, "")];
        assert_eq!(told, expected.map(|(seconds, more)| (seconds, more.to_owned())));
    }
}
