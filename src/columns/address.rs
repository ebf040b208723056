//! Addresses of both families in one column: apart in the block, together in memory.
//!
//! An IPv4 address next to IPv6 ones still costs 32 bits, and the upper halves of IPv6 addresses, which are few networks,
//! do not mix with the lower ones.

use super::error::Damage;
use super::input::Input;
use super::presence;
use super::section::{SectionReader, SectionWriter};
use crate::flow::value::{v4_from_wide, wide_from_v4};
use std::ops::Range;

/// The memory in which addresses are taken apart and put together.
#[derive(Debug, Default)]
pub(super) struct Parts {
    v4: Vec<u32>,
    upper: Vec<u64>,
    lower: Vec<u64>,
    runs: Vec<Range<usize>>,
}

impl Parts {
    /// Takes `addresses` apart. Returns whether any of them is IPv6.
    pub(super) fn split(&mut self, addresses: &[u128]) -> bool {
        self.v4.clear();
        self.upper.clear();
        self.lower.clear();
        self.runs.clear();
        for (row, &address) in addresses.iter().enumerate() {
            if let Some(v4) = v4_from_wide(address) {
                self.v4.push(v4);
                continue;
            }
            self.upper.push((address >> 64) as u64);
            self.lower.push(address as u64);
            let end = row.saturating_add(1);
            match self.runs.last_mut() {
                Some(run) if run.end == row => run.end = end,
                _ => self.runs.push(row..end),
            }
        }
        !self.upper.is_empty()
    }

    /// The IPv4 addresses of the last split.
    pub(super) fn v4(&self) -> &[u32] {
        &self.v4
    }

    /// Writes the parts of the last split, which found an IPv6 address.
    pub(super) fn write(&self, out: &mut Vec<u8>, sections: &mut SectionWriter) -> Result<(), Damage> {
        presence::write(out, sections, &self.runs)?;
        if !self.v4.is_empty() {
            sections.write(out, &self.v4)?;
        }
        sections.write(out, &self.upper)?;
        sections.write(out, &self.lower)
    }

    /// Reads parts and puts them together in `room`.
    pub(super) fn read(
        &mut self,
        input: &mut Input<'_>,
        sections: &mut SectionReader,
        room: &mut [u128],
    ) -> Result<(), Damage> {
        let wide = presence::read(input, sections, room.len())?;
        let wide_count = wide.count();
        self.v4.clear();
        self.v4.resize(room.len().saturating_sub(wide_count), 0);
        self.upper.clear();
        self.upper.resize(wide_count, 0);
        self.lower.clear();
        self.lower.resize(wide_count, 0);
        if !self.v4.is_empty() {
            sections.read(input, &mut self.v4)?;
        }
        sections.read(input, &mut self.upper)?;
        sections.read(input, &mut self.lower)?;
        let mut narrow = self.v4.iter();
        let mut halves = self.upper.iter().zip(&self.lower);
        let mut done = 0usize;
        for run in wide.runs() {
            let between = room.get_mut(done..run.start).unwrap_or_default();
            between.iter_mut().zip(&mut narrow).for_each(|(to, &v4)| *to = wide_from_v4(v4));
            let within = room.get_mut(run.clone()).unwrap_or_default();
            for (to, (&upper, &lower)) in within.iter_mut().zip(&mut halves) {
                *to = u128::from(upper) << 64 | u128::from(lower);
            }
            done = run.end;
        }
        let rest = room.get_mut(done..).unwrap_or_default();
        rest.iter_mut().zip(narrow).for_each(|(to, &v4)| *to = wide_from_v4(v4));
        Ok(())
    }
}
