//! Applications as exporters classified them (RFC 6759): a byte for the classification engine, then a selector of any length.
//!
//! Both become one number, the engine times 2^24 plus the selector, which is what the usual four bytes are already; those
//! are copied like any number and do not come here. A selector that needs more than 24 bits has no such number.

use super::plan::Octets;
use super::split::Records;
use crate::flow::batch::FlowBatch;
use crate::flow::fields::Field;

/// The engine whose selector stands behind an enterprise number of four bytes, which is no part of it (RFC 6759, 4.2).
const OF_ENTERPRISE: u8 = 20;

/// The number of an application; `None` when there is none, or none for it.
pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    let (&engine, rest) = bytes.split_first()?;
    let selector = if engine == OF_ENTERPRISE { rest.get(4..).unwrap_or(rest) } else { rest };
    let (upper, lower) = selector.split_at_checked(selector.len().saturating_sub(3))?;
    let fits = upper.iter().all(|&byte| byte == 0);
    let selector = lower.iter().fold(0, |value, &byte| value << 8 | u64::from(byte));
    fits.then_some(u64::from(engine) << 24 | selector)
}

/// Writes the applications of `records` into rows `first` and on, and returns how many have no number. `removed` has those
/// of variable length.
pub(super) fn write(
    octets: Octets,
    records: &Records<'_>,
    removed: &[&[u8]],
    batch: &mut FlowBatch,
    first: usize,
) -> usize {
    let mut unfit = 0usize;
    let column = batch.column_mut(Field::ApplicationId);
    for index in 0..records.count {
        let bytes = records.octets(octets, removed, index);
        match number(bytes) {
            Some(number) => column.u64_run(first.saturating_add(index), 1).fill(number),
            None => unfit = unfit.saturating_add(usize::from(!bytes.is_empty())),
        }
    }
    unfit
}
