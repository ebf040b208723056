//! Real exporters' captures through both decoders, by the sums of what they hold.

use super::{Theirs, Told, expected, taken};
use crate::flow::fields::Field as F;
use crate::wire::tests::captures::{datagrams, folder};
use crate::wire::tests::{Bench, NOW, context_of};
use netflow_parser::{NetflowParser, PendingFlowsConfig};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Flow records; bytes and packets in the flow's direction; the same against it.
type Sums = [u128; 5];

const COUNTERS: [F; 4] = [F::InBytes, F::InPackets, F::OutBytes, F::OutPackets];

/// Captures in which they find other sums, those, and why.
const EXPLAINED: &[(&str, Sums, &str)] = &[
    ("akvorado/ipfix-srv6", [1, 0, 0, 0, 0], "they do not look into packets in records"),
    ("logstash/netflow-9-palo-alto-1-flowset-in-large-zero-filled-packet", [0; 5], "zeros after the last FlowSet"),
    ("telegraf/ipfix-pen-35632", [0; 5], EMPTY),
    ("telegraf/issue-13305", [0; 5], EMPTY),
];
const EMPTY: &str = "nProbe sends strings without a byte, which end their set";

fn add(sums: &mut Sums, theirs: &Theirs) {
    for reading in &theirs.records {
        sums[0] += 1;
        let held = expected(reading, theirs.base);
        for (sum, field) in sums[1..].iter_mut().zip(COUNTERS) {
            *sum += held.get(&field).map_or(0, |(bits, _)| *bits);
        }
    }
}

/// What both make of a capture: ours and theirs. They keep templates by exporter, port and observation domain, as we do,
/// and data that waits for one.
fn sums(folder: &Path, case: &Value) -> (Sums, Sums) {
    let (mut bench, mut theirs) = (Bench::new(), Sums::default());
    let mut parsers = HashMap::new();
    for file in case["files"].as_array().unwrap() {
        let path = folder.join(file.as_str().unwrap());
        for (exporter, port, datagram) in datagrams(&path, case["split"].as_bool().unwrap_or(false)) {
            if !matches!(datagram.get(..2), Some([0, 5 | 7 | 9 | 10])) {
                continue;
            }
            bench.decode_as(&context_of(exporter, port, NOW), &datagram);
            bench.unpark();
            let domain = datagram.get(if datagram.get(1) == Some(&9) { 16..20 } else { 12..16 }).unwrap_or_default();
            let (parser, told) = parsers.entry((exporter, port, domain.to_vec())).or_insert_with(|| {
                let waiting = NetflowParser::builder().with_pending_flows(PendingFlowsConfig::default());
                (waiting.build().unwrap(), Told::default())
            });
            if let Some(found) = taken(parser.parse_bytes(&datagram), told) {
                add(&mut theirs, &found);
            }
        }
    }
    let mut ours = Sums::default();
    ours[0] = bench.batch.rows() as u128;
    for (sum, field) in ours[1..].iter_mut().zip(COUNTERS) {
        *sum = (0..bench.batch.rows()).filter_map(|row| bench.batch.column(field).bits(row)).sum();
    }
    (ours, theirs)
}

#[test]
fn captures_of_real_exporters_have_the_same_sums() {
    let Some(folder) = folder() else { return };
    let list: Value = serde_json::from_slice(&std::fs::read(folder.join("cases.json")).unwrap()).unwrap();
    let mut explained: BTreeMap<_, _> = EXPLAINED.iter().map(|(name, sums, _)| (*name, *sums)).collect();
    let (mut checked, mut records, mut wrong) = (0, 0, Vec::new());
    for case in list["cases"].as_array().unwrap() {
        let (name, protocol) = (case["name"].as_str().unwrap(), case["protocol"].as_str().unwrap());
        if protocol == "sflow5" {
            continue;
        }
        let (ours, theirs) = sums(&folder, case);
        let expected = explained.remove(name);
        if theirs != expected.unwrap_or(ours) || expected == Some(ours) {
            wrong.push(format!("{name}: {ours:?}, theirs {theirs:?}, explained {expected:?}"));
        }
        checked += 1;
        records += ours[0];
    }
    println!("{checked} captures, {records} records");
    wrong.extend(explained.keys().map(|name| format!("{name}: explained, but there is none")));
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    assert!(checked > 60 && records > 5_000);
}
