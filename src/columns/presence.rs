//! Which rows have something, as runs: a count, the gaps before the runs and their lengths.

use super::error::Damage;
use super::input::{Input, put_varint};
use super::section::{SectionReader, SectionWriter};
use crate::flow::batch::Presence;
use std::ops::Range;

/// Writes ascending `runs`, at least one.
pub(super) fn write(out: &mut Vec<u8>, sections: &mut SectionWriter, runs: &[Range<usize>]) -> Result<(), Damage> {
    let mut end = 0usize;
    let mut gaps = Vec::with_capacity(runs.len());
    let mut lengths = Vec::with_capacity(runs.len());
    for run in runs {
        gaps.push(run.start.saturating_sub(end) as u32);
        lengths.push(run.len() as u32);
        end = run.end;
    }
    put_varint(out, runs.len());
    sections.write(out, &gaps)?;
    sections.write(out, &lengths)
}

/// Reads runs within `rows` rows; at least one row is in them.
pub(super) fn read(input: &mut Input<'_>, sections: &mut SectionReader, rows: usize) -> Result<Presence, Damage> {
    let runs = input.varint()?;
    if runs == 0 || runs > rows {
        return Err(Damage::Count);
    }
    let (mut gaps, mut lengths) = (vec![0u32; runs], vec![0u32; runs]);
    sections.read(input, &mut gaps)?;
    sections.read(input, &mut lengths)?;
    let mut presence = Presence::default();
    let mut end = 0usize;
    for (&gap, &length) in gaps.iter().zip(&lengths) {
        let start = end.saturating_add(gap as usize);
        end = start.saturating_add(length as usize);
        if length == 0 || end > rows || (gap == 0 && start > 0) {
            return Err(Damage::Count);
        }
        presence.add(start..end);
    }
    Ok(presence)
}
