//! Sealing an hour: one transaction in which its small segments become large ones and its host totals are written.
//!
//! What is read, merged and written before the end disturbs nobody: the flows of an hour that is over change only when
//! late ones come. The hour's row is locked at the very end, for as long as it takes to see that nothing has come and to
//! COMMIT. If something has come, the whole is given up and tried again later. Nothing here knows columns.

use super::hours::take_turn;
use super::segments::{self, Place};
use super::snapshot::{SegmentHeader, header, loaded};
use super::{Database, StoreError, double_counting, totals};
use crate::clock::{HOUR, Timestamp};
use crate::flow::double_counting::Finding;
use crate::flow::fields::Field;
use crate::flow::host_traffic::{HostTraffic, HostTrafficKey};
use crate::flow::segment::Segment;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, Transaction};
use std::collections::BTreeSet;

/// An hour that is being sealed. Dropped, it leaves everything as it was.
#[derive(Debug)]
pub struct Seal {
    transaction: Transaction<'static, Postgres>,
    hour: Timestamp,
    /// What it was like when sealing began.
    state: State,
    /// The segments that the hour consists of when it is sealed.
    segments: BTreeSet<i64>,
    /// Whether parts of host totals were put aside.
    in_parts: bool,
}

/// An hour as far as others may change it.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
struct State {
    /// Grows when it is sealed and when it is opened again.
    version: i64,
    /// Whether flows that its totals hold are no longer kept.
    flows_dropped: bool,
    sealed: bool,
    /// What its totals were counted by.
    local: Option<String>,
}

/// Whether a sealed hour can be sealed once more.
#[derive(Debug)]
pub enum Again {
    /// It can.
    Begun(Seal),
    /// Its flows are no longer kept.
    Gone,
    /// Another server is at it, or it is open.
    Busy,
}

impl Database {
    /// Begins to seal an hour whose day and month have partitions. `None` when it is sealed, unknown, or another server is
    /// at it.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn begin_seal(&self, hour: Timestamp) -> Result<Option<Seal>, StoreError> {
        match self.take_hour(hour).await? {
            Some(seal) if !seal.state.sealed => Ok(Some(seal)),
            other => give_up(other).await,
        }
    }

    /// Begins to seal a sealed hour once more, so that its host totals are counted anew.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn begin_seal_again(&self, hour: Timestamp) -> Result<Again, StoreError> {
        match self.take_hour(hour).await? {
            Some(mut seal) if seal.state.sealed => {
                if !seal.state.flows_dropped && (!seal.segments().await?.is_empty() || !seal.has_totals().await?) {
                    return Ok(Again::Begun(seal));
                }
                give_up(Some(seal)).await.map(|_| Again::Gone)
            }
            other => give_up(other).await.map(|_| Again::Busy),
        }
    }

    /// An hour that is known and that nobody else is at.
    async fn take_hour(&self, hour: Timestamp) -> Result<Option<Seal>, StoreError> {
        let mut transaction = self.writers.begin().await?;
        // At the end nobody waits for the disk with the hour's row locked. A crash within a moment can undo the sealing, as a whole,
        // and nothing that is stored after it: then the hour is sealed again.
        sqlx::query("SET LOCAL synchronous_commit = off").execute(&mut *transaction).await?;
        let turn = take_turn(&mut transaction, hour).await?;
        let state = state(&mut transaction, hour, "").await?;
        if let (true, Some(state)) = (turn, state) {
            return Ok(Some(Seal { transaction, hour, state, segments: BTreeSet::new(), in_parts: false }));
        }
        transaction.rollback().await?;
        Ok(None)
    }
}

async fn give_up(seal: Option<Seal>) -> Result<Option<Seal>, StoreError> {
    if let Some(seal) = seal {
        seal.transaction.rollback().await?;
    }
    Ok(None)
}

/// What the hour is like; `lock` ends the statement.
async fn state(
    connection: &mut PgConnection,
    hour: Timestamp,
    lock: &'static str,
) -> Result<Option<State>, StoreError> {
    let statement = format!(
        "SELECT version, flows_dropped, sealed_at IS NOT NULL AS sealed, local FROM hours WHERE hour = $1 {lock}"
    );
    Ok(sqlx::query_as(AssertSqlSafe(statement)).bind(hour.to_utc()).fetch_optional(connection).await?)
}

impl Seal {
    /// Whether the hour has host totals. One of which only losses are known has neither these nor flows.
    async fn has_totals(&mut self) -> Result<bool, StoreError> {
        let statement = sqlx::query_scalar("SELECT EXISTS (SELECT FROM host_traffic_hourly WHERE hour = $1)");
        Ok(statement.bind(self.hour.to_utc()).fetch_one(&mut *self.transaction).await?)
    }

    /// The segments of the hour, in the order of time.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn segments(&mut self) -> Result<Vec<SegmentHeader>, StoreError> {
        let rows = sqlx::query(
            "SELECT segment_id, flow_rows, received_first, received_last, total_bytes, total_packets, total_flows, open \
             FROM segment_headers WHERE received_first >= $1 AND received_first < $2 ORDER BY received_first, segment_id",
        )
        .bind(self.hour.to_utc())
        .bind(self.hour.plus(HOUR).to_utc())
        .fetch_all(&mut *self.transaction)
        .await?;
        let headers: Vec<SegmentHeader> = rows.iter().map(header).collect::<Result<_, _>>()?;
        self.segments = headers.iter().map(|header| header.segment_id).collect();
        Ok(headers)
    }

    /// Loads a segment of the hour with the blocks of `fields`, or with all.
    ///
    /// # Errors
    /// When the database does not answer or the segment has gone.
    pub async fn load(&mut self, header: &SegmentHeader, fields: Option<&[Field]>) -> Result<Segment, StoreError> {
        let fields = fields.unwrap_or(&Field::ALL);
        let found = loaded(&mut self.transaction, std::slice::from_ref(header), fields).await?;
        let gone = || StoreError::Unexpected {
            place: "the segments of an hour",
            detail: format!("segment {} has gone while its hour was sealed", header.segment_id),
        };
        found.into_iter().next().ok_or_else(gone)
    }

    /// Takes segments away, of which all flows are about to be written in others.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn remove(&mut self, headers: &[SegmentHeader]) -> Result<(), StoreError> {
        for place in [Place::Open, Place::Sealed] {
            let ids: Vec<i64> = headers
                .iter()
                .filter(|header| header.open == (place == Place::Open))
                .map(|header| header.segment_id)
                .collect();
            if ids.is_empty() {
                continue;
            }
            // Only a name of this module.
            let statement = AssertSqlSafe(format!(
                "DELETE FROM {} WHERE segment_id = ANY($1) AND received_first >= $2 AND received_first < $3",
                place.table()
            ));
            sqlx::query(statement)
                .bind(&ids)
                .bind(self.hour.to_utc())
                .bind(self.hour.plus(HOUR).to_utc())
                .execute(&mut *self.transaction)
                .await?;
            for id in ids {
                self.segments.remove(&id);
            }
        }
        Ok(())
    }

    /// Writes a segment to stay, under an id of one that was removed.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn write(&mut self, segment_id: i64, segment: &Segment) -> Result<(), StoreError> {
        segments::write(&mut self.transaction, Place::Sealed, std::iter::once((segment_id, segment))).await?;
        self.segments.insert(segment_id);
        Ok(())
    }

    /// Whether flows that the totals of the hour hold are no longer kept. Then what comes is added to the totals, which
    /// hold all but the open segments.
    pub fn flows_dropped(&self) -> bool {
        self.state.flows_dropped
    }

    /// What the totals of the hour were counted by, when that is known.
    pub fn counted_by(&self) -> Option<&str> {
        self.state.local.as_deref()
    }

    /// Puts parts of host totals aside, to be added up by [`Seal::write_totals`].
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn put_aside<'a>(
        &mut self,
        totals: impl Iterator<Item = (&'a HostTrafficKey, &'a HostTraffic)>,
    ) -> Result<(), StoreError> {
        self.begin_parts().await?;
        totals::write_part(&mut self.transaction, self.hour, totals).await
    }

    /// Puts the host totals that the hour has aside, so that what comes is added to them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn put_present_aside(&mut self) -> Result<(), StoreError> {
        self.begin_parts().await?;
        totals::present_as_part(&mut self.transaction, self.hour).await
    }

    async fn begin_parts(&mut self) -> Result<(), StoreError> {
        if !self.in_parts {
            totals::begin_parts(&mut self.transaction).await?;
            self.in_parts = true;
        }
        Ok(())
    }

    /// Replaces the host totals of the hour by these and those that were put aside.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn write_totals<'a>(
        &mut self,
        totals: impl Iterator<Item = (&'a HostTrafficKey, &'a HostTraffic)>,
    ) -> Result<(), StoreError> {
        if !self.in_parts {
            return totals::replace(&mut self.transaction, self.hour, totals).await;
        }
        totals::write_part(&mut self.transaction, self.hour, totals).await?;
        totals::replace_by_parts(&mut self.transaction, self.hour).await
    }

    /// Replaces what was found of double counting in the hour.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn write_double_counting(&mut self, findings: &[Finding]) -> Result<(), StoreError> {
        double_counting::replace(&mut self.transaction, self.hour, findings).await
    }

    /// Seals the hour, whose totals were counted by what `local` is the fingerprint of. Returns false, and leaves everything as
    /// it was, when flows of the hour have come meanwhile.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn finish(mut self, local: &str) -> Result<bool, StoreError> {
        // Whoever stores flows of this hour waits from here on, and is told that it is sealed.
        let state = state(&mut self.transaction, self.hour, "FOR UPDATE").await?;
        let present: Vec<i64> = sqlx::query_scalar(
            "SELECT segment_id FROM segment_headers WHERE received_first >= $1 AND received_first < $2",
        )
        .bind(self.hour.to_utc())
        .bind(self.hour.plus(HOUR).to_utc())
        .fetch_all(&mut *self.transaction)
        .await?;
        if state != Some(self.state) || present.into_iter().collect::<BTreeSet<_>>() != self.segments {
            self.transaction.rollback().await?;
            return Ok(false);
        }
        // Where flows were dropped before they were counted, nobody knows what the totals lack.
        let sealed = sqlx::query(
            "UPDATE hours SET sealed_at = now(), version = version + 1, totals = NULL, \
             local = CASE WHEN flows_dropped AND local IS DISTINCT FROM $2 THEN NULL ELSE $2 END WHERE hour = $1",
        );
        sealed.bind(self.hour.to_utc()).bind(local).execute(&mut *self.transaction).await?;
        self.transaction.commit().await?;
        Ok(true)
    }
}
