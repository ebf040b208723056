//! What must hold at the end of a history, when all is well and nothing is left to store.

use super::History;
use crate::clock::Timestamp;

impl History {
    /// All is well and nothing is left: the sums are right.
    pub(super) fn settle(&self) {
        let mut world = self.world();
        world.end_zombie();
        let left: Vec<u64> =
            world.reference.entries.iter().filter(|it| it.end > world.stored.position).map(|it| it.end).collect();
        let gone = |end: &u64| world.reference.entries.iter().any(|it| it.end == *end && it.gone_for.is_some());
        assert!(left.iter().all(gone), "not stored: {left:?}, the position is {}", world.stored.position);
        for (&(cause, hour), &dropped) in &self.dropped {
            let told = world.books.lost_in(cause, hour) as u64;
            let right = told == dropped || self.forgotten && told < dropped;
            assert!(right, "{told} are told as {cause} in the hour {hour}, {dropped} were dropped so");
        }
        for cause in ["journal_full", "kernel"] {
            let dropped: u64 = self.dropped.iter().filter(|((its, _), _)| *its == cause).map(|(_, count)| count).sum();
            let told = world.books.lost(cause) as u64;
            assert!(told <= dropped, "{told} are told as {cause}, {dropped} were dropped so");
        }
        let told = world.books.lost("collector_down");
        // Before the first record that was left nobody can tell a break.
        let first = world.reference.entries.iter().filter(|it| it.stored).map(|it| it.received).min();
        let known = self.breaks.iter().filter(|(since, _)| first.is_some_and(|first| first <= *since));
        let down: i64 = known.map(|(_, seconds)| seconds).sum();
        assert!(told >= down, "{told} s are told as downtime, it was {down} s");
        let corrupt = world.books.lost("journal_corrupt");
        let lost = self.damaged.iter().filter(|index| !world.reference.entries[**index].stored).count() as i64;
        let quiet = !self.weather.disk && !self.weather.power_cuts;
        assert!(corrupt >= i64::from(lost > 0), "{lost} damaged records, but none is counted");
        assert!(!quiet || corrupt == lost, "{lost} damaged records, but {corrupt} are counted");
        let told_in = |cause: &str, hour: Timestamp| {
            world.books.lost_in(cause, hour) > 0 || world.books.lost_in(&format!("{cause}_later"), hour) > 0
        };
        for entry in self.damaged.iter().map(|index| &world.reference.entries[*index]).filter(|entry| !entry.stored) {
            let known = first.is_some_and(|first| first <= entry.received);
            let told = !quiet || !known || told_in("journal_corrupt", entry.received.hour());
            assert!(told, "the hour of {} does not tell that a record was damaged", entry.received);
        }
        for &(ended, started) in &world.reference.dead_streams {
            for hour in [ended.hour(), started.hour()] {
                assert!(told_in("stream_cut", hour), "the hour {hour} does not tell of streams that died at {ended}");
            }
        }
    }
}
