//! The largest groups in total order: by value descending, equal ones by key ascending.
//!
//! Only as many groups as asked for, twice over, are held at a time: what is smaller than the last of the best so far is
//! passed over.

use super::answer::{Order, TopRow};
use super::group::Groups;
use crate::flow::segment::Totals;

fn value(totals: &Totals, order: Order) -> u64 {
    match order {
        Order::Bytes => totals.bytes,
        Order::Packets => totals.packets,
        Order::Flows => totals.flows,
    }
}

/// The first `limit` groups by `order`.
pub(super) fn top(groups: &Groups, order: Order, limit: usize) -> Vec<TopRow> {
    if limit == 0 {
        return Vec::new();
    }
    let worth = |group: usize| groups.sums().get(group).map_or(0, |sums| value(&sums.totals, order));
    let compare =
        |one: &usize, other: &usize| worth(*other).cmp(&worth(*one)).then_with(|| groups.compare_keys(*one, *other));
    let mut best: Vec<usize> = Vec::new();
    let mut least = 0;
    for group in 0..groups.len() {
        if worth(group) < least {
            continue;
        }
        best.push(group);
        if best.len() >= limit.saturating_mul(2) {
            let (_, last, _) = best.select_nth_unstable_by(limit.saturating_sub(1), compare);
            least = worth(*last);
            best.truncate(limit);
        }
    }
    best.sort_unstable_by(compare);
    best.truncate(limit);
    best.into_iter().map(|group| groups.row(group)).collect()
}
