//! Totals of hosts on their way into `host_traffic_hourly`: at once, or in parts that the database adds up, where there are
//! too many for the memory or where they are added to those that the hour has.

use super::host_traffic::direction;
use super::moment::Moment;
use super::packed::Period;
use super::{StoreError, bigint, copy, count};
use crate::clock::Timestamp;
use crate::flow::host_traffic::{HostTraffic, HostTrafficKey};
use crate::flow::value::wide_from_address;
use futures_util::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::types::ipnetwork::IpNetwork;
use sqlx::{AssertSqlSafe, PgConnection, Row};

/// The most rows of totals that are held in memory at once, some 32 MB.
const MOST_ROWS: usize = 1 << 18;
/// Parts of sums, for as long as an hour is sealed. Only the session that seals sees it.
const PARTS: &str = "pg_temp.host_traffic_parts";
const COLUMNS: &str = "host, hour, exporter_id, direction, bytes, packets, flows, records, raw_bytes, raw_packets, \
                       sampled_flows, first_seen, last_seen";

/// Replaces the totals of the hour. The month's partition must be there.
pub(super) async fn replace<'a>(
    connection: &mut PgConnection,
    hour: Timestamp,
    totals: impl Iterator<Item = (&'a HostTrafficKey, &'a HostTraffic)>,
) -> Result<(), StoreError> {
    delete(connection, hour).await?;
    write(connection, "host_traffic_hourly", hour, totals).await
}

/// Makes the table of parts, which goes with the transaction.
pub(super) async fn begin_parts(connection: &mut PgConnection) -> Result<(), StoreError> {
    let statement = AssertSqlSafe(format!("CREATE TEMPORARY TABLE {PARTS} (LIKE host_traffic_hourly) ON COMMIT DROP"));
    sqlx::query(statement).persistent(false).execute(connection).await?;
    Ok(())
}

/// Adds the totals that the hour has to the parts.
pub(super) async fn present_as_part(connection: &mut PgConnection, hour: Timestamp) -> Result<(), StoreError> {
    let statement =
        AssertSqlSafe(format!("INSERT INTO {PARTS} SELECT {COLUMNS} FROM host_traffic_hourly WHERE hour = $1"));
    sqlx::query(statement).persistent(false).bind(hour.to_utc()).execute(connection).await?;
    Ok(())
}

/// Adds parts of sums.
pub(super) async fn write_part<'a>(
    connection: &mut PgConnection,
    hour: Timestamp,
    totals: impl Iterator<Item = (&'a HostTrafficKey, &'a HostTraffic)>,
) -> Result<(), StoreError> {
    write(connection, PARTS, hour, totals).await
}

/// Replaces the totals of the hour by the sums of the parts. The month's partition must be there.
pub(super) async fn replace_by_parts(connection: &mut PgConnection, hour: Timestamp) -> Result<(), StoreError> {
    delete(connection, hour).await?;
    // A part that is as large as the database can keep makes the sum as large, too.
    let sums = ["bytes", "packets", "flows", "records", "raw_bytes", "raw_packets", "sampled_flows"]
        .map(|sum| format!("least(sum({sum}), 9223372036854775807)::bigint"))
        .join(", ");
    let statement = AssertSqlSafe(format!(
        "INSERT INTO host_traffic_hourly ({COLUMNS}) SELECT host, hour, exporter_id, direction, {sums}, min(first_seen), \
         max(last_seen) FROM {PARTS} GROUP BY host, hour, exporter_id, direction"
    ));
    sqlx::query(statement).persistent(false).execute(connection).await?;
    Ok(())
}

async fn delete(connection: &mut PgConnection, hour: Timestamp) -> Result<(), StoreError> {
    let statement = sqlx::query("DELETE FROM host_traffic_hourly WHERE hour = $1");
    statement.bind(hour.to_utc()).execute(connection).await?;
    Ok(())
}

/// Copies sums to a table.
async fn write<'a>(
    connection: &mut PgConnection,
    table: &str,
    hour: Timestamp,
    totals: impl Iterator<Item = (&'a HostTrafficKey, &'a HostTraffic)>,
) -> Result<(), StoreError> {
    let statement = &format!("COPY {table} ({COLUMNS}) FROM STDIN (FORMAT binary)");
    let mut copy = copy::CopyIn::begin(connection, statement).await?;
    for (key, traffic) in totals {
        copy::row(&mut copy.out, 13);
        copy::inet(&mut copy.out, key.host);
        copy::timestamptz(&mut copy.out, hour);
        copy::int8(&mut copy.out, key.exporter_id.into());
        copy::bytes(&mut copy.out, key.direction.name().as_bytes());
        for sum in [
            traffic.bytes,
            traffic.packets,
            traffic.flows,
            traffic.records,
            traffic.raw_bytes,
            traffic.raw_packets,
            traffic.sampled_flows,
        ] {
            copy::int8(&mut copy.out, bigint(sum));
        }
        for moment in [traffic.first_seen, traffic.last_seen] {
            match moment {
                Some(moment) => copy::timestamptz(&mut copy.out, moment),
                None => copy::null(&mut copy.out),
            }
        }
        copy.send_when_full().await?;
    }
    copy.finish().await
}

/// The totals of the hour or day; `None` when there are more than [`MOST_ROWS`].
pub(super) async fn of(
    connection: &mut PgConnection,
    period: Period,
) -> Result<Option<Vec<(HostTrafficKey, HostTraffic)>>, StoreError> {
    let (statement, at) = match period {
        Period::Hour(hour) => (
            "SELECT bytes, packets, flows, records, raw_bytes, raw_packets, sampled_flows, first_seen, last_seen, host, \
             exporter_id, direction::text FROM host_traffic_hourly WHERE hour = $1 LIMIT $2",
            hour,
        ),
        Period::Day(day) => (
            "SELECT bytes, packets, flows, records, raw_bytes, raw_packets, sampled_flows, first_seen, last_seen, host, \
             exporter_id, direction::text FROM host_traffic_daily WHERE day = $1 LIMIT $2",
            day,
        ),
    };
    let limit = MOST_ROWS.saturating_add(1);
    let mut rows = sqlx::query(statement).bind(at.to_utc()).bind(limit as i64).fetch(connection);
    let mut found = Vec::new();
    let traffic = |row: &PgRow| -> Result<_, StoreError> {
        let sum = |index: usize| row.try_get(index).map(count);
        let moment = |index: usize| row.try_get::<Option<Moment>, _>(index).map(|moment| moment.map(Timestamp::from));
        let key = HostTrafficKey {
            host: wide_from_address(row.try_get::<IpNetwork, _>(9)?.ip()),
            exporter_id: u32::try_from(row.try_get::<i64, _>(10)?).unwrap_or(0),
            direction: direction(row.try_get(11)?)?,
        };
        let traffic = HostTraffic {
            bytes: sum(0)?,
            packets: sum(1)?,
            flows: sum(2)?,
            records: sum(3)?,
            raw_bytes: sum(4)?,
            raw_packets: sum(5)?,
            sampled_flows: sum(6)?,
            first_seen: moment(7)?,
            last_seen: moment(8)?,
        };
        Ok((key, traffic))
    };
    while let Some(row) = rows.try_next().await? {
        if found.len() >= MOST_ROWS {
            return Ok(None);
        }
        found.push(traffic(&row)?);
    }
    Ok(Some(found))
}
