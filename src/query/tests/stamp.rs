//! The stamp: sums of loss, how many flows that is at most, and which exporters are named.

use super::super::stamp::{EXPORTERS, NOT_RECORDED, exporters_of, stamp};
use super::*;
use crate::clock::SECOND;
use crate::store::snapshot::{Sender, StoredLoss};

fn at(second: i64) -> Timestamp {
    window(second, second + 1).from
}

fn loss(exporter_id: u32, cause: &str, unit: &str, count: u64) -> StoredLoss {
    StoredLoss { exporter_id, cause: cause.into(), unit: unit.into(), count }
}

/// An exporter at an address of its number.
fn sender(exporter_id: u32, most_flows: u64) -> Sender {
    Sender { exporter_id, address: IpAddr::from(exporter_id.to_be_bytes()), name: None, most_flows }
}

/// A window of ten seconds that was recorded and is stored whole.
fn known(loss: Vec<StoredLoss>, senders: Vec<Sender>) -> Known {
    Known { loss, senders, stored_until: Some(at(11)), ..Known::default() }
}

fn told(known: &Known) -> Completeness {
    stamp(&window(0, 10), known, at(12))
}

#[test]
fn the_stamp_sums_loss_over_exporters_and_says_what_is_still_to_come() {
    let rows = [
        loss(2, "network", "flows", 3),
        loss(1, "network", "flows", 4),
        loss(1, "kernel", "flows", u64::MAX),
        loss(2, "kernel", "flows", 1),
    ];
    let stamped = told(&known(rows.to_vec(), Vec::new()));
    let lost: Vec<(&str, u64)> = stamped.lost.iter().map(|row| (row.cause.as_str(), row.count)).collect();
    assert_eq!(lost, [("kernel", u64::MAX), ("network", 7)]);
    assert_eq!((stamped.exact, stamped.stale_since), (false, None));
    let all = known(Vec::new(), Vec::new());
    let until = |stored_until, now| {
        let stamped = stamp(&window(0, 10), &Known { stored_until, ..all.clone() }, now);
        (stamped.exact, stamped.stale_since)
    };
    assert_eq!(until(Some(at(10)), at(12)), (true, None));
    assert_eq!(until(Some(at(9)), at(12)), (false, Some(at(9))));
    assert_eq!(until(None, at(5)), (false, Some(at(5))));
    assert_eq!(until(None, at(10)), (true, None));
}

#[test]
fn a_refused_fact_about_an_exporter_and_a_datagram_that_came_twice_are_no_loss_of_flows() {
    let rows = vec![loss(1, "fact_limit", "facts", 5), loss(1, "duplicate", "datagrams", 5)];
    assert!(exporters_of(&rows).is_empty());
    let stamped = told(&known(rows, Vec::new()));
    assert!(stamped.exact && stamped.lost.is_empty() && stamped.exporters.is_empty(), "{stamped:?}");
    assert_eq!(stamped.undercount.map(|known| (known.flows, known.percent())), Some((0, 0.0)));
}

#[test]
fn a_window_that_was_not_recorded_is_not_exact_and_says_for_how_long() {
    let seconds = |not_recorded| {
        let stamped = told(&Known { not_recorded, ..known(Vec::new(), Vec::new()) });
        assert_eq!((stamped.exact, stamped.stale_since), (stamped.lost.is_empty(), None));
        assert_eq!(stamped.undercount.is_some(), stamped.exact);
        let told = |row: &LossCount| (row.cause == NOT_RECORDED && row.unit == "seconds").then_some(row.count);
        stamped.lost.iter().map(|row| told(row).unwrap()).collect::<Vec<_>>()
    };
    assert!(seconds(0).is_empty());
    assert_eq!((seconds(1), seconds(4 * SECOND), seconds(4 * SECOND + 1)), (vec![1], vec![4], vec![5]));
}

#[test]
fn an_answer_for_a_part_of_a_window_says_how_long_the_rest_is() {
    let part = |stamped: Completeness, micros| {
        let all = stamped.without(micros);
        let lost = all.lost.iter().map(|row| format!("{} {}", row.cause, row.count)).collect::<Vec<_>>();
        (all.exact, all.undercount.is_some(), lost.join(", "))
    };
    let network = || told(&known(vec![loss(1, "network", "flows", 3), loss(0, "x", "sets", 1)], vec![sender(1, 1)]));
    let unrecorded = told(&Known { not_recorded: 4 * SECOND, ..known(Vec::new(), Vec::new()) });
    assert_eq!(part(told(&known(Vec::new(), Vec::new())), 0), (true, true, String::new()));
    assert_eq!(part(told(&known(Vec::new(), Vec::new())), 1), (false, false, "not_recorded 1".to_owned()));
    assert_eq!(part(unrecorded, 60 * SECOND), (false, false, "not_recorded 64".to_owned()));
    assert_eq!(part(network(), SECOND).2, "network 3, not_recorded 1, x 1");
}

#[test]
fn imported_hours_are_neither_exact_nor_bounded_and_stand_beside_what_was_not_recorded() {
    let imported = |imported_hours, not_recorded| {
        let known = Known { imported_hours, not_recorded, ..known(Vec::new(), Vec::new()) };
        let stamped = told(&known);
        assert_eq!((stamped.exact, stamped.undercount), (false, None));
        stamped
            .lost
            .iter()
            .map(|row| format!("{} {} {}", row.count, row.cause, row.unit))
            .collect::<Vec<_>>()
            .join(", ")
    };
    assert_eq!(imported(0, 6 * SECOND), "6 not_recorded seconds");
    assert_eq!(imported(1, 0), "1 imported hours");
    let otherwise = told(&Known { counted_otherwise: 3, ..known(Vec::new(), Vec::new()) });
    assert!(!otherwise.exact && otherwise.undercount.is_none());
    assert_eq!((otherwise.lost[0].cause.as_str(), otherwise.lost[0].count), ("counted_otherwise", 3));
    assert_eq!(imported(2, 4 * SECOND + 1), "2 imported hours, 5 not_recorded seconds");
    // A gap in the numbers of an archive says nothing about how much was missing.
    let rows = vec![loss(1, "network", "gaps", 3)];
    assert_eq!(told(&known(rows, vec![sender(1, 30)])).undercount, None);
}

#[test]
fn gaps_in_numbers_bound_the_lost_flows_and_datagrams_count_as_the_fullest_of_their_exporter() {
    let bound = |rows: &[StoredLoss]| {
        let known = known(rows.to_vec(), vec![sender(1, 30), sender(2, 24), sender(3, 0)]);
        told(&known).undercount.map(|undercount| undercount.flows)
    };
    let table: [(&[StoredLoss], Option<u64>); 12] = [
        (&[], Some(0)),
        (&[loss(1, "network", "flows", 7), loss(2, "network", "records", 5)], Some(12)),
        (&[loss(1, "network", "datagrams", 2), loss(2, "network", "datagrams", 1)], Some(84)),
        (&[loss(1, "journal_full", "datagrams", 2), loss(1, "template_invalid", "templates", 9)], Some(60)),
        (&[loss(1, "network", "datagrams", u64::MAX), loss(1, "network", "flows", 1)], Some(u64::MAX)),
        (&[loss(3, "network", "datagrams", 1)], None),
        (&[loss(4, "network", "datagrams", 1)], None),
        (&[loss(0, "journal_full", "datagrams", 1)], None),
        (&[loss(0, "kernel", "datagrams", 1), loss(1, "network", "flows", 7)], None),
        (&[loss(1, "no_template", "sets", 1)], None),
        (&[loss(1, "count_lie", "datagrams", 1)], None),
        (&[loss(0, "collector_down", "seconds", 6)], None),
    ];
    for (rows, expected) in table {
        assert_eq!(bound(rows), expected, "{rows:?}");
    }
    // Datagrams without numbers may be missing without a trace; nothing is known to be.
    let unnumbered = told(&Known { unnumbered: true, ..known(Vec::new(), Vec::new()) });
    assert_eq!((unnumbered.undercount, unnumbered.exact), (None, true));
}

#[test]
fn the_percentage_is_of_the_flows_of_the_answer_and_never_too_small() {
    let percent = |flows, counted| Undercount { flows, counted }.percent();
    assert_eq!((percent(0, 0), percent(0, 5), percent(3, 0), percent(1, 1)), (0.0, 0.0, 100.0, 50.0));
    assert_eq!((percent(30, 4_070), percent(1, u64::MAX), percent(u64::MAX, 1)), (0.7318, 0.0001, 100.0));
    let stamped = told(&known(vec![loss(1, "network", "flows", 30)], vec![sender(1, 30)]));
    let of = stamped.of(4_070, Counters::Scaled, 0);
    assert_eq!(of.undercount, Some(Undercount { flows: 30, counted: 4_070 }));
    assert_eq!((of.exact, of.estimated), (false, false));
}

#[test]
fn exporters_are_named_by_how_much_is_missing_of_them_and_the_rest_is_counted() {
    let ids = 1..=EXPORTERS as u32 + 3;
    let mut rows: Vec<_> = ids.clone().map(|id| loss(id, "network", "flows", id.into())).collect();
    rows.push(loss(1, "journal_full", "datagrams", 1_000));
    rows.push(loss(0, "kernel", "datagrams", 5_000));
    assert_eq!(exporters_of(&rows), ids.clone().collect::<Vec<_>>());
    let stamped = told(&known(rows, ids.skip(1).map(|id| sender(id, 1)).collect()));
    assert_eq!((stamped.exporters.len(), stamped.more_exporters), (EXPORTERS, 3));
    let order: Vec<_> = stamped.exporters.iter().map(|exporter| exporter.exporter_id).collect();
    assert_eq!(order[..3], [1, 23, 22]);
    let [first, second, ..] = stamped.exporters.as_slice() else { panic!("{stamped:?}") };
    let causes: Vec<_> = first.lost.iter().map(|row| (row.cause.as_str(), row.count)).collect();
    assert_eq!((causes, first.address), (vec![("journal_full", 1_000), ("network", 1)], None));
    assert_eq!(second.address, Some(IpAddr::from([0, 0, 0, 23])));
}
