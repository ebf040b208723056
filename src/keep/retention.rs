//! What goes, and why: one pure decision from what the database takes, what the time is, and what is to be kept. Upkeep, the
//! command `expire` and its dry run all follow it, so that a dry run names what then goes.
//!
//! Days that are too old go first, few at a time. Then, while the database is above its budget of bytes: days of the table
//! `flows`, because every flow of theirs is also in segments; days of segments, the oldest first; and at last, when no
//! more flows can go, whole months of totals. The day that goes on never goes, and neither do the totals of this month, of
//! the month before, and of months that have segments.

use super::Settings;
use super::partitions::{Due, due};
use crate::clock::Timestamp;
use crate::store::drops::Part;
use crate::store::partitions::{DailyTable, MonthlyTable, month_of};
use crate::store::usage::Usage;
use std::collections::BTreeSet;

/// Bytes that a partition without rows takes at most. A day without flows was made with the table and takes a few pages;
/// dropping it frees nothing worth it.
const EMPTY: u64 = 128 << 10;

/// Why something goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// All of it is older than what is kept of its table.
    Age,
    /// The database takes more than `[storage] max_bytes`.
    Budget,
}

/// Something that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Goes {
    /// What.
    pub part: Part,
    /// Its partitions by name, each with the bytes that are free then.
    pub partitions: Vec<(String, u64)>,
    /// Why.
    pub why: Why,
}

impl Goes {
    /// The names of its partitions.
    pub fn names(&self) -> String {
        self.partitions.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" and ")
    }

    /// How many bytes are free then.
    pub fn bytes(&self) -> u64 {
        self.partitions.iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }
}

/// What goes, and what is left to be said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// What goes now, in this order.
    pub goes: Vec<Goes>,
    /// What is too old, too, and goes in later rounds.
    pub later: Vec<Goes>,
    /// Bytes above the budget that nothing can be done about.
    pub excess: u64,
}

/// What goes at `now` of what is in `usage`, where `newest` is the last moment known to be stored. `by_age` is false for a look
/// at the budget alone, which comes more often than days may go by age.
pub fn plan(usage: &Usage, settings: &Settings, now: Timestamp, newest: Option<Timestamp>, by_age: bool) -> Plan {
    let mut plan = Plan::default();
    for table in DailyTable::ALL {
        let days: Vec<_> = of(usage, table.name()).map(|(day, _)| day).collect();
        let goes = |day: &Timestamp| Goes {
            part: Part::Day(table, *day),
            partitions: vec![(table.partition(*day), bytes_of(usage, table.name(), *day))],
            why: Why::Age,
        };
        let Due { drop, postponed, .. } = due(&days, now, newest, settings.days(table));
        if by_age {
            plan.goes.extend(drop.iter().map(goes));
            plan.later.extend(postponed.iter().map(goes));
        }
    }
    if let Some(max_bytes) = settings.max_bytes {
        let freed = plan.goes.iter().fold(0, |sum: u64, goes| sum.saturating_add(goes.bytes()));
        plan.excess = usage.bytes.saturating_sub(freed).saturating_sub(max_bytes);
        // A clock that is ahead must not make the day that goes on look like one that is over.
        let today = newest.map_or(now, |newest| newest.min(now)).day();
        plan.days(usage, today);
        plan.months(usage, today);
        let parts = plan.parts();
        plan.later.retain(|goes| !parts.contains(&goes.part));
    }
    plan
}

impl Plan {
    fn parts(&self) -> BTreeSet<Part> {
        self.goes.iter().map(|goes| goes.part).collect()
    }

    fn add(&mut self, part: Part, partitions: Vec<(String, u64)>) {
        let goes = Goes { part, partitions, why: Why::Budget };
        self.excess = self.excess.saturating_sub(goes.bytes());
        self.goes.push(goes);
    }

    /// Adds days for the budget's sake.
    fn days(&mut self, usage: &Usage, today: Timestamp) {
        let aged = self.parts();
        for table in DailyTable::ALL {
            for (day, bytes) in of(usage, table.name()) {
                let part = Part::Day(table, day);
                if self.excess > 0 && day < today && bytes > EMPTY && !aged.contains(&part) {
                    self.add(part, vec![(table.partition(day), bytes)]);
                }
            }
        }
    }

    /// Adds months of totals for the budget's sake.
    fn months(&mut self, usage: &Usage, today: Timestamp) {
        let gone = self.parts();
        let stays = |day: &Timestamp| !gone.contains(&Part::Day(DailyTable::FlowSegments, *day));
        let days = of(usage, DailyTable::FlowSegments.name()).map(|(day, _)| day).filter(stays);
        let first_day = days.chain(usage.oldest_open).min();
        let start = |moment: Timestamp| month_of(moment).map(|(start, _)| start);
        let Some(previous) = start(today).and_then(|month| start(month.plus(-1))) else { return };
        let until = first_day.and_then(start).map_or(previous, |month| month.min(previous));
        let tables = MonthlyTable::ALL;
        let months: BTreeSet<_> =
            tables.into_iter().flat_map(|table| of(usage, table.name())).map(|(month, _)| month).collect();
        for month in months.range(..until) {
            let partitions: Vec<_> = tables
                .into_iter()
                .map(|table| (table.partition(*month), bytes_of(usage, table.name(), *month)))
                .filter(|(_, bytes)| *bytes > 0)
                .collect();
            if self.excess > 0 && partitions.iter().any(|(_, bytes)| *bytes > EMPTY) {
                self.add(Part::Month(*month), partitions);
            }
        }
    }
}

/// The partitions of a table, by the time they begin at.
fn of<'a>(usage: &'a Usage, table: &'static str) -> impl Iterator<Item = (Timestamp, u64)> + 'a {
    let own = usage.partitions.iter().filter(move |partition| partition.table == table);
    own.map(|partition| (partition.start, partition.bytes))
}

/// What the partition of a table that begins at `start` takes; 0 without one.
fn bytes_of(usage: &Usage, table: &'static str, start: Timestamp) -> u64 {
    of(usage, table).find(|(own, _)| *own == start).map_or(0, |(_, bytes)| bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::DAY;
    use crate::store::usage::PartitionUsage;

    const MIB: u64 = 1 << 20;
    /// 2026-11-23.
    const TODAY: i64 = 20_780;

    fn day(number: i64) -> Timestamp {
        Timestamp::from_micros((TODAY + number) * DAY)
    }

    fn month(text: &str) -> Timestamp {
        DailyTable::Flows.day(&format!("flows_p{text}_01")).unwrap()
    }

    /// 10 MiB of rows a day for three days, 5 MiB of segments a day for six, up to today, and totals of five months.
    fn usage() -> Usage {
        let rows = (-2..=0).map(|number| ("flows", day(number), 10 * MIB));
        let segments = (-5..=0).map(|number| ("flow_segments", day(number), 5 * MIB));
        let months = ["2026_07", "2026_08", "2026_09", "2026_10", "2026_11"];
        let totals = months.iter().flat_map(|text| {
            [("host_traffic_hourly", month(text), 20 * MIB), ("host_traffic_daily", month(text), MIB)]
        });
        let all = rows.chain(segments).chain([("flows", day(1), 8_192)]).chain(totals);
        let partitions: Vec<_> = all.map(|(table, start, bytes)| PartitionUsage { table, start, bytes }).collect();
        Usage { bytes: partitions.iter().map(|partition| partition.bytes).sum(), partitions, oldest_open: None }
    }

    fn planned(usage: &Usage, days: [u32; 2], above: Option<u64>, by_age: bool) -> Plan {
        let max_bytes = above.map(|above| usage.bytes - above);
        let settings = Settings { flows_days: days[0], segments_days: days[1], max_bytes };
        plan(usage, &settings, day(0).plus(DAY / 2), Some(day(0).plus(DAY / 3)), by_age)
    }

    fn named(goes: &[Goes]) -> Vec<(&str, Why)> {
        goes.iter().flat_map(|goes| goes.partitions.iter().map(|(name, _)| (name.as_str(), goes.why))).collect()
    }

    const FLOWS: [&str; 2] = ["flows_p2026_11_21", "flows_p2026_11_22"];
    const SEGMENTS: [&str; 5] = [
        "flow_segments_p2026_11_18",
        "flow_segments_p2026_11_19",
        "flow_segments_p2026_11_20",
        "flow_segments_p2026_11_21",
        "flow_segments_p2026_11_22",
    ];

    #[test]
    fn rows_go_first_then_the_oldest_segments_then_months_of_totals_and_never_the_open_day() {
        let usage = usage();
        let goes = |above: u64| {
            let plan = planned(&usage, [7, 90], Some(above), true);
            assert!(plan.goes.iter().all(|goes| goes.why == Why::Budget));
            let names: Vec<_> = named(&plan.goes).into_iter().map(|(name, _)| name.to_owned()).collect();
            (names, plan.excess)
        };
        let totals = ["07", "08", "09"]
            .map(|number| ["hourly", "daily"].map(|unit| format!("host_traffic_{unit}_p2026_{number}")))
            .concat();
        let all = [FLOWS.map(str::to_owned).to_vec(), SEGMENTS.map(str::to_owned).to_vec(), totals].concat();
        assert_eq!(goes(0), (vec![], 0));
        assert_eq!(goes(1), (all[..1].to_vec(), 0));
        assert_eq!(goes(10 * MIB), (all[..1].to_vec(), 0));
        assert_eq!(goes(10 * MIB + 1), (all[..2].to_vec(), 0));
        assert_eq!(goes(20 * MIB + 1), (all[..3].to_vec(), 0));
        assert_eq!(goes(27 * MIB), (all[..4].to_vec(), 0));
        assert_eq!(goes(45 * MIB), (all[..7].to_vec(), 0));
        assert_eq!(goes(46 * MIB), (all[..9].to_vec(), 0));
        assert_eq!(goes(66 * MIB + 1), (all[..11].to_vec(), 0));
        // Neither the totals of this month nor of the one before.
        assert_eq!(goes(109 * MIB), (all, MIB));
    }

    #[test]
    fn a_month_of_totals_that_has_segments_stays() {
        let mut usage = usage();
        // So small that the budget gains nothing by it, but it is there.
        let small = PartitionUsage { table: "flow_segments", start: month("2026_08").plus(9 * DAY), bytes: 65_536 };
        usage.partitions.push(small);
        let plan = planned(&usage, [7, 200], Some(109 * MIB), true);
        let months = named(&plan.goes).into_iter().filter(|(name, _)| name.starts_with("host")).map(|(name, _)| name);
        assert_eq!(months.collect::<Vec<_>>(), ["host_traffic_hourly_p2026_07", "host_traffic_daily_p2026_07"]);
        assert_eq!(plan.excess, 43 * MIB);
    }

    #[test]
    fn what_goes_by_age_counts_for_the_budget_and_nothing_is_named_twice() {
        let usage = usage();
        let age = |names: &[&'static str]| names.iter().map(|name| (*name, Why::Age)).collect::<Vec<_>>();
        let budget = |names: &[&'static str]| names.iter().map(|name| (*name, Why::Budget)).collect::<Vec<_>>();
        // Keeping no row and one day: five days of segments are too old but one, of which three go at once.
        let plan = planned(&usage, [0, 1], None, true);
        assert_eq!(named(&plan.goes), [age(&FLOWS), age(&SEGMENTS[..3])].concat());
        assert_eq!(named(&plan.later), age(&SEGMENTS[3..4]));
        // They are enough for the budget.
        assert_eq!(planned(&usage, [0, 1], Some(35 * MIB), true), Plan { excess: 0, ..plan });
        // Not quite.
        let plan = planned(&usage, [0, 1], Some(35 * MIB + 1), true);
        assert_eq!(named(&plan.goes), [age(&FLOWS), age(&SEGMENTS[..3]), budget(&SEGMENTS[3..4])].concat());
        assert_eq!((plan.later, plan.excess), (vec![], 0));
        // A look at the budget alone.
        let plan = planned(&usage, [0, 1], Some(35 * MIB), false);
        assert_eq!(named(&plan.goes), budget(&[&FLOWS[..], &SEGMENTS[..3]].concat()));
        assert_eq!(plan.later, []);
    }
}
