//! The one transaction: a batch of the journal becomes flows, decoder state, loss counts and a new position together.
//!
//! It has two halves. [`Database::load`] copies the flows, which is nearly all of the work, and touches nothing that another
//! batch touches, so that a batch can be loaded while the one before it is stored. [`Database::finish`] locks the journal's
//! position row, which must equal the batch's start, writes the rest and commits. So a batch counts once and in its turn,
//! whichever side dies and whenever: a batch whose COMMIT was answered is not sent again, and one whose answer was lost finds
//! its end already stored, by the same process. Where another process has stored up to there, ingest begins anew from what
//! that knew. A session whose transaction did not end well is closed, never handed back to the pool.

use super::facts::{Facts, UnknownElements};
use super::segments::{self, Place};
use super::{Database, StoreError, answer, bigint, facts, flows, hours, parked};
use crate::clock::Timestamp;
use crate::flow::batch::FlowBatch;
use crate::flow::parked::ParkedSet;
use crate::flow::segment::Segment;
use chrono::{DateTime, Utc};
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres};
use std::collections::BTreeSet;

/// How far a journal is stored.
const POSITION: &str =
    "SELECT position, number, next_segment, complete_until, author FROM journal_positions WHERE journal_id = $1::uuid";
/// The same, and nobody changes it until this transaction ends.
const POSITION_LOCKED: &str = "SELECT position, number, next_segment, complete_until, author FROM journal_positions \
                               WHERE journal_id = $1::uuid FOR UPDATE";

/// Where a journal stands in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPosition {
    /// Everything before this position is stored.
    pub position: u64,
    /// Everything received before this moment is stored; `None` for a new journal.
    pub complete_until: Option<Timestamp>,
    /// The id of the segment that is stored next.
    pub next_segment: i64,
    /// The [`Batch::author`] of the batch that was stored last.
    pub author: Option<i64>,
}

/// A batch whose flows lie in a transaction that is still open. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Loaded {
    session: Session,
    /// The id of the first segment; `None` when no flows were copied because the batch was stored before.
    first_segment: Option<i64>,
}

/// A session of the pool. Unless it is handed back its socket is closed: a failed or broken-off COPY can leave both sides
/// out of step, and the server ends the transaction of a session that is gone.
#[derive(Debug)]
pub(super) struct Session(Option<PoolConnection<Postgres>>);

impl Session {
    pub(super) fn connection(&mut self) -> Result<&mut PgConnection, StoreError> {
        self.0.as_deref_mut().ok_or(StoreError::Database(sqlx::Error::PoolClosed))
    }

    pub(super) fn hand_back(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.0.take().map(PoolConnection::detach));
    }
}

/// Flows and datagrams of one exporter in one version of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activity {
    /// The exporter.
    pub exporter_id: u32,
    /// The protocol and version, as `wire` codes them.
    pub version: u16,
    /// The last datagram's receive time.
    pub last_seen: Timestamp,
    /// Datagrams in the batch.
    pub datagrams: u64,
    /// Flows in the batch.
    pub flows: u64,
    /// The most flows that one datagram of the batch held.
    pub most_flows: u64,
    /// How many milliseconds the exporter's clock was ahead in the last datagram that told; `None` when none did.
    pub clock_offset_ms: Option<i64>,
}

/// Loss to be added to an hour of an exporter. A negative count takes back what turned out to be only late.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Loss {
    /// The exporter, 0 for none known.
    pub exporter_id: u32,
    /// The start of the UTC hour.
    pub hour: Timestamp,
    /// Why it is missing.
    pub cause: &'static str,
    /// What is counted.
    pub unit: &'static str,
    /// How many.
    pub count: i64,
}

/// What a decoder must remember of one transport session and domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecoderState {
    /// The exporter.
    pub exporter_id: u32,
    /// How its messages come, as `wire` codes it.
    pub transport: u16,
    /// The port it sends from.
    pub source_port: u16,
    /// The protocol and version, as `wire` codes them.
    pub version: u16,
    /// The observation domain.
    pub observation_domain: u32,
    /// How many templates the state holds.
    pub templates: u32,
    /// The state, in the decoder's own format. Empty: the session was forgotten.
    pub state: Vec<u8>,
}

/// Everything that a stretch of the journal became.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Where the stretch begins; must be what the database holds.
    pub start: u64,
    /// Where it ends: beyond the start, so that the position tells whether it is stored.
    pub end: u64,
    /// The process that made it, by a number drawn by chance.
    pub author: i64,
    /// Everything received before this moment is stored with this batch.
    pub complete_until: Timestamp,
    /// The flows as compressed columns.
    pub segments: Vec<Segment>,
    /// The same flows for the table `flows`; empty when rows are not kept.
    pub rows: Vec<FlowBatch>,
    /// UTC days of which [`Database::ensure_rows`] has said that no rows are to be written.
    pub without_rows: BTreeSet<Timestamp>,
    /// What the decoder learned.
    pub decoder_state: Vec<DecoderState>,
    /// Data sets that began to wait for their template.
    pub parked: Vec<ParkedSet>,
    /// Numbers of data sets that wait no longer.
    pub unparked: Vec<u64>,
    /// Who sent how much.
    pub activity: Vec<Activity>,
    /// What is missing.
    pub loss: Vec<Loss>,
    /// What exporters told about themselves.
    pub facts: Facts,
    /// Elements that the field catalogue has no field for.
    pub unknown_elements: UnknownElements,
}

impl Database {
    /// Where the journal stands; it is entered at position 0 when it is new, as one that began now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn journal_position(&self, journal: &str) -> Result<StoredPosition, StoreError> {
        self.journal_position_since(journal, None).await
    }

    /// The same; a new one began at `since`, by the collector's clock.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn journal_position_since(
        &self,
        journal: &str,
        since: Option<Timestamp>,
    ) -> Result<StoredPosition, StoreError> {
        sqlx::query(
            "INSERT INTO journal_positions (journal_id, position, created_at) VALUES ($1::uuid, 0, coalesce($2, now())) \
             ON CONFLICT DO NOTHING",
        )
        .bind(journal)
        .bind(since.map(Timestamp::to_utc))
        .execute(&self.writers)
        .await?;
        Ok(standing(sqlx::query_as(POSITION).bind(journal).fetch_one(&self.writers).await?))
    }

    /// Copies the flows of a batch, as segments with ids from `first_segment` on and as rows, into a transaction that stays
    /// open. Nobody sees them, and nobody waits for them.
    ///
    /// # Errors
    /// Why PostgreSQL refused; nothing is stored.
    pub async fn load(&self, first_segment: i64, batch: &Batch) -> Result<Loaded, StoreError> {
        let mut session = self.begin().await?;
        let connection = session.connection()?;
        if !batch.segments.is_empty() {
            segments::write(connection, Place::Open, (first_segment..).zip(&batch.segments)).await?;
        }
        for rows in &batch.rows {
            flows::write(connection, rows, &batch.without_rows).await?;
        }
        Ok(Loaded { session, first_segment: Some(first_segment) })
    }

    /// Stores a loaded batch, once, and says how many facts were refused because their exporter has too many (the loss counts
    /// them). When an earlier try was committed although its answer was lost, nothing is done.
    ///
    /// # Errors
    /// [`StoreError::PositionMoved`] when the journal stands neither at the batch's start nor at its end; else why
    /// PostgreSQL refused, in which case the outcome is unknown until the next try.
    pub async fn finish(&self, journal: &str, batch: &Batch, mut loaded: Loaded) -> Result<u64, StoreError> {
        let connection = loaded.session.connection()?;
        let (end, refused) = answer(finish(connection, journal, batch, loaded.first_segment)).await?;
        answer(sqlx::query(end).execute(connection)).await?;
        loaded.session.hand_back();
        Ok(refused)
    }

    /// Loads and finishes a batch that may have been stored before: flows that are stored are not copied again.
    ///
    /// # Errors
    /// As [`Database::finish`].
    pub async fn commit(&self, journal: &str, batch: &Batch) -> Result<u64, StoreError> {
        let stored = self.journal_position(journal).await?;
        let loaded = if stored.position == batch.start {
            self.load(stored.next_segment, batch).await?
        } else {
            Loaded { session: self.begin().await?, first_segment: None }
        };
        self.finish(journal, batch, loaded).await
    }

    pub(super) async fn session(&self) -> Result<Session, StoreError> {
        Ok(Session(Some(self.writers.acquire().await?)))
    }

    pub(super) async fn begin(&self) -> Result<Session, StoreError> {
        let mut session = self.session().await?;
        answer(sqlx::query("BEGIN").execute(session.connection()?)).await?;
        Ok(session)
    }

    /// The latest moment up to which any collector has stored what it received; `None` when nothing is known.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn newest_received(&self) -> Result<Option<Timestamp>, StoreError> {
        let moment: Option<DateTime<Utc>> =
            sqlx::query_scalar("SELECT max(complete_until) FROM journal_positions").fetch_one(&self.writers).await?;
        Ok(moment.map(Timestamp::from))
    }

    /// Tells that the collector has stored everything it received before `complete_until`, when there was nothing to store.
    /// Returns whether that holds: the database may have been set back, and then stands elsewhere than at `position`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn still_complete(
        &self,
        journal: &str,
        position: u64,
        complete_until: Timestamp,
    ) -> Result<bool, StoreError> {
        let told = sqlx::query(
            "UPDATE journal_positions SET complete_until = $2, updated_at = now() \
             WHERE journal_id = $1::uuid AND position = $3",
        )
        .bind(journal)
        .bind(complete_until.to_utc())
        .bind(bigint(position))
        .execute(&self.writers)
        .await?;
        Ok(told.rows_affected() == 1)
    }
}

/// How many low bits of a segment id count the journal's segments; the journal's number stands above them.
pub(super) const SEGMENT_BITS: u32 = 40;

/// Ids of segments that collectors stored begin here; those of imports lie below.
pub const FIRST_OF_COLLECTORS: i64 = 1 << SEGMENT_BITS;

const fn segment_id(number: i64, segment: i64) -> i64 {
    (number << SEGMENT_BITS) | segment
}

/// Position, number, next segment, complete until, author.
type PositionRow = (i64, i64, i64, Option<DateTime<Utc>>, Option<i64>);

fn standing((position, number, next_segment, complete_until, author): PositionRow) -> StoredPosition {
    StoredPosition {
        position: super::count(position),
        complete_until: complete_until.map(Timestamp::from),
        next_segment: segment_id(number, next_segment),
        author,
    }
}

/// What a batch finds when it has the position to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It goes on from what is stored.
    Now,
    /// An earlier try of it was stored.
    Past,
    /// Another process moved the position.
    Moved,
}

/// Whose turn it is where the journal stands at `stored` and the batch's flows were copied from `first_segment` on.
pub(crate) fn turn(stored: &StoredPosition, batch: &Batch, first_segment: Option<i64>) -> Turn {
    if stored.position == batch.end && stored.author == Some(batch.author) {
        Turn::Past
    } else if stored.position != batch.start || first_segment != Some(stored.next_segment) {
        Turn::Moved
    } else {
        Turn::Now
    }
}

/// Why a batch whose turn has not come cannot be stored.
pub(crate) fn position_moved(journal: &str, batch: &Batch, stored: &StoredPosition) -> StoreError {
    let (expected, found) = (bigint(batch.start), bigint(stored.position));
    StoreError::PositionMoved { journal: journal.to_owned(), expected, found }
}

/// Writes what stands beside the flows. Returns how the transaction is to be ended, and how many facts were refused.
async fn finish(
    connection: &mut PgConnection,
    journal: &str,
    batch: &Batch,
    first_segment: Option<i64>,
) -> Result<(&'static str, u64), StoreError> {
    let row: PositionRow = sqlx::query_as(POSITION_LOCKED).bind(journal).fetch_one(&mut *connection).await?;
    let stored = standing(row);
    match turn(&stored, batch, first_segment) {
        Turn::Now => {}
        Turn::Past => return Ok(("ROLLBACK", 0)),
        Turn::Moved => return Err(position_moved(journal, batch, &stored)),
    }
    let received = batch.segments.iter().map(|segment| segment.received_first);
    hours::enter(connection, received, std::iter::empty(), false).await?;
    write_decoder_state(connection, journal, &batch.decoder_state).await?;
    parked::write(connection, journal, &batch.parked, &batch.unparked).await?;
    write_activity(connection, &batch.activity).await?;
    write_loss(connection, &batch.loss).await?;
    let mut refused = 0u64;
    for lost in [
        facts::write(connection, &batch.facts).await?,
        facts::write_unknown(connection, &batch.unknown_elements).await?,
    ] {
        write_loss(connection, &lost).await?;
        refused = lost.iter().fold(refused, |sum, row| sum.saturating_add(super::count(row.count)));
    }
    sqlx::query(
        "UPDATE journal_positions SET position = $2, next_segment = next_segment + $3, complete_until = $4, \
         author = $5, updated_at = now() WHERE journal_id = $1::uuid",
    )
    .bind(journal)
    .bind(bigint(batch.end))
    .bind(bigint(batch.segments.len() as u64))
    .bind(batch.complete_until.to_utc())
    .bind(batch.author)
    .execute(&mut *connection)
    .await?;
    Ok(("COMMIT", refused))
}

async fn write_decoder_state(
    connection: &mut PgConnection,
    journal: &str,
    sessions: &[DecoderState],
) -> Result<(), StoreError> {
    let (gone, sessions): (Vec<_>, Vec<_>) = sessions.iter().partition(|session| session.state.is_empty());
    if !gone.is_empty() {
        sqlx::query(
            "DELETE FROM decoder_state AS saved USING \
             unnest($2::bigint[], $3::smallint[], $4::int[], $5::smallint[], $6::bigint[]) \
             AS gone (exporter_id, transport, source_port, version, observation_domain) \
             WHERE saved.journal_id = $1::uuid AND saved.exporter_id = gone.exporter_id \
             AND saved.transport = gone.transport AND saved.source_port = gone.source_port \
             AND saved.version = gone.version AND saved.observation_domain = gone.observation_domain",
        )
        .bind(journal)
        .bind(gone.iter().map(|session| i64::from(session.exporter_id)).collect::<Vec<_>>())
        .bind(gone.iter().map(|session| i16::try_from(session.transport).unwrap_or(0)).collect::<Vec<_>>())
        .bind(gone.iter().map(|session| i32::from(session.source_port)).collect::<Vec<_>>())
        .bind(gone.iter().map(|session| i16::try_from(session.version).unwrap_or(0)).collect::<Vec<_>>())
        .bind(gone.iter().map(|session| i64::from(session.observation_domain)).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
    }
    if sessions.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO decoder_state \
         (journal_id, exporter_id, transport, source_port, version, observation_domain, templates, state) \
         SELECT $1::uuid, * FROM \
         unnest($2::bigint[], $3::smallint[], $4::int[], $5::smallint[], $6::bigint[], $7::int[], $8::bytea[]) \
         ON CONFLICT (journal_id, exporter_id, transport, source_port, version, observation_domain) \
         DO UPDATE SET templates = EXCLUDED.templates, state = EXCLUDED.state, updated_at = now()",
    )
    .bind(journal)
    .bind(sessions.iter().map(|session| i64::from(session.exporter_id)).collect::<Vec<_>>())
    .bind(sessions.iter().map(|session| i16::try_from(session.transport).unwrap_or(0)).collect::<Vec<_>>())
    .bind(sessions.iter().map(|session| i32::from(session.source_port)).collect::<Vec<_>>())
    .bind(sessions.iter().map(|session| i16::try_from(session.version).unwrap_or(0)).collect::<Vec<_>>())
    .bind(sessions.iter().map(|session| i64::from(session.observation_domain)).collect::<Vec<_>>())
    .bind(sessions.iter().map(|session| i32::try_from(session.templates).unwrap_or(i32::MAX)).collect::<Vec<_>>())
    .bind(sessions.iter().map(|session| session.state.as_slice()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

async fn write_activity(connection: &mut PgConnection, activity: &[Activity]) -> Result<(), StoreError> {
    if activity.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO exporter_activity AS known \
         (exporter_id, version, last_seen, datagrams, flows, clock_offset_ms, most_flows) SELECT * FROM \
         unnest($1::bigint[], $2::smallint[], $3::timestamptz[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[]) \
         ON CONFLICT (exporter_id, version) DO UPDATE SET last_seen = greatest(known.last_seen, EXCLUDED.last_seen), \
         datagrams = known.datagrams + EXCLUDED.datagrams, flows = known.flows + EXCLUDED.flows, \
         clock_offset_ms = coalesce(EXCLUDED.clock_offset_ms, known.clock_offset_ms), \
         most_flows = greatest(known.most_flows, EXCLUDED.most_flows)",
    )
    .bind(activity.iter().map(|row| i64::from(row.exporter_id)).collect::<Vec<_>>())
    .bind(activity.iter().map(|row| i16::try_from(row.version).unwrap_or(0)).collect::<Vec<_>>())
    .bind(activity.iter().map(|row| row.last_seen.to_utc()).collect::<Vec<_>>())
    .bind(activity.iter().map(|row| bigint(row.datagrams)).collect::<Vec<_>>())
    .bind(activity.iter().map(|row| bigint(row.flows)).collect::<Vec<_>>())
    .bind(activity.iter().map(|row| row.clock_offset_ms).collect::<Vec<_>>())
    .bind(activity.iter().map(|row| bigint(row.most_flows)).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

pub(super) async fn write_loss(connection: &mut PgConnection, loss: &[Loss]) -> Result<(), StoreError> {
    if loss.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO loss AS known (exporter_id, hour, cause, unit, count) \
         SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::text[], $4::text[], $5::bigint[]) \
         ON CONFLICT (exporter_id, hour, cause, unit) DO UPDATE \
         SET count = least(known.count::numeric + EXCLUDED.count, 9223372036854775807)::bigint",
    )
    .bind(loss.iter().map(|row| i64::from(row.exporter_id)).collect::<Vec<_>>())
    .bind(loss.iter().map(|row| row.hour.to_utc()).collect::<Vec<_>>())
    .bind(loss.iter().map(|row| row.cause).collect::<Vec<_>>())
    .bind(loss.iter().map(|row| row.unit).collect::<Vec<_>>())
    .bind(loss.iter().map(|row| row.count).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
