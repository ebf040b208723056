//! Damage in what a journal says of itself, the headers of its files and its id: nothing is lost by it, and each is counted.

use super::faults::{Forgetful, one_file, with_newest};
use super::*;
use std::io;
use std::sync::Arc;

#[test]
fn a_flipped_bit_in_a_file_header_costs_nothing_and_is_counted() {
    let (directory, bytes, records) = one_file(5);
    for bit in 0..segment::HEADER_BYTES as usize * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let copy = with_newest(directory.path(), &flipped);
        let (writer, mut reader) = open_on(settings(copy.path()), Arc::new(Forgetful)).unwrap();
        assert_eq!(read_all(&mut reader), records, "bit {bit}");
        assert_eq!(writer.metrics().headers_damaged.get(), 1, "bit {bit}");
    }
}

#[test]
fn a_flipped_bit_in_the_id_costs_nothing_and_is_mended() {
    let (directory, bytes, records) = one_file(5);
    let copy = with_newest(directory.path(), &bytes);
    let path = copy.path().join("id");
    let id = fs::read(&path).unwrap();
    let damaged = |bit: usize| {
        let mut flipped = id.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        flipped
    };
    let told = |content: &[u8]| {
        let text = String::from_utf8(content.to_vec()).ok()?;
        Uuid::parse_str(text.trim()).ok().map(|id| id.to_string() + "\n")
    };
    let cases = (0..id.len() * 8).map(damaged).chain([Vec::new()]);
    for (case, content) in cases.enumerate() {
        fs::write(&path, &content).unwrap();
        let (writer, mut reader) = open_on(settings(copy.path()), Arc::new(Forgetful)).unwrap();
        // Another case of a letter, or another blank at the end, says the same.
        let same = told(&content) == told(&id);
        assert_eq!(writer.metrics().headers_damaged.get(), u64::from(!same), "case {case}");
        assert_eq!(reader.id().to_string(), String::from_utf8_lossy(&id).trim(), "case {case}");
        let read = read_all(&mut reader);
        assert_eq!(read[..records.len().min(read.len())], records, "case {case}");
        if !same {
            assert_eq!(fs::read(&path).unwrap(), id, "case {case}");
        }
    }
    fs::remove_file(&path).unwrap();
    drop(open(settings(copy.path())).unwrap());
    assert_eq!(fs::read(&path).unwrap(), id);
}

/// A disk on which no file can be begun.
struct Full;

impl files::Disk for Full {
    fn create(&self, _: &Path) -> io::Result<fs::File> {
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[test]
fn a_damaged_id_that_cannot_be_mended_holds_nothing_up() {
    let (directory, bytes, records) = one_file(5);
    let copy = with_newest(directory.path(), &bytes);
    fs::write(copy.path().join("id"), "nonsense\n").unwrap();
    let (writer, mut reader) = open_on(settings(copy.path()), Arc::new(Full)).unwrap();
    assert_eq!(read_all(&mut reader), records);
    assert_eq!(writer.metrics().headers_damaged.get(), 1);
    assert_eq!(fs::read(copy.path().join("id")).unwrap(), b"nonsense\n");
}

#[test]
fn a_survey_knows_the_journal_by_its_files_when_the_id_is_damaged() {
    let (directory, bytes, _) = one_file(5);
    let copy = with_newest(directory.path(), &bytes);
    let path = copy.path().join("id");
    let whole = survey::survey(copy.path()).unwrap();
    let mut flipped = fs::read(&path).unwrap();
    flipped[0] ^= if flipped[0] == b'0' { 1 } else { 2 };
    for damaged in [&flipped[..], b"nonsense\n", b"", b"\xff"] {
        fs::write(&path, damaged).unwrap();
        assert_eq!(survey::survey(copy.path()).unwrap(), whole, "{damaged:?}");
        assert_eq!(fs::read(&path).unwrap(), damaged, "a survey mends nothing");
    }
    fs::write(&path, format!("{}\n", Uuid::new_v4())).unwrap();
    let refused = survey::survey(copy.path());
    assert!(matches!(refused, Err(JournalError::Foreign { .. })), "{refused:?}");
}

#[test]
fn the_files_of_another_journal_do_not_take_the_place_of_its_own() {
    let (directory, bytes, _) = one_file(5);
    let copy = with_newest(directory.path(), &bytes);
    let path = copy.path().join("id");
    let other = format!("{}\n", Uuid::new_v4());
    fs::write(&path, &other).unwrap();
    let refused = open(settings(copy.path()));
    assert!(matches!(&refused, Err(JournalError::Foreign { .. })), "{refused:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), other);
}

#[test]
fn without_any_header_the_id_must_be_there() {
    let (directory, mut bytes, records) = one_file(5);
    bytes[..segment::HEADER_BYTES as usize].fill(0);
    let copy = with_newest(directory.path(), &bytes);
    let (writer, mut reader) = open_on(settings(copy.path()), Arc::new(Forgetful)).unwrap();
    assert_eq!(read_all(&mut reader), records);
    drop((writer, reader));
    // That opening wrote no file, since nothing was appended.
    fs::write(copy.path().join("id"), "nonsense\n").unwrap();
    let refused = open(settings(copy.path()));
    assert!(matches!(refused, Err(JournalError::Id { .. })), "{refused:?}");
}

#[test]
fn a_segment_of_another_journal_is_refused_where_the_id_says_which_it_is() {
    let (directory, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let settings = settings(directory.path());
    drop(open(settings.clone()).unwrap());
    drop(open(Settings { directory: other.path().to_owned(), ..settings.clone() }).unwrap());
    let stranger = files::segment_path(directory.path(), 1 << 30);
    let mut bytes = fs::read(files::segment_path(other.path(), 0)).unwrap();
    bytes[32..40].copy_from_slice(&(1_u64 << 30).to_le_bytes());
    let checked = [&bytes[..12], &bytes[16..]].concat();
    bytes[12..16].copy_from_slice(&crc32c::crc32c(&checked).to_le_bytes());
    fs::write(&stranger, bytes).unwrap();
    let refused = open(settings.clone());
    assert!(matches!(&refused, Err(JournalError::Foreign { path }) if *path == stranger), "{refused:?}");
    let id = directory.path().join("id");
    let kept = fs::read(&id).unwrap();
    fs::write(&id, "nonsense\n").unwrap();
    assert!(matches!(open(settings.clone()), Err(JournalError::Id { .. })));
    // Neither of them is what the file says: which is ours is not known, so none is called another's.
    fs::write(&id, format!("{}\n", Uuid::new_v4())).unwrap();
    assert!(matches!(open(settings.clone()), Err(JournalError::Id { .. })));
    fs::write(&id, kept).unwrap();
    fs::remove_file(stranger).unwrap();
    assert!(open(settings).is_ok());
}
