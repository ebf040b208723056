//! What a local host transferred: the way its traffic went, and the sums that are kept of it for years.

use super::batch::FlowBatch;
use super::fields::Field;
use super::sampling::{sampled, scaled};
use super::segment::Totals;
use crate::clock::Timestamp;

/// Which way traffic of a local host went. Each flow of the host counts in exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrafficDirection {
    /// To the host from outside the local networks, or from an end that no exporter told.
    Download,
    /// From the host to outside, or to an end that no exporter told.
    Upload,
    /// To the host from another local host.
    InternalReceived,
    /// From the host to another local host.
    InternalSent,
    /// From the host to itself.
    InternalSelf,
}

impl TrafficDirection {
    /// All ways.
    pub const ALL: [Self; 5] =
        [Self::Download, Self::Upload, Self::InternalReceived, Self::InternalSent, Self::InternalSelf];

    /// The word for it in the database, type `traffic_direction`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Upload => "upload",
            Self::InternalReceived => "internal_received",
            Self::InternalSent => "internal_sent",
            Self::InternalSelf => "internal_self",
        }
    }

    /// The way that the database calls `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|direction| direction.name() == name)
    }
}

/// Whose sums they are, within an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostTrafficKey {
    /// The host, an IPv4 address mapped into IPv6.
    pub host: u128,
    /// The exporter that told.
    pub exporter_id: u32,
    /// Which way.
    pub direction: TrafficDirection,
}

/// Sums over flows. They saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostTraffic {
    /// Bytes of both counters, multiplied by the flow's sampling interval.
    pub bytes: u64,
    /// Packets of both counters, multiplied likewise.
    pub packets: u64,
    /// Flows, counting what the exporter aggregated.
    pub flows: u64,
    /// Flow records.
    pub records: u64,
    /// Bytes as exporters sent them.
    pub raw_bytes: u64,
    /// Packets as exporters sent them.
    pub raw_packets: u64,
    /// Flows with a sampling interval above 1.
    pub sampled_flows: u64,
    /// The earliest first packet, where exporters told it.
    pub first_seen: Option<Timestamp>,
    /// The latest last packet, where exporters told it.
    pub last_seen: Option<Timestamp>,
}

impl HostTraffic {
    /// What one flow adds.
    pub fn of_flow(batch: &FlowBatch, row: usize) -> Self {
        let bits = |field| batch.column(field).bits(row);
        let counter = |field| bits(field).map_or(0, |bits| bits as u64);
        let moment = |field| bits(field).map(|bits| Timestamp::from_micros((bits as u64).cast_signed()));
        let interval = bits(Field::SamplingInterval).map_or(1, |bits| bits as u32);
        let raw_bytes = counter(Field::InBytes).saturating_add(counter(Field::OutBytes));
        let raw_packets = counter(Field::InPackets).saturating_add(counter(Field::OutPackets));
        let flows = bits(Field::AggregatedFlows).map_or(1, |bits| bits as u64);
        Self {
            bytes: scaled(raw_bytes, interval),
            packets: scaled(raw_packets, interval),
            flows,
            records: 1,
            raw_bytes,
            raw_packets,
            sampled_flows: sampled(flows, interval),
            first_seen: moment(Field::FirstSeen),
            last_seen: moment(Field::LastSeen),
        }
    }

    /// Bytes, packets and flows, as exporters sent them or multiplied by sampling intervals.
    pub fn totals(&self, raw: bool) -> Totals {
        let (bytes, packets) = if raw { (self.raw_bytes, self.raw_packets) } else { (self.bytes, self.packets) };
        Totals { bytes, packets, flows: self.flows }
    }

    /// The same with sums of at most `limit`.
    pub fn at_most(mut self, limit: u64) -> Self {
        self.sums().into_iter().for_each(|sum| *sum = (*sum).min(limit));
        self
    }

    fn sums(&mut self) -> [&mut u64; 7] {
        [
            &mut self.bytes,
            &mut self.packets,
            &mut self.flows,
            &mut self.records,
            &mut self.raw_bytes,
            &mut self.raw_packets,
            &mut self.sampled_flows,
        ]
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        let mut other = *other;
        for (sum, more) in self.sums().into_iter().zip(other.sums()) {
            *sum = sum.saturating_add(*more);
        }
        self.first_seen = self.first_seen.into_iter().chain(other.first_seen).min();
        self.last_seen = self.last_seen.max(other.last_seen);
    }
}
