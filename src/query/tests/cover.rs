//! The parts of a window that totals cover, as a table: days, hours, and what is left for segments.

use super::super::cover::{Gone, Plan};
use super::super::window::{WindowRequest, resolve};
use super::*;
use crate::clock::{DAY, SECOND};
use crate::store::host_traffic::DayHours;

/// 24 hours.
const ALL: u32 = (1 << 24) - 1;

/// 2026-11-16T00:00:00Z, a Monday, and the days after it.
fn day(number: i64) -> Timestamp {
    Timestamp::from_micros(START - 7 * DAY + number * DAY)
}

fn at(number: i64, hours: i64, minutes: i64) -> Timestamp {
    day(number).plus(hours * HOUR + minutes * 60 * SECOND)
}

/// A day all of whose hours had flows and are added up.
fn summed(number: i64) -> DayHours {
    DayHours { day: day(number), summed: true, usable: ALL, ..DayHours::default() }
}

fn between(from: Timestamp, to: Timestamp) -> Window {
    Window { from, to, zone: chrono_tz::Tz::UTC }
}

/// A moment as day, hour and minute after Monday.
fn short(moment: Timestamp) -> String {
    let minutes = (moment.micros() - day(0).micros()) / (60 * SECOND);
    format!("{}T{:02}:{:02}", minutes.div_euclid(1_440), minutes.rem_euclid(1_440) / 60, minutes.rem_euclid(60))
}

/// The days, the hours as ranges, and the ranges for segments.
fn told(plan: &Plan) -> String {
    let stretch = plan.stretch();
    let days: Vec<String> = stretch.days.iter().map(|day| short(*day).split('T').next().unwrap().to_owned()).collect();
    let mut hours: Vec<(Timestamp, Timestamp)> = Vec::new();
    for hour in stretch.hours {
        match hours.last_mut() {
            Some(last) if last.1 == hour => last.1 = hour.plus(HOUR),
            _ => hours.push((hour, hour.plus(HOUR))),
        }
    }
    let pairs = |pairs: Vec<(Timestamp, Timestamp)>| {
        pairs.iter().map(|(from, to)| format!("{}-{}", short(*from), short(*to))).collect::<Vec<_>>().join(" ")
    };
    let ranges = plan.ranges().into_iter().map(|range| (range.start, range.end)).collect();
    format!("{} | {} | {}", days.join(" "), pairs(hours), pairs(ranges))
}

/// All moments of the window lie in exactly one part.
fn check_whole(plan: &Plan, window: &Window) {
    let stretch = plan.stretch();
    let length = |range: &std::ops::Range<Timestamp>| range.end.micros() - range.start.micros();
    let sum = stretch.days.len() as i64 * DAY
        + stretch.hours.len() as i64 * HOUR
        + plan.ranges().iter().map(length).sum::<i64>();
    assert_eq!(sum, window.to.micros() - window.from.micros(), "{}", told(plan));
}

#[test]
fn whole_days_then_whole_hours_come_from_totals_and_the_rest_from_segments() {
    let week: Vec<DayHours> = (0..7).map(summed).collect();
    let mut hole = week.clone();
    hole[2] = DayHours { summed: false, usable: ALL & !(1 << 13), ..hole[2] };
    let mut today = week[..3].to_vec();
    today[2] = DayHours { summed: false, usable: 0b1111, ..today[2] };
    let foreign: Vec<DayHours> = (0..3).map(|number| DayHours { summed: false, usable: 0, ..summed(number) }).collect();
    let quiet = [
        DayHours { usable: 0b1111_0000, ..summed(0) },
        DayHours { summed: false, usable: 0b1100, ..summed(1) },
        DayHours { usable: 1, ..summed(3) },
    ];
    for (days, from, to, expected) in [
        // Edges on days, on hours, off them.
        (&week[..], day(0), day(7), "0 1 2 3 4 5 6 |  | "),
        (&week, at(0, 5, 0), at(2, 3, 0), "1 | 0T05:00-1T00:00 2T00:00-2T03:00 | "),
        (&week, at(0, 5, 30), at(2, 3, 15), "1 | 0T06:00-1T00:00 2T00:00-2T03:00 | 0T05:30-0T06:00 2T03:00-2T03:15"),
        (&week, day(1).plus(1), day(2).plus(-1), " | 1T01:00-1T23:00 | 1T00:00-1T01:00 1T23:00-1T23:59"),
        // Within an hour, over the edge of one, exactly one.
        (&week, at(1, 5, 10), at(1, 5, 50), " |  | 1T05:10-1T05:50"),
        (&week, at(1, 5, 10), at(1, 6, 50), " |  | 1T05:10-1T06:50"),
        (&week, at(1, 5, 0), at(1, 6, 0), " | 1T05:00-1T06:00 | "),
        (&week, at(1, 5, 0), at(1, 5, 59), " |  | 1T05:00-1T05:59"),
        // An hour in the middle that is not sealed takes its day with it.
        (&hole, day(0), day(7), "0 1 3 4 5 6 | 2T00:00-2T13:00 2T14:00-3T00:00 | 2T13:00-2T14:00"),
        (&hole, at(2, 13, 20), at(2, 15, 0), " | 2T14:00-2T15:00 | 2T13:20-2T14:00"),
        // The hours that are open, and those to come.
        (&today, day(0), day(7), "0 1 | 2T00:00-2T04:00 | 2T04:00-7T00:00"),
        // Other networks were local.
        (&foreign, at(0, 1, 0), day(3), " |  | 0T01:00-3T00:00"),
        // Hours and days without flows, before, between and after.
        (
            &quiet,
            at(-2, 0, 30),
            day(5),
            "0 3 | 1T02:00-1T04:00 | -2T00:30-0T00:00 1T00:00-1T02:00 1T04:00-3T00:00 4T00:00-5T00:00",
        ),
        (&quiet, at(0, 3, 30), at(0, 5, 0), " | 0T04:00-0T05:00 | 0T03:30-0T04:00"),
        (&[], at(0, 1, 0), day(1), " |  | 0T01:00-1T00:00"),
        (&quiet, day(8), day(9), " |  | 8T00:00-9T00:00"),
    ] {
        let window = between(from, to);
        let plan = Plan::new(&window, days);
        assert_eq!(told(&plan), expected, "{} to {}", short(from), short(to));
        check_whole(&plan, &window);
    }
}

#[test]
fn local_weeks_are_cut_where_their_zone_cuts_hours() {
    for (zone, week, days, hours, cut_minutes) in [
        ("UTC", "2026-W47", 7, 0, 0),
        ("Europe/Berlin", "2026-W47", 6, 24, 0),
        // 167 and 169 hours.
        ("Europe/Berlin", "2026-W13", 6, 23, 0),
        ("Europe/Berlin", "2026-W43", 6, 25, 0),
        ("America/New_York", "2026-W10", 6, 23, 0),
        // Half hours and quarters: an hour is cut at either end.
        ("Asia/Kolkata", "2026-W47", 6, 23, 60),
        ("Asia/Kathmandu", "2026-W47", 6, 23, 60),
        ("Pacific/Chatham", "2026-W47", 6, 23, 60),
        // The clocks go back by half an hour: 168.5 hours, of which only the beginning is on the hour.
        ("Australia/Lord_Howe", "2026-W14", 6, 24, 30),
    ] {
        let request = WindowRequest { week: Some(week.into()), zone: Some(zone.into()), ..WindowRequest::default() };
        let window = resolve(&request, chrono_tz::Tz::UTC, day(0)).unwrap();
        let all: Vec<DayHours> =
            (-1..9).map(|number| DayHours { day: window.from.day().plus(number * DAY), ..summed(0) }).collect();
        let plan = Plan::new(&window, &all);
        let minutes: i64 =
            plan.ranges().iter().map(|range| (range.end.micros() - range.start.micros()) / (60 * SECOND)).sum();
        let stretch = plan.stretch();
        assert_eq!((stretch.days.len(), stretch.hours.len(), minutes), (days, hours, cut_minutes), "{week} in {zone}");
        check_whole(&plan, &window);
    }
}

#[test]
fn a_window_of_eight_thousand_years_has_few_parts() {
    let window = between(Timestamp::from_micros(0), Timestamp::from_micros(253_402_300_800 * SECOND));
    let plan = Plan::new(&window, &[summed(0), summed(3)]);
    assert_eq!((plan.stretch().days.len(), plan.ranges().len()), (2, 3));
    check_whole(&plan, &window);
}

/// What is not recorded, in minutes, and the hours that were imported: by totals, and by a scan.
fn gone(days: &[DayHours], from: Timestamp, to: Timestamp, recorded_from: Option<Timestamp>) -> [(i64, u64); 2] {
    let window = between(from, to);
    [Plan::new(&window, days), Plan::scan(&window, days)].map(|plan| {
        let Gone { not_recorded, imported_hours, .. } = plan.gone(recorded_from);
        assert_eq!(not_recorded % (60 * SECOND), 0);
        (not_recorded / (60 * SECOND), imported_hours)
    })
}

#[test]
fn what_is_gone_is_told_by_each_hour_and_not_by_where_kept_flows_begin() {
    const WEEK: i64 = 7 * 24 * 60;
    // Recorded from day 0 on. The flows of days 1 and 3 are gone; of day 1, hour 1 has no totals, and hour 2 had no flows.
    let mut days: Vec<DayHours> = (0..7).map(summed).collect();
    days[1] = DayHours { summed: false, usable: ALL & !0b110, dropped: ALL & !0b100, ..days[1] };
    days[3].dropped = ALL;
    let began = Some(at(0, 0, 30));
    for (from, to, totals, scan) in [
        (day(0), day(7), 30 + 60, 30 + 47 * 60),
        (at(0, 0, 30), day(1), 0, 0),
        (at(1, 1, 15), day(2), 45, 21 * 60 + 45),
        (day(1), at(1, 1, 15), 15, 75),
        (at(1, 2, 0), at(1, 3, 0), 0, 0),
        (day(2), day(3), 0, 0),
        (day(3), day(4), 0, 24 * 60),
        (at(3, 23, 0), day(5), 0, 60),
        (day(-7), day(0), WEEK, WEEK),
    ] {
        assert_eq!(gone(&days, from, to, began), [(totals, 0), (scan, 0)], "{} to {}", short(from), short(to));
    }
    assert_eq!(gone(&days, day(4), day(5), None), [(24 * 60, 0); 2], "no collector ever began");
    assert_eq!(gone(&[], day(0), day(7), None), [(WEEK, 0); 2]);
    assert_eq!(gone(&[], day(0), day(7), began), [(30, 0); 2]);
}

#[test]
fn totals_of_other_networks_or_rules_are_told_where_nothing_better_is_left() {
    let mut days = vec![DayHours { otherwise: ALL, dropped: ALL, ..summed(0) }, summed(1)];
    days[1] = DayHours { summed: false, otherwise: 0b110, dropped: 0b111, ..days[1] };
    for (from, to, otherwise) in
        [(day(0), day(2), 26), (at(0, 22, 0), at(1, 2, 0), 3), (day(1), at(1, 1, 0), 0), (at(1, 3, 0), day(2), 0)]
    {
        let window = between(from, to);
        let [totals, scan] =
            [Plan::new(&window, &days), Plan::scan(&window, &days)].map(|plan| plan.gone(Some(day(0))));
        assert_eq!((totals.counted_otherwise, totals.not_recorded), (otherwise, 0), "{}", short(from));
        assert_eq!(scan.counted_otherwise, 0);
    }
}

#[test]
fn what_was_imported_counts_as_recorded_until_neither_flows_nor_totals_are_left() {
    // Day 0 was brought in, and two hours of day 1, at whose end the server began; one of them has flows of both.
    let mut days = vec![DayHours { imported: ALL, ..summed(0) }, summed(1)];
    days[1] = DayHours { summed: false, imported: 0b11 << 22, usable: 0b1 << 22, ..days[1] };
    let began = Some(at(1, 23, 20));
    assert_eq!(gone(&days, day(0), day(2), began), [(22 * 60, 26); 2]);
    assert_eq!(gone(&days, at(0, 5, 30), at(0, 7, 0), began), [(0, 2); 2]);
    assert_eq!(gone(&days, day(-1), day(1), None), [(24 * 60, 24); 2]);
    assert_eq!(gone(&days, at(1, 22, 0), at(1, 23, 20), began), [(0, 2); 2]);
    // The same after all flows were dropped: only totals tell of them, where there are any.
    days.iter_mut().for_each(|day| day.dropped = day.imported);
    assert_eq!(gone(&days, day(0), day(1), began), [(0, 24), (24 * 60, 24)]);
    assert_eq!(gone(&days, at(1, 22, 0), day(2), began), [(60, 2), (120, 2)]);
    days[0] = DayHours { summed: false, usable: 0, ..days[0] };
    assert_eq!(gone(&days, day(0), day(1), began), [(24 * 60, 24); 2]);
    // Also what was brought in after the server began.
    assert_eq!(gone(&days, day(0), day(1), Some(day(-3))), [(24 * 60, 24); 2]);
}

#[test]
fn a_window_that_cuts_hours_whose_flows_are_gone_is_offered_rounded_inwards_and_outwards() {
    let mut days: Vec<DayHours> = (0..7).map(summed).collect();
    days[..4].iter_mut().for_each(|day| day.dropped = ALL);
    // A single hour amid those that are kept.
    days[6].dropped = 1 << 12;
    for (from, to, expected) in [
        (at(1, 5, 30), at(3, 4, 15), Some("1T06:00-3T04:00 1T05:00-3T05:00")),
        // The flows at the end are still there.
        (at(1, 5, 30), at(5, 4, 15), Some("1T06:00-5T04:15 1T05:00-5T04:15")),
        (at(1, 5, 0), at(5, 4, 15), None),
        (at(4, 5, 30), at(5, 4, 15), None),
        (at(1, 5, 0), at(3, 4, 0), None),
        (at(1, 5, 10), at(1, 5, 20), Some("- 1T05:00-1T06:00")),
        (at(1, 5, 10), at(1, 6, 20), Some("- 1T05:00-1T07:00")),
        (at(1, 5, 0), at(1, 5, 20), Some("- 1T05:00-1T06:00")),
        (at(4, 5, 30), at(6, 12, 45), Some("4T05:30-6T12:00 4T05:30-6T13:00")),
        (at(6, 12, 45), at(6, 14, 45), Some("6T13:00-6T14:45 6T12:00-6T14:45")),
        // Nothing was there.
        (at(-1, 5, 30), at(1, 4, 0), None),
    ] {
        let plan = Plan::new(&between(from, to), &days);
        let nearest = plan.nearest().map(|nearest| {
            let shown = |range: std::ops::Range<Timestamp>| format!("{}-{}", short(range.start), short(range.end));
            format!("{} {}", nearest.inner.map_or_else(|| "-".into(), shown), shown(nearest.outer))
        });
        assert_eq!(nearest.as_deref(), expected, "{} to {}", short(from), short(to));
        assert_eq!(plan.has_flows(), from >= day(4) && to <= at(6, 12, 0), "{} to {}", short(from), short(to));
        assert_eq!(Plan::scan(&between(from, to), &days).nearest(), None, "a scan cuts nothing");
    }
    // An hour that totals do not tell of is missing, whatever the window.
    let open = [DayHours { summed: false, usable: 0, dropped: ALL, ..summed(1) }];
    assert_eq!(Plan::new(&between(at(1, 5, 30), day(2)), &open).nearest(), None);
}
