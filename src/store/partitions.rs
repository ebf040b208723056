//! Days, hours and months as partitions: made ahead, dropped whole.

use super::{Database, StoreError};
use crate::clock::{DAY, HOUR, Timestamp};
use chrono::{DateTime, Datelike, Months, NaiveDate, Utc};
use sqlx::AssertSqlSafe;

/// The table of segments that are not sealed yet. Its partitions hold an hour of the database's clock each.
pub(super) const OPEN: &str = "flow_segments_open";
/// How many hours of open segments are made ahead.
const OPEN_AHEAD: i64 = 6;
/// How long after its hour a partition of open segments stays: a query that began before its last segment was sealed may
/// still read it.
const OPEN_KEPT: i64 = HOUR / 6;

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
        let date = moment.to_utc().date_naive();
        let first = NaiveDate::from_ymd_opt(date.year(), date.month(), 1)?;
        let next = first.checked_add_months(Months::new(1))?;
        let start = |date: NaiveDate| Some(Timestamp::from(date.and_hms_opt(0, 0, 0)?.and_utc()));
        let name = format!("{}_p{}", table.name(), first.format("%Y_%m"));
        Some(Self { parent: table.name(), name, from: start(first)?, to: start(next)? })
    }
}

/// The hour of a partition of open segments.
fn open_hour(name: &str) -> Option<Timestamp> {
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
        let now: DateTime<Utc> = sqlx::query_scalar("SELECT now()").fetch_one(&self.writers).await?;
        Ok(now.into())
    }

    async fn ensure(&self, partition: &Partition) -> Result<(), StoreError> {
        if self.has(partition).await? {
            return Ok(());
        }
        match self.make(partition).await {
            // Two servers can make the same partition at once; the later one is refused in one of several ways.
            Err(_) if self.has(partition).await? => Ok(()),
            made => made,
        }
    }

    /// Whether the partition is there. Asks the catalogue only, so it waits for nobody.
    async fn has(&self, partition: &Partition) -> Result<bool, StoreError> {
        let found = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid \
             WHERE inhparent = $1::regclass AND child.relname = $2)",
        )
        .bind(partition.parent)
        .bind(&partition.name)
        .fetch_one(&self.writers)
        .await?;
        Ok(found)
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

    /// Drops the partitions of open segments whose hour is over and whose segments are all sealed, and says how many. They
    /// are detached first, which waits for those who use the table but holds up nobody.
    ///
    /// # Errors
    /// When the database does not answer. The next call goes on where this one ended.
    pub async fn drop_sealed(&self) -> Result<u64, StoreError> {
        let over = self.now().await?.plus(-OPEN_KEPT);
        let partitions: Vec<(String, bool)> = sqlx::query_as(
            "SELECT child.relname::text, inhdetachpending FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid \
             WHERE inhparent = $1::regclass ORDER BY 1",
        )
        .bind(OPEN)
        .fetch_all(&self.writers)
        .await?;
        let mut dropped = 0u64;
        for (name, pending) in partitions {
            if open_hour(&name).is_none_or(|hour| hour.plus(HOUR) > over) {
                continue;
            }
            let statement = |text: String| sqlx::query(AssertSqlSafe(text)).persistent(false);
            let used = AssertSqlSafe(format!("SELECT EXISTS (SELECT FROM {name})"));
            if sqlx::query_scalar::<_, bool>(used).persistent(false).fetch_one(&self.writers).await? {
                continue;
            }
            // Nothing is added to an hour that is over, so it stays empty.
            let how = if pending { "FINALIZE" } else { "CONCURRENTLY" };
            statement(format!("ALTER TABLE {OPEN} DETACH PARTITION {name} {how}")).execute(&self.writers).await?;
            statement(format!("DROP TABLE IF EXISTS {name}")).execute(&self.writers).await?;
            dropped = dropped.saturating_add(1);
        }
        Ok(dropped)
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

    /// Drops the partition of the UTC day that begins at `day`, with all its flows. Gives up after some seconds when
    /// somebody reads it; the next round tries again.
    ///
    /// # Errors
    /// When the database does not answer or the partition is in use.
    pub async fn drop_day(&self, table: DailyTable, day: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.writers.begin().await?;
        sqlx::query("SET LOCAL lock_timeout = '5s'").execute(&mut *transaction).await?;
        let (from, to) = (day.to_utc(), day.plus(DAY).to_utc());
        let mut uncounted: Vec<DateTime<Utc>> = Vec::new();
        if table == DailyTable::FlowSegments {
            let open = sqlx::query_scalar(
                "SELECT hour FROM hours WHERE sealed_at IS NULL AND hour >= $1 AND hour < $2 AND EXISTS (SELECT FROM \
                 flow_segments WHERE received_first >= hour AND received_first < hour + interval '1 hour' \
                 AND received_first >= $1 AND received_first < $2)",
            );
            uncounted = open.bind(from).bind(to).fetch_all(&mut *transaction).await?;
        }
        let statement = AssertSqlSafe(format!("DROP TABLE IF EXISTS {}", table.partition(day)));
        sqlx::query(statement).persistent(false).execute(&mut *transaction).await?;
        if table == DailyTable::FlowSegments {
            // After the partition, as one who seals an hour takes its locks. Totals of an open hour may lack what goes.
            let hours = sqlx::query(
                "UPDATE hours SET flows_dropped = true, local = CASE WHEN hour = ANY($3) THEN NULL ELSE local END \
                 WHERE hour >= $1 AND hour < $2 AND (version > 0 OR hour = ANY($3))",
            );
            hours.bind(from).bind(to).bind(uncounted).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
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
