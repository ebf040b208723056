//! Reading host totals: which hours and days have them, and what they say.
//!
//! What is read here is exact: an hour counts only when it is sealed and was counted by the networks that are local now, or when its
//! flows are gone; a day only when it was added up from exactly the hours that it has. Whether totals can answer a question is not known here.

use super::moment::Moment;
use super::snapshot::Snapshot;
use super::{StoreError, count};
use crate::clock::Timestamp;
use crate::flow::host_traffic::TrafficDirection;
use crate::flow::segment::Totals;
use crate::flow::value::wide_from_address;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use sqlx::postgres::PgRow;
use sqlx::types::ipnetwork::IpNetwork;
use sqlx::{PgConnection, Row};
use std::net::IpAddr;

/// The hours of one UTC day in which flows were received. Bit 0 of a set is the day's first hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DayHours {
    /// The start of the day.
    pub day: Timestamp,
    /// Whether the day's own totals are there and hold all of these hours.
    pub summed: bool,
    /// The hours of which totals are there that can be used.
    pub usable: u32,
    /// Those of them that were counted by other networks or rules, which cannot be made good: their flows are gone.
    pub otherwise: u32,
    /// The hours of which flows that were there are no longer kept. Some may have come since.
    pub dropped: u32,
    /// The hours of which another collector received flows.
    pub imported: u32,
}

/// The hours and days whose totals are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stretch {
    /// UTC days.
    pub days: Vec<Timestamp>,
    /// UTC hours that lie in none of the days.
    pub hours: Vec<Timestamp>,
}

impl Stretch {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        self.days.is_empty() && self.hours.is_empty()
    }
}

/// Which hosts' totals are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    /// Flows from the hosts; else flows to them.
    pub sent: bool,
    /// The networks they lie in.
    pub networks: Vec<IpNetwork>,
    /// Only flows of these exporters; `None` for those of all.
    pub exporters: Option<Vec<u32>>,
    /// Bytes and packets as exporters sent them; else multiplied by the sampling interval.
    pub raw: bool,
}

/// Sums over flows of one host. Each is at most 2^63 - 1; one that reached it may have been more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostSums {
    /// The host, IPv4 as IPv4-mapped.
    pub host: u128,
    /// Bytes, packets and flows.
    pub totals: Totals,
    /// Flow records.
    pub records: u64,
    /// Flows with a sampling interval above 1.
    pub sampled_flows: u64,
    /// The earliest first packet that exporters told.
    pub first_seen: Option<Timestamp>,
    /// The latest last packet that exporters told.
    pub last_seen: Option<Timestamp>,
}

impl HostSums {
    /// Whether a sum is as large as the database can keep, so that the truth may be larger.
    pub fn is_cut(&self) -> bool {
        let sums = [self.totals.bytes, self.totals.packets, self.totals.flows, self.records, self.sampled_flows];
        sums.iter().any(|sum| *sum >= i64::MAX as u64)
    }
}

const CATALOGUE: &str = "\
    SELECT hours.day, bool_and(usable) AND count(*) = min(days.hours) AND sum(version) = min(days.versions) \
               AND (min(days.local) = $3 OR bool_and(flows_dropped)), \
           coalesce(bit_or(1 << number) FILTER (WHERE usable), 0), \
           coalesce(bit_or(1 << number) FILTER (WHERE usable AND counted_by <> $3), 0), \
           coalesce(bit_or(1 << number) FILTER (WHERE flows_dropped), 0), \
           coalesce(bit_or(1 << number) FILTER (WHERE imported), 0) \
    FROM (SELECT date_trunc('day', hour, 'UTC') AS day, extract(hour FROM hour AT TIME ZONE 'UTC')::integer AS number, \
                 version, flows_dropped, imported, hours.local AS counted_by, sealed_at IS NOT NULL AND hours.local IS NOT NULL \
                 AND (hours.local = $3 OR flows_dropped) AS usable \
          FROM hours WHERE hour >= $1 AND hour < $2) AS hours \
    LEFT JOIN days ON days.day = hours.day \
    GROUP BY hours.day ORDER BY hours.day";

/// Parameters that are constant when the statement is planned leave nothing of the conditions on them.
const BY_HOST: &str = "\
    SELECT host, least(sum(bytes), 9223372036854775807)::bigint, least(sum(packets), 9223372036854775807)::bigint, \
           least(sum(flows), 9223372036854775807)::bigint, least(sum(records), 9223372036854775807)::bigint, \
           least(sum(sampled_flows), 9223372036854775807)::bigint, min(first_seen), max(last_seen) \
    FROM (SELECT host, exporter_id, direction, flows, records, sampled_flows, first_seen, last_seen, \
                 CASE WHEN $3 THEN raw_bytes ELSE bytes END AS bytes, \
                 CASE WHEN $3 THEN raw_packets ELSE packets END AS packets \
          FROM host_traffic_daily WHERE day = ANY($1) \
          UNION ALL \
          SELECT host, exporter_id, direction, flows, records, sampled_flows, first_seen, last_seen, \
                 CASE WHEN $3 THEN raw_bytes ELSE bytes END, CASE WHEN $3 THEN raw_packets ELSE packets END \
          FROM host_traffic_hourly WHERE hour = ANY($2)) AS traffic \
    WHERE CASE WHEN $4 THEN direction IN ('upload', 'internal_sent', 'internal_self') \
               ELSE direction IN ('download', 'internal_received', 'internal_self') END \
      AND host <<= ANY($5) AND ($6::bigint[] IS NULL OR exporter_id = ANY($6)) \
    GROUP BY host";

const OF_HOST: &str = "\
    SELECT host, least(sum(bytes), 9223372036854775807)::bigint, least(sum(packets), 9223372036854775807)::bigint, \
           least(sum(flows), 9223372036854775807)::bigint, least(sum(records), 9223372036854775807)::bigint, \
           least(sum(sampled_flows), 9223372036854775807)::bigint, min(first_seen), max(last_seen), direction::text \
    FROM (SELECT host, direction, flows, records, sampled_flows, first_seen, last_seen, \
                 CASE WHEN $3 THEN raw_bytes ELSE bytes END AS bytes, \
                 CASE WHEN $3 THEN raw_packets ELSE packets END AS packets \
          FROM host_traffic_daily WHERE day = ANY($1) AND host = $4 \
          UNION ALL \
          SELECT host, direction, flows, records, sampled_flows, first_seen, last_seen, \
                 CASE WHEN $3 THEN raw_bytes ELSE bytes END, CASE WHEN $3 THEN raw_packets ELSE packets END \
          FROM host_traffic_hourly WHERE hour = ANY($2) AND host = $4) AS traffic \
    GROUP BY host, direction";

impl Snapshot {
    /// The hours with flows of the UTC days that the window touches, by day, in the order of time; days without flows are
    /// left out. `local` is the fingerprint of what totals are counted by now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn hours(&mut self, from: Timestamp, to: Timestamp, local: &str) -> Result<Vec<DayHours>, StoreError> {
        let end = to.plus(-1).day().plus(crate::clock::DAY);
        type Row = (DateTime<Utc>, Option<bool>, i32, i32, i32, i32);
        let rows: Vec<Row> = sqlx::query_as(CATALOGUE)
            .bind(from.day().to_utc())
            .bind(end.to_utc())
            .bind(local)
            .fetch_all(self.connection())
            .await?;
        let day = |(day, summed, usable, otherwise, dropped, imported): Row| DayHours {
            day: day.into(),
            summed: summed.unwrap_or(false),
            usable: usable.cast_unsigned(),
            otherwise: otherwise.cast_unsigned(),
            dropped: dropped.cast_unsigned(),
            imported: imported.cast_unsigned(),
        };
        Ok(rows.into_iter().map(day).collect())
    }

    /// Hands the totals of each of the `hosts` over the stretch to `take`, in no order.
    ///
    /// # Errors
    /// When the database does not answer, and what `take` fails with.
    pub async fn totals_by_host<E: From<StoreError>>(
        &mut self,
        stretch: &Stretch,
        hosts: &Hosts,
        mut take: impl FnMut(&HostSums) -> Result<(), E>,
    ) -> Result<(), E> {
        let connection: &mut PgConnection = self.connection();
        let ids = |ids: &Vec<u32>| ids.iter().copied().map(i64::from).collect::<Vec<_>>();
        let mut rows = sqlx::query(BY_HOST)
            .bind(moments(&stretch.days))
            .bind(moments(&stretch.hours))
            .bind(hosts.raw)
            .bind(hosts.sent)
            .bind(&hosts.networks)
            .bind(hosts.exporters.as_ref().map(ids))
            .fetch(connection);
        while let Some(row) = rows.try_next().await.map_err(StoreError::from)? {
            take(&sums(&row)?)?;
        }
        Ok(())
    }

    /// The totals of one host over the stretch, by the direction of its flows.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn totals_of_host(
        &mut self,
        stretch: &Stretch,
        host: IpAddr,
        raw: bool,
    ) -> Result<Vec<(TrafficDirection, HostSums)>, StoreError> {
        let rows = sqlx::query(OF_HOST)
            .bind(moments(&stretch.days))
            .bind(moments(&stretch.hours))
            .bind(raw)
            .bind(IpNetwork::from(host))
            .fetch_all(self.connection())
            .await?;
        rows.iter().map(|row| Ok((direction(row.try_get(8)?)?, sums(row)?))).collect()
    }
}

fn moments(moments: &[Timestamp]) -> Vec<DateTime<Utc>> {
    moments.iter().map(|moment| moment.to_utc()).collect()
}

fn sums(row: &PgRow) -> Result<HostSums, StoreError> {
    Ok(HostSums {
        host: wide_from_address(row.try_get::<IpNetwork, _>(0)?.ip()),
        totals: Totals {
            bytes: count(row.try_get(1)?),
            packets: count(row.try_get(2)?),
            flows: count(row.try_get(3)?),
        },
        records: count(row.try_get(4)?),
        sampled_flows: count(row.try_get(5)?),
        first_seen: row.try_get::<Option<Moment>, _>(6)?.map(Timestamp::from),
        last_seen: row.try_get::<Option<Moment>, _>(7)?.map(Timestamp::from),
    })
}

/// The direction that the database calls `name`.
pub(super) fn direction(name: &str) -> Result<TrafficDirection, StoreError> {
    let unknown = || StoreError::Unexpected { place: "host_traffic", detail: format!("the direction {name}") };
    TrafficDirection::parse(name).ok_or_else(unknown)
}
