//! Damage on the disk, a full disk, a disk that refuses: every datagram is read or counted.

use super::*;
use crate::clock::{DAY, HOUR, SECOND};
use crate::journal::files::{Disk, RealDisk};
use proptest::test_runner::TestRng;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::Mutex;

/// The copy of a journal whose newest file has these bytes.
pub(super) fn with_newest(original: &Path, bytes: &[u8]) -> TempDir {
    let copy = TempDir::new().unwrap();
    let files = segment_files(original);
    for file in files.iter().map(PathBuf::as_path).chain([original.join("id").as_path()]) {
        fs::copy(file, copy.path().join(file.file_name().unwrap())).unwrap();
    }
    fs::write(copy.path().join(files.last().unwrap().file_name().unwrap()), bytes).unwrap();
    copy
}

/// A disk that does not flush, for tests that open thousands of journals.
pub(super) struct Forgetful;

impl Disk for Forgetful {
    fn sync(&self, _: &File) -> io::Result<()> {
        Ok(())
    }

    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }
}

/// A closed journal of one file with these records, and what is in the file.
pub(super) fn one_file(count: u32) -> (TempDir, Vec<u8>, Vec<(Position, Owned)>) {
    let directory = TempDir::new().unwrap();
    let settings = Settings { segment_bytes: 64 << 10, ..settings(directory.path()) };
    let (writer, mut reader) = open(settings).unwrap();
    append_numbered(&writer, 0..count);
    let records = read_all(&mut reader);
    drop((writer, reader));
    let bytes = fs::read(&segment_files(directory.path())[0]).unwrap();
    (directory, bytes, records)
}

fn corrupt(records: &[(Position, Owned)]) -> u64 {
    dropped_of(records).get(&("Corrupt".to_owned(), None)).copied().unwrap_or(0)
}

#[test]
fn a_tail_torn_at_any_byte_costs_the_records_it_cuts() {
    let (directory, bytes, records) = one_file(8);
    let ends: Vec<usize> = records.iter().map(|(end, _)| (end.get() + segment::HEADER_BYTES) as usize).collect();
    for length in 0..bytes.len() {
        let copy = with_newest(directory.path(), &bytes[..length]);
        let (writer, mut reader) = open_on(settings(copy.path()), Arc::new(Forgetful)).unwrap();
        let read = read_all(&mut reader);
        let whole = ends.iter().filter(|end| **end <= length).count();
        assert_eq!(numbers_of(&read), (0..whole as u32).collect::<Vec<_>>(), "cut at {length}");
        let torn = length > segment::HEADER_BYTES as usize && !ends.contains(&length);
        assert_eq!(corrupt(&read), u64::from(torn), "cut at {length}");
        append_numbered(&writer, 100..102);
        assert_eq!(numbers_of(&read_all(&mut reader)), [100, 101], "cut at {length}");
    }
}

#[test]
fn any_flipped_bit_costs_at_most_its_record_and_is_counted() {
    let (directory, bytes, records) = one_file(5);
    let header = segment::HEADER_BYTES as usize;
    let (writer, mut reader) = open_on(settings(directory.path()), Arc::new(Forgetful)).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&segment_files(directory.path())[0]).unwrap();
    for bit in header * 8..bytes.len() * 8 {
        let at = bit / 8;
        file.write_all_at(&[bytes[at] ^ (1 << (bit % 8))], at as u64).unwrap();
        let before = writer.metrics().corrupt.get();
        reader.seek(Position::default()).unwrap();
        let read = read_all(&mut reader);
        let hit = records.partition_point(|(end, _)| (end.get() as usize + header) <= at) as u32;
        assert_eq!(numbers_of(&read), (0..5).filter(|number| *number != hit).collect::<Vec<_>>(), "bit {bit}");
        assert_eq!((corrupt(&read), writer.metrics().corrupt.get() - before), (1, 1), "bit {bit}");
        file.write_all_at(&[bytes[at]], at as u64).unwrap();
    }
}

#[test]
fn damage_over_many_records_is_counted_by_their_numbers() {
    let directory = TempDir::new().unwrap();
    let (writer, mut reader) = open(settings(directory.path())).unwrap();
    append_numbered(&writer, 0..200);
    let files = segment_files(directory.path());
    // From the middle of the first file to its end, and over a stretch of the second.
    let mut first = fs::read(&files[0]).unwrap();
    let half = first.len() / 2;
    first[half..].fill(0);
    fs::write(&files[0], &first).unwrap();
    let mut second = fs::read(&files[1]).unwrap();
    second[1000..2000].fill(0xFF);
    fs::write(&files[1], &second).unwrap();
    let read = read_all(&mut reader);
    assert_eq!(numbers_of(&read).len() as u64 + corrupt(&read), 200);
    assert!(corrupt(&read) > 20);
    drop((writer, reader));
    let again = read_all(&mut open(settings(directory.path())).unwrap().1);
    assert_eq!(again, read);
}

#[test]
fn random_damage_in_a_large_file_never_hides_a_record_that_is_whole() {
    let mut random = TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    let directory = TempDir::new().unwrap();
    let settings = Settings { segment_bytes: 8 << 20, max_bytes: 64 << 20, ..settings(directory.path()) };
    let (writer, mut reader) = open(settings).unwrap();
    let source = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 1);
    let payloads: Vec<Vec<u8>> = (0..200_u32).map(|number| number.to_be_bytes().repeat(number as usize * 60)).collect();
    for payload in &payloads {
        writer.append(&[Owned::Datagram(Timestamp::default(), source, 0, payload.clone()).record()]).unwrap();
    }
    let whole = read_all(&mut reader);
    let file = segment_files(directory.path()).remove(0);
    let bytes = fs::read(&file).unwrap();
    for _ in 0..20 {
        let mut damaged = bytes.clone();
        let mut hit = std::collections::BTreeSet::new();
        for _ in 0..5 {
            let at = random.random_range(segment::HEADER_BYTES as usize..bytes.len());
            damaged[at] ^= 0x10;
            hit.insert(whole.partition_point(|(end, _)| (end.get() + segment::HEADER_BYTES) as usize <= at));
        }
        fs::write(&file, &damaged).unwrap();
        reader.seek(Position::default()).unwrap();
        let read = read_all(&mut reader);
        let left = whole.iter().enumerate().filter(|(at, _)| !hit.contains(at)).map(|(_, record)| record);
        assert!(read.iter().filter(|(_, record)| matches!(record, Owned::Datagram(..))).eq(left));
        assert_eq!(corrupt(&read), hit.len() as u64);
    }
}

#[test]
fn ten_thousand_random_flips_of_a_bit_are_all_found_and_cost_at_most_one_record_each() {
    let mut random = TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha);
    let directory = TempDir::new().unwrap();
    let (writer, mut reader) =
        open(Settings { segment_bytes: 1 << 20, max_bytes: 4 << 20, ..settings(directory.path()) }).unwrap();
    append_numbered(&writer, 0..1_000);
    let whole = read_all(&mut reader);
    let file = segment_files(directory.path()).remove(0);
    let bytes = fs::read(&file).unwrap();
    let header = segment::HEADER_BYTES as usize;
    for _ in 0..100 {
        let (mut damaged, mut flipped) = (bytes.clone(), std::collections::BTreeSet::new());
        while flipped.len() < 100 {
            flipped.insert(random.random_range(header * 8..bytes.len() * 8));
        }
        let mut hit = std::collections::BTreeSet::new();
        for bit in &flipped {
            damaged[bit / 8] ^= 1 << (bit % 8);
            hit.insert(whole.partition_point(|(end, _)| end.get() as usize + header <= bit / 8) as u32);
        }
        fs::write(&file, &damaged).unwrap();
        let before = writer.metrics().corrupt.get();
        reader.seek(Position::default()).unwrap();
        let read = read_all(&mut reader);
        let left: Vec<_> = (0..1_000).filter(|number| !hit.contains(number)).collect();
        assert_eq!(numbers_of(&read), left, "{flipped:?}");
        let lost = hit.len() as u64;
        assert_eq!((corrupt(&read), writer.metrics().corrupt.get() - before), (lost, lost), "{flipped:?}");
    }
}

#[test]
fn a_copy_of_a_record_inside_a_payload_is_not_taken_for_one() {
    let (directory, bytes, records) = one_file(3);
    let copied = bytes[segment::HEADER_BYTES as usize..].to_vec();
    let (writer, mut reader) = open(settings(directory.path())).unwrap();
    reader.seek(reader.end()).unwrap();
    let Owned::Datagram(received, source, listener, _) = records[0].1.clone() else { unreachable!() };
    writer.append(&[Owned::Datagram(received, source, listener, copied).record()]).unwrap();
    append_numbered(&writer, 7..8);
    let file = segment_files(directory.path()).pop().unwrap();
    let mut damaged = fs::read(&file).unwrap();
    damaged[segment::HEADER_BYTES as usize] ^= 1;
    fs::write(&file, damaged).unwrap();
    let read = read_all(&mut reader);
    assert_eq!(numbers_of(&read), [7]);
    assert_eq!(corrupt(&read), 1);
}

/// A disk whose next calls can be told to fail.
#[derive(Default)]
struct FaultyDisk(Mutex<Faults>);

#[derive(Default)]
struct Faults {
    /// What all files together may still take, if the disk is full at some point.
    room: Option<usize>,
    write: Option<io::ErrorKind>,
    read: Option<u64>,
    sync: usize,
    truncate: bool,
    synced_directories: usize,
}

impl FaultyDisk {
    fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.0.lock().unwrap());
    }
}

impl Disk for FaultyDisk {
    fn write(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut faults = self.0.lock().unwrap();
        if let Some(kind) = faults.write {
            // Half of it arrives before the disk fails.
            RealDisk.write(file, &bytes[..bytes.len() / 2], offset)?;
            return Err(kind.into());
        }
        let Some(room) = &mut faults.room else { return RealDisk.write(file, bytes, offset) };
        let fits = bytes.len().min(*room);
        if fits == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        *room -= fits;
        RealDisk.write(file, &bytes[..fits], offset)
    }

    fn read(&self, file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        match self.0.lock().unwrap().read {
            Some(bad) if offset == bad => Err(io::Error::from_raw_os_error(5)),
            Some(bad) if offset < bad => {
                let before = bytes.len().min((bad - offset) as usize);
                RealDisk.read(file, &mut bytes[..before], offset)
            }
            _ => RealDisk.read(file, bytes, offset),
        }
    }

    fn truncate(&self, file: &File, length: u64) -> io::Result<()> {
        if self.0.lock().unwrap().truncate { Err(io::ErrorKind::Other.into()) } else { RealDisk.truncate(file, length) }
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let mut faults = self.0.lock().unwrap();
        if faults.sync > 0 {
            faults.sync -= 1;
            return Err(io::Error::from_raw_os_error(5));
        }
        Forgetful.sync(file)
    }

    fn sync_directory(&self, directory: &Path) -> io::Result<()> {
        self.0.lock().unwrap().synced_directories += 1;
        Forgetful.sync_directory(directory)
    }
}

/// Every number of `sent` was read once or counted once, under its own exporter.
fn assert_accounted(records: &[(Position, Owned)], sent: std::ops::Range<u32>) {
    let read = numbers_of(records);
    assert!(read.is_sorted_by(|a, b| a < b), "in order and once");
    for exporter in 0..4 {
        let mine = |number: &u32| *number % 4 == exporter;
        let address = Some(IpAddr::from([192, 0, 2, exporter as u8]));
        let counted = dropped_of(records).get(&("JournalFull".to_owned(), address)).copied().unwrap_or(0);
        let arrived = read.iter().filter(|number| mine(number)).count() as u64;
        assert_eq!(arrived + counted, sent.clone().filter(mine).count() as u64, "exporter {exporter}");
    }
}

#[test]
fn a_full_journal_drops_the_newest_counts_them_by_exporter_and_goes_on_when_there_is_room() {
    let directory = TempDir::new().unwrap();
    let settings = Settings { max_bytes: 64 << 10, ..settings(directory.path()) };
    let (writer, mut reader) = open(settings.clone()).unwrap();
    append_numbered(&writer, 0..1_000);
    let kept = read_all(&mut reader);
    let count = numbers_of(&kept).len() as u32;
    assert!((300..1_000).contains(&count), "{count}");
    assert_eq!(numbers_of(&kept), (0..count).collect::<Vec<_>>());
    assert_eq!(writer.metrics().dropped.get(), u64::from(1_000 - count));
    let size: u64 = segment_files(directory.path()).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(size <= settings.max_bytes, "{size}");
    assert_eq!(writer.metrics().size_bytes.get(), size as i64);

    let deadline = Instant::now() + SOON;
    while segment_files(directory.path()).len() > 1 {
        assert!(Instant::now() < deadline);
        reader.release(reader.end()).unwrap();
    }
    append_numbered(&writer, 1_000..1_010);
    let all = [kept, read_all(&mut reader)].concat();
    assert_accounted(&all, 0..1_010);
    assert_eq!(numbers_of(&all).len() as u32, count + 10);
}

#[test]
fn counts_of_a_full_journal_are_told_without_a_further_datagram_and_across_a_restart() {
    for restart in [false, true] {
        let directory = TempDir::new().unwrap();
        let settings = Settings { max_bytes: 64 << 10, ..settings(directory.path()) };
        let (writer, mut reader) = open(settings.clone()).unwrap();
        append_numbered(&writer, 0..1_000);
        if restart {
            drop((writer, reader));
            let (_writer, mut reader) = open(settings).unwrap();
            assert_accounted(&read_all(&mut reader), 0..1_000);
        } else {
            let told = read_until(&mut reader, |records| dropped_of(records).len() == 4);
            assert_accounted(&told, 0..1_000);
        }
    }
}

#[test]
fn what_a_journal_drops_over_hours_in_which_it_can_tell_nobody_is_told_in_each_of_them() {
    let directory = TempDir::new().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let (writer, mut reader) = open_on(settings(directory.path()), disk.clone()).unwrap();
    disk.set(|faults| faults.room = Some(0));
    let noon = Timestamp::from_micros(20_780 * DAY + 12 * HOUR);
    let mut expected = BTreeMap::new();
    for (hour, minutes) in [(0, 20..60), (1, 0..60), (2, 0..60), (3, 0..5)] {
        for minute in minutes {
            let at = noon.plus(hour * HOUR + minute * 60 * SECOND);
            let exporter = IpAddr::from([192, 0, 2, minute as u8 % 2]);
            let datagram = Owned::Datagram(at, SocketAddr::new(exporter, 2055), 0, vec![0; 60]);
            writer.append(&[datagram.record()]).unwrap();
            let (count, last) = expected.entry((at.hour(), Some(exporter))).or_insert((0, at));
            (*count, *last) = (*count + 1, at);
        }
    }
    assert_eq!((read_all(&mut reader).len(), reader.told_until(noon.plus(DAY))), (0, noon.plus(20 * 60 * SECOND)));
    assert_eq!(writer.metrics().untold.get(), 165);
    disk.set(|faults| faults.room = None);
    let told = read_until(&mut reader, |records| dropped_of(records).values().sum::<u64>() == 165);
    let told = told.into_iter().filter_map(|(_, record)| match record {
        Owned::Dropped(it) => Some(((it.received.hour(), it.exporter), (it.count, it.received))),
        _ => None,
    });
    assert_eq!(told.collect::<BTreeMap<_, _>>(), expected);
    assert_eq!(writer.append(&[]).map(|()| reader.told_until(noon.plus(DAY))).unwrap(), noon.plus(DAY));
    assert_eq!(writer.metrics().untold.get(), 0);
}

#[test]
fn a_disk_that_fills_at_any_byte_loses_nothing_uncounted() {
    for room in (0..3_000).step_by(97) {
        for truncate in [false, true] {
            let directory = TempDir::new().unwrap();
            let disk = Arc::new(FaultyDisk::default());
            let (writer, mut reader) = open_on(settings(directory.path()), disk.clone()).unwrap();
            disk.set(|faults| (faults.room, faults.truncate) = (Some(room), truncate));
            let batch: Vec<Owned> = (0..40).map(numbered).collect();
            let batch: Vec<Record<'_>> = batch.iter().map(Owned::record).collect();
            writer.append(&batch[..20]).unwrap();
            writer.append(&batch[20..]).unwrap();
            let whole = read_all(&mut reader);
            disk.set(|faults| faults.room = None);
            let mut all = whole.clone();
            for number in 40..60 {
                append_numbered(&writer, number..number + 1);
                thread::sleep(Duration::from_millis(if all.len() == whole.len() { 2 } else { 0 }));
                all.extend(read_all(&mut reader));
            }
            if dropped_of(&all).values().sum::<u64>() + (numbers_of(&all).len() as u64) < 60 {
                all.extend(read_until(&mut reader, |more| !more.is_empty()));
            }
            assert_accounted(&all, 0..60);
            drop((writer, reader));
            // What a failed write left behind is never read, not by the next process either.
            let again = read_all(&mut open(settings(directory.path())).unwrap().1);
            assert_eq!(again, all, "room {room}, truncate fails: {truncate}");
        }
    }
}

#[test]
fn a_write_error_abandons_the_segment_and_keeps_its_complete_records() {
    let directory = TempDir::new().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let (writer, mut reader) = open_on(settings(directory.path()), disk.clone()).unwrap();
    append_numbered(&writer, 0..5);
    disk.set(|faults| (faults.write, faults.truncate) = (Some(io::ErrorKind::Other), true));
    append_numbered(&writer, 5..8);
    disk.set(|faults| (faults.write, faults.truncate) = (None, false));
    thread::sleep(Duration::from_millis(30));
    append_numbered(&writer, 8..10);
    let all = read_all(&mut reader);
    assert_eq!(numbers_of(&all), [0, 1, 2, 3, 4, 8, 9]);
    assert_accounted(&all, 0..10);
    assert!(writer.metrics().write_errors.get() > 0);
    assert_eq!(segment_files(directory.path()).len(), 2);
}

#[test]
fn a_segment_that_failed_to_flush_is_not_trusted_again() {
    let directory = TempDir::new().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let (writer, mut reader) = open_on(settings(directory.path()), disk.clone()).unwrap();
    disk.set(|faults| faults.sync = 1);
    append_numbered(&writer, 0..3);
    let metrics = writer.metrics();
    let deadline = Instant::now() + SOON;
    while metrics.sync_errors.get() == 0 {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(1));
    }
    let doubted = metrics.unsynced_bytes.get();
    assert!(doubted > 0);
    append_numbered(&writer, 3..6);
    assert_eq!(segment_files(directory.path()).len(), 2);
    assert_eq!(numbers_of(&read_all(&mut reader)), (0..6).collect::<Vec<_>>());
    // The flush of the next file says nothing about the bytes of the first one.
    while metrics.unsynced_bytes.get() > doubted {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(20));
    assert_eq!(metrics.unsynced_bytes.get(), doubted);
    reader.release(reader.end()).unwrap();
    assert_eq!(metrics.unsynced_bytes.get(), 0, "what is stored is doubted no longer");
    assert_eq!(metrics.sync_errors.get(), 1);
}

#[test]
fn the_first_segment_of_an_opening_is_on_disk_before_anything_is_read_from_it() {
    let directory = TempDir::new().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let slow = Settings { flush_interval_ms: 60_000, ..settings(directory.path()) };
    drop(open(slow.clone()).unwrap());
    let (writer, mut reader) = open_on(slow, disk.clone()).unwrap();
    disk.set(|faults| faults.sync = 1);
    append_numbered(&writer, 0..1);
    assert!(read_all(&mut reader).is_empty());
    thread::sleep(Duration::from_millis(30));
    append_numbered(&writer, 1..2);
    assert!(disk.0.lock().unwrap().synced_directories > 0);
    let all = read_all(&mut reader);
    assert_eq!(numbers_of(&all), [1]);
    assert_accounted(&all, 0..2);
}

#[test]
fn a_page_that_cannot_be_read_costs_the_records_on_it() {
    let directory = TempDir::new().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let settings = Settings { segment_bytes: 64 << 10, ..settings(directory.path()) };
    let (writer, mut reader) = open_on(settings, disk.clone()).unwrap();
    append_numbered(&writer, 0..300);
    disk.set(|faults| faults.read = Some(8192));
    let all = read_all(&mut reader);
    assert_eq!(numbers_of(&all).len() as u64 + corrupt(&all), 300);
    assert!((20..80).contains(&corrupt(&all)), "{}", corrupt(&all));
}

#[test]
fn a_flushing_thread_that_panicked_is_seen_to_have_ended_and_one_that_was_stopped_is_not() {
    let directory = TempDir::new().unwrap();
    let (writer, reader) = open(settings(directory.path())).unwrap();
    let pulse = writer.pulse();
    assert!(!pulse.has_ended());
    drop((writer, reader));
    assert!(!pulse.has_ended());
    let shared = index::Shared::open(settings(directory.path()), Arc::new(Forgetful), Arc::new(SystemClock)).unwrap();
    let writer = Writer::flushed_by(Arc::new(shared), thread::spawn(|| panic!("a defect")));
    let deadline = Instant::now() + SOON;
    while !writer.pulse().has_ended() {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_journal_that_is_let_go_of_in_a_moment_is_waited_for() {
    let directory = TempDir::new().unwrap();
    drop(open(settings(directory.path())).unwrap());
    // As a child holds it that another thread has forked.
    let held = File::open(directory.path().join("lock")).unwrap();
    held.try_lock().unwrap();
    let child = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        drop(held);
    });
    open(settings(directory.path())).unwrap();
    child.join().unwrap();
}
