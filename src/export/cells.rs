//! Values of a column as text, row by row.
//!
//! A [`Cells`] walks a column downwards. Numbers are decimal, addresses and MACs in their usual notation, moments RFC 3339
//! in the zone asked for: the same text as in answers and reports, which a test holds. None of it can look like a formula to
//! a spreadsheet, since no field holds text of an exporter's choice.

use crate::clock::{SECOND, Timestamp};
use crate::flow::batch::{Addresses, Column, Cursor, Values};
use crate::flow::fields::{Field, Kind};
use crate::flow::value::{Value, address_from_wide};
use chrono::{Datelike, FixedOffset, Offset, SecondsFormat, TimeZone, Timelike};
use chrono_tz::Tz;
use std::io::Write;
use std::net::Ipv4Addr;

/// A column on its way into rows.
pub(super) struct Cells<'a> {
    values: &'a Values,
    is_mac: bool,
    cursor: Cursor<'a>,
}

impl<'a> Cells<'a> {
    /// The cells of `column`, which holds `field`.
    pub(super) fn new(field: Field, column: &'a Column) -> Self {
        Self { values: column.values(), is_mac: field.kind() == Kind::Mac, cursor: column.present().cursor() }
    }

    /// Replaces what is in `cell` by the value of `row`; nothing when it has none. Rows must come in ascending order.
    pub(super) fn write(&mut self, row: usize, moments: &mut Moments, cell: &mut Vec<u8>) {
        cell.clear();
        if !self.cursor.holds(row) {
            return;
        }
        match self.values {
            Values::U8(values) => number(values.get(row), cell),
            Values::U16(values) => number(values.get(row), cell),
            Values::U32(values) => number(values.get(row), cell),
            Values::U64(values) if self.is_mac => text(values.get(row).map(|mac| Value::Mac(*mac)), cell),
            Values::U64(values) => number(values.get(row), cell),
            Values::Time(values) => values.get(row).into_iter().for_each(|at| moments.write(*at, cell)),
            Values::Address(Addresses::V4(values)) => {
                text(values.get(row).map(|address| Ipv4Addr::from_bits(*address)), cell);
            }
            Values::Address(Addresses::Wide(values)) => {
                text(values.get(row).map(|address| address_from_wide(*address)), cell);
            }
        }
    }
}

/// Writes a number, which is what most cells are.
fn number<T: Copy + Into<u64>>(value: Option<&T>, cell: &mut Vec<u8>) {
    let Some(value) = value else { return };
    let (mut rest, first) = ((*value).into(), cell.len());
    loop {
        cell.push(b'0' | (rest % 10) as u8);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    cell.get_mut(first..).unwrap_or_default().reverse();
}

fn text(value: Option<impl std::fmt::Display>, cell: &mut Vec<u8>) {
    if let Some(value) = value {
        // Memory takes everything.
        let _ = write!(cell, "{value}");
    }
}

/// Writes moments as RFC 3339 in a zone, with a fraction only where there is one. Zones are looked up once for each
/// quarter of an hour, within which their offsets do not change.
pub(super) struct Moments {
    zone: Tz,
    quarter: i64,
    offset: FixedOffset,
}

/// A quarter of an hour in microseconds.
const QUARTER: i64 = 900 * SECOND;

impl Moments {
    pub(super) fn new(zone: Tz) -> Self {
        let mut moments = Self { zone, quarter: 0, offset: chrono::Utc.fix() };
        moments.offset = moments.offset_at(0);
        moments
    }

    fn offset_at(&self, micros: i64) -> FixedOffset {
        self.zone.offset_from_utc_datetime(&Timestamp::from_micros(micros).to_utc().naive_utc()).fix()
    }

    /// Writes the moment that is `micros` microseconds after 1970 UTC.
    pub(super) fn write(&mut self, micros: i64, cell: &mut Vec<u8>) {
        let utc = Timestamp::from_micros(micros).to_utc();
        // Beyond these years RFC 3339 has no form, and zones no offset.
        if !(1..=9_998).contains(&utc.year()) {
            return text(Some(utc.to_rfc3339_opts(SecondsFormat::AutoSi, true)), cell);
        }
        let quarter = micros.div_euclid(QUARTER);
        if quarter != self.quarter {
            (self.quarter, self.offset) = (quarter, self.offset_at(micros));
        }
        let moment = utc.with_timezone(&self.offset);
        let seconds = self.offset.local_minus_utc();
        digits(moment.year().unsigned_abs(), 4, cell);
        for (separator, part) in [
            (b'-', moment.month()),
            (b'-', moment.day()),
            (b'T', moment.hour()),
            (b':', moment.minute()),
            (b':', moment.second()),
        ] {
            cell.push(separator);
            digits(part, 2, cell);
        }
        match moment.timestamp_subsec_micros() {
            0 => {}
            whole if whole % 1_000 == 0 => {
                cell.push(b'.');
                digits(whole / 1_000, 3, cell);
            }
            micros => {
                cell.push(b'.');
                digits(micros, 6, cell);
            }
        }
        if seconds == 0 {
            cell.push(b'Z');
            return;
        }
        cell.push(if seconds < 0 { b'-' } else { b'+' });
        digits(seconds.unsigned_abs() / 3_600, 2, cell);
        cell.push(b':');
        digits(seconds.unsigned_abs() / 60 % 60, 2, cell);
    }
}

/// The lowest `count` digits of `number`.
fn digits(number: u32, count: usize, cell: &mut Vec<u8>) {
    let (mut rest, first) = (number, cell.len());
    for _ in 0..count {
        cell.push(b'0' | (rest % 10) as u8);
        rest /= 10;
    }
    cell.get_mut(first..).unwrap_or_default().reverse();
}
