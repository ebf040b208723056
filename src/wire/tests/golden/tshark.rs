//! tshark's answers: one leaf a field, all of them text.

use super::{Case, Differences, Record};
use crate::clock::{SECOND, Timestamp};
use crate::flow::fields::Field as F;
use crate::flow::value::Value;
use How::{Address, Code, Dscp, Hex, Interval, Kind, Mac, Moment, Number, Reverse, ReverseHex};
use serde_json::Value as Json;

/// How a leaf is written, and what of it is ours.
#[derive(Clone, Copy)]
enum How {
    Number,
    /// `0x10`.
    Hex,
    /// ICMP type and code in one, of which the type.
    Kind,
    /// ICMP type and code in one, of which the code.
    Code,
    Address,
    Mac,
    /// The number at this place of a list.
    Nth(usize),
    /// The second of two: the other direction's (RFC 5103), which tshark shows under the same name.
    Reverse,
    ReverseHex,
    /// One out of so many, where 0 and 1 say nothing.
    Interval,
    /// Differentiated services without the two bits behind them.
    Dscp,
    /// Seconds of uptime, or a moment. Of several the latest, which is the one with the finest resolution.
    Moment,
}

/// Leaves and the fields they are. Of several for one field the first that is there counts, as by our ranks: what stands
/// under its own name before what is known only in total, moments before uptimes.
const TABLE: &[(&str, F, How)] = &[
    ("octets", F::InBytes, Number),
    ("initiator_octets", F::InBytes, Number),
    ("permanent_octets", F::InBytes, Number),
    ("packets", F::InPackets, Number),
    ("initiator_packets", F::InPackets, Number),
    ("permanent_packets", F::InPackets, Number),
    ("post_octets", F::OutBytes, Number),
    ("responder_octets", F::OutBytes, Number),
    ("octets", F::OutBytes, Reverse),
    ("permanent_octets", F::OutBytes, Reverse),
    ("post_packets", F::OutPackets, Number),
    ("responder_packets", F::OutPackets, Number),
    ("packets", F::OutPackets, Reverse),
    ("permanent_packets", F::OutPackets, Reverse),
    ("protocol", F::Protocol, Number),
    ("srcaddr", F::SrcIp, Address),
    ("srcaddrv6", F::SrcIp, Address),
    ("pie.cisco.connection_client_ipv4_address", F::SrcIp, Address),
    ("dstaddr", F::DstIp, Address),
    ("dstaddrv6", F::DstIp, Address),
    ("pie.cisco.connection_server_ipv4_address", F::DstIp, Address),
    ("srcport", F::SrcPort, Number),
    ("dstport", F::DstPort, Number),
    ("pie.cisco.connection_server_transport_port", F::DstPort, Number),
    ("tcpflags", F::TcpFlags, Hex),
    ("tos", F::SrcTos, Hex),
    ("ip_dscp", F::SrcTos, Dscp),
    ("post_tos", F::DstTos, Hex),
    ("tos", F::DstTos, ReverseHex),
    ("inputint", F::InputInterface, Number),
    ("ingress_physical_interface", F::InputInterface, Number),
    ("outputint", F::OutputInterface, Number),
    ("egress_physical_interface", F::OutputInterface, Number),
    ("srcas", F::SrcAs, Number),
    ("dstas", F::DstAs, Number),
    ("peer_srcas", F::PreviousAs, Number),
    ("peer_dstas", F::NextAs, Number),
    ("srcmask", F::SrcMask, Number),
    ("srcmaskv6", F::SrcMask, Number),
    ("dstmask", F::DstMask, Number),
    ("dstmaskv6", F::DstMask, Number),
    ("nexthop", F::NextHop, Address),
    ("nexthopv6", F::NextHop, Address),
    ("bgpnexthop", F::BgpNextHop, Address),
    ("bgpnexthopv6", F::BgpNextHop, Address),
    ("vlanid", F::SrcVlan, Number),
    ("dot1q_vlan_id", F::SrcVlan, Number),
    ("post_vlanid", F::DstVlan, Number),
    ("post_dot1q_vlan_id", F::DstVlan, Number),
    ("dot1q_customer_vlan_id", F::CustomerVlan, Number),
    ("srcmac", F::InSrcMac, Mac),
    ("post_srcmac", F::OutSrcMac, Mac),
    ("dstmac", F::InDstMac, Mac),
    ("post_dstmac", F::OutDstMac, Mac),
    ("icmp_ipv4_type", F::IcmpType, Number),
    ("icmp_ipv6_type", F::IcmpType, Number),
    ("icmp_type_code_ipv4", F::IcmpType, Kind),
    ("icmp_ipv4_code", F::IcmpCode, Number),
    ("icmp_ipv6_code", F::IcmpCode, Number),
    ("icmp_type_code_ipv4", F::IcmpCode, Code),
    ("direction", F::Direction, Number),
    ("flows", F::AggregatedFlows, Number),
    ("abstimestart", F::FirstSeen, Moment),
    ("timestart", F::FirstSeen, Moment),
    ("observation_time_milliseconds", F::FirstSeen, Moment),
    ("abstimeend", F::LastSeen, Moment),
    ("timeend", F::LastSeen, Moment),
    ("observation_time_milliseconds", F::LastSeen, Moment),
    ("sampler_random_interval", F::SamplingInterval, Interval),
    ("sampling_interval", F::SamplingInterval, Interval),
    ("mpls_label", F::MplsLabel1, How::Nth(0)),
    ("mpls_label", F::MplsLabel2, How::Nth(1)),
    ("mpls_label", F::MplsLabel3, How::Nth(2)),
    ("ethernet_type", F::EthernetType, Number),
    ("layer2_segment_id", F::Layer2SegmentId, Number),
    ("ipv6flowlabel", F::FlowLabel, Number),
    ("ttl_min", F::MinTtl, Number),
    ("ttl_max", F::MaxTtl, Number),
    ("ip_ttl", F::MinTtl, Number),
    ("ip_ttl", F::MaxTtl, Number),
    ("ingress_vrfid", F::IngressVrf, Number),
    ("egress_vrfid", F::EgressVrf, Number),
    ("pie.ntop.l7_proto", F::ApplicationId, Number),
    ("flow_id", F::FlowId, Number),
    ("flow_end_reason", F::FlowEndReason, Number),
    ("firewall_event", F::FirewallEvent, Number),
    ("fw_ext_event", F::FirewallExtendedEvent, Number),
    ("post_natsource_ipv4_address", F::PostNatSrcIp, Address),
    ("post_natdestination_ipv4_address", F::PostNatDstIp, Address),
    ("post_naptsource_transport_port", F::PostNatSrcPort, Number),
    ("post_naptdestination_transport_port", F::PostNatDstPort, Number),
];

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
}

/// Microseconds in a number of seconds with a fraction.
fn micros(text: &str) -> Option<i64> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let fraction: String = fraction.chars().chain("000000".chars()).take(6).collect();
    Some(seconds.parse::<i64>().ok()? * SECOND + fraction.parse::<i64>().ok()?)
}

/// A moment as `Oct  9, 2015 09:47:48.179000000 UTC`.
fn moment(text: &str) -> Option<i64> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let moment = chrono::NaiveDateTime::parse_from_str(&words.join(" "), "%b %d, %Y %H:%M:%S%.f UTC").ok()?;
    Some(moment.and_utc().timestamp_micros())
}

/// What uptimes count from.
struct Clock {
    export: Option<i64>,
    uptime: Option<i64>,
    /// In IPFIX: when the exporter started.
    started: Option<i64>,
}

impl Clock {
    fn new(header: &Json, started: Option<i64>) -> Self {
        let text = |leaf: &str| header[leaf].as_str();
        let seconds = text("cflow.unix_secs").and_then(micros);
        let nanoseconds = text("cflow.unix_nsecs").and_then(|text| text.parse::<i64>().ok());
        Self {
            export: seconds.map(|seconds| seconds + nanoseconds.unwrap_or(0) / 1_000),
            uptime: text("cflow.sysuptime").and_then(micros),
            started,
        }
    }

    fn time(&self, text: &str) -> Option<i64> {
        let uptime = match micros(text) {
            // An uptime of 0 is shown as the moment 0.
            None => match moment(text)? {
                0 => 0,
                moment => return Some(moment),
            },
            Some(uptime) => uptime,
        };
        match (self.export, self.uptime) {
            (Some(export), Some(now)) => {
                // The counter of milliseconds goes around at 2^32.
                let distance = ((uptime - now) / 1_000) as u32;
                Some(export + i64::from(distance.cast_signed()) * 1_000)
            }
            _ => Some(self.started? + uptime),
        }
    }
}

/// The leaf at a place of those with this name.
fn leaf<'a>(flow: &'a Json, name: &str, place: usize) -> Option<&'a str> {
    match &flow[format!("cflow.{name}")] {
        Json::Array(list) => list.get(place)?.as_str(),
        Json::String(text) if place == 0 => Some(text),
        _ => None,
    }
}

/// IPv4-mapped addresses are IPv4 ones.
fn address(text: &str) -> Option<Value> {
    Some(Value::Address(text.parse::<std::net::IpAddr>().ok()?.to_canonical()))
}

/// What a record with two protocols says of the packet inside; without the ports and the rest, of which we keep the outer.
fn layers(flow: &Json, out: &mut Record) {
    let number = |place| leaf(flow, "protocol", place).and_then(|text| text.parse().ok()).map(Value::Number);
    let sides = [("src", F::SrcIp, F::InnerSrcIp), ("dst", F::DstIp, F::InnerDstIp)];
    for (side, outer, inner) in sides {
        // Those in the captures are all inside IPv6.
        let wide = |place| leaf(flow, &format!("{side}addrv6"), place).and_then(address);
        let narrow = leaf(flow, &format!("{side}addr"), 0).and_then(address);
        out.extend(wide(0).map(|value| (outer, value)));
        out.extend(wide(1).or(narrow).map(|value| (inner, value)));
    }
    out.extend(number(1).map(|value| (F::InnerProtocol, value)));
    out.remove(&F::DstTos);
}

/// What the packet in a record holds, of which the decode has addresses, types and protocols only.
fn packet(flow: &Json, out: &mut Record) {
    let text = |name: &str| flow[name].as_str();
    let mac = |name: &str| text(name).and_then(|text| hex(&text.replace(':', ""))).map(Value::Mac);
    let number = |name: &str| text(name).and_then(|text| text.parse().ok()).map(Value::Number);
    let (narrow, wide) = (["ip.src", "ip.dst", "ip.proto"], ["ipv6.src", "ipv6.dst", "ipv6.nxt"]);
    let inner = [F::InnerSrcIp, F::InnerDstIp, F::InnerProtocol];
    // The one in the captures is IPv4 inside IPv6.
    let layers = [(wide, [F::SrcIp, F::DstIp, F::Protocol]), (narrow, inner)];
    for ([source, destination, protocol], fields) in layers {
        let values = [text(source).and_then(address), text(destination).and_then(address), number(protocol)];
        out.extend(fields.into_iter().zip(values).filter_map(|(field, value)| Some((field, value?))));
    }
    out.extend(mac("eth.src").map(|value| (F::InSrcMac, value)));
    out.extend(mac("eth.dst").map(|value| (F::InDstMac, value)));
    out.extend(text("eth.type").and_then(hex).map(|kind| (F::EthernetType, Value::Number(kind))));
}

fn record(flow: &Json, clock: &Clock) -> Record {
    let mut out = Record::new();
    for &(name, field, how) in TABLE {
        let text = |place| leaf(flow, name, place);
        let number = |text: &str| text.parse().ok().map(Value::Number);
        let time = |text: &str| clock.time(text).map(|micros| Value::Time(Timestamp::from_micros(micros)));
        let value = match how {
            Number => text(0).and_then(number),
            Hex => text(0).and_then(hex).map(Value::Number),
            Kind => text(0).and_then(hex).map(|both| Value::Number(both >> 8)),
            Code => text(0).and_then(hex).map(|both| Value::Number(both & 255)),
            Address => text(0).and_then(address),
            Mac => text(0).and_then(|text| hex(&text.replace(':', ""))).map(Value::Mac),
            How::Nth(place) => text(place).and_then(number),
            Reverse => text(1).and_then(number),
            ReverseHex => text(1).and_then(hex).map(Value::Number),
            Interval => text(0).and_then(number).filter(|value| *value > Value::Number(1)),
            Dscp => text(0).and_then(|text| text.parse::<u64>().ok()).map(|codepoint| Value::Number(codepoint << 2)),
            Moment => (0..3).filter_map(|place| time(text(place)?)).max(),
        };
        let Some(value) = value else { continue };
        // Where a record has room for both kinds of address, the other kind's is zero.
        let empty = |value: &Value| matches!(value, Value::Address(address) if address.is_unspecified());
        if out.get(&field).is_none_or(|taken| empty(taken) && !empty(&value)) {
            out.insert(field, value);
        }
    }
    if leaf(flow, "protocol", 1).is_some() {
        layers(flow, &mut out);
    }
    packet(flow, &mut out);
    let forwarding =
        ["forwarding_status_forward_code", "forwarding_status_drop_code", "forwarding_status_consume_code"];
    let codes = forwarding.into_iter().chain(["forwarding_status_unknown_code"]);
    let code = codes.filter_map(|name| leaf(flow, name, 0)).find_map(|text| text.parse::<u64>().ok());
    if let Some(status) = leaf(flow, "forwarding_status", 0).and_then(|text| text.parse::<u64>().ok()) {
        out.insert(F::ForwardingStatus, Value::Number(status << 6 | code.unwrap_or(0)));
    }
    let engine = leaf(flow, "appl_id.classification_engine_id", 0).and_then(|text| text.parse::<u64>().ok());
    let selector = leaf(flow, "appl_id.selector_id", 0).and_then(|text| hex(&text.replace(':', "")));
    if let (Some(engine), Some(selector)) = (engine, selector) {
        out.insert(F::ApplicationId, Value::Number(engine << 24 | selector));
    }
    out
}

/// What the header says about all records: the domain, and in v5 the sampling.
fn common(header: &Json) -> Record {
    let number = |name: &str| leaf(header, name, 0).and_then(|text| text.parse::<u64>().ok());
    let engine = number("engine_type").zip(number("engine_id")).map(|(kind, id)| kind * 256 + id);
    // v1 and v7 have no domain.
    let domain = number("source_id").or_else(|| number("od_id")).or(engine).or(Some(0));
    let interval = number("samplerate").filter(|interval| *interval > 1);
    let fields = [(F::ObservationDomain, domain), (F::SamplingInterval, interval)];
    fields.into_iter().filter_map(|(field, number)| Some((field, Value::Number(number?)))).collect()
}

pub(super) fn compare(case: &Case, golden: &Json, differences: &mut Differences) {
    let mut started = None;
    for datagram in golden["datagrams"].as_array().unwrap() {
        let index = datagram["n"].as_u64().unwrap() as usize;
        let common = common(&datagram["header"]);
        let mut expected = Vec::new();
        for set in datagram["sets"].as_array().into_iter().flatten() {
            let flows = set["flows"].as_array().into_iter().flatten();
            let is_options = set["id"].as_u64().is_some_and(|id| case.options.contains(&(index, id as u16)));
            for flow in flows {
                started = leaf(flow, "sys_init_time", 0).and_then(moment).or(started);
                if !is_options {
                    let mut record = record(flow, &Clock::new(&datagram["header"], started));
                    common.iter().for_each(|(field, value)| _ = record.entry(*field).or_insert(*value));
                    expected.push(record);
                }
            }
        }
        differences.compare("tshark", case, &case.rows[index], &expected);
    }
}
