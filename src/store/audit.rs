//! What the database holds, as far as it can be compared with itself and with the journal: days, ids, positions, sums.
//!
//! It only reads, from one snapshot. What the figures ought to be is others' business.

use super::commit::SEGMENT_BITS;
use super::packed::Period;
use super::partitions::DailyTable;
use super::snapshot::Snapshot;
use super::{Database, StoreError, count, totals};
use crate::clock::{DAY, Timestamp};
use crate::flow::host_traffic::{HostTraffic, HostTrafficKey};
use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;

/// How many odd ids are listed at most.
const LISTED: i64 = 20;

/// A row that is missing on one side differs, too.
const SUMMED_DAYS: &str = "\
    WITH valid AS ( \
        SELECT day FROM days WHERE (hours, versions) = ( \
            SELECT count(*), sum(version) FROM hours WHERE hour >= day AND hour < day + interval '24 hours' \
            HAVING bool_and(coalesce(sealed_at IS NOT NULL AND local = days.local, false)))), \
    summed AS ( \
        SELECT date_trunc('day', hour, 'UTC') AS day, host, exporter_id, direction, \
               least(sum(bytes), 9223372036854775807) AS bytes, least(sum(packets), 9223372036854775807) AS packets, \
               least(sum(flows), 9223372036854775807) AS flows, least(sum(records), 9223372036854775807) AS records, \
               least(sum(raw_bytes), 9223372036854775807) AS raw_bytes, \
               least(sum(raw_packets), 9223372036854775807) AS raw_packets, \
               least(sum(sampled_flows), 9223372036854775807) AS sampled_flows, \
               min(first_seen) AS first_seen, max(last_seen) AS last_seen \
        FROM host_traffic_hourly WHERE date_trunc('day', hour, 'UTC') IN (SELECT day FROM valid) GROUP BY 1, 2, 3, 4) \
    SELECT valid.day, count(*) FILTER (WHERE compared.differs) FROM valid LEFT JOIN ( \
        SELECT day, (daily.bytes, daily.packets, daily.flows, daily.records, daily.raw_bytes, daily.raw_packets, \
                     daily.sampled_flows, daily.first_seen, daily.last_seen) IS DISTINCT FROM \
                    (summed.bytes, summed.packets, summed.flows, summed.records, summed.raw_bytes, summed.raw_packets, \
                     summed.sampled_flows, summed.first_seen, summed.last_seen) AS differs \
        FROM (SELECT * FROM host_traffic_daily WHERE day IN (SELECT day FROM valid)) AS daily \
        FULL JOIN summed USING (day, host, exporter_id, direction)) AS compared USING (day) \
    GROUP BY valid.day ORDER BY valid.day";

/// Sums that do not saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Records: rows of `flows`, or as segments count them.
    pub rows: u128,
    /// Bytes in both counters.
    pub bytes: u128,
    /// Packets in both counters.
    pub packets: u128,
    /// Flows, counting what the exporter aggregated.
    pub flows: u128,
    /// Whether a segment holds more of something than it can say: a column of the database ends at 2^63 - 1.
    pub cut: bool,
}

/// A journal as the database knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredJournal {
    /// Its id.
    pub id: String,
    /// Everything before this position is stored.
    pub position: u64,
    /// Everything received before this moment is stored.
    pub complete_until: Option<Timestamp>,
    /// When the collector last reported, by the database's clock.
    pub updated_at: Timestamp,
}

impl Database {
    /// Whether the schema is that of this program: the number of the newest migration that was run, and of the newest there
    /// is; `None` when the database is empty.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn schema(&self) -> Result<(Option<i64>, i64), StoreError> {
        let table: Option<String> =
            sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations')::text").fetch_one(&self.readers).await?;
        let run = match table {
            None => None,
            Some(_) => {
                sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations WHERE success")
                    .fetch_one(&self.readers)
                    .await?
            }
        };
        Ok((run, super::migrate::newest()))
    }
}

impl Snapshot {
    /// Lets each statement take as long as it needs.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn take_time(&mut self) -> Result<(), StoreError> {
        for statement in ["SET LOCAL statement_timeout = 0", "SET LOCAL idle_in_transaction_session_timeout = 0"] {
            sqlx::query(statement).execute(self.connection()).await?;
        }
        Ok(())
    }

    /// The database's clock.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn clock(&mut self) -> Result<Timestamp, StoreError> {
        let now: DateTime<Utc> = sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(self.connection()).await?;
        Ok(now.into())
    }

    /// The days that have a partition, ascending. Of one that is being detached nothing can be read any more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn days(&mut self, table: DailyTable) -> Result<Vec<Timestamp>, StoreError> {
        let names: Vec<String> = sqlx::query_scalar(
            "SELECT child.relname::text FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid \
             WHERE inhparent = $1::regclass AND NOT inhdetachpending",
        )
        .bind(table.name())
        .fetch_all(self.connection())
        .await?;
        let mut days: Vec<_> = names.iter().filter_map(|name| table.day(name)).collect();
        days.sort_unstable();
        Ok(days)
    }

    /// What `table`, with the segments of open hours, holds of the UTC day that begins at `day`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sums_of_day(&mut self, table: DailyTable, day: Timestamp) -> Result<Sums, StoreError> {
        let (rows, bytes, packets, flows, largest) = match table {
            DailyTable::FlowSegments => (
                "sum(flow_rows)",
                "total_bytes",
                "total_packets",
                "total_flows",
                "max(greatest(total_bytes, total_packets, total_flows))",
            ),
            DailyTable::Flows => (
                "count(*)",
                "coalesce(in_bytes, 0)::numeric + coalesce(out_bytes, 0)",
                "coalesce(in_packets, 0)::numeric + coalesce(out_packets, 0)",
                "coalesce(aggregated_flows, 1)",
                "0",
            ),
        };
        let from = match table {
            DailyTable::FlowSegments => "segment_headers WHERE received_first >= $1 AND received_first < $2",
            DailyTable::Flows => "flows WHERE received >= $1 AND received < $2",
        };
        // Only names of this module.
        let statement = AssertSqlSafe(format!(
            "SELECT coalesce({rows}, 0)::text, coalesce(sum({bytes}), 0)::text, coalesce(sum({packets}), 0)::text, \
             coalesce(sum({flows}), 0)::text, coalesce({largest}, 0)::bigint FROM {from}",
        ));
        let sums: (String, String, String, String, i64) = sqlx::query_as(statement)
            .bind(day.to_utc())
            .bind(day.plus(DAY).to_utc())
            .fetch_one(self.connection())
            .await?;
        let number = |text: &str| {
            text.parse().map_err(|_| StoreError::Unexpected { place: "sums of a day", detail: text.to_owned() })
        };
        Ok(Sums {
            rows: number(&sums.0)?,
            bytes: number(&sums.1)?,
            packets: number(&sums.2)?,
            flows: number(&sums.3)?,
            cut: sums.4 == i64::MAX,
        })
    }

    /// Ids that more than one segment has, some of them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn repeated_segments(&mut self) -> Result<Vec<i64>, StoreError> {
        let statement = "SELECT segment_id FROM segment_headers GROUP BY 1 HAVING count(*) > 1 ORDER BY 1 LIMIT $1";
        Ok(sqlx::query_scalar(statement).bind(LISTED).fetch_all(self.connection()).await?)
    }

    /// Ids of segments that neither a journal nor an import has given out, some of them: one of them may be given out again.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn segments_of_nobody(&mut self) -> Result<Vec<i64>, StoreError> {
        let ids = sqlx::query_scalar(
            "SELECT segment_id FROM segment_headers WHERE NOT EXISTS (SELECT FROM journal_positions \
             WHERE number = segment_id >> $1 AND next_segment > segment_id - (number << $1)) \
             AND NOT EXISTS (SELECT FROM import_segments WHERE segment_id >= 0 AND next_segment > segment_id) \
             ORDER BY 1 LIMIT $2",
        )
        .bind(i32::try_from(SEGMENT_BITS).unwrap_or(0))
        .bind(LISTED)
        .fetch_all(self.connection())
        .await?;
        Ok(ids)
    }

    /// How many records exporters are known to have sent to collectors, ever, and how many the segments hold of these.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn records(&mut self) -> Result<(u64, u64), StoreError> {
        let (sent, stored): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT coalesce(sum(flows), 0)::bigint FROM exporter_activity), \
             (SELECT coalesce(sum(flow_rows), 0)::bigint FROM segment_headers WHERE segment_id >> $1 <> 0)",
        )
        .bind(i32::try_from(SEGMENT_BITS).unwrap_or(0))
        .fetch_one(self.connection())
        .await?;
        Ok((count(sent), count(stored)))
    }

    /// The last day of which flows were dropped that were received since `began`; `None` when none were.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn last_dropped(&mut self, began: Option<Timestamp>) -> Result<Option<Timestamp>, StoreError> {
        let Some(began) = began else { return Ok(None) };
        let hour: Option<DateTime<Utc>> =
            sqlx::query_scalar("SELECT max(hour) FROM hours WHERE flows_dropped AND hour >= $1")
                .bind(began.hour().to_utc())
                .fetch_one(self.connection())
                .await?;
        Ok(hour.map(|hour| Timestamp::from(hour).day()))
    }

    /// The sealed hours from `from` up to `to` whose totals were counted by `local` and of which all flows are kept, and how
    /// many other hours are known.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn counted_hours(
        &mut self,
        from: Timestamp,
        to: Timestamp,
        local: &str,
    ) -> Result<(Vec<Timestamp>, usize), StoreError> {
        let hours: Vec<(DateTime<Utc>, bool)> = sqlx::query_as(
            "SELECT hour, sealed_at IS NOT NULL AND NOT flows_dropped AND local IS NOT DISTINCT FROM $3 FROM hours \
             WHERE hour >= $1 AND hour < $2 ORDER BY hour",
        )
        .bind(from.to_utc())
        .bind(to.to_utc())
        .bind(local)
        .fetch_all(self.connection())
        .await?;
        let counted: Vec<Timestamp> =
            hours.iter().filter(|(_, counted)| *counted).map(|(hour, _)| (*hour).into()).collect();
        let others = hours.len().saturating_sub(counted.len());
        Ok((counted, others))
    }

    /// The host totals of the hour or day; `None` when they are more than are held in memory at once.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn totals_of(
        &mut self,
        period: Period,
    ) -> Result<Option<Vec<(HostTrafficKey, HostTraffic)>>, StoreError> {
        totals::of(self.connection(), period).await
    }

    /// The UTC days whose totals are valid, each with how many rows of it are not the sums of its hours' rows.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn summed_days(&mut self) -> Result<Vec<(Timestamp, u64)>, StoreError> {
        let days: Vec<(DateTime<Utc>, i64)> = sqlx::query_as(SUMMED_DAYS).fetch_all(self.connection()).await?;
        Ok(days.into_iter().map(|(day, differing)| (day.into(), count(differing))).collect())
    }

    /// Since when the first collector records; `None` when there was none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn began(&mut self) -> Result<Option<Timestamp>, StoreError> {
        let began: Option<DateTime<Utc>> =
            sqlx::query_scalar("SELECT min(created_at) FROM journal_positions").fetch_one(self.connection()).await?;
        Ok(began.map(Timestamp::from))
    }

    /// The journals, the one that reported last first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn journals(&mut self) -> Result<Vec<StoredJournal>, StoreError> {
        type Row = (String, i64, Option<DateTime<Utc>>, DateTime<Utc>);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT journal_id::text, position, complete_until, updated_at FROM journal_positions ORDER BY 4 DESC, 1",
        )
        .fetch_all(self.connection())
        .await?;
        Ok(rows
            .into_iter()
            .map(|(id, position, complete_until, updated_at)| StoredJournal {
                id,
                position: count(position),
                complete_until: complete_until.map(Timestamp::from),
                updated_at: updated_at.into(),
            })
            .collect())
    }
}
