//! A flow of nfdump 1.7: a head, and extensions that each tell what they are and how long.
//!
//! ```text
//! head        u16 extensions | u8 engine type | u8 engine id | u16 exporter | u8 flags | u8 version of NetFlow
//! extension   u16 type | u16 length with these four bytes | values
//! ```
//!
//! Types 34 and 35 mean other things in 1.7.1 than later, and none of them is read.

use super::layout_1::{exporter, port_block};
use super::records::{Sources, firewall, labels, moment, time};
use crate::archive::Flow;
use crate::archive::bytes::Bytes;
use crate::flow::fields::Field;
use crate::flow::value::wide_from_v4;

/// Which of both kinds of addresses of one flow counts.
#[derive(Default)]
struct Addresses {
    v4: Option<(u32, u32)>,
    v6: Option<(u128, u128)>,
    version: u8,
}

impl Addresses {
    /// Some exporters send both. What the flow says of its version decides, else whether the IPv4 ones are all 0.
    fn write(&self, flow: &mut Flow) {
        let v4 = match (self.v4, self.v6, self.version) {
            (None, _, _) | (Some(_), Some(_), 6) => None,
            (v4, _, 4) | (v4, None, _) => v4,
            (v4, Some(_), _) => v4.filter(|pair| *pair != (0, 0)),
        };
        let v4 = v4.map(|(source, destination)| (wide_from_v4(source), wide_from_v4(destination)));
        if let Some((source, destination)) = v4.or(self.v6) {
            flow.set(Field::SrcIp, source);
            flow.set(Field::DstIp, destination);
        }
    }
}

/// Learns whose flow of type 11 it is.
pub(super) fn learn(mut record: Bytes<'_>, sources: &mut Sources) -> Option<()> {
    let extensions = record.u16()?;
    record.u16()?;
    let number = record.u16()?;
    record.u16()?;
    for _ in 0..extensions {
        let (kind, length) = (record.u16()?, usize::from(record.u16()?));
        record.take(length.checked_sub(4)?)?;
        if matches!(kind, 12 | 13) {
            return Some(());
        }
    }
    sources.refer(number);
    Some(())
}

/// Reads a flow of type 11.
pub(super) fn flow(mut record: Bytes<'_>, sources: &Sources, flow: &mut Flow) -> Option<()> {
    let extensions = record.u16()?;
    let engine = (u32::from(record.u8()?) << 8) | u32::from(record.u8()?);
    let number = record.u16()?;
    record.u16()?;
    let mut addresses = Addresses::default();
    for _ in 0..extensions {
        let (kind, length) = (record.u16()?, usize::from(record.u16()?));
        let values = record.take(length.checked_sub(4)?)?;
        extension(kind, values, flow, &mut addresses)?;
    }
    addresses.write(flow);
    sources.attribute(number, (engine != 0).then_some(engine), flow);
    Some(())
}

fn extension(kind: u16, all: &[u8], flow: &mut Flow, addresses: &mut Addresses) -> Option<()> {
    let mut values = Bytes(all);
    match kind {
        1 => generic(values, flow)?,
        2 => addresses.v4 = Some((values.u32()?, values.u32()?)),
        3 => addresses.v6 = Some((values.wide()?, values.wide()?)),
        4 => {
            flow.set(Field::InputInterface, values.u32()?);
            flow.set(Field::OutputInterface, values.u32()?);
            for field in [Field::SrcMask, Field::DstMask, Field::Direction, Field::DstTos] {
                flow.set(field, values.u8()?);
            }
            values.u8()?;
            let reason = values.u8()?;
            if reason != 0 {
                flow.set(Field::FlowEndReason, reason);
            }
        }
        5 => {
            let flows = values.u64()?;
            if flows > 0 {
                flow.set(Field::AggregatedFlows, flows);
            }
            flow.set(Field::OutPackets, values.u64()?);
            flow.set(Field::OutBytes, values.u64()?);
        }
        6 => pair(flow, values, Field::SrcVlan, Field::DstVlan)?,
        7 => pair(flow, values, Field::SrcAs, Field::DstAs)?,
        8 => flow.set(Field::BgpNextHop, wide_from_v4(values.u32()?)),
        9 => flow.set(Field::BgpNextHop, values.wide()?),
        10 => flow.set(Field::NextHop, wide_from_v4(values.u32()?)),
        11 => flow.set(Field::NextHop, values.wide()?),
        12 => flow.exporter = Some(exporter(wide_from_v4(values.u32()?))),
        13 => flow.exporter = Some(exporter(values.wide()?)),
        14 => labels(flow, values)?,
        15 => {
            for field in [Field::InSrcMac, Field::OutDstMac, Field::InDstMac, Field::OutSrcMac] {
                flow.set(field, values.u64()?);
            }
        }
        16 => pair(flow, values, Field::NextAs, Field::PreviousAs)?,
        19 => {
            let event_time = values.u64()?;
            let connection = values.u32()?;
            let extended = values.u16()?;
            firewall(flow, values.u8()?, extended, connection);
            began(flow, event_time);
        }
        20 => {
            flow.set(Field::PostNatSrcIp, wide_from_v4(values.u32()?));
            flow.set(Field::PostNatDstIp, wide_from_v4(values.u32()?));
        }
        21 => {
            flow.set(Field::PostNatSrcIp, values.wide()?);
            flow.set(Field::PostNatDstIp, values.wide()?);
        }
        22 => {
            flow.set(Field::PostNatSrcPort, values.u16()?);
            flow.set(Field::PostNatDstPort, values.u16()?);
        }
        25 => {
            let event_time = values.u64()?;
            // An early form has the VRFs in front of the pool.
            if all.len() == 24 {
                pair(flow, values, Field::EgressVrf, Field::IngressVrf)?;
                values.take(8)?;
            }
            values.u32()?;
            flow.set(Field::NatEvent, values.u8()?);
            began(flow, event_time);
        }
        26 => {
            let (start, end) = (values.u16()?, values.u16()?);
            values.u16()?;
            port_block(flow, start, end, values.u16()?);
        }
        27 => {
            // The engine in the first byte, the selector in the others.
            let (engine, selector) = all.split_first()?;
            let selector = selector.iter().fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
            flow.set(Field::ApplicationId, (u64::from(*engine) << 24) | (selector & 0xff_ffff));
        }
        33 => {
            values.u64()?;
            let domain = values.u32()?;
            if domain != 0 {
                flow.set(Field::ObservationDomain, domain);
            }
        }
        36 => pair(flow, values, Field::EgressVrf, Field::IngressVrf)?,
        38 => layer_2(values, flow, addresses)?,
        39 => flow.set(Field::FlowId, values.u64()?),
        42 => {
            values.u16()?;
            let (smallest, largest) = (values.u8()?, values.u8()?);
            if (smallest, largest) != (0, 0) {
                flow.set(Field::MinTtl, smallest);
                flow.set(Field::MaxTtl, largest);
            }
        }
        _ => {}
    }
    Some(())
}

fn pair(flow: &mut Flow, mut values: Bytes<'_>, first: Field, second: Field) -> Option<()> {
    flow.set(first, values.u32()?);
    flow.set(second, values.u32()?);
    Some(())
}

/// What happened when, where no packet has a time.
fn began(flow: &mut Flow, event_time: u64) {
    if flow.record.get(Field::FirstSeen).is_none() {
        time(flow, Field::FirstSeen, event_time);
    }
}

fn generic(mut values: Bytes<'_>, flow: &mut Flow) -> Option<()> {
    time(flow, Field::FirstSeen, values.u64()?);
    time(flow, Field::LastSeen, values.u64()?);
    flow.received = moment(values.u64()?);
    flow.set(Field::InPackets, values.u64()?);
    flow.set(Field::InBytes, values.u64()?);
    flow.set(Field::SrcPort, values.u16()?);
    flow.set(Field::DstPort, values.u16()?);
    flow.set(Field::Protocol, values.u8()?);
    flow.set(Field::TcpFlags, values.u8()?);
    let status = values.u8()?;
    if status != 0 {
        flow.set(Field::ForwardingStatus, status);
    }
    flow.set(Field::SrcTos, values.u8()?);
    Some(())
}

/// VLANs and the like; 0 is none, because the extension is there when any of them is.
fn layer_2(mut values: Bytes<'_>, flow: &mut Flow, addresses: &mut Addresses) -> Option<()> {
    let (arrival, customer, leaving) = (values.u16()?, values.u16()?, values.u16()?);
    // The customer's VLAN on leaving, and two physical interfaces.
    values.take(2 + 4 + 4)?;
    let (segment, ethernet_type) = (values.u64()?, values.u16()?);
    addresses.version = values.u8()?;
    for (field, value) in [
        (Field::SrcVlan, arrival.into()),
        (Field::CustomerVlan, customer.into()),
        (Field::DstVlan, leaving.into()),
        (Field::Layer2SegmentId, segment),
        (Field::EthernetType, ethernet_type.into()),
    ] {
        if value != 0 {
            flow.set(field, value);
        }
    }
    Some(())
}
