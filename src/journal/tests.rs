//! What goes in comes out, in order, across gaps, damage and restarts.

mod counts;
mod faults;
mod headers;
mod still;

use super::*;
use crate::clock::Timestamp;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(10);

fn settings(directory: &Path) -> Settings {
    Settings { directory: directory.to_owned(), segment_bytes: 4 << 10, max_bytes: 1 << 20, flush_interval_ms: 1 }
}

/// A record as it is compared: what a borrowed one says.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owned {
    Datagram(Timestamp, SocketAddr, u16, Vec<u8>),
    Message(Timestamp, SocketAddr, u16, Vec<u8>),
    Stream(Stream),
    Dropped(Dropped),
}

impl Owned {
    fn of(record: &Record<'_>) -> Self {
        match *record {
            Record::Datagram(Datagram { received, source, listener, transport, payload }) => match transport {
                Transport::Datagram => Self::Datagram(received, source, listener, payload.to_vec()),
                Transport::Stream => Self::Message(received, source, listener, payload.to_vec()),
            },
            Record::Stream(stream) => Self::Stream(stream),
            Record::Dropped(dropped) => Self::Dropped(dropped),
        }
    }

    fn record(&self) -> Record<'_> {
        let datagram = |received: &Timestamp, source: &SocketAddr, listener: &u16, transport, payload| {
            Record::Datagram(Datagram { received: *received, source: *source, listener: *listener, transport, payload })
        };
        match self {
            Self::Datagram(received, source, listener, payload) => {
                datagram(received, source, listener, Transport::Datagram, payload)
            }
            Self::Message(received, source, listener, payload) => {
                datagram(received, source, listener, Transport::Stream, payload)
            }
            Self::Stream(stream) => Record::Stream(*stream),
            Self::Dropped(dropped) => Record::Dropped(*dropped),
        }
    }
}

/// The datagram of this number: its payload tells the number, its source one of four exporters.
fn numbered(number: u32) -> Owned {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(60 + number as usize % 50, 0xA5);
    let source = SocketAddr::new(Ipv4Addr::new(192, 0, 2, number as u8 % 4).into(), 2055);
    Owned::Datagram(Timestamp::from_micros(i64::from(number)), source, 0, payload)
}

fn numbers_of(records: &[(Position, Owned)]) -> Vec<u32> {
    records
        .iter()
        .filter_map(|(_, record)| match record {
            Owned::Datagram(_, _, _, payload) => Some(u32::from_be_bytes(payload[..4].try_into().unwrap())),
            _ => None,
        })
        .collect()
}

/// Datagrams told as lost, by cause and exporter.
fn dropped_of(records: &[(Position, Owned)]) -> BTreeMap<(String, Option<IpAddr>), u64> {
    let mut sums = BTreeMap::new();
    for (_, record) in records {
        if let Owned::Dropped(Dropped { cause, exporter, count, .. }) = record {
            let told = format!("{cause:?}");
            let cause = told.split(' ').next().unwrap_or_default().to_owned();
            *sums.entry((cause, *exporter)).or_default() += count;
        }
    }
    sums
}

fn append_numbered(writer: &Writer, numbers: std::ops::Range<u32>) {
    for number in numbers {
        writer.append(&[numbered(number).record()]).unwrap();
    }
}

/// Everything that can be read without waiting, in whatever chunks.
fn read_all(reader: &mut Reader) -> Vec<(Position, Owned)> {
    let mut chunk = Chunk::default();
    let mut records = Vec::new();
    while reader.read(&mut chunk, Duration::ZERO).unwrap() > 0 {
        assert_eq!(chunk.iter().count(), chunk.len());
        records.extend(chunk.iter().map(|(position, record)| (position, Owned::of(&record))));
    }
    let mut before = Position::default();
    for (position, _) in &records {
        assert!(*position > before || matches!(records[0].1, Owned::Dropped(_)), "positions ascend");
        before = *position;
    }
    records
}

/// Reads until `done` says that all is there.
fn read_until(reader: &mut Reader, done: impl Fn(&[(Position, Owned)]) -> bool) -> Vec<(Position, Owned)> {
    let mut records = Vec::new();
    let deadline = Instant::now() + SOON;
    while !done(&records) {
        assert!(Instant::now() < deadline, "too little came: {} records", records.len());
        records.extend(read_all(reader));
        thread::sleep(Duration::from_millis(1));
    }
    records
}

fn segment_files(directory: &Path) -> Vec<PathBuf> {
    let starts = files::segment_starts(directory).unwrap();
    starts.into_iter().map(|start| files::segment_path(directory, start)).collect()
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    prop_oneof![
        (any::<[u8; 4]>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(Ipv4Addr::from(ip).into(), port)),
        (any::<[u8; 16]>(), any::<u16>(), any::<u32>()).prop_map(|(ip, port, scope)| SocketAddrV6::new(
            Ipv6Addr::from(ip),
            port,
            0,
            scope
        )
        .into()),
    ]
}

fn any_record() -> impl Strategy<Value = Owned> {
    let payload = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (0..=MAX_PAYLOAD_BYTES, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
    ];
    let short = prop::collection::vec(any::<u8>(), 0..200);
    let cause = prop_oneof![Just(DropCause::Kernel), Just(DropCause::JournalFull)];
    let event = prop_oneof![Just(StreamEvent::Opened), Just(StreamEvent::Closed), Just(StreamEvent::Cut)];
    let exporter = prop::option::of(any_address().prop_map(|address| address.ip()));
    prop_oneof![
        8 => (any::<i64>(), any_address(), any::<u16>(), payload).prop_map(|(received, source, listener, payload)| {
            Owned::Datagram(Timestamp::from_micros(received), source, listener, payload)
        }),
        2 => (any::<i64>(), any_address(), any::<u16>(), short).prop_map(|(received, source, listener, payload)| {
            Owned::Message(Timestamp::from_micros(received), source, listener, payload)
        }),
        1 => (any::<i64>(), any_address(), any::<u16>(), event).prop_map(
            |(received, source, listener, event)| {
                let received = Timestamp::from_micros(received);
                Owned::Stream(Stream { received, source, listener, event })
            }
        ),
        1 => (any::<i64>(), any::<u16>(), cause, exporter, any::<u64>()).prop_map(
            |(received, listener, cause, exporter, count)| {
                let received = Timestamp::from_micros(received);
                Owned::Dropped(Dropped { received, listener, cause, exporter, count })
            }
        ),
        1 => (any::<i64>(), any::<i64>()).prop_map(|(received, since)| {
            let (received, since) = (Timestamp::from_micros(received), Timestamp::from_micros(since));
            let cause = DropCause::StoodStill { since };
            Owned::Dropped(Dropped { received, listener: 0, cause, exporter: None, count: 0 })
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_record_comes_out_as_it_went_in(batches in prop::collection::vec(prop::collection::vec(any_record(), 0..20), 0..8), reopen in any::<bool>()) {
        let directory = TempDir::new().unwrap();
        let settings = Settings { max_bytes: 1 << 30, ..settings(directory.path()) };
        let (writer, mut reader) = open(settings.clone()).unwrap();
        for batch in &batches {
            let records: Vec<Record<'_>> = batch.iter().map(Owned::record).collect();
            writer.append(&records).unwrap();
        }
        if reopen {
            drop((writer, reader));
            reader = open(settings).unwrap().1;
        }
        let read: Vec<Owned> = read_all(&mut reader).into_iter().map(|(_, record)| record).collect();
        prop_assert_eq!(read, batches.concat());
    }
}

#[test]
fn a_batch_larger_than_a_segment_is_one_segment() {
    let directory = TempDir::new().unwrap();
    let (writer, mut reader) = open(settings(directory.path())).unwrap();
    let batch: Vec<Owned> = (0..200).map(numbered).collect();
    writer.append(&batch.iter().map(Owned::record).collect::<Vec<_>>()).unwrap();
    assert_eq!(segment_files(directory.path()).len(), 1);
    assert_eq!(numbers_of(&read_all(&mut reader)), (0..200).collect::<Vec<_>>());
}

#[test]
fn a_payload_too_long_is_refused_and_nothing_of_its_batch_is_appended() {
    let directory = TempDir::new().unwrap();
    let (writer, mut reader) = open(settings(directory.path())).unwrap();
    let Owned::Datagram(received, source, listener, _) = numbered(1) else { unreachable!() };
    let long = Owned::Datagram(received, source, listener, vec![0; MAX_PAYLOAD_BYTES + 1]);
    let refused = writer.append(&[numbered(0).record(), long.record()]);
    assert!(matches!(refused, Err(JournalError::Oversized { length: 65_536 })), "{refused:?}");
    assert!(read_all(&mut reader).is_empty());
}

#[test]
fn every_position_leads_to_the_records_after_it() {
    let directory = TempDir::new().unwrap();
    let (writer, mut reader) = open(settings(directory.path())).unwrap();
    append_numbered(&writer, 0..150);
    let all = read_all(&mut reader);
    assert!(segment_files(directory.path()).len() > 3);
    for (at, (position, _)) in all.iter().enumerate() {
        reader.seek(*position).unwrap();
        assert_eq!(reader.position(), *position);
        assert_eq!(read_all(&mut reader), all[at + 1..], "after {position}");
    }
    assert_eq!(reader.end(), all.last().unwrap().0);
}

#[test]
fn reopening_leaves_a_gap_that_the_reader_walks_over() {
    let directory = TempDir::new().unwrap();
    let settings = settings(directory.path());
    let (writer, mut reader) = open(settings.clone()).unwrap();
    let id = reader.id();
    assert_eq!(reader.opened_at(), Position::default());
    append_numbered(&writer, 0..10);
    let first = read_all(&mut reader);
    let committed = first.last().unwrap().0;
    drop((writer, reader));

    let (writer, mut reader) = open(settings.clone()).unwrap();
    assert_eq!(reader.id(), id);
    assert_eq!(reader.end().get(), committed.get() + settings.gap());
    assert_eq!(reader.opened_at(), reader.end());
    assert_eq!(reader.backlog(committed), 0, "a gap is no backlog");
    assert_eq!(reader.backlog(Position::default()), committed.get());
    assert_eq!(reader.backlog(first[4].0), committed.get() - first[4].0.get());
    reader.seek(committed).unwrap();
    assert!(read_all(&mut reader).is_empty());
    append_numbered(&writer, 10..20);
    assert_eq!(numbers_of(&read_all(&mut reader)), (10..20).collect::<Vec<_>>());
    reader.seek(first[4].0).unwrap();
    let again = read_all(&mut reader);
    assert_eq!(numbers_of(&again), (5..20).collect::<Vec<_>>());
    assert!(dropped_of(&again).is_empty());
}

#[test]
fn after_a_power_cut_no_new_record_counts_as_committed() {
    for cut_whole_run in [false, true] {
        let directory = TempDir::new().unwrap();
        // The former process had a larger journal than the next one.
        let wide = Settings { max_bytes: 8 << 20, ..settings(directory.path()) };
        let (writer, reader) = open(wide.clone()).unwrap();
        append_numbered(&writer, 0..5);
        drop((writer, reader));
        let (writer, mut reader) = open(wide).unwrap();
        append_numbered(&writer, 5..900);
        let committed = read_all(&mut reader).last().unwrap().0;
        drop((writer, reader));
        // The disk has only the first file of the run, and of that only the header.
        let files = segment_files(directory.path());
        for file in &files[2..] {
            fs::remove_file(file).unwrap();
        }
        if cut_whole_run {
            fs::OpenOptions::new().write(true).open(&files[1]).unwrap().set_len(segment::HEADER_BYTES).unwrap();
        }
        let (writer, mut reader) = open(settings(directory.path())).unwrap();
        assert!(reader.end() > committed);
        reader.seek(committed).unwrap();
        append_numbered(&writer, 900..905);
        assert_eq!(numbers_of(&read_all(&mut reader)), (900..905).collect::<Vec<_>>());
    }
}

#[test]
fn a_position_beyond_the_end_moves_the_end_behind_it_and_what_came_by_then_is_told() {
    let directory = TempDir::new().unwrap();
    let (writer, mut reader) = open(settings(directory.path())).unwrap();
    append_numbered(&writer, 0..3);
    let far = Position::new(reader.end().get() + 1_000_000);
    reader.seek(far).unwrap();
    append_numbered(&writer, 3..6);
    let records = read_all(&mut reader);
    assert_eq!(numbers_of(&records), [3, 4, 5]);
    let Owned::Dropped(Dropped { cause, .. }) = &records[0].1 else { panic!("{records:?}") };
    assert_eq!(*cause, DropCause::StoodStill { since: reader.opened() });
    // As if it had been opened there.
    let gap = settings(directory.path()).gap();
    assert_eq!(reader.opened_at().get(), far.get() + gap);
    assert!(records.iter().all(|(position, _)| *position > reader.opened_at()));
    assert!(matches!(reader.seek(Position::new(u64::MAX)), Err(JournalError::Exhausted { .. })));
}

#[test]
fn release_deletes_what_lies_below_but_never_the_newest_segment() {
    let directory = TempDir::new().unwrap();
    let settings = settings(directory.path());
    let (writer, mut reader) = open(settings.clone()).unwrap();
    append_numbered(&writer, 0..150);
    let all = read_all(&mut reader);
    let before = segment_files(directory.path());
    // Which files are on disk the flusher tells in its own time.
    let deadline = Instant::now() + SOON;
    while segment_files(directory.path()).len() == before.len() {
        assert!(Instant::now() < deadline);
        reader.release(all[80].0).unwrap();
    }
    assert!(segment_files(directory.path()).len() > 1);
    reader.seek(all[80].0).unwrap();
    assert_eq!(read_all(&mut reader), all[81..]);
    while segment_files(directory.path()).len() > 1 {
        assert!(Instant::now() < deadline);
        reader.release(reader.end()).unwrap();
    }
    assert_eq!(segment_files(directory.path()), before[before.len() - 1..]);
    let end = reader.end();
    drop((writer, reader));
    assert_eq!(open(settings.clone()).unwrap().1.end().get(), end.get() + settings.gap());
}

#[test]
fn a_journal_whose_segments_were_removed_is_a_new_one() {
    let directory = TempDir::new().unwrap();
    let id = open(settings(directory.path())).unwrap().1.id();
    for file in segment_files(directory.path()) {
        fs::remove_file(file).unwrap();
    }
    assert_ne!(open(settings(directory.path())).unwrap().1.id(), id);
}

#[test]
fn what_is_not_this_journal_is_refused_with_the_reason() {
    let directory = TempDir::new().unwrap();
    let settings = settings(directory.path());
    let opened = open(settings.clone()).unwrap();
    let second = open(settings.clone());
    assert!(matches!(second, Err(JournalError::InUse { .. })), "{second:?}");
    drop(opened);
    for bad in [
        Settings { segment_bytes: 1, ..settings.clone() },
        Settings { max_bytes: 7 << 10, ..settings.clone() },
        Settings { flush_interval_ms: 0, ..settings.clone() },
    ] {
        assert!(matches!(open(bad), Err(JournalError::Settings { .. })));
    }
    assert!(open(settings).is_ok());
}

#[test]
fn a_segment_of_a_later_format_is_refused() {
    let directory = TempDir::new().unwrap();
    drop(open(settings(directory.path())).unwrap());
    let file = segment_files(directory.path()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    bytes[8] = 4;
    let checked = [&bytes[..12], &bytes[16..]].concat();
    bytes[12..16].copy_from_slice(&crc32c::crc32c(&checked).to_le_bytes());
    fs::write(&file, bytes).unwrap();
    let refused = open(settings(directory.path()));
    assert!(matches!(refused, Err(JournalError::Version { version: 4, .. })), "{refused:?}");
}

/// A journal of format 1 as it lay on a disk: the file `id`, and one segment with a datagram and a count of kernel drops.
/// Written by hand from the format's description, not by this module.
const OLD_ID: &str = "00010203-0405-0607-0809-0a0b0c0d0e0f";
const OLD_SEGMENT: &str = "\
    464c4f574a524e4c010000003ce31b1b000102030405060708090a0b0c0d0e0f000000000000000000000000000000000000\
    10000000000000806446e66006000000000000000000464c4a5244b767ec040003000000000001806446e660060001040708\
    00000000c0000201000000000000000000000000666c6f77464c4a52e3aadd64080003000100000002806446e66006000200\
    000000000000000000000000000000000000000000000700000000000000";

#[test]
fn a_journal_of_format_1_is_read_and_continued() {
    let directory = TempDir::new().unwrap();
    let bytes: Vec<u8> =
        (0..OLD_SEGMENT.len()).step_by(2).map(|at| u8::from_str_radix(&OLD_SEGMENT[at..at + 2], 16).unwrap()).collect();
    fs::write(directory.path().join("id"), OLD_ID).unwrap();
    fs::write(files::segment_path(directory.path(), 0), bytes).unwrap();
    let (writer, mut reader) = open(settings(directory.path())).unwrap();
    let at = |micros| Timestamp::from_micros(1_795_392_000_000_000_i64 + micros);
    let source = SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), 2055);
    let counted = Dropped { received: at(2), listener: 3, cause: DropCause::Kernel, exporter: None, count: 7 };
    let fresh = Owned::Stream(Stream { received: at(3), source, listener: 1, event: StreamEvent::Opened });
    writer.append(&[fresh.record()]).unwrap();
    let read: Vec<Owned> = read_all(&mut reader).into_iter().map(|(_, record)| record).collect();
    assert_eq!(read, [Owned::Datagram(at(1), source, 3, b"flow".to_vec()), Owned::Dropped(counted), fresh]);
}

#[test]
fn what_is_offered_to_a_full_journal_is_still_the_callers() {
    let directory = TempDir::new().unwrap();
    let (writer, mut reader) = open(Settings { max_bytes: 16 << 10, ..settings(directory.path()) }).unwrap();
    let all: Vec<Owned> = (0..400).map(numbered).collect();
    let records: Vec<Record<'_>> = all.iter().map(Owned::record).collect();
    let mut taken = 0;
    let mut read = Vec::new();
    let mut waits = 0;
    let deadline = Instant::now() + SOON;
    while taken < records.len() {
        assert!(Instant::now() < deadline, "{taken} taken");
        let more = writer.offer(&records[taken..records.len().min(taken + 30)]).unwrap();
        taken += more;
        if more == 0 {
            waits += 1;
            read.extend(read_all(&mut reader));
            reader.release(reader.position()).unwrap();
            thread::sleep(Duration::from_millis(1));
        }
    }
    read.extend(read_all(&mut reader));
    assert!(waits > 0, "the journal was too large for this test");
    assert_eq!(numbers_of(&read), (0..400).collect::<Vec<_>>());
    assert_eq!((dropped_of(&read).len(), writer.metrics().dropped.get()), (0, 0));
}

#[test]
fn a_reader_follows_the_writer_while_segments_come_and_go() {
    let directory = TempDir::new().unwrap();
    let settings = Settings { segment_bytes: 64 << 10, ..settings(directory.path()) };
    let (writer, mut reader) = open(settings).unwrap();
    let writers: Vec<_> = [0, 1]
        .into_iter()
        .map(|half| {
            let writer = writer.clone();
            thread::spawn(move || {
                for first in (half * 20_000..(half + 1) * 20_000).step_by(20) {
                    let batch: Vec<Owned> = (first..first + 20).map(numbered).collect();
                    writer.append(&batch.iter().map(Owned::record).collect::<Vec<_>>()).unwrap();
                    thread::yield_now();
                }
            })
        })
        .collect();
    drop(writer);
    let mut chunk = Chunk::default();
    let mut seen = vec![0_u8; 40_000];
    let mut dropped = 0;
    while reader.read(&mut chunk, SOON).unwrap() > 0 {
        let mut after = Position::default();
        let mut records = Vec::new();
        for (position, record) in chunk.iter() {
            records.push((position, Owned::of(&record)));
            after = position;
        }
        numbers_of(&records).into_iter().for_each(|number| seen[number as usize] += 1);
        dropped += dropped_of(&records).values().sum::<u64>();
        reader.release(after).unwrap();
    }
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    assert!(seen.iter().all(|times| *times <= 1));
    assert_eq!(seen.iter().map(|times| u64::from(*times)).sum::<u64>() + dropped, 40_000);
}

#[test]
fn a_waiting_reader_wakes_for_a_record_and_gives_up_in_time() {
    let directory = TempDir::new().unwrap();
    let (writer, mut reader) = open(settings(directory.path())).unwrap();
    let mut chunk = Chunk::default();
    let begun = Instant::now();
    assert_eq!(reader.read(&mut chunk, Duration::from_millis(30)).unwrap(), 0);
    assert!((Duration::from_millis(30)..SOON).contains(&begun.elapsed()));
    let waiting = thread::spawn(move || reader.read(&mut chunk, SOON * 6).unwrap());
    thread::sleep(Duration::from_millis(20));
    append_numbered(&writer, 0..1);
    let begun = Instant::now();
    assert_eq!(waiting.join().unwrap(), 1);
    assert!(begun.elapsed() < SOON);
}

#[test]
fn the_directory_is_closed_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let place = TempDir::new().unwrap();
    let directory = place.path().join("journal");
    drop(open(settings(&directory)).unwrap());
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
}
