//! Totals of hosts on their way into `host_traffic_hourly`, and out of it to be added to.

use super::host_traffic::direction;
use super::packed::Period;
use super::{StoreError, bigint, copy, count};
use crate::clock::Timestamp;
use crate::flow::host_traffic::{HostTraffic, HostTrafficKey};
use crate::flow::value::wide_from_address;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::types::ipnetwork::IpNetwork;
use sqlx::{PgConnection, Row};

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

/// The totals of the hour or day.
pub(super) async fn of(
    connection: &mut PgConnection,
    period: Period,
) -> Result<Vec<(HostTrafficKey, HostTraffic)>, StoreError> {
    let (statement, at) = match period {
        Period::Hour(hour) => (
            "SELECT bytes, packets, flows, records, raw_bytes, raw_packets, sampled_flows, first_seen, last_seen, host, \
             exporter_id, direction::text FROM host_traffic_hourly WHERE hour = $1",
            hour,
        ),
        Period::Day(day) => (
            "SELECT bytes, packets, flows, records, raw_bytes, raw_packets, sampled_flows, first_seen, last_seen, host, \
             exporter_id, direction::text FROM host_traffic_daily WHERE day = $1",
            day,
        ),
    };
    let rows = sqlx::query(statement).bind(at.to_utc()).fetch_all(connection).await?;
    let traffic = |row: &PgRow| -> Result<_, StoreError> {
        let sum = |index: usize| row.try_get(index).map(count);
        let moment =
            |index: usize| row.try_get::<Option<DateTime<Utc>>, _>(index).map(|moment| moment.map(Timestamp::from));
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
    rows.iter().map(traffic).collect()
}
