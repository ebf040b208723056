//! PostgreSQL: everything that is kept, and the only place where SQL is written.
//!
//! A file a table family: [`commit`] stores a batch of the journal in one transaction, [`segments`] and [`flows`] write
//! flows in both shapes, [`snapshot`] reads them back (`extent`: of what time they are and with which fields), [`imports`]
//! stores files of other collectors, [`catalogue`] knows exporters and their decoders, [`facts`] writes what they tell about
//! themselves, [`exporter`] reads all that is known of one, [`partitions`] makes days and [`drops`] drops them, [`hours`] and [`seal`] close
//! hours, [`packed`] keeps their totals as blocks (`moment`: whatever moments exporters told), [`double_counting`] keeps what was told twice in them, [`usage`] tells what all of
//! it takes, [`reports`] keeps what was reported, [`audit`] reads what can be compared,
//! [`durability`] tells what a crash could take. The store knows no wire format, no filter and no HTTP; it keeps blocks of
//! compressed values without looking into them.
//!
//! Two pools: writers (ingest, reports, upkeep) and readers (queries), whose sessions are read-only and plan every statement
//! with its values, so that partitions are left out by time.
//!
//! A session that has died without a word, on either side, is found. What waits for an answer gives up after [`PATIENCE`];
//! PostgreSQL asks the network for a silent client after 5 s and ends its session, with all locks, after 10 s; and a
//! transaction that a client leaves open ends after a minute. Nobody waits longer than 10 s for a lock.

pub mod audit;
pub mod catalogue;
pub mod commit;
mod copy;
pub mod double_counting;
pub mod drops;
mod durability;
mod error;
pub mod exporter;
mod extent;
pub mod facts;
pub mod flows;
pub mod host_traffic;
pub mod hours;
pub mod imports;
mod migrate;
mod moment;
pub mod packed;
pub mod parked;
pub mod partitions;
pub mod reports;
pub mod seal;
pub mod segments;
pub mod snapshot;
mod totals;
pub mod usage;

pub use error::StoreError;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Sessions for reading. A query takes one for each of its workers; lists and checks of health take one for a moment.
pub const READERS: u32 = 16;
/// Sessions for writing: ingest takes one, reports and upkeep the others.
const WRITERS: u32 = 6;
/// How long PostgreSQL may be silent when it is asked something. Then the session is given up and another is begun. A
/// connection whose other end is gone looks like that: the system tells of it after a quarter of an hour, or never.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long a session may take to prove that it is in order, after its use.
const PROOF: Duration = Duration::from_secs(5);
/// A session that has not been used for so long has to prove it before its use, within as long.
const RESTED: Duration = Duration::from_secs(1);
/// With these PostgreSQL finds out that a client is gone. They mean nothing to a unix socket.
const SIGN_OF_LIFE: [(&str, &str); 4] = [
    ("tcp_keepalives_idle", "5s"),
    ("tcp_keepalives_interval", "2s"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "10s"),
];
/// The oldest PostgreSQL that is served.
const OLDEST_SERVER: i64 = 150_000;

/// Where PostgreSQL is.
#[derive(Clone, Debug)]
pub enum Address {
    /// A URL, `postgres://user:password@host:port/database`.
    Url(String),
    /// A unix socket.
    Socket {
        /// The socket's directory.
        directory: PathBuf,
        /// The number in the socket's name.
        port: u16,
        /// The role.
        user: String,
        /// The database.
        database: String,
    },
}

impl Address {
    fn options(&self) -> Result<PgConnectOptions, StoreError> {
        let options = match self {
            Self::Url(url) => PgConnectOptions::from_str(url).map_err(StoreError::Url)?,
            Self::Socket { directory, port, user, database } => {
                PgConnectOptions::new_without_pgpass().socket(directory).port(*port).username(user).database(database)
            }
        };
        Ok(options.application_name("flowledger").options([("timezone", "UTC")]).options(SIGN_OF_LIFE))
    }
}

/// A pool whose sessions are looked at before and after each use. One that is silent, because the network swallows
/// everything, must neither be taken nor keep its place.
fn pool(most: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(most)
        .test_before_acquire(false)
        .before_acquire(|session, rested| {
            Box::pin(async move { Ok(rested.idle_for < RESTED || proof(session, RESTED).await.is_ok()) })
        })
        .after_release(|session, _| Box::pin(async { proof(session, PROOF).await.map(|()| true) }))
}

/// Whether a session still answers.
async fn proof(session: &mut PgConnection, patience: Duration) -> Result<(), sqlx::Error> {
    let answer = tokio::time::timeout(patience, session.ping()).await;
    answer.unwrap_or(Err(sqlx::Error::Io(ErrorKind::TimedOut.into())))
}

/// One answer of PostgreSQL, unless it is silent for too long.
async fn answer<T, E>(answer: impl Future<Output = Result<T, E>>) -> Result<T, StoreError>
where
    StoreError: From<E>,
{
    let silent = || StoreError::Silent { seconds: PATIENCE.as_secs() };
    tokio::time::timeout(PATIENCE, answer).await.map_err(|_| silent())?.map_err(StoreError::from)
}

/// The database. Cheap to clone; clones share the sessions.
#[derive(Clone, Debug)]
pub struct Database {
    writers: PgPool,
    readers: PgPool,
}

impl Database {
    /// Prepares sessions at `address`. Nothing is connected until something is asked.
    ///
    /// # Errors
    /// When a URL cannot be read.
    pub fn new(address: &Address) -> Result<Self, StoreError> {
        let options = address.options()?;
        let writers = pool(WRITERS)
            // Short, because a pool that waits for a server to come back looks less and less often.
            .acquire_timeout(Duration::from_secs(2))
            .connect_lazy_with(options.clone().options([
                ("plan_cache_mode", "force_custom_plan"),
                ("lock_timeout", "10s"),
                ("idle_in_transaction_session_timeout", "60s"),
            ]));
        let readers = pool(READERS)
            .acquire_timeout(Duration::from_secs(10))
            .idle_timeout(Duration::from_secs(60))
            .connect_lazy_with(options.options([
                ("plan_cache_mode", "force_custom_plan"),
                ("default_transaction_read_only", "on"),
                ("statement_timeout", "60s"),
                ("idle_in_transaction_session_timeout", "120s"),
                ("jit", "off"),
            ]));
        Ok(Self { writers, readers })
    }

    /// Waits for a server that is away or still starting, then brings the schema up to date.
    ///
    /// `waiting` is told each second what is being waited for. Waiting ends when the server answers, or with the first
    /// error that waiting cannot mend (a wrong password, a missing database, a server older than PostgreSQL 15).
    ///
    /// # Errors
    /// What the server lacks.
    pub async fn prepare(&self, mut waiting: impl FnMut(&StoreError)) -> Result<(), StoreError> {
        loop {
            match self.greet().await {
                Err(error) if error.is_outage() => waiting(&error),
                done => return done,
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn greet(&self) -> Result<(), StoreError> {
        let version = sqlx::query_scalar("SELECT current_setting('server_version_num')::bigint");
        let version: i64 = answer(version.fetch_one(&self.writers)).await?;
        if version < OLDEST_SERVER {
            return Err(StoreError::ServerTooOld { major: version / 10_000 });
        }
        migrate::run(&self.writers).await?;
        for risk in self.risks().await? {
            tracing::warn!("{risk}");
        }
        Ok(())
    }

    /// What can make the database lose flows that it confirmed, each in a sentence that says what to do.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn risks(&self) -> Result<Vec<String>, StoreError> {
        durability::risks(&self.writers).await
    }

    /// Ends all sessions.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writers.close().await;
    }
}

/// A count for a `bigint` column: at most 2^63 - 1.
fn bigint(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A `bigint` column that is never negative, as a count.
fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
