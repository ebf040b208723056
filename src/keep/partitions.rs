//! Which days to make and which to drop: a pure decision from what is there and what the time is.

use crate::clock::{DAY, Timestamp};

/// How many days are made ahead, today not counted.
const AHEAD: i64 = 3;
/// How many days a round drops at most: a clock that is wrong for some minutes must not cost the history.
const DROPS: usize = 3;

/// What is due for one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// The starts of days to make.
    pub make: Vec<Timestamp>,
    /// The starts of days to drop now, the oldest first.
    pub drop: Vec<Timestamp>,
    /// The starts of days to drop in later rounds, the oldest first.
    pub postponed: Vec<Timestamp>,
}

/// What is due at `now` for a table that has partitions for `present` days and keeps flows for `keep_days`.
///
/// A day goes when all of it is older than `keep_days`; with `keep_days` 0 nothing is made and all days before today go.
/// Today and later days never go, whatever the clock says was before. A clock that is ahead makes days look older than they
/// are, so age is measured against at most a day after `newest`, the last moment known to be stored, and few days go at
/// once.
pub fn due(present: &[Timestamp], now: Timestamp, newest: Option<Timestamp>, keep_days: u32) -> Due {
    let today = now.day();
    let reference = reference(now, newest);
    let oldest = oldest_kept(now, newest, keep_days);
    let ahead = if keep_days == 0 { 0 } else { AHEAD + 1 };
    let mut drop: Vec<_> = present.iter().copied().filter(|&day| day < reference && day < oldest).collect();
    drop.sort_unstable();
    let postponed = drop.split_off(drop.len().min(DROPS));
    Due {
        make: (0..ahead)
            .map(|days| today.plus(days.saturating_mul(DAY)))
            .filter(|day| !present.contains(day))
            .collect(),
        drop,
        postponed,
    }
}

/// The day by which age is measured: today, or where the clock may be ahead the day after the last that is stored.
fn reference(now: Timestamp, newest: Option<Timestamp>) -> Timestamp {
    newest.map_or(now, |newest| now.min(newest.plus(DAY))).day()
}

/// The start of the oldest day of which something is kept for `keep_days`, measured as [`due`] does.
pub fn oldest_kept(now: Timestamp, newest: Option<Timestamp>, keep_days: u32) -> Timestamp {
    reference(now, newest).plus(DAY.saturating_mul(i64::from(keep_days)).saturating_neg())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(number: i64) -> Timestamp {
        Timestamp::from_micros(number * DAY)
    }

    #[test]
    fn days_are_made_ahead_and_dropped_when_all_of_them_is_too_old() {
        let now = day(100).plus(DAY / 2);
        let present: Vec<_> = (90..=101).map(day).collect();
        let table = [
            (8, vec![102, 103], vec![90, 91], 0),
            (7, vec![102, 103], vec![90, 91, 92], 0),
            (6, vec![102, 103], vec![90, 91, 92], 1),
            (90, vec![102, 103], vec![], 0),
            (0, vec![], vec![90, 91, 92], 7),
        ];
        for (keep_days, make, drop, postponed) in table {
            let (make, drop) = (make.into_iter().map(day).collect(), drop.into_iter().map(day).collect());
            let postponed = (93..93 + postponed).map(day).collect();
            let expected = Due { make, drop, postponed };
            assert_eq!(due(&present, now, None, keep_days), expected, "keeping {keep_days} days");
            assert_eq!(due(&present, now, Some(now), keep_days), expected, "keeping {keep_days} days");
        }
        assert_eq!(due(&[], now, None, 1).make, [day(100), day(101), day(102), day(103)]);
    }

    #[test]
    fn a_clock_that_is_ahead_drops_next_to_nothing() {
        let present: Vec<_> = (90..=103).map(day).collect();
        // (now, newest, dropped, postponed), keeping 7 days
        let table = [
            (1_000, None, vec![90, 91, 92], 11),
            (1_000, Some(100), vec![90, 91, 92, 93], 0),
            (1_000, Some(97), vec![90], 0),
            (1_000, Some(90), vec![], 0),
            // The clock was ahead and is right again: days in its future stay.
            (100, Some(1_000), vec![90, 91, 92], 0),
            (50, Some(100), vec![], 0),
        ];
        for (now, newest, drop, postponed) in table {
            let found = due(&present, day(now), newest.map(day), 7);
            let oldest = oldest_kept(day(now), newest.map(day), 7);
            assert!(found.drop.iter().all(|&dropped| dropped < oldest), "{now} {newest:?}");
            let mut drop: Vec<_> = drop.into_iter().map(day).collect();
            let more = drop.len().saturating_sub(DROPS);
            drop.truncate(DROPS);
            assert_eq!((found.drop, found.postponed.len()), (drop, postponed + more), "{now} {newest:?}");
        }
    }

    #[test]
    fn the_oldest_days_go_first_in_whatever_order_they_are_told() {
        let present: Vec<_> = [95, 91, 94, 93, 92].map(day).into();
        assert_eq!(due(&present, day(200), None, 7).drop, [day(91), day(92), day(93)]);
    }
}
