//! A data set that waits for its template.
//!
//! `wire` lets it wait and decodes it, `store` keeps it meanwhile; neither knows the other.

use crate::clock::Timestamp;

/// A data set that waits, with what is needed to decode it later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedSet {
    /// Its number in its journal; later ones are higher.
    pub parked_id: u64,
    /// The exporter.
    pub exporter_id: u32,
    /// How it came, as `wire` codes it.
    pub transport: u16,
    /// The port it was sent from.
    pub source_port: u16,
    /// The protocol and version, as `wire` codes them.
    pub version: u16,
    /// The observation domain or source id.
    pub observation_domain: u32,
    /// The template it waits for.
    pub template_id: u16,
    /// When it was received.
    pub received: Timestamp,
    /// The header's export time in microseconds since 1970.
    pub export_time: i64,
    /// The header's uptime in milliseconds (NetFlow v9).
    pub uptime: Option<u32>,
    /// The set without its header.
    pub body: Vec<u8>,
}
