//! When flows began and ended, from whatever the exporter sends, and whether that can be.
//!
//! All results are microseconds since 1970. Uptimes count modulo 2^32 milliseconds around the uptime in the header, so the
//! 49.7-day wrap is harmless. A moment further than a day before, or five minutes after, the receive time is replaced by
//! the receive time (a start never by more than a good end), and an end before its start by the start; each record
//! so treated counts once. Exporter clocks never choose where a flow is kept.

use super::elements::Moment;
use super::plan::{DurationStep, Plan, TimeStep};
use super::split::Records;
use crate::clock::{DAY, SECOND};

/// How far after the receive time a moment may lie.
const FUTURE: i64 = 300 * SECOND;
/// Seconds from the NTP epoch (1900) to 1970.
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// What moments of a datagram are relative to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Base {
    /// Receive time in microseconds since 1970.
    pub(super) received: i64,
    /// Export time of the header in microseconds since 1970.
    pub(super) export: i64,
    /// The exporter's uptime at export, in milliseconds modulo 2^32; `None` when unknown.
    pub(super) uptime: Option<u32>,
}

impl Base {
    /// How many milliseconds the exporter's clock is ahead of the collector's.
    pub(super) const fn clock_offset_ms(&self) -> i64 {
        self.export.saturating_sub(self.received).div_euclid(1_000)
    }

    /// The exporter's uptime at export, when it started `init` milliseconds after 1970.
    pub(super) const fn uptime_since(export: i64, init: u64) -> u32 {
        (export.div_euclid(1_000) as u64).wrapping_sub(init) as u32
    }
}

/// Starts and ends of the records of a set; the memory is used again.
#[derive(Debug, Default)]
pub(super) struct Times {
    /// Starts, empty when unknown.
    pub(super) first: Vec<i64>,
    /// Ends, empty when unknown.
    pub(super) last: Vec<i64>,
}

impl Times {
    /// Reads starts and ends of `records` and returns how many records had to be corrected.
    pub(super) fn read(&mut self, plan: &Plan, records: &Records<'_>, base: &Base) -> usize {
        moments(plan.first, plan.system_init, records, base, &mut self.first);
        moments(plan.last, plan.system_init, records, base, &mut self.last);
        if let Some(step) = plan.duration {
            match (self.first.is_empty(), self.last.is_empty()) {
                (false, true) => shift(&self.first, step, step.scale, records, &mut self.last),
                (true, false) => shift(&self.last, step, step.scale.saturating_neg(), records, &mut self.first),
                _ => {}
            }
        }
        self.correct(base.received)
    }

    fn correct(&mut self, received: i64) -> usize {
        let plausible = received.saturating_sub(DAY)..=received.saturating_add(FUTURE);
        let mut corrected = 0usize;
        if self.first.is_empty() || self.last.is_empty() {
            for moment in self.first.iter_mut().chain(&mut self.last) {
                if !plausible.contains(moment) {
                    *moment = received;
                    corrected = corrected.saturating_add(1);
                }
            }
            return corrected;
        }
        for (first, last) in self.first.iter_mut().zip(&mut self.last) {
            if plausible.contains(first) && plausible.contains(last) && first <= last {
                continue;
            }
            corrected = corrected.saturating_add(1);
            if !plausible.contains(last) {
                *last = received.max(if plausible.contains(first) { *first } else { received });
            }
            if !plausible.contains(first) {
                *first = received.min(*last);
            }
            *last = (*last).max(*first);
        }
        corrected
    }
}

/// Fills `out` with `convert` of the `W` bytes `offset` into each record.
fn fill<const W: usize>(records: &Records<'_>, offset: usize, out: &mut Vec<i64>, convert: impl Fn([u8; W]) -> i64) {
    let moments = records.at(offset).take(records.count);
    out.extend(moments.map(|bytes| bytes.first_chunk::<W>().map_or(0, |bytes| convert(*bytes))));
}

/// The moment `uptime`, when the exporter's uptime at `export` is `now`.
const fn around(export: i64, now: u32, uptime: u32) -> i64 {
    let distance = uptime.wrapping_sub(now).cast_signed() as i64;
    export.saturating_add(distance.saturating_mul(1_000))
}

/// Reads the moments of `step`; leaves `out` empty when they cannot be known.
fn moments(step: Option<TimeStep>, init: Option<usize>, records: &Records<'_>, base: &Base, out: &mut Vec<i64>) {
    out.clear();
    let Some(TimeStep { offset, moment }) = step else { return };
    let export = base.export;
    match moment {
        Moment::Seconds => {
            fill(records, offset, out, |bytes| i64::from(u32::from_be_bytes(bytes)).saturating_mul(SECOND));
        }
        Moment::Milliseconds => fill(records, offset, out, |bytes| i64::from_be_bytes(bytes).saturating_mul(1_000)),
        Moment::Ntp => fill(records, offset, out, |bytes| from_ntp(u64::from_be_bytes(bytes))),
        Moment::MicrosecondsBeforeExport => {
            fill(records, offset, out, |bytes| export.saturating_sub(u32::from_be_bytes(bytes).into()));
        }
        Moment::Uptime => {
            if let Some(init) = init {
                let starts = records.at(init);
                let uptimes = records.at(offset).zip(starts).take(records.count);
                out.extend(uptimes.map(|(uptime, start)| match (uptime.first_chunk(), start.first_chunk()) {
                    (Some(uptime), Some(start)) => {
                        let now = Base::uptime_since(export, u64::from_be_bytes(*start));
                        around(export, now, u32::from_be_bytes(*uptime))
                    }
                    _ => 0,
                }));
            } else if let Some(now) = base.uptime {
                fill(records, offset, out, |bytes| around(export, now, u32::from_be_bytes(bytes)));
            }
        }
    }
}

/// A 64-bit NTP moment. Seconds below 1970 belong to the era that begins in 2036.
const fn from_ntp(bits: u64) -> i64 {
    let (seconds, fraction) = (bits >> 32, bits & 0xffff_ffff);
    let unix = seconds.wrapping_sub(NTP_TO_UNIX) & 0xffff_ffff;
    let micros = fraction.saturating_mul(1_000_000) >> 32;
    unix.saturating_mul(1_000_000).saturating_add(micros).cast_signed()
}

/// Fills `out` with `from` moved by each record's duration times `scale` microseconds.
fn shift(from: &[i64], step: DurationStep, scale: i64, records: &Records<'_>, out: &mut Vec<i64>) {
    out.clear();
    out.extend(records.at(step.offset).zip(from).map(|(bytes, &moment)| {
        let bytes = bytes.get(..step.width).unwrap_or_default();
        let duration = bytes.iter().fold(0u64, |value, &byte| value.wrapping_shl(8) | u64::from(byte));
        moment.saturating_add(i64::try_from(duration).unwrap_or(i64::MAX).saturating_mul(scale))
    }));
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_392_000_000_000;

    #[test]
    fn uptimes_wrap_around_the_header() {
        // The grid of reliability: around 0 and 2^32, a flow 10 s before and 1 s after the export.
        for now in [0u32, 1, 9_999, 10_000, u32::MAX, u32::MAX - 5, 0x8000_0000] {
            assert_eq!(around(NOW, now, now.wrapping_sub(10_000)), NOW - 10 * SECOND);
            assert_eq!(around(NOW, now, now.wrapping_add(1_000)), NOW + SECOND);
            assert_eq!(around(NOW, now, now), NOW);
        }
        assert_eq!(Base::uptime_since(NOW, (NOW / 1_000) as u64 - 7), 7);
        assert_eq!(Base::uptime_since(NOW, (NOW / 1_000) as u64 - (1 << 32) - 7), 7);
    }

    #[test]
    fn ntp_moments_cross_2036() {
        assert_eq!(from_ntp((NTP_TO_UNIX + 1) << 32 | 0x8000_0000), 1_500_000);
        // 2036-02-07 06:28:16 UTC is second 0 of the next era.
        assert_eq!(from_ntp(0), 2_085_978_496_000_000);
    }

    #[test]
    fn implausible_moments_become_the_receive_time_and_a_good_one_survives_a_bad_one() {
        let (early, late) = (NOW - DAY - 1, NOW + FUTURE + 1);
        let cases = [
            ((NOW - 5, NOW - 1), (NOW - 5, NOW - 1), 0),
            ((NOW - DAY, NOW + FUTURE), (NOW - DAY, NOW + FUTURE), 0),
            ((NOW - 1, NOW - 5), (NOW - 1, NOW - 1), 1),
            ((early, NOW - 5), (NOW - 5, NOW - 5), 1),
            ((early, NOW + 5), (NOW, NOW + 5), 1),
            ((NOW - 5, late), (NOW - 5, NOW), 1),
            ((NOW + 5, late), (NOW + 5, NOW + 5), 1),
            ((0, i64::MAX), (NOW, NOW), 1),
        ];
        for ((first, last), expected, corrected) in cases {
            let mut times = Times { first: vec![first], last: vec![last] };
            assert_eq!(times.correct(NOW), corrected, "{first} {last}");
            assert_eq!((times.first[0], times.last[0]), expected, "{first} {last}");
        }
        let mut times = Times { first: Vec::new(), last: vec![early, NOW] };
        assert_eq!((times.correct(NOW), times.last), (1, vec![NOW, NOW]));
    }
}
