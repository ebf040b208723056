//! Which days go so that the database keeps to its budget of bytes: a pure decision from what it takes.
//!
//! Days of the table `flows` go first, because every flow of theirs is also in segments; then days of segments, the oldest
//! first. The day that goes on never goes, and neither do the totals of hosts: those of a year take less than a busy day.

use crate::clock::Timestamp;
use crate::store::partitions::DailyTable;
use crate::store::usage::Usage;

/// A day that goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goes {
    /// Of which table.
    pub table: DailyTable,
    /// The start of the UTC day.
    pub day: Timestamp,
    /// How many bytes are free then.
    pub bytes: u64,
}

/// What goes, and by how many bytes the database is still above its budget after that.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// The days, in the order in which they go.
    pub goes: Vec<Goes>,
    /// Bytes above the budget that nothing can be done about.
    pub excess: u64,
}

/// What must go of `usage` so that at most `max_bytes` are left, where `today` is the day that goes on.
pub fn over(usage: &Usage, max_bytes: u64, today: Timestamp) -> Budget {
    let mut excess = usage.bytes.saturating_sub(max_bytes);
    let mut goes = Vec::new();
    for table in DailyTable::ALL {
        for partition in usage.partitions.iter().filter(|partition| partition.table == table.name()) {
            if excess == 0 {
                return Budget { goes, excess };
            }
            // A day without flows was made with the table and takes a few pages; dropping it frees nothing worth it.
            if partition.start < today.day() && partition.bytes > EMPTY {
                excess = excess.saturating_sub(partition.bytes);
                goes.push(Goes { table, day: partition.start, bytes: partition.bytes });
            }
        }
    }
    Budget { goes, excess }
}

/// Bytes that a partition without rows takes at most.
const EMPTY: u64 = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::DAY;
    use crate::store::usage::PartitionUsage;

    const MIB: u64 = 1 << 20;

    fn day(number: i64) -> Timestamp {
        Timestamp::from_micros(number * DAY)
    }

    /// 10 MiB of rows a day from day 7 on, 5 MiB of segments from day 4 on, up to today, day 9.
    fn usage() -> Usage {
        let rows = (7..=9).map(|number| ("flows", number, 10 * MIB));
        let segments = (4..=9).map(|number| ("flow_segments", number, 5 * MIB));
        let others = [("flows", 10, 8_192), ("host_traffic_hourly", 0, 20 * MIB)];
        let all = rows.chain(segments).chain(others);
        let partitions: Vec<_> =
            all.map(|(table, number, bytes)| PartitionUsage { table, start: day(number), bytes }).collect();
        Usage { bytes: partitions.iter().map(|partition| partition.bytes).sum(), partitions }
    }

    #[test]
    fn rows_go_first_then_the_oldest_segments_and_never_the_open_day_or_totals() {
        let usage = usage();
        let goes = |above: u64| {
            let Budget { goes, excess } = over(&usage, usage.bytes - above, day(9).plus(DAY / 2));
            let days: Vec<_> = goes.iter().map(|goes| (goes.table.name(), goes.day.micros() / DAY)).collect();
            (days, excess)
        };
        let rows = [("flows", 7), ("flows", 8)];
        let all: Vec<_> = rows.into_iter().chain((4..9).map(|number| ("flow_segments", number))).collect();
        assert_eq!(goes(0), (vec![], 0));
        assert_eq!(goes(1), (rows[..1].to_vec(), 0));
        assert_eq!(goes(10 * MIB), (rows[..1].to_vec(), 0));
        assert_eq!(goes(10 * MIB + 1), (rows.to_vec(), 0));
        assert_eq!(goes(20 * MIB + 1), (all[..3].to_vec(), 0));
        assert_eq!(goes(27 * MIB), (all[..4].to_vec(), 0));
        assert_eq!(goes(45 * MIB), (all.clone(), 0));
        assert_eq!(goes(46 * MIB), (all, MIB));
    }
}
