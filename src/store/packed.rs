//! Packed host totals: blocks beside the rows of an hour or day, made after them and read in their place.
//!
//! A block is kept only as long as it holds what the rows hold: whoever seals an hour or adds up a day takes it away, and one that
//! was made of an older state is not written. What is in a block is not known here.

use super::host_traffic::Stretch;
use super::snapshot::Snapshot;
use super::{Database, StoreError, totals};
use crate::clock::Timestamp;
use crate::flow::host_traffic::{HostTraffic, HostTrafficKey};
use chrono::{DateTime, Utc};

/// An hour or a day with totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// The UTC hour that begins then.
    Hour(Timestamp),
    /// The UTC day that begins then.
    Day(Timestamp),
}

impl Period {
    fn of(day: bool, at: DateTime<Utc>) -> Self {
        if day { Self::Day(at.into()) } else { Self::Hour(at.into()) }
    }
}

/// The rows of an hour or day, and the state that they are of.
#[derive(Debug)]
pub struct Rows {
    period: Period,
    state: String,
    /// The rows, in no order; `None` when they are too many to be packed.
    pub rows: Option<Vec<(HostTrafficKey, HostTraffic)>>,
}

impl Database {
    /// Sealed hours and days with totals that are not packed, the newest first, at most `limit` of each.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn to_pack(&self, limit: i64) -> Result<Vec<Period>, StoreError> {
        let found: Vec<(bool, DateTime<Utc>)> = sqlx::query_as(
            "(SELECT true, day FROM days WHERE totals IS NULL ORDER BY day DESC LIMIT $1) UNION ALL \
             (SELECT false, hour FROM hours WHERE totals IS NULL AND sealed_at IS NOT NULL ORDER BY hour DESC LIMIT $1)",
        )
        .bind(limit)
        .fetch_all(&self.writers)
        .await?;
        Ok(found.into_iter().map(|(day, at)| Period::of(day, at)).collect())
    }

    /// The rows to be packed; `None` when the period has no totals any more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn rows_to_pack(&self, period: Period) -> Result<Option<Rows>, StoreError> {
        let mut snapshot = self.snapshot().await?;
        let (state, at) = match period {
            Period::Hour(hour) => ("SELECT version::text FROM hours WHERE hour = $1 AND sealed_at IS NOT NULL", hour),
            Period::Day(day) => ("SELECT summed_at::text FROM days WHERE day = $1", day),
        };
        let state: Option<String> =
            sqlx::query_scalar(state).bind(at.to_utc()).fetch_optional(snapshot.connection()).await?;
        let Some(state) = state else { return Ok(None) };
        let rows = totals::of(snapshot.connection(), period).await?;
        Ok(Some(Rows { period, state, rows }))
    }

    /// Keeps the `block` of rows beside them, unless they have changed. An empty one says that there are too many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn keep_packed(&self, rows: &Rows, block: &[u8]) -> Result<(), StoreError> {
        let (statement, at) = match rows.period {
            Period::Hour(hour) => {
                ("UPDATE hours SET totals = $3 WHERE hour = $1 AND version::text = $2 AND sealed_at IS NOT NULL", hour)
            }
            Period::Day(day) => ("UPDATE days SET totals = $3 WHERE day = $1 AND summed_at::text = $2", day),
        };
        let kept = sqlx::query(statement).bind(at.to_utc()).bind(&rows.state).bind(block);
        kept.execute(&self.writers).await?;
        Ok(())
    }
}

impl Snapshot {
    /// The blocks of the days and hours in `stretch`, as far as they are packed.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn packed(&mut self, stretch: &Stretch) -> Result<Vec<(Period, Vec<u8>)>, StoreError> {
        let moments = |of: &[Timestamp]| of.iter().map(|moment| moment.to_utc()).collect::<Vec<_>>();
        let found: Vec<(bool, DateTime<Utc>, Vec<u8>)> = sqlx::query_as(
            "SELECT true, day, totals FROM days WHERE day = ANY($1) AND length(totals) > 0 UNION ALL \
             SELECT false, hour, totals FROM hours WHERE hour = ANY($2) AND length(totals) > 0",
        )
        .bind(moments(&stretch.days))
        .bind(moments(&stretch.hours))
        .fetch_all(self.connection())
        .await?;
        Ok(found.into_iter().map(|(day, at, block)| (Period::of(day, at), block)).collect())
    }
}
