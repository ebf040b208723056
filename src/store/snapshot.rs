//! Reading flows back: one moment of the database, seen alike by several sessions.
//!
//! A [`Snapshot`] is a read-only transaction that sees everything committed before it began and nothing after. It lists
//! segments, loads the blocks that are asked for, and can be joined by further sessions that see exactly the same, so that
//! several workers read at once and still answer from one moment.

use super::catalogue;
use super::partitions::DailyTable;
use super::segments::Place;
use super::{Database, StoreError, count};
use crate::clock::{HOUR, Timestamp};
use crate::flow::fields::Field;
use crate::flow::segment::{Segment, Totals};
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::types::ipnetwork::IpNetwork;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Row, Transaction};
use std::net::IpAddr;

/// A segment without its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The segment's id.
    pub segment_id: i64,
    /// How many flows it holds.
    pub rows: u32,
    /// The earliest receive time.
    pub received_first: Timestamp,
    /// The latest receive time.
    pub received_last: Timestamp,
    /// Sums over its flows.
    pub totals: Totals,
    /// Whether it waits in the open hours, to become part of a larger one.
    pub open: bool,
}

/// Loss as it was stored, summed over the hours asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLoss {
    /// The exporter, 0 for none known.
    pub exporter_id: u32,
    /// Why it is missing.
    pub cause: String,
    /// What is counted.
    pub unit: String,
    /// How many; never negative.
    pub count: u64,
}

/// Who an exporter is, and what its datagrams held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its number in flows.
    pub exporter_id: u32,
    /// The address its datagrams come from.
    pub address: IpAddr,
    /// What people call it.
    pub name: Option<String>,
    /// The most flows that one of its datagrams ever held; 0 when none is known to have held any.
    pub most_flows: u64,
}

/// One moment of the database. Dropping it ends its transaction.
#[derive(Debug)]
pub struct Snapshot {
    database: Database,
    transaction: Transaction<'static, Postgres>,
}

impl Database {
    /// Begins a snapshot of everything committed until now.
    ///
    /// # Errors
    /// When the database does not answer or all readers are taken.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let transaction = self.readers.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        Ok(Snapshot { database: self.clone(), transaction })
    }
}

/// Dropping a partition is not hidden from a transaction that began before: what it has read of hours would speak of flows that are
/// gone. Who holds a table keeps its partitions. This takes no snapshot yet, so the moment is after the last drop.
const HOLD: &str = "LOCK TABLE ONLY flow_segments, ONLY flow_segments_open, ONLY host_traffic_hourly, ONLY host_traffic_daily \
     IN ACCESS SHARE MODE";

impl Database {
    /// The same for who reads flows or totals after what is known of their hours: nothing is dropped while it lives.
    ///
    /// # Errors
    /// As there, or when somebody keeps a table for himself.
    pub async fn snapshot_of_flows(&self) -> Result<Snapshot, StoreError> {
        let mut snapshot = self.snapshot().await?;
        sqlx::query(HOLD).execute(&mut *snapshot.transaction).await?;
        Ok(snapshot)
    }
}

impl Snapshot {
    /// A name by which [`Snapshot::join`] finds this moment, valid while this snapshot lives.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn share(&mut self) -> Result<String, StoreError> {
        Ok(sqlx::query_scalar("SELECT pg_export_snapshot()").fetch_one(&mut *self.transaction).await?)
    }

    /// Another session that sees the moment which [`Snapshot::share`] named.
    ///
    /// # Errors
    /// When the sharing snapshot has ended, or the database does not answer.
    pub async fn join(database: &Database, name: &str) -> Result<Self, StoreError> {
        let mut snapshot = database.snapshot().await?;
        // SET TRANSACTION SNAPSHOT takes no parameters. The name comes from PostgreSQL; anything else is refused here.
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(StoreError::Unexpected { place: "the name of a snapshot", detail: format!("{name:?}") });
        }
        let statement = AssertSqlSafe(format!("SET TRANSACTION SNAPSHOT '{name}'"));
        sqlx::query(statement).persistent(false).execute(&mut *snapshot.transaction).await?;
        Ok(snapshot)
    }

    /// The session, for what other files of the store read.
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// The database this is a moment of.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The segments that hold flows received from `from` up to but not including `to`, in the order of time.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn segments(&mut self, from: Timestamp, to: Timestamp) -> Result<Vec<SegmentHeader>, StoreError> {
        // A segment lies in one hour, so one that begins before the window can only begin in the window's first hour.
        let rows = sqlx::query(
            "SELECT segment_id, flow_rows, received_first, received_last, total_bytes, total_packets, total_flows, open \
             FROM segment_headers WHERE received_first >= $1 AND received_first < $2 AND received_last >= $3 \
             ORDER BY received_first, segment_id",
        )
        .bind(from.hour().to_utc())
        .bind(to.to_utc())
        .bind(from.to_utc())
        .fetch_all(&mut *self.transaction)
        .await?;
        rows.iter().map(header).collect()
    }

    /// Loads the blocks of `fields` of the segments in `headers`, in the order of time. A field that a segment does not
    /// have is left out of it.
    ///
    /// # Errors
    /// When the database does not answer, or a segment has gone.
    pub async fn load(&mut self, headers: &[SegmentHeader], fields: &[Field]) -> Result<Vec<Segment>, StoreError> {
        loaded(&mut self.transaction, headers, fields).await
    }

    /// What is known to be missing from the hours that the window touches, by exporter, cause and unit. An hour in which
    /// more was taken back than lost counts as one without loss: what it takes back was lost in an earlier hour. What was
    /// found missing in a later hour counts for the window's last one: for the others it was found within the window, or
    /// is there, too.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn loss(&mut self, from: Timestamp, to: Timestamp) -> Result<Vec<StoredLoss>, StoreError> {
        let rows: Vec<(i64, String, String, i64)> = sqlx::query_as(
            "SELECT exporter_id, regexp_replace(cause, '_later$', ''), unit, least(sum(count), 9223372036854775807)::bigint \
             FROM loss WHERE hour >= $1 AND hour < $2 AND count > 0 AND (hour = $3 OR cause NOT LIKE '%\\_later') \
             GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        )
        .bind(from.hour().to_utc())
        .bind(to.to_utc())
        .bind(to.plus(-1).hour().to_utc())
        .fetch_all(&mut *self.transaction)
        .await?;
        let mut loss: Vec<_> = rows
            .into_iter()
            .map(|(exporter, cause, unit, lost)| StoredLoss {
                exporter_id: u32::try_from(exporter).unwrap_or(0),
                cause,
                unit,
                count: count(lost),
            })
            .collect();
        let (cause, unit) = ("collector_down".to_owned(), "seconds".to_owned());
        let silent = self.silent(from, to).await?;
        loss.extend((silent > 0).then_some(StoredLoss { exporter_id: 0, cause, unit, count: silent }));
        Ok(loss)
    }

    /// For how many seconds of the window nobody knows what collectors received that have since been silent for longer than
    /// [`COLLECTOR_ALIVE`]: from what they stored last to the end of that time, or to when another one began in their place.
    async fn silent(&mut self, from: Timestamp, to: Timestamp) -> Result<u64, StoreError> {
        let seconds: i64 = sqlx::query_scalar(
            "SELECT coalesce(sum(ceil(extract(epoch FROM least(ends, $2) - greatest(since, $1)))), 0)::bigint FROM ( \
             SELECT coalesce(complete_until, created_at) AS since, least(updated_at + $3::bigint * interval '1 microsecond', \
             (SELECT min(created_at) FROM journal_positions AS next WHERE next.created_at > silent.updated_at)) AS ends \
             FROM journal_positions AS silent WHERE updated_at < \
             (SELECT coalesce(max(updated_at) FILTER (WHERE complete_until IS NOT NULL), max(updated_at)) \
             FROM journal_positions) - $3::bigint * interval '1 microsecond') AS gone WHERE since < $2 AND ends > $1",
        )
        .bind(from.to_utc())
        .bind(to.to_utc())
        .bind(COLLECTOR_ALIVE)
        .fetch_one(&mut *self.transaction)
        .await?;
        Ok(count(seconds))
    }

    /// All exporters with their addresses.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn exporters(&mut self) -> Result<Vec<(IpAddr, u32)>, StoreError> {
        catalogue::exporters(&mut *self.transaction).await
    }

    /// The exporters with these numbers, as far as they are known, by number.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn senders(&mut self, exporter_ids: &[u32]) -> Result<Vec<Sender>, StoreError> {
        if exporter_ids.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<(i64, IpNetwork, Option<String>, i64)> = sqlx::query_as(
            "SELECT e.exporter_id, e.address, e.name, coalesce(max(a.most_flows), 0) FROM exporters e \
             LEFT JOIN exporter_activity a USING (exporter_id) WHERE e.exporter_id = ANY($1) \
             GROUP BY e.exporter_id ORDER BY e.exporter_id",
        )
        .bind(exporter_ids.iter().copied().map(i64::from).collect::<Vec<_>>())
        .fetch_all(&mut *self.transaction)
        .await?;
        Ok(rows
            .into_iter()
            .map(|(id, address, name, most_flows)| Sender {
                exporter_id: u32::try_from(id).unwrap_or(0),
                address: address.ip(),
                name,
                most_flows: count(most_flows),
            })
            .collect())
    }

    /// Whether an exporter may have sent `version`, as `wire` codes it, from `from` on. When it began nobody knows: it is entered
    /// with its first flows, which an outage of the database can make later than the window.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sent(&mut self, version: u16, from: Timestamp) -> Result<bool, StoreError> {
        let found =
            sqlx::query_scalar("SELECT EXISTS (SELECT FROM exporter_activity WHERE version = $1 AND last_seen >= $2)")
                .bind(i16::try_from(version).unwrap_or(i16::MAX))
                .bind(from.to_utc())
                .fetch_one(&mut *self.transaction)
                .await?;
        Ok(found)
    }

    /// The moment before which everything received is stored, by all collectors but those that were silent for
    /// [`COLLECTOR_ALIVE`] when another one last reported; `None` when there never was a collector. One that has stored nothing
    /// yet has stored all from before it began.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn complete_until(&mut self) -> Result<Option<Timestamp>, StoreError> {
        // Compared with each other and not with now: the last to report counts however long ago that is, as nobody knows what
        // it received since. One that has stored nothing has not reported.
        let moment: Option<DateTime<Utc>> = sqlx::query_scalar(
            "SELECT min(coalesce(complete_until, created_at)) FROM journal_positions WHERE updated_at >= \
             (SELECT coalesce(max(updated_at) FILTER (WHERE complete_until IS NOT NULL), max(updated_at)) \
             FROM journal_positions) - $1::bigint * interval '1 microsecond'",
        )
        .bind(COLLECTOR_ALIVE)
        .fetch_one(&mut *self.transaction)
        .await?;
        Ok(moment.map(Timestamp::from))
    }

    /// The moment since which flows are recorded, whether they are still kept or not: when the first collector began, or
    /// the oldest of what is on record, whichever is later; `None` when no collector ever began.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn recorded_from(&mut self) -> Result<Option<Timestamp>, StoreError> {
        let table = DailyTable::FlowSegments;
        type Row = (Option<DateTime<Utc>>, Option<DateTime<Utc>>, Vec<String>);
        let (began, hours_from, partitions): Row = sqlx::query_as(
            "SELECT (SELECT min(created_at) FROM journal_positions), \
             least((SELECT min(hour) FROM hours), (SELECT min(day) FROM days)), \
             ARRAY(SELECT child.relname::text FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid \
             WHERE inhparent = $1::regclass)",
        )
        .bind(table.name())
        .fetch_one(&mut *self.transaction)
        .await?;
        let days = partitions.iter().filter_map(|name| table.day(name));
        let oldest = days.chain(hours_from.map(Timestamp::from)).min();
        Ok(began.map(Timestamp::from).map(|began| oldest.map_or(began, |oldest| oldest.max(began))))
    }
}

/// How long a collector that no longer reports counts as alive while others do, in microseconds: one day. A collector that was
/// taken out of service must not make all later answers look stale.
const COLLECTOR_ALIVE: i64 = 24 * HOUR;

/// A row of `segment_headers`: id, rows, bounds, sums, whether it is open.
pub(super) fn header(row: &PgRow) -> Result<SegmentHeader, StoreError> {
    Ok(SegmentHeader {
        segment_id: row.try_get(0)?,
        rows: u32::try_from(row.try_get::<i32, _>(1)?).unwrap_or(0),
        received_first: row.try_get::<DateTime<Utc>, _>(2)?.into(),
        received_last: row.try_get::<DateTime<Utc>, _>(3)?.into(),
        totals: Totals {
            bytes: count(row.try_get(4)?),
            packets: count(row.try_get(5)?),
            flows: count(row.try_get(6)?),
        },
        open: row.try_get(7)?,
    })
}

/// The segments in `headers` with the blocks of `fields`, in the order of time.
pub(super) async fn loaded(
    connection: &mut PgConnection,
    headers: &[SegmentHeader],
    fields: &[Field],
) -> Result<Vec<Segment>, StoreError> {
    let columns: String = fields.iter().map(|field| format!(", {}", field.name())).collect();
    let mut found = Vec::with_capacity(headers.len());
    for place in [Place::Sealed, Place::Open] {
        let here: Vec<_> = headers.iter().filter(|header| header.open == (place == Place::Open)).collect();
        let (Some(first), Some(last)) = (
            here.iter().map(|header| header.received_first).min(),
            here.iter().map(|header| header.received_first).max(),
        ) else {
            continue;
        };
        let ids: Vec<i64> = here.iter().map(|header| header.segment_id).collect();
        // Only names of the catalogue and of this module are put into the text.
        let statement = AssertSqlSafe(format!(
            "SELECT segment_id, received_first, received_last, flow_rows, total_bytes, total_packets, total_flows{columns} \
             FROM {} WHERE segment_id = ANY($1) AND received_first >= $2 AND received_first <= $3",
            place.table()
        ));
        let rows = sqlx::query(statement)
            .bind(&ids)
            .bind(first.to_utc())
            .bind(last.to_utc())
            .fetch_all(&mut *connection)
            .await?;
        if rows.len() != here.len() {
            return Err(StoreError::Unexpected {
                place: place.table(),
                detail: format!("{} of {} segments are there", rows.len(), here.len()),
            });
        }
        for row in &rows {
            found.push((row.try_get::<i64, _>(0)?, segment(row, fields)?));
        }
    }
    found.sort_by_key(|(id, segment)| (segment.received_first, *id));
    Ok(found.into_iter().map(|(_, segment)| segment).collect())
}

/// A segment from its row: id, bounds, rows, sums, blocks of `fields`.
fn segment(row: &PgRow, fields: &[Field]) -> Result<Segment, StoreError> {
    let mut columns = Vec::with_capacity(fields.len());
    for (index, &field) in fields.iter().enumerate() {
        if let Some(block) = row.try_get::<Option<&[u8]>, _>(index.saturating_add(7))? {
            columns.push((field, block.to_vec()));
        }
    }
    Ok(Segment {
        rows: u32::try_from(row.try_get::<i32, _>(3)?).unwrap_or(0),
        received_first: row.try_get::<DateTime<Utc>, _>(1)?.into(),
        received_last: row.try_get::<DateTime<Utc>, _>(2)?.into(),
        totals: Totals {
            bytes: count(row.try_get(4)?),
            packets: count(row.try_get(5)?),
            flows: count(row.try_get(6)?),
        },
        columns,
    })
}
