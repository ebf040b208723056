//! What can go wrong with PostgreSQL, and whether waiting may mend it.

use sqlx::migrate::MigrateError;
use sqlx::postgres::PgDatabaseError;

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database URL cannot be read.
    #[error("the database URL cannot be read: {0}; it looks like postgres://user:password@host:5432/database")]
    Url(#[source] sqlx::Error),
    /// The server is too old.
    #[error(
        "the server is PostgreSQL {major}, but version 15 or newer is needed; upgrade it or name another in [database] url"
    )]
    ServerTooOld {
        /// The server's major version.
        major: i64,
    },
    /// The schema cannot be brought up to date.
    #[error(
        "the schema cannot be migrated: {0}; check that the role may create tables and that no newer Flowledger used this database"
    )]
    Migration(#[from] MigrateError),
    /// A statement or the connection failed.
    #[error("PostgreSQL: {0}{advice}", advice = advice(.0))]
    Database(#[from] sqlx::Error),
    /// No answer came. Whether a batch was committed is found out by its position.
    #[error(
        "PostgreSQL did not answer within {seconds} s; what became of the request is looked up when it answers again"
    )]
    Silent {
        /// How long was waited.
        seconds: u64,
    },
    /// Another server stores this journal, or its position was changed by hand.
    #[error(
        "journal {journal} is stored up to position {found}, but this server expected {expected}: does another server use the same journal?"
    )]
    PositionMoved {
        /// The journal.
        journal: String,
        /// The position that the batch begins at.
        expected: i64,
        /// The position that the database holds.
        found: i64,
    },
    /// Another program brings in the same file.
    #[error(
        "{name} is no longer stored up to byte {expected}, where this import goes on: does another import bring in the same file?"
    )]
    ImportMoved {
        /// The file, as the table `imports` names it.
        name: String,
        /// Where the part to be stored begins.
        expected: u64,
    },
    /// A stored block belongs to no field this version knows, or the like.
    #[error("the database holds something unexpected in {place}: {detail}")]
    Unexpected {
        /// The table or column.
        place: &'static str,
        /// What was found.
        detail: String,
    },
}

impl StoreError {
    /// Whether the same request may succeed later without anybody changing it: the server is away, starting, stopping,
    /// out of resources, or gave way to another session.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Silent { .. } => true,
            Self::Database(error) => is_outage(error),
            Self::Migration(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
                is_outage(error)
            }
            _ => false,
        }
    }

    /// Whether somebody else uses what was asked for: a lock was not to be had, or not in time.
    pub fn is_in_use(&self) -> bool {
        let Self::Database(sqlx::Error::Database(cause)) = self else { return false };
        cause.code().is_some_and(|code| ["55P03", "57014"].contains(&&*code))
    }

    /// Whether the disk of the database is full. It answers questions then, and stores nothing.
    pub fn is_full_disk(&self) -> bool {
        let Self::Database(error) = self else { return false };
        error.as_database_error().is_some_and(|cause| cause.code().as_deref() == Some("53100"))
    }

    /// Whether what is stored is damaged, so that no other try can read it.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Unexpected { .. } => true,
            // Class XX: PostgreSQL's own, such as a page or a large value that cannot be read.
            Self::Database(sqlx::Error::Database(cause)) => cause.code().is_some_and(|code| code.starts_with("XX")),
            _ => false,
        }
    }

    /// Whether another session changed the same rows since this one's moment.
    pub fn is_conflict(&self) -> bool {
        let Self::Database(sqlx::Error::Database(cause)) = self else { return false };
        cause.code().as_deref() == Some("40001")
    }
}

impl StoreError {
    /// Whether there is no partition for a row, as after its day was dropped.
    pub fn lacks_partition(&self) -> bool {
        let Self::Database(error) = self else { return false };
        error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref() == Some("23514")
    }
}

/// What to do about an error that somebody else has caused, as the end of a sentence.
fn advice(error: &sqlx::Error) -> &'static str {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    match code.as_deref() {
        Some("42501") => "; give the role its rights on the tables back",
        // A column, table, schema or type that is not there, or is another.
        Some("42703" | "42P01" | "3F000" | "42704" | "42804" | "22P03") => {
            "; the schema was changed: undo that, or restore the table"
        }
        Some("55P03") => "; pg_locks tells which session holds the lock",
        Some("53100") => "; make room on the disk of the database",
        _ => "",
    }
}

fn is_outage(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed | sqlx::Error::Protocol(_) => true,
        // Classes 08 connection, 40 rollback, 53 resources, 57 operator, 58 system; 55P03 a lock not available.
        sqlx::Error::Database(cause) => {
            let passes =
                |code: &str| ["08", "40", "53", "57", "58", "55P03"].iter().any(|class| code.starts_with(class));
            cause.code().is_some_and(|code| passes(&code)) || lets_nobody_in(&**cause)
        }
        _ => false,
    }
}

/// Whether the database is closed to all sessions for a time (`ALLOW_CONNECTIONS false`). Its code, 55000, is that of many
/// errors that waiting never mends, such as entering what an interrupted `DROP DATABASE` left (told by `InitPostgres`), and its
/// text depends on the server's language; but only `CheckMyDatabase` in PostgreSQL's source tells this one.
fn lets_nobody_in(cause: &dyn sqlx::error::DatabaseError) -> bool {
    let told_by = cause.try_downcast_ref::<PgDatabaseError>().and_then(PgDatabaseError::routine);
    cause.code().as_deref() == Some("55000") && told_by == Some("CheckMyDatabase")
}
