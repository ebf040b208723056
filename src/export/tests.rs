//! Text, places and names of exports, without a database.

use super::cells::{Cells, Moments};
use super::csv::CsvWriter;
use super::ndjson::NdjsonWriter;
use super::place::{Directory, Output, Staged, refused};
use super::*;
use crate::clock::Timestamp;
use crate::flow::batch::{AddressRun, Column, FlowBatch};
use crate::flow::value::{Value, wide_from_v4};
use crate::query::Window;
use crate::reports::csv::cell;
use chrono::NaiveDate;
use chrono_tz::Tz;
use std::fs;
use std::io::Write as _;
use std::path::Path;

/// A batch in which every field has values in some rows.
pub(super) fn random_batch(random: &mut fastrand::Rng, rows: usize) -> FlowBatch {
    let mut batch = FlowBatch::default();
    batch.add_rows(rows);
    for field in Field::ALL {
        let mut row = 0;
        while row < rows {
            let count = random.usize(1..=20).min(rows - row);
            if random.u8(0..4) > 0 {
                fill(batch.column_mut(field), row, count, random);
            }
            row += count;
        }
    }
    batch
}

fn fill(column: &mut Column, row: usize, count: usize, random: &mut fastrand::Rng) {
    column.u8_run(row, count).fill_with(|| random.u8(..));
    column.u16_run(row, count).fill_with(|| random.u16(..));
    column.u32_run(row, count).fill_with(|| random.u32(..));
    column.u64_run(row, count).fill_with(|| random.u64(..) >> random.u32(0..64));
    // From 2000 to 2100, to the microsecond, millisecond and second.
    column.time_run(row, count).fill_with(|| {
        let unit = *random.choice([1, 1_000, 1_000_000].iter()).unwrap();
        random.i64(946_684_800_000_000..4_102_444_800_000_000) / unit * unit
    });
    if random.u8(0..40) == 0 {
        column.wide_run(row, count).fill_with(|| random.u128(..));
    }
    match column.v4_run(row, count) {
        AddressRun::V4(room) => room.fill_with(|| random.u32(..)),
        AddressRun::Wide(room) => {
            room.fill_with(|| if random.bool() { random.u128(..) } else { wide_from_v4(random.u32(..)) });
        }
    }
}

fn window(from: i64, to: i64, zone: Tz) -> Window {
    Window { from: Timestamp::from_micros(from), to: Timestamp::from_micros(to), zone }
}

pub(super) fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn cells_are_those_of_reports_for_every_field() {
    let mut random = fastrand::Rng::with_seed(3);
    for zone in [Tz::UTC, chrono_tz::Europe::Berlin, chrono_tz::America::St_Johns, chrono_tz::Asia::Kathmandu] {
        let batch = random_batch(&mut random, 400);
        let mut moments = Moments::new(zone);
        for field in Field::ALL {
            let mut cells = Cells::new(field, batch.column(field));
            for row in 0..batch.rows() {
                let mut text = b"what was there".to_vec();
                cells.write(row, &mut moments, &mut text);
                let expected = batch.value(field, row).map_or_else(String::new, |value| cell(&value, zone));
                assert_eq!(String::from_utf8(text).unwrap(), expected, "{} in {zone}", field.name());
            }
        }
    }
}

#[test]
fn moments_far_away_are_written_in_utc_and_others_in_the_zone() {
    let mut moments = Moments::new(chrono_tz::Europe::Berlin);
    for (micros, expected) in [
        (i64::MIN, "-262143-01-01T00:00:00Z"),
        (-62_167_219_200_000_001, "-0001-12-31T23:59:59.999999Z"),
        (-1, "1970-01-01T00:59:59.999999+01:00"),
        (0, "1970-01-01T01:00:00+01:00"),
        (1, "1970-01-01T01:00:00.000001+01:00"),
        (253_402_300_800_000_000, "+10000-01-01T00:00:00Z"),
        (i64::MAX, "+262142-12-31T23:59:59.999999999Z"),
        (0, "1970-01-01T01:00:00+01:00"),
    ] {
        let mut text = Vec::new();
        moments.write(micros, &mut text);
        assert_eq!(String::from_utf8(text).unwrap(), expected, "{micros}");
    }
}

#[test]
fn csv_has_a_head_and_empty_cells_and_ndjson_leaves_out_what_is_absent() {
    let mut batch = FlowBatch::default();
    batch.add_rows(3);
    batch.column_mut(Field::SrcPort).u16_run(1, 1)[0] = 80;
    batch.column_mut(Field::InBytes).u64_run(0, 3).copy_from_slice(&[u64::MAX, 1, 2]);
    batch.column_mut(Field::DstIp).wide_run(1, 2).copy_from_slice(&[0x2001_0db8 << 96 | 7, 0xffff_0a00_0001]);
    batch.column_mut(Field::InSrcMac).u64_run(2, 1)[0] = 0x0102_0304_0506;
    batch.column_mut(Field::FirstSeen).time_run(2, 1)[0] = 1_795_392_000_500_000;
    let fields = parse_fields("in_bytes, srcport,DSTIP,insrcmac,first_seen").unwrap();
    let flows = Flows { day: day("2026-11-23"), batch: &batch, rows: &[0, 1, 2] };
    let mut csv = CsvWriter::new(Vec::new(), &fields, chrono_tz::Europe::Berlin).unwrap();
    csv.take(&flows).unwrap();
    csv.take(&Flows { rows: &[1], ..flows }).unwrap();
    let (text, rows) = csv.finish().unwrap();
    let expected = "in_bytes,src_port,dst_ip,in_src_mac,first_seen\n\
        18446744073709551615,,,,\n\
        1,80,2001:db8::7,,\n\
        2,,10.0.0.1,01:02:03:04:05:06,2026-11-23T01:00:00.500+01:00\n\
        1,80,2001:db8::7,,\n";
    assert_eq!((String::from_utf8(text).unwrap().as_str(), rows), (expected, 4));
    let mut ndjson = NdjsonWriter::new(Vec::new(), &fields, chrono_tz::Europe::Berlin);
    ndjson.take(&flows).unwrap();
    let (text, rows) = ndjson.finish();
    let expected = "{\"in_bytes\":18446744073709551615}\n\
        {\"in_bytes\":1,\"src_port\":80,\"dst_ip\":\"2001:db8::7\"}\n\
        {\"in_bytes\":2,\"dst_ip\":\"10.0.0.1\",\"in_src_mac\":\"01:02:03:04:05:06\",\
        \"first_seen\":\"2026-11-23T01:00:00.500+01:00\"}\n";
    assert_eq!((String::from_utf8(text).unwrap().as_str(), rows), (expected, 3));
}

#[test]
fn every_line_of_ndjson_is_json_with_the_values_of_the_flow() {
    let batch = random_batch(&mut fastrand::Rng::with_seed(4), 200);
    let rows: Vec<usize> = (0..200).collect();
    let mut writer = NdjsonWriter::new(Vec::new(), &Field::ALL, Tz::UTC);
    writer.take(&Flows { day: day("2026-11-23"), batch: &batch, rows: &rows }).unwrap();
    let text = String::from_utf8(writer.finish().0).unwrap();
    for (row, line) in text.lines().enumerate() {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        for field in Field::ALL {
            let expected = batch.value(field, row).map(|value| match value {
                Value::Number(number) => number.into(),
                other => cell(&other, Tz::UTC).into(),
            });
            assert_eq!(object.get(field.name()), expected.as_ref(), "{}", field.name());
        }
    }
}

#[test]
fn fields_are_read_by_both_names_in_order_and_refused_with_the_nearest() {
    assert_eq!(parse_fields("dstip, SRC_IP,ibyte").unwrap(), [Field::DstIp, Field::SrcIp, Field::InBytes]);
    for (words, said) in [
        ("dts_ip", "there is no field `dts_ip`; did you mean dst_ip?"),
        ("src_ip,srcip", "the field src_ip stands twice; name it once"),
        ("src_ip,", "there is no field ``; /api/v1/fields lists all fields"),
        ("ip", "there is no field `ip`"),
    ] {
        let error = parse_fields(words).unwrap_err().to_string();
        assert!(error.starts_with(said), "{words}: {error}");
    }
}

#[test]
fn a_file_has_its_name_when_it_is_whole_and_what_is_dropped_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("flows.csv");
    let destination = Destination::Path(path.clone());
    let mut output = Output::open(&destination).unwrap();
    output.write_all(&vec![b'x'; 1 << 20]).unwrap();
    output.flush().unwrap();
    assert!(!path.exists() && names(place.path()).len() == 1);
    drop(output);
    assert_eq!(names(place.path()), [""; 0]);
    for text in ["first", "second"] {
        let mut output = Output::open(&destination).unwrap();
        output.write_all(text.as_bytes()).unwrap();
        let (complete, written) = output.complete(7).unwrap();
        assert_eq!(written, [Written { path: "flows.csv".into(), rows: 7, bytes: text.len() as u64 }]);
        assert_eq!(fs::read_to_string(&path).unwrap_or_default(), if text == "first" { "" } else { "first" });
        complete.place().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        assert_eq!(names(place.path()), ["flows.csv"]);
    }
}

#[test]
fn a_file_goes_before_what_it_tells_of_is_replaced() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("flows.csv.json");
    for text in ["first", "second"] {
        let mut staged = Staged::new(&path).unwrap();
        staged.write_all(text.as_bytes()).unwrap();
        staged.sync().unwrap();
        staged.clear().unwrap();
        assert!(!path.exists());
        staged.place().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    assert_eq!(names(place.path()), ["flows.csv.json"]);
}

#[test]
fn devices_directories_and_missing_places_are_refused_with_their_path() {
    let place = tempfile::tempdir().unwrap();
    for (path, said) in [
        (Path::new("/dev/null"), "/dev/null is no regular file; name a file, or"),
        (place.path(), "is a directory; name a file"),
        (&place.path().join("missing/flows.csv"), "No such file or directory"),
    ] {
        let error = Output::open(&Destination::Path(path.to_owned())).err().unwrap().to_string();
        assert!(error.contains(said), "{error}");
    }
    let full = Output::open(&Destination::Path("/dev/full".into()));
    assert!(full.is_err());
}

#[test]
fn a_full_disk_is_told_with_the_path() {
    let told = refused(std::io::Error::other(ExportError::file(Path::new("/data/x"))(std::io::Error::other("full"))));
    assert_eq!(told.to_string(), "/data/x: full");
}

#[test]
fn days_come_to_their_places_together_and_a_day_that_is_there_is_not_replaced() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("flows");
    let days = [day("2026-11-23"), day("2026-11-24")];
    // 2026-11-23T00:00:00+01:00 and three days.
    let window = window(1_795_388_400_000_000, 1_795_647_600_000_000, chrono_tz::Europe::Berlin);
    let fill = |directory: &mut Directory| {
        for day in days {
            directory.file(day, "part-0000.parquet").unwrap().0.write_all(b"rows").unwrap();
        }
    };
    let mut dropped = Directory::open(&root, &window).unwrap();
    fill(&mut dropped);
    drop(dropped);
    assert_eq!(names(&root), [""; 0]);
    let (mut first, mut second) = (Directory::open(&root, &window).unwrap(), Directory::open(&root, &window).unwrap());
    fill(&mut first);
    fs::create_dir_all(root.join("day=2026-11-24/someone's")).unwrap();
    let error = first.complete().unwrap().place().unwrap_err().to_string();
    assert!(error.contains("day=2026-11-24 is there already"), "{error}");
    fs::remove_dir_all(root.join("day=2026-11-24")).unwrap();
    assert!(!root.join("day=2026-11-23").exists(), "half of an export stayed");
    fill(&mut second);
    second.complete().unwrap().place().unwrap();
    assert_eq!(names(&root), ["day=2026-11-23", "day=2026-11-24"]);
    assert_eq!(names(&root.join("day=2026-11-24")), ["part-0000.parquet"]);
    assert!(matches!(Directory::open(&root, &window).err().unwrap(), ExportError::Exists { .. }));
    // The days before and after do not matter.
    let later = Window { from: window.from.plus(2 * crate::clock::DAY), ..window };
    drop(Directory::open(&root, &later).unwrap());
    assert_eq!(names(&root), ["day=2026-11-23", "day=2026-11-24"]);
}

#[test]
fn manifests_lie_beside_the_data_under_names_that_readers_of_directories_leave_out() {
    // 2026-11-23T00:00:00+01:00 and a day, and half an hour and a microsecond.
    let whole = window(1_795_388_400_000_000, 1_795_474_800_000_000, chrono_tz::Europe::Berlin);
    let ragged = window(1_795_390_200_000_001, 1_795_474_800_000_000, chrono_tz::Europe::Berlin);
    let path = |format, text: &str, window| manifest::path(format, &Destination::Path(text.into()), window);
    for (format, place, window, expected) in [
        (Format::Csv, "a/flows.csv", &whole, "a/flows.csv.json"),
        (Format::Csv, "flows", &whole, "flows.json"),
        (Format::Ndjson, "flows.json", &whole, "flows.json.json"),
        (Format::Parquet, "dir", &whole, "dir/_manifest_2026-11-23_2026-11-24.json"),
        (Format::Parquet, "dir", &ragged, "dir/_manifest_2026-11-23T003000.000001_2026-11-24.json"),
    ] {
        assert_eq!(path(format, place, window).unwrap(), Path::new(expected));
    }
    assert_eq!(manifest::path(Format::Csv, &Destination::Stdout, &whole), None);
}
