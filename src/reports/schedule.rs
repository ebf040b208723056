//! When a report is due, and which day, week or month it then tells of.
//!
//! A [`Schedule`] is a cron expression read in a time zone; a [`Span`] is one calendar day, ISO week or month. Both follow
//! the zone's clock through daylight saving time: a week then has 167 or 169 hours, a report due at 02:30 comes once in the
//! night that has two of them, and right after the gap in the night that has none. This module is arithmetic: it reads no
//! clock, and it does not know what has been run already unless it is told.

use super::error::ReportError;
use crate::clock::{SECOND, Timestamp};
use crate::query::Window;
use crate::query::window::{local, midnight};
use chrono::offset::LocalResult;
use chrono::{DateTime, Datelike, Days, Months, NaiveDate, TimeDelta, TimeZone, Weekday};
use chrono_tz::Tz;
use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use std::fmt;

/// How far back missed periods are looked for: a bit more than a year of days. Older ones leave no trace.
const MOST_MISSED: usize = 400;

/// What length of time a report tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// A calendar day, midnight to midnight.
    Day,
    /// An ISO 8601 week, Monday to Monday.
    Week,
    /// A calendar month.
    Month,
}

impl Period {
    /// The period as a noun.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    /// The period that `previous day`, `previous week` or `previous month` names.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let (first, noun, rest) = (words.next()?, words.next()?, words.next());
        let known = [Self::Day, Self::Week, Self::Month].into_iter().find(|period| period.name() == noun)?;
        (first == "previous" && rest.is_none()).then_some(known)
    }

    /// The last whole span of this length that ended at or before `moment` in `zone`.
    pub fn previous(self, moment: Timestamp, zone: Tz) -> Span {
        let today = moment.to_utc().with_timezone(&zone).date_naive();
        let inside = self.starting_at_or_before(today).pred_opt().unwrap_or(today);
        Span { period: self, first: self.starting_at_or_before(inside) }
    }

    /// The first day of the span that `day` lies in.
    fn starting_at_or_before(self, day: NaiveDate) -> NaiveDate {
        match self {
            Self::Day => day,
            Self::Week => day.week(Weekday::Mon).checked_first_day().unwrap_or(day),
            Self::Month => day.with_day(1).unwrap_or(day),
        }
    }

    /// How one span of this length is written.
    const fn example(self) -> &'static str {
        match self {
            Self::Day => "2026-11-23",
            Self::Week => "2026-W47",
            Self::Month => "2026-11",
        }
    }
}

/// One calendar day, ISO week or month. It is written `2026-11-23`, `2026-W47` or `2026-11`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    period: Period,
    first: NaiveDate,
}

impl Span {
    /// Reads a span of the given length.
    ///
    /// # Errors
    /// [`ReportError::Span`] when the text is not written as [`Span`] says or there is no such day, week or month.
    pub fn parse(period: Period, text: &str) -> Result<Self, ReportError> {
        let first = match period {
            Period::Day => NaiveDate::parse_from_str(text, "%Y-%m-%d").ok(),
            Period::Week => text.split_once("-W").and_then(|(year, week)| {
                NaiveDate::from_isoywd_opt(year.parse().ok()?, week.parse().ok()?, Weekday::Mon)
            }),
            Period::Month => text
                .split_once('-')
                .and_then(|(year, month)| NaiveDate::from_ymd_opt(year.parse().ok()?, month.parse().ok()?, 1)),
        };
        let span = first.map(|first| Self { period, first });
        // Writing it again refuses what the number parsers are lenient about, such as "+2026-W7".
        span.filter(|span| span.to_string() == text).ok_or_else(|| ReportError::Span {
            text: text.to_owned(),
            period: period.name(),
            example: period.example(),
        })
    }

    /// The stretch of time this span is in `zone`: from its first midnight up to the midnight after its last day.
    pub fn window(self, zone: Tz) -> Window {
        let after = match self.period {
            Period::Day => self.first.checked_add_days(Days::new(1)),
            Period::Week => self.first.checked_add_days(Days::new(7)),
            Period::Month => self.first.checked_add_months(Months::new(1)),
        };
        Window { from: midnight(self.first, zone), to: midnight(after.unwrap_or(self.first), zone), zone }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pattern = match self.period {
            Period::Day => "%Y-%m-%d",
            Period::Week => "%G-W%V",
            Period::Month => "%Y-%m",
        };
        write!(formatter, "{}", self.first.format(pattern))
    }
}

/// The moments at which a report is due: a cron expression read in a time zone.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    zone: Tz,
}

/// A period that a report is due for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// When the schedule asked for it.
    pub at: Timestamp,
    /// The day, week or month.
    pub span: Span,
    /// The span's bounds in the schedule's zone.
    pub window: Window,
}

impl Schedule {
    /// Reads a cron expression of five fields (minute, hour, day of month, month, day of week), or of six with the second
    /// in front. Where day of month and day of week are both given, either is enough, as in Vixie cron.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the expression.
    pub fn parse(text: &str, zone: Tz) -> Result<Self, String> {
        let example = "write five fields, such as \"0 1 * * MON\" for Mondays at 01:00";
        let fields = text.split_ascii_whitespace().count();
        if !(5..=6).contains(&fields) {
            return Err(format!("\"{text}\" has {fields} fields: {example}"));
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let cron =
            parser.parse(text).map_err(|error| format!("\"{text}\" is no cron expression ({error}): {example}"))?;
        let schedule = Self { cron, zone };
        // 30 February parses, but a report that never comes is surely not what was meant.
        match schedule.last_due(Timestamp::from_micros(0).plus(50 * 366 * crate::clock::DAY)) {
            Some(_) => Ok(schedule),
            None => Err(format!("\"{text}\" names a moment that never comes: {example}")),
        }
    }

    /// The zone in which the schedule is read.
    pub const fn zone(&self) -> Tz {
        self.zone
    }

    /// The last moment at or before `now` at which a report was due.
    pub fn last_due(&self, now: Timestamp) -> Option<Timestamp> {
        let time =
            DateTime::from_timestamp(now.micros().div_euclid(SECOND), 0)?.with_timezone(&self.zone).naive_local();
        // In an hour that comes twice, local times up to its end have been before.
        let repeated = match self.zone.from_local_datetime(&time) {
            LocalResult::Ambiguous(earlier, later) => later.signed_duration_since(earlier),
            _ => TimeDelta::zero(),
        };
        let mut latest = time.checked_add_signed(repeated)?;
        loop {
            // Looked for on a clock that never changes: for a time in a gap, croner's step back ends before the gap, which
            // at midnight is the day before.
            let found = self.cron.find_previous_occurrence(&latest.and_utc(), true).ok()?.naive_utc();
            let moment = local(found, self.zone);
            if moment <= now {
                return Some(moment);
            }
            latest = found.checked_sub_signed(TimeDelta::seconds(1))?;
        }
    }

    /// The periods that are due at `now` and not yet on record, oldest first. `recorded` is the end of the last period on
    /// record; a report without any is new, and only the last period is due.
    pub fn due(&self, period: Period, now: Timestamp, recorded: Option<Timestamp>) -> Vec<Due> {
        let mut found = Vec::new();
        let mut moment = now;
        while found.len() < MOST_MISSED {
            let Some(at) = self.last_due(moment) else { break };
            let span = period.previous(at, self.zone);
            let window = span.window(self.zone);
            if recorded.is_some_and(|recorded| window.to <= recorded) {
                break;
            }
            found.push(Due { at, span, window });
            if recorded.is_none() {
                break;
            }
            // Every due moment from this window's end on tells of this window or of a later one.
            moment = window.to.plus(-1);
        }
        found.reverse();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{DAY, HOUR};
    use chrono_tz::Europe::Berlin;
    use chrono_tz::UTC;
    use std::ops::Range;

    fn at(text: &str) -> Timestamp {
        DateTime::parse_from_rfc3339(text).unwrap().into()
    }

    fn names(due: &[Due]) -> Vec<String> {
        due.iter().map(|due| due.span.to_string()).collect()
    }

    /// The spans that are told when somebody looks every minute, after the one that ended at `recorded`.
    fn told(schedule: &Schedule, period: Period, time: Range<Timestamp>, recorded: Timestamp) -> Vec<String> {
        let (mut told, mut recorded, mut now) = (Vec::new(), recorded, time.start);
        while now < time.end {
            let due = schedule.due(period, now, Some(recorded));
            assert!(due.iter().all(|due| due.at <= now && due.window.to <= due.at), "{due:?}");
            told.extend(names(&due));
            recorded = due.last().map_or(recorded, |due| due.window.to);
            now = now.plus(60 * SECOND);
        }
        told
    }

    #[test]
    fn the_previous_span_is_the_last_whole_one() {
        for (moment, day, week, month) in [
            ("2026-11-23T00:00:00+01:00", "2026-11-22", "2026-W47", "2026-10"),
            ("2026-11-22T23:59:59+01:00", "2026-11-21", "2026-W46", "2026-10"),
            ("2027-01-01T01:00:00+01:00", "2026-12-31", "2026-W52", "2026-12"),
            ("2027-01-04T01:00:00+01:00", "2027-01-03", "2026-W53", "2026-12"),
        ] {
            for (period, expected) in [(Period::Day, day), (Period::Week, week), (Period::Month, month)] {
                let span = period.previous(at(moment), Berlin);
                assert_eq!(span.to_string(), expected, "{moment}");
                assert_eq!(Span::parse(period, expected).unwrap(), span);
                assert!(span.window(Berlin).to <= at(moment));
            }
        }
    }

    #[test]
    fn spans_are_read_only_as_they_are_written() {
        for (period, text) in [
            (Period::Week, "2026-W54"),
            (Period::Week, "2026-W7"),
            (Period::Week, "2026-47"),
            (Period::Week, "+2026-W07"),
            (Period::Day, "2026-02-30"),
            (Period::Month, "2026-13"),
            (Period::Month, "2026-1"),
            (Period::Day, ""),
        ] {
            let error = Span::parse(period, text).unwrap_err().to_string();
            assert!(error.contains(period.example()), "{error}");
        }
        assert_eq!(Period::parse("previous  week"), Some(Period::Week));
        for text in ["week", "previous", "previous year", "previous week now", ""] {
            assert_eq!(Period::parse(text), None, "{text}");
        }
    }

    #[test]
    fn weeks_of_daylight_saving_have_167_and_169_hours() {
        for (week, hours, from) in [
            ("2026-W13", 167, "2026-03-23T00:00:00+01:00"),
            ("2026-W43", 169, "2026-10-19T00:00:00+02:00"),
            ("2026-W47", 168, "2026-11-16T00:00:00+01:00"),
        ] {
            let window = Span::parse(Period::Week, week).unwrap().window(Berlin);
            assert_eq!(window.from, at(from));
            assert_eq!(window.to.micros() - window.from.micros(), hours * HOUR, "{week}");
        }
    }

    #[test]
    fn a_schedule_follows_the_zone_through_both_changes() {
        let monday = Schedule::parse("0 1 * * MON", Berlin).unwrap();
        for (now, due) in [
            ("2026-03-30T00:59:59+02:00", "2026-03-23T01:00:00+01:00"),
            ("2026-03-30T01:00:00+02:00", "2026-03-30T01:00:00+02:00"),
            ("2026-10-26T00:59:59+01:00", "2026-10-19T01:00:00+02:00"),
            ("2026-10-26T01:00:00+01:00", "2026-10-26T01:00:00+01:00"),
        ] {
            assert_eq!(monday.last_due(at(now)), Some(at(due)), "{now}");
        }
        // 02:30 does not exist on 29 March, and comes twice on 25 October: one report each night.
        let night = Schedule::parse("30 2 * * *", Berlin).unwrap();
        for (from, to, days) in [
            ("2026-03-28T00:00:00+01:00", "2026-03-31T00:00:00+02:00", ["2026-03-27", "2026-03-28", "2026-03-29"]),
            ("2026-10-24T00:00:00+02:00", "2026-10-27T00:00:00+01:00", ["2026-10-23", "2026-10-24", "2026-10-25"]),
        ] {
            assert_eq!(told(&night, Period::Day, at(from)..at(to), at(from).plus(-DAY)), days);
        }
    }

    #[test]
    fn a_schedule_in_a_gap_at_midnight_is_due_at_its_end_and_tells_of_the_day_before() {
        // Clocks go from 00:00 to 01:00 on Friday 24 April in Cairo, and on Sunday 6 September in Santiago.
        let (cairo, santiago) = (chrono_tz::Africa::Cairo, chrono_tz::America::Santiago);
        for (schedule, period, zone, from, spans) in [
            ("0 0 * * *", Period::Day, cairo, "2026-04-23T12:00:00Z", vec!["2026-04-23", "2026-04-24"]),
            ("59 0 * * FRI", Period::Week, cairo, "2026-04-23T12:00:00Z", vec!["2026-W16"]),
            ("30 0 * * *", Period::Day, santiago, "2026-09-05T12:00:00Z", vec!["2026-09-05", "2026-09-06"]),
            ("0 0 * * SUN", Period::Week, santiago, "2026-09-05T12:00:00Z", vec!["2026-W35"]),
        ] {
            let schedule = Schedule::parse(schedule, zone).unwrap();
            let from = at(from);
            let recorded = schedule.due(period, from, None)[0].window.to;
            assert_eq!(told(&schedule, period, from..from.plus(2 * DAY), recorded), spans, "{zone}");
        }
        let midnight = Schedule::parse("0 0 * * *", cairo).unwrap();
        assert_eq!(midnight.last_due(at("2026-04-24T12:00:00+03:00")), Some(at("2026-04-24T01:00:00+03:00")));
    }

    #[test]
    fn an_hour_that_comes_twice_has_its_reports_in_the_first_of_both() {
        let often = Schedule::parse("*/20 * * * *", Berlin).unwrap();
        for (now, due) in [
            ("2026-10-25T02:10:00+02:00", "2026-10-25T02:00:00+02:00"),
            ("2026-10-25T02:59:59+02:00", "2026-10-25T02:40:00+02:00"),
            ("2026-10-25T02:10:00+01:00", "2026-10-25T02:40:00+02:00"),
            ("2026-10-25T02:59:59+01:00", "2026-10-25T02:40:00+02:00"),
            ("2026-10-25T03:00:00+01:00", "2026-10-25T03:00:00+01:00"),
        ] {
            assert_eq!(often.last_due(at(now)), Some(at(due)), "{now}");
        }
    }

    #[test]
    fn a_sleep_of_three_weeks_leaves_three_weeks_due_and_a_new_report_only_the_last() {
        let schedule = Schedule::parse("0 1 * * 1", UTC).unwrap();
        let now = at("2026-11-23T14:00:00Z");
        assert_eq!(
            names(&schedule.due(Period::Week, now, Some(at("2026-11-02T00:00:00Z")))),
            ["2026-W45", "2026-W46", "2026-W47"]
        );
        assert_eq!(names(&schedule.due(Period::Week, now, None)), ["2026-W47"]);
        assert!(schedule.due(Period::Week, now, Some(at("2026-11-23T00:00:00Z"))).is_empty());
        // The clock set back by an hour or a month finds nothing due again.
        assert!(schedule.due(Period::Week, at("2026-11-23T00:30:00Z"), Some(at("2026-11-16T00:00:00Z"))).is_empty());
        assert!(schedule.due(Period::Week, at("2026-10-23T14:00:00Z"), Some(at("2026-10-19T00:00:00Z"))).is_empty());
    }

    #[test]
    fn a_schedule_of_every_second_tells_each_day_once_and_looks_back_a_bounded_time() {
        let schedule = Schedule::parse("* * * * * *", UTC).unwrap();
        let now = at("2026-11-23T14:00:00Z");
        assert_eq!(names(&schedule.due(Period::Day, now, Some(now.plus(-2 * DAY)))), ["2026-11-21", "2026-11-22"]);
        assert_eq!(schedule.due(Period::Day, now, Some(Timestamp::from_micros(0))).len(), MOST_MISSED);
    }

    #[test]
    fn expressions_that_mean_nothing_are_refused_with_an_example() {
        for text in ["", "0 1 * *", "0 25 * * *", "0 0 30 2 *", "nonsense at all x y", "0 0 1 * * MON 2026"] {
            let problem = Schedule::parse(text, UTC).unwrap_err();
            assert!(problem.contains("0 1 * * MON"), "{problem}");
        }
        assert!(Schedule::parse("0 0 29 2 *", UTC).is_ok());
    }
}
