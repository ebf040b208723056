//! Packing: the host totals of hours and days become blocks beside their rows, from which answers are read.
//!
//! A block that is missing costs time and nothing else, so one that cannot be made is tried again in a later round.

use crate::columns::{TotalsError, pack_totals};
use crate::store::packed::Rows;
use crate::store::{Database, StoreError};

/// How many hours, and days, are packed in a round.
const AT_ONCE: i64 = 200;

/// Packs hours and days that have totals and are not packed, the newest first. Returns whether there may be more.
///
/// # Errors
/// When the database does not answer.
pub async fn pack(database: &Database) -> Result<bool, StoreError> {
    let (mut packed, mut failed) = (0i64, false);
    for period in database.to_pack(AT_ONCE).await? {
        let rows = match database.rows_to_pack(period).await {
            Ok(Some(rows)) => rows,
            Ok(None) => continue,
            // One that cannot be read must not keep the others from being packed; a database that is away ends it all.
            Err(error) if failed => return Err(error),
            Err(error) => {
                tracing::warn!("the totals of {period:?} stay unpacked: {error}");
                failed = true;
                continue;
            }
        };
        match tokio::task::spawn_blocking(move || with_block(rows)).await {
            Ok((rows, Ok(block))) => {
                database.keep_packed(&rows, &block).await?;
                packed = packed.saturating_add(1);
            }
            Ok((_, Err(error))) => tracing::error!("the totals of {period:?} stay unpacked: {error}"),
            Err(_) => tracing::error!("packing the totals of {period:?} ended by a defect"),
        }
    }
    Ok(packed >= AT_ONCE)
}

/// The rows and their block, an empty one where there are too many.
fn with_block(mut rows: Rows) -> (Rows, Result<Vec<u8>, TotalsError>) {
    let block = rows.rows.as_mut().map_or_else(|| Ok(Vec::new()), |rows| pack_totals(rows));
    (rows, block)
}
