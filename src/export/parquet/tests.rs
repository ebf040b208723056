//! What is written is read back by the same crate's reader, which knows nothing of our writer.

use super::super::tests::{day, random_batch};
use super::*;
use crate::clock::Timestamp;
use crate::flow::value::Value;
use crate::query::Window;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record;

fn directory(path: &Path) -> Directory {
    let window = Window { from: Timestamp::from_micros(0), to: Timestamp::from_micros(1), zone: chrono_tz::UTC };
    Directory::open(path, &window).unwrap()
}

/// A value as the reader of rows gives it.
fn as_read(field: Field, value: Option<Value>) -> record::Field {
    match (value, field.kind()) {
        (None, _) => record::Field::Null,
        (Some(Value::Number(number)), Kind::U8) => record::Field::UByte(u8::try_from(number).unwrap()),
        (Some(Value::Number(number)), Kind::U16) => record::Field::UShort(u16::try_from(number).unwrap()),
        (Some(Value::Number(number)), Kind::U32) => record::Field::UInt(u32::try_from(number).unwrap()),
        (Some(Value::Number(number)), _) => record::Field::ULong(number),
        (Some(Value::Time(moment)), _) => record::Field::TimestampMicros(moment.micros()),
        (Some(text), _) => record::Field::Str(text.to_string()),
    }
}

#[test]
fn every_value_of_every_field_is_read_back_with_its_type() {
    let place = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::with_seed(6);
    let batch = random_batch(&mut random, 700);
    let rows: Vec<usize> = (0..700).filter(|_| random.u8(0..3) > 0).collect();
    let mut writer = ParquetWriter::new(directory(place.path()), &Field::ALL).unwrap();
    // Two segments, so that a row group has rows of several.
    for rows in [&rows[..100], &rows[100..]] {
        writer.take(&Flows { day: day("2026-11-23"), batch: &batch, rows }).unwrap();
    }
    let (complete, written) = writer.complete().unwrap();
    complete.place().unwrap();
    let path = place.path().join("day=2026-11-23/part-0000.parquet");
    let size = path.metadata().unwrap().len();
    let expected = Written { path: "day=2026-11-23/part-0000.parquet".into(), rows: rows.len() as u64, bytes: size };
    assert_eq!(written, [expected]);
    let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
    assert_eq!(reader.metadata().num_row_groups(), 1);
    let mut read = 0;
    for (found, row) in reader.get_row_iter(None).unwrap().zip(&rows) {
        let found: Vec<_> = found.unwrap().into_columns();
        let names: Vec<_> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, Field::ALL.map(Field::name));
        for (field, (_, value)) in Field::ALL.into_iter().zip(&found) {
            assert_eq!(*value, as_read(field, batch.value(field, *row)), "{} in row {row}", field.name());
        }
        read += 1;
    }
    assert_eq!(read, rows.len());
}

#[test]
fn a_day_begins_a_directory_and_a_file_ends_when_it_is_large() {
    let place = tempfile::tempdir().unwrap();
    let batch = random_batch(&mut fastrand::Rng::with_seed(7), 65_536);
    let rows: Vec<usize> = (0..batch.rows()).collect();
    let fields = [Field::Received, Field::InBytes];
    let mut writer = ParquetWriter::with_file_rows(directory(place.path()), &fields, 262_144).unwrap();
    for (text, segments) in [("2026-11-23", 9), ("2026-11-25", 1)] {
        for _ in 0..segments {
            writer.take(&Flows { day: day(text), batch: &batch, rows: &rows }).unwrap();
        }
    }
    let (complete, written) = writer.complete().unwrap();
    complete.place().unwrap();
    let told: Vec<_> = written.iter().map(|file| (file.path.display().to_string(), file.rows)).collect();
    assert_eq!(
        told,
        [
            ("day=2026-11-23/part-0000.parquet".to_owned(), 262_144),
            ("day=2026-11-23/part-0001.parquet".to_owned(), 262_144),
            ("day=2026-11-23/part-0002.parquet".to_owned(), 65_536),
            ("day=2026-11-25/part-0000.parquet".to_owned(), 65_536),
        ]
    );
    let path = place.path().join("day=2026-11-23/part-0000.parquet");
    let reader = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let groups: Vec<_> = reader.metadata().row_groups().iter().map(RowGroupMetaData::num_rows).collect();
    assert_eq!(groups, [131_072, 131_072]);
}

#[test]
fn types_are_those_that_readers_of_parquet_know() {
    let place = tempfile::tempdir().unwrap();
    let batch = random_batch(&mut fastrand::Rng::with_seed(8), 10);
    let fields = [Field::Received, Field::ExporterId, Field::SrcIp, Field::SrcPort, Field::Protocol, Field::InBytes];
    let mut writer = ParquetWriter::new(directory(place.path()), &fields).unwrap();
    writer.take(&Flows { day: day("2026-11-23"), batch: &batch, rows: &[0, 1, 2] }).unwrap();
    writer.complete().unwrap().0.place().unwrap();
    let file = File::open(place.path().join("day=2026-11-23/part-0000.parquet")).unwrap();
    let reader = SerializedFileReader::new(file).unwrap();
    let metadata = reader.metadata().file_metadata();
    let mut schema = Vec::new();
    parquet::schema::printer::print_schema(&mut schema, metadata.schema());
    assert_eq!(
        String::from_utf8(schema).unwrap(),
        "message flows {\n\
        \u{20} OPTIONAL INT64 received (TIMESTAMP(MICROS,true));\n\
        \u{20} OPTIONAL INT32 exporter_id (INTEGER(32,false));\n\
        \u{20} OPTIONAL BYTE_ARRAY src_ip (STRING);\n\
        \u{20} OPTIONAL INT32 src_port (INTEGER(16,false));\n\
        \u{20} OPTIONAL INT32 protocol (INTEGER(8,false));\n\
        \u{20} OPTIONAL INT64 in_bytes (INTEGER(64,false));\n\
        }\n"
    );
    assert_eq!(metadata.created_by(), Some(concat!("flowledger version ", env!("CARGO_PKG_VERSION"))));
}
