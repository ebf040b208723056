//! What the other decoder calls our fields, and what its values mean as ours.

use crate::clock::SECOND;
use crate::flow::fields::{Field as F, Kind};
use crate::flow::value::wide_from_address;
use crate::wire::tests::build::Spec;
use netflow_parser::variable_versions::field_value::DurationValue;
use netflow_parser::variable_versions::ipfix::lookup::{
    IANAIPFixField as Iana, IPFixField, ReverseInformationElement as Reverse,
};
use netflow_parser::{DataNumber, FieldValue, V9Field as V9};
use std::collections::BTreeMap;

/// The rank of uptimes and of moments before the export, which need the header to mean anything.
const UPTIME: u8 = 4;
const BEFORE_EXPORT: u8 = 3;

/// Their two names, our field, and its rank among those that say the same.
type Row = (V9, Iana, F, u8);

/// In v9 they have no names for some of IANA's numbers, and tell those.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    (V9::InBytes, Iana::OctetDeltaCount, F::InBytes, 0),
    (V9::IanaAssigned(231), Iana::InitiatorOctets, F::InBytes, 1),
    (V9::InPermanentBytes, Iana::OctetTotalCount, F::InBytes, 2),
    (V9::InPkts, Iana::PacketDeltaCount, F::InPackets, 0),
    (V9::IanaAssigned(298), Iana::InitiatorPackets, F::InPackets, 1),
    (V9::InPermanentPkts, Iana::PacketTotalCount, F::InPackets, 2),
    (V9::OutBytes, Iana::PostOctetDeltaCount, F::OutBytes, 0),
    (V9::IanaAssigned(232), Iana::ResponderOctets, F::OutBytes, 1),
    (V9::OutPkts, Iana::PostPacketDeltaCount, F::OutPackets, 0),
    (V9::IanaAssigned(299), Iana::ResponderPackets, F::OutPackets, 1),
    (V9::Flows, Iana::DeltaFlowCount, F::AggregatedFlows, 0),
    (V9::Protocol, Iana::ProtocolIdentifier, F::Protocol, 0),
    (V9::SrcTos, Iana::IpClassOfService, F::SrcTos, 0),
    (V9::DstTos, Iana::PostIpClassOfService, F::DstTos, 0),
    (V9::TcpFlags, Iana::TcpControlBits, F::TcpFlags, 0),
    (V9::L4SrcPort, Iana::SourceTransportPort, F::SrcPort, 0),
    (V9::IanaAssigned(180), Iana::UdpSourcePort, F::SrcPort, 1),
    (V9::L4DstPort, Iana::DestinationTransportPort, F::DstPort, 0),
    (V9::IanaAssigned(183), Iana::TcpDestinationPort, F::DstPort, 1),
    (V9::Ipv4SrcAddr, Iana::SourceIpv4address, F::SrcIp, 0),
    (V9::Ipv6SrcAddr, Iana::SourceIpv6address, F::SrcIp, 0),
    (V9::Ipv4DstAddr, Iana::DestinationIpv4address, F::DstIp, 0),
    (V9::Ipv6DstAddr, Iana::DestinationIpv6address, F::DstIp, 0),
    (V9::Ipv4NextHop, Iana::IpNextHopIpv4address, F::NextHop, 0),
    (V9::Ipv6NextHop, Iana::IpNextHopIpv6address, F::NextHop, 0),
    (V9::BgpIpv4NextHop, Iana::BgpNextHopIpv4address, F::BgpNextHop, 0),
    (V9::BgpIpv6NextHop, Iana::BgpNextHopIpv6address, F::BgpNextHop, 0),
    (V9::SrcMask, Iana::SourceIpv4prefixLength, F::SrcMask, 0),
    (V9::Ipv6SrcMask, Iana::SourceIpv6prefixLength, F::SrcMask, 1),
    (V9::DstMask, Iana::DestinationIpv4prefixLength, F::DstMask, 0),
    (V9::Ipv6DstMask, Iana::DestinationIpv6prefixLength, F::DstMask, 1),
    (V9::InputSnmp, Iana::IngressInterface, F::InputInterface, 0),
    (V9::IanaAssigned(252), Iana::IngressPhysicalInterface, F::InputInterface, 1),
    (V9::OutputSnmp, Iana::EgressInterface, F::OutputInterface, 0),
    (V9::IanaAssigned(253), Iana::EgressPhysicalInterface, F::OutputInterface, 1),
    (V9::SrcAs, Iana::BgpSourceAsNumber, F::SrcAs, 0),
    (V9::DstAs, Iana::BgpDestinationAsNumber, F::DstAs, 0),
    (V9::BgpNextAdjacentAsNumber, Iana::BgpNextAdjacentAsNumber, F::NextAs, 0),
    (V9::BgpPrevAdjacentAsNumber, Iana::BgpPrevAdjacentAsNumber, F::PreviousAs, 0),
    (V9::SrcVlan, Iana::VlanId, F::SrcVlan, 0),
    (V9::IanaAssigned(243), Iana::Dot1qVlanId, F::SrcVlan, 1),
    (V9::DstVlan, Iana::PostVlanId, F::DstVlan, 0),
    (V9::IanaAssigned(254), Iana::PostDot1qVlanId, F::DstVlan, 1),
    (V9::InSrcMac, Iana::SourceMacaddress, F::InSrcMac, 0),
    (V9::OutDstMac, Iana::PostDestinationMacaddress, F::OutDstMac, 0),
    (V9::InDstMac, Iana::DestinationMacaddress, F::InDstMac, 0),
    (V9::OutSrcMac, Iana::PostSourceMacaddress, F::OutSrcMac, 0),
    (V9::Direction, Iana::FlowDirection, F::Direction, 0),
    (V9::MinTtl, Iana::MinimumTtl, F::MinTtl, 0),
    (V9::MaxTtl, Iana::MaximumTtl, F::MaxTtl, 0),
    (V9::Ipv6FlowLabel, Iana::FlowLabelIpv6, F::FlowLabel, 0),
    (V9::PostNATSourceIPv4Address, Iana::PostNatsourceIpv4address, F::PostNatSrcIp, 0),
    (V9::PostNATTSourceTransportPort, Iana::PostNaptsourceTransportPort, F::PostNatSrcPort, 0),
    (V9::FirstSwitched, Iana::FlowStartSysUpTime, F::FirstSeen, UPTIME),
    (V9::LastSwitched, Iana::FlowEndSysUpTime, F::LastSeen, UPTIME),
    (V9::FlowStartSeconds, Iana::FlowStartSeconds, F::FirstSeen, 2),
    (V9::FlowEndSeconds, Iana::FlowEndSeconds, F::LastSeen, 2),
    (V9::FlowStartMilliseconds, Iana::FlowStartMilliseconds, F::FirstSeen, 1),
    (V9::FlowEndMilliseconds, Iana::FlowEndMilliseconds, F::LastSeen, 1),
    (V9::FlowStartMicroseconds, Iana::FlowStartMicroseconds, F::FirstSeen, 0),
    (V9::FlowEndMicroseconds, Iana::FlowEndMicroseconds, F::LastSeen, 0),
    (V9::FlowStartNanoseconds, Iana::FlowStartNanoseconds, F::FirstSeen, 0),
    (V9::FlowEndNanoseconds, Iana::FlowEndNanoseconds, F::LastSeen, 0),
    (V9::FlowStartDeltaMicroseconds, Iana::FlowStartDeltaMicroseconds, F::FirstSeen, BEFORE_EXPORT),
    (V9::FlowEndDeltaMicroseconds, Iana::FlowEndDeltaMicroseconds, F::LastSeen, BEFORE_EXPORT),
];

/// The elements of [`ROWS`] with their usual lengths, those oftener that mean something else together, one that nobody knows, and some of the reverse direction.
#[rustfmt::skip]
pub(super) const ELEMENTS: &[Spec] = &[
    (1, 8, 0), (231, 8, 0), (85, 8, 0), (2, 4, 0), (298, 8, 0), (86, 4, 0), (23, 8, 0), (232, 4, 0), (24, 4, 0), (299, 8, 0),
    (3, 4, 0), (4, 1, 0), (4, 1, 0), (4, 1, 0), (5, 1, 0), (55, 1, 0), (6, 1, 0), (6, 2, 0), (7, 2, 0), (180, 2, 0), (11, 2, 0), (183, 2, 0),
    (8, 4, 0), (8, 4, 0), (27, 16, 0), (12, 4, 0), (12, 4, 0), (28, 16, 0), (15, 4, 0), (62, 16, 0), (18, 4, 0), (63, 16, 0),
    (9, 1, 0), (29, 1, 0), (13, 1, 0), (30, 1, 0), (10, 4, 0), (252, 4, 0), (14, 2, 0), (253, 4, 0), (16, 4, 0), (17, 2, 0),
    (128, 4, 0), (129, 4, 0), (58, 2, 0), (243, 2, 0), (59, 2, 0), (254, 2, 0), (56, 6, 0), (57, 6, 0), (80, 6, 0),
    (81, 6, 0), (61, 1, 0), (52, 1, 0), (53, 1, 0), (31, 4, 0), (225, 4, 0), (227, 2, 0), (22, 4, 0), (21, 4, 0),
    (150, 4, 0), (151, 4, 0), (152, 8, 0), (153, 8, 0), (154, 8, 0), (155, 8, 0), (156, 8, 0), (157, 8, 0), (158, 4, 0),
    (159, 4, 0), (4_000, 3, 0), (1, 8, REVERSE), (2, 8, REVERSE),
    (85, 8, REVERSE), (86, 8, REVERSE), (5, 1, REVERSE),
];
const REVERSE: u32 = 29_305;

pub(super) fn v9_name(name: V9) -> Option<(F, u8)> {
    ROWS.iter().find(|row| row.0 == name).map(|row| (row.2, row.3))
}

pub(super) fn ipfix_name(name: IPFixField) -> Option<(F, u8)> {
    match name {
        IPFixField::IANA(name) => ROWS.iter().find(|row| row.1 == name).map(|row| (row.2, row.3)),
        IPFixField::ReverseInformationElement(name) => match name {
            Reverse::ReverseOctetDeltaCount => Some((F::OutBytes, 2)),
            Reverse::ReverseOctetTotalCount => Some((F::OutBytes, 3)),
            Reverse::ReversePacketDeltaCount => Some((F::OutPackets, 2)),
            Reverse::ReversePacketTotalCount => Some((F::OutPackets, 3)),
            Reverse::ReverseIpClassOfService => Some((F::DstTos, 1)),
            _ => None,
        },
        _ => None,
    }
}

/// The values of a record that are of our fields, with their ranks, in order.
pub(super) type Reading = Vec<(F, u8, FieldValue)>;

/// The header's export time in microseconds and the uptime then; in IPFIX only if options told when the exporter began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Base {
    pub(super) export: i64,
    pub(super) uptime: Option<u32>,
}

/// A value as we hold it, and which of its bits they tell.
type Said = (u128, u128);

/// A number of theirs, however wide.
pub(super) fn whole(value: &FieldValue) -> Option<u128> {
    match value {
        FieldValue::DataNumber(DataNumber::U128(number)) => Some(*number),
        other => number(other).map(u128::from),
    }
}

fn number(value: &FieldValue) -> Option<u64> {
    match value {
        // They keep what is no usual width as bytes. A flow's numbers have no more than 8.
        FieldValue::DataNumber(DataNumber::Vec(bytes)) | FieldValue::Vec(bytes) => {
            (1..=8).contains(&bytes.len()).then(|| bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
        }
        FieldValue::DataNumber(DataNumber::U128(_)) => None,
        FieldValue::DataNumber(number) => number.as_u64(),
        FieldValue::ProtocolType(protocol) => Some(u8::from(*protocol).into()),
        FieldValue::TcpControlBits(bits, _) => Some(u16::from(*bits).into()),
        _ => None,
    }
}

fn uptime(value: u32, base: Base) -> Option<i64> {
    let distance = value.wrapping_sub(base.uptime?).cast_signed();
    Some(base.export + 1_000 * i64::from(distance))
}

/// A moment, if it has its full width (RFC 7011, 6.2: moments are not reduced).
fn moment(rank: u8, value: &FieldValue, base: Base) -> Option<i64> {
    match (rank, value) {
        (UPTIME, FieldValue::Duration(DurationValue::Millis { value, width: 4 })) => uptime(*value as u32, base),
        // Of IPFIX.
        (UPTIME, FieldValue::DataNumber(DataNumber::U32(value))) => uptime(*value, base),
        (BEFORE_EXPORT, FieldValue::DataNumber(DataNumber::U32(ago))) => Some(base.export - i64::from(*ago)),
        (2, FieldValue::Duration(DurationValue::Seconds { value, width: 4 })) => Some(*value as i64 * SECOND),
        (1, FieldValue::Duration(DurationValue::Millis { value, width: 8 })) => Some(*value as i64 * 1_000),
        (0, FieldValue::Duration(ntp)) => Some(ntp.as_duration().as_micros() as i64 - 2_208_988_800 * SECOND),
        _ => None,
    }
}

fn said(field: F, rank: u8, value: &FieldValue, base: Base) -> Option<Said> {
    let limit = match field.kind() {
        Kind::U8 => u8::MAX.into(),
        Kind::U16 => u16::MAX.into(),
        Kind::U32 => u32::MAX.into(),
        _ => u64::MAX,
    };
    let whole = |bits| Some((bits, u128::MAX));
    match (field.kind(), value) {
        (Kind::Address, FieldValue::Ip4Addr(v4)) => whole(wide_from_address((*v4).into())),
        (Kind::Address, FieldValue::Ip6Addr(v6)) => whole(wide_from_address((*v6).into())),
        (Kind::Mac, FieldValue::MacAddr(mac)) => whole(mac.iter().fold(0, |bits, &byte| bits << 8 | u128::from(byte))),
        (Kind::Address | Kind::Mac, _) => None,
        (Kind::Time, _) => moment(rank, value, base).and_then(|moment| whole(u128::from(moment as u64))),
        // They forget the upper bits, of which some are the data offset (RFC 7125, 3).
        (_, FieldValue::TcpControlBits(bits, 2)) => Some((u16::from(*bits).into(), 0x1ff)),
        // What is too large for a field becomes its largest.
        _ => whole(number(value)?.min(limit).into()),
    }
}

/// What is held of several candidates: the first of the best. Of two addresses the IPv6 one only if the other is zero.
fn best(candidates: &[&(F, u8, FieldValue)], base: Base) -> Option<Said> {
    let wide = |(.., value): &(F, u8, FieldValue)| matches!(value, FieldValue::Ip6Addr(_));
    let pick = |is_wide: bool| {
        let of_kind = candidates.iter().filter(|candidate| wide(candidate) == is_wide);
        let usable = of_kind.filter_map(|(field, rank, value)| Some((rank, said(*field, *rank, value, base)?)));
        usable.min_by_key(|(rank, _)| **rank).map(|(_, said)| said)
    };
    match (pick(false), pick(true)) {
        (Some((v4, _)), Some((v6, mask))) if v6 != 0 && v4 == wide_from_address([0; 4].into()) => Some((v6, mask)),
        (narrow, wide) => narrow.or(wide),
    }
}

/// What a record says about flows, by field.
pub(super) fn expected(reading: &Reading, base: Base) -> BTreeMap<F, Said> {
    let layers = [(F::Protocol, F::InnerProtocol), (F::SrcIp, F::InnerSrcIp), (F::DstIp, F::InnerDstIp)];
    let of = |field: F| reading.iter().filter(move |(other, ..)| *other == field);
    // With two protocols a record is about a packet inside another, whose fields come first (RFC 7011, 8).
    let layered = of(F::Protocol).count() > 1;
    let mut out = BTreeMap::new();
    for field in F::ALL {
        let inner = layers.into_iter().find(|(outer, _)| layered && *outer == field).map(|(_, inner)| inner);
        let Some(inner) = inner else {
            out.extend(best(&of(field).collect::<Vec<_>>(), base).map(|said| (field, said)));
            continue;
        };
        let usable: Vec<_> = of(field).filter(|(_, rank, value)| said(field, *rank, value, base).is_some()).collect();
        let (first, rest) = usable.split_at(usable.len().min(1));
        out.extend(best(first, base).map(|said| (field, said)));
        out.extend(best(rest, base).map(|said| (inner, said)));
    }
    out
}
