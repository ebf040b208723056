//! Dropping what has had its time: days, months of totals, and hours of open segments.
//!
//! Nobody is held up by it for longer than a moment. Who drops a day asks for the table with a wait of [`WAIT`], so that those
//! who come later wait no longer than that, and leaves it for another time when somebody reads or writes without a pause. All
//! that a day's end means is in the transaction that drops it: nothing is left behind half done by a `kill -9`.
//!
//! Under load ingest always has a transaction on the table `flows`, and that moment may never come. Then, and always for
//! partitions of open segments, which hold nothing any more, the partition is detached first. This waits for those who use the
//! table without holding up anybody, but while it waits no rows of that time can be stored: it is not begun when somebody rests
//! in a transaction. What was left in the middle of it is found later, by its name or its comment.

use super::partitions::{DailyTable, MonthlyTable, OPEN, month_of, open_hour};
use super::{Database, StoreError, count};
use crate::clock::{DAY, HOUR, Timestamp};
use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection};
use std::time::Duration;

/// How long is waited for a lock that everybody else then has to wait for.
const WAIT: &str = "SET LOCAL lock_timeout = '100ms'";
/// How often a lock is asked for before it is left for another time, and the pause in between, in which the others go on.
const TRIES: (u32, Duration) = (10, Duration::from_millis(300));
/// How often a lock is asked for before it is tried another way, where there is one.
const TRIES_BEFORE_DETACHING: u32 = 3;
/// How long detaching may wait for those who use the table. It holds up nobody but those who make partitions of the table,
/// who wait longer than this.
const DETACHING: &str = "SET statement_timeout = '2s'";
/// The same for a day of `flows`.
const DETACHING_DAY: &str = "SET statement_timeout = '4s'";
/// The comment of a partition that is detached to be dropped. One that somebody else detached is his.
const TO_BE_DROPPED: &str = "Flowledger drops this table";
/// How long after its hour a partition of open segments stays: a query that began before its last segment was sealed may
/// still read it.
const OPEN_KEPT: i64 = HOUR / 6;

/// What is dropped as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    /// The flows of the UTC day that begins then, of one table.
    Day(DailyTable, Timestamp),
    /// The totals of the UTC month that begins then, by hour and by day.
    Month(Timestamp),
}

/// What became of a part that was to be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// It is gone.
    Gone,
    /// It stays: a month of totals of which segments are there.
    HasSegments,
    /// It stays: an hour of it is open.
    Open(Timestamp),
}

/// An hour that is not sealed although it has segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
struct OpenHourRow {
    hour: DateTime<Utc>,
    waits: bool,
}

/// An hour that is not sealed although it has segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenHour {
    /// Its start.
    pub hour: Timestamp,
    /// Whether it cannot be sealed before what its totals were counted by is back.
    pub waits: bool,
}

/// Segments that were deleted, and the flows in them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Segments.
    pub segments: u64,
    /// Flow records in them.
    pub flows: u64,
}

impl Database {
    /// Drops a part. Tries for some seconds when somebody uses its table; nobody else waits longer than a tenth of a second at
    /// a time. With `stuck`, a day of segments stays while an hour of it is open that is not among these.
    ///
    /// Hours whose flows go are marked: what comes for them later is added to their totals. Where flows go uncounted, the
    /// totals are never believed again. With a month of totals go its rows of `hours` and `days`.
    ///
    /// # Errors
    /// When the database does not answer or the table is in use all the time ([`StoreError::is_in_use`]). All is as it was.
    pub async fn drop_part(&self, part: Part, stuck: Option<&[Timestamp]>) -> Result<Dropped, StoreError> {
        for tries in 1..TRIES.0 {
            match self.try_to_drop(part, stuck).await {
                Err(error) if error.is_in_use() => {}
                done => return done,
            }
            if let Part::Day(table @ DailyTable::Flows, day) = part
                && tries >= TRIES_BEFORE_DETACHING
                && self.is_used_in_passing(table).await?
            {
                return self.detach_and_drop(table, day).await.map(|()| Dropped::Gone);
            }
            tokio::time::sleep(TRIES.1).await;
        }
        self.try_to_drop(part, stuck).await
    }

    /// Whether all who use the table now have begun a moment ago and are at work. Where that is not to be seen, they are not.
    async fn is_used_in_passing(&self, table: DailyTable) -> Result<bool, StoreError> {
        let passing = sqlx::query_scalar(
            "SELECT NOT EXISTS (SELECT FROM pg_locks LEFT JOIN pg_stat_activity USING (pid) \
             WHERE relation = $1::regclass AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             AND granted AND pid IS DISTINCT FROM pg_backend_pid() \
             AND (xact_start IS NULL OR xact_start < clock_timestamp() - interval '10 s' \
             OR state = 'idle in transaction' AND state_change < clock_timestamp() - interval '1 s'))",
        );
        Ok(passing.bind(table.name()).fetch_one(&self.writers).await?)
    }

    /// Drops a day after it was detached, which waits for all who use the table now and for nobody who comes later.
    async fn detach_and_drop(&self, table: DailyTable, day: Timestamp) -> Result<(), StoreError> {
        let name = table.partition(day);
        let Some(pending) = self.is_leaving(table.name(), &name).await? else { return Ok(()) };
        self.comment(&name, &format!("'{TO_BE_DROPPED}'")).await?;
        let detached = self.detach(table.name(), &name, pending, DETACHING_DAY).await;
        if detached.is_err() && self.is_leaving(table.name(), &name).await? == Some(false) {
            self.comment(&name, "NULL").await?;
        }
        detached?;
        self.drop_detached(&name).await
    }

    /// Whether a partition's detaching has begun; `None` when it is not a partition of the table.
    pub(super) async fn is_leaving(&self, parent: &str, name: &str) -> Result<Option<bool>, StoreError> {
        let pending = sqlx::query_scalar(
            "SELECT inhdetachpending FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid \
             WHERE inhparent = $1::regclass AND child.relname = $2",
        );
        Ok(pending.bind(parent).bind(name).fetch_optional(&self.writers).await?)
    }

    /// Detaches a partition, or goes on with that where it was begun before.
    async fn detach(&self, parent: &str, name: &str, pending: bool, limit: &'static str) -> Result<(), StoreError> {
        let how = if pending { "FINALIZE" } else { "CONCURRENTLY" };
        self.briefly(limit, &format!("ALTER TABLE {parent} DETACH PARTITION {name} {how}")).await
    }

    /// Ends what was begun of detaching a day, so that it can be attached again.
    pub(super) async fn finish_leaving(&self, parent: &str, name: &str) -> Result<(), StoreError> {
        self.detach(parent, name, true, DETACHING_DAY).await
    }

    async fn comment(&self, name: &str, comment: &str) -> Result<(), StoreError> {
        self.briefly(DETACHING_DAY, &format!("COMMENT ON TABLE {name} IS {comment}")).await
    }

    /// Drops a table that was a partition, unless it has become one again.
    async fn drop_detached(&self, name: &str) -> Result<(), StoreError> {
        let mut transaction = self.writers.begin().await?;
        sqlx::query(WAIT).execute(&mut *transaction).await?;
        let there = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL");
        if !there.bind(name).fetch_one(&mut *transaction).await? {
            transaction.rollback().await?;
            return Ok(());
        }
        lock(&mut transaction, name).await?;
        let attached = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = $1::regclass)");
        if attached.bind(name).fetch_one(&mut *transaction).await? {
            transaction.rollback().await?;
            return Ok(());
        }
        drop_table(&mut transaction, name).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Drops the partition of the UTC day that begins at `day`, as [`Database::drop_part`] does.
    ///
    /// # Errors
    /// As there.
    pub async fn drop_day(&self, table: DailyTable, day: Timestamp) -> Result<(), StoreError> {
        self.drop_part(Part::Day(table, day), None).await.map(|_| ())
    }

    async fn try_to_drop(&self, part: Part, stuck: Option<&[Timestamp]>) -> Result<Dropped, StoreError> {
        let mut transaction = self.writers.begin().await?;
        sqlx::query(WAIT).execute(&mut *transaction).await?;
        let dropped = match part {
            Part::Day(table, day) => drop_day(&mut transaction, table, day, stuck).await,
            Part::Month(month) => drop_month(&mut transaction, month).await,
        };
        match dropped {
            Ok(Dropped::Gone) => transaction.commit().await?,
            // At once, because everybody waits for the locks.
            _ => transaction.rollback().await?,
        }
        dropped
    }

    /// The hours from `from` up to `to` that are not sealed although they have segments, the oldest first. `local` is the
    /// fingerprint of what totals are counted by now.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open_hours(&self, from: Timestamp, to: Timestamp, local: &str) -> Result<Vec<OpenHour>, StoreError> {
        let hours: Vec<OpenHourRow> = sqlx::query_as(
            "SELECT hour, (flows_dropped AND local <> $3) IS TRUE AS waits FROM hours \
             WHERE sealed_at IS NULL AND hour >= $1 AND hour < $2 AND EXISTS (SELECT FROM segment_headers \
             WHERE received_first >= hour AND received_first < hour + interval '1 hour') ORDER BY hour",
        )
        .bind(from.to_utc())
        .bind(to.to_utc())
        .bind(local)
        .fetch_all(&self.writers)
        .await?;
        Ok(hours.into_iter().map(|row| OpenHour { hour: row.hour.into(), waits: row.waits }).collect())
    }

    /// Deletes the open segments of these hours, which are open and cannot be sealed. Their totals are never believed again.
    ///
    /// # Errors
    /// When the database does not answer, or somebody seals one of the hours or stores flows of it.
    pub async fn drop_open(&self, hours: &[Timestamp]) -> Result<Deleted, StoreError> {
        let hours: Vec<_> = hours.iter().map(|hour| hour.to_utc()).collect();
        let mut transaction = self.writers.begin().await?;
        sqlx::query(WAIT).execute(&mut *transaction).await?;
        let open: Vec<DateTime<Utc>> = sqlx::query_scalar(
            "SELECT hour FROM hours WHERE hour = ANY($1) AND sealed_at IS NULL ORDER BY hour FOR UPDATE",
        )
        .bind(hours)
        .fetch_all(&mut *transaction)
        .await?;
        let (segments, flows): (i64, i64) = sqlx::query_as(
            "WITH gone AS (DELETE FROM flow_segments_open USING unnest($1::timestamptz[]) AS open (hour) \
             WHERE received_first >= hour AND received_first < hour + interval '1 hour' RETURNING flow_rows) \
             SELECT count(*), coalesce(sum(flow_rows), 0)::bigint FROM gone",
        )
        .bind(&open)
        .fetch_one(&mut *transaction)
        .await?;
        sqlx::query("UPDATE hours SET flows_dropped = true, local = NULL WHERE hour = ANY($1)")
            .bind(&open)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Deleted { segments: count(segments), flows: count(flows) })
    }

    /// Drops the partitions of open segments whose hour is over and whose segments are all sealed, and says how many. They
    /// are detached first, which waits for those who use the table but holds up nobody.
    ///
    /// # Errors
    /// When the database does not answer, or somebody uses the table since before. The next call goes on where this one ended.
    pub async fn drop_sealed(&self) -> Result<u64, StoreError> {
        let over = self.now().await?.plus(-OPEN_KEPT);
        // Those that were detached and not dropped belong to no table any more.
        let tables: Vec<(String, bool, bool)> = sqlx::query_as(
            "SELECT relname::text, inhparent IS NOT NULL, coalesce(inhdetachpending, false) FROM pg_class \
             LEFT JOIN pg_inherits ON inhrelid = pg_class.oid \
             WHERE relkind = 'r' AND starts_with(relname, $1 || '_p') AND (inhparent = $1::regclass OR inhparent IS NULL) \
             AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = $1::regclass) \
             ORDER BY 2, 3 DESC, 1",
        )
        .bind(OPEN)
        .fetch_all(&self.writers)
        .await?;
        let mut dropped = 0u64;
        for (name, attached, pending) in tables {
            if open_hour(&name).is_none_or(|hour| hour.plus(HOUR) > over) {
                continue;
            }
            let used = AssertSqlSafe(format!("SELECT EXISTS (SELECT FROM {name})"));
            if sqlx::query_scalar::<_, bool>(used).persistent(false).fetch_one(&self.writers).await? {
                continue;
            }
            // Nothing is added to an hour that is over, so it stays empty.
            if attached {
                self.detach(OPEN, &name, pending, DETACHING).await?;
            }
            self.drop_detached(&name).await?;
            dropped = dropped.saturating_add(1);
        }
        Ok(dropped)
    }

    /// Goes on with the days that were to be detached and dropped, where a process ended before it did or somebody read them.
    ///
    /// # Errors
    /// When the database does not answer, or somebody uses one of them since before.
    pub async fn drop_left_behind(&self) -> Result<(), StoreError> {
        let table = DailyTable::Flows;
        let left: Vec<(String, Option<bool>)> = sqlx::query_as(
            "SELECT relname::text, inhdetachpending FROM pg_class LEFT JOIN pg_inherits ON inhrelid = pg_class.oid \
             WHERE relkind = 'r' AND obj_description(pg_class.oid, 'pg_class') = $2 \
             AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = $1::regclass) ORDER BY 1",
        )
        .bind(table.name())
        .bind(TO_BE_DROPPED)
        .fetch_all(&self.writers)
        .await?;
        for (name, pending) in left.iter().filter(|(name, _)| table.day(name).is_some()) {
            match pending {
                // It was taken back. Whoever detaches it from now on does it to keep it.
                Some(false) => self.comment(name, "NULL").await?,
                Some(true) => {
                    self.detach(table.name(), name, true, DETACHING_DAY).await?;
                    self.drop_detached(name).await?;
                }
                None => self.drop_detached(name).await?,
            }
        }
        Ok(())
    }

    /// Runs a statement that cannot be part of a transaction, for not longer than `limit` says.
    async fn briefly(&self, limit: &'static str, statement: &str) -> Result<(), StoreError> {
        // Given up in the middle it does not go back: its other statements would end after so short a time, too.
        let mut session = self.session().await?;
        sqlx::query(limit).execute(session.connection()?).await?;
        // The statement holds only names of this module.
        let statement = AssertSqlSafe(statement.to_owned());
        let done = sqlx::query(statement).persistent(false).execute(session.connection()?).await;
        sqlx::query("RESET statement_timeout").execute(session.connection()?).await?;
        session.hand_back();
        done?;
        Ok(())
    }
}

/// Drops a day. The table is locked before it is looked at what the day holds, as whoever seals an hour or brings in an archive
/// locks the table first and the hour last: nobody can store flows of the day in between.
async fn drop_day(
    connection: &mut PgConnection,
    table: DailyTable,
    day: Timestamp,
    stuck: Option<&[Timestamp]>,
) -> Result<Dropped, StoreError> {
    let name = table.partition(day);
    lock(connection, table.name()).await?;
    if !is_part(connection, table.name(), &name).await? {
        return Ok(Dropped::Gone);
    }
    if table == DailyTable::FlowSegments
        && let Some(open) = mark_hours(connection, &name, day, stuck).await?
    {
        return Ok(Dropped::Open(open));
    }
    drop_table(connection, &name).await?;
    Ok(Dropped::Gone)
}

/// Marks the hours of a day of which segments are about to go. Returns an open one that is not among those that are `stuck`.
async fn mark_hours(
    connection: &mut PgConnection,
    partition: &str,
    day: Timestamp,
    stuck: Option<&[Timestamp]>,
) -> Result<Option<Timestamp>, StoreError> {
    let (from, to) = (day.to_utc(), day.plus(DAY).to_utc());
    take_hours(connection, from, to).await?;
    // Totals of an open hour may lack what goes.
    let uncounted = AssertSqlSafe(format!(
        "SELECT hour FROM hours WHERE sealed_at IS NULL AND hour >= $1 AND hour < $2 AND EXISTS (SELECT FROM {partition} \
         WHERE received_first >= hour AND received_first < hour + interval '1 hour')"
    ));
    let uncounted: Vec<DateTime<Utc>> =
        sqlx::query_scalar(uncounted).persistent(false).bind(from).bind(to).fetch_all(&mut *connection).await?;
    // One that was opened after the others were sealed has another try coming.
    let is_new = |hour: &Timestamp| stuck.is_some_and(|stuck| !stuck.contains(hour));
    if let Some(open) = uncounted.iter().map(|hour| Timestamp::from(*hour)).find(is_new) {
        return Ok(Some(open));
    }
    sqlx::query(
        "UPDATE hours SET flows_dropped = true, local = CASE WHEN hour = ANY($3) THEN NULL ELSE local END \
         WHERE hour >= $1 AND hour < $2 AND (version > 0 OR hour = ANY($3))",
    )
    .bind(from)
    .bind(to)
    .bind(uncounted)
    .execute(connection)
    .await?;
    Ok(None)
}

/// Drops a month of totals, unless segments of it are there. `days` come before hours here as where a day is added up.
async fn drop_month(connection: &mut PgConnection, month: Timestamp) -> Result<Dropped, StoreError> {
    let Some((from, to)) = month_of(month) else { return Ok(Dropped::HasSegments) };
    let (from, to) = (from.to_utc(), to.to_utc());
    let tables = [MonthlyTable::HostTrafficDaily, MonthlyTable::HostTrafficHourly];
    for table in tables {
        lock(connection, table.name()).await?;
    }
    let has_flows = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM segment_headers WHERE received_first >= $1 AND received_first < $2)",
    );
    if has_flows.bind(from).bind(to).fetch_one(&mut *connection).await? {
        return Ok(Dropped::HasSegments);
    }
    take_hours(connection, from, to).await?;
    // The hours stay on record as ones of which nothing is left.
    for statement in [
        "DELETE FROM days WHERE day >= $1 AND day < $2",
        "UPDATE hours SET local = NULL, totals = NULL, flows_dropped = true, version = version + 1 WHERE hour >= $1 AND hour < $2",
    ] {
        sqlx::query(statement).bind(from).bind(to).execute(&mut *connection).await?;
    }
    for table in tables {
        let name = table.partition(month);
        if is_part(connection, table.name(), &name).await? {
            drop_table(connection, &name).await?;
        }
    }
    Ok(Dropped::Gone)
}

/// Locks a table against everybody, without its partitions.
async fn lock(connection: &mut PgConnection, table: &str) -> Result<(), StoreError> {
    let statement = AssertSqlSafe(format!("LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE"));
    sqlx::query(statement).persistent(false).execute(connection).await?;
    Ok(())
}

/// Takes hours to change or delete them, in order, so that two who take several never wait for each other. Nobody is waited
/// for, because others wait already.
async fn take_hours(connection: &mut PgConnection, from: DateTime<Utc>, to: DateTime<Utc>) -> Result<(), StoreError> {
    sqlx::query("SELECT FROM hours WHERE hour >= $1 AND hour < $2 ORDER BY hour FOR UPDATE NOWAIT")
        .bind(from)
        .bind(to)
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether the partition belongs to the table. What somebody detached to keep it is not ours any more.
async fn is_part(connection: &mut PgConnection, parent: &str, name: &str) -> Result<bool, StoreError> {
    let found = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid \
         WHERE inhparent = $1::regclass AND child.relname = $2)",
    );
    Ok(found.bind(parent).bind(name).fetch_one(connection).await?)
}

/// Drops a partition that nobody uses.
async fn drop_table(connection: &mut PgConnection, name: &str) -> Result<(), StoreError> {
    // Somebody may read the partition by its own name.
    for statement in [format!("LOCK TABLE ONLY {name} IN ACCESS EXCLUSIVE MODE NOWAIT"), format!("DROP TABLE {name}")] {
        sqlx::query(AssertSqlSafe(statement)).persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}
