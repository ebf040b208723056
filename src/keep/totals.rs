//! What local hosts transferred, added up from flows.
//!
//! The same rules as those of an answer about one host: a flow between two local hosts is internal to both, and an end that
//! no exporter told is outside. Pure: segments come in, sums come out.
//!
//! Anybody can make hosts up: who sweeps a local network names all of its addresses, and an IPv6 network has more than any
//! memory. So sums are taken out, as parts of sums, when there are [`KEYS`] of them.

use crate::flow::batch::FlowBatch;
use crate::flow::counting::ExporterRules;
use crate::flow::fields::Field;
use crate::flow::host_traffic::{HostTraffic, HostTrafficKey, TrafficDirection};
use crate::flow::local::Local;
use std::collections::HashMap;

/// The fields that totals are made of, those apart that rules of counting read.
const FIELDS: [Field; 11] = [
    Field::ExporterId,
    Field::FirstSeen,
    Field::LastSeen,
    Field::SrcIp,
    Field::DstIp,
    Field::InBytes,
    Field::InPackets,
    Field::OutBytes,
    Field::OutPackets,
    Field::AggregatedFlows,
    Field::SamplingInterval,
];

/// The fields that totals by these rules are made of, and `others`, in the order of the catalogue.
pub fn fields(rules: &ExporterRules, others: &[Field]) -> Vec<Field> {
    let looked_at = [&FIELDS, rules.fields(), others];
    Field::ALL.into_iter().filter(|field| looked_at.iter().any(|fields| fields.contains(field))).collect()
}

/// How many sums are kept in memory before they are taken out. With those that one more segment adds, two a flow, they are
/// below 450,000 and take 68 MB (a key of 32 bytes and sums of 96 in a table with 2^19 places), and 100 MB for the moment in
/// which the table grows.
pub const KEYS: usize = 300_000;

/// Sums by host, exporter and direction.
pub type Sums = HashMap<HostTrafficKey, HostTraffic, foldhash::fast::RandomState>;

/// Adds flows up by host, exporter and direction.
#[derive(Debug)]
pub struct Totals {
    local: Local,
    rules: ExporterRules,
    sums: Sums,
}

impl Totals {
    /// No sums yet, for the hosts in `local`, of the flows that count by `rules`.
    pub fn new(local: Local, rules: ExporterRules) -> Self {
        Self { local, rules, sums: HashMap::default() }
    }

    /// Adds those flows of `batch` that count.
    pub fn add(&mut self, batch: &FlowBatch) {
        for row in 0..batch.rows() {
            let bits = |field| batch.column(field).bits(row);
            let inside = |field| bits(field).filter(|address| self.local.contains(*address));
            let (source, destination) = (inside(Field::SrcIp), inside(Field::DstIp));
            if (source.is_none() && destination.is_none()) || !self.rules.counts(batch, row) {
                continue;
            }
            let exporter_id = bits(Field::ExporterId).map_or(0, |bits| bits as u32);
            let traffic = HostTraffic::of_flow(batch, row);
            let mut count = |host, direction| {
                self.sums.entry(HostTrafficKey { host, exporter_id, direction }).or_default().add(&traffic);
            };
            match (source, destination) {
                (Some(source), Some(destination)) if source == destination => {
                    count(source, TrafficDirection::InternalSelf);
                }
                (Some(source), Some(destination)) => {
                    count(source, TrafficDirection::InternalSent);
                    count(destination, TrafficDirection::InternalReceived);
                }
                (Some(source), None) => count(source, TrafficDirection::Upload),
                (None, Some(destination)) => count(destination, TrafficDirection::Download),
                (None, None) => {}
            }
        }
    }

    /// How many sums there are.
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    /// Whether there are no sums.
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// Takes the sums out. What is added from now on makes other sums, also of the same hosts.
    pub fn take(&mut self) -> Sums {
        std::mem::take(&mut self.sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::flow::value::wide_from_address;

    fn address(text: &str) -> u128 {
        wide_from_address(text.parse().unwrap())
    }

    #[test]
    fn each_flow_counts_once_for_each_of_its_local_hosts() {
        let flows = [
            ("198.51.100.1", "10.0.0.1", 100),
            ("10.0.0.1", "198.51.100.1", 10),
            ("10.0.0.1", "10.0.0.2", 5),
            ("10.0.0.2", "10.0.0.2", 3),
            ("198.51.100.1", "198.51.100.2", 1_000),
            ("203.0.113.1", "10.0.0.1", 200),
        ];
        let mut batch = FlowBatch::default();
        batch.add_rows(flows.len());
        batch.column_mut(Field::ExporterId).u32_run(0, flows.len()).fill(7);
        for (row, (source, destination, bytes)) in flows.into_iter().enumerate() {
            batch.column_mut(Field::SrcIp).wide_run(row, 1).fill(address(source));
            batch.column_mut(Field::DstIp).wide_run(row, 1).fill(address(destination));
            batch.column_mut(Field::InBytes).u64_run(row, 1).fill(bytes);
        }
        batch.column_mut(Field::SamplingInterval).u32_run(5, 1).fill(10);
        batch.column_mut(Field::FirstSeen).time_run(0, 1).fill(50);
        let mut totals = Totals::new(Local::new(&["10.0.0.0/8".parse().unwrap()]), ExporterRules::default());
        totals.add(&batch);
        let sums = totals.take();
        assert!(totals.is_empty());
        let mut found: Vec<_> = sums
            .iter()
            .map(|(key, sums)| {
                assert_eq!(key.exporter_id, 7);
                (key.host, key.direction.name(), sums.bytes, sums.raw_bytes, sums.flows, sums.sampled_flows)
            })
            .collect();
        found.sort_unstable();
        let (one, two) = (address("10.0.0.1"), address("10.0.0.2"));
        let expected = [
            (one, "download", 2_100, 300, 2, 1),
            (one, "internal_sent", 5, 5, 1, 0),
            (one, "upload", 10, 10, 1, 0),
            (two, "internal_received", 5, 5, 1, 0),
            (two, "internal_self", 3, 3, 1, 0),
        ];
        assert_eq!(found, expected);
        let download = HostTrafficKey { host: one, exporter_id: 7, direction: TrafficDirection::Download };
        assert_eq!(sums[&download].first_seen, Some(Timestamp::from_micros(50)));
    }

    #[test]
    fn sums_in_memory_take_as_much_as_is_said_of_them() {
        const PLACES: usize = 1 << 19;
        assert_eq!(size_of::<(HostTrafficKey, HostTraffic)>(), 128);
        // A table is full at seven eighths; each place has a byte of its own beside the entry.
        const { assert!(KEYS + 2 * crate::flow::segment::MAX_SEGMENT_FLOWS < PLACES / 8 * 7) };
        assert_eq!(PLACES * 129 / 1_000_000, 67);
    }

    #[test]
    fn a_flow_without_its_other_end_is_one_with_the_outside() {
        let mut batch = FlowBatch::default();
        batch.add_rows(2);
        batch.column_mut(Field::DstIp).wide_run(1, 1).fill(address("10.0.0.1"));
        let mut totals = Totals::new(Local::new(&["10.0.0.0/8".parse().unwrap()]), ExporterRules::default());
        totals.add(&batch);
        let keys: Vec<_> = totals.take().keys().map(|key| key.direction).collect();
        assert_eq!(keys, [TrafficDirection::Download]);
    }
}
