//! akvorado's answers, in which the sampling of options data is already part of each flow.

use super::{Case, Differences, Record};
use crate::flow::fields::{Field as F, Kind};
use crate::flow::value::Value;
use serde_json::Value as Json;

const NAMES: &[(&str, F)] = &[
    ("Bytes", F::InBytes),
    ("Packets", F::InPackets),
    ("Proto", F::Protocol),
    ("SrcAddr", F::SrcIp),
    ("DstAddr", F::DstIp),
    ("SrcPort", F::SrcPort),
    ("DstPort", F::DstPort),
    ("TCPFlags", F::TcpFlags),
    ("InIf", F::InputInterface),
    ("OutIf", F::OutputInterface),
    ("SrcAS", F::SrcAs),
    ("DstAS", F::DstAs),
    ("SrcNetMask", F::SrcMask),
    ("DstNetMask", F::DstMask),
    ("NextHop", F::NextHop),
    ("SrcVlan", F::SrcVlan),
    ("DstVlan", F::DstVlan),
    ("SrcMAC", F::InSrcMac),
    ("DstMAC", F::InDstMac),
    ("ForwardingStatus", F::ForwardingStatus),
    ("SamplingRate", F::SamplingInterval),
    ("IngressVRFID", F::IngressVrf),
    ("EgressVRFID", F::EgressVrf),
    ("IPTTL", F::MaxTtl),
];

fn record(flow: &Json) -> Record {
    let mut out = Record::new();
    for (name, field) in NAMES {
        let number = flow[*name].as_u64();
        let value = match field.kind() {
            Kind::Address => flow[*name].as_str().and_then(|text| text.parse().ok()).map(Value::Address),
            Kind::Mac => number.map(Value::Mac),
            // 0 and 1 stand for "does not say" and "all".
            _ if *field == F::SamplingInterval => number.filter(|interval| *interval > 1).map(Value::Number),
            _ => number.map(Value::Number),
        };
        out.extend(value.map(|value| (*field, value)));
    }
    let labels = flow["MPLSLabels"].as_array().into_iter().flatten().filter_map(Json::as_u64).map(Value::Number);
    out.extend([F::MplsLabel1, F::MplsLabel2].into_iter().zip(labels));
    out
}

pub(super) fn compare(case: &Case, golden: &Json, differences: &mut Differences) {
    let rows = case.all_rows();
    for test in golden["tests"].as_array().unwrap() {
        let flows = test["flows"].as_array().unwrap();
        let listed = test["first_only"].as_u64().map_or(rows.len(), |first| first as usize);
        let expected: Vec<Record> = flows.iter().map(record).collect();
        differences.compare("akvorado", case, rows.get(..listed).unwrap_or(&rows), &expected);
    }
}
