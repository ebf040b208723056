//! One host's traffic: what it downloaded, what it uploaded, and what stayed inside.
//!
//! A flow counts once. Between the host and itself it is internal. Otherwise, when both the host and the other end are in
//! the local networks it is internal; else a flow to the host is download and one from it is upload, also when only the
//! other end is local: then the host is a server out there, and download is what *it* received. A flow whose other end
//! no exporter told counts as one with the outside.

use super::QueryError;
use super::answer::Window;
use super::group::WEIGHT_FIELDS;
use super::plan;
use super::scan::{Reader, Scan};
use crate::columns::ColumnsError;
use crate::filter::Expression;
use crate::flow::batch::FlowBatch;
use crate::flow::fields::{Dimension, Field};
use crate::flow::segment::{Segment, Totals};
use crate::flow::value::{address_from_wide, wide_from_address};
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// Scans segments for one host.
#[derive(Debug)]
pub(super) struct HostScan {
    reader: Reader,
    host: u128,
    local: Vec<IpNetwork>,
    host_is_local: bool,
    pub(super) download: Totals,
    pub(super) upload: Totals,
    pub(super) internal: Totals,
}

impl HostScan {
    /// A scan for `host`, with what lies in `local` as the inside. An IPv4-mapped IPv6 address is the IPv4 address.
    pub(super) fn new(host: IpAddr, window: Window, local: &[IpNetwork]) -> Result<Self, QueryError> {
        plan::check_window(&window)?;
        let host = host.to_canonical();
        let either = Dimension::Either { name: "ip", source: Field::SrcIp, destination: Field::DstIp };
        let filter = Expression::Address { of: either, networks: vec![IpNetwork::from(host)] };
        let mut fields = WEIGHT_FIELDS.to_vec();
        fields.retain(|field| !matches!(field, Field::FirstSeen | Field::LastSeen));
        fields.extend([Field::SrcIp, Field::DstIp]);
        Ok(Self {
            reader: Reader::new(window, Some(filter), fields),
            host: wide_from_address(host),
            local: local.to_vec(),
            host_is_local: local.iter().any(|network| network.contains(host)),
            download: Totals::default(),
            upload: Totals::default(),
            internal: Totals::default(),
        })
    }
}

impl Scan for HostScan {
    fn load_fields(&self) -> Vec<Field> {
        self.reader.load_fields()
    }

    fn segment(&mut self, segment: &Segment) -> Result<(), ColumnsError> {
        let Some(read) = self.reader.read(segment)? else { return Ok(()) };
        let Some(selection) = read.selection else { return Ok(()) };
        let inside = |address: Option<u128>| {
            let address = address.map(address_from_wide);
            address.is_some_and(|address| self.local.iter().any(|network| network.contains(address)))
        };
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
            kind.add(&totals_of(read.batch, row));
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
    }
}

fn totals_of(batch: &FlowBatch, row: usize) -> Totals {
    let counter = |field| batch.column(field).bits(row).map(|bits| bits as u64);
    let sum = |one, other| counter(one).unwrap_or(0).saturating_add(counter(other).unwrap_or(0));
    Totals {
        bytes: sum(Field::InBytes, Field::OutBytes),
        packets: sum(Field::InPackets, Field::OutPackets),
        flows: counter(Field::AggregatedFlows).unwrap_or(1),
    }
}
