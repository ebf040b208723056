//! How much of the disk the database takes, by table and partition.

use super::partitions::{DailyTable, MonthlyTable, start_of};
use super::{Database, StoreError, count};
use crate::clock::Timestamp;
use chrono::{DateTime, Utc};
use sqlx::PgConnection;

/// A partition and what it takes with its indexes and large values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionUsage {
    /// The table it is part of.
    pub table: &'static str,
    /// Where its hour, day or month begins.
    pub start: Timestamp,
    /// Bytes.
    pub bytes: u64,
}

/// What the database takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all that is stored, without the write-ahead log.
    pub bytes: u64,
    /// The partitions, by table and time.
    pub partitions: Vec<PartitionUsage>,
    /// When the oldest flow in an open segment was received.
    pub oldest_open: Option<Timestamp>,
}

/// The tables with partitions, those whose days can go first at the front.
pub const TABLES: [&str; 5] = [
    DailyTable::Flows.name(),
    DailyTable::FlowSegments.name(),
    super::partitions::OPEN,
    MonthlyTable::HostTrafficHourly.name(),
    MonthlyTable::HostTrafficDaily.name(),
];

impl Database {
    /// What the database takes now.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn usage(&self) -> Result<Usage, StoreError> {
        read(&mut *self.readers.acquire().await?).await
    }
}

async fn read(connection: &mut PgConnection) -> Result<Usage, StoreError> {
    // A partition that is dropped meanwhile has no size.
    let rows: Vec<(String, String, Option<i64>)> = sqlx::query_as(
        "SELECT parent.relname::text, child.relname::text, pg_total_relation_size(child.oid) FROM pg_inherits \
         JOIN pg_class child ON child.oid = inhrelid JOIN pg_class parent ON parent.oid = inhparent \
         WHERE inhparent = ANY(SELECT to_regclass(name) FROM unnest($1::text[]) AS name)",
    )
    .bind(TABLES.as_slice())
    .fetch_all(&mut *connection)
    .await?;
    // Asked for afterwards: the other way round, a partition that goes in between would have to go once more.
    let bytes: i64 =
        sqlx::query_scalar("SELECT pg_database_size(current_database())").fetch_one(&mut *connection).await?;
    let mut partitions: Vec<_> = rows
        .into_iter()
        .filter_map(|(table, partition, bytes)| {
            let table = TABLES.into_iter().find(|name| *name == table)?;
            Some(PartitionUsage { table, start: start_of(table, &partition)?, bytes: count(bytes?) })
        })
        .collect();
    partitions.sort_by_key(|partition| (TABLES.iter().position(|name| *name == partition.table), partition.start));
    let oldest_open: Option<DateTime<Utc>> =
        sqlx::query_scalar("SELECT min(received_first) FROM flow_segments_open").fetch_one(&mut *connection).await?;
    Ok(Usage { bytes: count(bytes), partitions, oldest_open: oldest_open.map(Timestamp::from) })
}
