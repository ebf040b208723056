//! Exporters that change the layouts of their templates all the time: mostly several that send as one, so that each reads
//! the other's flows with the wrong template.
//!
//! Promises: of an exporter it is said at most once an hour, and the moments are those of reception, so that catching up
//! says the same as it would have then. It counts; what to say is the caller's.

use crate::clock::{HOUR, Timestamp};
use std::collections::HashMap;

/// How many changes an hour are ordinary: an exporter that is being configured has some.
const ORDINARY: u64 = 60;

/// Changes by exporter, of those that changed any.
#[derive(Debug, Default)]
pub(super) struct Layouts(HashMap<u32, Changes>);

#[derive(Debug)]
struct Changes {
    /// When the hour began in which they are counted.
    begun: Timestamp,
    count: u64,
    /// Until when it has been said.
    said_until: Timestamp,
}

impl Layouts {
    /// Adds changes of `exporter`, and returns how many there were within an hour when that is to be said now.
    pub(super) fn changed(&mut self, exporter: u32, received: Timestamp, count: u32) -> Option<u64> {
        if count == 0 {
            return None;
        }
        let new = || Changes { begun: received, count: 0, said_until: received };
        let changes = self.0.entry(exporter).or_insert_with(new);
        if received >= changes.begun.plus(HOUR) {
            changes.begun = received;
            changes.count = 0;
        }
        changes.count = changes.count.saturating_add(count.into());
        if changes.count <= ORDINARY || received < changes.said_until {
            return None;
        }
        changes.said_until = received.plus(HOUR);
        Some(changes.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = HOUR / 60;

    #[test]
    fn more_than_sixty_changes_within_an_hour_are_said_once_an_hour_and_for_each_exporter() {
        let mut layouts = Layouts::default();
        // One a minute is ordinary, for as long as it lasts; nothing is not even remembered.
        for minute in 0..300 {
            assert_eq!(layouts.changed(1, Timestamp::from_micros(minute * MINUTE), 1), None);
            assert_eq!(layouts.changed(9, Timestamp::from_micros(minute * MINUTE), 0), None);
        }
        assert!(!layouts.0.contains_key(&9));
        let mut said = Vec::new();
        for minute in 0..180 {
            for exporter in [2, 3] {
                let count = layouts.changed(exporter, Timestamp::from_micros(minute * MINUTE), exporter);
                said.extend(count.map(|count| (exporter, minute, count)));
            }
        }
        assert_eq!(said, [(3, 20, 63), (2, 30, 62), (3, 80, 63), (2, 90, 62), (3, 140, 63), (2, 150, 62)]);
        assert_eq!(layouts.changed(4, Timestamp::from_micros(0), u32::MAX), Some(u64::from(u32::MAX)));
    }
}
