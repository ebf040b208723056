//! Which field an information element feeds, and how.
//!
//! Identifiers are IANA's, which NetFlow v9 shares; in v9 vendors also use numbers from 32,768 on, which IPFIX writes with
//! their enterprise number. Where several elements feed one field the lowest rank wins; within a
//! template the first of equals wins (RFC 7011, 8: a repeated element must be handled). This table knows no bytes; the
//! plan turns it into loops.

use crate::flow::fields::Field;
use Field as F;
use Target::{
    AboutSection, Application, Dscp, Duration, Event, First, Icmp, Label, Last, Mac, Nothing, Packet, Sampler,
    Sampling, Segment, SystemInit, Ttl, Unsigned, V4, V6,
};

/// How a moment is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Milliseconds since the exporter started, modulo 2^32.
    Uptime,
    /// Seconds since 1970.
    Seconds,
    /// Milliseconds since 1970.
    Milliseconds,
    /// The 64-bit NTP format (RFC 7011, 6.1.9 and 6.1.10), for microseconds and nanoseconds alike.
    Ntp,
    /// Microseconds before the export time of the header.
    MicrosecondsBeforeExport,
}

/// What an element feeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// A number of 1 to 8 bytes (reduced-size encoding, RFC 7011, 6.2).
    Unsigned(Field),
    /// An address of 4 bytes.
    V4(Field),
    /// An address of 16 bytes.
    V6(Field),
    /// An address of 6 bytes.
    Mac(Field),
    /// An application of any length: a byte for the classification engine, then a selector (RFC 6759, 4).
    Application,
    /// ICMP type and code, a byte each.
    Icmp,
    /// A time to live or hop limit, the same for all packets: the smallest and the largest.
    Ttl,
    /// The upper six bits of a type of service, alone in a byte.
    Dscp,
    /// The first 20 bits of 3 or more: an MPLS label with what stands behind it.
    Label(Field),
    /// The last 24 bits of 64: an identifier behind the kind of identifier (IANA element 351).
    Segment(Field),
    /// When something happened that has neither start nor end.
    Event(Moment),
    /// Out of how many packets this record's were one, as part of this calculation.
    Sampling(Part),
    /// The number of the sampler that chose this record's packets; options tell its interval.
    Sampler,
    /// The first bytes of a packet (PSAMP, RFC 5477, 8.5), of which all is taken that no element tells.
    Packet(Section),
    /// How such a section is to be read.
    AboutSection(About),
    /// It says nothing that other fields do not say: padding, the IP version.
    Nothing,
    /// The flow's start.
    First(Moment),
    /// The flow's end.
    Last(Moment),
    /// The flow's duration in units of so many microseconds, used when start or end is missing.
    Duration(i64),
    /// When the exporter started, in milliseconds since 1970: what [`Moment::Uptime`] counts from in IPFIX.
    SystemInit,
}

/// What a number says about sampling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// One out of so many.
    Interval,
    /// So many are taken ...
    Taken,
    /// ... and then so many are left out.
    Skipped,
}

/// What the first bytes of a packet begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Section {
    /// A frame of the data link, Ethernet unless another element says otherwise.
    Frame,
    /// An IP header.
    Ip,
}

/// What a number says about a section of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    /// The whole frame in bytes, without its checksum.
    FrameLength,
    /// What the frame is: 1 Ethernet, 2 IEEE 802.11 (RFC 7133, 3.1).
    FrameType,
    /// How many bytes before the section are left out.
    Offset,
    /// How many bytes of the section are the packet's; zeros fill up the rest.
    Exported,
}

impl Target {
    /// The field of a flow that is fed.
    pub(super) const fn field(self) -> Option<Field> {
        match self {
            Unsigned(field) | V4(field) | V6(field) | Mac(field) | Label(field) | Segment(field) => Some(field),
            Application => Some(F::ApplicationId),
            Icmp => Some(F::IcmpType),
            Ttl => Some(F::MinTtl),
            Dscp => Some(F::SrcTos),
            First(_) => Some(F::FirstSeen),
            Last(_) | Duration(_) | Event(_) => Some(F::LastSeen),
            Sampling(_) | Sampler => Some(F::SamplingInterval),
            SystemInit | Nothing | Packet(_) | AboutSection(_) => None,
        }
    }
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Element {
    id: u16,
    /// What the element feeds.
    pub(super) target: Target,
    /// Among elements that feed the same field the lowest rank wins.
    pub(super) rank: u8,
}

/// The enterprise whose elements are IANA's in the reverse direction (RFC 5103, 6.1).
const REVERSE: u32 = 29_305;
/// Cisco.
const CISCO: u32 = 9;
/// Nokia, formerly Alcatel-Lucent.
const NOKIA: u32 = 637;
/// CERT: YAF.
const CERT: u32 = 6_871;
/// VMware: NSX and the distributed switch tell of the traffic inside an overlay.
const VMWARE: u32 = 6_876;
/// nProbe.
const NTOP: u32 = 35_632;
/// Cisco SD-WAN, formerly Viptela.
const VIPTELA: u32 = 41_916;

const fn row(id: u16, target: Target, rank: u8) -> Element {
    Element { id, target, rank }
}

/// All known elements, by identifier.
static ELEMENTS: &[Element] = &[
    row(1, Unsigned(F::InBytes), 0),
    row(2, Unsigned(F::InPackets), 0),
    row(3, Unsigned(F::AggregatedFlows), 0),
    row(4, Unsigned(F::Protocol), 0),
    row(5, Unsigned(F::SrcTos), 0),
    row(6, Unsigned(F::TcpFlags), 0),
    row(7, Unsigned(F::SrcPort), 0),
    row(8, V4(F::SrcIp), 0),
    row(9, Unsigned(F::SrcMask), 0),
    row(10, Unsigned(F::InputInterface), 0),
    row(11, Unsigned(F::DstPort), 0),
    row(12, V4(F::DstIp), 0),
    row(13, Unsigned(F::DstMask), 0),
    row(14, Unsigned(F::OutputInterface), 0),
    row(15, V4(F::NextHop), 0),
    row(16, Unsigned(F::SrcAs), 0),
    row(17, Unsigned(F::DstAs), 0),
    row(18, V4(F::BgpNextHop), 0),
    row(21, Last(Moment::Uptime), 4),
    row(22, First(Moment::Uptime), 4),
    row(23, Unsigned(F::OutBytes), 0),
    row(24, Unsigned(F::OutPackets), 0),
    row(27, V6(F::SrcIp), 0),
    row(28, V6(F::DstIp), 0),
    row(29, Unsigned(F::SrcMask), 1),
    row(30, Unsigned(F::DstMask), 1),
    row(31, Unsigned(F::FlowLabel), 0),
    row(32, Icmp, 2),
    row(34, Sampling(Part::Interval), 1),
    row(48, Sampler, 1),
    row(50, Sampling(Part::Interval), 0),
    row(52, Unsigned(F::MinTtl), 0),
    row(53, Unsigned(F::MaxTtl), 0),
    row(55, Unsigned(F::DstTos), 0),
    row(56, Mac(F::InSrcMac), 0),
    row(57, Mac(F::OutDstMac), 0),
    row(58, Unsigned(F::SrcVlan), 0),
    row(59, Unsigned(F::DstVlan), 0),
    row(60, Nothing, 0),
    row(61, Unsigned(F::Direction), 0),
    row(62, V6(F::NextHop), 0),
    row(63, V6(F::BgpNextHop), 0),
    row(70, Label(F::MplsLabel1), 0),
    row(71, Label(F::MplsLabel2), 0),
    row(72, Label(F::MplsLabel3), 0),
    row(80, Mac(F::InDstMac), 0),
    row(81, Mac(F::OutSrcMac), 0),
    row(85, Unsigned(F::InBytes), 3),
    row(86, Unsigned(F::InPackets), 2),
    row(89, Unsigned(F::ForwardingStatus), 0),
    row(95, Application, 0),
    // NetFlow v9's own names for a section of a frame, replaced by 409, 410 and 315.
    row(102, AboutSection(About::Offset), 1),
    row(103, AboutSection(About::Exported), 1),
    row(104, Packet(Section::Frame), 1),
    row(128, Unsigned(F::NextAs), 0),
    row(129, Unsigned(F::PreviousAs), 0),
    row(136, Unsigned(F::FlowEndReason), 0),
    row(139, Icmp, 3),
    row(148, Unsigned(F::FlowId), 0),
    row(150, First(Moment::Seconds), 2),
    row(151, Last(Moment::Seconds), 2),
    row(152, First(Moment::Milliseconds), 1),
    row(153, Last(Moment::Milliseconds), 1),
    row(154, First(Moment::Ntp), 0),
    row(155, Last(Moment::Ntp), 0),
    row(156, First(Moment::Ntp), 0),
    row(157, Last(Moment::Ntp), 0),
    row(158, First(Moment::MicrosecondsBeforeExport), 3),
    row(159, Last(Moment::MicrosecondsBeforeExport), 3),
    row(160, SystemInit, 0),
    row(161, Duration(1_000), 1),
    row(162, Duration(1), 0),
    row(176, Unsigned(F::IcmpType), 0),
    row(177, Unsigned(F::IcmpCode), 0),
    row(178, Unsigned(F::IcmpType), 1),
    row(179, Unsigned(F::IcmpCode), 1),
    row(180, Unsigned(F::SrcPort), 1),
    row(181, Unsigned(F::DstPort), 1),
    row(182, Unsigned(F::SrcPort), 1),
    row(183, Unsigned(F::DstPort), 1),
    row(192, Ttl, 1),
    row(195, Dscp, 1),
    row(210, Nothing, 0),
    row(225, V4(F::PostNatSrcIp), 0),
    row(226, V4(F::PostNatDstIp), 0),
    row(227, Unsigned(F::PostNatSrcPort), 0),
    row(228, Unsigned(F::PostNatDstPort), 0),
    row(230, Unsigned(F::NatEvent), 0),
    row(231, Unsigned(F::InBytes), 2),
    row(232, Unsigned(F::OutBytes), 2),
    row(233, Unsigned(F::FirewallEvent), 0),
    row(234, Unsigned(F::IngressVrf), 0),
    row(235, Unsigned(F::EgressVrf), 0),
    row(243, Unsigned(F::SrcVlan), 1),
    row(245, Unsigned(F::CustomerVlan), 0),
    row(252, Unsigned(F::InputInterface), 1),
    row(253, Unsigned(F::OutputInterface), 1),
    row(254, Unsigned(F::DstVlan), 1),
    row(256, Unsigned(F::EthernetType), 0),
    row(281, V6(F::PostNatSrcIp), 0),
    row(282, V6(F::PostNatDstIp), 0),
    row(298, Unsigned(F::InPackets), 1),
    row(299, Unsigned(F::OutPackets), 1),
    row(302, Sampler, 0),
    row(305, Sampling(Part::Taken), 0),
    row(306, Sampling(Part::Skipped), 0),
    row(312, AboutSection(About::FrameLength), 0),
    row(313, Packet(Section::Ip), 2),
    row(315, Packet(Section::Frame), 0),
    row(322, Event(Moment::Seconds), 3),
    row(323, Event(Moment::Milliseconds), 2),
    row(324, Event(Moment::Ntp), 1),
    row(325, Event(Moment::Ntp), 0),
    row(351, Segment(F::Layer2SegmentId), 0),
    row(361, Unsigned(F::PortBlockStart), 0),
    row(362, Unsigned(F::PortBlockEnd), 0),
    row(408, AboutSection(About::FrameType), 0),
    row(409, AboutSection(About::Offset), 0),
    row(410, AboutSection(About::Exported), 0),
    // Cisco ASA and its older names for what IANA numbers above (Cisco ASA NetFlow implementation guide).
    row(33_002, Unsigned(F::FirewallExtendedEvent), 0),
    row(40_001, V4(F::PostNatSrcIp), 1),
    row(40_002, V4(F::PostNatDstIp), 1),
    row(40_003, Unsigned(F::PostNatSrcPort), 1),
    row(40_004, Unsigned(F::PostNatDstPort), 1),
    row(40_005, Unsigned(F::FirewallEvent), 1),
    // nProbe's application number as v9 writes it.
    row(57_590, Unsigned(F::ApplicationId), 1),
];

/// What element `id` of `enterprise` (0 is IANA) feeds, if it is known.
pub(super) fn find(enterprise: u32, id: u16) -> Option<Element> {
    match (enterprise, id) {
        (0, _) => {
            let position = ELEMENTS.binary_search_by_key(&id, |element| element.id).ok()?;
            ELEMENTS.get(position).copied()
        }
        (REVERSE, 1) => Some(row(id, Unsigned(F::OutBytes), 3)),
        (REVERSE, 2) => Some(row(id, Unsigned(F::OutPackets), 2)),
        (REVERSE, 5) => Some(row(id, Unsigned(F::DstTos), 1)),
        (REVERSE, 85) => Some(row(id, Unsigned(F::OutBytes), 4)),
        (REVERSE, 86) => Some(row(id, Unsigned(F::OutPackets), 3)),
        // Bytes of layer 3 of server and client, beside which 231 and 232 are those of layer 4.
        (CISCO, 8_337) => Some(row(id, Unsigned(F::OutBytes), 1)),
        (CISCO, 8_338) => Some(row(id, Unsigned(F::InBytes), 1)),
        // A connection's client and server, where Application Visibility tells them instead of source and destination; what
        // the initiator sent is in the flow's direction, too.
        (CISCO, 12_236) => Some(row(id, V4(F::SrcIp), 1)),
        (CISCO, 12_237) => Some(row(id, V4(F::DstIp), 1)),
        (CISCO, 12_238) => Some(row(id, V6(F::SrcIp), 1)),
        (CISCO, 12_239) => Some(row(id, V6(F::DstIp), 1)),
        (CISCO, 12_240) => Some(row(id, Unsigned(F::SrcPort), 2)),
        (CISCO, 12_241) => Some(row(id, Unsigned(F::DstPort), 2)),
        // The services inside and outside of NAT: on these routers a VRF is a service.
        (NOKIA, 91) => Some(row(id, Unsigned(F::IngressVrf), 1)),
        (NOKIA, 92) => Some(row(id, Unsigned(F::EgressVrf), 1)),
        (CERT, 33) => Some(row(id, Unsigned(F::ApplicationId), 1)),
        (VMWARE, 880) => Some(row(id, Unsigned(F::InnerProtocol), 0)),
        (VMWARE, 881) => Some(row(id, V4(F::InnerSrcIp), 0)),
        (VMWARE, 882) => Some(row(id, V4(F::InnerDstIp), 0)),
        (VMWARE, 883) => Some(row(id, V6(F::InnerSrcIp), 0)),
        (VMWARE, 884) => Some(row(id, V6(F::InnerDstIp), 0)),
        (NTOP, 118) => Some(row(id, Unsigned(F::ApplicationId), 1)),
        (VIPTELA, 4_321) => Some(row(id, Unsigned(F::IngressVrf), 1)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_ascends_so_that_every_row_is_found() {
        assert!(ELEMENTS.is_sorted_by(|a, b| a.id < b.id));
        for element in ELEMENTS {
            assert_eq!(find(0, element.id).map(|found| found.target), Some(element.target));
        }
        assert_eq!(find(REVERSE, 1).map(|found| found.target), Some(Unsigned(F::OutBytes)));
        assert!(find(CISCO, 1).is_none() && find(0, 9_999).is_none());
    }
}
