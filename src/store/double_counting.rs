//! What was found of double counting: written hour by hour by the sealer, read back summed over a window.

use super::{Database, StoreError, bigint, count};
use crate::clock::Timestamp;
use crate::flow::counting::FlowDirection;
use crate::flow::double_counting::{Example, Finding, PointPair, Side, Summary};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::types::ipnetwork::IpNetwork;
use sqlx::{PgConnection, Row};

/// Pairs of sides that are read at most, those with the most bytes.
pub const PAIRS: i64 = 100;

/// What the column `evidence` holds.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Evidence {
    points: Vec<PointPair>,
    examples: Vec<Example>,
}

/// Replaces what was found in the hour.
pub(super) async fn replace(
    connection: &mut PgConnection,
    hour: Timestamp,
    findings: &[Finding],
) -> Result<(), StoreError> {
    let hour = hour.to_utc();
    sqlx::query("DELETE FROM double_counting WHERE hour = $1").bind(hour).execute(&mut *connection).await?;
    for finding in findings {
        let ([one, other], [compared, other_compared]) = (finding.sides, finding.compared_flows);
        let direction = |side: Side| side.direction.map(FlowDirection::name);
        let evidence = Evidence { points: finding.points.clone(), examples: finding.examples.clone() };
        let (proposed_for, proposed) = finding.proposal.as_ref().map(|(id, line)| (*id, line.to_string())).unzip();
        sqlx::query(
            "INSERT INTO double_counting (hour, exporter_id, direction, other_exporter_id, other_direction, \
             sampled_one_in, compared_flows, other_compared_flows, matched_flows, matched_bytes, evidence, proposed_for, \
             proposed) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        )
        .bind(hour)
        .bind(i64::from(one.exporter_id))
        .bind(direction(one))
        .bind(i64::from(other.exporter_id))
        .bind(direction(other))
        .bind(i64::from(finding.sampled_one_in))
        .bind(bigint(compared))
        .bind(bigint(other_compared))
        .bind(bigint(finding.matched_flows))
        .bind(bigint(finding.matched_bytes))
        .bind(Json(evidence))
        .bind(proposed_for.map(i64::from))
        .bind(proposed)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

impl Database {
    /// What was found in sealed hours that touch `from` up to but not including `to`, of one exporter or of all; the pairs with
    /// the most bytes first, at most [`PAIRS`]. Hours count that were sealed by the local networks and counting rules of the
    /// fingerprint `counted_by`, because other rules count other flows.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn double_counting(
        &self,
        exporter_id: Option<u32>,
        from: Timestamp,
        to: Timestamp,
        counted_by: &str,
    ) -> Result<Vec<Summary>, StoreError> {
        let rows = sqlx::query(
            "SELECT d.exporter_id, d.direction, one.address, d.other_exporter_id, d.other_direction, other.address, \
             count(*), max(d.hour), least(sum(d.compared_flows), 9223372036854775807)::bigint, \
             least(sum(d.other_compared_flows), 9223372036854775807)::bigint, \
             least(sum(d.matched_flows), 9223372036854775807)::bigint, \
             least(sum(d.matched_bytes::numeric * d.sampled_one_in), 9223372036854775807)::bigint AS double_bytes, \
             max(d.sampled_one_in), (array_agg(d.evidence ORDER BY d.hour DESC))[1], \
             (array_agg(proposed_for.address ORDER BY d.hour DESC))[1], (array_agg(d.proposed ORDER BY d.hour DESC))[1] \
             FROM double_counting d JOIN hours USING (hour) JOIN exporters one ON one.exporter_id = d.exporter_id \
             JOIN exporters other ON other.exporter_id = d.other_exporter_id \
             LEFT JOIN exporters proposed_for ON proposed_for.exporter_id = d.proposed_for \
             WHERE hours.local = $1 AND d.hour >= $2 AND d.hour < $3 \
             AND ($4::bigint IS NULL OR $4 IN (d.exporter_id, d.other_exporter_id)) \
             GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY double_bytes DESC, 1, 2, 4, 5 LIMIT $5",
        )
        .bind(counted_by)
        .bind(from.hour().to_utc())
        .bind(to.to_utc())
        .bind(exporter_id.map(i64::from))
        .bind(PAIRS)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(summary).collect()
    }

    /// How many hours from `from` up to but not including `to` were looked through and count by `counted_by`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn hours_looked_through(
        &self,
        from: Timestamp,
        to: Timestamp,
        counted_by: &str,
    ) -> Result<u64, StoreError> {
        let hours = sqlx::query_scalar(
            "SELECT count(*) FROM hours WHERE sealed_at IS NOT NULL AND local = $1 AND hour >= $2 AND hour < $3",
        )
        .bind(counted_by)
        .bind(from.hour().to_utc())
        .bind(to.to_utc())
        .fetch_one(&self.readers)
        .await?;
        Ok(count(hours))
    }

    /// Deletes what was found before `oldest`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn trim_double_counting(&self, oldest: Timestamp) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM double_counting WHERE hour < $1").bind(oldest.to_utc()).execute(&self.writers).await?;
        Ok(())
    }
}

fn summary(row: &PgRow) -> Result<Summary, StoreError> {
    let side = |id: usize, direction: usize| -> Result<Side, StoreError> {
        let told = row.try_get::<Option<&str>, _>(direction)?;
        let exporter_id = u32::try_from(row.try_get::<i64, _>(id)?).unwrap_or_default();
        Ok(Side { exporter_id, direction: told.and_then(FlowDirection::parse) })
    };
    let counted = |index: usize| Ok::<_, sqlx::Error>(count(row.try_get(index)?));
    let address = |index: usize| Ok::<_, sqlx::Error>(row.try_get::<IpNetwork, _>(index)?.ip());
    let Json(Evidence { points, examples }) = row.try_get(13)?;
    let proposed_for = row.try_get::<Option<IpNetwork>, _>(14)?;
    Ok(Summary {
        sides: [side(0, 1)?, side(3, 4)?],
        addresses: [address(2)?, address(5)?],
        hours: counted(6)?,
        last_hour: row.try_get::<DateTime<Utc>, _>(7)?.into(),
        compared_flows: [counted(8)?, counted(9)?],
        matched_flows: counted(10)?,
        double_bytes: counted(11)?,
        sampled_one_in: u32::try_from(row.try_get::<i64, _>(12)?).unwrap_or(u32::MAX),
        points,
        examples,
        proposal: proposed_for.map(|network| network.ip()).zip(row.try_get(15)?),
    })
}
