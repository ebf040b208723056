//! The database for a command: that of the running server, or the one that is configured, for as long as the command works.

use crate::config::Config;
use crate::private_postgres::{self, Connection, PrivatePostgres};
use crate::server;
use crate::store::{Address, Database};
use std::error::Error;

/// Does `work` with the database that the server would use. A PostgreSQL of our own that had to be started for it is stopped
/// again.
///
/// # Errors
/// When there is no database, and what `work` fails with.
pub(super) async fn with_database<T>(
    config: &Config,
    work: impl AsyncFnOnce(&Database) -> Result<T, Box<dyn Error>>,
) -> Result<T, Box<dyn Error>> {
    let (address, postgres) = locate(config).await?;
    let database = Database::new(&address)?;
    let done = work(&database).await;
    database.close().await;
    stop(postgres).await?;
    done
}

/// The database that the server would use: of a running server's own PostgreSQL, its socket.
pub(super) async fn locate(config: &Config) -> Result<(Address, Option<PrivatePostgres>), Box<dyn Error>> {
    if config.database.address()?.is_none()
        && let Some(Connection { socket_directory, port, user, database }) =
            private_postgres::find_running(&config.private_postgres())
    {
        return Ok((Address::Socket { directory: socket_directory, port, user, database }, None));
    }
    let (address, postgres) = server::locate_database(config).await?;
    if let Some(postgres) = &postgres {
        postgres.ready().await?;
    }
    Ok((address, postgres))
}

/// Stops a PostgreSQL that [`locate`] started.
pub(super) async fn stop(postgres: Option<PrivatePostgres>) -> Result<(), tokio::task::JoinError> {
    match postgres {
        Some(postgres) => tokio::task::spawn_blocking(move || postgres.stop()).await,
        None => Ok(()),
    }
}
