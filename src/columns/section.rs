//! Sections: a known count of numbers as bytes, in the form and width that suit them.
//!
//! The form is chosen by counting how often the number changes, which is one pass without branches: never is a constant,
//! rarely is runs, and the rest is packed by pco. Packing always uses pco's classic mode: what it would try on its own
//! (multiples, dictionaries, lookback) costs more time than it saves bytes on flows; see benches/columns.rs.

use super::error::Damage;
use super::input::{Input, put_varint};
use pco::data_types::Number;
use pco::wrapped::{FileCompressor, FileDecompressor};
use pco::{ChunkConfig, DecompressorScratch, DeltaSpec, ModeSpec, PagingSpec};

/// Runs are worth their two sections when a number stands this many times on average.
const RUN_LENGTH: usize = 8;
/// Numbers widened at a time: a multiple of pco's 256 that stays in the first cache.
const WIDEN: usize = 2_048;

const CONSTANT: u8 = 0;
const PACKED: u8 = 1;
const RUNS: u8 = 2;

/// A number that a section can hold.
pub(super) trait Word: Number + Copy + Default + PartialEq + Ord {
    /// The code of its width.
    const WIDTH: u8;
    /// The same number in 64 bits.
    fn wide(self) -> u64;
    /// The lower bits of a number.
    fn cut(wide: u64) -> Self;
}

macro_rules! word {
    ($($type:ty, $width:literal;)+) => {$(
        impl Word for $type {
            const WIDTH: u8 = $width;
            fn wide(self) -> u64 { self.into() }
            fn cut(wide: u64) -> Self { wide as Self }
        }
    )+};
}
word! { u8, 0; u16, 1; u32, 2; u64, 3; }

/// The memory and settings for writing sections.
#[derive(Debug)]
pub(super) struct SectionWriter {
    config: ChunkConfig,
    narrow: (Vec<u8>, Vec<u16>, Vec<u32>),
    packed: Vec<u8>,
}

impl SectionWriter {
    /// A writer at pco's compression `level`, 0 to 12.
    pub(super) fn new(level: usize) -> Self {
        let config = ChunkConfig::default()
            .with_compression_level(level.min(12))
            .with_mode_spec(ModeSpec::Classic)
            .with_delta_spec(DeltaSpec::NoOp)
            .with_enable_8_bit(true);
        Self { config, narrow: Default::default(), packed: Vec::new() }
    }

    /// Writes `values`, at least one, as the section form that suits them.
    pub(super) fn write<T: Word>(&mut self, out: &mut Vec<u8>, values: &[T]) -> Result<(), Damage> {
        let changes = count_changes(values);
        if changes == 0 {
            self.constant(out, values.first().copied().unwrap_or_default().wide());
            return Ok(());
        }
        let runs = changes.saturating_add(1);
        if runs.saturating_mul(RUN_LENGTH) > values.len() {
            return self.packed(out, values, DeltaSpec::NoOp);
        }
        let (mut numbers, mut lengths) = (Vec::with_capacity(runs), Vec::with_capacity(runs));
        for run in values.chunk_by(T::eq) {
            numbers.extend(run.first().copied());
            lengths.push(run.len() as u32);
        }
        out.push(RUNS << 2);
        put_varint(out, runs);
        // Numbers that stay for a while and then move are mostly moments and counters: they climb in small steps.
        let climbs = numbers.is_sorted();
        let delta = if climbs { DeltaSpec::TryConsecutive(1) } else { DeltaSpec::NoOp };
        self.flat(out, &numbers, delta)?;
        self.flat(out, &lengths, DeltaSpec::NoOp)
    }

    /// Writes `values` as a constant or packed.
    fn flat<T: Word>(&mut self, out: &mut Vec<u8>, values: &[T], delta: DeltaSpec) -> Result<(), Damage> {
        if count_changes(values) == 0 {
            self.constant(out, values.first().copied().unwrap_or_default().wide());
            return Ok(());
        }
        self.packed(out, values, delta)
    }

    fn constant(&self, out: &mut Vec<u8>, value: u64) {
        let width = width_of(value);
        out.push(CONSTANT << 2 | width);
        out.extend(value.to_le_bytes().iter().take(1 << width));
    }

    fn packed<T: Word>(&mut self, out: &mut Vec<u8>, values: &[T], delta: DeltaSpec) -> Result<(), Damage> {
        let most = values.iter().copied().max().unwrap_or_default().wide();
        let (mut bytes, mut shorts, mut ints) = std::mem::take(&mut self.narrow);
        let result = match width_of(most) {
            width if width >= T::WIDTH => self.pack(out, values, delta),
            0 => self.pack(out, narrowed(&mut bytes, values), delta),
            1 => self.pack(out, narrowed(&mut shorts, values), delta),
            _ => self.pack(out, narrowed(&mut ints, values), delta),
        };
        self.narrow = (bytes, shorts, ints);
        result
    }

    fn pack<T: Word>(&mut self, out: &mut Vec<u8>, values: &[T], delta: DeltaSpec) -> Result<(), Damage> {
        let config =
            self.config.clone().with_delta_spec(delta).with_paging_spec(PagingSpec::EqualPagesUpTo(values.len()));
        self.packed.clear();
        let file = FileCompressor::default();
        file.write_header(&mut self.packed)?;
        let mut chunk = file.chunk_compressor(values, &config)?;
        chunk.write_meta(&mut self.packed)?;
        chunk.write_page(0, &mut self.packed)?;
        out.push(PACKED << 2 | T::WIDTH);
        put_varint(out, self.packed.len());
        out.extend_from_slice(&self.packed);
        Ok(())
    }
}

/// The code of the narrowest width that holds `value`.
fn width_of(value: u64) -> u8 {
    match value {
        0..=0xff => 0,
        0x100..=0xffff => 1,
        0x1_0000..=0xffff_ffff => 2,
        _ => 3,
    }
}

fn narrowed<'a, N: Word, T: Word>(room: &'a mut Vec<N>, values: &[T]) -> &'a [N] {
    room.clear();
    room.extend(values.iter().map(|value| N::cut(value.wide())));
    room
}

fn count_changes<T: Word>(values: &[T]) -> usize {
    let next = values.get(1..).unwrap_or_default();
    values.iter().zip(next).filter(|(one, other)| one != other).count()
}

/// The memory for reading sections.
#[derive(Default)]
pub(super) struct SectionReader {
    scratch: DecompressorScratch,
    /// Lengths of runs.
    lengths: Vec<u32>,
}

impl std::fmt::Debug for SectionReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SectionReader").finish_non_exhaustive()
    }
}

impl SectionReader {
    /// Fills `room` from the section at the front of `input`.
    pub(super) fn read<T: Word>(&mut self, input: &mut Input<'_>, room: &mut [T]) -> Result<(), Damage> {
        if input.0.first() != Some(&(RUNS << 2)) {
            return self.flat(input, room);
        }
        input.byte()?;
        let runs = input.varint()?;
        if runs == 0 || runs > room.len() {
            return Err(Damage::Count);
        }
        let mut numbers = vec![T::default(); runs];
        self.flat(input, &mut numbers)?;
        let mut lengths = std::mem::take(&mut self.lengths);
        lengths.clear();
        lengths.resize(runs, 0);
        let read = self.flat(input, &mut lengths);
        let mut rest = room;
        for (&number, &length) in numbers.iter().zip(&lengths) {
            let (run, after) = rest.split_at_mut_checked(length as usize).ok_or(Damage::Count)?;
            run.fill(number);
            rest = after;
        }
        let complete = rest.is_empty();
        self.lengths = lengths;
        read.and(if complete { Ok(()) } else { Err(Damage::Count) })
    }

    /// Reads a section that is not runs.
    fn flat<T: Word>(&mut self, input: &mut Input<'_>, room: &mut [T]) -> Result<(), Damage> {
        let tag = input.byte()?;
        let width = tag & 3;
        if width > T::WIDTH {
            return Err(Damage::Width);
        }
        match tag >> 2 {
            CONSTANT => {
                let mut bytes = [0; 8];
                let taken = input.take(1 << width)?;
                bytes.iter_mut().zip(taken).for_each(|(to, from)| *to = *from);
                room.fill(T::cut(u64::from_le_bytes(bytes)));
                Ok(())
            }
            PACKED => {
                let length = input.varint()?;
                let packed = input.take(length)?;
                match width {
                    width if width == T::WIDTH => self.unpack(packed, room),
                    0 => self.widen::<u8, T>(packed, room),
                    1 => self.widen::<u16, T>(packed, room),
                    _ => self.widen::<u32, T>(packed, room),
                }
            }
            _ => Err(Damage::Header),
        }
    }

    fn unpack<T: Word>(&mut self, packed: &[u8], room: &mut [T]) -> Result<(), Damage> {
        let (file, rest) = FileDecompressor::new(packed)?;
        let (chunk, rest) = file.chunk_decompressor::<T, _>(rest)?;
        let mut page = chunk.page_decompressor_with_scratch(rest, room.len(), &mut self.scratch)?;
        page.read(room)?;
        Input(page.into_src()).end()
    }

    fn widen<N: Word, T: Word>(&mut self, packed: &[u8], room: &mut [T]) -> Result<(), Damage> {
        let (file, rest) = FileDecompressor::new(packed)?;
        let (chunk, rest) = file.chunk_decompressor::<N, _>(rest)?;
        let mut page = chunk.page_decompressor_with_scratch(rest, room.len(), &mut self.scratch)?;
        let mut narrow = [N::default(); WIDEN];
        for part in room.chunks_mut(WIDEN) {
            page.read(&mut narrow)?;
            part.iter_mut().zip(&narrow).for_each(|(to, from)| *to = T::cut(from.wide()));
        }
        Input(page.into_src()).end()
    }
}
