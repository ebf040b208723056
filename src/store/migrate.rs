//! Brings the schema up to date. Migrations are embedded, run in order under a lock, and are never edited once landed.

use super::StoreError;
use sqlx::PgPool;

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// Runs what is missing. Several servers may do this at once: one works, the others wait.
pub(super) async fn run(pool: &PgPool) -> Result<(), StoreError> {
    Ok(MIGRATIONS.run(pool).await?)
}

/// The number of the newest migration there is.
pub(super) fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0)
}
