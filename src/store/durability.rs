//! Whether the database keeps what it confirmed, through a crash of the machine: settings and tables that say no.
//!
//! Flows are released from the journal as soon as they are committed, so from then on only the database has them.

use super::StoreError;
use sqlx::PgPool;

/// Settings, and what happens when they are off, as our own role has them.
const SETTINGS: [(&str, &str); 3] = [
    ("fsync", "a power cut can destroy stored flows"),
    ("full_page_writes", "a power cut can destroy stored flows"),
    ("synchronous_commit", "a power cut can take back flows that the journal has let go"),
];

/// Tables that must outlive a crash: those of flows with all their days, totals of hosts, which outlive flows, and what is
/// written with them.
const UNLOGGED: &str = "SELECT relname::text FROM pg_class WHERE relpersistence = 'u' AND oid IN ( \
     SELECT relid FROM pg_partition_tree('flows') UNION SELECT relid FROM pg_partition_tree('flow_segments') \
     UNION SELECT relid FROM pg_partition_tree('flow_segments_open') \
     UNION SELECT relid FROM pg_partition_tree('host_traffic_hourly') \
     UNION SELECT relid FROM pg_partition_tree('host_traffic_daily') \
     UNION SELECT to_regclass(name) FROM unnest(ARRAY['exporters', 'exporter_activity', 'journal_positions', \
     'decoder_state', 'parked_sets', 'loss', 'report_runs', 'report_deliveries', 'imports', 'import_segments', \
     'hours', 'days', 'double_counting']) AS name) ORDER BY relname";

/// What can lose stored flows, each with what to do. The schema must be there.
pub(super) async fn risks(pool: &PgPool) -> Result<Vec<String>, StoreError> {
    let mut risks = Vec::new();
    for (setting, consequence) in SETTINGS {
        let value: String = sqlx::query_scalar("SELECT current_setting($1)").bind(setting).fetch_one(pool).await?;
        if value == "off" {
            risks.push(format!("PostgreSQL runs with {setting} = {value}: {consequence}; set it to on"));
        }
    }
    let unlogged: Vec<String> = sqlx::query_scalar(UNLOGGED).fetch_all(pool).await?;
    risks.extend(unlogged.iter().map(|table| {
        format!("the table {table} is UNLOGGED: a crash of PostgreSQL empties it; ALTER TABLE {table} SET LOGGED")
    }));
    Ok(risks)
}
