//! What sequence numbers tell about datagrams that did not come.
//!
//! The number counts flows (v5), datagrams (v9) or records (IPFIX) and wraps at 2^32; this module only knows units. A jump
//! ahead is a loss that is told at once and taken back when the missing datagram comes among the next [`WINDOW`] ones,
//! so the sum of what is told is exact. A step back that fills no hole tells nothing: it is a straggler, or, when
//! [`CONFIRM`] datagrams continue each other there, the exporter's restart. A jump ahead of more than [`BELIEVED_JUMP`] is
//! held, too, until as many datagrams continue each other after it, so that a single forged one tells no loss; then it is
//! a loss, but across the wrap a restart: from 4 billion to 0 nothing was lost. After a datagram of unknown units the next one
//! sets the number anew. The same datagram within the window is a duplicate; two that only share a number are not.
//! Nobody knows when something missing would have come, but between which two datagrams; what is taken back names the same two.

use crate::clock::Timestamp;
use std::collections::VecDeque;

/// How many datagrams a missing one may be late, and a duplicate behind.
pub(super) const WINDOW: u32 = 64;
/// How many datagrams in a row make a step back a restart, and a long jump ahead a loss.
const CONFIRM: u8 = 3;

/// The longest jump ahead that a single datagram proves, and the longest across the wrap that is taken for a loss.
const BELIEVED_JUMP: u32 = 1 << 20;

/// A range of numbers that did not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hole {
    /// The first number missing.
    pub(super) start: u32,
    /// How many are missing.
    pub(super) length: u32,
    /// After how many datagrams it opened.
    born: u32,
    /// When the datagrams before and after it came.
    pub(super) between: (Timestamp, Timestamp),
}

/// A hole as it was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SavedHole {
    /// The first number missing.
    pub(super) start: u32,
    /// How many are missing.
    pub(super) length: u32,
    /// How many datagrams came since it opened.
    pub(super) age: u32,
    /// When the datagrams before and after it came.
    pub(super) between: (Timestamp, Timestamp),
}

/// By how much the loss told so far changes, and between which moments that was on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Units; negative where some came late.
    pub(super) count: i64,
    /// When the datagrams before and after the hole came.
    pub(super) between: (Timestamp, Timestamp),
}

/// Datagrams that continue each other, but not what came before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elsewhere {
    /// The number of the first one.
    pub(super) first: u32,
    /// Where they would go on.
    pub(super) next: u32,
    /// How many they are.
    pub(super) datagrams: u8,
}

/// Where a stream of numbers stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Sequence {
    expected: Option<u32>,
    /// A stream elsewhere that may be the exporter's by now.
    elsewhere: Option<Elsewhere>,
    holes: Vec<Hole>,
    datagrams: u32,
    recent: VecDeque<(u32, u32)>,
    /// When the last datagram came that continued those before it.
    last: Option<Timestamp>,
}

/// How a datagram stands to those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It is the next one, or comes after so many missing units, or is the first one.
    Forward {
        /// How many units are missing before it.
        missing: u32,
    },
    /// It comes after later ones, or too far ahead to be believed alone.
    Behind,
    /// It came before.
    Duplicate,
}

impl Sequence {
    /// Notes a datagram that begins with `number` and whose bytes have `checksum`.
    pub(super) fn arrive(&mut self, number: u32, checksum: u32) -> Arrival {
        let arrival = match self.expected.map(|expected| number.wrapping_sub(expected)) {
            Some(missing) if missing <= BELIEVED_JUMP => Arrival::Forward { missing },
            _ if self.recent.contains(&(number, checksum)) => return Arrival::Duplicate,
            None => Arrival::Forward { missing: 0 },
            Some(_) => Arrival::Behind,
        };
        self.datagrams = self.datagrams.wrapping_add(1);
        if self.recent.len() >= WINDOW as usize {
            self.recent.pop_front();
        }
        self.recent.push_back((number, checksum));
        arrival
    }

    /// Accounts for the datagram that arrived just now, when it was `received`, as it is known to hold `units`, and returns by
    /// how much the loss told so far changes.
    pub(super) fn complete(
        &mut self,
        number: u32,
        arrival: Arrival,
        units: Option<u32>,
        received: Timestamp,
    ) -> Change {
        let now = self.datagrams;
        self.holes.retain(|hole| now.wrapping_sub(hole.born) <= WINDOW);
        match arrival {
            Arrival::Duplicate => Change::default(),
            Arrival::Behind => units.map_or_else(Change::default, |units| self.fill(number, units, received)),
            Arrival::Forward { missing } => {
                let change = self.miss(number.wrapping_sub(missing), missing, received);
                self.expected = units.map(|units| number.wrapping_add(units));
                self.elsewhere = None;
                change
            }
        }
    }

    /// Notes that the stream goes on now, behind a hole if `length` is not 0.
    fn miss(&mut self, start: u32, length: u32, received: Timestamp) -> Change {
        let before = self.last.replace(received).unwrap_or(received);
        if length == 0 {
            return Change::default();
        }
        // Where the clock went back in between, the two are told in their order all the same.
        let between = (before.min(received), before.max(received));
        self.holes.push(Hole { start, length, born: self.datagrams, between });
        Change { count: length.into(), between }
    }

    /// A datagram of `units` from `number` came late: takes back the loss if it is in a hole.
    fn fill(&mut self, number: u32, units: u32, received: Timestamp) -> Change {
        if units == 0 {
            return Change::default();
        }
        let end = number.wrapping_add(units);
        for hole in &mut self.holes {
            let skipped = number.wrapping_sub(hole.start);
            let Some(left) = hole.length.checked_sub(skipped).and_then(|left| left.checked_sub(units)) else {
                continue;
            };
            let (born, between) = (hole.born, hole.between);
            hole.length = skipped;
            self.holes.push(Hole { start: end, length: left, born, between });
            self.holes.retain(|hole| hole.length > 0);
            return Change { count: i64::from(units).saturating_neg(), between };
        }
        let (first, datagrams) = match self.elsewhere {
            Some(stream) if stream.next == number => (stream.first, stream.datagrams.saturating_add(1)),
            _ => (number, 1),
        };
        self.elsewhere = Some(Elsewhere { first, next: end, datagrams });
        if datagrams < CONFIRM {
            return Change::default();
        }
        let ahead = self.expected.map(|start| (start, first.wrapping_sub(start)));
        let ahead = ahead.filter(|&(start, missing)| missing.cast_signed() >= 0 && first >= start);
        self.begin(Some(end));
        let (start, length) = ahead.unwrap_or_default();
        self.miss(start, length, received)
    }

    /// The exporter started anew, or its number is unknown: the next number is `expected`, or whatever comes.
    pub(super) fn begin(&mut self, expected: Option<u32>) {
        self.expected = expected;
        self.elsewhere = None;
        self.holes.clear();
    }

    /// The next number, datagrams elsewhere, and the holes that may still be filled, each with the datagrams since it opened.
    pub(super) fn standing(&self) -> (Option<u32>, Option<Elsewhere>, impl ExactSizeIterator<Item = (Hole, u32)>) {
        (self.expected, self.elsewhere, self.holes.iter().map(|hole| (*hole, self.datagrams.wrapping_sub(hole.born))))
    }

    /// When the last datagram came that continued those before it.
    pub(super) const fn last(&self) -> Option<Timestamp> {
        self.last
    }

    /// A sequence that stands as [`Sequence::standing`] and [`Sequence::last`] told. What had come lately is forgotten.
    pub(super) fn standing_at(
        expected: Option<u32>,
        elsewhere: Option<Elsewhere>,
        last: Option<Timestamp>,
        holes: impl Iterator<Item = SavedHole>,
    ) -> Self {
        let holes = holes
            .map(|SavedHole { start, length, age, between }| Hole {
                start,
                length,
                born: 0u32.wrapping_sub(age),
                between,
            })
            .collect();
        Self { expected, elsewhere, last, holes, ..Self::default() }
    }
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn send(sequence: &mut Sequence, number: u32, units: u32) -> i64 {
        let arrival = sequence.arrive(number, number.wrapping_mul(31));
        sequence.complete(number, arrival, Some(units), Timestamp::default()).count
    }

    #[test]
    fn what_is_missing_and_what_is_taken_back_are_told_with_the_same_two_moments() {
        let at = Timestamp::from_micros;
        let mut sequence = Sequence::default();
        let mut send = |number: u32, received: i64| {
            let arrival = sequence.arrive(number, number);
            sequence.complete(number, arrival, Some(10), at(received))
        };
        assert_eq!(send(0, 5), Change::default());
        assert_eq!(send(30, 70), Change { count: 20, between: (at(5), at(70)) });
        assert_eq!(send(40, 80), Change::default());
        assert_eq!(send(60, 90), Change { count: 10, between: (at(80), at(90)) });
        assert_eq!(send(20, 95), Change { count: -10, between: (at(5), at(70)) });
        assert_eq!(send(10, 96), Change { count: -10, between: (at(5), at(70)) });
        assert_eq!(send(90, 97), Change { count: 20, between: (at(90), at(97)) });
        // A jump that is believed late was there since the last datagram before it.
        let far = BELIEVED_JUMP + 1_000;
        assert_eq!([send(far, 100), send(far + 10, 101)], [Change::default(); 2]);
        assert_eq!(send(far + 20, 102), Change { count: i64::from(far) - 100, between: (at(97), at(102)) });
    }

    #[test]
    fn a_gap_is_told_at_once_and_taken_back_when_it_is_filled() {
        let mut sequence = Sequence::default();
        assert_eq!(send(&mut sequence, 100, 10), 0);
        assert_eq!(send(&mut sequence, 140, 10), 30);
        assert_eq!(send(&mut sequence, 120, 10), -10);
        assert_eq!(send(&mut sequence, 120, 10), 0);
        assert_eq!(send(&mut sequence, 110, 10), -10);
        assert_eq!(send(&mut sequence, 130, 10), -10);
        assert_eq!(send(&mut sequence, 150, 10), 0);
    }

    #[test]
    fn a_late_datagram_counts_within_the_window_only() {
        for (between, expected) in [(62, -1), (63, -1), (64, 0)] {
            let mut sequence = Sequence::default();
            send(&mut sequence, 0, 1);
            let lost: i64 = (2..=between + 2).map(|number| send(&mut sequence, number, 1)).sum();
            assert_eq!(lost, 1);
            assert_eq!(send(&mut sequence, 1, 1), expected, "{between}");
        }
    }

    #[test]
    fn the_number_wraps_and_an_exporter_that_always_sends_zero_loses_nothing() {
        let mut sequence = Sequence::default();
        assert_eq!(send(&mut sequence, u32::MAX - 4, 10), 0);
        assert_eq!(send(&mut sequence, 5, 10), 0);
        assert_eq!(send(&mut sequence, 17, 10), 2);
        let mut stuck = Sequence::default();
        for checksum in 0..200 {
            let arrival = stuck.arrive(0, checksum);
            assert_ne!(arrival, Arrival::Duplicate);
            assert_eq!(stuck.complete(0, arrival, Some(7), Timestamp::default()).count, 0);
        }
    }

    #[test]
    fn a_restart_is_no_loss_and_losses_after_it_count_again() {
        let mut sequence = Sequence::default();
        assert_eq!(send(&mut sequence, 4_000_000_000, 10), 0);
        for number in [0, 10, 20, 30] {
            assert_eq!(send(&mut sequence, number, 10), 0);
        }
        assert_eq!(send(&mut sequence, 50, 10), 10);
        // A single straggler from long ago moves nothing.
        assert_eq!(send(&mut sequence, 3_999_999_000, 10), 0);
        assert_eq!(send(&mut sequence, 60, 10), 0);
    }

    #[test]
    fn a_long_jump_ahead_is_a_loss_only_when_the_next_ones_confirm_it() {
        let far = BELIEVED_JUMP + 500;
        let mut forged = Sequence::default();
        let told = [0, 10, far, 20, 40].map(|number| send(&mut forged, number, 10));
        assert_eq!(told, [0, 0, 0, 0, 10], "the true stream goes on, and its losses count");
        let mut real = Sequence::default();
        let told = [0, far, far + 10, far + 20, far + 40].map(|number| send(&mut real, number, 10));
        assert_eq!(told, [0, 0, 0, i64::from(far) - 10, 10]);
        assert_eq!(send(&mut real, far - 10, 10), -10, "one of the missing came late");
        let mut longest = Sequence::default();
        assert_eq!([0, BELIEVED_JUMP + 10].map(|number| send(&mut longest, number, 10)), [0, BELIEVED_JUMP.into()]);
    }

    #[test]
    fn unknown_units_claim_no_loss() {
        let mut sequence = Sequence::default();
        send(&mut sequence, 0, 10);
        let arrival = sequence.arrive(10, 1);
        assert_eq!(sequence.complete(10, arrival, None, Timestamp::default()).count, 0);
        assert_eq!(send(&mut sequence, 99, 10), 0);
        assert_eq!(send(&mut sequence, 110, 10), 1);
    }

    proptest! {
        #[test]
        fn injected_loss_is_reported_to_the_unit(
            start in any::<u32>(),
            units in proptest::collection::vec((0u32..40, 0u8..10, 0usize..12), 2..400),
        ) {
            // Each datagram: its units, its fate (0 lost, 1 late by some places, 2 doubled), and by how many places.
            let (mut number, mut sent, mut lost) = (start, Vec::<(usize, usize, u32, u32)>::new(), 0i64);
            for (index, &(units, fate, places)) in units.iter().enumerate() {
                // What is lost before the first datagram cannot be known.
                match if index == 0 { 9 } else { fate } {
                    0 => lost += i64::from(units),
                    1 => sent.push((index + places, index, number, units)),
                    2 => {
                        sent.push((index, index, number, units));
                        sent.push((index + places, index, number, units));
                    }
                    _ => sent.push((index, index, number, units)),
                }
                number = number.wrapping_add(units);
            }
            // One that is sure to come ends the stream.
            sent.push((usize::MAX, 0, number, 1));
            sent.sort_by_key(|&(place, ..)| place);
            let mut sequence = Sequence::default();
            let mut told = 0i64;
            for (_, index, number, units) in sent {
                let arrival = sequence.arrive(number, index as u32);
                told += sequence.complete(number, arrival, Some(units), Timestamp::default()).count;
            }
            prop_assert_eq!(told, lost);
        }
    }
}
