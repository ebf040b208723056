//! One host's traffic: what it downloaded, what it uploaded, and what stayed inside.
//!
//! A flow counts once. Between the host and itself it is internal. Otherwise, when both the host and the other end are in
//! the local networks it is internal; else a flow to the host is download and one from it is upload, also when only the
//! other end is local: then the host is a server out there, and download is what *it* received. A flow whose other end
//! no exporter told counts as one with the outside.

use super::QueryError;
use super::answer::{Counters, HostRequest};
use super::group::WEIGHT_FIELDS;
use super::plan;
use super::scan::{Reader, Scan};
use crate::columns::ColumnsError;
use crate::filter::Expression;
use crate::flow::fields::{Dimension, Field};
use crate::flow::host_traffic::{HostTraffic, TrafficDirection};
use crate::flow::local::Local;
use crate::flow::segment::{Segment, Totals};
use crate::flow::value::wide_from_address;
use crate::store::host_traffic::HostSums;
use ipnetwork::IpNetwork;
use std::sync::Arc;

/// Scans segments for one host.
#[derive(Debug)]
pub(super) struct HostScan {
    reader: Reader,
    host: u128,
    local: Arc<Local>,
    host_is_local: bool,
    counters: Counters,
    pub(super) download: Totals,
    pub(super) upload: Totals,
    pub(super) internal: Totals,
    pub(super) records: u64,
    pub(super) sampled_flows: u64,
}

impl HostScan {
    /// A scan that answers `request`, with what lies in `local` as the inside.
    pub(super) fn new(request: &HostRequest, local: &Arc<Local>) -> Result<Self, QueryError> {
        plan::check_window(&request.window)?;
        let host = request.host.to_canonical();
        let either = Dimension::Either { name: "ip", source: Field::SrcIp, destination: Field::DstIp };
        let filter = Expression::Address { of: either, networks: vec![IpNetwork::from(host)] };
        let mut fields = WEIGHT_FIELDS.to_vec();
        fields.retain(|field| !matches!(field, Field::FirstSeen | Field::LastSeen));
        fields.extend([Field::SrcIp, Field::DstIp]);
        Ok(Self {
            reader: Reader::new(request.window, Some(filter), fields),
            host: wide_from_address(host),
            host_is_local: local.contains(wide_from_address(host)),
            local: Arc::clone(local),
            counters: request.counters,
            download: Totals::default(),
            upload: Totals::default(),
            internal: Totals::default(),
            records: 0,
            sampled_flows: 0,
        })
    }

    /// Whether the host is local, so that there can be totals of it.
    pub(super) fn host_is_local(&self) -> bool {
        self.host_is_local
    }

    /// Takes in what is known already of the flows that went one way.
    pub(super) fn add_totals(&mut self, direction: TrafficDirection, sums: &HostSums) {
        let kind = match direction {
            TrafficDirection::Download => &mut self.download,
            TrafficDirection::Upload => &mut self.upload,
            TrafficDirection::InternalReceived | TrafficDirection::InternalSent | TrafficDirection::InternalSelf => {
                &mut self.internal
            }
        };
        kind.add(&sums.totals);
        self.records = self.records.saturating_add(sums.records);
        self.sampled_flows = self.sampled_flows.saturating_add(sums.sampled_flows);
    }
}

impl Scan for HostScan {
    fn load_fields(&self) -> Vec<Field> {
        self.reader.load_fields()
    }

    fn count_only(&mut self, counted: &Expression) {
        self.reader.count_only(counted);
    }

    fn segment(&mut self, segment: &Segment) -> Result<(), ColumnsError> {
        let Some(read) = self.reader.read(segment)? else { return Ok(()) };
        let Some(selection) = read.selection else { return Ok(()) };
        let inside = |address: Option<u128>| address.is_some_and(|address| self.local.contains(address));
        for row in selection.iter() {
            let source = read.batch.column(Field::SrcIp).bits(row);
            let destination = read.batch.column(Field::DstIp).bits(row);
            let (from_host, to_host) = (source == Some(self.host), destination == Some(self.host));
            let other = if to_host { source } else { destination };
            let kind = if (from_host && to_host) || (self.host_is_local && inside(other)) {
                &mut self.internal
            } else if to_host {
                &mut self.download
            } else {
                &mut self.upload
            };
            let traffic = HostTraffic::of_flow(read.batch, row);
            kind.add(&traffic.totals(self.counters == Counters::Raw));
            self.records = self.records.saturating_add(traffic.records);
            self.sampled_flows = self.sampled_flows.saturating_add(traffic.sampled_flows);
        }
        Ok(())
    }

    fn memory(&self) -> usize {
        0
    }

    fn merge(&mut self, other: Self) {
        self.download.add(&other.download);
        self.upload.add(&other.upload);
        self.internal.add(&other.internal);
        self.records = self.records.saturating_add(other.records);
        self.sampled_flows = self.sampled_flows.saturating_add(other.sampled_flows);
    }
}
