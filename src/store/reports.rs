//! The memory of reports: which periods fell due, who works on them, what was made and where it went.
//!
//! It promises that one period is worked on by one server at a time: a claim is a lease by the database's clock, and
//! everything written under a claim is written only while it is held. It knows neither schedules nor mail.

use super::{Database, StoreError, answer, bigint, count};
use crate::clock::Timestamp;
use chrono::{DateTime, Utc};
use sqlx::Row;
use sqlx::postgres::PgRow;
use std::time::Duration;

/// Names one run: a report and the period it tells of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunKey {
    /// The report's name.
    pub report: String,
    /// The first moment of the period.
    pub start: Timestamp,
    /// The first moment after it.
    pub end: Timestamp,
}

/// A period to put on record.
#[derive(Clone, Debug)]
pub struct NewRun {
    /// Which run.
    pub key: RunKey,
    /// What people call the period.
    pub period: String,
    /// When the schedule asked for it.
    pub due: Timestamp,
    /// Whether it is only noted, not made.
    pub skipped: bool,
}

/// A finished report, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptDocument {
    /// The name of its files without suffix.
    pub name: String,
    /// The CSV.
    pub csv: String,
    /// The manifest, JSON.
    pub manifest: String,
    /// The text of the mail.
    pub summary: String,
    /// Rows of the CSV below its head.
    pub rows: u64,
}

/// A run that this server may work on until its lease ends.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Which run.
    pub key: RunKey,
    /// Who holds it.
    pub owner: String,
    /// What people call the period.
    pub period: String,
    /// How many times it was claimed, this time included.
    pub attempts: u32,
    /// How long it has been on record.
    pub age: Duration,
    /// The document, when an earlier attempt made it.
    pub document: Option<KeptDocument>,
}

/// One place a run is delivered to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRow {
    /// `file` or `email`.
    pub delivery: String,
    /// The directory or the address.
    pub recipient: String,
    /// `pending`, `sending`, `sent` or `failed`.
    pub state: String,
    /// How many times it was tried.
    pub attempts: u32,
    /// The mail's Message-ID without brackets and domain.
    pub message_id: Option<String>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// One run as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunRow {
    /// Which run.
    pub key: RunKey,
    /// What people call the period.
    pub period: String,
    /// `pending`, `running`, `done`, `failed` or `skipped`.
    pub state: String,
    /// How many times it was claimed.
    pub attempts: u32,
    /// Rows of the CSV, once it is made.
    pub rows: Option<u64>,
    /// Why the last attempt failed, or what is waited for.
    pub error: Option<String>,
}

/// How a held run goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Delivered everywhere.
    Done,
    /// Given up or refused for good, with the reason.
    Failed(String),
    /// To be claimed again after this time, with the reason.
    Again(Duration, String),
}

fn utc(moment: Timestamp) -> DateTime<Utc> {
    moment.to_utc()
}

fn small(value: i32) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

fn key(row: &PgRow) -> Result<RunKey, sqlx::Error> {
    Ok(RunKey {
        report: row.try_get("report")?,
        start: row.try_get::<DateTime<Utc>, _>("period_start")?.into(),
        end: row.try_get::<DateTime<Utc>, _>("period_end")?.into(),
    })
}

fn document(row: &PgRow) -> Result<Option<KeptDocument>, sqlx::Error> {
    let Some(name) = row.try_get("document")? else { return Ok(None) };
    Ok(Some(KeptDocument {
        name,
        csv: row.try_get("csv")?,
        manifest: row.try_get("manifest")?,
        summary: row.try_get("summary")?,
        rows: count(row.try_get("csv_rows")?),
    }))
}

impl Database {
    /// The end of the last period of `report` on record that ended at or before `now`. Later ones, which a clock that was
    /// ahead may have left, say nothing about what is due.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn last_report_period(&self, report: &str, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        let end: Option<DateTime<Utc>> = answer(
            sqlx::query_scalar("SELECT max(period_end) FROM report_runs WHERE report = $1 AND period_end <= $2")
                .bind(report)
                .bind(utc(now))
                .fetch_one(&self.writers),
        )
        .await?;
        Ok(end.map(Timestamp::from))
    }

    /// Puts periods on record; those that are there already stay as they are.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn record_report_runs(&self, runs: &[NewRun]) -> Result<(), StoreError> {
        let mut transaction = answer(self.writers.begin()).await?;
        for run in runs {
            answer(
                sqlx::query(
                    "INSERT INTO report_runs (report, period_start, period_end, period, due, state) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
                )
                .bind(&run.key.report)
                .bind(utc(run.key.start))
                .bind(utc(run.key.end))
                .bind(&run.period)
                .bind(utc(run.due))
                .bind(if run.skipped { "skipped" } else { "pending" })
                .execute(&mut *transaction),
            )
            .await?;
        }
        answer(transaction.commit()).await
    }

    /// Claims the oldest run of `report` that waits for nobody, for `lease`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn claim_report_run(
        &self,
        report: &str,
        owner: &str,
        lease: Duration,
    ) -> Result<Option<Claim>, StoreError> {
        let row = answer(
            sqlx::query(
                "UPDATE report_runs SET state = 'running', attempts = attempts + 1, claimed_by = $2, \
                 lease_until = now() + make_interval(secs => $3) \
             WHERE (report, period_start, period_end) = ( \
                 SELECT report, period_start, period_end FROM report_runs \
                 WHERE report = $1 AND state IN ('pending', 'running') AND not_before <= now() \
                     AND (lease_until IS NULL OR lease_until <= now()) \
                 ORDER BY period_end, period_start LIMIT 1 FOR UPDATE SKIP LOCKED) \
             RETURNING *, extract(epoch FROM now() - recorded_at)::double precision AS age",
            )
            .bind(report)
            .bind(owner)
            .bind(lease.as_secs_f64())
            .fetch_optional(&self.writers),
        )
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(Claim {
            key: key(&row)?,
            owner: owner.to_owned(),
            period: row.try_get("period")?,
            attempts: small(row.try_get("attempts")?),
            age: Duration::try_from_secs_f64(row.try_get("age")?).unwrap_or_default(),
            document: document(&row)?,
        }))
    }

    /// Holds the claim for another `lease` from now; `false` when it is lost.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn renew_report_claim(&self, claim: &Claim, lease: Duration) -> Result<bool, StoreError> {
        let done = answer(
            sqlx::query(
                "UPDATE report_runs SET lease_until = now() + make_interval(secs => $5) \
             WHERE report = $1 AND period_start = $2 AND period_end = $3 AND claimed_by = $4 AND lease_until > now()",
            )
            .bind(&claim.key.report)
            .bind(utc(claim.key.start))
            .bind(utc(claim.key.end))
            .bind(&claim.owner)
            .bind(lease.as_secs_f64())
            .execute(&self.writers),
        )
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Keeps what was made of a claimed run; `false` when the claim is lost.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn keep_report_document(&self, claim: &Claim, made: &KeptDocument) -> Result<bool, StoreError> {
        let done = answer(
            sqlx::query(
                "UPDATE report_runs SET document = $5, csv = $6, manifest = $7, summary = $8, csv_rows = $9 \
             WHERE report = $1 AND period_start = $2 AND period_end = $3 AND claimed_by = $4 AND lease_until > now()",
            )
            .bind(&claim.key.report)
            .bind(utc(claim.key.start))
            .bind(utc(claim.key.end))
            .bind(&claim.owner)
            .bind(&made.name)
            .bind(&made.csv)
            .bind(&made.manifest)
            .bind(&made.summary)
            .bind(bigint(made.rows))
            .execute(&self.writers),
        )
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Enters the places a claimed run is to be delivered to, and returns how each of all places stands.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn report_deliveries(
        &self,
        run: &RunKey,
        places: &[(&'static str, String)],
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        for (delivery, recipient) in places {
            answer(
                sqlx::query(
                    "INSERT INTO report_deliveries (report, period_start, period_end, delivery, recipient, state) \
                 VALUES ($1, $2, $3, $4, $5, 'pending') ON CONFLICT DO NOTHING",
                )
                .bind(&run.report)
                .bind(utc(run.start))
                .bind(utc(run.end))
                .bind(delivery)
                .bind(recipient)
                .execute(&self.writers),
            )
            .await?;
        }
        let rows = answer(
            sqlx::query(
                "SELECT delivery, recipient, state, attempts, message_id, error FROM report_deliveries \
             WHERE report = $1 AND period_start = $2 AND period_end = $3 ORDER BY delivery, recipient",
            )
            .bind(&run.report)
            .bind(utc(run.start))
            .bind(utc(run.end))
            .fetch_all(&self.writers),
        )
        .await?;
        let read = |row: &PgRow| {
            Ok(DeliveryRow {
                delivery: row.try_get("delivery")?,
                recipient: row.try_get("recipient")?,
                state: row.try_get("state")?,
                attempts: small(row.try_get("attempts")?),
                message_id: row.try_get("message_id")?,
                error: row.try_get("error")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Notes that a delivery is about to be made; `false` when the claim is lost, and nothing may be sent then.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn begin_report_delivery(
        &self,
        claim: &Claim,
        delivery: &str,
        recipient: &str,
        message_id: &str,
    ) -> Result<bool, StoreError> {
        let done = answer(
            sqlx::query(
                "UPDATE report_deliveries d SET state = 'sending', attempts = d.attempts + 1, message_id = $7, \
                 updated_at = now() \
             FROM report_runs r \
             WHERE r.report = $1 AND r.period_start = $2 AND r.period_end = $3 AND r.claimed_by = $4 \
                 AND r.lease_until > now() AND d.report = $1 AND d.period_start = $2 AND d.period_end = $3 \
                 AND d.delivery = $5 AND d.recipient = $6",
            )
            .bind(&claim.key.report)
            .bind(utc(claim.key.start))
            .bind(utc(claim.key.end))
            .bind(&claim.owner)
            .bind(delivery)
            .bind(recipient)
            .bind(message_id)
            .execute(&self.writers),
        )
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Notes how a delivery went: `sent`, `pending` (to be tried again) or `failed`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn end_report_delivery(
        &self,
        run: &RunKey,
        delivery: &str,
        recipient: &str,
        state: &str,
        error: Option<&str>,
    ) -> Result<(), StoreError> {
        answer(
            sqlx::query(
                "UPDATE report_deliveries SET state = $6, error = $7, updated_at = now() \
             WHERE report = $1 AND period_start = $2 AND period_end = $3 AND delivery = $4 AND recipient = $5 \
             AND (state <> 'sent' OR $6 = 'sent')",
            )
            .bind(&run.report)
            .bind(utc(run.start))
            .bind(utc(run.end))
            .bind(delivery)
            .bind(recipient)
            .bind(state)
            .bind(error)
            .execute(&self.writers),
        )
        .await?;
        Ok(())
    }

    /// Ends a claim; does nothing when it is lost.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn end_report_claim(&self, claim: &Claim, verdict: &Verdict) -> Result<(), StoreError> {
        let (state, error, pause) = match verdict {
            Verdict::Done => ("done", None, Duration::ZERO),
            Verdict::Failed(reason) => ("failed", Some(reason), Duration::ZERO),
            Verdict::Again(pause, reason) => ("pending", Some(reason), *pause),
        };
        answer(
            sqlx::query(
                "UPDATE report_runs SET state = $5, error = $6, claimed_by = NULL, lease_until = NULL, \
                 not_before = now() + make_interval(secs => $7), \
                 finished_at = CASE WHEN $5 = 'pending' THEN NULL ELSE now() END \
             WHERE report = $1 AND period_start = $2 AND period_end = $3 AND claimed_by = $4",
            )
            .bind(&claim.key.report)
            .bind(utc(claim.key.start))
            .bind(utc(claim.key.end))
            .bind(&claim.owner)
            .bind(state)
            .bind(error)
            .bind(pause.as_secs_f64())
            .execute(&self.writers),
        )
        .await?;
        Ok(())
    }

    /// All runs of `report`, oldest period first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn report_runs(&self, report: &str) -> Result<Vec<RunRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM report_runs WHERE report = $1 ORDER BY period_end, period_start")
            .bind(report)
            .fetch_all(&self.readers)
            .await?;
        let read = |row: &PgRow| {
            Ok(RunRow {
                key: key(row)?,
                period: row.try_get("period")?,
                state: row.try_get("state")?,
                attempts: small(row.try_get("attempts")?),
                rows: row.try_get::<Option<i64>, _>("csv_rows")?.map(count),
                error: row.try_get("error")?,
            })
        };
        rows.iter().map(read).collect()
    }
}
