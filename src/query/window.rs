//! The words in which people ask for a stretch of time, and the moments they mean.
//!
//! A window is half open: `to` is the first moment after it. A date stands for its local midnight, so `from=2026-11-16`
//! with `to=2026-11-23` is the seven days from the 16th to the 22nd. `last=7d` are 7 times 24 hours; `week=2026-W47`
//! goes from local Monday to local Monday, 167 or 169 hours where clocks change. Where clocks skip a local time, the
//! first moment after the gap is meant; where a local time comes twice, the earlier one. This module reads no clock: it
//! is told the present.

use super::Window;
use crate::clock::{DAY, HOUR, SECOND, Timestamp};
use chrono::offset::LocalResult;
use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Weekday};
use chrono_tz::{GapInfo, TZ_VARIANTS, Tz};

/// A window as it is asked for. Nothing at all asks for the last 24 hours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WindowRequest {
    /// The first moment: RFC 3339, a local date, or a local date and time. Without an end, up to now.
    pub from: Option<String>,
    /// The first moment after, written like `from`.
    pub to: Option<String>,
    /// A length such as `7d`, `24h`, `90m` or `3600s`, ending at `to` or now.
    pub last: Option<String>,
    /// An ISO 8601 week such as `2026-W47`.
    pub week: Option<String>,
    /// An IANA zone in which local times are meant; the configured one if missing.
    pub zone: Option<String>,
}

/// Why a window cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// There is no such zone.
    #[error("there is no time zone `{text}`; did you mean `{nearest}`?")]
    Zone {
        /// What was asked for.
        text: String,
        /// The IANA name most like it.
        nearest: &'static str,
    },
    /// A moment that cannot be read.
    #[error(
        "{name} `{text}` is not a moment: write a date such as 2026-11-23, a local time such as 2026-11-23T08:00, or a \
         time with offset such as 2026-11-23T08:00:00+01:00"
    )]
    Moment {
        /// Which one: `from` or `to`.
        name: &'static str,
        /// What was asked for.
        text: String,
    },
    /// A length that cannot be read.
    #[error("last `{text}` is not a length of time: write a number from 1 and s, m, h, d or w, such as 7d or 90m")]
    Length {
        /// What was asked for.
        text: String,
    },
    /// A week that cannot be read or does not exist.
    #[error("`{text}` is not a week: write the ISO year and week such as 2026-W47; a year has 52 or 53 weeks")]
    Week {
        /// What was asked for.
        text: String,
    },
    /// Two ways of asking that exclude each other.
    #[error("{first} and {second} cannot both be given; ask with from and to, or with last, or with week")]
    Both {
        /// One of the two.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// An end without a beginning.
    #[error("to is given without a beginning; give from or last too")]
    NoBeginning,
    /// A window of no length.
    #[error("the window is empty: from {from} is not before to {to}; to is the first moment after the window")]
    Empty {
        /// Where it would begin, in its zone.
        from: String,
        /// Where it would end, in its zone.
        to: String,
    },
    /// A window outside the years that are served.
    #[error("the window reaches beyond the years 1970 to 9999")]
    Range,
}

/// The first moment after the year 9999, in UTC.
const END: Timestamp = Timestamp::from_micros(253_402_300_800 * SECOND);
/// The first moment of the year 1970, in UTC.
const BEGINNING: Timestamp = Timestamp::from_micros(0);

/// The window that `request` asks for at the moment `now`.
///
/// # Errors
/// [`WindowError`] says which part of the request cannot be read, or why the parts do not make a window.
pub fn resolve(request: &WindowRequest, default_zone: Tz, now: Timestamp) -> Result<Window, WindowError> {
    let zone = request.zone.as_deref().map_or(Ok(default_zone), zone)?;
    let both = |first, second| Err(WindowError::Both { first, second });
    let moment = |name, text: &Option<String>| text.as_deref().map(|text| moment(name, text, zone)).transpose();
    let (from, to) = match request {
        WindowRequest { week: Some(_), from: Some(_), .. } => return both("week", "from"),
        WindowRequest { week: Some(_), to: Some(_), .. } => return both("week", "to"),
        WindowRequest { week: Some(_), last: Some(_), .. } => return both("week", "last"),
        WindowRequest { last: Some(_), from: Some(_), .. } => return both("last", "from"),
        WindowRequest { week: Some(text), .. } => week(text, zone)?,
        WindowRequest { last: Some(text), to, .. } => {
            let to = moment("to", to)?.unwrap_or(now);
            (to.plus(length(text)?.saturating_neg()), to)
        }
        WindowRequest { from: None, to: Some(_), .. } => return Err(WindowError::NoBeginning),
        WindowRequest { from, to, .. } => {
            (moment("from", from)?.unwrap_or(now.plus(-DAY)), moment("to", to)?.unwrap_or(now))
        }
    };
    if from < BEGINNING || to > END {
        return Err(WindowError::Range);
    }
    if from >= to {
        let shown = |moment: Timestamp| moment.to_utc().with_timezone(&zone).to_rfc3339();
        return Err(WindowError::Empty { from: shown(from), to: shown(to) });
    }
    Ok(Window { from, to, zone })
}

/// The zone of an IANA name.
///
/// # Errors
/// [`WindowError::Zone`] names the one that is spelled most alike.
pub fn zone(text: &str) -> Result<Tz, WindowError> {
    text.parse().map_err(|_| {
        // Names of people are short; more than this is noise that need not be measured.
        let start: String = text.chars().take(64).collect::<String>().to_ascii_lowercase();
        let distance = |zone: &&Tz| strsim::damerau_levenshtein(&start, &zone.name().to_ascii_lowercase());
        let nearest = TZ_VARIANTS.iter().min_by_key(distance).map_or("UTC", |zone| zone.name());
        WindowError::Zone { text: text.chars().take(64).collect(), nearest }
    })
}

/// The first moment of `day` in `zone`: after the gap where clocks skip midnight, the first where it comes twice.
pub fn midnight(day: NaiveDate, zone: Tz) -> Timestamp {
    local(day.and_time(NaiveTime::MIN), zone)
}

/// The moment of a local time: the first one after a gap that it lies in, the earlier one of two.
pub fn local(time: NaiveDateTime, zone: Tz) -> Timestamp {
    match zone.from_local_datetime(&time) {
        LocalResult::Single(moment) | LocalResult::Ambiguous(moment, _) => moment.into(),
        LocalResult::None => {
            GapInfo::new(&time, &zone).and_then(|gap| gap.end).map_or_else(|| time.and_utc().into(), Timestamp::from)
        }
    }
}

fn moment(name: &'static str, text: &str, zone: Tz) -> Result<Timestamp, WindowError> {
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Ok(moment.into());
    }
    let times = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S%.f"];
    let time = times.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let date = || NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(|day| day.and_time(NaiveTime::MIN));
    time.or_else(date)
        .map(|time| local(time, zone))
        .ok_or_else(|| WindowError::Moment { name, text: text.chars().take(64).collect() })
}

/// A length of time in microseconds.
fn length(text: &str) -> Result<i64, WindowError> {
    let error = || WindowError::Length { text: text.chars().take(64).collect() };
    let unit = match text.bytes().last().ok_or_else(error)? {
        b's' => SECOND,
        b'm' => 60 * SECOND,
        b'h' => HOUR,
        b'd' => DAY,
        b'w' => 7 * DAY,
        _ => return Err(error()),
    };
    let digits = text.get(..text.len().saturating_sub(1)).unwrap_or_default();
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(error());
    }
    let number = digits.parse::<i64>().ok().filter(|number| *number > 0).ok_or_else(error)?;
    number.checked_mul(unit).ok_or(WindowError::Range)
}

/// The first moments of an ISO week and of the next one.
fn week(text: &str, zone: Tz) -> Result<(Timestamp, Timestamp), WindowError> {
    let monday = || -> Option<NaiveDate> {
        let (year, week) = text.split_once("-W").filter(|(year, week)| year.len() == 4 && week.len() == 2)?;
        let digits = year.bytes().chain(week.bytes()).all(|digit| digit.is_ascii_digit());
        if !digits {
            return None;
        }
        NaiveDate::from_isoywd_opt(year.parse().ok()?, week.parse().ok()?, Weekday::Mon)
    };
    let error = || WindowError::Week { text: text.chars().take(64).collect() };
    let first = monday().ok_or_else(error)?;
    let after = first.checked_add_days(Days::new(7)).ok_or_else(error)?;
    Ok((midnight(first, zone), midnight(after, zone)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23T12:00:00Z, a Monday.
    const NOW: Timestamp = Timestamp::from_micros(1_795_435_200 * SECOND);

    /// Reads `key=value` pairs as a request and answers with both ends in UTC.
    fn ask(words: &str, zone: &str) -> Result<String, WindowError> {
        let mut request = WindowRequest { zone: Some(zone.to_owned()), ..WindowRequest::default() };
        for word in words.split('&').filter(|word| !word.is_empty()) {
            let (key, value) = word.split_once('=').unwrap();
            let place = match key {
                "from" => &mut request.from,
                "to" => &mut request.to,
                "last" => &mut request.last,
                "week" => &mut request.week,
                _ => panic!("{key}"),
            };
            *place = Some(value.to_owned());
        }
        let window = resolve(&request, Tz::UTC, NOW)?;
        let shown = |moment: Timestamp| moment.to_utc().format("%Y-%m-%dT%H:%M:%SZ").to_string();
        Ok(format!("{} {}", shown(window.from), shown(window.to)))
    }

    #[test]
    fn every_way_of_asking_gives_its_moments() {
        for (words, zone, expected) in [
            ("", "UTC", "2026-11-22T12:00:00Z 2026-11-23T12:00:00Z"),
            ("last=7d", "UTC", "2026-11-16T12:00:00Z 2026-11-23T12:00:00Z"),
            ("last=90m", "UTC", "2026-11-23T10:30:00Z 2026-11-23T12:00:00Z"),
            ("last=3600s", "UTC", "2026-11-23T11:00:00Z 2026-11-23T12:00:00Z"),
            ("last=2w", "UTC", "2026-11-09T12:00:00Z 2026-11-23T12:00:00Z"),
            ("last=24h&to=2026-11-02", "Europe/Berlin", "2026-10-31T23:00:00Z 2026-11-01T23:00:00Z"),
            ("from=2026-11-23", "Europe/Berlin", "2026-11-22T23:00:00Z 2026-11-23T12:00:00Z"),
            ("from=2026-11-16&to=2026-11-23", "Europe/Berlin", "2026-11-15T23:00:00Z 2026-11-22T23:00:00Z"),
            (
                "from=2026-11-16T08:00&to=2026-11-16 08:00:30",
                "Europe/Berlin",
                "2026-11-16T07:00:00Z 2026-11-16T07:00:30Z",
            ),
            (
                "from=2026-11-16T08:00:00+05:45&to=2026-11-16T08:00:00Z",
                "UTC",
                "2026-11-16T02:15:00Z 2026-11-16T08:00:00Z",
            ),
            ("week=2026-W47", "Europe/Berlin", "2026-11-15T23:00:00Z 2026-11-22T23:00:00Z"),
            ("week=2026-W53", "UTC", "2026-12-28T00:00:00Z 2027-01-04T00:00:00Z"),
            // Offsets of 45 and 30 minutes; Lord Howe moves its clocks by half an hour.
            ("week=2026-W47", "Asia/Kathmandu", "2026-11-15T18:15:00Z 2026-11-22T18:15:00Z"),
            ("week=2026-W14", "Australia/Lord_Howe", "2026-03-29T13:00:00Z 2026-04-05T13:30:00Z"),
            ("from=2026-11-16&to=2026-11-17", "Pacific/Chatham", "2026-11-15T10:15:00Z 2026-11-16T10:15:00Z"),
            // Clocks skip midnight in Santiago on 2026-09-06, and a whole day in Apia on 2011-12-30.
            ("from=2026-09-06&to=2026-09-07", "America/Santiago", "2026-09-06T04:00:00Z 2026-09-07T03:00:00Z"),
            ("from=2011-12-29&to=2011-12-30", "Pacific/Apia", "2011-12-29T10:00:00Z 2011-12-30T10:00:00Z"),
            // Midnight comes twice in Havana on 2026-11-01: the earlier one.
            ("from=2026-11-01&to=2026-11-02", "America/Havana", "2026-11-01T04:00:00Z 2026-11-02T05:00:00Z"),
            // Local times in a gap and in a fold.
            ("from=2026-03-29T02:30&to=2026-03-29T04:00", "Europe/Berlin", "2026-03-29T01:00:00Z 2026-03-29T02:00:00Z"),
            ("from=2026-10-25T02:30&to=2026-10-25T03:00", "Europe/Berlin", "2026-10-25T00:30:00Z 2026-10-25T02:00:00Z"),
        ] {
            assert_eq!(ask(words, zone).as_deref(), Ok(expected), "{words} in {zone}");
        }
    }

    #[test]
    fn weeks_are_167_or_169_hours_long_where_clocks_change() {
        for (text, zone, hours, minutes) in [
            ("2026-W13", Tz::Europe__Berlin, 167, 0),
            ("2026-W43", Tz::Europe__Berlin, 169, 0),
            ("2026-W47", Tz::Europe__Berlin, 168, 0),
            ("2026-W10", Tz::America__New_York, 167, 0),
            ("2026-W44", Tz::America__New_York, 169, 0),
            // Three and a half hours behind, five and a half ahead, five and three quarters, twelve and three quarters.
            ("2026-W10", Tz::America__St_Johns, 167, 0),
            ("2026-W44", Tz::America__St_Johns, 169, 0),
            ("2026-W13", Tz::Asia__Kolkata, 168, 0),
            ("2026-W43", Tz::Asia__Kathmandu, 168, 0),
            ("2026-W14", Tz::Pacific__Chatham, 169, 0),
            ("2026-W39", Tz::Pacific__Chatham, 167, 0),
            // Clocks move by half an hour.
            ("2026-W14", Tz::Australia__Lord_Howe, 168, 30),
            ("2026-W40", Tz::Australia__Lord_Howe, 167, 30),
        ] {
            let (from, to) = week(text, zone).unwrap();
            assert_eq!(to.micros() - from.micros(), hours * HOUR + minutes * 60 * SECOND, "{text} in {zone}");
        }
    }

    #[test]
    fn days_and_weeks_begin_at_local_midnight_wherever_that_is_in_the_hour() {
        for (words, zone, expected) in [
            ("week=2026-W47", "Asia/Kolkata", "2026-11-15T18:30:00Z 2026-11-22T18:30:00Z"),
            ("from=2026-11-16&to=2026-11-17", "Asia/Kolkata", "2026-11-15T18:30:00Z 2026-11-16T18:30:00Z"),
            ("from=2026-11-16&to=2026-11-17", "Asia/Kathmandu", "2026-11-15T18:15:00Z 2026-11-16T18:15:00Z"),
            ("week=2026-W47", "America/St_Johns", "2026-11-16T03:30:00Z 2026-11-23T03:30:00Z"),
            // Days of 23 and 25 hours that begin and end at half past.
            ("from=2026-03-08&to=2026-03-09", "America/St_Johns", "2026-03-08T03:30:00Z 2026-03-09T02:30:00Z"),
            ("from=2026-11-01&to=2026-11-02", "America/St_Johns", "2026-11-01T02:30:00Z 2026-11-02T03:30:00Z"),
        ] {
            assert_eq!(ask(words, zone).as_deref(), Ok(expected), "{words} in {zone}");
        }
    }

    #[test]
    fn what_is_no_window_is_refused_with_a_reason() {
        for (words, reason) in [
            ("week=2026-W47&from=2026-11-16", "week and from cannot both"),
            ("week=2026-W47&to=2026-11-16", "week and to cannot both"),
            ("week=2026-W47&last=1d", "week and last cannot both"),
            ("last=1d&from=2026-11-16", "last and from cannot both"),
            ("to=2026-11-16", "to is given without"),
            ("from=2026-11-16&to=2026-11-16", "is not before to 2026-11-16T00:00:00+01:00"),
            ("from=2026-11-24", "is empty"),
            ("from=yesterday", "from `yesterday` is not a moment"),
            ("from=2026-11-16&to=2026-11-31", "to `2026-11-31` is not a moment"),
            ("from=2026-11-16T25:00", "is not a moment"),
            ("last=7", "last `7` is not"),
            ("last=0d", "last `0d` is not"),
            ("last=-1d", "last `-1d` is not"),
            ("last=+1d", "last `+1d` is not"),
            ("last=d", "last `d` is not"),
            ("last=ü", "last `ü` is not"),
            ("last=", "last `` is not"),
            ("last=100y", "is not a length"),
            ("last=9223372036854775807w", "years 1970 to 9999"),
            ("last=99999d", "years 1970 to 9999"),
            ("from=1969-12-31T23:59:59Z", "years 1970 to 9999"),
            ("from=2026-11-16&to=+10000-01-02", "years 1970 to 9999"),
            ("week=2025-W53", "is not a week"),
            ("week=2026-W7", "is not a week"),
            ("week=2026-47", "is not a week"),
            ("week=+026-W47", "is not a week"),
            ("week=9999-W52", "years 1970 to 9999"),
        ] {
            let error = ask(words, "Europe/Berlin").expect_err(words).to_string();
            assert!(error.contains(reason), "{words}: {error}");
        }
        let error = ask("", "europe/berln").unwrap_err().to_string();
        assert_eq!(error, "there is no time zone `europe/berln`; did you mean `Europe/Berlin`?");
    }
}
