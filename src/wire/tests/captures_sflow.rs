//! Real exporters' sFlow, NetFlow v1 and v7 captures, where they lie beside the project: counts as listed, and field by field
//! what tshark reads, or what is known to have been sent. Skipped, aloud, without them.

use super::captures::{datagrams, folder};
use super::{Bench, NOW, context_of};
use crate::flow::facts::{Counters, Fact};
use crate::flow::fields::Field;
use crate::wire::{Outcome, Version, exporter_address};
use serde_json::Value;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// What tshark calls `key`, the first one where it stands repeatedly; decimal where tshark writes hexadecimal.
fn told(values: &Value, key: &str) -> Option<String> {
    let text = match &values[key] {
        Value::Array(several) => several.first()?.as_str()?,
        one => one.as_str()?,
    };
    let hexadecimal = text.strip_prefix("0x").map(|digits| u64::from_str_radix(digits, 16).unwrap().to_string());
    Some(hexadecimal.unwrap_or_else(|| text.to_owned()))
}

fn number(values: &Value, key: &str) -> Option<u64> {
    told(values, key).map(|text| text.parse().unwrap())
}

/// One case with what became of each of its datagrams: the outcome, its first row, and the facts told.
struct Case {
    name: String,
    counts: Value,
    golden: Value,
    bench: Bench,
    outcomes: Vec<(Outcome, usize, IpAddr, Vec<Fact>)>,
}

fn cases(folder: &Path, protocols: &[&str]) -> Vec<Case> {
    let list = json(&folder.join("cases.json"));
    let chosen = list["cases"].as_array().unwrap().iter();
    let chosen = chosen.filter(|case| protocols.contains(&case["protocol"].as_str().unwrap()));
    chosen
        .map(|case| {
            let name = case["name"].as_str().unwrap().to_owned();
            let (mut bench, mut outcomes) = (Bench::new(), Vec::new());
            for file in case["files"].as_array().unwrap() {
                for (source, port, datagram) in datagrams(&folder.join(file.as_str().unwrap()), false) {
                    let exporter = exporter_address(&datagram, IpAddr::V4(source.into()));
                    let row = bench.batch.rows();
                    let id = outcomes.len() as u32;
                    let outcome = bench.decode_as(&context_of(id, port, NOW), &datagram);
                    let facts = bench.decoder.take_facts().into_iter().map(|(_, fact)| fact).collect();
                    outcomes.push((outcome, row, exporter, facts));
                }
            }
            let golden = json(&folder.join(format!("golden/tshark/{}.json", name.replace('/', "__"))));
            Case { name, counts: case["counts"].clone(), golden, bench, outcomes }
        })
        .collect()
}

/// Values that differ from what tshark's decode makes us expect, with the reason: case, field, ours, and the expected one.
const EXPLAINED: [(&str, Field, &str, &str, &str); 1] = [(
    "akvorado/sflow-data-1140",
    Field::InBytes,
    "40",
    "46",
    "a short packet in an Ethernet frame of 60 bytes: the IP header's length, not that of the filling",
)];

/// Compares the values of a row with texts and notes where they differ.
fn compare(
    bench: &Bench,
    row: usize,
    expected: &[(Field, Option<String>)],
    what: &str,
    wrong: &mut Vec<String>,
) -> usize {
    for (field, text) in expected {
        let found = bench.shown(*field, row);
        let Some(text) = text else { continue };
        let explained = EXPLAINED.iter().any(|(case, of, ours, theirs, _)| {
            what.starts_with(case) && of == field && *ours == found && theirs == text
        });
        if *text != found && !explained {
            wrong.push(format!("{what}: {} is {found:?}, not {text:?}", field.name()));
        }
    }
    expected.iter().filter(|(_, text)| text.is_some()).count()
}

/// An interface where `format` says that `value` is one; empty when it is none.
fn interface(format: Option<u64>, value: Option<u64>) -> Option<String> {
    let unknown = [0x3fff_ffff, 0xffff_ffff];
    value.map(
        |value| if format.unwrap_or(0) == 0 && !unknown.contains(&value) { value.to_string() } else { String::new() },
    )
}

/// What tshark reads of a flow sample, by our fields.
fn expected(sample: &Value) -> Vec<(Field, Option<String>)> {
    let either = |keys: &[&str]| keys.iter().find_map(|key| told(sample, key));
    let of = |name: &str| format!("sflow.flow_sample.{name}");
    let input = number(sample, &of("input_interface")).or_else(|| number(sample, &of("input_interface_value")));
    let output_format = number(sample, &of("output_interface_format"));
    let output_format = output_format.or_else(|| number(sample, &of("output_interface.format")));
    // The switch knows the VLAN better than the tag does; 0 and all bits set are none.
    let vlan = |key: &str| told(sample, key).filter(|text| text != "0" && text != "4294967295");
    let inner_vlan = match &sample["vlan.id"] {
        Value::Array(tags) => tags.get(1).and_then(Value::as_str).map(str::to_owned),
        _ => None,
    };
    let hops: Vec<&str> = match &sample["sflow_245.nexthop"] {
        Value::Array(hops) => hops.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    // tshark calls the next hops of router and gateway alike, in the order of their records.
    let formats: Vec<&str> = match &sample["sflow_245.flow_record_format"] {
        Value::Array(formats) => formats.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let routing = formats.into_iter().filter(|format| ["1002", "1003"].contains(format));
    let hop =
        |format: &str| routing.clone().zip(&hops).find(|(kind, _)| *kind == format).map(|(_, hop)| (*hop).to_owned());
    // tshark calls communities like the systems of the path before them.
    let path: Vec<&str> = match &sample["sflow_245.dstAS"] {
        Value::Array(path) => path.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let communities = number(sample, "sflow_245.communityEntries").unwrap_or(0) as usize;
    let path = &path[..path.len().saturating_sub(communities)];
    let last_as = path.last().map(|system| (*system).to_owned()).or_else(|| told(sample, "sflow_245.as"));
    let next_as = path.first().map(|system| (*system).to_owned());
    let discarded = output_format.map(|format| if format == 1 { "128" } else { "" }.to_owned());
    vec![
        (Field::SamplingInterval, told(sample, &of("sampling_rate"))),
        (Field::InputInterface, interface(number(sample, &of("input_interface_format")), input)),
        (Field::OutputInterface, interface(output_format, number(sample, &of("output_interface_value")))),
        (Field::ForwardingStatus, discarded),
        (Field::SrcIp, either(&["ip.src", "ipv6.src"])),
        (Field::DstIp, either(&["ip.dst", "ipv6.dst"])),
        (Field::Protocol, either(&["ip.proto", "ipv6.nxt"])),
        (Field::SrcPort, either(&["tcp.srcport", "udp.srcport"])),
        (Field::DstPort, either(&["tcp.dstport", "udp.dstport"])),
        (Field::TcpFlags, told(sample, "tcp.flags")),
        (Field::IcmpType, told(sample, "icmp.type")),
        (Field::IcmpCode, told(sample, "icmp.code")),
        (Field::InSrcMac, either(&["eth.src", "sflow_245.ethernet.source_mac_address"])),
        (Field::InDstMac, either(&["eth.dst", "sflow_245.ethernet.destination_mac_address"])),
        (Field::SrcVlan, vlan("sflow_245.vlan.in").or_else(|| told(sample, "vlan.id"))),
        (Field::DstVlan, vlan("sflow_245.vlan.out")),
        (Field::CustomerVlan, inner_vlan),
        (Field::NextHop, hop("1002")),
        (Field::BgpNextHop, hop("1003")),
        (Field::SrcMask, told(sample, "sflow_245.nexthop.src_mask")),
        (Field::DstMask, told(sample, "sflow_245.nexthop.dst_mask")),
        (Field::SrcAs, told(sample, "sflow_245.srcAS")),
        (Field::PreviousAs, told(sample, "sflow_245.peerAS")),
        (Field::DstAs, last_as),
        (Field::NextAs, next_as),
    ]
}

/// Bytes of layer 3 as the frame's length tells them, where tshark says how many bytes come before.
fn layer_3(sample: &Value) -> Option<u64> {
    let frame = number(sample, "sflow_245.header.frame_length")?
        .checked_sub(number(sample, "sflow_245.header.payload_stripped")?)?;
    let tags = match &sample["vlan.id"] {
        Value::Array(tags) => tags.len() as u64,
        Value::String(_) => 1,
        _ => 0,
    };
    let layer_2 = if sample["eth.type"].is_null() { 0 } else { 14 + 4 * tags };
    frame.checked_sub(layer_2)
}

#[test]
fn sflow_captures_decode_as_listed_and_as_tshark_reads_them() {
    let Some(folder) = folder() else { return };
    let (mut wrong, mut compared, mut checked) = (Vec::new(), 0, 0);
    for case in cases(&folder, &["sflow5", "sflow5+v5"]) {
        let count = |key: &str| case.counts[key].as_u64().unwrap();
        let sflow: Vec<_> =
            case.outcomes.iter().filter(|(outcome, ..)| outcome.version == Some(Version::Sflow)).collect();
        let flows: u64 = sflow.iter().map(|(outcome, ..)| u64::from(outcome.records)).sum();
        let samples: u64 = sflow.iter().map(|(outcome, ..)| u64::from(outcome.sets)).sum();
        let listed = count("flow_samples") + count("counter_samples") + count("other_samples");
        assert_eq!((flows, samples), (count("flow_samples"), listed), "{}", case.name);
        for ((outcome, row, exporter, facts), golden) in
            case.outcomes.iter().zip(case.golden["datagrams"].as_array().unwrap())
        {
            assert_eq!(outcome.rejected, None, "{}", case.name);
            if outcome.version != Some(Version::Sflow) {
                continue;
            }
            let agent = golden["header"]["sflow_245.agent"].as_str().unwrap();
            if agent != "127.0.0.1" {
                assert_eq!(exporter.to_string(), agent, "{}", case.name);
            }
            let sub_agent = golden["header"]["sflow_245.sub_agent_id"].as_str().unwrap();
            let mut row = *row;
            for sample in golden["samples"].as_array().unwrap() {
                let what = format!("{}, {}", case.name, sample["_label"]);
                if let Some(index) = number(sample, "sflow_245.ifindex") {
                    compared += check_counters(index, sample, facts, &what, &mut wrong);
                }
                if sample["sflow.flow_sample.sequence_number"].is_null() {
                    continue;
                }
                let mut expected = expected(sample);
                expected.push((Field::ObservationDomain, Some(sub_agent.to_owned())));
                expected.push((Field::InPackets, Some("1".to_owned())));
                expected.push((Field::InBytes, layer_3(sample).map(|bytes| bytes.to_string())));
                compared += compare(&case.bench, row, &expected, &what, &mut wrong);
                row += 1;
            }
            checked += 1;
        }
    }
    println!("{checked} datagrams, {compared} values");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 40 && compared > 1_000);
}

fn check_counters(index: u64, sample: &Value, facts: &[Fact], what: &str, wrong: &mut Vec<String>) -> usize {
    let own = |fact: &&Fact| matches!(fact, Fact::Counters(one) if u64::from(one.interface) == index);
    let Some(Fact::Counters(found)) = facts.iter().find(own) else {
        wrong.push(format!("{what}: no counters"));
        return 0;
    };
    // All bits set stands for a counter that is not kept.
    let all = |keys: &[&str]| -> u64 {
        let values = keys.iter().map(|key| number(sample, &format!("sflow_245.{key}")).unwrap());
        values.filter(|&value| value != u64::from(u32::MAX) && value != u64::MAX).sum()
    };
    let expected = Counters {
        interface: found.interface,
        in_bytes: all(&["ifinoct"]),
        in_packets: all(&["ifinpkt", "ifinmcast", "ifinbcast"]),
        in_discards: all(&["ifindisc"]),
        in_errors: all(&["ifinerr"]),
        out_bytes: all(&["ifoutoct"]),
        out_packets: all(&["ifoutpkt", "ifoutmcast", "ifoutbcast"]),
        out_discards: all(&["ifoutdisc"]),
        out_errors: all(&["ifouterr"]),
    };
    if *found != expected {
        wrong.push(format!("{what}: {found:?}, not {expected:?}"));
    }
    let speed = number(sample, "sflow_245.ifspeed").filter(|&speed| speed > 0);
    let told = |fact: &Fact| matches!(fact, Fact::Interface { interface, speed: it, .. } if u64::from(*interface) == index && *it == speed);
    if !facts.iter().any(told) {
        wrong.push(format!("{what}: no interface of speed {speed:?}"));
    }
    9
}

#[test]
fn v1_and_v7_captures_decode_as_listed_and_as_tshark_reads_them() {
    let Some(folder) = folder() else { return };
    let (mut wrong, mut compared, mut flows) = (Vec::new(), 0, 0);
    for case in cases(&folder, &["v1", "v7"]) {
        let mut row = 0;
        for ((outcome, ..), golden) in case.outcomes.iter().zip(case.golden["datagrams"].as_array().unwrap()) {
            assert_eq!((outcome.rejected, outcome.lost.count), (None, 0), "{}", case.name);
            for set in golden["sets"].as_array().unwrap() {
                for flow in set["flows"].as_array().unwrap() {
                    let of = |key: &str| told(flow, &format!("cflow.{key}"));
                    let expected = [
                        (Field::SrcIp, of("srcaddr")),
                        (Field::DstIp, of("dstaddr")),
                        (Field::NextHop, of("nexthop")),
                        (Field::InputInterface, of("inputint")),
                        (Field::OutputInterface, of("outputint")),
                        (Field::InPackets, of("packets")),
                        (Field::InBytes, of("octets")),
                        (Field::SrcPort, of("srcport")),
                        (Field::DstPort, of("dstport")),
                        (Field::TcpFlags, of("tcpflags")),
                        (Field::Protocol, of("protocol")),
                        (Field::SrcTos, of("tos")),
                        (Field::SrcAs, of("srcas")),
                        (Field::DstAs, of("dstas")),
                        (Field::SrcMask, of("srcmask")),
                        (Field::DstMask, of("dstmask")),
                    ];
                    compared += compare(&case.bench, row, &expected, &case.name, &mut wrong);
                    row += 1;
                }
            }
        }
        assert_eq!((row, case.bench.batch.rows()), (row, row), "{}", case.name);
        assert_eq!(row as u64, case.counts["data_records"].as_u64().unwrap(), "{}", case.name);
        flows += row;
    }
    println!("{flows} flows, {compared} values");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(flows >= 101 && compared > 1_000);
}

#[test]
fn flows_of_a_real_v7_exporter_are_those_that_were_sent() {
    let Some(folder) = folder() else { return };
    let truth = json(&folder.join("generated/fprobe-lo.truth.json"));
    let keys = ["src", "dst", "proto", "sport", "dport", "packets", "bytes"];
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut sent: HashMap<Vec<String>, u32> = HashMap::new();
    for flow in truth.as_array().unwrap() {
        *sent.entry(keys.map(|key| plain(&flow[key])).to_vec()).or_default() += 1;
    }
    let cases = cases(&folder, &["v7"]);
    let case = cases.iter().find(|case| case.name == "generated/fprobe-v7-lo").unwrap();
    use Field::{DstIp, DstPort, InBytes, InPackets, Protocol, SrcIp, SrcPort};
    for row in 0..case.bench.batch.rows() {
        let fields = [SrcIp, DstIp, Protocol, SrcPort, DstPort, InPackets, InBytes];
        let flow = fields.map(|field| case.bench.shown(field, row)).to_vec();
        let left = sent.get_mut(&flow).unwrap_or_else(|| panic!("{flow:?} was not sent"));
        *left = left.checked_sub(1).unwrap_or_else(|| panic!("{flow:?} twice"));
    }
    assert_eq!(case.bench.batch.rows(), 31);
}
