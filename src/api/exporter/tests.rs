//! The shape of one exporter, with everything it can have.

use super::*;
use crate::clock::{HOUR, Timestamp};
use crate::flow::facts;
use crate::store::catalogue::ExporterRow;
use serde_json::json;

const AT: Timestamp = Timestamp::from_micros(1_795_392_000_000_000);

fn detail() -> ExporterDetail {
    let exporter = ExporterRow {
        exporter_id: 3,
        address: "192.0.2.1".parse().unwrap(),
        name: None,
        versions: vec![9, 105],
        datagrams: 7,
        flows: 210,
        templates: 2,
        last_seen: Some(AT),
        loss: BTreeMap::new(),
    };
    let session = |state| DecoderState {
        exporter_id: 3,
        transport: 1,
        source_port: 51_000,
        version: 10,
        observation_domain: 256,
        templates: 1,
        state,
    };
    // Format 2, no flags, a time, no holes, one template of one field, sampling of an exporter and an interface.
    let mut state = vec![2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    state.extend([0, 1, 1, 1, 0, 1, 0, 9, 0, 0, 0, 0x34, 0x24, 0xff, 0xff]);
    state.extend([100, 0, 0, 0, 0, 0, 1, 0, 7, 0, 0, 0, 10, 0, 0, 0]);
    let counters = facts::Counters { interface: 2, in_bytes: u64::MAX, ..facts::Counters::default() };
    ExporterDetail {
        exporter,
        clock_offsets: vec![(9, Some(-12)), (105, None)],
        sessions: vec![session(state), session(vec![255])],
        interfaces: vec![InterfaceRow {
            interface: 2,
            name: Some("=HYPERLINK(\"http://x\")".into()),
            description: Some("<script>alert(1)</script>".into()),
            speed: None,
            counters: Some((AT, counters)),
        }],
        applications: vec![ApplicationRow { application_id: u64::MAX, name: Some("dns".into()), description: None }],
        vrfs: vec![(1, None)],
        statistics: vec![StatisticRow {
            observation_domain: 0,
            statistic: "notSentFlowTotalCount".into(),
            value: 5,
            received: AT,
        }],
        unknown_elements: vec![UnknownRow { enterprise: 9, element: 9_268, records: 4, last_seen: AT }],
        loss: vec![HourLoss { hour: AT, cause: "network".into(), unit: "datagrams".into(), count: 2 }],
        totals: Totals { interfaces: 100_000, loss: 1, ..Totals::default() },
    }
}

#[test]
fn an_exporter_comes_with_all_that_is_known_of_it_and_nothing_is_left_out() {
    let window = query::Window { from: AT, to: AT.plus(HOUR), zone: chrono_tz::UTC };
    let midnight = "2026-11-23T00:00:00Z";
    let zeros =
        |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), json!(0))).collect::<serde_json::Map<_, _>>();
    let mut counters =
        zeros(&["in_packets", "in_discards", "in_errors", "out_bytes", "out_packets", "out_discards", "out_errors"]);
    counters.extend([("received".to_owned(), json!(midnight)), ("in_bytes".to_owned(), json!(u64::MAX))]);
    let mut totals = zeros(&["sessions", "applications", "vrfs", "statistics", "unknown_elements"]);
    totals.extend([("interfaces".to_owned(), json!(100_000)), ("loss".to_owned(), json!(1))]);
    assert_eq!(
        serde_json::to_value(ExporterDetails::new(detail(), Vec::new(), window, &Counting::default())).unwrap(),
        json!({
            "id": 3, "address": "192.0.2.1", "name": null, "versions": [9, 105],
            "protocols": ["netflow_v9", "sflow_v5"], "counting": {"count": "all", "interfaces": null}, "flows": 210, "lost": {"unit": "datagrams", "count": 0},
            "lost_by_unit": {}, "dropped": {}, "rejected": {}, "templates": 2, "last_seen": midnight,
            "clock_offset_ms": {"netflow_v9": -12, "sflow_v5": null},
            "sessions": [
                {"transport": "tcp", "source_port": 51_000, "protocol": "ipfix", "observation_domain": 256,
                 "templates": [{"id": 256, "kind": "options", "scope_fields": 1, "fields": [
                    {"enterprise": 9, "element": 9_268, "name": "clientRetransPackets", "length": null, "field": null}
                 ]}],
                 "samplers": [{"scope": "exporter", "id": null, "interval": 100},
                    {"scope": "interface", "id": 7, "interval": 10}]},
                {"transport": "tcp", "source_port": 51_000, "protocol": "ipfix", "observation_domain": 256,
                 "templates": null, "samplers": null},
            ],
            "interfaces": [{"interface": 2, "name": "=HYPERLINK(\"http://x\")",
                "description": "<script>alert(1)</script>", "speed": null, "counters": counters}],
            "applications": [{"application_id": u64::MAX, "name": "dns", "description": null}],
            "vrfs": [{"vrf": 1, "name": null}],
            "statistics": [{"observation_domain": 0, "statistic": "notSentFlowTotalCount", "value": 5,
                "received": midnight}],
            "unknown_elements": [{"enterprise": 9, "element": 9_268, "name": "clientRetransPackets", "records": 4,
                "last_seen": midnight}],
            "window": {"from": midnight, "to": "2026-11-23T01:00:00Z", "timezone": "UTC"},
            "loss": [{"hour": midnight, "cause": "network", "unit": "datagrams", "count": 2}],
            "double_counting": [],
            "totals": totals,
        })
    );
}
