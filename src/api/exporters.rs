//! `GET /api/v1/exporters`: who sends flows, and what of it was lost or refused.

use super::State;
use super::format;
use super::params::Asked;
use super::problem::Problem;
use super::shapes::{CountingRule, moment};
use crate::flow::counting::Counting;
use crate::query::window::zone;
use crate::store::catalogue::{ExporterList, ExporterRow};
use crate::wire::Version;
use actix_web::{HttpResponse, get, web};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use utoipa::{IntoParams, ToSchema};

/// In which zone moments are written.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ZoneParams {
    /// The time zone in which moments are written, by its IANA name (`Europe/Berlin`). Left out: the zone of the server's
    /// configuration.
    tz: Option<String>,
}

impl ZoneParams {
    /// The zone asked for, else `configured`.
    pub(super) fn zone(&self, configured: Tz) -> Result<Tz, Problem> {
        Ok(self.tz.as_deref().map(zone).transpose()?.unwrap_or(configured))
    }
}

/// What an exporter sent and the network lost.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Lost {
    /// What the exporter's sequence numbers count: `flows` (NetFlow v5), `datagrams` (v9, sFlow) or `records` (IPFIX).
    #[schema(example = "flows")]
    pub unit: &'static str,
    /// How many are missing.
    #[schema(example = 30)]
    pub count: u64,
}

/// An exporter.
#[derive(Debug, Serialize, ToSchema)]
pub struct Exporter {
    /// Its number, as the field `exporter_id` of its flows has it.
    #[schema(example = 1)]
    pub id: u32,
    /// The address its datagrams come from.
    #[schema(value_type = String, example = "192.0.2.1")]
    pub address: IpAddr,
    /// What people call it; null when nobody named it.
    #[schema(example = "core-1", required = true)]
    pub name: Option<String>,
    /// The versions of the protocol it sent: 1, 5, 7, 9, 10 (IPFIX) or 105 (sFlow 5).
    #[schema(example = json!([9]))]
    pub versions: Vec<u16>,
    /// The same by name: `netflow_v1`, `netflow_v5`, `netflow_v7`, `netflow_v9`, `ipfix`, `sflow_v5`.
    #[schema(example = json!(["netflow_v9"]))]
    pub protocols: Vec<&'static str>,
    /// Which of its flows are part of sums.
    pub counting: CountingRule,
    /// Flows stored since it is known.
    #[schema(example = 4_100)]
    pub flows: u64,
    /// What the network lost, by the exporter's sequence numbers. One that changed versions is counted in the unit of
    /// which most was lost.
    pub lost: Lost,
    /// The same by unit, where something was lost: an exporter that changed versions has several.
    #[schema(example = json!({"flows": 30}))]
    pub lost_by_unit: BTreeMap<&'static str, u64>,
    /// What was received of it and dropped before it was decoded: datagrams by cause.
    #[schema(example = json!({"journal_full": 12}))]
    pub dropped: BTreeMap<String, u64>,
    /// What was received of it and refused, by reason.
    #[schema(example = json!({"unknown_template": 3}))]
    pub rejected: BTreeMap<String, u64>,
    /// Templates known of it now.
    #[schema(example = 4)]
    pub templates: u64,
    /// When its last datagram was received; null when none was stored yet.
    #[schema(format = DateTime, example = "2026-11-23T13:00:00+01:00", required = true)]
    pub last_seen: Option<String>,
}

/// All exporters.
#[derive(Debug, Serialize, ToSchema)]
pub struct Exporters {
    /// By number.
    pub exporters: Vec<Exporter>,
    /// What was dropped or refused and is counted for none of them.
    pub unattributed: Unattributed,
}

/// What no exporter is known for: the kernel drops without saying whose datagrams, and a sender of nothing but what is
/// refused is no exporter.
#[derive(Debug, Serialize, ToSchema)]
pub struct Unattributed {
    /// What was dropped before it was decoded: datagrams by cause.
    #[schema(example = json!({"kernel": 12}))]
    pub dropped: BTreeMap<String, u64>,
    /// What was refused, by reason.
    #[schema(example = json!({"unknown_version": 3}))]
    pub rejected: BTreeMap<String, u64>,
}

/// The units in which exporters count what they send.
const UNITS: [&str; 3] = ["flows", "datagrams", "records"];

/// What the sequence numbers of an exporter count that lost nothing yet.
fn unit_of(versions: &[u16]) -> &'static str {
    match versions.last().and_then(|&code| Version::from_code(code)) {
        Some(Version::V9 | Version::Sflow) => "datagrams",
        Some(Version::Ipfix) => "records",
        _ => "flows",
    }
}

/// The name of the protocol with this [`Version::code`].
pub fn protocol(code: u16) -> &'static str {
    Version::from_code(code).map_or("unknown", Version::name)
}

/// Loss told apart by where it happened.
#[derive(Default)]
struct Places {
    network: BTreeMap<&'static str, u64>,
    dropped: BTreeMap<String, u64>,
    rejected: BTreeMap<String, u64>,
}

impl Places {
    fn new(loss: BTreeMap<(String, String), u64>) -> Self {
        let mut places = Self::default();
        for ((cause, unit), count) in loss {
            match (cause.as_str(), unit.as_str()) {
                // Time without a collector is neither dropped nor refused: nobody knows what came.
                (_, "seconds") => {}
                ("network", unit) => {
                    if let Some(unit) = UNITS.into_iter().find(|known| *known == unit) {
                        places.network.insert(unit, count);
                    }
                }
                ("kernel" | "journal_full" | "journal_corrupt", _) => add(&mut places.dropped, cause, count),
                _ => add(&mut places.rejected, cause, count),
            }
        }
        places
    }
}

impl Exporter {
    /// The shape of `row` with its moments in `zone` and its rule of `counting`.
    pub fn new(row: ExporterRow, zone: Tz, counting: &Counting) -> Self {
        let Places { network, dropped, rejected } = Places::new(row.loss);
        let most = network.iter().max_by_key(|(_, count)| **count);
        let (unit, count) = most.map_or((unit_of(&row.versions), 0), |(unit, count)| (*unit, *count));
        let lost = Lost { unit, count };
        Self {
            id: row.exporter_id,
            address: row.address,
            name: row.name,
            protocols: row.versions.iter().map(|&code| protocol(code)).collect(),
            versions: row.versions,
            counting: (&counting.rule_of(row.address)).into(),
            flows: row.flows,
            lost,
            lost_by_unit: network,
            dropped,
            rejected,
            templates: row.templates,
            last_seen: row.last_seen.map(|seen| moment(seen, zone)),
        }
    }
}

impl Exporters {
    fn new(list: ExporterList, zone: Tz, counting: &Counting) -> Self {
        let Places { dropped, rejected, .. } = Places::new(list.unattributed);
        let exporters = list.exporters.into_iter().map(|row| Exporter::new(row, zone, counting)).collect();
        Self { exporters, unattributed: Unattributed { dropped, rejected } }
    }
}

fn add(counts: &mut BTreeMap<String, u64>, cause: String, count: u64) {
    let sum = counts.entry(cause).or_default();
    *sum = sum.saturating_add(count);
}

/// Who sends flows
///
/// All exporters that ever sent something, with what was stored, lost and refused since each is known.
#[utoipa::path(
    tag = "Server",
    operation_id = "exporters",
    params(ZoneParams),
    responses(
        (status = 200, description = "All exporters.", body = Exporters),
        (status = "4XX", description = "The request cannot be answered.", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "The request cannot be answered at the moment.", body = Problem, content_type = "application/problem+json"),
    )
)]
#[get("/exporters")]
pub async fn get_exporters(asked: Asked<(ZoneParams,)>, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let Asked((asked,)) = asked;
    let zone = asked.zone(state.zone)?;
    let list = state.database.exporters().await?;
    format::json(&Exporters::new(list, zone, state.engine.counting()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::flow::counting::{Count, NetworkRule};
    use serde_json::json;

    fn row(loss: &[(&str, &str, u64)]) -> ExporterRow {
        ExporterRow {
            exporter_id: 3,
            address: "192.0.2.1".parse().unwrap(),
            name: None,
            versions: vec![5, 9],
            datagrams: 7,
            flows: 210,
            templates: 2,
            last_seen: Some(Timestamp::from_micros(1_795_392_000_000_000)),
            loss: loss.iter().map(|(cause, unit, count)| ((cause.to_string(), unit.to_string()), *count)).collect(),
        }
    }

    #[test]
    fn loss_is_told_apart_by_where_it_happened() {
        let row = row(&[
            ("bad_length", "datagrams", 1),
            ("bad_length", "sets", 2),
            ("journal_full", "datagrams", 4),
            ("network", "datagrams", 5),
            ("network", "flows", 30),
        ]);
        let exporters = "192.0.2.0/24".parse().unwrap();
        let counting = Counting::new([NetworkRule { exporters, count: Some(Count::Ingress), interfaces: None }]);
        assert_eq!(
            serde_json::to_value(Exporter::new(row, chrono_tz::Europe::Berlin, &counting)).unwrap(),
            json!({
                "id": 3, "address": "192.0.2.1", "name": null, "versions": [5, 9], "protocols": ["netflow_v5", "netflow_v9"],
                "counting": {"count": "ingress", "interfaces": null}, "flows": 210,
                "lost": {"unit": "flows", "count": 30}, "lost_by_unit": {"datagrams": 5, "flows": 30}, "dropped": {"journal_full": 4}, "rejected": {"bad_length": 3},
                "templates": 2, "last_seen": "2026-11-23T01:00:00+01:00",
            })
        );
    }

    #[test]
    fn what_no_exporter_is_known_for_stands_beside_them() {
        let unattributed =
            row(&[("collector_down", "seconds", 60), ("kernel", "datagrams", 8), ("too_short", "datagrams", 2)]).loss;
        let list = ExporterList { exporters: vec![], unattributed };
        assert_eq!(
            serde_json::to_value(Exporters::new(list, chrono_tz::UTC, &Counting::default())).unwrap(),
            json!({"exporters": [], "unattributed": {"dropped": {"kernel": 8}, "rejected": {"too_short": 2}}})
        );
    }

    #[test]
    fn an_exporter_that_lost_nothing_says_so_in_its_unit() {
        let exporter = Exporter::new(row(&[]), chrono_tz::UTC, &Counting::default());
        assert_eq!(exporter.lost, Lost { unit: "datagrams", count: 0 });
        assert!(exporter.lost_by_unit.is_empty());
        assert_eq!((unit_of(&[5]), unit_of(&[9, 10]), unit_of(&[])), ("flows", "records", "flows"));
        assert_eq!((unit_of(&[5, 105]), protocol(105)), ("datagrams", "sflow_v5"));
    }
}
