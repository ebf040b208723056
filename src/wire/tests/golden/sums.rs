//! What was sent is known: the captures made from packets, by the sums of packets and bytes of each conversation.

use super::{Case, Differences, read};
use crate::flow::fields::Field as F;
use crate::flow::value::Value;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::Path;

/// Cases, what was sent, and whether all of it was exported.
const TRUTHS: [(&str, &str, bool); 6] = [
    ("generated/softflowd-v9-mixed", "mixed", true),
    ("generated/softflowd-ipfix-mixed", "mixed", true),
    ("generated/softflowd-ipfix-biflow-mixed", "mixed", true),
    ("generated/fprobe-v1-lo", "fprobe-lo", false),
    ("generated/fprobe-v5-lo", "fprobe-lo", false),
    ("generated/fprobe-v7-lo", "fprobe-lo", false),
];

/// What softflowd says it exported of a capture in which it leaves some packets out: packets and bytes.
const TOTALS: (&str, u64, u64) = ("generated/softflowd-v1-tcpreplay", 156, 62_128);

/// Addresses, protocol, ports; ICMP has no ports, only what exporters write there.
type Conversation = (String, String, u64, u64, u64);
type Sums = BTreeMap<Conversation, (u64, u64)>;

fn conversation(src: String, dst: String, protocol: u64, ports: (u64, u64)) -> Conversation {
    let (src_port, dst_port) = if matches!(protocol, 6 | 17) { ports } else { (0, 0) };
    (src, dst, protocol, src_port, dst_port)
}

fn add(sums: &mut Sums, key: Conversation, packets: u64, bytes: u64) {
    if packets > 0 {
        let sum = sums.entry(key).or_default();
        *sum = (sum.0 + packets, sum.1 + bytes);
    }
}

fn truth(golden: &Json) -> Sums {
    let flows = golden.as_array().or_else(|| golden["flows"].as_array()).unwrap();
    let mut sums = Sums::new();
    for flow in flows {
        let text = |key: &str| flow[key].as_str().unwrap().to_owned();
        let number = |key: &str| flow[key].as_u64().unwrap();
        let key = conversation(text("src"), text("dst"), number("proto"), (number("sport"), number("dport")));
        add(&mut sums, key, number("packets"), number("bytes"));
    }
    sums
}

fn decoded(case: &Case) -> Sums {
    let mut sums = Sums::new();
    for row in case.all_rows() {
        let record = case.record(row);
        let number = |field| match record.get(&field) {
            Some(Value::Number(number)) => *number,
            _ => 0,
        };
        let address = |field| record[&field].to_string();
        let (src, dst, ports) = (address(F::SrcIp), address(F::DstIp), (number(F::SrcPort), number(F::DstPort)));
        let protocol = number(F::Protocol);
        let there = conversation(src.clone(), dst.clone(), protocol, ports);
        add(&mut sums, there, number(F::InPackets), number(F::InBytes));
        let back = conversation(dst, src, protocol, (ports.1, ports.0));
        add(&mut sums, back, number(F::OutPackets), number(F::OutBytes));
    }
    sums
}

pub(super) fn compare(case: &Case, folder: &Path, differences: &mut Differences) {
    if case.name == TOTALS.0 {
        let totals = case.bench.batch.totals(0..case.bench.batch.rows());
        let (packets, bytes) = (totals.packets, totals.bytes);
        if (packets, bytes) != (TOTALS.1, TOTALS.2) {
            differences.note("truth", &case.name, "sums", || format!("{packets} packets, {bytes} bytes"));
        }
    }
    let Some((_, name, all)) = TRUTHS.into_iter().find(|(name, ..)| *name == case.name) else { return };
    let truth = truth(&read(&folder.join(format!("generated/{name}.truth.json"))));
    let decoded = decoded(case);
    for (key, ours) in &decoded {
        if truth.get(key) != Some(ours) {
            differences.note("truth", &case.name, "sums", || format!("{key:?}: {ours:?} not {:?}", truth.get(key)));
        }
    }
    if all && decoded.len() != truth.len() {
        differences.note("truth", &case.name, "conversations", || format!("{} not {}", decoded.len(), truth.len()));
    }
}
