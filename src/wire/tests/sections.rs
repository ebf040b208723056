//! Records that hold the first bytes of a packet, of fixed and of variable length, whole, cut, and beside elements.

use super::build::{Spec, be, iana, ipfix, v9};
use super::build_sflow::{datagram, ethernet, flow, ipv4, ipv6, sampled, tcp, udp};
use super::{Bench, NOW, SECONDS, reasons};
use crate::clock::{SECOND, Timestamp};
use crate::flow::fields::Field;

const VARIABLE: u16 = 65_535;
const V4: &[u8] = &[8, 0];

/// A value of variable length, with its length in one byte or in three.
fn variable(bytes: &[u8]) -> Vec<u8> {
    let length =
        if bytes.len() < 255 { vec![bytes.len() as u8] } else { [vec![255], be(bytes.len() as u64, 2)].concat() };
    [length, bytes.to_vec()].concat()
}

fn packet() -> Vec<u8> {
    ethernet(&[0x81, 0, 0, 100, 8, 0], &ipv4(6, &tcp()))
}

/// What is shown of a flow, without who sent it and without when and where.
fn of_packet(bench: &Bench, row: usize) -> Vec<String> {
    let told = [
        Field::Received,
        Field::ExporterId,
        Field::ObservationDomain,
        Field::FirstSeen,
        Field::LastSeen,
        Field::SamplingInterval,
        Field::InputInterface,
        Field::OutputInterface,
    ];
    let fields = bench.all(row).into_iter().filter(|(field, _)| !told.contains(field));
    fields.map(|(field, text)| format!("{} {text}", field.name())).collect()
}

/// One record of `specs`, in IPFIX.
fn decoded(specs: &[Spec], record: &[u8]) -> (Bench, Vec<(&'static str, u32)>) {
    let mut bench = Bench::new();
    let outcome = bench.decode(&ipfix(0).template(256, specs).set(256, record).bytes());
    assert_eq!(outcome.records, 1);
    let told = reasons(&outcome);
    (bench, told)
}

#[test]
fn a_packet_in_a_record_is_the_flow_that_sflow_makes_of_it() {
    let packets = [
        packet(),
        ethernet(&[0x86, 0xdd], &ipv6(17, &udp(53, &[1, 2]))),
        ethernet(V4, &ipv4(4, &ipv4(17, &udp(53, &[])))),
        ethernet(&[0x88, 0x47], &[vec![0, 0, 0x11, 0xff], ipv4(1, &[8, 0, 0, 0])].concat()),
        ethernet(&[8, 6], &[0; 28]),
    ];
    for packet in packets {
        let mut sflow = Bench::new();
        sflow.decode(&datagram(0, &[flow(&[sampled(1, packet.len() as u32 + 4, &packet)])]));
        let expected = of_packet(&sflow, 0);
        let length = packet.len() as u16;
        let size = be(length.into(), 2);
        let fixed = [size.clone(), packet.clone()].concat();
        let varying = [size, variable(&packet)].concat();
        for (is_ipfix, width, id, record) in [
            (true, length, 315, &fixed),
            (true, VARIABLE, 315, &varying),
            (false, length, 315, &fixed),
            (false, length, 104, &fixed),
        ] {
            let mut bench = Bench::new();
            let message = if is_ipfix { ipfix(0) } else { v9(0) };
            let message = message.template(256, &iana(&[(312, 2), (id, width)])).set(256, &record.repeat(2));
            let outcome = bench.decode(&message.bytes());
            assert_eq!((outcome.records, reasons(&outcome).len()), (2, usize::from(!is_ipfix)), "v9 counts records");
            assert_eq!([0, 1].map(|row| of_packet(&bench, row)), [&expected, &expected].map(Clone::clone));
            let times = [Field::FirstSeen, Field::LastSeen].map(|field| bench.shown(field, 1));
            let received = Timestamp::from_micros(NOW).to_string();
            assert_eq!(times, [received.clone(), received], "nothing else tells when");
        }
    }
}

#[test]
fn a_packet_that_begins_with_its_ip_header_is_read_up_to_what_was_exported() {
    // As softflowd sends PSAMP: a fixed room that zeros fill up.
    let specs = iana(&[(301, 8), (324, 8), (313, 60), (410, 2)]);
    let record = |packet: &[u8], exported: u64| {
        let mut section = packet.to_vec();
        section.resize(60, 0);
        let observed = (u64::from(SECONDS) + 2_208_988_800) << 32;
        [be(1, 8), be(observed, 8), section, be(exported, 2)].concat()
    };
    let (bench, told) = decoded(&specs, &record(&ipv4(6, &tcp()), 40));
    assert_eq!(told, []);
    let shown = [Field::SrcIp, Field::DstPort, Field::InBytes, Field::InPackets].map(|field| bench.shown(field, 0));
    assert_eq!(shown, ["10.0.0.1", "50000", "40", "1"]);
    let observed = Timestamp::from_micros(i64::from(SECONDS) * SECOND).to_string();
    assert_eq!(bench.shown(Field::FirstSeen, 0), observed);
    let (bench, told) = decoded(&specs, &record(&ipv4(6, &tcp()), 20));
    assert_eq!((told, bench.shown(Field::DstPort, 0)), (vec![], String::new()), "the ports are not the packet's");
    assert_eq!(bench.shown(Field::InBytes, 0), "40");
    let (bench, told) = decoded(&specs, &record(&[], 0));
    assert_eq!((told, bench.shown(Field::InPackets, 0)), (vec![("field_width", 1)], "1".to_owned()));
    let (bench, _) = decoded(&specs, &record(&ipv6(58, &[128, 0]), 42));
    assert_eq!(bench.shown(Field::DstIp, 0), "2001:db8::2");
}

#[test]
fn what_elements_tell_is_not_taken_from_the_packet() {
    let specs = iana(&[
        (10, 4),
        (14, 4),
        (61, 1),
        (305, 4),
        (306, 4),
        (152, 8),
        (58, 2),
        (1, 4),
        (2, 4),
        (5, 1),
        (315, VARIABLE),
    ]);
    let told = [be(3, 4), be(4, 4), be(1, 1), be(1, 4), be(999, 4), be((NOW / 1_000) as u64 - 7, 8)].concat();
    let record = [told, be(200, 2), be(1_400, 4), be(7, 4), be(9, 1), variable(&packet())].concat();
    let (bench, reasons) = decoded(&specs, &record);
    assert_eq!(reasons, []);
    let fields = [
        (Field::InputInterface, "3"),
        (Field::OutputInterface, "4"),
        (Field::Direction, "1"),
        (Field::SamplingInterval, "1000"),
        (Field::SrcVlan, "200"),
        (Field::InBytes, "1400"),
        (Field::InPackets, "7"),
        (Field::SrcTos, "9"),
        (Field::SrcIp, "10.0.0.1"),
        (Field::SrcPort, "443"),
        (Field::InSrcMac, "02:00:00:00:00:55"),
    ];
    for (field, expected) in fields {
        assert_eq!(bench.shown(field, 0), expected, "{}", field.name());
    }
    assert_eq!(bench.shown(Field::FirstSeen, 0), Timestamp::from_micros(NOW - 7_000).to_string());
}

#[test]
fn a_packet_without_a_moment_has_that_of_reception_and_one_with_an_end_only_gets_no_later_start() {
    let received = Timestamp::from_micros(NOW).to_string();
    let (bench, _) = decoded(&iana(&[(315, VARIABLE)]), &variable(&packet()));
    assert_eq!([Field::FirstSeen, Field::LastSeen].map(|field| bench.shown(field, 0)), [received.clone(), received]);
    // It ended a minute before the export.
    let record = [be(60_000_000, 4), variable(&packet())].concat();
    let (bench, _) = decoded(&iana(&[(159, 4), (315, VARIABLE)]), &record);
    let ended = Timestamp::from_micros(i64::from(SECONDS) * SECOND - 60 * SECOND).to_string();
    assert_eq!([Field::FirstSeen, Field::LastSeen].map(|field| bench.shown(field, 0)), [String::new(), ended]);
}

#[test]
fn a_packet_beside_a_flows_addresses_is_an_example_and_counted_as_not_read() {
    let mut bench = Bench::new();
    let specs = iana(&[(8, 4), (1, 4), (312, 2), (315, VARIABLE)]);
    let record = [be(0xc000_0201, 4), be(77, 4), be(58, 2), variable(&packet())].concat();
    let outcome = bench.decode(&ipfix(0).template(256, &specs).set(256, &record).bytes());
    assert_eq!(reasons(&outcome), []);
    assert_eq!(of_packet(&bench, 0), ["src_ip 192.0.2.1", "in_bytes 77"]);
    let unknown: Vec<_> = bench.decoder.take_unknown().into_iter().map(|it| (it.element, it.records)).collect();
    assert_eq!(unknown, [(312, 1), (315, 1)]);
}

#[test]
fn bytes_are_those_of_the_packet_and_never_of_the_section() {
    let bytes = |specs: &[(u16, u16)], record: Vec<u8>| decoded(&iana(specs), &record).0.shown(Field::InBytes, 0);
    let mut long = packet();
    long[20..22].copy_from_slice(&1_500u16.to_be_bytes());
    assert_eq!(bytes(&[(315, VARIABLE)], variable(&long)), "1500");
    assert_eq!(bytes(&[(312, 2), (315, VARIABLE)], [be(9_000, 2), variable(&long)].concat()), "1500");
    let arp = ethernet(&[8, 6], &[0; 28]);
    assert_eq!(bytes(&[(315, VARIABLE)], variable(&arp)), "", "nothing tells");
    assert_eq!(bytes(&[(312, 4), (315, VARIABLE)], [be(60, 4), variable(&arp)].concat()), "46");
    let mut offloaded = ipv4(6, &tcp());
    offloaded[2..4].fill(0);
    assert_eq!(bytes(&[(312, 2), (313, VARIABLE)], [be(1_518, 2), variable(&offloaded)].concat()), "");
}

#[test]
fn a_section_cut_anywhere_leaves_the_record_with_what_is_known() {
    let packet = packet();
    for length in 0..=packet.len() {
        let record = [be(5, 4), be(1_518, 2), variable(&packet[..length])].concat();
        let (bench, told) = decoded(&iana(&[(10, 4), (312, 2), (315, VARIABLE)]), &record);
        let known = [Field::InputInterface, Field::InPackets].map(|field| bench.shown(field, 0));
        assert_eq!(known, ["5", "1"], "cut at {length}");
        // Without an Ethernet header, or with an IP header that lacks addresses, it is no packet; a cut tag hides which.
        let addresses = 14 + 4 + 20;
        let unreadable = length < 14 || (18..addresses).contains(&length);
        assert_eq!(told, if unreadable { vec![("field_width", 1)] } else { vec![] }, "cut at {length}");
        assert_eq!(bench.shown(Field::DstIp, 0).is_empty(), length < addresses, "cut at {length}");
    }
}

#[test]
fn a_section_that_does_not_begin_the_packet_or_is_no_ethernet_is_not_misread() {
    for (offset, id) in [(409, 315), (102, 104)] {
        let specs = iana(&[(offset, 2), (id, 58)]);
        let (bench, told) = decoded(&specs, &[be(14, 2), packet()].concat());
        assert_eq!((of_packet(&bench, 0), told), (vec!["in_packets 1".to_owned()], vec![("field_width", 1)]));
        let (bench, told) = decoded(&specs, &[be(0, 2), packet()].concat());
        assert_eq!((bench.shown(Field::SrcIp, 0), told), ("10.0.0.1".to_owned(), vec![]));
    }
    let specs = iana(&[(408, 2), (312, 2), (315, VARIABLE)]);
    for (kind, source, bytes) in [(0, "10.0.0.1", "40"), (1, "10.0.0.1", "40"), (2, "", "90")] {
        let (bench, told) = decoded(&specs, &[be(kind, 2), be(90, 2), variable(&packet())].concat());
        assert_eq!(told, []);
        assert_eq!([Field::SrcIp, Field::InBytes].map(|field| bench.shown(field, 0)), [source, bytes], "{kind}");
    }
    let (bench, _) = decoded(&iana(&[(103, 2), (104, 58)]), &[be(38, 2), packet()].concat());
    assert_eq!([Field::DstIp, Field::DstPort].map(|field| bench.shown(field, 0)), ["10.0.0.2", ""]);
}

#[test]
fn of_several_sections_the_frame_is_read() {
    let mut other = ipv4(17, &udp(53, &[]));
    other[15] = 99;
    let record = [variable(&other), variable(&packet()), variable(&other)].concat();
    let (bench, told) = decoded(&iana(&[(313, VARIABLE), (315, VARIABLE), (315, VARIABLE)]), &record);
    assert_eq!((bench.shown(Field::SrcIp, 0), told), ("10.0.0.1".to_owned(), vec![]));
}

#[test]
fn many_packets_of_all_kinds_stay_in_their_rows() {
    let mut bench = Bench::new();
    let packets =
        [packet(), ethernet(&[0x86, 0xdd], &ipv6(17, &udp(53, &[]))), vec![1, 2, 3], ethernet(&[8, 6], &[0; 28])];
    let records: Vec<u8> = (0..700u16)
        .flat_map(|number| [be(number.into(), 4), variable(&packets[usize::from(number) % 4])].concat())
        .collect();
    let plain = iana(&[(8, 4), (1, 4)]);
    let message = ipfix(0).template(256, &iana(&[(10, 4), (315, VARIABLE)])).template(257, &plain);
    let message = message.data(257, &[be(1, 8)]).set(256, &records).data(257, &[be(2, 8)]);
    let outcome = bench.decode(&message.bytes());
    assert_eq!((outcome.records, reasons(&outcome)), (702, vec![("field_width", 175)]));
    for number in 0..700usize {
        let row = number + 1;
        assert_eq!(bench.shown(Field::InputInterface, row), number.to_string());
        let expected = ["10.0.0.1", "2001:db8::1", "", ""][number % 4];
        assert_eq!(bench.shown(Field::SrcIp, row), expected, "{number}");
    }
    assert_eq!(bench.shown(Field::InBytes, 701), "2");
    assert_eq!(bench.shown(Field::InPackets, 701), "", "it holds no packet");
}
