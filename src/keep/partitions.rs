//! Which days to make and which to drop: a pure decision from what is there and what the time is.

use crate::clock::{DAY, Timestamp};

/// How many days are made ahead, today not counted.
const AHEAD: i64 = 3;

/// What is due for one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// The starts of days to make.
    pub make: Vec<Timestamp>,
    /// The starts of days to drop.
    pub drop: Vec<Timestamp>,
}

/// What is due at `now` for a table that has partitions for `present` days and keeps flows for `keep_days`.
///
/// A day goes when all of it is older than `keep_days`; with `keep_days` 0 nothing is made and all days before today go.
/// Today and later days never go, whatever the clock says was before.
pub fn due(present: &[Timestamp], now: Timestamp, keep_days: u32) -> Due {
    let today = now.day();
    let oldest = today.plus(DAY.saturating_mul(i64::from(keep_days)).saturating_neg());
    let ahead = if keep_days == 0 { 0 } else { AHEAD + 1 };
    Due {
        make: (0..ahead)
            .map(|days| today.plus(days.saturating_mul(DAY)))
            .filter(|day| !present.contains(day))
            .collect(),
        drop: present.iter().copied().filter(|&day| day < today && day < oldest).collect(),
    }
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
            (7, vec![102, 103], vec![90, 91, 92]),
            (90, vec![102, 103], vec![]),
            (0, vec![], vec![90, 91, 92, 93, 94, 95, 96, 97, 98, 99]),
        ];
        for (keep_days, make, drop) in table {
            let expected = Due { make: make.into_iter().map(day).collect(), drop: drop.into_iter().map(day).collect() };
            assert_eq!(due(&present, now, keep_days), expected, "keeping {keep_days} days");
        }
        assert_eq!(due(&[], now, 1).make, [day(100), day(101), day(102), day(103)]);
    }
}
