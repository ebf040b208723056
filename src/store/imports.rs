//! Files of other collectors: how far each is stored, and the one transaction that stores a part of one or of several.
//!
//! A file is known by the hash of its content, and what a capture holds for one UDP port by that port as well. The row in `imports` is locked by the transaction that stores a part of it and
//! must stand at that part's start, as a journal's position must. So a part counts once, whichever side dies and whenever, and
//! the same file brought in again changes nothing.
//!
//! Segments of imports are numbered by `import_segments`, below all journals' numbers; its row, locked until the commit, also
//! lets imports that run beside each other take turns.

use super::commit::{Loss, write_loss};
use super::segments::{self, Place};
use super::{Database, StoreError, bigint, count, flows, hours};
use crate::clock::Timestamp;
use crate::flow::batch::FlowBatch;
use crate::flow::segment::Segment;
use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a part may take to be stored.
const PATIENCE: Duration = Duration::from_secs(120);

/// A file to be brought in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportFile<'a> {
    /// SHA-256 of its content.
    pub hash: [u8; 32],
    /// Of a capture, the UDP port whose datagrams are brought in; 0 for other files.
    pub port: u16,
    /// Where it lies.
    pub name: &'a str,
    /// Its size in bytes.
    pub size: u64,
    /// What kind of file it is.
    pub format: &'static str,
}

/// Whether a file is at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportState {
    /// Not yet.
    Running,
    /// All of it is stored or was left out.
    Done,
    /// The same, but something could not be read.
    Damaged,
}

impl ImportState {
    const fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Damaged => "damaged",
        }
    }

    fn parse(name: &str) -> Self {
        match name {
            "done" => Self::Done,
            "damaged" => Self::Damaged,
            _ => Self::Running,
        }
    }
}

/// Where a file stands in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportStanding {
    /// Its number.
    pub import_id: i64,
    /// Everything before this byte is stored.
    pub position: u64,
    /// Everything before this byte was a shorter file with the same beginning, which was read to its end.
    pub begins_at: u64,
    /// Whether it is at its end.
    pub state: ImportState,
    /// What could not be read so far.
    pub error: Option<String>,
    /// The receive times of what is stored of it.
    pub received: Option<(Timestamp, Timestamp)>,
}

/// A part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportStep {
    /// The file.
    pub import_id: i64,
    /// Where the part begins; must be what the database holds.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
    /// Flows of the part that are stored.
    pub flows: u64,
    /// Flows of the part that were left out.
    pub refused: u64,
    /// The receive times of what is stored.
    pub received: Option<(Timestamp, Timestamp)>,
    /// Whether the file is at its end with this part.
    pub state: ImportState,
    /// What could not be read, the first of it.
    pub error: Option<String>,
}

/// Everything that parts of files became.
#[derive(Clone, Debug, Default)]
pub struct ImportBatch {
    /// The parts, one a file.
    pub steps: Vec<ImportStep>,
    /// Their flows as compressed columns.
    pub segments: Vec<Segment>,
    /// Those of them that the table `flows` keeps.
    pub rows: Vec<FlowBatch>,
    /// UTC days of which [`Database::ensure_rows`] has said that no rows are to be written.
    pub without_rows: BTreeSet<Timestamp>,
    /// What is known to be missing.
    pub loss: Vec<Loss>,
}

#[derive(sqlx::FromRow)]
struct StandingRow {
    import_id: i64,
    position: i64,
    begins_at: i64,
    state: String,
    error: Option<String>,
    received_first: Option<DateTime<Utc>>,
    received_last: Option<DateTime<Utc>>,
}

impl From<StandingRow> for ImportStanding {
    fn from(row: StandingRow) -> Self {
        Self {
            import_id: row.import_id,
            position: count(row.position),
            begins_at: count(row.begins_at),
            state: ImportState::parse(&row.state),
            error: row.error,
            received: row.received_first.map(Timestamp::from).zip(row.received_last.map(Timestamp::from)),
        }
    }
}

/// The columns of a [`StandingRow`].
const STANDING: &str =
    "SELECT import_id, position, begins_at, state, error, received_first, received_last FROM imports";

impl Database {
    /// The sizes below `size` of files that a longer one may continue: those that were not read to a proper end, and captures,
    /// of which nobody can tell. Ascending.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn import_sizes(&self, size: u64) -> Result<Vec<u64>, StoreError> {
        let sizes: Vec<i64> = sqlx::query_scalar(
            "SELECT DISTINCT size FROM imports WHERE (state <> 'done' OR format = 'capture') AND size < $1 ORDER BY size",
        )
        .bind(bigint(size))
        .fetch_all(&self.writers)
        .await?;
        Ok(sizes.into_iter().map(count).collect())
    }

    /// The ports of which what a capture holds was brought in before, at least in part.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn imported_ports(&self, hash: &[u8; 32]) -> Result<Vec<u16>, StoreError> {
        let ports: Vec<i32> = sqlx::query_scalar("SELECT port FROM imports WHERE content_hash = $1")
            .bind(hash.as_slice())
            .fetch_all(&self.writers)
            .await?;
        Ok(ports.into_iter().filter_map(|port| port.try_into().ok()).collect())
    }

    /// Where the longest of the files with these hashes stands; `None` when there is none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn longest_import(&self, hashes: &[[u8; 32]], port: u16) -> Result<Option<ImportStanding>, StoreError> {
        let statement =
            format!("{STANDING} WHERE content_hash = ANY($1) AND port IN (0, $2) ORDER BY size DESC LIMIT 1");
        let row: Option<StandingRow> = sqlx::query_as(AssertSqlSafe(statement))
            .bind(hashes.iter().map(<[u8; 32]>::as_slice).collect::<Vec<_>>())
            .bind(i32::from(port))
            .fetch_optional(&self.writers)
            .await?;
        Ok(row.map(ImportStanding::from))
    }

    /// Where a file stands. When it is new it is entered, where the import `shorter` stands if its content begins with all of
    /// that one; which cannot go on by itself then.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn begin_import(
        &self,
        file: &ImportFile<'_>,
        shorter: Option<i64>,
    ) -> Result<ImportStanding, StoreError> {
        let mut transaction = self.writers.begin().await?;
        let new: Option<i64> = sqlx::query_scalar(
            "INSERT INTO imports (content_hash, port, name, size, format) SELECT $1, $2, $3, $4, $5 \
             WHERE NOT EXISTS (SELECT FROM imports WHERE content_hash = $1 AND port = 0) ON CONFLICT DO NOTHING \
             RETURNING import_id",
        )
        .bind(file.hash.as_slice())
        .bind(i32::from(file.port))
        .bind(file.name)
        .bind(bigint(file.size))
        .bind(file.format)
        .fetch_optional(&mut *transaction)
        .await?;
        if let Some((new, shorter)) = new.zip(shorter) {
            go_on(&mut transaction, new, shorter).await?;
        }
        let statement = format!("{STANDING} WHERE content_hash = $1 AND port IN (0, $2) ORDER BY port LIMIT 1");
        let row: StandingRow = sqlx::query_as(AssertSqlSafe(statement))
            .bind(file.hash.as_slice())
            .bind(i32::from(file.port))
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(row.into())
    }

    /// Forgets a file of which nothing is stored, so that it can be brought in another time.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_import(&self, import_id: i64) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM imports WHERE import_id = $1 AND flows = 0")
            .bind(import_id)
            .execute(&self.writers)
            .await?;
        Ok(())
    }

    /// Stores parts of files, once. When an earlier try was committed although its answer was lost, nothing is done.
    ///
    /// # Errors
    /// [`StoreError::ImportMoved`] when a file stands neither at its part's start nor at its end; else why PostgreSQL refused,
    /// in which case the outcome is unknown until the next try.
    pub async fn commit_import(&self, batch: &ImportBatch) -> Result<(), StoreError> {
        // Where flows that the totals hold are gone, what is to be added to them must be told from what they hold.
        let dropped = self.flows_dropped(&batch.segments).await?;
        if !dropped.is_empty() {
            self.ensure_open().await?;
        }
        let mut session = self.begin().await?;
        let done = tokio::time::timeout(PATIENCE, store(session.connection()?, batch, &dropped)).await;
        done.unwrap_or(Err(StoreError::Silent { seconds: PATIENCE.as_secs() }))?;
        session.hand_back();
        Ok(())
    }
}

/// Lets the import `new` begin where `shorter` stands, and ends that one.
async fn go_on(connection: &mut PgConnection, new: i64, shorter: i64) -> Result<(), StoreError> {
    // What is told at the end of a file was told of one that was read to its end, and of no other.
    sqlx::query(
        "WITH earlier AS (SELECT position, begins_at, state = 'running' AS running, received_first, received_last \
         FROM imports WHERE import_id = $2 FOR UPDATE) \
         UPDATE imports SET position = earlier.position, \
         begins_at = CASE WHEN running THEN earlier.begins_at ELSE earlier.position END, \
         received_first = CASE WHEN running THEN earlier.received_first END, \
         received_last = CASE WHEN running THEN earlier.received_last END FROM earlier WHERE import_id = $1",
    )
    .bind(new)
    .bind(shorter)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "UPDATE imports SET state = 'damaged', error = coalesce(error, 'it went on as a longer file'), \
         updated_at = now(), finished_at = now() WHERE import_id = $1 AND state = 'running'",
    )
    .bind(shorter)
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether all parts are stored already; an error when some file stands elsewhere.
async fn is_stored(connection: &mut PgConnection, steps: &[ImportStep]) -> Result<bool, StoreError> {
    let rows: Vec<(i64, i64, String, String)> = sqlx::query_as(
        "SELECT import_id, position, state, name FROM imports WHERE import_id = ANY($1) ORDER BY import_id FOR UPDATE",
    )
    .bind(steps.iter().map(|step| step.import_id).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let standing = |step: &ImportStep| {
        let row = rows.iter().find(|(id, ..)| *id == step.import_id)?;
        Some((count(row.1), ImportState::parse(&row.2)))
    };
    if steps.iter().all(|step| standing(step) == Some((step.end, step.state))) {
        return Ok(true);
    }
    match steps.iter().find(|step| standing(step) != Some((step.start, ImportState::Running))) {
        None => Ok(false),
        Some(step) => {
            let name = rows.iter().find(|(id, ..)| *id == step.import_id).map(|row| row.3.clone());
            let name = name.unwrap_or_else(|| format!("file {} of the table imports", step.import_id));
            Err(StoreError::ImportMoved { name, expected: step.start })
        }
    }
}

/// Segments of hours in `dropped` are stored as open ones.
async fn store(
    connection: &mut PgConnection,
    batch: &ImportBatch,
    dropped: &BTreeSet<Timestamp>,
) -> Result<(), StoreError> {
    if is_stored(&mut *connection, &batch.steps).await? {
        sqlx::query("ROLLBACK").execute(connection).await?;
        return Ok(());
    }
    if !batch.segments.is_empty() {
        let first: i64 = sqlx::query_scalar(
            "UPDATE import_segments SET next_segment = next_segment + $1 RETURNING next_segment - $1",
        )
        .bind(bigint(batch.segments.len() as u64))
        .fetch_one(&mut *connection)
        .await?;
        let (open, large): (Vec<_>, Vec<_>) =
            (first..).zip(&batch.segments).partition(|(_, segment)| dropped.contains(&segment.received_first.hour()));
        segments::write(&mut *connection, Place::Sealed, large.into_iter()).await?;
        segments::write(&mut *connection, Place::Open, open.into_iter()).await?;
    }
    for rows in &batch.rows {
        flows::write(&mut *connection, rows, &batch.without_rows).await?;
    }
    // What was computed from the hours of these flows no longer holds. Those in between that only lack something were on the
    // other collector's record, too.
    let received = batch.segments.iter().map(|segment| segment.received_first);
    hours::enter(&mut *connection, received, batch.loss.iter().map(|loss| loss.hour), true).await?;
    write_loss(&mut *connection, &batch.loss).await?;
    advance(&mut *connection, &batch.steps).await?;
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(())
}

async fn advance(connection: &mut PgConnection, steps: &[ImportStep]) -> Result<(), StoreError> {
    let moments = |side: fn((Timestamp, Timestamp)) -> Timestamp| {
        steps.iter().map(|step| step.received.map(|bounds| side(bounds).to_utc())).collect::<Vec<_>>()
    };
    sqlx::query(
        "UPDATE imports SET position = step.\"end\", flows = imports.flows + step.flows, \
         refused = imports.refused + step.refused, received_first = least(imports.received_first, step.first), \
         received_last = greatest(imports.received_last, step.last), state = step.state, \
         error = coalesce(imports.error, step.error), updated_at = now(), \
         finished_at = CASE WHEN step.state = 'running' THEN NULL ELSE now() END \
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::timestamptz[], \
         $7::text[], $8::text[]) AS step (id, \"end\", flows, refused, first, last, state, error) \
         WHERE import_id = step.id",
    )
    .bind(steps.iter().map(|step| step.import_id).collect::<Vec<_>>())
    .bind(steps.iter().map(|step| bigint(step.end)).collect::<Vec<_>>())
    .bind(steps.iter().map(|step| bigint(step.flows)).collect::<Vec<_>>())
    .bind(steps.iter().map(|step| bigint(step.refused)).collect::<Vec<_>>())
    .bind(moments(|bounds| bounds.0))
    .bind(moments(|bounds| bounds.1))
    .bind(steps.iter().map(|step| step.state.name()).collect::<Vec<_>>())
    .bind(steps.iter().map(|step| step.error.as_deref()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
