//! UTC hours with flows and UTC days with totals: which are open, which are sealed.
//!
//! Whoever stores flows enters their hours in the same transaction with [`enter`]; that opens a sealed hour again. A day's
//! totals are valid only while its hours are as they were when it was summed, told by their versions, so nobody has to take
//! a day back.

use super::{Database, StoreError, answer, count};
use crate::clock::{DAY, HOUR, Timestamp};
use crate::flow::segment::Segment;
use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection};
use std::collections::{BTreeMap, BTreeSet};

/// Distinguishes the advisory locks of sealing from others in the database: "seal".
const LOCKS: i32 = 0x7365_616c;

/// Enters the hours of flows received at `moments` into the transaction, and opens those that are sealed. With `imported`,
/// another collector received the flows. Hours of which flows are only `missing` are entered as well, and stay sealed: that
/// changes nothing of their totals. A sealer of the same hour waits for the end of the transaction, and the transaction for the
/// end of the sealer's COMMIT.
pub(super) async fn enter(
    connection: &mut PgConnection,
    moments: impl Iterator<Item = Timestamp>,
    missing: impl Iterator<Item = Timestamp>,
    imported: bool,
) -> Result<(), StoreError> {
    // In order, so that two transactions with the same hours do not wait for each other.
    let mut hours: BTreeMap<Timestamp, bool> = missing.map(|moment| (moment.hour(), false)).collect();
    hours.extend(moments.map(|moment| (moment.hour(), true)));
    for (hour, opens) in hours {
        let hour = hour.to_utc();
        let as_it_is = sqlx::query_scalar(
            "SELECT true FROM hours WHERE hour = $1 AND (sealed_at IS NULL OR NOT $3) AND imported >= $2 FOR SHARE",
        );
        let as_it_is = as_it_is.bind(hour).bind(imported).bind(opens).fetch_optional(&mut *connection);
        let as_it_is: Option<bool> = answer(as_it_is).await?;
        if as_it_is.is_some() {
            continue;
        }
        // The lock that excludes others is taken at once: two that shared the row first would wait for each other for ever.
        let entered = sqlx::query(
            "INSERT INTO hours AS known (hour, imported) VALUES ($1, $2) ON CONFLICT (hour) DO UPDATE \
             SET sealed_at = CASE WHEN $3 THEN NULL ELSE known.sealed_at END, \
             version = known.version + ($3 AND known.sealed_at IS NOT NULL)::int, \
             imported = known.imported OR EXCLUDED.imported",
        );
        answer(entered.bind(hour).bind(imported).bind(opens).execute(&mut *connection)).await?;
    }
    Ok(())
}

/// Sealed hours whose totals were counted by other networks or rules than the present ones, and whose flows are still there, so
/// that they can be counted anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedOtherwise {
    /// How many.
    pub hours: u64,
    /// The beginning of the first.
    pub from: Timestamp,
    /// The end of the last.
    pub to: Timestamp,
}

impl Database {
    /// Those hours of the segments whose totals hold flows that are no longer kept.
    pub(super) async fn flows_dropped(&self, segments: &[Segment]) -> Result<BTreeSet<Timestamp>, StoreError> {
        let hours: BTreeSet<Timestamp> = segments.iter().map(|segment| segment.received_first.hour()).collect();
        let dropped: Vec<DateTime<Utc>> =
            sqlx::query_scalar("SELECT hour FROM hours WHERE hour = ANY($1) AND flows_dropped")
                .bind(hours.into_iter().map(Timestamp::to_utc).collect::<Vec<_>>())
                .fetch_all(&self.writers)
                .await?;
        Ok(dropped.into_iter().map(Timestamp::from).collect())
    }

    /// The open hours that ended before `until` and can be sealed by `local`, the oldest first, at most `limit`, and only
    /// those later than `after`. Where flows are gone that were counted by something else, nothing can be added to their totals
    /// until that is back.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn hours_to_seal(
        &self,
        until: Timestamp,
        after: Option<Timestamp>,
        local: &str,
        limit: i64,
    ) -> Result<Vec<Timestamp>, StoreError> {
        let hours: Vec<DateTime<Utc>> = sqlx::query_scalar(
            "SELECT hour FROM hours WHERE sealed_at IS NULL AND hour <= $1 AND NOT (flows_dropped AND local <> $2) IS TRUE \
             AND ($4::timestamptz IS NULL OR hour > $4) ORDER BY hour LIMIT $3",
        )
        .bind(until.plus(-HOUR).to_utc())
        .bind(local)
        .bind(limit)
        .bind(after.map(Timestamp::to_utc))
        .fetch_all(&self.writers)
        .await?;
        Ok(hours.into_iter().map(Timestamp::from).collect())
    }

    /// The sealed hours from `from` up to `to`, the oldest first; those whose totals were counted by `local` only `with_counted`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn hours_to_count(
        &self,
        from: Timestamp,
        to: Timestamp,
        local: &str,
        with_counted: bool,
    ) -> Result<Vec<Timestamp>, StoreError> {
        let hours: Vec<DateTime<Utc>> = sqlx::query_scalar(
            "SELECT hour FROM hours WHERE sealed_at IS NOT NULL AND ($4 OR local IS DISTINCT FROM $3) AND hour >= $1 \
             AND hour < $2 ORDER BY hour",
        )
        .bind(from.to_utc())
        .bind(to.to_utc())
        .bind(local)
        .bind(with_counted)
        .fetch_all(&self.writers)
        .await?;
        Ok(hours.into_iter().map(Timestamp::from).collect())
    }

    /// The sealed hours from `from` up to `to` that have flows and whose totals were not counted by `local`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn counted_otherwise(
        &self,
        from: Timestamp,
        to: Timestamp,
        local: &str,
    ) -> Result<Option<CountedOtherwise>, StoreError> {
        type Row = (i64, Option<DateTime<Utc>>, Option<DateTime<Utc>>);
        let (hours, first, last): Row = sqlx::query_as(
            "SELECT count(*), min(hour), max(hour) FROM hours WHERE sealed_at IS NOT NULL AND local IS DISTINCT FROM $3 \
             AND NOT flows_dropped AND hour >= $1 AND hour < $2 AND EXISTS (SELECT FROM segment_headers \
             WHERE received_first >= hour AND received_first < hour + interval '1 hour')",
        )
        .bind(from.to_utc())
        .bind(to.to_utc())
        .bind(local)
        .fetch_one(&self.writers)
        .await?;
        let bounds = first.zip(last).map(|(first, last)| (Timestamp::from(first), Timestamp::from(last).plus(HOUR)));
        Ok(bounds.map(|(from, to)| CountedOtherwise { hours: count(hours), from, to }))
    }

    /// The UTC days that ended before `until`, whose hours are all sealed with totals counted by `local`, and whose
    /// totals are missing or of another state of their hours; the oldest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn days_to_sum(&self, until: Timestamp, local: &str) -> Result<Vec<Timestamp>, StoreError> {
        let days: Vec<DateTime<Utc>> = sqlx::query_scalar(
            "SELECT day FROM (SELECT date_trunc('day', hour, 'UTC') AS day, count(*) AS hours, sum(version) AS versions, \
             bool_and(coalesce(sealed_at IS NOT NULL AND local = $2, false)) AS usable FROM hours GROUP BY 1) AS present \
             WHERE usable AND day <= $1 AND NOT EXISTS (SELECT FROM days WHERE days.day = present.day AND days.local = $2 \
             AND days.hours = present.hours AND days.versions = present.versions) ORDER BY day",
        )
        .bind(until.plus(-DAY).to_utc())
        .bind(local)
        .fetch_all(&self.writers)
        .await?;
        Ok(days.into_iter().map(Timestamp::from).collect())
    }

    /// Adds up the totals of a UTC day's hours. Nothing is done when the hours are not all sealed with totals counted by
    /// `local`, or another server is at it. The month's partition must be there. Holds no lock that anybody who stores flows
    /// waits for: whoever opens an hour meanwhile changes its version, and the day does not count.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sum_day(&self, day: Timestamp, local: &str) -> Result<bool, StoreError> {
        match self.try_to_sum_day(day, local).await {
            // Another server added the day up after this transaction's moment, which came before its turn.
            Err(error) if error.is_conflict() => Ok(false),
            done => done,
        }
    }

    async fn try_to_sum_day(&self, day: Timestamp, local: &str) -> Result<bool, StoreError> {
        let mut transaction = self.writers.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await?;
        if !take_turn(&mut transaction, day).await? {
            transaction.rollback().await?;
            return Ok(false);
        }
        let (from, to) = (day.to_utc(), day.plus(DAY).to_utc());
        let counted = sqlx::query(
            "INSERT INTO days AS known (day, hours, versions, local) \
             SELECT $1, count(*), coalesce(sum(version), 0), $3 FROM hours WHERE hour >= $1 AND hour < $2 \
             HAVING coalesce(bool_and(coalesce(sealed_at IS NOT NULL AND local = $3, false)), false) \
             ON CONFLICT (day) DO UPDATE SET hours = EXCLUDED.hours, versions = EXCLUDED.versions, \
             local = EXCLUDED.local, summed_at = now(), totals = NULL",
        )
        .bind(from)
        .bind(to)
        .bind(local)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        if counted == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        sqlx::query("DELETE FROM host_traffic_daily WHERE day = $1").bind(from).execute(&mut *transaction).await?;
        sqlx::query(
            "INSERT INTO host_traffic_daily SELECT host, $1, exporter_id, direction, \
             least(sum(bytes), 9223372036854775807)::bigint, least(sum(packets), 9223372036854775807)::bigint, \
             least(sum(flows), 9223372036854775807)::bigint, least(sum(records), 9223372036854775807)::bigint, \
             least(sum(raw_bytes), 9223372036854775807)::bigint, least(sum(raw_packets), 9223372036854775807)::bigint, \
             least(sum(sampled_flows), 9223372036854775807)::bigint, min(first_seen), max(last_seen) \
             FROM host_traffic_hourly WHERE hour >= $1 AND hour < $2 GROUP BY host, exporter_id, direction",
        )
        .bind(from)
        .bind(to)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// The moment before which everything received is stored, as [`Snapshot::complete_until`] tells it.
    ///
    /// # Errors
    /// When the database does not answer.
    ///
    /// [`Snapshot::complete_until`]: super::snapshot::Snapshot::complete_until
    pub async fn complete_until(&self) -> Result<Option<Timestamp>, StoreError> {
        self.snapshot().await?.complete_until().await
    }

    /// Ends open hours before `oldest` that were never sealed and of which no flows are left. Of those that had flows
    /// it stays known that they are gone; those that had none are forgotten.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_open_hours(&self, oldest: Timestamp) -> Result<(), StoreError> {
        const EMPTY: &str = "sealed_at IS NULL AND version = 0 AND NOT EXISTS (SELECT FROM segment_headers \
            WHERE received_first >= hour AND received_first < hour + interval '1 hour')";
        let mut transaction = self.writers.begin().await?;
        // Whoever stores flows of an hour holds its row without changing it, so a change that waited for him would not look again
        // whether the hour is empty. Only rows that nobody holds are locked, and then it is looked, with all that was committed.
        let statement = format!("SELECT hour FROM hours WHERE hour < $1 AND {EMPTY} FOR UPDATE OF hours SKIP LOCKED");
        let hours: Vec<DateTime<Utc>> =
            sqlx::query_scalar(AssertSqlSafe(statement)).bind(oldest.to_utc()).fetch_all(&mut *transaction).await?;
        for change in [
            "UPDATE hours SET sealed_at = now(), version = 1, local = NULL WHERE flows_dropped",
            "DELETE FROM hours WHERE NOT flows_dropped",
        ] {
            let statement = AssertSqlSafe(format!("{change} AND hour = ANY($1) AND {EMPTY}"));
            sqlx::query(statement).bind(&hours).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// Whether nobody else works on the hour or day that begins at `moment`, who then has to wait for the end of this transaction.
pub(super) async fn take_turn(connection: &mut PgConnection, moment: Timestamp) -> Result<bool, StoreError> {
    // The number of the hour need not differ from all others for ever, only from those that are worked on at a time.
    let number = (moment.micros() / HOUR) as i32;
    let taken = sqlx::query_scalar("SELECT pg_try_advisory_xact_lock($1, $2)").bind(LOCKS).bind(number);
    Ok(taken.fetch_one(connection).await?)
}
