//! Exporters and what their decoders remember.

use super::commit::DecoderState;
use super::{Database, StoreError, count};
use crate::clock::Timestamp;
use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::types::ipnetwork::IpNetwork;
use sqlx::{PgConnection, PgExecutor, Row};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// An exporter and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExporterRow {
    /// Its number in flows.
    pub exporter_id: u32,
    /// The address its datagrams come from.
    pub address: IpAddr,
    /// What people call it.
    pub name: Option<String>,
    /// Protocols it sent, as `wire` codes them; ascending.
    pub versions: Vec<u16>,
    /// Datagrams decoded or refused since it is known.
    pub datagrams: u64,
    /// Flows stored since it is known.
    pub flows: u64,
    /// Templates its decoders hold now.
    pub templates: u64,
    /// When its last datagram was received.
    pub last_seen: Option<Timestamp>,
    /// What is missing since it is known: (cause, unit) to count.
    pub loss: BTreeMap<(String, String), u64>,
}

/// All exporters, and what no exporter is known for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExporterList {
    /// The exporters, by number.
    pub exporters: Vec<ExporterRow>,
    /// What is missing of no known exporter: (cause, unit) to count.
    pub unattributed: BTreeMap<(String, String), u64>,
}

/// All exporters: their addresses and numbers.
pub(super) async fn exporters(database: impl PgExecutor<'_>) -> Result<Vec<(IpAddr, u32)>, StoreError> {
    let rows: Vec<(IpNetwork, i64)> =
        sqlx::query_as("SELECT address, exporter_id FROM exporters").fetch_all(database).await?;
    Ok(rows.into_iter().filter_map(|(address, id)| Some((address.ip(), u32::try_from(id).ok()?))).collect())
}

impl Database {
    /// The number of the exporter at `address`, which is entered when it is new.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn exporter_id(&self, address: IpAddr) -> Result<u32, StoreError> {
        let address = IpNetwork::from(address);
        // The upsert burns no number for a known exporter, because it is asked for only when the first query finds none.
        let found: Option<i64> = sqlx::query_scalar("SELECT exporter_id FROM exporters WHERE address = $1")
            .bind(address)
            .fetch_optional(&self.writers)
            .await?;
        let id = match found {
            Some(id) => id,
            None => {
                sqlx::query_scalar(
                    "INSERT INTO exporters (address) VALUES ($1) \
                     ON CONFLICT (address) DO UPDATE SET address = EXCLUDED.address RETURNING exporter_id",
                )
                .bind(address)
                .fetch_one(&self.writers)
                .await?
            }
        };
        u32::try_from(id).map_err(|_| StoreError::Unexpected {
            place: "exporters.exporter_id",
            detail: format!("{id} is beyond 32 bits"),
        })
    }

    /// All exporters with their addresses.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn exporter_ids(&self) -> Result<Vec<(IpAddr, u32)>, StoreError> {
        exporters(&self.writers).await
    }

    /// Writes down what exporters are called, each by its number, where the database has another name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn name_exporters(&self, names: &[(u32, &str)]) -> Result<(), StoreError> {
        if names.is_empty() {
            return Ok(());
        }
        let (ids, names): (Vec<i64>, Vec<&str>) = names.iter().map(|(id, name)| (i64::from(*id), *name)).unzip();
        sqlx::query(
            "UPDATE exporters SET name = called.name FROM unnest($1::bigint[], $2::text[]) AS called (id, name) \
             WHERE exporter_id = called.id AND exporters.name IS DISTINCT FROM called.name",
        )
        .bind(ids)
        .bind(names)
        .execute(&self.writers)
        .await?;
        Ok(())
    }

    /// Exporters of which a stream was cut and nothing has come since, with the hour of the cut. What was later in that hour
    /// cannot be told apart.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn cut_streams(&self) -> Result<Vec<(u32, Timestamp)>, StoreError> {
        let rows: Vec<(i64, DateTime<Utc>)> = sqlx::query_as(
            "SELECT exporter_id, cut FROM (SELECT exporter_id, max(hour) AS cut FROM loss \
             WHERE cause = 'stream_cut' AND count > 0 AND exporter_id <> 0 AND hour > now() - interval '31 days' \
             GROUP BY exporter_id) AS cuts \
             WHERE NOT EXISTS (SELECT FROM exporter_activity AS activity WHERE activity.exporter_id = cuts.exporter_id \
             AND activity.last_seen >= cut + interval '1 hour')",
        )
        .fetch_all(&self.writers)
        .await?;
        Ok(rows.into_iter().filter_map(|(id, cut)| Some((u32::try_from(id).ok()?, cut.into()))).collect())
    }

    /// What the decoders of `journal` remember.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn decoder_state(&self, journal: &str) -> Result<Vec<DecoderState>, StoreError> {
        let rows = sqlx::query(
            "SELECT exporter_id, transport, source_port, version, observation_domain, templates, state \
             FROM decoder_state WHERE journal_id = $1::uuid",
        )
        .bind(journal)
        .fetch_all(&self.writers)
        .await?;
        rows.iter().map(decoder_state).collect()
    }

    /// Everything known of all exporters, and what is missing of none of them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn exporters(&self) -> Result<ExporterList, StoreError> {
        let mut transaction = self.readers.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        list(&mut transaction, None).await
    }
}

/// All exporters, or only one; what belongs to none of them comes with all.
pub(super) async fn list(connection: &mut PgConnection, only: Option<u32>) -> Result<ExporterList, StoreError> {
    let only = only.map(i64::from);
    let rows = sqlx::query(
        "SELECT e.exporter_id, e.address, e.name, coalesce(a.versions, '{}'), coalesce(a.datagrams, 0), \
         coalesce(a.flows, 0), coalesce(d.templates, 0), a.last_seen FROM exporters e \
         LEFT JOIN (SELECT exporter_id, array_agg(version ORDER BY version) AS versions, \
         sum(datagrams)::bigint AS datagrams, sum(flows)::bigint AS flows, max(last_seen) AS last_seen \
         FROM exporter_activity GROUP BY exporter_id) a USING (exporter_id) \
         LEFT JOIN (SELECT exporter_id, sum(templates)::bigint AS templates FROM decoder_state \
         GROUP BY exporter_id) d USING (exporter_id) \
         WHERE $1::bigint IS NULL OR e.exporter_id = $1 ORDER BY e.exporter_id",
    )
    .bind(only)
    .fetch_all(&mut *connection)
    .await?;
    let mut exporters = BTreeMap::new();
    for row in &rows {
        let exporter_id = u32::try_from(row.try_get::<i64, _>(0)?).unwrap_or(0);
        let exporter = ExporterRow {
            exporter_id,
            address: row.try_get::<IpNetwork, _>(1)?.ip(),
            name: row.try_get(2)?,
            versions: row.try_get::<Vec<i16>, _>(3)?.into_iter().filter_map(|v| u16::try_from(v).ok()).collect(),
            datagrams: count(row.try_get(4)?),
            flows: count(row.try_get(5)?),
            templates: count(row.try_get(6)?),
            last_seen: row.try_get::<Option<DateTime<Utc>>, _>(7)?.map(Timestamp::from),
            loss: BTreeMap::new(),
        };
        exporters.insert(exporter_id, exporter);
    }
    let losses: Vec<(i64, String, String, i64)> = sqlx::query_as(
        "SELECT exporter_id, cause, unit, least(sum(count), 9223372036854775807)::bigint FROM loss \
         WHERE ($1::bigint IS NULL OR exporter_id = $1) AND cause NOT LIKE '%\\_later' \
         GROUP BY 1, 2, 3 HAVING sum(count) > 0",
    )
    .bind(only)
    .fetch_all(&mut *connection)
    .await?;
    let mut unattributed = BTreeMap::new();
    for (id, cause, unit, lost) in losses {
        if id == 0 {
            unattributed.insert((cause, unit), count(lost));
        } else if let Some(exporter) = u32::try_from(id).ok().and_then(|id| exporters.get_mut(&id)) {
            exporter.loss.insert((cause, unit), count(lost));
        }
    }
    Ok(ExporterList { exporters: exporters.into_values().collect(), unattributed })
}

/// A row of `decoder_state`.
pub(super) fn decoder_state(row: &PgRow) -> Result<DecoderState, StoreError> {
    fn number<T: TryFrom<i64>>(name: &'static str, value: i64) -> Result<T, StoreError> {
        T::try_from(value)
            .map_err(|_| StoreError::Unexpected { place: "decoder_state", detail: format!("{name} is {value}") })
    }
    Ok(DecoderState {
        exporter_id: number("exporter_id", row.try_get(0)?)?,
        transport: number("transport", row.try_get::<i16, _>(1)?.into())?,
        source_port: number("source_port", row.try_get::<i32, _>(2)?.into())?,
        version: number("version", row.try_get::<i16, _>(3)?.into())?,
        observation_domain: number("observation_domain", row.try_get(4)?)?,
        templates: number("templates", row.try_get::<i32, _>(5)?.into())?,
        state: row.try_get(6)?,
    })
}
