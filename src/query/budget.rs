//! What one query may take, and how it is stopped.
//!
//! All workers of a query share one [`Budget`]. They ask it after each segment, so that a query stops within
//! milliseconds of running out of time, out of memory, or of listeners.

use super::QueryError;
use crate::store::READERS;
use serde::{Deserialize, Serialize};
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How many sessions all queries together may hold. The others answer whoever asks for a list or for health meanwhile.
const QUERY_SESSIONS: usize = READERS as usize - 2;

/// Limits of queries: `[query]` in the configuration.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The most memory that the groups of one query may take, in bytes.
    pub max_memory_bytes: u64,
    /// The longest that one query may run, in seconds, waiting for its turn included.
    pub max_seconds: u64,
    /// How many threads and database sessions one query uses; 0 means one for each processor. Fewer when `max_queries`
    /// times as many would be more than 14.
    pub workers: usize,
    /// How many queries run at once, 1 to 14; more wait for their turn.
    pub max_queries: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_memory_bytes: 256 << 20, max_seconds: 30, workers: 0, max_queries: 4 }
    }
}

impl Settings {
    /// How many queries may run at once: each has at least one session.
    pub(super) fn turns(&self) -> usize {
        self.max_queries.clamp(1, QUERY_SESSIONS)
    }

    /// How many workers a query has. A query that holds some sessions waits for the others, so all that run at once must
    /// find theirs: else they would wait for each other.
    pub(super) fn worker_count(&self) -> usize {
        let wanted = match self.workers {
            0 => std::thread::available_parallelism().map_or(1, NonZero::get),
            workers => workers,
        };
        wanted.clamp(1, QUERY_SESSIONS.checked_div(self.turns()).unwrap_or(1).max(1))
    }

    /// The longest that a query may run.
    pub(super) fn duration(&self) -> Duration {
        Duration::from_secs(self.max_seconds)
    }
}

/// What the workers of one query have left.
#[derive(Debug)]
pub struct Budget {
    max_memory_bytes: u64,
    max_seconds: u64,
    started: Instant,
    used: AtomicUsize,
    cancelled: AtomicBool,
}

impl Budget {
    /// A budget that runs from `started`.
    pub fn new(settings: &Settings, started: Instant) -> Self {
        Self {
            max_memory_bytes: settings.max_memory_bytes,
            max_seconds: settings.max_seconds,
            started,
            used: AtomicUsize::new(0),
            cancelled: AtomicBool::new(false),
        }
    }

    /// A worker held `before` bytes and now holds `after`. Fails when the query must stop.
    pub fn spend(&self, before: usize, after: usize) -> Result<(), QueryError> {
        let used = if after >= before {
            let more = after.saturating_sub(before);
            self.used.fetch_add(more, Ordering::Relaxed).saturating_add(more)
        } else {
            let less = before.saturating_sub(after);
            self.used.fetch_sub(less, Ordering::Relaxed).saturating_sub(less)
        };
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(QueryError::Cancelled);
        }
        if used as u64 > self.max_memory_bytes {
            return Err(QueryError::Memory { limit: self.max_memory_bytes });
        }
        if self.started.elapsed() > Duration::from_secs(self.max_seconds) {
            return Err(self.out_of_time());
        }
        Ok(())
    }

    /// The error for a query that took too long.
    pub(super) fn out_of_time(&self) -> QueryError {
        QueryError::Time { limit: self.max_seconds }
    }

    /// Makes every worker stop at its next segment.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_summed_over_workers_and_given_back() {
        let budget = Budget::new(&Settings { max_memory_bytes: 100, ..Settings::default() }, Instant::now());
        budget.spend(0, 60).unwrap();
        budget.spend(0, 40).unwrap();
        let error = budget.spend(40, 41).unwrap_err();
        assert!(matches!(error, QueryError::Memory { limit: 100 }) && error.is_budget());
        assert!(error.to_string().contains("max_memory_bytes"), "{error}");
        budget.spend(60, 1).unwrap();
    }

    #[test]
    fn all_queries_that_run_at_once_find_their_sessions() {
        let count = |workers, max_queries| {
            let settings = Settings { workers, max_queries, ..Settings::default() };
            (settings.turns(), settings.worker_count())
        };
        assert_eq!((count(3, 4), count(64, 4), count(64, 1)), ((4, 3), (4, 3), (1, 14)));
        assert_eq!((count(2, 0), count(2, 1_000), count(64, 14)), ((1, 2), (14, 1), (14, 1)));
        for (workers, max_queries) in (0..40).flat_map(|workers| (0..40).map(move |queries| (workers, queries))) {
            let (turns, each) = count(workers, max_queries);
            assert!(turns >= 1 && each >= 1 && turns * each <= QUERY_SESSIONS);
        }
    }

    #[test]
    fn time_runs_out_and_cancelling_stops() {
        let Some(long_ago) = Instant::now().checked_sub(Duration::from_secs(31)) else { return };
        let late = Budget::new(&Settings::default(), long_ago);
        let error = late.spend(0, 0).unwrap_err();
        assert!(matches!(error, QueryError::Time { limit: 30 }), "{error}");
        assert!(error.to_string().contains("max_seconds"), "{error}");
        let budget = Budget::new(&Settings::default(), Instant::now());
        budget.spend(0, 0).unwrap();
        budget.cancel();
        assert!(matches!(budget.spend(0, 0), Err(QueryError::Cancelled)));
    }
}
