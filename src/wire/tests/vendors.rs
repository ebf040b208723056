//! Elements with an enterprise's number, and templates that describe a packet inside another.

use super::Bench;
use super::build::{be, iana, ipfix};
use crate::flow::fields::Field;

#[test]
fn enterprises_elements_feed_the_fields_they_mean() {
    let rows = [
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
