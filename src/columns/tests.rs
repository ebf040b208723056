//! Round trips of random columns, sizes of what repeats, and what happens to bytes that were changed or made up.

use super::{Decoder, Encoder, HEADER_BYTES, checksum, decode};
use crate::clock::{HOUR, Timestamp};
use crate::columns::input::Input;
use crate::columns::{ColumnsError, error::Damage};
use crate::flow::batch::{AddressRun, Column, FlowBatch, Values};
use crate::flow::fields::{Field, Kind};
use crate::flow::segment::{MAX_SEGMENT_FLOWS, Segment};
use crate::flow::value::{wide_from_address, wide_from_v4};
use fastrand::Rng;
use proptest::prelude::*;
use std::ops::Range;

const START: i64 = 1_795_392_000_000_000;

/// How the values of a column come about; each makes another form or width of section.
#[derive(Clone, Copy, Debug)]
enum Pattern {
    Constant,
    Few,
    Small,
    Stepping,
    Any,
}

const PATTERNS: [Pattern; 5] = [Pattern::Constant, Pattern::Few, Pattern::Small, Pattern::Stepping, Pattern::Any];

fn number(random: &mut Rng, pattern: Pattern, row: usize, base: u64) -> u64 {
    match pattern {
        Pattern::Constant => base,
        Pattern::Few => [base, 1, 17, u64::MAX][random.usize(..4)],
        Pattern::Small => random.u64(..200),
        Pattern::Stepping => base.wrapping_add(row as u64 / 25 * 1_000),
        Pattern::Any => random.u64(..) >> random.u32(..64),
    }
}

/// Writes `pattern` into `rows` of the field's column.
fn write(batch: &mut FlowBatch, field: Field, rows: Range<usize>, random: &mut Rng, pattern: Pattern, base: u64) {
    let (first, count) = (rows.start, rows.len());
    let column = batch.column_mut(field);
    macro_rules! fill {
        ($room:expr, $type:ty) => {
            for (room, row) in $room.iter_mut().zip(rows) {
                *room = number(random, pattern, row, base) as $type;
            }
        };
    }
    match field.kind() {
        Kind::U8 => fill!(column.u8_run(first, count), u8),
        Kind::U16 => fill!(column.u16_run(first, count), u16),
        Kind::U32 => fill!(column.u32_run(first, count), u32),
        Kind::U64 | Kind::Mac => fill!(column.u64_run(first, count), u64),
        Kind::Time if field == Field::Received => {
            for (room, row) in column.time_run(first, count).iter_mut().zip(rows) {
                *room = START + row as i64 / 20 * 777;
            }
        }
        Kind::Time => fill!(column.time_run(first, count), i64),
        Kind::Address if random.bool() => match column.v4_run(first, count) {
            AddressRun::V4(room) => fill!(room, u32),
            AddressRun::Wide(room) => {
                for (room, row) in room.iter_mut().zip(rows) {
                    *room = wide_from_v4(number(random, pattern, row, base) as u32);
                }
            }
        },
        Kind::Address => {
            for (room, row) in column.wide_run(first, count).iter_mut().zip(rows) {
                let number = number(random, pattern, row, base);
                *room = match random.u8(..3) {
                    0 => wide_from_v4(number as u32),
                    _ => 0x2001_0db8_u128 << 96 | u128::from(number),
                };
            }
        }
    }
}

/// A batch of every field in some runs of rows, from a seed.
fn batch(seed: u64, rows: usize) -> FlowBatch {
    let mut random = Rng::with_seed(seed);
    let mut batch = FlowBatch::default();
    batch.add_rows(rows);
    for field in Field::ALL {
        let pattern = PATTERNS[random.usize(..PATTERNS.len())];
        let base = random.u64(..) >> random.u32(..64);
        let longest = [1, 3, 40, rows][random.usize(..4)].max(1);
        let mut row = 0;
        while row < rows {
            let run = row..(row + 1 + random.usize(..longest)).min(rows);
            row = run.end;
            if field == Field::Received || random.u8(..4) > 0 {
                write(&mut batch, field, run, &mut random, pattern, base);
            }
        }
        if field != Field::Received && random.u8(..4) == 0 {
            batch.column_mut(field).clear();
        }
    }
    batch
}

/// The segment as a batch.
fn decoded(segment: &Segment, decoder: &mut Decoder) -> FlowBatch {
    let mut batch = FlowBatch::default();
    let rows = batch.add_rows(segment.rows as usize) + segment.rows as usize;
    for (field, block) in &segment.columns {
        decoder.decode_into(*field, block, rows, batch.column_mut(*field)).unwrap();
    }
    batch
}

fn assert_same(segment: &Segment, original: &FlowBatch, rows: Range<usize>) {
    let back = decoded(segment, &mut Decoder::default());
    assert_eq!(back.rows(), rows.len());
    for field in Field::ALL {
        for row in 0..rows.len() {
            assert_eq!(back.value(field, row), original.value(field, rows.start + row), "{} {row}", field.name());
        }
    }
    assert_eq!(segment.totals, original.totals(rows.clone()));
    assert_eq!(segment.totals, back.totals(0..rows.len()));
    let received: Vec<i64> = rows.map(|row| original.column(Field::Received).bits(row).unwrap() as i64).collect();
    assert_eq!(segment.received_first.micros(), *received.iter().min().unwrap());
    assert_eq!(segment.received_last.micros(), *received.iter().max().unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_goes_in_comes_out(seed in any::<u64>(), rows in 1usize..1_500, cut in any::<(u16, u16)>(), level in 0usize..9) {
        let original = batch(seed, rows);
        let start = usize::from(cut.0) % rows;
        let end = start + 1 + usize::from(cut.1) % (rows - start);
        let mut encoder = Encoder::new(level);
        for range in [0..rows, start..end] {
            assert_same(&encoder.encode(&original, range.clone()).unwrap(), &original, range);
        }
    }

    /// The checksum is made right again, so that what lies behind it meets the damage.
    #[test]
    fn damage_behind_a_right_checksum_ends_in_an_error_or_in_numbers(seed in any::<u64>(), rows in 1usize..700) {
        let segment = Encoder::new((seed % 5) as usize).encode(&batch(seed, rows), 0..rows).unwrap();
        let mut random = Rng::with_seed(seed);
        let mut decoder = Decoder::default();
        for (field, block) in &segment.columns {
            for _ in 0..40 {
                let mut block = block.clone();
                for _ in 0..random.usize(1..4) {
                    let byte = random.usize(1..block.len());
                    block[byte] = [random.u8(..), 0, 0xff, block[byte] ^ 1 << random.u8(..8)][random.usize(..4)];
                }
                if random.u8(..4) == 0 {
                    block.truncate(random.usize(HEADER_BYTES..=block.len()));
                }
                let sum = checksum(field.kind(), rows as u32, block[0], block[1], &block[HEADER_BYTES..]);
                block[2..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
                let mut column = Column::new(field.kind());
                if decoder.decode_into(*field, &block, rows, &mut column).is_ok() {
                    prop_assert!(column.present().runs().last().is_some_and(|run| run.end <= rows));
                } else {
                    prop_assert!(column.present().is_empty());
                }
            }
        }
    }

    #[test]
    fn random_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), rows in 0usize..70_000, kind in 0usize..36) {
        let field = Field::ALL[kind];
        prop_assert!(decode(field, &bytes, rows).is_err());
        for shape in [0, 1, 2, 4] {
            let mut column = Column::new(field.kind());
            let rows = rows.clamp(1, MAX_SEGMENT_FLOWS);
            let _ = Decoder::default().body(field.kind(), shape, Input(&bytes), rows, &mut column);
        }
    }
}

#[test]
fn every_changed_byte_and_every_cut_is_found() {
    let segment = Encoder::new(0).encode(&batch(3, 300), 0..300).unwrap();
    for (field, block) in &segment.columns {
        for byte in 0..block.len() {
            let mut changed = block.clone();
            changed[byte] ^= 1 << (byte % 8);
            assert!(decode(*field, &changed, 300).is_err(), "{} byte {byte}", field.name());
            assert!(decode(*field, &block[..byte], 300).is_err(), "{} cut at {byte}", field.name());
        }
        assert!(decode(*field, &[block.as_slice(), &[0]].concat(), 300).is_err());
        assert!(decode(*field, block, 299).is_err(), "another count of rows");
        let other = if field.kind() == Kind::U8 { Field::SrcPort } else { Field::Protocol };
        assert!(decode(other, block, 300).is_err(), "another kind");
    }
}

#[test]
fn a_version_of_the_future_is_told_apart_from_damage() {
    let mut segment = Encoder::new(0).encode(&batch(3, 10), 0..10).unwrap();
    let (field, block) = &mut segment.columns[0];
    block[0] = 2;
    assert!(matches!(decode(*field, block, 10), Err(ColumnsError::Version { version: 2, .. })));
}

#[test]
fn constants_are_nearly_free_and_absent_fields_cost_nothing() {
    let rows = MAX_SEGMENT_FLOWS;
    let mut batch = FlowBatch::default();
    batch.add_rows(rows);
    batch.column_mut(Field::Received).time_run(0, rows).fill(START);
    batch.column_mut(Field::ExporterId).u32_run(0, rows).fill(7);
    batch.column_mut(Field::NextHop).wide_run(0, rows).fill(wide_from_address("2001:db8::1".parse().unwrap()));
    let segment = Encoder::new(0).encode(&batch, 0..rows).unwrap();
    let fields: Vec<Field> = segment.columns.iter().map(|(field, _)| *field).collect();
    assert_eq!(fields, [Field::Received, Field::ExporterId, Field::NextHop]);
    for (field, block) in &segment.columns {
        assert!(block.len() <= 32, "{}: {}", field.name(), block.len());
    }
}

#[test]
fn flows_of_one_datagram_share_their_receive_time_at_a_hundredth_of_its_size() {
    let rows = 50_000;
    let mut batch = FlowBatch::default();
    batch.add_rows(rows);
    let mut random = Rng::with_seed(1);
    let mut now = START;
    for datagram in batch.column_mut(Field::Received).time_run(0, rows).chunks_mut(25) {
        now += random.i64(1..60);
        datagram.fill(now);
    }
    let segment = Encoder::new(0).encode(&batch, 0..rows).unwrap();
    assert!(segment.columns[0].1.len() * 100 < rows * 8, "{}", segment.columns[0].1.len());
    assert_same(&segment, &batch, 0..rows);
}

#[test]
fn times_are_exact_at_the_ends_of_their_range_and_in_every_unit() {
    let moments: [&[i64]; 5] = [
        &[i64::MIN, i64::MAX, 0, -1],
        &[START, START + 1, START + 2, START + 9],
        &[START + 7, START + 1_007, START + 5_007, START + 2_007],
        &[START + 7, START + 3_000_007, START + 1_000_007, START + 7],
        &[-1_000, 0, -5_000, 3_000],
    ];
    for moments in moments {
        let mut batch = FlowBatch::default();
        batch.add_rows(4);
        batch.column_mut(Field::Received).time_run(0, 4).fill(START);
        batch.column_mut(Field::FirstSeen).time_run(0, 4).copy_from_slice(moments);
        let segment = Encoder::new(0).encode(&batch, 0..4).unwrap();
        let column = decode(Field::FirstSeen, &segment.columns[1].1, 4).unwrap();
        assert_eq!(column.values(), &Values::Time(moments.to_vec()));
    }
}

#[test]
fn what_cannot_be_a_segment_is_refused() {
    let mut encoder = Encoder::new(0);
    let mut two = FlowBatch::default();
    two.add_rows(2);
    assert!(matches!(encoder.encode(&two, 0..2), Err(ColumnsError::NotReceived)));
    two.column_mut(Field::Received).time_run(0, 1).fill(START);
    assert!(matches!(encoder.encode(&two, 0..2), Err(ColumnsError::NotReceived)));
    two.column_mut(Field::Received).time_run(1, 1).fill(START + HOUR);
    let Err(ColumnsError::SeveralHours { first, last }) = encoder.encode(&two, 0..2) else { panic!("one segment") };
    assert_eq!((first, last), (Timestamp::from_micros(START), Timestamp::from_micros(START + HOUR)));
    encoder.encode(&two, 0..1).unwrap();
    for rows in [0..0, 1..3, 2..2] {
        assert!(matches!(encoder.encode(&two, rows), Err(ColumnsError::Rows { .. })));
    }
    let mut large = FlowBatch::default();
    large.add_rows(MAX_SEGMENT_FLOWS + 1);
    large.column_mut(Field::Received).time_run(0, MAX_SEGMENT_FLOWS + 1).fill(START);
    assert!(matches!(encoder.encode(&large, 0..MAX_SEGMENT_FLOWS + 1), Err(ColumnsError::Rows { .. })));
    encoder.encode(&large, 1..MAX_SEGMENT_FLOWS + 1).unwrap();
}

#[test]
fn lengths_made_up_of_large_numbers_end_in_an_error() {
    // A section of 2^28 runs in a segment of four rows, and a packed part that claims more bytes than there are.
    for body in [[0b1000, 0xff, 0xff, 0xff, 0x7f, 0].as_slice(), &[0b0101, 0xff, 0xff, 0xff, 0xff, 0x0f, 4, 1]] {
        let mut column = Column::new(Kind::U16);
        let result = Decoder::default().body(Kind::U16, 0, Input(body), 4, &mut column);
        assert!(matches!(result, Err(Damage::Count | Damage::Short)), "{result:?}");
    }
}
