//! What ingest asks of the database, as calls that wait for their answers, and PostgreSQL behind them.
//!
//! The seam through which ingest is driven without a database: everything above it is plain code that waits in no other
//! way. A call that fails with an outage may succeed later; whether a commit that failed was stored is told by the next one.

use super::IngestError;
use crate::clock::Timestamp;
use crate::flow::parked::ParkedSet;
use crate::store::commit::{Batch, DecoderState, Loaded, StoredPosition};
use crate::store::{Database, PATIENCE, StoreError};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How long the database may take to be told that nothing came.
const STILL_COMPLETE: Duration = Duration::from_secs(5);
/// How long it may take to tell all that it remembers of the decoder.
const REMEMBERED: Duration = Duration::from_secs(120);

/// The database, as ingest needs it. The calls mean what those of the same name of [`Database`] mean.
pub(super) trait Storage: Send + Sync {
    fn journal_position(&self, journal: &str, since: Timestamp) -> Result<StoredPosition, IngestError>;
    fn decoder_state(&self, journal: &str) -> Result<Vec<DecoderState>, IngestError>;
    fn parked_sets(&self, journal: &str) -> Result<Vec<ParkedSet>, IngestError>;
    fn cut_streams(&self) -> Result<Vec<(u32, Timestamp)>, IngestError>;
    fn exporter_ids(&self) -> Result<Vec<(IpAddr, u32)>, IngestError>;
    fn exporter_id(&self, address: IpAddr) -> Result<u32, IngestError>;
    fn name_exporters(&self, names: &[(u32, &str)]) -> Result<(), IngestError>;
    fn ensure_rows(&self, day: Timestamp) -> Result<bool, IngestError>;
    fn ensure_open(&self) -> Result<(), IngestError>;

    /// Begins to copy the flows of a batch and returns at once.
    fn load(&self, first_segment: i64, batch: &Arc<Batch>) -> Box<dyn Loading>;

    fn commit(&self, journal: &str, batch: &Batch) -> Result<u64, IngestError>;

    /// Whether the database knows now that everything received before `until` is stored, and still stands at `position`.
    fn still_complete(&self, journal: &str, position: u64, until: Timestamp) -> bool;
}

/// Flows on their way into a transaction that is given up when this is dropped.
pub(super) trait Loading: Send {
    /// Waits for the flows and stores their batch. `None` when a defect ended the copying.
    fn finish(self: Box<Self>, journal: &str, batch: &Batch) -> Result<Option<u64>, IngestError>;
}

/// PostgreSQL. Waiting for it ends when what is left is to be abandoned.
#[derive(Clone)]
pub(super) struct Postgres {
    pub(super) database: Database,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) abandon: Arc<AtomicBool>,
}

impl Postgres {
    fn wait<T>(&self, answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, IngestError> {
        let abandoned = async {
            while !self.abandon.load(Ordering::Acquire) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        self.runtime.block_on(async {
            tokio::select! {
                answer = answer => Ok(answer?),
                () = abandoned => Err(IngestError::Abandoned),
            }
        })
    }

    /// The same, unless the database is silent for so long.
    fn ask<T>(
        &self,
        patience: Duration,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, IngestError> {
        let silent = StoreError::Silent { seconds: patience.as_secs() };
        self.wait(async { tokio::time::timeout(patience, answer).await.unwrap_or(Err(silent)) })
    }
}

impl Storage for Postgres {
    fn journal_position(&self, journal: &str, since: Timestamp) -> Result<StoredPosition, IngestError> {
        self.ask(PATIENCE, self.database.journal_position_since(journal, Some(since)))
    }

    fn decoder_state(&self, journal: &str) -> Result<Vec<DecoderState>, IngestError> {
        self.ask(REMEMBERED, self.database.decoder_state(journal))
    }

    fn parked_sets(&self, journal: &str) -> Result<Vec<ParkedSet>, IngestError> {
        self.ask(REMEMBERED, self.database.parked_sets(journal))
    }

    fn cut_streams(&self) -> Result<Vec<(u32, Timestamp)>, IngestError> {
        self.ask(PATIENCE, self.database.cut_streams())
    }

    fn exporter_ids(&self) -> Result<Vec<(IpAddr, u32)>, IngestError> {
        self.ask(PATIENCE, self.database.exporter_ids())
    }

    fn exporter_id(&self, address: IpAddr) -> Result<u32, IngestError> {
        self.ask(PATIENCE, self.database.exporter_id(address))
    }

    fn name_exporters(&self, names: &[(u32, &str)]) -> Result<(), IngestError> {
        self.ask(PATIENCE, self.database.name_exporters(names))
    }

    fn ensure_rows(&self, day: Timestamp) -> Result<bool, IngestError> {
        self.ask(PATIENCE, self.database.ensure_rows(day))
    }

    fn ensure_open(&self) -> Result<(), IngestError> {
        self.wait(self.database.ensure_open())
    }

    fn load(&self, first_segment: i64, batch: &Arc<Batch>) -> Box<dyn Loading> {
        let (database, batch) = (self.database.clone(), Arc::clone(batch));
        let task = self.runtime.spawn(async move { database.load(first_segment, &batch).await });
        Box::new(Copying { postgres: self.clone(), task })
    }

    fn commit(&self, journal: &str, batch: &Batch) -> Result<u64, IngestError> {
        self.wait(self.database.commit(journal, batch))
    }

    fn still_complete(&self, journal: &str, position: u64, until: Timestamp) -> bool {
        let told = self.runtime.block_on(async {
            tokio::time::timeout(STILL_COMPLETE, self.database.still_complete(journal, position, until)).await
        });
        matches!(told, Ok(Ok(true)))
    }
}

/// A task that copies flows.
struct Copying {
    postgres: Postgres,
    task: JoinHandle<Result<Loaded, StoreError>>,
}

impl Drop for Copying {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Loading for Copying {
    fn finish(mut self: Box<Self>, journal: &str, batch: &Batch) -> Result<Option<u64>, IngestError> {
        let task = &mut self.task;
        self.postgres.wait(async {
            let Ok(loaded) = task.await else { return Ok(None) };
            self.postgres.database.finish(journal, batch, loaded?).await.map(Some)
        })
    }
}
