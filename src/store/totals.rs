//! Totals of hosts on their way into `host_traffic_hourly`: at once, or in parts that the database adds up, where there are
//! too many for the memory or where they are added to those that the hour has.

use super::{StoreError, bigint, copy};
use crate::clock::Timestamp;
use crate::flow::host_traffic::{HostTraffic, HostTrafficKey};
use sqlx::{AssertSqlSafe, PgConnection};

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
