//! What a stretch of time holds: from when to when there are segments, and which fields they have.
//!
//! Nothing here reads a block: times stand beside the blocks, and a field that no flow of a segment has is NULL.

use super::StoreError;
use super::segments::Place;
use super::snapshot::Snapshot;
use crate::clock::Timestamp;
use crate::flow::fields::Field;
use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, Row};

impl Snapshot {
    /// When the first and the last segment begin of those that begin from `from` up to but not including `to`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn extent(
        &mut self,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Option<(Timestamp, Timestamp)>, StoreError> {
        let (first, last): (Option<DateTime<Utc>>, Option<DateTime<Utc>>) = sqlx::query_as(
            "SELECT min(received_first), max(received_first) FROM segment_headers \
             WHERE received_first >= $1 AND received_first < $2",
        )
        .bind(from.to_utc())
        .bind(to.to_utc())
        .fetch_one(self.connection())
        .await?;
        Ok(first.zip(last).map(|(first, last)| (first.into(), last.into())))
    }

    /// The fields that a segment has which holds flows received from `from` up to but not including `to`, in the order of
    /// the catalogue.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn occurring(&mut self, from: Timestamp, to: Timestamp) -> Result<Vec<Field>, StoreError> {
        let tests: Vec<_> =
            Field::ALL.iter().map(|field| format!("coalesce(bool_or({} IS NOT NULL), false)", field.name())).collect();
        let names: Vec<_> = Field::ALL.iter().map(|field| field.name()).collect();
        let within = |table| {
            let names = names.join(", ");
            format!(
                "SELECT {names} FROM {table} WHERE received_first >= $1 AND received_first < $2 AND received_last >= $3"
            )
        };
        // Only names of the catalogue and of tables are put into the text. A segment lies in one hour, so one that begins
        // before the window can only begin in the window's first hour.
        let statement = AssertSqlSafe(format!(
            "SELECT {} FROM ({} UNION ALL {}) AS segments",
            tests.join(", "),
            within(Place::Sealed.table()),
            within(Place::Open.table())
        ));
        let row = sqlx::query(statement)
            .bind(from.hour().to_utc())
            .bind(to.to_utc())
            .bind(from.to_utc())
            .fetch_one(self.connection())
            .await?;
        let mut fields = Vec::new();
        for (index, field) in Field::ALL.into_iter().enumerate() {
            if row.try_get::<bool, _>(index)? {
                fields.push(field);
            }
        }
        Ok(fields)
    }

    /// Tells the database that this moment is still needed: it ends a transaction of which it hears nothing for two minutes.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn keep(&mut self) -> Result<(), StoreError> {
        sqlx::query("SELECT").execute(self.connection()).await?;
        Ok(())
    }
}
