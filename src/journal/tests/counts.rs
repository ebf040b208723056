//! Counts of dropped datagrams that wait to be told: how many are kept apart, and by what.

use super::*;
use crate::clock::HOUR;

#[test]
fn drops_of_more_exporters_than_memory_allows_are_counted_without_address() {
    let mut pending = pending::Pending::default();
    let count = pending::MAX_COUNTS as u32 + 100;
    for number in 0..count {
        let source = SocketAddr::new(Ipv4Addr::from(number).into(), 1);
        let datagram = Owned::Datagram(Timestamp::from_micros(i64::from(number)), source, 0, Vec::new());
        pending.add(&datagram.record(), usize::MAX);
    }
    let told = pending.take();
    assert!(pending.is_empty());
    assert_eq!(told.len(), pending::MAX_COUNTS + 1);
    assert_eq!(told.iter().map(|dropped| dropped.count).sum::<u64>(), u64::from(count));
    assert_eq!(told.iter().find(|dropped| dropped.exporter.is_none()).unwrap().count, 100);
}

#[test]
fn hours_are_told_apart_also_where_exporters_no_longer_are() {
    let mut pending = pending::Pending::default();
    for hour in 0..3 {
        for number in 0..4 {
            let source = SocketAddr::new(Ipv4Addr::from(number).into(), 1);
            pending.add(&Owned::Datagram(Timestamp::from_micros(hour * HOUR), source, 0, Vec::new()).record(), 3);
        }
    }
    let told = pending.take().into_iter().map(|it| (it.received.micros() / HOUR, it.exporter.is_some(), it.count));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [(0, false, 1), (0, true, 1), (0, true, 1), (0, true, 1), (1, false, 4), (2, false, 4)]
    );
}
