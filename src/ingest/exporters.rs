//! From the address of a datagram to the exporter's number.
//!
//! Numbers come from the database, which is asked once for an address. Only datagrams that look like a flow export make an
//! exporter, and only up to a limit, so that strangers cannot fill the catalogue.

use super::{IngestError, Shared};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// The known exporters.
pub(super) struct Exporters {
    known: HashMap<IpAddr, u32>,
}

impl Exporters {
    /// All exporters that the database knows.
    pub(super) fn load(shared: &Shared) -> Result<Self, IngestError> {
        let known = shared.wait(shared.database.exporter_ids())?.into_iter().collect();
        Ok(Self { known })
    }

    /// The number of the exporter at `address`, if it is known.
    pub(super) fn get(&self, address: IpAddr) -> Option<u32> {
        self.known.get(&address).copied()
    }

    /// Enters the exporter at `address`; `None` when there are too many. Waits while the database is away: the journal
    /// holds what comes meanwhile.
    pub(super) fn enter(&mut self, shared: &Shared, address: IpAddr) -> Result<Option<u32>, IngestError> {
        if self.known.len() >= usize::try_from(shared.settings.max_exporters).unwrap_or(usize::MAX) {
            return Ok(None);
        }
        loop {
            match shared.wait(shared.database.exporter_id(address)) {
                Ok(id) => {
                    tracing::info!("new exporter {address}, number {id}");
                    self.known.insert(address, id);
                    return Ok(Some(id));
                }
                Err(IngestError::Store(error)) if error.is_outage() => {
                    tracing::warn!("the new exporter {address} waits for the database: {error}");
                }
                Err(error) => return Err(error),
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}
