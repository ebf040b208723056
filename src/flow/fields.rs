//! The field catalogue: every field a flow can have, and everything the rest of the house derives from it.
//!
//! A new field is one row in [`CATALOGUE`], one variant of [`Field`] and a migration. Decoder tables, filter words,
//! statistics, CSV heads, OpenAPI enums and documentation come from here. The catalogue knows neither information
//! elements (`wire::elements`) nor SQL statements (`store`).

use Kind::{Address, Mac, Time, U8, U16, U32, U64};

/// How a field's values are held and shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Unsigned, 8 bits.
    U8,
    /// Unsigned, 16 bits.
    U16,
    /// Unsigned, 32 bits.
    U32,
    /// Unsigned, 64 bits.
    U64,
    /// A moment, microseconds since 1970 UTC.
    Time,
    /// An IPv4 or IPv6 address. An IPv4-mapped IPv6 address is the IPv4 address.
    Address,
    /// An IEEE 802 address in the lower 48 bits of 64.
    Mac,
}

/// One row of the catalogue.
#[derive(Debug)]
pub struct FieldInfo {
    /// Which field the row describes.
    pub field: Field,
    /// The name in the API, in SQL, in CSV heads and in configuration.
    pub name: &'static str,
    /// nfdump's words for it in `-s` and `-A`, accepted wherever a name is.
    pub nfdump: &'static [&'static str],
    /// How values are held.
    pub kind: Kind,
    /// The type of the column in the SQL table `flows`.
    pub sql_type: &'static str,
    /// One sentence for the documentation, with the unit.
    pub description: &'static str,
}

macro_rules! catalogue {
    ($($variant:ident $name:literal [$($word:literal)*] $kind:ident $sql:literal $description:literal;)+) => {
        /// A field of a flow. The order is the order of columns everywhere.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Field { $(#[doc = $description] $variant),+ }

        /// The catalogue, in the order of [`Field`].
        pub static CATALOGUE: &[FieldInfo] = &[$(FieldInfo {
            field: Field::$variant, name: $name, nfdump: &[$($word),*], kind: $kind, sql_type: $sql,
            description: $description,
        }),+];

        /// How many fields there are.
        pub const FIELD_COUNT: usize = [$(Field::$variant),+].len();

        impl Field {
            /// All fields, in order.
            pub const ALL: [Field; FIELD_COUNT] = [$(Field::$variant),+];

            /// How the field's values are held.
            pub const fn kind(self) -> Kind {
                match self { $(Field::$variant => $kind),+ }
            }

            /// The field's name in the API, in SQL and in CSV heads.
            pub const fn name(self) -> &'static str {
                match self { $(Field::$variant => $name),+ }
            }
        }
    };
}

catalogue! {
    Received "received" [] Time "timestamptz" "When the collector received the datagram that carried the flow, by the collector's clock.";
    ExporterId "exporter_id" [] U32 "bigint" "The exporter that sent the flow, as listed by /api/v1/exporters.";
    ObservationDomain "observation_domain" ["odid"] U32 "bigint" "The exporter's observation domain (NetFlow v9: source id; v5: engine type times 256 plus engine id).";
    FirstSeen "first_seen" [] Time "timestamptz" "When the flow's first packet was seen, by the exporter's clock.";
    LastSeen "last_seen" [] Time "timestamptz" "When the flow's last packet was seen, by the exporter's clock.";
    SrcIp "src_ip" ["srcip"] Address "inet" "Source address.";
    DstIp "dst_ip" ["dstip"] Address "inet" "Destination address.";
    SrcPort "src_port" ["srcport"] U16 "integer" "Source port of TCP, UDP or SCTP.";
    DstPort "dst_port" ["dstport"] U16 "integer" "Destination port of TCP, UDP or SCTP; for ICMP often type times 256 plus code.";
    Protocol "protocol" ["proto"] U8 "smallint" "IANA protocol number: 1 ICMP, 6 TCP, 17 UDP.";
    InBytes "in_bytes" ["ibyte" "ibytes"] U64 "bigint" "Bytes of layer 3 in the flow's direction.";
    InPackets "in_packets" ["ipkg" "ipackets"] U64 "bigint" "Packets in the flow's direction.";
    OutBytes "out_bytes" ["obyte" "obytes"] U64 "bigint" "Bytes against the flow's direction, or leaving the exporter, where it counts them apart.";
    OutPackets "out_packets" ["opkg" "opackets"] U64 "bigint" "Packets against the flow's direction, or leaving the exporter, where it counts them apart.";
    AggregatedFlows "aggregated_flows" [] U64 "bigint" "How many flows the exporter merged into this one; absent means 1.";
    TcpFlags "tcp_flags" ["flags"] U16 "integer" "All TCP flags seen, as bits: FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128.";
    SrcTos "src_tos" ["tos" "srctos"] U8 "smallint" "Type of service (IPv4) or traffic class (IPv6) on arrival.";
    DstTos "dst_tos" ["dsttos"] U8 "smallint" "Type of service (IPv4) or traffic class (IPv6) on leaving.";
    InputInterface "input_interface" ["inif"] U32 "bigint" "SNMP index of the interface the packets arrived on.";
    OutputInterface "output_interface" ["outif"] U32 "bigint" "SNMP index of the interface the packets left by; 0 often means dropped or local.";
    SrcAs "src_as" ["srcas" "srcasn"] U32 "bigint" "Autonomous system of the source, origin or peer as the exporter is configured.";
    DstAs "dst_as" ["dstas" "dstasn"] U32 "bigint" "Autonomous system of the destination, origin or peer as the exporter is configured.";
    SrcMask "src_mask" ["srcmask"] U8 "smallint" "Length of the route's prefix that matched the source address.";
    DstMask "dst_mask" ["dstmask"] U8 "smallint" "Length of the route's prefix that matched the destination address.";
    NextHop "next_hop" ["nhip"] Address "inet" "The router the packets were forwarded to.";
    BgpNextHop "bgp_next_hop" ["nhbip"] Address "inet" "The next hop in BGP's view.";
    SrcVlan "src_vlan" ["srcvlan"] U16 "integer" "VLAN on arrival.";
    DstVlan "dst_vlan" ["dstvlan"] U16 "integer" "VLAN on leaving.";
    InSrcMac "in_src_mac" ["insrcmac"] Mac "macaddr" "Source MAC address on arrival.";
    OutDstMac "out_dst_mac" ["outdstmac"] Mac "macaddr" "Destination MAC address on leaving.";
    InDstMac "in_dst_mac" ["indstmac"] Mac "macaddr" "Destination MAC address on arrival.";
    OutSrcMac "out_src_mac" ["outsrcmac"] Mac "macaddr" "Source MAC address on leaving.";
    IcmpType "icmp_type" [] U8 "smallint" "ICMP type, where the exporter sends it apart from the ports.";
    IcmpCode "icmp_code" [] U8 "smallint" "ICMP code, where the exporter sends it apart from the ports.";
    Direction "direction" ["dir"] U8 "smallint" "Where the exporter observed the flow: 0 ingress, 1 egress.";
    ForwardingStatus "forwarding_status" ["fwdstat"] U8 "smallint" "IANA forwarding status: 64 to 127 forwarded, 128 to 191 dropped, 192 to 255 consumed.";
    SamplingInterval "sampling_interval" [] U32 "bigint" "Out of how many packets the exporter looked at one; absent when it looked at all, or does not say.";
    PreviousAs "previous_as" ["prevas"] U32 "bigint" "The autonomous system the packets came from, next to the exporter's.";
    NextAs "next_as" ["nextas"] U32 "bigint" "The autonomous system the packets went to, next to the exporter's.";
    MplsLabel1 "mpls_label_1" ["mpls1"] U32 "bigint" "The topmost MPLS label.";
    MplsLabel2 "mpls_label_2" ["mpls2"] U32 "bigint" "The second MPLS label.";
    MplsLabel3 "mpls_label_3" ["mpls3"] U32 "bigint" "The third MPLS label.";
    EthernetType "ethernet_type" ["ethertype"] U16 "integer" "IEEE 802 EtherType: 2048 IPv4, 34525 IPv6, 2054 ARP.";
    CustomerVlan "customer_vlan" [] U16 "integer" "The customer's VLAN inside the provider's (IEEE 802.1ad).";
    Layer2SegmentId "layer2_segment_id" [] U64 "bigint" "The virtual network of layer 2: VXLAN or NVGRE identifier, in the lower 24 bits.";
    FlowLabel "flow_label" [] U32 "bigint" "IPv6 flow label.";
    MinTtl "min_ttl" ["minttl"] U8 "smallint" "The smallest time to live or hop limit seen.";
    MaxTtl "max_ttl" ["maxttl"] U8 "smallint" "The largest time to live or hop limit seen.";
    InnerSrcIp "inner_src_ip" [] Address "inet" "Source address inside a tunnel.";
    InnerDstIp "inner_dst_ip" [] Address "inet" "Destination address inside a tunnel.";
    InnerProtocol "inner_protocol" [] U8 "smallint" "IANA protocol number inside a tunnel.";
    IngressVrf "ingress_vrf" ["ivrf"] U32 "bigint" "The VRF the packets arrived in, as listed by /api/v1/exporters/{id}.";
    EgressVrf "egress_vrf" ["evrf"] U32 "bigint" "The VRF the packets left by, as listed by /api/v1/exporters/{id}.";
    ApplicationId "application_id" ["nbar"] U64 "bigint" "The application as the exporter classified it: classification engine times 2^24 plus selector, as listed by /api/v1/exporters/{id}.";
    FlowId "flow_id" [] U64 "bigint" "The exporter's number of the flow or connection.";
    FlowEndReason "flow_end_reason" [] U8 "smallint" "Why the flow ended: 1 idle, 2 active timeout, 3 end of flow, 4 forced, 5 lack of resources.";
    FirewallEvent "firewall_event" ["event"] U8 "smallint" "What a firewall did: 1 created, 2 deleted, 3 denied, 4 alerted, 5 updated. Created and updated ones count as no flow, so that a connection counts once.";
    FirewallExtendedEvent "firewall_extended_event" ["xevent"] U16 "integer" "Why a firewall denied or ended the flow, by the vendor's codes.";
    NatEvent "nat_event" ["nat"] U8 "smallint" "IANA NAT event: 1 and 4 created, 2 and 5 deleted, 16 and 17 port block.";
    PostNatSrcIp "post_nat_src_ip" ["natsrcip"] Address "inet" "Source address after translation.";
    PostNatDstIp "post_nat_dst_ip" ["natdstip"] Address "inet" "Destination address after translation.";
    PostNatSrcPort "post_nat_src_port" ["natsrcport"] U16 "integer" "Source port after translation.";
    PostNatDstPort "post_nat_dst_port" ["natdstport"] U16 "integer" "Destination port after translation.";
    PortBlockStart "port_block_start" [] U16 "integer" "The first port of a block given to a subscriber.";
    PortBlockEnd "port_block_end" [] U16 "integer" "The last port of a block given to a subscriber.";
}

impl Field {
    /// The field's position in the catalogue and in every array by field.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The field's row of the catalogue.
    pub fn info(self) -> &'static FieldInfo {
        // The macro writes enum and table from the same rows, so the index is always within the table.
        #[expect(clippy::indexing_slicing, reason = "one macro writes both the enum and the table")]
        &CATALOGUE[self.index()]
    }

    /// The field called `name`, by its own name or one of nfdump's words, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        CATALOGUE
            .iter()
            .find(|row| {
                row.name.eq_ignore_ascii_case(name) || row.nfdump.iter().any(|word| word.eq_ignore_ascii_case(name))
            })
            .map(|row| row.field)
    }
}

/// What answers are grouped by: one field, or a pair of which a flow counts once for each side, as nfdump's `ip` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// One field.
    One(Field),
    /// Either side of a pair; shares can add up to more than the whole.
    Either {
        /// The name of the pair.
        name: &'static str,
        /// The side the flow comes from.
        source: Field,
        /// The side the flow goes to.
        destination: Field,
    },
}

/// The pairs that can be grouped by: name, nfdump's word, source side, destination side.
pub static PAIRS: &[(&str, &str, Field, Field)] = &[
    ("ip", "ip", Field::SrcIp, Field::DstIp),
    ("port", "port", Field::SrcPort, Field::DstPort),
    ("as", "asn", Field::SrcAs, Field::DstAs),
    ("interface", "if", Field::InputInterface, Field::OutputInterface),
    ("vlan", "vlan", Field::SrcVlan, Field::DstVlan),
    ("mask", "mask", Field::SrcMask, Field::DstMask),
    ("post_nat_ip", "natip", Field::PostNatSrcIp, Field::PostNatDstIp),
    ("post_nat_port", "natport", Field::PostNatSrcPort, Field::PostNatDstPort),
];

impl Dimension {
    /// The dimension called `name`, by its own name or nfdump's, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(field) = Field::parse(name) {
            return Some(Self::One(field));
        }
        PAIRS
            .iter()
            .find(|(own, word, ..)| own.eq_ignore_ascii_case(name) || word.eq_ignore_ascii_case(name))
            .map(|&(name, _, source, destination)| Self::Either { name, source, destination })
    }

    /// The name in answers and CSV heads.
    pub const fn name(self) -> &'static str {
        match self {
            Self::One(field) => field.name(),
            Self::Either { name, .. } => name,
        }
    }

    /// How the dimension's values are held.
    pub const fn kind(self) -> Kind {
        match self {
            Self::One(field) | Self::Either { source: field, .. } => field.kind(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn the_table_follows_the_enum_and_every_name_means_one_thing() {
        let mut names = HashSet::new();
        for (index, (row, field)) in CATALOGUE.iter().zip(Field::ALL).enumerate() {
            assert_eq!((row.field, field.index()), (field, index));
            for name in row.nfdump.iter().chain([&row.name]) {
                assert!(names.insert(*name), "{name} stands twice");
                assert_eq!(Field::parse(&name.to_uppercase()), Some(field));
            }
            assert!(row.description.ends_with('.'), "{}", row.name);
        }
        for (name, word, source, destination) in PAIRS {
            assert!(!names.contains(name) && !names.contains(word), "{name} is a field already");
            assert_eq!(source.kind(), destination.kind());
            assert_eq!(Dimension::parse(word).map(Dimension::name), Some(*name));
        }
        assert_eq!(Dimension::parse("dstip"), Some(Dimension::One(Field::DstIp)));
        assert_eq!(Dimension::parse("nonsense"), None);
    }
}
