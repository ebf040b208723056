//! The parts of a window that totals cover, as a table: days, hours, and what is left for segments.

use super::super::cover::{Gone, Plan};
use super::super::window::{WindowRequest, resolve};
use super::*;
use crate::clock::{DAY, SECOND};
use crate::store::host_traffic::{DayHours, Reach};

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
    DayHours { day: day(number), summed: true, usable: ALL, others: 0 }
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
    hole[2] = DayHours { summed: false, usable: ALL & !(1 << 13), others: 1 << 13, ..hole[2] };
    let mut today = week[..3].to_vec();
    today[2] = DayHours { summed: false, usable: 0b1111, others: 0b11_0000, ..today[2] };
    let foreign: Vec<DayHours> =
        (0..3).map(|number| DayHours { summed: false, usable: 0, others: ALL, ..summed(number) }).collect();
    let quiet = [
        DayHours { usable: 0b1111_0000, ..summed(0) },
        DayHours { summed: false, usable: 0b1100, others: 0, ..summed(1) },
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

#[test]
fn what_is_gone_is_what_neither_flows_nor_totals_tell() {
    let mut days: Vec<DayHours> = (0..7).map(summed).collect();
    days[1] = DayHours { summed: false, usable: ALL & !0b110, others: 0b10, ..days[1] };
    let reach = Reach { began: Some(at(0, 0, 30)), hours_from: Some(day(0)) };
    // Flows are kept from day 4 on. Of day 1, hour 1 has no totals, and hour 2 had no flows.
    let gone = |from, to, reach: &Reach, flows_from| Plan::new(&between(from, to), &days).gone(flows_from, reach);
    for (from, to, holes) in [
        (day(0), day(7), HOUR),
        (at(1, 1, 15), day(7), HOUR * 3 / 4),
        (day(0), at(1, 1, 15), HOUR / 4),
        (at(1, 2, 0), day(7), 0),
        (day(5), day(7), 0),
    ] {
        let expected = Gone { recorded_from: Some(at(0, 0, 30)), holes };
        assert_eq!(gone(from, to, &reach, Some(day(4))), expected, "{} to {}", short(from), short(to));
    }
    // Totals go back no further than day 2, and there is nothing from before.
    let later = Reach { hours_from: Some(day(2)), ..reach };
    let plan = Plan::new(&between(day(0), day(7)), &days[2..]);
    assert_eq!(plan.gone(Some(day(4)), &later), Gone { recorded_from: Some(day(2)), holes: 0 });
    // No flows were dropped: what is open is read.
    assert_eq!(gone(day(0), day(7), &reach, reach.began), Gone { recorded_from: reach.began, holes: 0 });
    // No flows are left; none ever were.
    assert_eq!(gone(day(0), day(7), &reach, None), Gone { recorded_from: reach.began, holes: HOUR });
    assert_eq!(gone(day(0), day(7), &Reach::default(), None), Gone::default());
}

#[test]
fn a_window_that_cuts_hours_whose_flows_are_gone_is_offered_rounded_inwards_and_outwards() {
    let days: Vec<DayHours> = (0..7).map(summed).collect();
    let reach = Reach { began: Some(at(-9, 0, 0)), hours_from: Some(day(0)) };
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
        // Nothing was there.
        (at(-1, 5, 30), at(1, 4, 0), None),
    ] {
        let plan = Plan::new(&between(from, to), &days);
        let nearest = plan.nearest(Some(day(4)), &reach).map(|nearest| {
            let shown = |range: std::ops::Range<Timestamp>| format!("{}-{}", short(range.start), short(range.end));
            format!("{} {}", nearest.inner.map_or_else(|| "-".into(), shown), shown(nearest.outer))
        });
        assert_eq!(nearest.as_deref(), expected, "{} to {}", short(from), short(to));
        assert_eq!(plan.nearest(reach.began, &reach), None, "nothing was dropped");
        assert_eq!(plan.has_flows(Some(day(4)), &reach), from >= day(4));
    }
    // An hour that totals do not tell of is missing, whatever the window.
    let open = [DayHours { summed: false, usable: 0, others: ALL, ..summed(1) }];
    assert_eq!(Plan::new(&between(at(1, 5, 30), day(2)), &open).nearest(Some(day(4)), &reach), None);
}
