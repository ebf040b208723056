//! What time it is, and how a moment is written down.
//!
//! A moment is a [`Timestamp`]: microseconds since 1970-01-01 00:00:00 UTC. Everything that needs the present asks a
//! [`Clock`] it was given, so that tests decide what time it is. This module knows no time zones; those belong to the
//! edges that talk to people.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A moment: microseconds since 1970-01-01 00:00:00 UTC, negative before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// One second in microseconds.
pub const SECOND: i64 = 1_000_000;
/// One hour in microseconds.
pub const HOUR: i64 = 3_600 * SECOND;
/// One UTC day in microseconds.
pub const DAY: i64 = 24 * HOUR;

impl Timestamp {
    /// The moment `micros` microseconds after the Unix epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the Unix epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The start of the UTC hour this moment lies in.
    pub const fn hour(self) -> Self {
        Self(self.0.saturating_sub(self.0.rem_euclid(HOUR)))
    }

    /// The start of the UTC day this moment lies in.
    pub const fn day(self) -> Self {
        Self(self.0.saturating_sub(self.0.rem_euclid(DAY)))
    }

    /// This moment moved by `micros`, stopping at the ends of the range.
    pub const fn plus(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// The same moment for chrono; moments outside chrono's range (years beyond 262,000) become its nearest end.
    pub fn to_utc(self) -> chrono::DateTime<chrono::Utc> {
        chrono::DateTime::from_timestamp_micros(self.0).unwrap_or(if self.0 < 0 {
            chrono::DateTime::<chrono::Utc>::MIN_UTC
        } else {
            chrono::DateTime::<chrono::Utc>::MAX_UTC
        })
    }
}

impl<Tz: chrono::TimeZone> From<chrono::DateTime<Tz>> for Timestamp {
    fn from(moment: chrono::DateTime<Tz>) -> Self {
        Self(moment.timestamp_micros())
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC with microseconds, for logs.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.to_utc().format("%Y-%m-%dT%H:%M:%S%.6fZ"))
    }
}

/// A source of the present moment.
pub trait Clock: Send + Sync {
    /// The present, by the wall clock. It may jump in both directions.
    fn now(&self) -> Timestamp;

    /// A moment that never goes back, for measuring how long something takes. Only differences mean something.
    fn instant(&self) -> Instant {
        Instant::now()
    }

    /// Lets the calling thread wait.
    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// A clock that many parts hold.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_micros()).map_or(i64::MIN, |micros| -micros),
        };
        Timestamp(micros)
    }
}

/// A clock that stands still until it is set, for rehearsing schedules.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.0))
    }

    /// Makes the clock show `now`.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_and_days_begin_at_or_before_their_moments_even_before_1970() {
        for micros in [0, 1, HOUR, DAY - 1, -1, -HOUR, -DAY - 1, 1_795_000_000_123_456] {
            let moment = Timestamp::from_micros(micros);
            for (start, length) in [(moment.hour(), HOUR), (moment.day(), DAY)] {
                assert!(start <= moment && moment.micros() - start.micros() < length, "{micros}");
                assert_eq!(start.micros() % length, 0, "{micros}");
            }
        }
    }

    #[test]
    fn a_moment_prints_as_rfc_3339_in_utc() {
        assert_eq!(Timestamp::from_micros(1_795_392_000_000_001).to_string(), "2026-11-23T00:00:00.000001Z");
    }
}
