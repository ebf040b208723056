//! `GET /api/v1/storage`: how much of the disk the database takes, by table and partition.

use super::State;
use super::exporters::ZoneParams;
use super::format;
use super::params::Asked;
use super::problem::Problem;
use super::shapes::moment;
use crate::store::usage::{TABLES, Usage};
use actix_web::{HttpResponse, get, web};
use chrono_tz::Tz;
use serde::Serialize;
use utoipa::ToSchema;

/// An hour, day or month of a table.
#[derive(Debug, Serialize, ToSchema)]
pub struct StoragePartition {
    /// Where it begins.
    #[schema(format = DateTime, example = "2026-11-23T00:00:00Z")]
    pub start: String,
    /// Bytes, with indexes and large values.
    #[schema(example = 1_509_949_440)]
    pub bytes: u64,
}

/// A table that is kept by hours, days or months.
#[derive(Debug, Serialize, ToSchema)]
pub struct StorageTable {
    /// `flows` (rows for SQL, by day), `flow_segments` (every flow, by day), `flow_segments_open` (of hours that are not
    /// sealed yet, by the hour in which they were stored), `host_traffic_hourly` or `host_traffic_daily` (totals, by month).
    #[schema(example = "flow_segments")]
    pub table: &'static str,
    /// Bytes of all its partitions.
    #[schema(example = 1_509_949_440)]
    pub bytes: u64,
    /// Its partitions, the oldest first.
    pub partitions: Vec<StoragePartition>,
}

/// What the database takes.
#[derive(Debug, Serialize, ToSchema)]
pub struct Storage {
    /// Bytes of the whole database, without its write-ahead log.
    #[schema(example = 1_610_612_736)]
    pub bytes: u64,
    /// The budget, `[storage] max_bytes`; null when there is none. Beyond it the oldest days go: first rows of `flows`,
    /// then segments, and when there are no more, whole months of totals but for this and the previous one.
    #[schema(example = 85_899_345_920u64, required = true)]
    pub max_bytes: Option<u64>,
    /// The tables.
    pub tables: Vec<StorageTable>,
}

fn shape(usage: &Usage, max_bytes: Option<u64>, zone: Tz) -> Storage {
    let tables = TABLES.map(|table| {
        let own = usage.partitions.iter().filter(|partition| partition.table == table);
        StorageTable {
            table,
            bytes: own.clone().map(|partition| partition.bytes).fold(0, u64::saturating_add),
            partitions: own
                .map(|partition| StoragePartition { start: moment(partition.start, zone), bytes: partition.bytes })
                .collect(),
        }
    });
    Storage { bytes: usage.bytes, max_bytes, tables: tables.into() }
}

/// How much of the disk the database takes
///
/// By table, and by hour, day or month.
#[utoipa::path(
    tag = "Server",
    operation_id = "storage",
    params(ZoneParams),
    responses(
        (status = 200, description = "What each table takes.", body = Storage),
        (status = "4XX", description = "The request cannot be answered.", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "The database does not answer at the moment.", body = Problem, content_type = "application/problem+json"),
    )
)]
#[get("/storage")]
pub async fn get_storage(asked: Asked<(ZoneParams,)>, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let Asked((asked,)) = asked;
    let zone = asked.zone(state.zone)?;
    let usage = state.database.usage().await?;
    format::json(&shape(&usage, state.max_bytes, zone))
}
