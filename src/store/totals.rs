//! Totals of hosts on their way into `host_traffic_hourly`.

use super::{StoreError, bigint, copy};
use crate::clock::Timestamp;
use crate::flow::host_traffic::{HostTraffic, HostTrafficKey};
use sqlx::PgConnection;

/// How many bytes are handed to PostgreSQL at once.
const CHUNK: usize = 128 * 1_024;

/// Replaces the totals of the hour. The month's partition must be there.
pub(super) async fn replace<'a>(
    connection: &mut PgConnection,
    hour: Timestamp,
    totals: impl Iterator<Item = (&'a HostTrafficKey, &'a HostTraffic)>,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM host_traffic_hourly WHERE hour = $1")
        .bind(hour.to_utc())
        .execute(&mut *connection)
        .await?;
    let statement = "COPY host_traffic_hourly (host, hour, exporter_id, direction, bytes, packets, flows, records, \
                     raw_bytes, raw_packets, sampled_flows, first_seen, last_seen) FROM STDIN (FORMAT binary)";
    let mut copy = connection.copy_in_raw(statement).await?;
    let mut out = Vec::with_capacity(2 * CHUNK);
    out.extend_from_slice(copy::HEADER);
    for (key, traffic) in totals {
        copy::row(&mut out, 13);
        copy::inet(&mut out, key.host);
        copy::timestamptz(&mut out, hour);
        copy::int8(&mut out, key.exporter_id.into());
        copy::bytes(&mut out, key.direction.name().as_bytes());
        for sum in [
            traffic.bytes,
            traffic.packets,
            traffic.flows,
            traffic.records,
            traffic.raw_bytes,
            traffic.raw_packets,
            traffic.sampled_flows,
        ] {
            copy::int8(&mut out, bigint(sum));
        }
        for moment in [traffic.first_seen, traffic.last_seen] {
            match moment {
                Some(moment) => copy::timestamptz(&mut out, moment),
                None => copy::null(&mut out),
            }
        }
        if out.len() >= CHUNK {
            copy.send(out.as_slice()).await?;
            out.clear();
        }
    }
    out.extend_from_slice(copy::TRAILER);
    copy.send(out.as_slice()).await?;
    copy.finish().await?;
    Ok(())
}
