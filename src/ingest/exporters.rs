//! From the address of a datagram to the exporter's number and what the configuration says about it.
//!
//! Numbers come from the database, which is asked once for an address. Only datagrams that look like a flow export make an
//! exporter, and only up to a limit, so that strangers cannot fill the catalogue. Names come from the configuration and are
//! written down where the database has others.

use super::configured::Configured;
use super::{IngestError, Shared};
use crate::wire::ConfiguredSampling;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// An exporter, as decoding its datagrams needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exporter {
    /// Its number in the database.
    pub(super) id: u32,
    /// What the configuration says about its sampling.
    pub(super) sampling: ConfiguredSampling,
}

/// The known exporters.
pub(super) struct Exporters {
    known: HashMap<IpAddr, Exporter>,
}

impl Exporters {
    /// All exporters that the database knows.
    pub(super) fn load(shared: &Shared) -> Result<Self, IngestError> {
        let configured = &shared.settings.exporters;
        let ids = shared.database.exporter_ids()?;
        let names = ids.iter().filter_map(|(address, id)| Some((*id, configured.name(*address)?)));
        shared.database.name_exporters(&names.collect::<Vec<_>>())?;
        let known = ids.into_iter().map(|(address, id)| (address, exporter(id, address, configured)));
        Ok(Self { known: known.collect() })
    }

    /// The exporter at `address`, if it is known.
    pub(super) fn get(&self, address: IpAddr) -> Option<Exporter> {
        self.known.get(&address).copied()
    }

    /// What the configuration says about the sampling of exporter `id`.
    pub(super) fn sampling(&self, id: u32) -> ConfiguredSampling {
        self.known.values().find(|exporter| exporter.id == id).map(|exporter| exporter.sampling).unwrap_or_default()
    }

    /// Enters the exporter at `address`; `None` when there are too many. Waits while the database is away: the journal
    /// holds what comes meanwhile.
    pub(super) fn enter(&mut self, shared: &Shared, address: IpAddr) -> Result<Option<Exporter>, IngestError> {
        if self.known.len() >= usize::try_from(shared.settings.max_exporters).unwrap_or(usize::MAX) {
            return Ok(None);
        }
        loop {
            match number_and_name(shared, address) {
                Ok(id) => {
                    tracing::info!("new exporter {address}, number {id}");
                    let exporter = exporter(id, address, &shared.settings.exporters);
                    self.known.insert(address, exporter);
                    return Ok(Some(exporter));
                }
                Err(IngestError::Store(error)) if error.is_outage() => {
                    tracing::warn!("the new exporter {address} waits for the database: {error}");
                }
                Err(error) => return Err(error),
            }
            shared.clock.sleep(Duration::from_millis(500));
        }
    }
}

fn exporter(id: u32, address: IpAddr, configured: &Configured) -> Exporter {
    Exporter { id, sampling: configured.sampling(address) }
}

/// The number of the exporter at `address`, which then has its name.
fn number_and_name(shared: &Shared, address: IpAddr) -> Result<u32, IngestError> {
    let id = shared.database.exporter_id(address)?;
    let name = shared.settings.exporters.name(address).map(|name| (id, name));
    shared.database.name_exporters(name.as_slice())?;
    Ok(id)
}
