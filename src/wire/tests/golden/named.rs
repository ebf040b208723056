//! The answers of NetGauze, beats and logstash, which call fields by IANA's names or by Cisco's older ones.

use super::{Case, Differences, Record};
use crate::clock::Timestamp;
use crate::flow::fields::{Field as F, Kind};
use crate::flow::value::Value;
use serde_json::{Map, Value as Json};

/// Names without case, hyphens and underscores, and the fields they are, those of a lower rank first. Without logstash's
/// `first_switched` and `last_switched`, which it makes from uptimes and gets wrong by a second: beats' `start` and `end`
/// and tshark's are of the same captures.
const NAMES: &[(&str, F)] = &[
    ("octetdeltacount", F::InBytes),
    ("inbytes", F::InBytes),
    ("initiatoroctets", F::InBytes),
    ("octettotalcount", F::InBytes),
    ("inpermanentbytes", F::InBytes),
    ("packetdeltacount", F::InPackets),
    ("inpkts", F::InPackets),
    ("initiatorpackets", F::InPackets),
    ("packettotalcount", F::InPackets),
    ("postoctetdeltacount", F::OutBytes),
    ("outbytes", F::OutBytes),
    ("responderoctets", F::OutBytes),
    ("revflowdeltabytes", F::OutBytes),
    ("reverseoctettotalcount", F::OutBytes),
    ("postpacketdeltacount", F::OutPackets),
    ("outpkts", F::OutPackets),
    ("responderpackets", F::OutPackets),
    ("reversepackettotalcount", F::OutPackets),
    ("protocolidentifier", F::Protocol),
    ("protocol", F::Protocol),
    ("sourceipv4address", F::SrcIp),
    ("ipv4srcaddr", F::SrcIp),
    ("sourceipv6address", F::SrcIp),
    ("ipv6srcaddr", F::SrcIp),
    ("destinationipv4address", F::DstIp),
    ("ipv4dstaddr", F::DstIp),
    ("destinationipv6address", F::DstIp),
    ("ipv6dstaddr", F::DstIp),
    ("sourcetransportport", F::SrcPort),
    ("l4srcport", F::SrcPort),
    ("destinationtransportport", F::DstPort),
    ("l4dstport", F::DstPort),
    ("tcpcontrolbits", F::TcpFlags),
    ("tcpflags", F::TcpFlags),
    ("ipclassofservice", F::SrcTos),
    ("srctos", F::SrcTos),
    ("reverseipclassofservice", F::DstTos),
    ("silkapplabel", F::ApplicationId),
    ("natinsidesvcid", F::IngressVrf),
    ("natoutsidesvcid", F::EgressVrf),
    ("ingressinterface", F::InputInterface),
    ("inputsnmp", F::InputInterface),
    ("egressinterface", F::OutputInterface),
    ("outputsnmp", F::OutputInterface),
    ("bgpsourceasnumber", F::SrcAs),
    ("srcas", F::SrcAs),
    ("bgpdestinationasnumber", F::DstAs),
    ("dstas", F::DstAs),
    ("sourceipv4prefixlength", F::SrcMask),
    ("srcmask", F::SrcMask),
    ("sourceipv6prefixlength", F::SrcMask),
    ("destinationipv4prefixlength", F::DstMask),
    ("dstmask", F::DstMask),
    ("destinationipv6prefixlength", F::DstMask),
    ("ipnexthopipv4address", F::NextHop),
    ("ipv4nexthop", F::NextHop),
    ("ipnexthopipv6address", F::NextHop),
    ("bgpnexthopipv4address", F::BgpNextHop),
    ("bgpipv4nexthop", F::BgpNextHop),
    ("bgpnexthopipv6address", F::BgpNextHop),
    ("vlanid", F::SrcVlan),
    ("srcvlan", F::SrcVlan),
    ("dot1qvlanid", F::SrcVlan),
    ("postvlanid", F::DstVlan),
    ("dstvlan", F::DstVlan),
    ("dot1qcustomervlanid", F::CustomerVlan),
    ("sourcemacaddress", F::InSrcMac),
    ("insrcmac", F::InSrcMac),
    ("postsourcemacaddress", F::OutSrcMac),
    ("outsrcmac", F::OutSrcMac),
    ("destinationmacaddress", F::InDstMac),
    ("indstmac", F::InDstMac),
    ("postdestinationmacaddress", F::OutDstMac),
    ("outdstmac", F::OutDstMac),
    ("icmptypeipv4", F::IcmpType),
    ("icmptype", F::IcmpType),
    ("icmpcodeipv4", F::IcmpCode),
    ("icmpcode", F::IcmpCode),
    ("flowdirection", F::Direction),
    ("direction", F::Direction),
    ("samplinginterval", F::SamplingInterval),
    ("mplstoplabelstacksection", F::MplsLabel1),
    ("mplslabelstacksection2", F::MplsLabel2),
    ("mplslabelstacksection3", F::MplsLabel3),
    ("ethernettype", F::EthernetType),
    ("layer2segmentid", F::Layer2SegmentId),
    ("flowlabelipv6", F::FlowLabel),
    ("minimumttl", F::MinTtl),
    ("ipttl", F::MinTtl),
    ("maximumttl", F::MaxTtl),
    ("ipttl", F::MaxTtl),
    ("ingressvrfid", F::IngressVrf),
    ("viptelavpnid", F::IngressVrf),
    ("egressvrfid", F::EgressVrf),
    ("flowid", F::FlowId),
    ("connid", F::FlowId),
    ("flowendreason", F::FlowEndReason),
    ("firewallevent", F::FirewallEvent),
    ("fwevent", F::FirewallEvent),
    ("asafwevent", F::FirewallEvent),
    ("fwextevent", F::FirewallExtendedEvent),
    ("postnatsourceipv4address", F::PostNatSrcIp),
    ("xlatesrcaddripv4", F::PostNatSrcIp),
    ("asaxlatesrcaddripv4", F::PostNatSrcIp),
    ("postnatdestinationipv4address", F::PostNatDstIp),
    ("xlatedstaddripv4", F::PostNatDstIp),
    ("asaxlatedstaddripv4", F::PostNatDstIp),
    ("xlatesrcport", F::PostNatSrcPort),
    ("asaxlatesrcport", F::PostNatSrcPort),
    ("xlatedstport", F::PostNatDstPort),
    ("asaxlatedstport", F::PostNatDstPort),
    ("flowstartmilliseconds", F::FirstSeen),
    ("flowstartseconds", F::FirstSeen),
    ("flowstartmsec", F::FirstSeen),
    ("flowendmilliseconds", F::LastSeen),
    ("flowendseconds", F::LastSeen),
    ("eventtimemsec", F::LastSeen),
    ("start", F::FirstSeen),
    ("end", F::LastSeen),
];

/// The bytes of a MAC address or label, as numbers.
fn bytes(value: &Json) -> Option<u64> {
    value.as_array()?.iter().try_fold(0, |sum, byte| Some(sum << 8 | byte.as_u64()?))
}

/// The value as the field holds it; `None` when it is written as a word or an object, which tshark's answer covers.
fn value(field: F, value: &Json) -> Option<Value> {
    let text = value.as_str();
    let number = value.as_u64();
    match field.kind() {
        Kind::Address => Some(Value::Address(text?.parse::<std::net::IpAddr>().ok()?.to_canonical())),
        Kind::Mac => match text {
            Some(text) => u64::from_str_radix(&text.replace([':', '-'], ""), 16).ok().map(Value::Mac),
            None => bytes(value).map(Value::Mac),
        },
        Kind::Time => {
            let micros = match text {
                Some(text) => chrono::DateTime::parse_from_rfc3339(text).ok()?.timestamp_micros(),
                None => i64::try_from(number?).ok()? * 1_000,
            };
            Some(Value::Time(Timestamp::from_micros(micros)))
        }
        // The lower 4 of 24 bits stand behind a label.
        _ if value.is_array() => bytes(value).map(|bits| Value::Number(bits >> 4)),
        _ => number.map(Value::Number),
    }
}

/// The field of the packet inside that goes with one of the outer packet.
fn inner(field: F) -> Option<F> {
    match field {
        F::SrcIp => Some(F::InnerSrcIp),
        F::DstIp => Some(F::InnerDstIp),
        _ => None,
    }
}

fn record<'a>(fields: impl Iterator<Item = (&'a String, &'a Json)> + Clone) -> Record {
    let mut taken = std::collections::BTreeMap::new();
    // With two protocols the second addresses are those inside.
    let layered = fields.clone().filter(|(name, _)| *name == "protocolIdentifier").count() > 1;
    for (name, found) in fields {
        let plain: String = name.to_lowercase().chars().filter(|char| !matches!(char, '_' | '-')).collect();
        for (rank, (_, field)) in NAMES.iter().enumerate().filter(|(_, (known, _))| **known == plain) {
            let Some(value) = value(*field, found) else { continue };
            // Sampling of one in one, or in none, says nothing. An address of zeros gives way to the other kind's.
            let empty = match value {
                Value::Address(address) => address.is_unspecified(),
                Value::Number(interval) if *field == F::SamplingInterval && interval <= 1 => continue,
                _ => false,
            };
            let field = match inner(*field) {
                Some(inner) if layered && taken.contains_key(field) => inner,
                _ => *field,
            };
            let entry = taken.entry(field).or_insert((empty, rank, value));
            if (empty, rank) < (entry.0, entry.1) {
                *entry = (empty, rank, value);
            }
        }
    }
    taken.into_iter().map(|(field, (.., value))| (field, value)).collect()
}

/// One message a line, and in it each set's records.
pub(super) fn compare_netgauze(case: &Case, golden: &str, differences: &mut Differences) {
    for (index, line) in golden.lines().enumerate() {
        let message: Json = serde_json::from_str(line).unwrap();
        let message = message.as_object().unwrap().values().next().unwrap();
        let sets = message["sets"].as_array().unwrap().iter();
        let records = sets.filter_map(|set| set["Data"]["records"].as_array()).flatten();
        let flows = records.filter(|record| record["scope_fields"].as_array().is_none_or(Vec::is_empty));
        let expected: Vec<Record> = flows
            .map(|flow| record(flow["fields"].as_array().unwrap().iter().flat_map(|it| it.as_object().unwrap())))
            .collect();
        differences.compare("netgauze", case, &case.rows[index], &expected);
    }
}

fn object(value: &Json) -> impl Iterator<Item = (&String, &Json)> + Clone {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// One event a record, in order.
pub(super) fn compare_beats(case: &Case, golden: &Json, differences: &mut Differences) {
    let events = golden["events"].as_array().into_iter().flatten().map(|event| &event["Fields"]);
    let flows = events.filter(|fields| fields["netflow"]["type"] == "netflow_flow");
    let expected: Vec<Record> =
        flows.map(|fields| record(object(&fields["netflow"]).chain(object(&fields["event"])))).collect();
    differences.compare("beats", case, &case.all_rows(), &expected);
}

/// Some events, with their place among all records, options records included.
pub(super) fn compare_logstash(case: &Case, golden: &Json, differences: &mut Differences) {
    let rows = case.all_rows();
    for event in golden["events"].as_array().into_iter().flatten() {
        let expected = record(object(&event["event"]["netflow"]));
        if !expected.contains_key(&F::InBytes) && !expected.contains_key(&F::SrcIp) {
            continue;
        }
        let place = event["index"].as_u64().unwrap() as usize;
        // With options records among them, the place is that of the row that agrees most.
        let candidates = if case.options.is_empty() { rows.get(place..=place).unwrap_or_default() } else { &rows };
        let agreeing = |row: &usize| {
            let ours = case.record(*row);
            expected.iter().filter(|(field, value)| ours.get(field) == Some(value)).count()
        };
        let row = candidates.iter().copied().max_by_key(agreeing);
        differences.compare("logstash", case, row.as_slice(), &[expected]);
    }
}
