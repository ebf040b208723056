//! Counts of dropped datagrams that wait to be told: how many are kept apart, and by what.

use super::*;
use crate::clock::HOUR;
use crate::clock::SystemClock;

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

#[test]
fn drops_that_are_told_along_with_what_is_only_offered_hold_nothing_back_any_more() {
    let directory = TempDir::new().unwrap();
    let settings = Settings { max_bytes: 64 << 10, ..settings(directory.path()) };
    let disk = Arc::new(faults::Forgetful);
    let shared = Arc::new(index::Shared::open(settings, disk, Arc::new(SystemClock)).unwrap());
    // Nobody tells of drops but what comes next.
    let (writer, mut reader) = (Writer::unflushed(Arc::clone(&shared)), Reader::new(Arc::clone(&shared)));
    append_numbered(&writer, 0..1_000);
    let later = Timestamp::from_micros(1 << 60);
    let dropped = i64::try_from(writer.metrics().dropped.get()).unwrap();
    assert!(dropped > 0 && reader.told_until(later) < later, "{dropped}");
    // A count may fit where the next datagram does not.
    let told: u64 = dropped_of(&read_all(&mut reader)).values().sum();
    assert_eq!(writer.metrics().untold.get() + i64::try_from(told).unwrap(), dropped);
    assert!(writer.metrics().untold.get() > 0);
    let deadline = Instant::now() + SOON;
    while writer.metrics().untold.get() > 0 {
        assert!(Instant::now() < deadline);
        flusher::flush(&shared);
        reader.release(reader.end()).unwrap();
        writer.offer(&[]).unwrap();
    }
    assert_eq!(reader.told_until(later), later);
}
