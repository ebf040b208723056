//! A filter run over columns: one bit a row, 64 rows a word.
//!
//! Every test comes down to ranges of unsigned values, so one loop serves numbers, lists and networks. It compares 64
//! values at a time into bytes and packs those into a word, which the compiler turns into vector instructions; what a
//! column does not have is masked by its runs. Bits beyond the last row are never set.

use super::tree::{Comparison, Expression, FlagTest, NumberTest, sides};
use crate::clock::Timestamp;
use crate::flow::batch::{Addresses, Column, FlowBatch, Presence, Values};
use crate::flow::fields::{Dimension, Field};
use crate::flow::value::wide_from_v4;
use ipnetwork::IpNetwork;
use std::ops::{Range, RangeInclusive};

/// How many rows a word holds.
const WORD: usize = 64;

/// Which rows of a batch are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    rows: usize,
    words: Vec<u64>,
}

/// The bits of word number `index` that lie in `rows`.
fn mask_of(rows: &Range<usize>, index: usize) -> u64 {
    let first = index.saturating_mul(WORD);
    let (start, end) = (rows.start.saturating_sub(first), rows.end.saturating_sub(first));
    let below = |bit: usize| {
        u32::try_from(bit).ok().and_then(|bit| 1u64.checked_shl(bit)).map_or(u64::MAX, |bit| bit.wrapping_sub(1))
    };
    below(end) & !below(start)
}

impl Selection {
    /// All of `rows` rows.
    pub fn all(rows: usize) -> Self {
        let mut selection = Self::default();
        selection.fill(rows);
        selection
    }

    /// Selects none of `rows` rows, keeping the memory.
    pub fn clear(&mut self, rows: usize) {
        self.rows = rows;
        self.words.clear();
        self.words.resize(rows.div_ceil(WORD), 0);
    }

    /// Selects all of `rows` rows, keeping the memory.
    pub fn fill(&mut self, rows: usize) {
        self.rows = rows;
        self.words.clear();
        self.words.resize(rows.div_ceil(WORD), u64::MAX);
        self.trim();
    }

    /// Clears the bits beyond the last row.
    fn trim(&mut self) {
        let (rows, last) = (0..self.rows, self.words.len().saturating_sub(1));
        if let Some(word) = self.words.last_mut() {
            *word &= mask_of(&rows, last);
        }
    }

    /// How many rows the batch has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The bits: row `r` is bit `r % 64` of word `r / 64`.
    pub fn words(&self) -> &[u64] {
        &self.words
    }

    /// How many rows are selected.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no row is selected.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Whether every row is selected.
    pub fn is_all(&self) -> bool {
        self.count() == self.rows
    }

    /// Whether `row` is selected.
    pub fn contains(&self, row: usize) -> bool {
        self.words.get(row / WORD).is_some_and(|word| word >> (row % WORD) & 1 == 1)
    }

    /// The selected rows, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let first = index.saturating_mul(WORD);
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = rest.trailing_zeros();
                let more = rest != 0;
                rest &= rest.wrapping_sub(1);
                more.then_some(first | bit as usize)
            })
        })
    }

    /// Keeps the rows that `other`, of the same batch, selects too.
    pub fn and(&mut self, other: &Self) {
        for (index, word) in self.words.iter_mut().enumerate() {
            *word &= other.words.get(index).copied().unwrap_or_default();
        }
    }

    /// Adds the rows that `other`, of the same batch, selects.
    pub fn or(&mut self, other: &Self) {
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
        self.trim();
    }

    /// Selects the rows that were not selected.
    pub fn not(&mut self) {
        for word in &mut self.words {
            *word = !*word;
        }
        self.trim();
    }

    /// Keeps the selected rows that lie in `rows`.
    pub fn limit_rows(&mut self, rows: &Range<usize>) {
        for (index, word) in self.words.iter_mut().enumerate() {
            *word &= mask_of(rows, index);
        }
    }

    /// Keeps the selected rows whose moment in `column` lies from `from` up to but not including `to`.
    pub fn limit_times(&mut self, column: &Column, from: Timestamp, to: Timestamp) {
        let mut within = Self::default();
        within.clear(self.rows);
        if let Values::Time(times) = column.values() {
            let (from, to) = (from.micros(), to.micros());
            within.mark(times, column.present(), |time| from <= time && time < to);
        }
        self.and(&within);
    }

    /// Adds the rows that have a value which passes `test`.
    fn mark<T: Copy>(&mut self, values: &[T], present: &Presence, test: impl Fn(T) -> bool) {
        let values = values.get(..self.rows).unwrap_or(values);
        let (whole, rest) = values.as_chunks::<WORD>();
        let mut runs = present.runs();
        let mut present_bits = move |index: usize| {
            let (first, end) = (index.saturating_mul(WORD), index.saturating_add(1).saturating_mul(WORD));
            let mut bits = 0;
            while let [run, later @ ..] = runs {
                if run.start >= end {
                    break;
                }
                if run.end > first {
                    bits |= mask_of(run, index);
                }
                if run.end > end {
                    break;
                }
                runs = later;
            }
            bits
        };
        for (index, (word, chunk)) in self.words.iter_mut().zip(whole).enumerate() {
            let bits = present_bits(index);
            if bits != 0 {
                *word |= bits & pack(&chunk.map(|value| u8::from(test(value))));
            }
        }
        if let Some(word) = self.words.get_mut(whole.len()) {
            let mut bytes = [0; WORD];
            for (byte, value) in bytes.iter_mut().zip(rest) {
                *byte = u8::from(test(*value));
            }
            *word |= present_bits(whole.len()) & pack(&bytes);
        }
    }
}

/// Sixty-four bytes of 0 or 1 as bits, the first byte lowest.
fn pack(bytes: &[u8; WORD]) -> u64 {
    let (eights, _) = bytes.as_chunks::<8>();
    let mut word = 0;
    for eight in eights.iter().rev() {
        // The product gathers the lowest bit of each byte in its highest byte, the first one lowest.
        let gathered = u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
        word = word << 8 | gathered;
    }
    word
}

/// More ranges than this are searched row by row; up to this many, a vectorised pass for each is faster.
const FEW_RANGES: usize = 12;

macro_rules! mark_ranges {
    ($selection:expr, $values:expr, $present:expr, $type:ty, $ranges:expr) => {{
        // Ranges that begin beyond the type hold none of its values; an end beyond it is its maximum.
        let ranges: Vec<($type, $type)> = $ranges
            .iter()
            .filter_map(|range| {
                let start = <$type>::try_from(*range.start()).ok()?;
                (!range.is_empty()).then(|| (start, <$type>::try_from(*range.end()).unwrap_or(<$type>::MAX)))
            })
            .collect();
        if ranges.len() <= FEW_RANGES {
            for (start, end) in ranges {
                let width = end.wrapping_sub(start);
                $selection.mark($values, $present, |value| value.wrapping_sub(start) <= width);
            }
        } else {
            $selection.mark($values, $present, |value| {
                let after = ranges.partition_point(|(start, _)| *start <= value);
                after.checked_sub(1).and_then(|last| ranges.get(last)).is_some_and(|(_, end)| value <= *end)
            });
        }
    }};
}

/// Adds the rows of a numeric column whose value lies in one of `ranges`, which ascend and do not overlap.
fn mark_numbers(selection: &mut Selection, column: &Column, ranges: &[RangeInclusive<u64>]) {
    let present = column.present();
    match column.values() {
        Values::U8(values) => mark_ranges!(selection, values, present, u8, ranges),
        Values::U16(values) => mark_ranges!(selection, values, present, u16, ranges),
        Values::U32(values) => mark_ranges!(selection, values, present, u32, ranges),
        Values::U64(values) => mark_ranges!(selection, values, present, u64, ranges),
        Values::Time(_) | Values::Address(_) => {}
    }
}

/// Networks as ascending ranges that do not overlap, for columns of either width.
#[derive(Default)]
struct AddressRanges {
    narrow: Vec<RangeInclusive<u32>>,
    wide: Vec<RangeInclusive<u128>>,
}

const FIRST_MAPPED: u128 = wide_from_v4(0);
const LAST_MAPPED: u128 = wide_from_v4(u32::MAX);

impl AddressRanges {
    fn of(networks: &[IpNetwork]) -> Self {
        let mut ranges = Self::default();
        for network in networks {
            match network {
                IpNetwork::V4(v4) => {
                    let (first, last) = (v4.network().to_bits(), v4.broadcast().to_bits());
                    ranges.narrow.push(first..=last);
                    ranges.wide.push(wide_from_v4(first)..=wide_from_v4(last));
                }
                IpNetwork::V6(v6) => ranges.add_v6(v6.network().to_bits(), v6.broadcast().to_bits()),
            }
        }
        merge(&mut ranges.narrow);
        merge(&mut ranges.wide);
        ranges
    }

    /// The addresses from `first` to `last` that are not IPv4-mapped.
    fn add_v6(&mut self, first: u128, last: u128) {
        let below = first..=last.min(FIRST_MAPPED.saturating_sub(1));
        let above = first.max(LAST_MAPPED.saturating_add(1))..=last;
        self.wide.extend([below, above].into_iter().filter(|range| !range.is_empty()));
    }

    fn mark(&self, selection: &mut Selection, column: &Column) {
        match column.values() {
            Values::Address(Addresses::V4(values)) => {
                mark_ranges!(selection, values, column.present(), u32, self.narrow);
            }
            Values::Address(Addresses::Wide(values)) => {
                mark_ranges!(selection, values, column.present(), u128, self.wide);
            }
            _ => {}
        }
    }
}

/// Sorts ranges and joins those that overlap.
fn merge<T: Copy + Ord>(ranges: &mut Vec<RangeInclusive<T>>) {
    ranges.sort_unstable_by_key(|range| *range.start());
    ranges.dedup_by(|later, earlier| {
        let overlap = later.start() <= earlier.end();
        if overlap {
            *earlier = *earlier.start()..=*earlier.end().max(later.end());
        }
        overlap
    });
}

impl Comparison {
    /// The numbers that pass, if any can.
    fn range(self, number: u64) -> Option<RangeInclusive<u64>> {
        Some(match self {
            Self::Equal => number..=number,
            Self::Greater => number.checked_add(1)?..=u64::MAX,
            Self::Less => 0..=number.checked_sub(1)?,
            Self::AtLeast => number..=u64::MAX,
            Self::AtMost => 0..=number,
        })
    }
}

impl NumberTest {
    fn ranges(&self) -> Vec<RangeInclusive<u64>> {
        match self {
            Self::Compare(comparison, number) => comparison.range(*number).into_iter().collect(),
            Self::In(numbers) => {
                let mut ranges = numbers.iter().map(|number| *number..=*number).collect();
                merge(&mut ranges);
                ranges
            }
        }
    }
}

/// The protocol that flags belong to.
const TCP: u64 = 6;

impl Expression {
    /// Sets `selection` to the rows of `batch` that the filter selects. Reads the columns of [`Expression::fields`] only.
    pub fn select(&self, batch: &FlowBatch, selection: &mut Selection) {
        selection.clear(batch.rows());
        let columns = |of: Dimension| sides(of).map(|field| batch.column(field));
        match self {
            Self::Any => selection.fill(batch.rows()),
            Self::Not(inner) => {
                inner.select(batch, selection);
                selection.not();
            }
            Self::And(parts) => {
                selection.fill(batch.rows());
                let mut part_selection = Selection::default();
                for part in parts {
                    if selection.is_empty() {
                        return;
                    }
                    part.select(batch, &mut part_selection);
                    selection.and(&part_selection);
                }
            }
            Self::Or(parts) => {
                let mut part_selection = Selection::default();
                for part in parts {
                    part.select(batch, &mut part_selection);
                    selection.or(&part_selection);
                }
            }
            Self::Address { of, networks } => {
                let ranges = AddressRanges::of(networks);
                columns(*of).for_each(|column| ranges.mark(selection, column));
            }
            Self::Number { of, test } => {
                let ranges = test.ranges();
                columns(*of).for_each(|column| mark_numbers(selection, column, &ranges));
            }
            Self::Flags(test) => {
                select_flags(*test, batch.column(Field::TcpFlags), selection);
                let mut tcp = Selection::default();
                tcp.clear(batch.rows());
                mark_numbers(&mut tcp, batch.column(Field::Protocol), &[TCP..=TCP]);
                selection.and(&tcp);
            }
            Self::Ipv4 | Self::Ipv6 => {
                let mut ranges = AddressRanges::default();
                if *self == Self::Ipv4 {
                    ranges.narrow.push(0..=u32::MAX);
                    ranges.wide.push(FIRST_MAPPED..=LAST_MAPPED);
                } else {
                    ranges.add_v6(0, u128::MAX);
                }
                ranges.mark(selection, batch.column(Field::SrcIp));
                ranges.mark(selection, batch.column(Field::DstIp));
            }
        }
    }
}

fn select_flags(test: FlagTest, column: &Column, selection: &mut Selection) {
    match (test, column.values()) {
        (FlagTest::All(bits), Values::U16(values)) => {
            selection.mark(values, column.present(), |flags| flags & bits == bits);
        }
        (FlagTest::Compare(comparison, number), _) => {
            mark_numbers(selection, column, comparison.range(number.into()).as_slice());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_count_iterate_combine_and_never_reach_beyond_the_last_row() {
        for rows in [0, 1, 63, 64, 65, 130] {
            let mut selection = Selection::all(rows);
            assert_eq!((selection.count(), selection.is_all()), (rows, true));
            assert_eq!(selection.iter().collect::<Vec<_>>(), (0..rows).collect::<Vec<_>>());
            selection.not();
            assert!(selection.is_empty() && selection.iter().next().is_none());
        }
        let mut selection = Selection::all(130);
        selection.limit_rows(&(60..129));
        assert_eq!(selection.iter().collect::<Vec<_>>(), (60..129).collect::<Vec<_>>());
        assert!(
            selection.contains(60) && !selection.contains(59) && !selection.contains(129) && !selection.contains(9_999)
        );
        let mut other = Selection::all(130);
        other.limit_rows(&(0..64));
        selection.and(&other);
        assert_eq!(selection.count(), 4);
        selection.not();
        selection.or(&other);
        assert!(selection.is_all());
        selection.limit_rows(&(200..300));
        assert!(selection.is_empty());
    }

    #[test]
    fn times_are_limited_to_the_half_open_window() {
        let mut batch = FlowBatch::default();
        let first = batch.add_rows(100);
        for (row, time) in batch.column_mut(Field::Received).time_run(first, 90).iter_mut().enumerate() {
            *time = row as i64 - 10;
        }
        let mut selection = Selection::all(100);
        selection.limit_times(batch.column(Field::Received), Timestamp::from_micros(-5), Timestamp::from_micros(70));
        assert_eq!(selection.iter().collect::<Vec<_>>(), (5..80).collect::<Vec<_>>());
    }

    #[test]
    fn runs_that_begin_and_end_anywhere_mask_the_rows_between() {
        let mut batch = FlowBatch::default();
        batch.add_rows(300);
        let runs = [1..2, 5..60, 63..64, 70..128, 130..200, 256..299];
        for run in runs.clone() {
            batch.column_mut(Field::SrcPort).u16_run(run.start, run.len()).fill(80);
        }
        let mut selection = Selection::default();
        selection.clear(300);
        mark_numbers(&mut selection, batch.column(Field::SrcPort), &[0..=80]);
        assert_eq!(selection.iter().collect::<Vec<_>>(), runs.into_iter().flatten().collect::<Vec<_>>());
    }
}
