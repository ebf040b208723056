//! What an exporter and another one, or it alone in both directions, told twice: a part of `GET /api/v1/exporters/{id}`.

use super::shapes::moment;
use crate::clock::Timestamp;
use crate::flow::counting::FlowDirection;
use crate::flow::double_counting::{self as model, PointPair, Summary};
use chrono_tz::Tz;
use serde::Serialize;
use std::net::IpAddr;
use utoipa::ToSchema;

/// Flows that this exporter and another side told alike, so that they count twice. Found while hours are sealed, in a sample of
/// TCP, UDP and SCTP flows: equal 5-tuple, bytes and packets at overlapping times.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct DoubleCounting {
    /// Where this exporter metered them: `ingress` or `egress`; null where its flows do not say.
    #[schema(example = "ingress", required = true)]
    direction: Option<&'static str>,
    /// Who told them as well.
    other: OtherSide,
    /// In how many hours of the window it was found.
    #[schema(example = 24)]
    hours: u64,
    /// The start of the last of them.
    #[schema(format = DateTime, example = "2026-11-23T13:00:00+01:00")]
    last_hour: String,
    /// Flows in the samples of these hours that this side told.
    #[schema(example = 41_000)]
    compared_flows: u64,
    /// Flows in the samples that the other side told.
    #[schema(example = 40_000)]
    other_compared_flows: u64,
    /// Flows in the samples that both told.
    #[schema(example = 39_000)]
    matched_flows: u64,
    /// The smallest sample was one in so many 5-tuples; 1 means that all were compared.
    #[schema(example = 8)]
    sampled_one_in: u32,
    /// Bytes that count twice in these hours, multiplied by sampling intervals; an estimate unless all were compared.
    #[schema(example = 7_300_000_000_u64)]
    double_bytes: u64,
    /// The interfaces with the most flows in common in the last hour, at most 10.
    interfaces: Vec<SharedInterfaces>,
    /// The largest flows told twice in the last hour, at most 2.
    examples: Vec<DoubleFlow>,
    /// Lines of the configuration that would end it, by the last hour; null when no setting separates the two.
    #[schema(example = "[[exporter]]\naddress = \"192.0.2.1\"\ncount = \"ingress\"", required = true)]
    proposal: Option<String>,
}

/// An exporter and where it metered.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct OtherSide {
    /// Its number; may be that of this exporter.
    #[schema(example = 1)]
    exporter: u32,
    /// The address its datagrams come from.
    #[schema(value_type = String, example = "192.0.2.1")]
    address: IpAddr,
    /// `ingress` or `egress`; null where its flows do not say.
    #[schema(example = "egress", required = true)]
    direction: Option<&'static str>,
}

/// Two interfaces that told the same flows: where packets left for `egress`, else where they came in.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct SharedInterfaces {
    /// The SNMP index of this exporter's; null where its flows do not say.
    #[schema(example = 3, required = true)]
    interface: Option<u32>,
    /// This exporter's observation domain.
    #[schema(example = 256)]
    observation_domain: u32,
    /// The SNMP index of the other one's.
    #[schema(example = 4, required = true)]
    other_interface: Option<u32>,
    /// The other one's observation domain.
    #[schema(example = 256)]
    other_observation_domain: u32,
    /// Flows in the sample that both told.
    #[schema(example = 1_200)]
    matched_flows: u64,
}

/// A flow that was told twice.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
struct DoubleFlow {
    /// Source address.
    #[schema(value_type = String, example = "192.168.1.10")]
    src_ip: IpAddr,
    /// Source port.
    #[schema(example = 51_000)]
    src_port: u16,
    /// Destination address.
    #[schema(value_type = String, example = "198.51.100.1")]
    dst_ip: IpAddr,
    /// Destination port.
    #[schema(example = 443)]
    dst_port: u16,
    /// IANA protocol number.
    #[schema(example = 6)]
    protocol: u8,
    /// Bytes that both told.
    #[schema(example = 1_500_000)]
    bytes: u64,
    /// Packets; null where neither told.
    #[schema(example = 1_000, required = true)]
    packets: Option<u64>,
    /// This exporter's interface.
    #[schema(example = 3, required = true)]
    interface: Option<u32>,
    /// The other one's interface.
    #[schema(example = 4, required = true)]
    other_interface: Option<u32>,
    /// When this exporter saw the first packet.
    #[schema(format = DateTime, example = "2026-11-23T13:00:00+01:00")]
    first_seen: String,
    /// When the other one did.
    #[schema(format = DateTime, example = "2026-11-23T13:00:00+01:00")]
    other_first_seen: String,
}

/// A pair with the asked exporter's half first.
fn turned<T>([one, other]: [T; 2], turn: bool) -> (T, T) {
    if turn { (other, one) } else { (one, other) }
}

impl DoubleCounting {
    /// What `summary` says, as seen from `exporter_id`, with its moments in `zone`.
    pub fn new(summary: Summary, exporter_id: u32, zone: Tz) -> Self {
        let turn = summary.sides.first().is_some_and(|side| side.exporter_id != exporter_id);
        let (own, other) = turned(summary.sides, turn);
        let (_, address) = turned(summary.addresses, turn);
        let (compared_flows, other_compared_flows) = turned(summary.compared_flows, turn);
        Self {
            direction: own.direction.map(FlowDirection::name),
            other: OtherSide {
                exporter: other.exporter_id,
                address,
                direction: other.direction.map(FlowDirection::name),
            },
            hours: summary.hours,
            last_hour: moment(summary.last_hour, zone),
            compared_flows,
            other_compared_flows,
            matched_flows: summary.matched_flows,
            sampled_one_in: summary.sampled_one_in,
            double_bytes: summary.double_bytes,
            proposal: summary.proposed_lines(),
            interfaces: summary.points.into_iter().map(|pair| SharedInterfaces::new(&pair, turn)).collect(),
            examples: summary.examples.into_iter().map(|flow| DoubleFlow::new(&flow, turn, zone)).collect(),
        }
    }
}

impl SharedInterfaces {
    fn new(pair: &PointPair, turn: bool) -> Self {
        let (interface, other_interface) = turned(pair.interfaces, turn);
        let (observation_domain, other_observation_domain) = turned(pair.observation_domains, turn);
        let matched_flows = pair.matched_flows;
        Self { interface, observation_domain, other_interface, other_observation_domain, matched_flows }
    }
}

impl DoubleFlow {
    fn new(flow: &model::Example, turn: bool, zone: Tz) -> Self {
        let (interface, other_interface) = turned(flow.interfaces, turn);
        let seen = flow.first_seen.map(|micros| moment(Timestamp::from_micros(micros), zone));
        let (first_seen, other_first_seen) = turned(seen, turn);
        let model::Example { src_ip, dst_ip, src_port, dst_port, protocol, bytes, packets, .. } = *flow;
        Self {
            src_ip,
            src_port,
            dst_ip,
            dst_port,
            protocol,
            bytes,
            packets,
            interface,
            other_interface,
            first_seen,
            other_first_seen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::double_counting::Side;
    use serde_json::{Value, json};

    fn summary() -> Summary {
        let side = |exporter_id, direction| Side { exporter_id, direction };
        Summary {
            sides: [side(3, None), side(4, Some(FlowDirection::Egress))],
            addresses: ["192.0.2.3".parse().unwrap(), "192.0.2.4".parse().unwrap()],
            hours: 2,
            last_hour: Timestamp::from_micros(1_795_392_000_000_000),
            compared_flows: [500, 400],
            matched_flows: 390,
            double_bytes: 7_000,
            sampled_one_in: 2,
            points: vec![PointPair { observation_domains: [0, 256], interfaces: [None, Some(9)], matched_flows: 390 }],
            examples: vec![model::Example {
                src_ip: "10.0.0.1".parse().unwrap(),
                dst_ip: "2001:db8::1".parse().unwrap(),
                src_port: 1,
                dst_port: 2,
                protocol: 6,
                bytes: 70,
                packets: None,
                interfaces: [None, Some(9)],
                first_seen: [1_795_392_000_000_000, 1_795_392_001_000_000],
            }],
            proposal: Some(("192.0.2.4".parse().unwrap(), "count = \"none\"".to_owned())),
        }
    }

    fn shown(exporter_id: u32) -> Value {
        serde_json::to_value(DoubleCounting::new(summary(), exporter_id, chrono_tz::UTC)).unwrap()
    }

    #[test]
    fn double_counting_is_told_from_the_side_of_the_exporter_that_is_asked_for() {
        let (of_three, of_four) = (shown(3), shown(4));
        assert_eq!(of_three["other"], json!({"exporter": 4, "address": "192.0.2.4", "direction": "egress"}));
        assert_eq!(of_four["other"], json!({"exporter": 3, "address": "192.0.2.3", "direction": null}));
        assert_eq!((&of_three["direction"], &of_four["direction"]), (&json!(null), &json!("egress")));
        assert_eq!((&of_three["compared_flows"], &of_three["other_compared_flows"]), (&json!(500), &json!(400)));
        assert_eq!((&of_four["compared_flows"], &of_four["other_compared_flows"]), (&json!(400), &json!(500)));
        let interfaces = json!([{"interface": 9, "observation_domain": 256, "other_interface": null,
            "other_observation_domain": 0, "matched_flows": 390}]);
        assert_eq!(of_four["interfaces"], interfaces);
        let flow = &of_four["examples"][0];
        assert_eq!((&flow["interface"], &flow["other_interface"]), (&json!(9), &json!(null)));
        assert_eq!(flow["first_seen"], "2026-11-23T00:00:01Z");
        assert_eq!(flow["other_first_seen"], "2026-11-23T00:00:00Z");
        assert_eq!(of_four["proposal"], "[[exporter]]\naddress = \"192.0.2.4\"\ncount = \"none\"");
    }
}
