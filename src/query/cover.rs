//! Which parts of a window host totals cover, and which must be read from segments.
//!
//! Whole UTC days that are added up come first, then whole hours that are. What is left is read from segments: the hours that
//! the window cuts, those that are open or were counted by other local networks, and those that nothing is on record of,
//! which is where no flow should be. Time zones are of no concern here: a window has two moments, and where they cut an
//! hour, as local midnights do in zones that are off by 30 or 45 minutes, that hour is cut.
//!
//! Pure: no I/O, no clock.

use super::answer::Window;
use crate::clock::{DAY, HOUR, Timestamp};
use crate::store::host_traffic::{DayHours, Reach, Stretch};
use std::ops::Range;

/// A part of the window, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A whole day with totals.
    Day,
    /// A whole hour with totals.
    Hour,
    /// The part that the window has of an hour with totals.
    Cut,
    /// All the window has of an hour with flows but without usable totals.
    Other,
    /// Hours that nothing is on record of.
    Empty,
}

/// How a window is read. Its parts follow each other from one end of the window to the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    parts: Vec<(Kind, Range<Timestamp>)>,
}

/// What of a window nobody can tell any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gone {
    /// From when on anything is on record.
    pub(super) recorded_from: Option<Timestamp>,
    /// Microseconds without flows and without totals after that moment.
    pub(super) holes: i64,
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
    /// Everything from segments.
    pub(super) fn scan(window: &Window) -> Self {
        Self { parts: vec![(Kind::Empty, window.from..window.to)] }
    }

    /// As much as possible from totals; `days` are in the order of time.
    pub(super) fn new(window: &Window, days: &[DayHours]) -> Self {
        let mut plan = Self { parts: Vec::new() };
        let mut at = window.from;
        for day in days {
            let end = day.day.plus(DAY);
            if end <= at || day.day >= window.to {
                continue;
            }
            if at < day.day {
                plan.add(Kind::Empty, at..day.day);
                at = day.day;
            }
            if day.summed && at == day.day && end <= window.to {
                plan.add(Kind::Day, at..end);
                at = end;
                continue;
            }
            while at < end.min(window.to) {
                let next = at.hour().plus(HOUR).min(window.to);
                let whole = at == at.hour() && next == at.plus(HOUR);
                plan.add(kind(day, at, whole), at..next);
                at = next;
            }
        }
        if at < window.to {
            plan.add(Kind::Empty, at..window.to);
        }
        plan
    }

    fn add(&mut self, kind: Kind, part: Range<Timestamp>) {
        match self.parts.last_mut() {
            Some((Kind::Empty, last)) if kind == Kind::Empty => last.end = part.end,
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
        let mut ranges: Vec<Range<Timestamp>> = Vec::new();
        for (_, part) in self.parts.iter().filter(|(kind, _)| !matches!(kind, Kind::Day | Kind::Hour)) {
            match ranges.last_mut() {
                Some(last) if last.end == part.start => last.end = part.end,
                _ => ranges.push(part.clone()),
            }
        }
        ranges
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Range<Timestamp>> {
        self.parts.iter().filter(move |(own, _)| *own == kind).map(|(_, part)| part)
    }

    /// What nobody can tell, when flows are kept from `flows_from` on and totals reach back as far as `reach` says.
    pub(super) fn gone(&self, flows_from: Option<Timestamp>, reach: &Reach) -> Gone {
        let (Some(began), Some(dropped)) = (reach.began, dropped_before(flows_from, reach)) else {
            return Gone { recorded_from: flows_from, holes: 0 };
        };
        let recorded_from = began.max(reach.hours_from.map_or(dropped, |from| from.min(dropped)));
        let lost = self.of(Kind::Other).map(|part| {
            let (from, to) = (part.start.max(recorded_from), part.end.min(dropped));
            to.micros().saturating_sub(from.micros()).max(0)
        });
        Gone { recorded_from: Some(recorded_from), holes: lost.fold(0, i64::saturating_add) }
    }

    /// The windows to ask for instead, when this one cuts an hour whose flows are gone while its totals are there.
    pub(super) fn nearest(&self, flows_from: Option<Timestamp>, reach: &Reach) -> Option<Nearest> {
        let dropped = dropped_before(flows_from, reach)?;
        let (mut inner, mut outer) = (self.window()?, self.window()?);
        let mut cuts = self.of(Kind::Cut).filter(|part| part.start < dropped).peekable();
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

    /// Whether the flows of all of the window since the first collector began are still kept.
    pub(super) fn has_flows(&self, flows_from: Option<Timestamp>, reach: &Reach) -> bool {
        let dropped = dropped_before(flows_from, reach);
        self.window().is_some_and(|window| dropped.is_none_or(|before| before <= window.start))
    }

    fn window(&self) -> Option<Range<Timestamp>> {
        Some(self.parts.first()?.1.start..self.parts.last()?.1.end)
    }
}

/// What becomes of what the window has of the hour at `at`.
fn kind(day: &DayHours, at: Timestamp, whole: bool) -> Kind {
    let number = at.hour().micros().saturating_sub(day.day.micros()).checked_div(HOUR).unwrap_or(0);
    let bit = 1u32.checked_shl(number.try_into().unwrap_or(u32::MAX)).unwrap_or(0);
    match (day.usable & bit != 0, day.others & bit != 0) {
        (true, _) if whole => Kind::Hour,
        (true, _) => Kind::Cut,
        (false, true) => Kind::Other,
        (false, false) => Kind::Empty,
    }
}

/// The moment before which flows were there once and are dropped: `None` when none are. They are kept from `flows_from` on,
/// which is never before the first collector began.
fn dropped_before(flows_from: Option<Timestamp>, reach: &Reach) -> Option<Timestamp> {
    let began = reach.began?;
    let from = flows_from.unwrap_or(Timestamp::from_micros(i64::MAX));
    (from > began).then_some(from)
}
