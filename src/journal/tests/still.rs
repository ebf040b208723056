//! Machine and process that stand still: the journal tells from when to when, and claims nothing meanwhile.

use super::*;
use crate::clock::{ManualClock, SECOND};
use crate::journal::{index, watch};
use std::sync::Arc;

#[test]
fn a_standstill_is_told_with_both_its_ends_and_nothing_counts_as_told_before() {
    let directory = TempDir::new().unwrap();
    let at = |seconds: i64| Timestamp::from_micros(seconds * SECOND);
    let clock = Arc::new(ManualClock::new(at(100)));
    let shared =
        index::Shared::open(settings(directory.path()), Arc::new(files::RealDisk), Arc::clone(&clock) as _).unwrap();
    let shared = Arc::new(shared);
    let (writer, mut reader) = (Writer::unflushed(Arc::clone(&shared)), Reader::new(Arc::clone(&shared)));
    assert_eq!(reader.told_until(at(100)), at(100), "nobody watches");
    let mut seen = watch::look(&shared, at(100));
    // Busy machines let threads wait.
    for now in [101, 105, 109, 113] {
        clock.set(at(now));
        assert_eq!(reader.told_until(at(now)), seen);
        seen = watch::look(&shared, seen);
        assert_eq!((seen, reader.told_until(at(now))), (at(now), at(now)));
    }
    assert_eq!(read_all(&mut reader), []);
    clock.set(at(5_000));
    assert_eq!(reader.told_until(at(5_000)), at(113));
    append_numbered(&writer, 0..1);
    seen = watch::look(&shared, seen);
    assert_eq!((seen, reader.told_until(at(5_000))), (at(5_000), at(5_000)));
    let records: Vec<_> = read_all(&mut reader).into_iter().map(|(_, record)| record).collect();
    let still = Dropped {
        received: at(5_000),
        listener: 0,
        cause: DropCause::StoodStill { since: at(113) },
        exporter: None,
        count: 0,
    };
    assert_eq!(records[1..], [Owned::Dropped(still)]);
    // A clock that is set back tells nothing that is not so.
    clock.set(at(4_000));
    watch::look(&shared, seen);
    assert_eq!(reader.told_until(at(4_000)), at(4_000));
    assert_eq!(read_all(&mut reader), []);
}

#[test]
fn a_batch_that_is_being_appended_holds_back_what_counts_as_told() {
    let directory = TempDir::new().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_micros(100 * SECOND)));
    let shared = index::Shared::open(settings(directory.path()), Arc::new(files::RealDisk), clock).unwrap();
    let shared = Arc::new(shared);
    let (writer, reader) = (Writer::unflushed(Arc::clone(&shared)), Reader::new(Arc::clone(&shared)));
    let long_ago = Timestamp::from_micros(7 * SECOND);
    let now = reader.opened();
    assert!(reader.told_until(now) > long_ago);
    // Somebody else writes, and takes long.
    let other = index::lock(&shared.writer);
    thread::scope(|scope| {
        let source = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1);
        let batch = scope.spawn(move || {
            writer.append(&[Owned::Datagram(long_ago, source, 0, b"late".to_vec()).record()]).unwrap();
        });
        let deadline = Instant::now() + SOON;
        while reader.told_until(now) != long_ago {
            assert!(Instant::now() < deadline, "it counts as told: {}", reader.told_until(now));
        }
        drop(other);
        batch.join().unwrap();
    });
    assert!(reader.told_until(now) > long_ago);
}
