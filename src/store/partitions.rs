//! Days of flows as partitions: made ahead, dropped whole.

use super::{Database, StoreError};
use crate::clock::{DAY, Timestamp};
use sqlx::AssertSqlSafe;

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
        let date = chrono::NaiveDate::parse_from_str(date, "%Y_%m_%d").ok()?;
        Some(date.and_hms_opt(0, 0, 0)?.and_utc().into())
    }
}

impl Database {
    /// Makes the partition of the UTC day that `moment` lies in, unless it is there. Readers and writers of other days are
    /// not held up, nor waited for.
    ///
    /// # Errors
    /// When the database does not answer, or another upkeep of the table lasts longer than some seconds.
    pub async fn ensure_day(&self, table: DailyTable, moment: Timestamp) -> Result<(), StoreError> {
        let day = moment.day();
        if self.has_day(table, day).await? {
            return Ok(());
        }
        match self.make_day(table, day).await {
            // Two servers can make the same partition at once; the later one is refused in one of several ways.
            Err(_) if self.has_day(table, day).await? => Ok(()),
            made => made,
        }
    }

    /// Whether the UTC day that begins at `day` has its partition. Asks the catalogue only, so it waits for nobody.
    async fn has_day(&self, table: DailyTable, day: Timestamp) -> Result<bool, StoreError> {
        let found = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid \
             WHERE inhparent = $1::regclass AND child.relname = $2)",
        )
        .bind(table.name())
        .bind(table.partition(day))
        .fetch_one(&self.writers)
        .await?;
        Ok(found)
    }

    /// Makes a table and attaches it. CREATE TABLE .. PARTITION OF would lock the whole table against everybody, wait for
    /// every reader and meanwhile let nobody write; ATTACH gets along with both.
    async fn make_day(&self, table: DailyTable, day: Timestamp) -> Result<(), StoreError> {
        let (parent, partition) = (table.name(), table.partition(day));
        let mut transaction = self.writers.begin().await?;
        sqlx::query("SET LOCAL lock_timeout = '5s'").execute(&mut *transaction).await?;
        // DDL takes no parameters; the text holds only this module's names and dates.
        for statement in [
            format!("CREATE TABLE IF NOT EXISTS {partition} (LIKE {parent} INCLUDING DEFAULTS INCLUDING STORAGE)"),
            format!(
                "ALTER TABLE {parent} ATTACH PARTITION {partition} FOR VALUES FROM ('{day}') TO ('{}')",
                day.plus(DAY)
            ),
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

    /// Drops the partition of the UTC day that begins at `day`, with all its flows. Gives up after some seconds when
    /// somebody reads it; the next round tries again.
    ///
    /// # Errors
    /// When the database does not answer or the partition is in use.
    pub async fn drop_day(&self, table: DailyTable, day: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.writers.begin().await?;
        sqlx::query("SET LOCAL lock_timeout = '5s'").execute(&mut *transaction).await?;
        let statement = AssertSqlSafe(format!("DROP TABLE IF EXISTS {}", table.partition(day)));
        sqlx::query(statement).persistent(false).execute(&mut *transaction).await?;
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
        assert_eq!(DailyTable::Flows.day("flows_archive"), None);
        assert_eq!(DailyTable::Flows.day("flow_segments_p2026_11_23"), None);
    }
}
