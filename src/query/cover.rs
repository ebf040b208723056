//! Which parts of a window host totals cover, which must be read from segments, and what of it nobody can tell any more.
//!
//! Whole UTC days that are added up come first, then whole hours that are. What is left is read from segments: the hours that
//! the window cuts, those that are open or, with their flows, were counted by other local networks, and those that nothing is on record of,
//! which is where no flow should be. Time zones are of no concern here: a window has two moments, and where they cut an
//! hour, as local midnights do in zones that are off by 30 or 45 minutes, that hour is cut.
//!
//! Whether flows are still kept is known of each hour by itself, whoever received them and whatever became of the days around
//! it. An hour whose flows are gone can be told from its totals if it is asked for whole. If it is cut, the nearest windows
//! are offered; if it has no totals, or the question needs flows, it counts as not recorded.
//!
//! Pure: no I/O, no clock.

use super::answer::Window;
use crate::clock::{DAY, HOUR, Timestamp};
use crate::store::host_traffic::{DayHours, Stretch};
use std::collections::BTreeSet;
use std::ops::Range;

/// A part of the window, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A whole day with totals.
    Day,
    /// A whole hour with totals.
    Hour,
    /// The part that the window has of an hour with totals whose flows are gone.
    Torn,
    /// Read from segments.
    Segments,
}

/// How a window is read. Its parts follow each other from one end of the window to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    window: Range<Timestamp>,
    parts: Vec<(Kind, Range<Timestamp>)>,
    /// Whether the flows of all hours are still kept.
    has_flows: bool,
    /// Hours whose flows are gone and that totals do not tell of.
    lost: BTreeSet<Timestamp>,
    /// Hours of which another collector received flows.
    imported: BTreeSet<Timestamp>,
    /// How many hours are taken from totals that other networks or rules made.
    otherwise: u64,
}

/// What of a window was not recorded here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gone {
    /// Microseconds that nobody recorded, or of which neither flows nor totals that would do are kept.
    pub(super) not_recorded: i64,
    /// Hours of which another collector received flows.
    pub(super) imported_hours: u64,
    /// Hours that are told from totals that other networks or rules made.
    pub(super) counted_otherwise: u64,
}

/// The nearest windows that totals can answer, where the one asked for cuts hours whose flows are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nearest {
    /// Rounded inwards; `None` when nothing is left of it.
    pub(super) inner: Option<Range<Timestamp>>,
    /// Rounded outwards.
    pub(super) outer: Range<Timestamp>,
}

impl Plan {
    /// Everything from segments. `days` are those that the window touches, in the order of time.
    pub(super) fn scan(window: &Window, days: &[DayHours]) -> Self {
        let mut plan = Self::noting(window, days, |day| day.dropped);
        plan.add(Kind::Segments, window.from..window.to);
        plan
    }

    /// As much as possible from totals; `days` as there.
    pub(super) fn new(window: &Window, days: &[DayHours]) -> Self {
        let mut plan = Self::noting(window, days, |day| day.dropped & !day.usable);
        let mut at = window.from;
        for day in days {
            let end = day.day.plus(DAY);
            if end <= at || day.day >= window.to {
                continue;
            }
            if at < day.day {
                plan.add(Kind::Segments, at..day.day);
                at = day.day;
            }
            if day.summed && at == day.day && end <= window.to {
                plan.add(Kind::Day, at..end);
                plan.otherwise = plan.otherwise.saturating_add(day.otherwise.count_ones().into());
                at = end;
                continue;
            }
            while at < end.min(window.to) {
                let next = at.hour().plus(HOUR).min(window.to);
                let whole = at == at.hour() && next == at.plus(HOUR);
                let kind = kind(day, at, whole);
                let counted = kind == Kind::Hour && is_in(day, day.otherwise, at);
                plan.otherwise = plan.otherwise.saturating_add(counted.into());
                plan.add(kind, at..next);
                at = next;
            }
        }
        if at < window.to {
            plan.add(Kind::Segments, at..window.to);
        }
        plan
    }

    /// A plan without parts. Hours in the set `lost` of their day are lost.
    fn noting(window: &Window, days: &[DayHours], lost: fn(&DayHours) -> u32) -> Self {
        let window = window.from..window.to;
        let within = |set: fn(&DayHours) -> u32| -> BTreeSet<Timestamp> {
            let hours = days.iter().flat_map(|day| hours_of(day.day, set(day)));
            hours.filter(|hour| *hour < window.end && window.start < hour.plus(HOUR)).collect()
        };
        Self {
            parts: Vec::new(),
            has_flows: within(|day| day.dropped).is_empty(),
            lost: within(lost),
            imported: within(|day| day.imported),
            otherwise: 0,
            window,
        }
    }

    fn add(&mut self, kind: Kind, part: Range<Timestamp>) {
        match self.parts.last_mut() {
            Some((Kind::Segments, last)) if kind == Kind::Segments => last.end = part.end,
            _ => self.parts.push((kind, part)),
        }
    }

    /// The days and hours that are taken from totals.
    pub(super) fn stretch(&self) -> Stretch {
        let starts = |kind| self.of(kind).map(|part| part.start).collect();
        Stretch { days: starts(Kind::Day), hours: starts(Kind::Hour) }
    }

    /// What is read from segments, in the order of time. No two ranges touch.
    pub(super) fn ranges(&self) -> Vec<Range<Timestamp>> {
        self.of(Kind::Segments).cloned().collect()
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Range<Timestamp>> {
        self.parts.iter().filter(move |(own, _)| *own == kind).map(|(_, part)| part)
    }

    /// What of the window was not recorded here, when recording began at `recorded_from`.
    pub(super) fn gone(&self, recorded_from: Option<Timestamp>) -> Gone {
        let Range { start, end } = self.window;
        let recorded = recorded_from.unwrap_or(end).clamp(start, end);
        let of = |hour: &Timestamp, from: Timestamp, to: Timestamp| {
            hour.plus(HOUR).min(to).micros().saturating_sub((*hour).max(from).micros()).max(0)
        };
        let brought = self.imported.difference(&self.lost).map(|hour| of(hour, start, recorded));
        let lost = self.lost.iter().map(|hour| of(hour, recorded, end));
        let before = recorded.micros().saturating_sub(start.micros());
        let told = before.saturating_sub(brought.fold(0, i64::saturating_add));
        Gone {
            not_recorded: told.saturating_add(lost.fold(0, i64::saturating_add)),
            imported_hours: self.imported.len() as u64,
            counted_otherwise: self.otherwise,
        }
    }

    /// The windows to ask for instead, when this one cuts an hour whose flows are gone while its totals are there.
    pub(super) fn nearest(&self) -> Option<Nearest> {
        let (mut inner, mut outer) = (self.window.clone(), self.window.clone());
        let mut cuts = self.of(Kind::Torn).peekable();
        cuts.peek()?;
        for cut in cuts {
            let (start, end) = (cut.start.hour(), cut.start.hour().plus(HOUR));
            if cut.start > start {
                outer.start = start;
                inner.start = end;
            }
            if cut.end < end {
                outer.end = end;
                inner.end = start;
            }
        }
        Some(Nearest { inner: (!inner.is_empty()).then_some(inner), outer })
    }

    /// Whether the flows of all hours of the window are still kept.
    pub(super) fn has_flows(&self) -> bool {
        self.has_flows
    }
}

/// The hours of `day` in a set of them.
fn hours_of(day: Timestamp, set: u32) -> impl Iterator<Item = Timestamp> {
    let is_in =
        move |hour: i64| 1u32.checked_shl(hour.try_into().unwrap_or(u32::MAX)).is_some_and(|bit| set & bit != 0);
    (0..24).filter(move |hour| is_in(*hour)).map(move |hour: i64| day.plus(hour.saturating_mul(HOUR)))
}

/// Whether the hour with the moment `at` is in a set of those of `day`.
fn is_in(day: &DayHours, set: u32, at: Timestamp) -> bool {
    hours_of(day.day, set).any(|hour| hour == at.hour())
}

/// What becomes of what the window has of the hour at `at`.
fn kind(day: &DayHours, at: Timestamp, whole: bool) -> Kind {
    match (is_in(day, day.usable, at), is_in(day, day.dropped, at)) {
        (true, _) if whole => Kind::Hour,
        (true, true) => Kind::Torn,
        _ => Kind::Segments,
    }
}
