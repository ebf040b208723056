//! Totals of hosts on their way into `host_traffic_hourly`.

use super::{StoreError, bigint, copy};
use crate::clock::Timestamp;
use crate::flow::host_traffic::{HostTraffic, HostTrafficKey};
use sqlx::PgConnection;

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
