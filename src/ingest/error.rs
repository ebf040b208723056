//! Why the pipeline cannot go on from where it is.

use crate::columns::ColumnsError;
use crate::journal::JournalError;
use crate::store::StoreError;

/// Why ingest stopped or must begin anew.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The database refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Flows cannot be compressed.
    #[error(transparent)]
    Columns(#[from] ColumnsError),
    /// The system gives no thread.
    #[error("no thread can be started for ingest: {0}; check the limits on processes (ulimit -u, TasksMax)")]
    Thread(#[source] std::io::Error),
    /// A stage of the pipeline ended.
    #[error("the {stage} stage ended before the others")]
    StageEnded {
        /// Which one.
        stage: &'static str,
    },
    /// The server is stopping and the database is away.
    #[error("stopping while the database is away: what is not stored stays in the journal")]
    Abandoned,
}
