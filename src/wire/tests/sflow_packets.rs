//! Sampled packets of every kind, whole and cut at every byte.

use super::Bench;
use super::build::be;
use super::build_sflow::{datagram, ethernet, flow, ipv4, ipv6, sampled, tcp, udp, words};
use crate::flow::fields::Field;

/// What one sampled packet becomes, without what the sample says.
fn decoded(protocol: u32, frame: usize, bytes: &[u8]) -> Vec<String> {
    let mut bench = Bench::new();
    let outcome = bench.decode(&datagram(0, &[flow(&[sampled(protocol, frame as u32, bytes)])]));
    assert_eq!((outcome.records, outcome.counts.iter().count()), (1, 0));
    let told = [
        Field::Received,
        Field::ExporterId,
        Field::ObservationDomain,
        Field::FirstSeen,
        Field::LastSeen,
        Field::InPackets,
        Field::InputInterface,
        Field::OutputInterface,
        Field::SamplingInterval,
    ];
    let fields = bench.all(0).into_iter().filter(|(field, _)| !told.contains(field));
    fields.map(|(field, text)| format!("{} {text}", field.name())).collect()
}

/// What an Ethernet frame becomes, without its addresses.
fn of_frame(kind: &[u8], payload: &[u8]) -> String {
    let frame = ethernet(kind, payload);
    let fields = decoded(1, frame.len() + 4, &frame);
    fields.into_iter().filter(|text| !text.contains("_mac ")).collect::<Vec<_>>().join(", ")
}

const V4: &[u8] = &[8, 0];
const V6: &[u8] = &[0x86, 0xdd];

/// What [`ipv4`] becomes beside its protocol, ports and length.
fn over_ipv4(before: &str, bytes: usize, middle: &str, kind: &str, after: &str) -> String {
    let parts = [
        "src_ip 10.0.0.1, dst_ip 10.0.0.2",
        before,
        &format!("in_bytes {bytes}"),
        middle,
        "src_tos 184",
        kind,
        "min_ttl 63, max_ttl 63",
        after,
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

const TCP: &str = "src_port 443, dst_port 50000, protocol 6";

#[test]
fn layer_2_leads_to_the_packet() {
    let packet = ipv4(6, &tcp());
    let plain = over_ipv4(TCP, 40, "tcp_flags 18", "ethernet_type 2048", "");
    assert_eq!(of_frame(V4, &packet), plain);
    let tagged = |tags: &str| over_ipv4(TCP, 40, "tcp_flags 18", tags, "");
    assert_eq!(
        of_frame(&[0x81, 0, 0xe0, 100, 8, 0], &packet),
        tagged("src_vlan 100, ethernet_type 2048"),
        "the priority is no part of the number"
    );
    for outer in [[0x88, 0xa8], [0x91, 0], [0x92, 0], [0x81, 0]] {
        assert_eq!(
            of_frame(&[&outer[..], &[0, 7, 0x81, 0, 0, 8, 8, 0]].concat(), &packet),
            tagged("src_vlan 7, ethernet_type 2048, customer_vlan 8")
        );
    }
    assert_eq!(of_frame(&[0x81, 0, 0xe0, 0, 8, 0], &packet), plain, "VLAN 0 is a priority only");
    let labels = words(&[1_000 << 12 | 1, 1_001 << 12 | 1, 1_002 << 12 | 1, 1_003 << 12 | 0x1ff]);
    let mpls = "mpls_label_1 1000, mpls_label_2 1001, mpls_label_3 1002, ethernet_type 34887";
    assert_eq!(of_frame(&[0x88, 0x47], &[labels.clone(), packet.clone()].concat()), tagged(mpls));
    let raw = decoded(13, 200, &[labels, packet.clone()].concat()).join(", ");
    assert_eq!(raw, tagged("mpls_label_1 1000, mpls_label_2 1001, mpls_label_3 1002"));
    assert_eq!(decoded(11, 200, &packet).join(", "), tagged(""));
    assert_eq!(
        decoded(12, 200, &ipv6(58, &[128, 0])).join(", "),
        "src_ip 2001:db8::1, dst_ip 2001:db8::2, protocol 58, in_bytes 42, src_tos 184, icmp_type 128, icmp_code 0, \
         flow_label 74565, min_ttl 62, max_ttl 62"
    );
}

#[test]
fn what_is_no_ip_packet_is_a_flow_of_what_is_known() {
    assert_eq!(of_frame(&[8, 6], &[0; 28]), "in_bytes 28, ethernet_type 2054");
    assert_eq!(of_frame(&[0, 38, 0x42, 0x42, 3], &[0; 43]), "in_bytes 46");
    let endless = words(&[16 << 12; 40]);
    assert!(of_frame(&[0x88, 0x47], &endless).contains("mpls_label_3 16"));
    let tags = [[0x81, 0, 0, 9]; 40].concat();
    assert!(of_frame(&tags, &[]).contains("src_vlan 9, customer_vlan 9"));
    let pseudo_wire = [words(&[16 << 12 | 0x100, 0]), ethernet(V4, &ipv4(6, &tcp()))].concat();
    assert!(!of_frame(&[0x88, 0x47], &pseudo_wire).contains("src_ip"));
    assert_eq!(decoded(7, 104, &[1, 2, 3]), ["in_bytes 100"]);
    assert_eq!(decoded(1, 0, &[]), ["in_bytes 0"]);
}

#[test]
fn ipv4_with_options_and_fragments() {
    let mut options = ipv4(6, &[&[1; 8][..], &tcp()].concat());
    options[0] = 0x47;
    assert_eq!(of_frame(V4, &options), over_ipv4(TCP, 48, "tcp_flags 18", "ethernet_type 2048", ""));
    let mut first = ipv4(17, &udp(53, &[]));
    first[6] = 0x20;
    let ports = "src_port 4000, dst_port 53, protocol 17";
    assert_eq!(of_frame(V4, &first), over_ipv4(ports, 28, "", "ethernet_type 2048", ""));
    first[7] = 1;
    assert_eq!(of_frame(V4, &first), over_ipv4("protocol 17", 28, "", "ethernet_type 2048", ""));
    let mut short = ipv4(6, &tcp());
    short[0] = 0x44;
    assert_eq!(of_frame(V4, &short), "in_bytes 40, ethernet_type 2048", "a header of 16 bytes is none");
    let mut offloaded = ipv4(6, &tcp());
    offloaded[2..4].fill(0);
    let frame = ethernet(V4, &offloaded);
    assert!(
        decoded(1, 1_518, &frame).contains(&"in_bytes 1500".to_owned()),
        "the frame tells what the header does not"
    );
}

#[test]
fn ipv6_with_extension_headers() {
    let whole = |before: &str, bytes: usize| {
        format!(
            "src_ip 2001:db8::1, dst_ip 2001:db8::2, {before}, in_bytes {bytes}, src_tos 184, ethernet_type 34525, \
             flow_label 74565, min_ttl 62, max_ttl 62"
        )
    };
    let ports = "src_port 4000, dst_port 53, protocol 17";
    assert_eq!(of_frame(V6, &ipv6(17, &udp(53, &[]))), whole(ports, 48));
    let hop = [&[43, 0][..], &[0; 6]].concat();
    let routing = [&[51, 1][..], &[0; 14]].concat();
    let authentication = [&[44, 4][..], &[0; 22]].concat();
    let fragment = |offset: u16| [&[60, 0][..], &offset.to_be_bytes(), &[0, 0, 0, 1]].concat();
    let destination = [&[17, 0][..], &[0; 6]].concat();
    let chain = |offset| {
        [hop.clone(), routing.clone(), authentication.clone(), fragment(offset), destination.clone(), udp(53, &[])]
    };
    assert_eq!(of_frame(V6, &ipv6(0, &chain(1).concat())), whole(ports, 40 + 64 + 8));
    assert_eq!(of_frame(V6, &ipv6(0, &chain(8).concat())), whole("protocol 60", 40 + 64 + 8), "a later fragment");
    let endless = [[0u8; 8]; 20].concat();
    assert!(!of_frame(V6, &ipv6(0, &endless)).contains("protocol"));
    let mut jumbo = ipv6(17, &udp(53, &[]));
    jumbo[4..6].fill(0);
    assert!(decoded(1, 9_018, &ethernet(V6, &jumbo)).contains(&"in_bytes 9000".to_owned()));
}

#[test]
fn transport_headers_tell_ports_flags_types_and_codes() {
    let kind = "ethernet_type 2048";
    for protocol in [33, 132, 136] {
        let before = format!("src_port 1, dst_port 2, protocol {protocol}");
        assert_eq!(of_frame(V4, &ipv4(protocol, &[0, 1, 0, 2])), over_ipv4(&before, 24, "", kind, ""));
    }
    let icmp = "icmp_type 3, icmp_code 1, ethernet_type 2048";
    assert_eq!(of_frame(V4, &ipv4(1, &[3, 1, 0, 0])), over_ipv4("protocol 1", 24, "", icmp, ""));
    assert_eq!(of_frame(V4, &ipv4(50, &[1; 8])), over_ipv4("protocol 50", 28, "", kind, ""));
    let mut all_flags = tcp();
    all_flags[12..14].copy_from_slice(&[0x5f, 0xff]);
    assert_eq!(of_frame(V4, &ipv4(6, &all_flags)), over_ipv4(TCP, 40, "tcp_flags 4095", kind, ""));
}

#[test]
fn tunnels_keep_the_outer_addresses_and_tell_the_inner_ones() {
    let mut inner = ipv4(6, &tcp());
    inner[12..20].copy_from_slice(&[172, 16, 0, 1, 172, 16, 0, 2]);
    let v4 = "inner_src_ip 172.16.0.1, inner_dst_ip 172.16.0.2, inner_protocol 6";
    let v6 = "inner_src_ip 2001:db8::1, inner_dst_ip 2001:db8::2, inner_protocol 17";
    let kind = "ethernet_type 2048";
    let inner6 = ipv6(17, &udp(53, &[]));
    assert_eq!(of_frame(V4, &ipv4(4, &inner)), over_ipv4("protocol 4", 60, "", kind, v4));
    assert_eq!(of_frame(V4, &ipv4(41, &inner6)), over_ipv4("protocol 41", 68, "", kind, v6));
    assert!(of_frame(V6, &ipv6(4, &inner)).ends_with(v4));
    let gre = |flags: u16, kind: u16, optional: usize, payload: &[u8]| {
        ipv4(47, &[&be(flags.into(), 2)[..], &be(kind.into(), 2), &vec![0xff; optional], payload].concat())
    };
    for (flags, optional) in [(0, 0), (0x8000, 4), (0x2000, 4), (0x1000, 4), (0xb000, 12)] {
        let packet = gre(flags, 0x800, optional, &inner);
        assert_eq!(of_frame(V4, &packet), over_ipv4("protocol 47", 64 + optional, "", kind, v4), "{flags:x}");
    }
    assert!(of_frame(V4, &gre(0, 0x86dd, 0, &inner6)).ends_with(v6));
    assert!(of_frame(V4, &gre(0x2000, 0x6558, 4, &ethernet(V6, &inner6))).ends_with(v6));
    for (flags, kind) in [(0x4000, 0x800), (1, 0x800), (0, 0x880b)] {
        assert!(!of_frame(V4, &gre(flags, kind, 0, &inner)).contains("inner"), "{flags:x} {kind:x}");
    }
    let vxlan =
        |flags: u8, frame: &[u8]| ipv4(17, &udp(4_789, &[&[flags, 0, 0, 0, 0, 0x12, 0x34, 9][..], frame].concat()));
    let frame = ethernet(&[0x81, 0, 0, 5, 8, 0], &inner);
    let segment = "layer2_segment_id 4660";
    let ports = "src_port 4000, dst_port 4789, protocol 17";
    let kind_and_segment = format!("{kind}, {segment}");
    assert_eq!(of_frame(V4, &vxlan(8, &frame)), over_ipv4(ports, 94, "", &kind_and_segment, v4));
    assert!(!of_frame(V4, &vxlan(0, &frame)).contains("layer2"));
    assert!(of_frame(V4, &vxlan(8, &ethernet(&[8, 6], &[]))).ends_with("max_ttl 63"));
    // Only one level is told.
    assert!(
        of_frame(V4, &ipv4(4, &ipv4(4, &inner)))
            .ends_with("inner_src_ip 10.0.0.1, inner_dst_ip 10.0.0.2, inner_protocol 4")
    );
}

#[test]
fn a_packet_cut_anywhere_tells_what_is_left_and_nothing_else() {
    let vxlan = [&[8, 0, 0, 0, 0, 0, 7, 0][..], &ethernet(V4, &ipv4(6, &tcp()))].concat();
    let packets = [
        ethernet(&[0x81, 0, 0, 100, 8, 0], &ipv4(6, &tcp())),
        ethernet(V6, &ipv6(0, &[&[17, 0, 0, 0, 0, 0, 0, 0][..], &udp(53, &[1])].concat())),
        ethernet(&[0x88, 0x47], &[words(&[5 << 12, 6 << 12 | 0x100]), ipv4(1, &[8, 0])].concat()),
        ethernet(V4, &ipv4(17, &udp(4_789, &vxlan))),
        ethernet(V4, &ipv4(47, &[&[0x20, 0, 8, 0, 1, 2, 3, 4][..], &ipv4(6, &tcp())].concat())),
    ];
    for packet in packets {
        let whole = decoded(1, packet.len() + 4, &packet);
        for length in 0..packet.len() {
            let cut = decoded(1, packet.len() + 4, &packet[..length]);
            for field in &cut {
                assert!(whole.contains(field) || field.starts_with("in_bytes "), "{field} at {length} of {packet:?}");
            }
        }
        // Fewer bytes than announced.
        let mut announced = datagram(0, &[flow(&[sampled(1, packet.len() as u32 + 4, &packet)])]);
        announced[88..92].fill(0xff);
        let mut bench = Bench::new();
        assert_eq!(bench.decode(&announced).records, 1);
        assert_eq!(bench.shown(Field::InDstMac, 0), "02:00:00:00:00:dd");
    }
}
