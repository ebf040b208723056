//! Moments as numbers: what comes after the earliest one, in the coarsest unit that is exact.
//!
//! Exporters tell times in seconds or milliseconds after some start, so that all moments of a column share their
//! remainder; without it a number is 10 or 20 bits shorter.

use super::error::Damage;

/// The units, by code, in microseconds.
const UNITS: [u64; 3] = [1, 1_000, 1_000_000];

/// Turns `moments`, at least one, into numbers in `room`. Returns the earliest moment and the unit's code.
pub(super) fn to_numbers(moments: &[i64], room: &mut Vec<u64>) -> (i64, u8) {
    let earliest = moments.iter().copied().min().unwrap_or_default();
    room.clear();
    // The difference of two i64 always fits u64, and wrapping subtraction gives it.
    room.extend(moments.iter().map(|moment| moment.wrapping_sub(earliest) as u64));
    let fits = |unit: u64| room.iter().all(|number| number.checked_rem(unit) == Some(0));
    let code = if !fits(1_000) {
        0
    } else if fits(1_000_000) {
        2
    } else {
        1
    };
    match code {
        1 => room.iter_mut().for_each(|number| *number /= 1_000),
        2 => room.iter_mut().for_each(|number| *number /= 1_000_000),
        _ => {}
    }
    (earliest, code)
}

/// Turns `numbers` back into `moments`.
pub(super) fn to_moments(numbers: &[u64], earliest: i64, code: u8, moments: &mut [i64]) -> Result<(), Damage> {
    let unit = UNITS.get(usize::from(code)).copied().ok_or(Damage::Header)?;
    for (moment, number) in moments.iter_mut().zip(numbers) {
        *moment = earliest.wrapping_add(number.wrapping_mul(unit) as i64);
    }
    Ok(())
}
