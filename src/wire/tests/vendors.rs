//! Elements with an enterprise's number, and templates that describe a packet inside another.

use super::Bench;
use super::build::{be, iana, ipfix, v9};
use crate::flow::fields::Field;
use crate::wire::element_name;

#[test]
fn enterprises_elements_feed_the_fields_they_mean() {
    let rows = [
        (9, 8_337, 8, 9_000, Field::OutBytes, "9000"),
        (9, 8_338, 8, 700, Field::InBytes, "700"),
        (9, 12_236, 4, 0xc000_0201, Field::SrcIp, "192.0.2.1"),
        (9, 12_237, 4, 0xc000_0202, Field::DstIp, "192.0.2.2"),
        (9, 12_240, 2, 50_000, Field::SrcPort, "50000"),
        (9, 12_241, 2, 443, Field::DstPort, "443"),
        (637, 91, 2, 100, Field::IngressVrf, "100"),
        (637, 92, 2, 200, Field::EgressVrf, "200"),
        (6_871, 33, 2, 53, Field::ApplicationId, "53"),
        (6_876, 880, 1, 17, Field::InnerProtocol, "17"),
        (6_876, 881, 4, 0xc000_0203, Field::InnerSrcIp, "192.0.2.3"),
        (6_876, 882, 4, 0xc000_0204, Field::InnerDstIp, "192.0.2.4"),
        (29_305, 1, 8, 5, Field::OutBytes, "5"),
        (29_305, 2, 4, 6, Field::OutPackets, "6"),
        (29_305, 5, 1, 184, Field::DstTos, "184"),
        (29_305, 85, 8, 7, Field::OutBytes, "7"),
        (29_305, 86, 8, 8, Field::OutPackets, "8"),
        (35_632, 118, 2, 7, Field::ApplicationId, "7"),
        (41_916, 4_321, 8, 512, Field::IngressVrf, "512"),
    ];
    for (enterprise, id, width, sent, field, shown) in rows {
        let mut bench = Bench::new();
        let message = ipfix(0).template(256, &[(id, width, enterprise)]);
        bench.decode(&message.data(256, &[be(sent, width.into())]).bytes());
        assert_eq!(bench.shown(field, 0), shown, "{enterprise} {id}");
    }
}

#[test]
fn addresses_of_16_bytes_of_enterprises_elements_are_read() {
    let rows = [
        (9, 12_238, Field::SrcIp),
        (9, 12_239, Field::DstIp),
        (6_876, 883, Field::InnerSrcIp),
        (6_876, 884, Field::InnerDstIp),
    ];
    for (enterprise, id, field) in rows {
        let mut bench = Bench::new();
        let address = [be(0x2001_0db8_0000_0000, 8), be(9, 8)].concat();
        bench.decode(&ipfix(0).template(256, &[(id, 16, enterprise)]).data(256, &[address]).bytes());
        assert_eq!(bench.shown(field, 0), "2001:db8::9", "{enterprise} {id}");
    }
}

/// Of each vendor what it sends beside IANA's elements and is a text, an identifier of its own, or a timing: no flow has a
/// field for it. Without a name where the vendor's manuals list no elements of its own.
const WITHOUT_FIELD: [(u32, u16, Option<&str>); 16] = [
    (9, 9_268, Some("clientRetransPackets")),
    (9, 12_232, Some("appCategoryName")),
    (9, 12_242, Some("connectionId")),
    (2_011, 1, Some("ingressGponGemPortId")),
    (2_636, 137, Some("commonPropertiesId")),
    (5_951, 128, Some("netscalerRoundTripTime")),
    (5_951, 130, Some("netscalerHttpReqUrl")),
    (6_876, 898, Some("virtualObsID")),
    // Fortinet: applications come as IANA's element 95.
    (12_356, 1, None),
    // MikroTik: translations come as IANA's elements 225 to 228.
    (14_988, 1, None),
    // Palo Alto Networks: these are of NetFlow v9 only.
    (25_461, 1, None),
    (0, 56_701, Some("paloAltoAppId")),
    (0, 56_702, Some("paloAltoUserId")),
    (29_305, 6, Some("reverseTcpControlBits")),
    (35_632, 119, Some("L7_PROTO_NAME")),
    (35_632, 123, Some("CLIENT_NW_LATENCY_MS")),
];

#[test]
fn what_no_field_takes_is_counted_by_enterprise_and_element_and_has_its_name() {
    for (enterprise, id, name) in WITHOUT_FIELD {
        let mut bench = Bench::new();
        let record = [be(0xc000_0201, 4), vec![0x41; 8]].concat();
        let message = if enterprise == 0 { v9(0) } else { ipfix(0) };
        let message = message.template(256, &[(8, 4, 0), (id, 8, enterprise)]).data(256, &[record.clone(), record]);
        let outcome = bench.decode(&message.bytes());
        assert_eq!((outcome.records, bench.shown(Field::SrcIp, 1)), (2, "192.0.2.1".to_owned()));
        let unknown: Vec<_> = bench.decoder.take_unknown().into_iter().collect();
        let counted: Vec<_> = unknown.iter().map(|it| (it.enterprise, it.element, it.records)).collect();
        assert_eq!(counted, [(enterprise, id, 2)]);
        assert_eq!(element_name(enterprise, id).as_deref(), name, "{enterprise} {id}");
    }
}

#[test]
fn of_a_connections_bytes_those_of_layer_3_are_taken() {
    let mut bench = Bench::new();
    let specs = [(231, 4, 0), (232, 4, 0), (8_338, 4, 9), (8_337, 4, 9)];
    bench.decode(
        &ipfix(0).template(256, &specs).data(256, &[[be(1, 4), be(2, 4), be(3, 4), be(4, 4)].concat()]).bytes(),
    );
    assert_eq!([Field::InBytes, Field::OutBytes].map(|field| bench.shown(field, 0)), ["3", "4"]);
}

#[test]
fn what_iana_numbers_is_taken_before_what_an_enterprise_does() {
    let mut bench = Bench::new();
    let message = ipfix(0).template(256, &[(12_236, 4, 9), (8, 4, 0), (192, 1, 0), (52, 1, 0), (195, 1, 0), (5, 1, 0)]);
    let record = [be(1, 4), be(2, 4), be(3, 1), be(4, 1), be(5, 1), be(6, 1)].concat();
    bench.decode(&message.data(256, &[record]).bytes());
    let shown = [Field::SrcIp, Field::MinTtl, Field::MaxTtl, Field::SrcTos].map(|field| bench.shown(field, 0));
    assert_eq!(shown, ["0.0.0.2", "4", "3", "6"]);
}

#[test]
fn two_protocols_tell_of_a_packet_inside_another_whatever_its_addresses() {
    let specs = iana(&[(27, 16), (28, 16), (4, 1), (8, 4), (12, 4), (4, 1)]);
    let wide = |last: u64| [be(0x2001_0db8_0000_0000, 8), be(last, 8)].concat();
    let record = [wide(1), wide(2), be(4, 1), be(0xc000_0201, 4), be(0xc000_0202, 4), be(17, 1)].concat();
    let mut bench = Bench::new();
    bench.decode(&ipfix(0).template(256, &specs).data(256, &[record]).bytes());
    let outer = [Field::SrcIp, Field::DstIp, Field::Protocol].map(|field| bench.shown(field, 0));
    let inner = [Field::InnerSrcIp, Field::InnerDstIp, Field::InnerProtocol].map(|field| bench.shown(field, 0));
    assert_eq!(outer, ["2001:db8::1", "2001:db8::2", "4"]);
    assert_eq!(inner, ["192.0.2.1", "192.0.2.2", "17"]);

    let specs = iana(&[(27, 16), (28, 16), (4, 1), (27, 16), (28, 16), (4, 1)]);
    let record = [wide(1), wide(2), be(41, 1), wide(3), wide(4), be(6, 1)].concat();
    let mut bench = Bench::new();
    bench.decode(&ipfix(0).template(256, &specs).data(256, &[record]).bytes());
    let outer = [Field::SrcIp, Field::DstIp, Field::Protocol].map(|field| bench.shown(field, 0));
    let inner = [Field::InnerSrcIp, Field::InnerDstIp, Field::InnerProtocol].map(|field| bench.shown(field, 0));
    assert_eq!(outer, ["2001:db8::1", "2001:db8::2", "41"]);
    assert_eq!(inner, ["2001:db8::3", "2001:db8::4", "6"]);
}
