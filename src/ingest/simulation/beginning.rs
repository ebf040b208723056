//! Damage right where a process begins to read: it happened to what came after all that is stored, and to nothing earlier.

use super::database::{Database, World};
use super::history::shared;
use crate::clock::{Clock, HOUR, ManualClock, SECOND, Timestamp};
use crate::flow::batch::FlowBatch;
use crate::ingest::decode::{Stage, Standing};
use crate::ingest::{Configured, Settings};
use crate::journal::simulated::{self, SimulatedDisk};
use crate::journal::{self, Chunk, Datagram, Record, Transport};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The causes and hours of damage that are told when, of records received before and after the hour `next` begins, the one with
/// index `damaged` is damaged, those before it are stored, and all was complete until `complete_until`.
fn told(damaged: usize, next: Timestamp, complete_until: Timestamp) -> Vec<(Timestamp, &'static str, i64)> {
    let folder = tempfile::tempdir().unwrap();
    let minute = |minutes: i64| next.plus(minutes * 60 * SECOND);
    let clock = Arc::new(ManualClock::new(minute(-50)));
    let disk = Arc::new(SimulatedDisk::new(folder.path().to_owned(), 1));
    let settings = journal::Settings {
        directory: folder.path().to_owned(),
        segment_bytes: 8 << 10,
        max_bytes: 1 << 20,
        flush_interval_ms: 20,
    };
    let (writer, mut reader, hand) = simulated::open(settings, Arc::clone(&disk), clock.clone()).unwrap();
    let mut begins = Vec::new();
    for minutes in [-45, -30, 5] {
        clock.set(minute(minutes));
        begins.push(hand.end());
        let source = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 2_055);
        let (received, transport, payload) = (clock.now(), Transport::Datagram, &b"no export of flows"[..]);
        writer.append(&[Record::Datagram(Datagram { received, source, listener: 0, transport, payload })]).unwrap();
    }
    let (path, offset) = hand.place(begins[damaged]);
    disk.damage(&path, offset + 30);
    let mut world = World::new(1, false);
    (world.stored.position, world.stored.complete_until) = (begins[damaged], Some(complete_until));
    let database = Database { world: Arc::new(Mutex::new(world)), process: 1 };
    let settings =
        Settings { commit_interval_ms: 50, max_exporters: 100, stop_seconds: 1, exporters: Configured::default() };
    let shared = shared(settings, database, clock, reader.opened(), false);
    shared.stopping.store(true, Ordering::Release);
    let standing = Standing::take_up(&shared, "the journal", &mut reader).unwrap();
    let ((empty_in, empty), (works, work)) = (sync_channel(2), sync_channel(8));
    (0..2).for_each(|_| empty_in.send(FlowBatch::default()).unwrap());
    let mut stage = Stage::new(&shared, "the journal", &mut reader, standing, empty, works).unwrap();
    while stage.step(&mut Chunk::default(), Duration::ZERO).unwrap() {}
    let loss = work.try_iter().flat_map(|work| work.ledger.loss());
    loss.filter(|loss| loss.cause.starts_with("journal_corrupt")).map(|it| (it.hour, it.cause, it.count)).collect()
}

#[test]
fn damage_where_reading_begins_counts_from_what_is_stored_on() {
    let next = Timestamp::from_micros(500_000 * HOUR);
    let (earlier, now) = ((next.plus(-HOUR), "journal_corrupt_later", 1), (next, "journal_corrupt", 1));
    // The record behind it is the first that is read.
    assert_eq!(told(1, next, next.plus(-40 * 60 * SECOND)), [earlier, now]);
    // None is: the file was begun long before what is stored ends.
    assert_eq!(told(2, next, next.plus(60 * SECOND)), [now]);
}
