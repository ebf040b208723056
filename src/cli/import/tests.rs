//! What the import shows, and how it tells gaps.

use super::progress::line;
use super::reading::by_hour;
use crate::clock::{DAY, HOUR, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

#[test]
fn the_line_tells_how_much_is_done_how_fast_and_how_long_it_will_take() {
    let half = line(500, 1_000, 3_000_000, Duration::from_secs(2));
    assert_eq!(half, "[############............] 50 %  3000000 flows, 1500000 a second, 0:00:02 left");
    assert!(line(0, 1_000, 0, Duration::ZERO).ends_with("? left"));
    assert!(line(0, 0, 0, Duration::ZERO).starts_with("[########################] 100 %"));
    assert!(line(u64::MAX, 1, u64::MAX, Duration::MAX).contains("100 %"));
}

#[test]
fn gaps_of_many_exporters_over_many_hours_are_few_counts_and_all_gaps_are_told_of_each_hour() {
    let first = Timestamp::from_micros(20_000 * DAY);
    let (next, last) = (first.plus(HOUR), first.plus(90 * DAY));
    let counts: Vec<_> = (1..=4_000).map(|exporter| (exporter, 2)).collect();
    let told = by_hour(&counts, first.plus(1), last);
    assert!(told.len() < 25_000, "{}", told.len());
    let mut sums = BTreeMap::<Timestamp, i64>::new();
    told.iter().for_each(|(_, hour, count)| *sums.entry(*hour).or_default() += count);
    assert_eq!((sums.len(), sums.values().all(|sum| *sum == 8_000)), (90 * 24 + 1, true));
    assert_eq!((told[0], told[told.len() - 1]), ((1, first, 2), (0, last, 8_000)));
    // As far as it goes they are told of each exporter.
    let few = [(1, first, 2), (2, first, 2), (1, next, 2), (2, next, 2)];
    assert_eq!(by_hour(&counts[..2], first, next.plus(1)), few);
    assert_eq!(by_hour(&[], first, last), []);
    assert_eq!(by_hour(&vec![(1, i64::MAX); 20_001], first, first), [(0, first, i64::MAX)]);
}
