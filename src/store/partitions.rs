//! Days, hours and months as partitions: named by their time, made ahead. How they are dropped is [`super::drops`]'s.

use super::{Database, StoreError, answer};
use crate::clock::{DAY, HOUR, Timestamp};
use chrono::{DateTime, Datelike, Months, NaiveDate, Utc};
use sqlx::AssertSqlSafe;

/// The table of segments that are not sealed yet. Its partitions hold an hour of the database's clock each.
pub(super) const OPEN: &str = "flow_segments_open";
/// How many hours of open segments are made ahead.
const OPEN_AHEAD: i64 = 6;

/// A table that has one partition a UTC day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DailyTable {
    /// Flows as rows.
    Flows,
    /// Flows as compressed columns.
    FlowSegments,
}

impl DailyTable {
    /// Both tables.
    pub const ALL: [Self; 2] = [Self::Flows, Self::FlowSegments];

    /// The table's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flows => "flows",
            Self::FlowSegments => "flow_segments",
        }
    }

    /// The name of the partition of the UTC day that begins at `day`.
    pub fn partition(self, day: Timestamp) -> String {
        format!("{}_p{}", self.name(), day.to_utc().format("%Y_%m_%d"))
    }

    /// The day of the partition called `name`, when it is one of this table.
    pub fn day(self, name: &str) -> Option<Timestamp> {
        let date = name.strip_prefix(self.name())?.strip_prefix("_p")?;
        let date = NaiveDate::parse_from_str(date, "%Y_%m_%d").ok()?;
        Some(date.and_hms_opt(0, 0, 0)?.and_utc().into())
    }
}

/// A table that has one partition a UTC month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MonthlyTable {
    /// Totals of hosts by hour.
    HostTrafficHourly,
    /// Totals of hosts by day.
    HostTrafficDaily,
}

impl MonthlyTable {
    /// Both tables.
    pub const ALL: [Self; 2] = [Self::HostTrafficHourly, Self::HostTrafficDaily];

    /// The table's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HostTrafficHourly => "host_traffic_hourly",
            Self::HostTrafficDaily => "host_traffic_daily",
        }
    }

    /// The name of the partition of the UTC month that begins at `month`.
    pub fn partition(self, month: Timestamp) -> String {
        format!("{}_p{}", self.name(), month.to_utc().format("%Y_%m"))
    }
}

/// The starts of the UTC month that `moment` lies in and of the next one; `None` beyond the calendar.
pub fn month_of(moment: Timestamp) -> Option<(Timestamp, Timestamp)> {
    let date = moment.to_utc().date_naive();
    let first = NaiveDate::from_ymd_opt(date.year(), date.month(), 1)?;
    let next = first.checked_add_months(Months::new(1))?;
    let start = |date: NaiveDate| Some(Timestamp::from(date.and_hms_opt(0, 0, 0)?.and_utc()));
    Some((start(first)?, start(next)?))
}

/// One partition, by name and bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Partition {
    parent: &'static str,
    name: String,
    from: Timestamp,
    to: Timestamp,
}

impl Partition {
    fn of_day(table: DailyTable, moment: Timestamp) -> Self {
        let from = moment.day();
        Self { parent: table.name(), name: table.partition(from), from, to: from.plus(DAY) }
    }

    fn of_open_hour(moment: Timestamp) -> Self {
        let from = moment.hour();
        let name = format!("{OPEN}_p{}", from.to_utc().format("%Y_%m_%d_%H"));
        Self { parent: OPEN, name, from, to: from.plus(HOUR) }
    }

    /// The month that `moment` lies in; `None` beyond the calendar.
    fn of_month(table: MonthlyTable, moment: Timestamp) -> Option<Self> {
        let (from, to) = month_of(moment)?;
        Some(Self { parent: table.name(), name: table.partition(from), from, to })
    }
}

/// The hour of a partition of open segments.
pub(super) fn open_hour(name: &str) -> Option<Timestamp> {
    let (date, hour) = name.strip_prefix(OPEN)?.strip_prefix("_p")?.rsplit_once('_')?;
    let date = NaiveDate::parse_from_str(date, "%Y_%m_%d").ok()?;
    Some(date.and_hms_opt(hour.parse().ok()?, 0, 0)?.and_utc().into())
}

/// Where the partition called `name` of `table` begins, when it is one of our own making.
pub(super) fn start_of(table: &str, name: &str) -> Option<Timestamp> {
    if let Some(table) = DailyTable::ALL.into_iter().find(|daily| daily.name() == table) {
        return table.day(name);
    }
    if table == OPEN {
        return open_hour(name);
    }
    let month = name.strip_prefix(table)?.strip_prefix("_p")?;
    let first = NaiveDate::parse_from_str(&format!("{month}_01"), "%Y_%m_%d").ok()?;
    Some(first.and_hms_opt(0, 0, 0)?.and_utc().into())
}

impl Database {
    /// Makes the partition of the UTC day that `moment` lies in, unless it is there. Readers and writers of other days are
    /// not held up, nor waited for.
    ///
    /// # Errors
    /// When the database does not answer, or another upkeep of the table lasts longer than some seconds.
    pub async fn ensure_day(&self, table: DailyTable, moment: Timestamp) -> Result<(), StoreError> {
        self.ensure(&Partition::of_day(table, moment)).await
    }

    /// Makes the partition of `flows` of the UTC day that begins at `day`, unless it is there, or flows of the day are stored
    /// without it: then it was dropped, or rows were not wanted, and a new one would hold a part of the day and look like all
    /// of it. Returns whether rows of the day are to be written.
    ///
    /// # Errors
    /// As [`Database::ensure_day`].
    pub async fn ensure_rows(&self, day: Timestamp) -> Result<bool, StoreError> {
        let partition = Partition::of_day(DailyTable::Flows, day);
        // In one statement, and so of one moment: whoever stores the first flows of a day has made the partition before.
        let written = sqlx::query_scalar(
            "SELECT CASE WHEN EXISTS (SELECT FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid \
             WHERE inhparent = $1::regclass AND child.relname = $2 AND NOT inhdetachpending) THEN true \
             WHEN EXISTS (SELECT FROM segment_headers WHERE received_first >= $3 AND received_first < $4) THEN false END",
        );
        let written: Option<bool> = written
            .bind(partition.parent)
            .bind(&partition.name)
            .bind(partition.from.to_utc())
            .bind(partition.to.to_utc())
            .fetch_one(&self.writers)
            .await?;
        if written.is_none() {
            self.ensure(&partition).await?;
        }
        Ok(written.unwrap_or(true))
    }

    /// Makes the partition of the UTC month that `moment` lies in, as [`Database::ensure_day`] does.
    ///
    /// # Errors
    /// As there.
    pub async fn ensure_month(&self, table: MonthlyTable, moment: Timestamp) -> Result<(), StoreError> {
        match Partition::of_month(table, moment) {
            Some(partition) => self.ensure(&partition).await,
            None => Ok(()),
        }
    }

    /// Makes the partitions in which open segments are stored now and in the next hours, by the database's clock.
    ///
    /// # Errors
    /// As [`Database::ensure_day`].
    pub async fn ensure_open(&self) -> Result<(), StoreError> {
        let now = self.now().await?;
        for hours in 0..=OPEN_AHEAD {
            self.ensure(&Partition::of_open_hour(now.plus(hours.saturating_mul(HOUR)))).await?;
        }
        Ok(())
    }

    /// The time by the database's clock.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn now(&self) -> Result<Timestamp, StoreError> {
        let now: DateTime<Utc> = answer(sqlx::query_scalar("SELECT now()").fetch_one(&self.writers)).await?;
        Ok(now.into())
    }

    async fn ensure(&self, partition: &Partition) -> Result<(), StoreError> {
        match self.is_leaving(partition.parent, &partition.name).await? {
            Some(false) => return Ok(()),
            // It was to be dropped and is wanted now: it is attached again.
            Some(true) => self.finish_leaving(partition.parent, &partition.name).await?,
            None => {}
        }
        match self.make(partition).await {
            // Two servers can make the same partition at once; the later one is refused in one of several ways.
            Err(_) if self.is_leaving(partition.parent, &partition.name).await? == Some(false) => Ok(()),
            made => made,
        }
    }

    /// Makes a table and attaches it. CREATE TABLE .. PARTITION OF would lock the whole table against everybody, wait for
    /// every reader and meanwhile let nobody write; ATTACH gets along with both.
    async fn make(&self, partition: &Partition) -> Result<(), StoreError> {
        let Partition { parent, name, from, to } = partition;
        let mut transaction = self.writers.begin().await?;
        sqlx::query("SET LOCAL lock_timeout = '5s'").execute(&mut *transaction).await?;
        // DDL takes no parameters; the text holds only this module's names and dates.
        for statement in [
            format!("CREATE TABLE IF NOT EXISTS {name} (LIKE {parent} INCLUDING DEFAULTS INCLUDING STORAGE)"),
            format!("ALTER TABLE {parent} ATTACH PARTITION {name} FOR VALUES FROM ('{from}') TO ('{to}')"),
        ] {
            sqlx::query(AssertSqlSafe(statement)).persistent(false).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    /// The days that have a partition, ascending.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn days(&self, table: DailyTable) -> Result<Vec<Timestamp>, StoreError> {
        let names: Vec<String> = sqlx::query_scalar(
            "SELECT child.relname::text FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid \
             WHERE inhparent = $1::regclass",
        )
        .bind(table.name())
        .fetch_all(&self.writers)
        .await?;
        let mut days: Vec<_> = names.iter().filter_map(|name| table.day(name)).collect();
        days.sort_unstable();
        Ok(days)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_named_by_its_utc_day_and_found_by_its_name() {
        let moment = Timestamp::from_micros(1_795_392_000_000_000 + 5);
        for table in DailyTable::ALL {
            let name = table.partition(moment.day());
            assert_eq!(name, format!("{}_p2026_11_23", table.name()));
            assert_eq!(table.day(&name), Some(moment.day()));
        }
        assert_eq!(Partition::of_open_hour(moment.plus(14 * HOUR)).name, "flow_segments_open_p2026_11_23_14");
        assert_eq!(open_hour("flow_segments_open_p2026_11_23_14"), Some(moment.day().plus(14 * HOUR)));
        assert_eq!(open_hour("flow_segments_p2026_11_23"), None);
        assert_eq!(DailyTable::Flows.day("flows_archive"), None);
        assert_eq!(DailyTable::Flows.day("flow_segments_p2026_11_23"), None);
    }

    #[test]
    fn a_month_ends_where_the_next_begins() {
        let day = |text: &str| {
            Timestamp::from(NaiveDate::parse_from_str(text, "%F").unwrap().and_hms_opt(0, 0, 0).unwrap().and_utc())
        };
        for (moment, name, from, to) in [
            ("2026-11-23", "host_traffic_hourly_p2026_11", "2026-11-01", "2026-12-01"),
            ("2026-12-31", "host_traffic_hourly_p2026_12", "2026-12-01", "2027-01-01"),
            ("2028-02-29", "host_traffic_hourly_p2028_02", "2028-02-01", "2028-03-01"),
        ] {
            let partition = Partition::of_month(MonthlyTable::HostTrafficHourly, day(moment).plus(DAY - 1)).unwrap();
            assert_eq!((partition.name.as_str(), partition.from, partition.to), (name, day(from), day(to)));
            assert_eq!(start_of(partition.parent, name), Some(day(from)));
        }
    }
}
