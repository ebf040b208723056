//! The grammar line by line, errors with their positions, the meaning of each primitive, and agreement with a reader that
//! takes one row at a time.

use super::*;
use crate::flow::batch::FlowBatch;
use crate::flow::fields::{Dimension, Field, Kind};
use crate::flow::local::Local;
use crate::flow::value::{Value, wide_from_address};
use proptest::prelude::*;
use std::net::IpAddr;

/// A flow as a test writes it.
type Flow = Vec<(Field, u128)>;

fn ip(text: &str) -> u128 {
    wide_from_address(text.parse().unwrap())
}

/// A batch of `flows`; an address column is wide only if it has to be, as decoders fill it.
fn batch_of(flows: &[Flow]) -> FlowBatch {
    let mut batch = FlowBatch::default();
    for flow in flows {
        let row = batch.add_rows(1);
        for &(field, bits) in flow {
            let column = batch.column_mut(field);
            match field.kind() {
                Kind::U8 => column.u8_run(row, 1)[0] = bits as u8,
                Kind::U16 => column.u16_run(row, 1)[0] = bits as u16,
                Kind::U32 => column.u32_run(row, 1)[0] = bits as u32,
                Kind::U64 | Kind::Mac => column.u64_run(row, 1)[0] = bits as u64,
                Kind::Time => column.time_run(row, 1)[0] = bits as i64,
                Kind::Address => match crate::flow::value::v4_from_wide(bits) {
                    None => column.wide_run(row, 1)[0] = bits,
                    Some(v4) => match column.v4_run(row, 1) {
                        crate::flow::batch::AddressRun::V4(room) => room[0] = v4,
                        crate::flow::batch::AddressRun::Wide(room) => room[0] = bits,
                    },
                },
            }
        }
    }
    batch
}

fn selected(text: &str, batch: &FlowBatch) -> Vec<usize> {
    let mut selection = Selection::default();
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).select(batch, &mut selection);
    selection.iter().collect()
}

#[test]
fn every_line_of_the_grammar_reads_and_has_a_canonical_text() {
    for (text, canonical) in [
        // filter, either, both, negation
        ("", "any"),
        (" # nothing\n", "any"),
        ("ANY", "any"),
        ("ipv4 or ipv6 || inet", "ipv4 or ipv6 or ipv4"),
        ("ipv4 and inet6 && port 1", "ipv4 and ipv6 and port 1"),
        ("port 1 or port 2 and port 3", "port 1 or port 2 and port 3"),
        ("(port 1 or port 2) and port 3", "(port 1 or port 2) and port 3"),
        ("port 1 or (port 2 and (port 3))", "port 1 or port 2 and port 3"),
        ("not port 1 and port 2", "not port 1 and port 2"),
        ("not (port 1 and port 2)", "not (port 1 and port 2)"),
        ("!port 1 or ! ! port 2 or not not not any", "not port 1 or port 2 or not any"),
        ("any and dst ip 10.0.0.1", "dst ip 10.0.0.1"),
        // addresses
        ("ip 10.0.0.1", "ip 10.0.0.1"),
        ("SRC Host 10.0.0.1", "src ip 10.0.0.1"),
        ("dst_ip == 10.0.0.1 or dstip 10.0.0.1", "dst ip 10.0.0.1 or dst ip 10.0.0.1"),
        ("next ip 10.0.0.1 or bgp next host ::1", "next ip 10.0.0.1 or bgp next ip ::1"),
        ("ip ::ffff:10.0.0.1", "ip 10.0.0.1"),
        ("ip 2001:DB8:0:0::7", "ip 2001:db8::7"),
        ("src ip in [10.0.0.2 10.0.0.1, 10.1.2.3/16 10.0.0.1]", "src ip in [10.0.0.1 10.0.0.2 10.1.0.0/16]"),
        ("ip in [::1]", "ip ::1"),
        ("net 10.1.2.3/16", "net 10.1.0.0/16"),
        ("dst net 10.1.2.3 255.255.0.0", "dst net 10.1.0.0/16"),
        ("src net 2001:db8::1/32", "src net 2001:db8::/32"),
        ("src net 2001:db8::1 ffff:ffff::", "src net 2001:db8::/32"),
        ("net 0.0.0.0/0 or net ::/0", "net 0.0.0.0/0 or net ::/0"),
        ("net 10.0.0.1/32", "ip 10.0.0.1"),
        ("net ::ffff:10.1.2.3/112", "net 10.1.0.0/16"),
        // numbers
        ("port 80 or src port = 80 or dst port==80", "port 80 or src port 80 or dst port 80"),
        ("port > 80 or port gt 80 or port>=0x50", "port > 80 or port > 80 or port >= 80"),
        ("port lt 80 or port <= 80 or port le 1 or port ge 1", "port < 80 or port <= 80 or port <= 1 or port >= 1"),
        ("port in [443, 80 443]", "port in [80 443]"),
        ("proto tcp or proto 17 or proto icmp or proto 200", "proto tcp or proto udp or proto icmp or proto 200"),
        ("proto UD", "proto udp"),
        ("proto in [tcp 17]", "proto in [tcp udp]"),
        ("proto > 5", "proto > 5"),
        ("as 3320 or src as in [1 2] or dst as > 1k", "as 3320 or src as in [1 2] or dst as > 1000"),
        ("if 3 or in if 4 or out if 5", "if 3 or in if 4 or out if 5"),
        ("vlan 1 or src vlan 2 or dst vlan 3", "vlan 1 or src vlan 2 or dst vlan 3"),
        ("mask 24 or src mask 25 or dst mask 26", "mask 24 or src mask 25 or dst mask 26"),
        ("tos 4 or src tos 8 or dst tos 12", "src tos 4 or src tos 8 or dst tos 12"),
        (
            "bytes > 1m or in bytes 2G or out bytes < 3t",
            "bytes > 1000000 or bytes 2000000000 or out bytes < 3000000000000",
        ),
        ("packets 1 or in packets 1 or out packets 1", "packets 1 or packets 1 or out packets 1"),
        ("direction 1 or odid 7", "direction 1 or observation_domain 7"),
        (
            "sampling_interval > 1 or Sampling_Interval in [1k 10]",
            "sampling_interval > 1 or sampling_interval in [10 1000]",
        ),
        ("ingress vrf 7 or EGRESS vrf > 8 or ivrf 9", "ingress vrf 7 or egress vrf > 8 or ingress vrf 9"),
        ("mpls label1 = 16 or mpls label3 > 3 or mpls2 5", "mpls label1 16 or mpls label3 > 3 or mpls label2 5"),
        ("asa event deny or asa event in [Create TERM] or event 5", "asa event 3 or asa event in [1 2] or asa event 5"),
        ("firewall_event = 3 or nat event 4 or nat 1", "asa event 3 or nat event 4 or nat event 1"),
        // flags
        ("flags SA", "flags SA"),
        ("flags = S or flags =X or flags > 3", "flags 2 or flags 63 or flags > 3"),
        ("flags X or flags ASAS", "flags FSRPAU or flags SA"),
    ] {
        let tree = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(tree.to_string(), canonical, "{text}");
        assert_eq!(parse(canonical), Ok(tree), "{canonical}");
    }
}

#[test]
fn errors_name_the_byte_what_was_expected_and_what_was_found() {
    for (text, position, expected, found) in [
        ("dst ip", 6, "address", "the end"),
        ("dst ip host.example", 7, "not looked up", "`host.example`"),
        ("ip 10.0.0.0/8", 11, "write `net`", ""),
        ("net 10.0/16", 4, "full IPv4", "`10.0`"),
        ("net 10.0.0.0/33", 13, "0 to 32", "`33`"),
        ("net ::/129", 7, "0 to 128", "`129`"),
        ("net 10.0.0.0 255.0.255.0", 13, "mask", "`255.0.255.0`"),
        ("net 10.0.0.0 ffff::", 13, "mask", "`ffff::`"),
        ("dst net local", 8, "[network] local", ""),
        ("ip local", 3, "a full IPv4", "`local`"),
        ("port 65536", 5, "0 to 65535", "`65536`"),
        ("port http", 5, "0 to 65535", "`http`"),
        ("port 1.5k", 5, "a number", "`1.5k`"),
        ("port 0x", 5, "a number", "`0x`"),
        ("port +1", 5, "a word", "`+`"),
        ("bytes > 99999999t", 8, "a number", "`99999999t`"),
        ("proto nonsense", 6, "protocol's name", "`nonsense`"),
        ("port in 80", 8, "`[`", "`80`"),
        ("port in []", 9, "a number", "`]`"),
        ("port in [80", 11, "`]`", "the end"),
        ("port in [80 or", 12, "a number", "`or`"),
        ("src bytes 1", 4, "after `src`", "`bytes`"),
        ("dst", 3, "after `dst`", "the end"),
        ("bgp ip ::1", 4, "`next`", "`ip`"),
        ("mpls label4 1", 5, "`label3` after `mpls`", "`label4`"),
        ("asa event denied", 10, "an event's name or a number from 0 to 255", "`denied`"),
        ("sampling_interval > 1x", 20, "0 to 4294967295", "`1x`"),
        ("nonsense 1", 0, "name of a field", "`nonsense`"),
        ("first_seen 1", 0, "cannot be filtered", ""),
        ("(port 80", 8, "`)`", "the end"),
        ("port 80)", 7, "`or` or the end", "`)`"),
        ("port 80 port 81", 8, "`and`, `or`", "`port`"),
        ("port 80 and", 11, "a primitive", "the end"),
        ("and port 80", 0, "name of a field", "`and`"),
        ("()", 1, "a primitive", "`)`"),
        ("flags", 5, "letters", "the end"),
        ("flags sa", 6, "letters", "`sa`"),
        ("flags > S", 8, "a number", "`S`"),
        ("any 'x'", 4, "a word", "`'`"),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.position, position, "{text}: {error}");
        assert!(error.message.contains(expected) && error.message.contains(found), "{text}: {error}");
    }
    let long = parse(&"x".repeat(100)).unwrap_err();
    assert!(long.message.ends_with(&format!("found `{}…`", "x".repeat(40))), "{long}");
    assert_eq!(parse("dst ip").unwrap_err().to_string().split(':').next(), Some("byte 6 of the filter"));
}

#[test]
fn net_local_is_written_out_as_the_local_networks() {
    let local = Local::new(&["192.168.0.0/16", "10.1.2.3/8", "fd00::/8"].map(|text| text.parse().unwrap()));
    for (text, canonical) in [
        ("dst net LOCAL", "dst ip in [10.0.0.0/8 192.168.0.0/16 fd00::/8]"),
        ("net local and port 53", "ip in [10.0.0.0/8 192.168.0.0/16 fd00::/8] and port 53"),
        ("not src net local", "not src ip in [10.0.0.0/8 192.168.0.0/16 fd00::/8]"),
    ] {
        assert_eq!(parse_within(text, &local).unwrap().to_string(), canonical);
    }
    let one = Local::new(&["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(parse_within("dst net local", &one), parse("dst net 10.0.0.0/8"));
}

#[test]
fn text_beyond_the_limits_is_refused() {
    let nested = |depth: usize| format!("{}any{}", "(".repeat(depth), ")".repeat(depth));
    assert!(parse(&nested(MAX_DEPTH)).is_ok());
    assert_eq!(parse(&nested(MAX_DEPTH + 1)).unwrap_err().position, MAX_DEPTH);
    assert!(parse(&nested(4_000)).is_err() && parse(&"(".repeat(MAX_LENGTH)).is_err());
    let chain = |primitives: usize| vec!["port 1"; primitives].join(" or ");
    assert!(parse(&chain(MAX_NODES - 1)).is_ok());
    assert!(parse(&chain(MAX_NODES)).unwrap_err().message.contains("200 parts"));
    assert!(parse(&format!("{}any", " ".repeat(MAX_LENGTH - 3))).is_ok());
    assert_eq!(parse(&" ".repeat(MAX_LENGTH + 1)).unwrap_err().position, MAX_LENGTH);
    assert!(parse(&format!("{}any", "!".repeat(MAX_LENGTH - 3))).is_ok());
    // Written out, these numbers would be longer than a filter may be.
    let numbers: Vec<String> = (1..1_300).map(|number| format!("{number}g")).collect();
    assert!(parse(&format!("bytes in [{}]", numbers.join(" "))).unwrap_err().message.contains("longer than"));
}

#[test]
fn primitives_mean_what_nfdump_means() {
    let flows = [
        // 0: TCP, web
        vec![
            (Field::SrcIp, ip("192.168.1.10")),
            (Field::DstIp, ip("10.1.2.3")),
            (Field::SrcPort, 50_000),
            (Field::DstPort, 443),
            (Field::Protocol, 6),
            (Field::TcpFlags, 0x12),
            (Field::InBytes, 1_500),
            (Field::InPackets, 3),
            (Field::SrcAs, 65_000),
            (Field::InputInterface, 7),
        ],
        // 1: UDP, with a counter for each direction
        vec![
            (Field::SrcIp, ip("10.1.2.3")),
            (Field::DstIp, ip("192.168.1.10")),
            (Field::SrcPort, 53),
            (Field::DstPort, 53),
            (Field::Protocol, 17),
            (Field::TcpFlags, 0x12),
            (Field::InBytes, 100),
            (Field::OutBytes, 2_000),
            (Field::OutputInterface, 7),
            (Field::SrcTos, 8),
        ],
        // 2: ICMP over IPv6, without ports
        vec![(Field::SrcIp, ip("2001:db8::1")), (Field::DstIp, ip("2001:db8::2")), (Field::Protocol, 58)],
        // 3: nothing at all
        vec![],
    ];
    let batch = batch_of(&flows);
    for (text, rows) in [
        ("any", &[0, 1, 2, 3][..]),
        ("not any", &[]),
        ("ip 10.1.2.3", &[0, 1]),
        ("src ip 10.1.2.3", &[1]),
        ("dst ip 10.1.2.3", &[0]),
        ("not dst ip 10.1.2.3", &[1, 2, 3]),
        ("net 10.1.0.0/16", &[0, 1]),
        ("dst net 10.1.2.3/8", &[0]),
        ("src net 0.0.0.0/0", &[0, 1]),
        ("src net ::/0", &[2]),
        ("net ::ffff:0:0/95", &[]),
        ("net 2001:db8::/32", &[2]),
        ("src ip in [2001:db8::/126 192.168.0.0/16]", &[0, 2]),
        ("ipv4", &[0, 1]),
        ("ipv6", &[2]),
        ("not ipv4", &[2, 3]),
        ("port 53", &[1]),
        ("port < 1024", &[0, 1]),
        ("src port >= 53", &[0, 1]),
        ("not port 53", &[0, 2, 3]),
        ("port < 0", &[]),
        ("port > 65535", &[]),
        ("port <= 65535", &[0, 1]),
        ("dst port in [53 443]", &[0, 1]),
        ("dst port in [1 3 5 7 9 11 13 15 17 19 21 23 25 27 29 443]", &[0]),
        ("proto tcp", &[0]),
        ("not proto tcp", &[1, 2, 3]),
        ("proto icmp6", &[2]),
        ("bytes > 100", &[0]),
        ("out bytes > 100", &[1]),
        ("packets 3", &[0]),
        ("as 65000", &[0]),
        ("dst as 65000", &[]),
        ("if 7", &[0, 1]),
        ("in if 7", &[0]),
        ("tos 8", &[1]),
        ("dst tos 8", &[]),
        ("flags S", &[0]),
        ("flags SF", &[]),
        ("flags =SA", &[0]),
        ("flags = S", &[]),
        ("not flags S", &[1, 2, 3]),
        ("tcp_flags 18", &[0, 1]),
        ("proto tcp or proto udp and port 443", &[0]),
        ("(proto tcp or proto udp) and port 53", &[1]),
        ("not proto tcp and port 53", &[1]),
        ("not (proto tcp or port 53)", &[2, 3]),
    ] {
        assert_eq!(selected(text, &batch), rows, "{text}");
    }
    assert_eq!(
        parse("flags S or dst port 1 or ip ::1").unwrap().fields(),
        [Field::SrcIp, Field::DstIp, Field::DstPort, Field::Protocol, Field::TcpFlags]
    );
}

/// What the language means, one flow at a time, written without the code under test.
fn naive(expression: &Expression, batch: &FlowBatch, row: usize) -> bool {
    let values = |of: &Dimension| -> Vec<Value> {
        let fields = match of {
            Dimension::One(field) => vec![*field],
            Dimension::Either { source, destination, .. } => vec![*source, *destination],
        };
        fields.into_iter().filter_map(|field| batch.value(field, row)).collect()
    };
    let numbers = |of: &Dimension| -> Vec<u64> {
        let number = |value: Value| if let Value::Number(number) = value { number } else { panic!("no number") };
        values(of).into_iter().map(number).collect()
    };
    let compare = |value: u64, comparison: Comparison, number: u64| match comparison {
        Comparison::Equal => value == number,
        Comparison::Greater => value > number,
        Comparison::Less => value < number,
        Comparison::AtLeast => value >= number,
        Comparison::AtMost => value <= number,
    };
    let addresses = |of: &Dimension| -> Vec<IpAddr> {
        let address = |value: Value| if let Value::Address(address) = value { address } else { panic!("no address") };
        values(of).into_iter().map(address).collect()
    };
    let either = Dimension::parse("ip").unwrap();
    match expression {
        Expression::Any => true,
        Expression::Not(inner) => !naive(inner, batch, row),
        Expression::And(parts) => parts.iter().all(|part| naive(part, batch, row)),
        Expression::Or(parts) => parts.iter().any(|part| naive(part, batch, row)),
        Expression::Address { of, networks } => {
            addresses(of).iter().any(|address| networks.iter().any(|network| network.contains(*address)))
        }
        Expression::Number { of, test: NumberTest::In(list) } => numbers(of).iter().any(|value| list.contains(value)),
        Expression::Number { of, test: NumberTest::Compare(comparison, number) } => {
            numbers(of).iter().any(|value| compare(*value, *comparison, *number))
        }
        Expression::Flags(test) => {
            let tcp = batch.value(Field::Protocol, row) == Some(Value::Number(6));
            let Some(Value::Number(flags)) = batch.value(Field::TcpFlags, row) else { return false };
            tcp && match test {
                FlagTest::All(bits) => flags & u64::from(*bits) == u64::from(*bits),
                FlagTest::Compare(comparison, number) => compare(flags, *comparison, (*number).into()),
            }
        }
        Expression::Ipv4 => addresses(&either).iter().any(IpAddr::is_ipv4),
        Expression::Ipv6 => addresses(&either).iter().any(IpAddr::is_ipv6),
    }
}

/// Addresses close together, so that small networks tell them apart, with the neighbours of the IPv4-mapped ones.
fn any_address(wide: bool) -> BoxedStrategy<u128> {
    let narrow = (0u128..12).prop_map(|low| ip("10.0.0.0") + low);
    let edges =
        prop::sample::select(vec![ip("::"), ip("::fffe:ffff:ffff"), ip("::1:0:0:0"), ip("2001:db8::5"), u128::MAX]);
    if wide { prop_oneof![narrow, edges].boxed() } else { narrow.boxed() }
}

fn any_flows() -> impl Strategy<Value = Vec<Flow>> {
    let flow = |wide: bool| {
        let optional = |weight, numbers: std::ops::Range<u128>| prop::option::weighted(weight, numbers);
        let address = prop::option::weighted(0.9, any_address(wide));
        let addresses = (address.clone(), address);
        let numbers =
            (optional(0.8, 0u128..6), optional(0.8, 0u128..6), optional(0.9, 5u128..8), optional(0.8, 0u128..64));
        let counters = (optional(0.9, 0u128..6), optional(0.2, 0u128..6));
        (addresses, numbers, counters).prop_map(|((src, dst), (sport, dport, proto, flags), (bytes, out))| {
            let fields = [
                (Field::SrcIp, src),
                (Field::DstIp, dst),
                (Field::SrcPort, sport),
                (Field::DstPort, dport),
                (Field::Protocol, proto),
                (Field::TcpFlags, flags),
                (Field::InBytes, bytes),
                (Field::OutBytes, out),
            ];
            fields.into_iter().filter_map(|(field, bits)| bits.map(|bits| (field, bits))).collect()
        })
    };
    any::<bool>().prop_flat_map(move |wide| prop::collection::vec(flow(wide), 0..200))
}

fn any_expression() -> impl Strategy<Value = Expression> {
    let of = |names: &[&'static str]| {
        prop::sample::select(names.to_vec()).prop_map(|name| Dimension::parse(name).expect("a dimension"))
    };
    let network = (any_address(true), 0u8..=128).prop_map(|(bits, length)| {
        let address = crate::flow::value::address_from_wide(bits);
        let length = if address.is_ipv4() { length.min(32) } else { length };
        ipnetwork::IpNetwork::new(address, length).unwrap()
    });
    let comparison = prop::sample::select(vec![
        Comparison::Equal,
        Comparison::Greater,
        Comparison::Less,
        Comparison::AtLeast,
        Comparison::AtMost,
    ]);
    let numeric = of(&["port", "src_port", "dst_port", "protocol", "in_bytes", "out_bytes", "tcp_flags"]);
    let leaf = prop_oneof![
        1 => prop::sample::select(vec![Expression::Any, Expression::Ipv4, Expression::Ipv6]),
        4 => (of(&["ip", "src_ip", "dst_ip", "next_hop"]), prop::collection::vec(network, 1..20))
            .prop_map(|(of, networks)| Expression::address(of, networks)),
        2 => (numeric.clone(), comparison.clone(), 0u64..8)
            .prop_map(|(of, comparison, number)| Expression::Number { of, test: NumberTest::Compare(comparison, number) }),
        2 => (numeric, prop::collection::vec(0u64..200, 1..24)).prop_map(|(of, list)| Expression::number_in(of, list)),
        1 => (1u16..64).prop_map(|bits| Expression::Flags(FlagTest::All(bits))),
        1 => (comparison, 0u16..64).prop_map(|(how, number)| Expression::Flags(FlagTest::Compare(how, number))),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(Expression::not),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Expression::all),
            prop::collection::vec(inner, 1..4).prop_map(Expression::one_of),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn columns_and_single_rows_agree(expression in any_expression(), flows in any_flows()) {
        let batch = batch_of(&flows);
        let mut selection = Selection::all(7);
        expression.select(&batch, &mut selection);
        let expected: Vec<_> = (0..flows.len()).filter(|row| naive(&expression, &batch, *row)).collect();
        prop_assert_eq!(selection.iter().collect::<Vec<_>>(), expected, "{}", expression);
        prop_assert_eq!(selection.rows(), flows.len());
    }

    #[test]
    fn the_canonical_text_means_the_same_tree(expression in any_expression()) {
        let text = expression.to_string();
        prop_assume!(text.len() <= MAX_LENGTH);
        prop_assert_eq!(parse(&text), Ok(expression), "{}", text);
    }

    #[test]
    fn no_text_harms_and_what_reads_reads_again(
        words in prop::collection::vec(prop::sample::select(vec![
            "(", ")", "not", "!", "and", "or", "src", "dst", "in", "ip", "net", "port", "[", "]", ",", "/", "80", "10.0.0.1",
            "::1", "24", ">", "=", "any", "flags", "SA", "proto", "tcp", "bytes", "1k", "ü", "#", "\n", "ipv4", "as", "bgp next",
        ]), 0..30),
        noise in ".{0,6}",
    ) {
        for text in [words.join(" "), words.concat(), format!("{}{noise}", words.join(" "))] {
            match parse(&text) {
                Ok(tree) => prop_assert_eq!(parse(&tree.to_string()), Ok(tree), "{}", text),
                Err(error) => prop_assert!(text.is_char_boundary(error.position), "{}: {}", text, error),
            }
        }
    }
}
