//! Data sets that wait for their template, beside the journal position that has moved past them.

use super::{Database, StoreError, bigint};
use crate::flow::parked::ParkedSet;
use chrono::{DateTime, Utc};
use sqlx::{PgConnection, Row};

impl Database {
    /// The data sets of `journal` that wait for their template, in the order of arrival.
    ///
    /// # Errors
    /// When the database does not answer, or holds what no collector wrote.
    pub async fn parked_sets(&self, journal: &str) -> Result<Vec<ParkedSet>, StoreError> {
        let rows = sqlx::query(
            "SELECT parked_id, exporter_id, transport, source_port, version, observation_domain, template_id, received, \
             export_time, uptime, body FROM parked_sets WHERE journal_id = $1::uuid ORDER BY parked_id",
        )
        .bind(journal)
        .fetch_all(&self.writers)
        .await?;
        rows.iter()
            .map(|row| {
                let wrong = |name: &'static str| {
                    move |_| StoreError::Unexpected { place: "parked_sets", detail: format!("{name} is out of range") }
                };
                Ok(ParkedSet {
                    parked_id: u64::try_from(row.try_get::<i64, _>(0)?).map_err(wrong("parked_id"))?,
                    exporter_id: u32::try_from(row.try_get::<i64, _>(1)?).map_err(wrong("exporter_id"))?,
                    transport: u16::try_from(row.try_get::<i16, _>(2)?).map_err(wrong("transport"))?,
                    source_port: u16::try_from(row.try_get::<i32, _>(3)?).map_err(wrong("source_port"))?,
                    version: u16::try_from(row.try_get::<i16, _>(4)?).map_err(wrong("version"))?,
                    observation_domain: u32::try_from(row.try_get::<i64, _>(5)?)
                        .map_err(wrong("observation_domain"))?,
                    template_id: u16::try_from(row.try_get::<i32, _>(6)?).map_err(wrong("template_id"))?,
                    received: row.try_get::<DateTime<Utc>, _>(7)?.into(),
                    export_time: row.try_get(8)?,
                    uptime: row
                        .try_get::<Option<i64>, _>(9)?
                        .map(u32::try_from)
                        .transpose()
                        .map_err(wrong("uptime"))?,
                    body: row.try_get(10)?,
                })
            })
            .collect()
    }
}

/// Writes the sets that began to wait and deletes those that wait no longer.
pub(super) async fn write(
    connection: &mut PgConnection,
    journal: &str,
    added: &[ParkedSet],
    removed: &[u64],
) -> Result<(), StoreError> {
    if !added.is_empty() {
        sqlx::query(
            "INSERT INTO parked_sets (journal_id, parked_id, exporter_id, transport, source_port, version, \
             observation_domain, template_id, received, export_time, uptime, body) \
             SELECT $1::uuid, * FROM unnest($2::bigint[], $3::bigint[], $4::smallint[], $5::int[], $6::smallint[], \
             $7::bigint[], $8::int[], $9::timestamptz[], $10::bigint[], $11::bigint[], $12::bytea[])",
        )
        .bind(journal)
        .bind(added.iter().map(|set| bigint(set.parked_id)).collect::<Vec<_>>())
        .bind(added.iter().map(|set| i64::from(set.exporter_id)).collect::<Vec<_>>())
        .bind(added.iter().map(|set| i16::try_from(set.transport).unwrap_or(0)).collect::<Vec<_>>())
        .bind(added.iter().map(|set| i32::from(set.source_port)).collect::<Vec<_>>())
        .bind(added.iter().map(|set| i16::try_from(set.version).unwrap_or(0)).collect::<Vec<_>>())
        .bind(added.iter().map(|set| i64::from(set.observation_domain)).collect::<Vec<_>>())
        .bind(added.iter().map(|set| i32::from(set.template_id)).collect::<Vec<_>>())
        .bind(added.iter().map(|set| set.received.to_utc()).collect::<Vec<_>>())
        .bind(added.iter().map(|set| set.export_time).collect::<Vec<_>>())
        .bind(added.iter().map(|set| set.uptime.map(i64::from)).collect::<Vec<_>>())
        .bind(added.iter().map(|set| set.body.as_slice()).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    }
    if !removed.is_empty() {
        sqlx::query("DELETE FROM parked_sets WHERE journal_id = $1::uuid AND parked_id = ANY($2)")
            .bind(journal)
            .bind(removed.iter().map(|id| bigint(*id)).collect::<Vec<_>>())
            .execute(connection)
            .await?;
    }
    Ok(())
}
