//! `GET /api/v1/hosts/{ip}` and `/peers`: one host's traffic, and with whom.
//!
//! A download is traffic to the host, an upload traffic from it, seen by the addresses of a flow as it is stored.

use super::State;
use super::fields::DimensionName;
use super::format::{self, Format, Table};
use super::params::{Asked, CounterParams, RankParams, WindowParams, address, invalid, limit};
use super::problem::Problem;
use super::shapes::{Completeness, Counting, PeerRowShape, Source, TotalsShape, Window, ranked_table};
use super::top::rows_as_csv;
use crate::filter::Expression;
use crate::flow::fields::{Dimension, Field};
use crate::query::{HostAnswer, HostRequest, TopAnswer, TopRequest};
use actix_web::{HttpRequest, HttpResponse, get, web};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use utoipa::{IntoParams, ToSchema};

/// One host's traffic. Every flow to or from the host counts in exactly one of the three sums.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Host)]
pub struct HostShape {
    /// The window asked for.
    pub window: Window,
    /// The host.
    #[schema(value_type = String, example = "192.168.10.57")]
    pub host: IpAddr,
    /// What bytes and packets mean where exporters sample.
    #[schema(value_type = super::params::CountersName)]
    pub counters: &'static str,
    /// Flows to the host from outside the local networks.
    pub download: TotalsShape,
    /// Flows from the host to outside the local networks.
    pub upload: TotalsShape,
    /// Flows between the host and a local network.
    pub internal: TotalsShape,
    /// What the answer may be missing.
    pub completeness: Completeness,
    /// What the answer was read from.
    pub source: Source,
    /// Which flows it counts.
    pub counting: Counting,
}

impl HostShape {
    fn new(request: &HostRequest, answer: &HostAnswer) -> Self {
        Self {
            window: request.window.into(),
            host: answer.host,
            counters: request.counters.name(),
            download: answer.download.into(),
            upload: answer.upload.into(),
            internal: answer.internal.into(),
            completeness: Completeness::new(&answer.completeness, request.window.zone),
            source: answer.source.into(),
            counting: (&answer.counted).into(),
        }
    }
}

/// One host's download, upload and internal traffic
///
/// Local networks are those of the setting `[network] local`, by default the private ranges. Traffic between the host
/// and one of them is internal; all other traffic is download (to the host) or upload (from it).
#[utoipa::path(
    tag = "Questions",
    operation_id = "host",
    params(("ip" = String, Path, description = "The host's IPv4 or IPv6 address.", example = "192.168.10.57"), CounterParams, WindowParams),
    responses(
        (status = 200, description = "The host's sums; zeros when it was not seen.", body = HostShape),
        (status = "4XX", description = "The question cannot be answered as it is asked.", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "The question cannot be answered at the moment.", body = Problem, content_type = "application/problem+json"),
    )
)]
#[get("/hosts/{ip}")]
pub async fn get_host(
    ip: web::Path<String>,
    asked: Asked<(CounterParams, WindowParams)>,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let Asked((counters, window)) = asked;
    let request = HostRequest {
        host: address(&ip)?,
        window: window.window(state.zone, state.clock.now())?,
        counters: counters.counters()?,
    };
    let answer = counters.engine(&state.engine)?.host(&request).await?;
    format::json(&HostShape::new(&request, &answer))
}

/// Which way traffic goes, seen from a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Download,
    Upload,
}

/// Which way traffic goes, seen from the host.
#[derive(utoipa::ToSchema)]
#[schema(as = Direction, rename_all = "snake_case", default = "download")]
pub enum DirectionName {
    /// To the host: peers are the servers it loaded from.
    Download,
    /// From the host: peers are the servers it sent to.
    Upload,
}

impl Direction {
    fn parse(text: Option<&str>) -> Result<Self, Problem> {
        match text {
            None | Some("download") => Ok(Self::Download),
            Some("upload") => Ok(Self::Upload),
            Some(other) => Err(invalid("direction", other, "download or upload")),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Download => "download",
            Self::Upload => "upload",
        }
    }

    /// The flows of `host` this way, and the field in which its peers stand.
    fn of(self, host: IpAddr) -> (Expression, Field) {
        match self {
            Self::Download => (Expression::dst_ip(host), Field::SrcIp),
            Self::Upload => (Expression::src_ip(host), Field::DstIp),
        }
    }
}

/// Which peers.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PeerParams {
    /// `download` means the flows `dst ip H`, `upload` the flows `src ip H`, with the peers at the other end.
    #[param(value_type = Option<DirectionName>)]
    direction: Option<String>,
    /// How many rows at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 10_000, default = 50)]
    limit: Option<String>,
}

/// A host's largest peers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Peers)]
pub struct PeersShape<'a> {
    /// The window asked for.
    pub window: Window,
    /// The host.
    #[schema(value_type = String, example = "192.168.10.57")]
    pub host: IpAddr,
    /// Which way the traffic went, seen from the host.
    #[schema(value_type = DirectionName)]
    pub direction: &'static str,
    /// The field that `peer` is: `src_ip` for downloads, `dst_ip` for uploads.
    #[schema(value_type = Vec<DimensionName>, example = json!(["src_ip"]))]
    pub by: Vec<&'static str>,
    /// What the rows are ranked by.
    #[schema(value_type = super::params::OrderName)]
    pub order: &'static str,
    /// What bytes and packets mean where exporters sample.
    #[schema(value_type = super::params::CountersName)]
    pub counters: &'static str,
    /// The whole filter in canonical form: the host and what was asked for besides.
    #[schema(example = "dst ip 192.168.10.57")]
    pub filter: String,
    /// Sums over all peers, also those beyond the limit.
    pub totals: TotalsShape,
    /// How many peers there are, also those beyond the limit.
    pub groups: u64,
    /// What the answer may be missing.
    pub completeness: Completeness,
    /// What the answer was read from.
    pub source: Source,
    /// Which flows it counts.
    pub counting: Counting,
    /// The largest peers, largest first; equal ones by address, ascending.
    #[schema(value_type = Vec<PeerRowShape>, required = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<&'a Table>,
}

/// The answer for the peers of `host` in the format asked for.
fn respond(
    format: Format,
    host: IpAddr,
    direction: Direction,
    request: &TopRequest,
    answer: &TopAnswer,
) -> Result<HttpResponse, Problem> {
    let zone = request.window.zone;
    let shape = |rows| PeersShape {
        window: request.window.into(),
        host,
        direction: direction.name(),
        by: request.by.iter().map(|dimension| dimension.name()).collect(),
        order: request.order.name(),
        counters: request.counters.name(),
        filter: request.filter.as_ref().map(ToString::to_string).unwrap_or_default(),
        totals: answer.totals.into(),
        groups: answer.groups,
        completeness: Completeness::new(&answer.completeness, zone),
        source: answer.source.into(),
        counting: (&answer.counted).into(),
        rows,
    };
    let table = ranked_table(&["peer"], &answer.rows, &answer.totals, request.order, zone);
    format::ranked(format, &table, || rows_as_csv(&["peer"], request.order, answer, zone), shape)
}

/// Where a host's traffic came from or went to
///
/// **The servers a host loaded from**, as `nfdump -s srcip/bytes -n 50 'dst ip 192.168.10.57'` has them:
/// `/api/v1/hosts/192.168.10.57/peers?direction=download&limit=50&week=2026-W47`
///
/// A `filter` narrows the flows further, for instance `proto tcp and src port 443`.
#[utoipa::path(
    tag = "Questions",
    operation_id = "peers",
    params(
        ("ip" = String, Path, description = "The host's IPv4 or IPv6 address.", example = "192.168.10.57"),
        PeerParams, RankParams, CounterParams, WindowParams,
    ),
    responses(
        (
            status = 200,
            description = "The largest peers, largest first.",
            headers(("flowledger-answer" = String, description = "For CSV and NDJSON: the answer without its rows, as JSON in ASCII.")),
            content(
                (PeersShape = "application/json", example = json!({
                    "window": {"from": "2026-11-16T00:00:00+01:00", "to": "2026-11-23T00:00:00+01:00", "timezone": "Europe/Berlin"},
                    "host": "192.168.10.57", "direction": "download", "by": ["src_ip"], "order": "bytes",
                    "counters": "scaled", "filter": "dst ip 192.168.10.57",
                    "totals": {"bytes": 308281344, "packets": 240120, "flows": 911},
                    "groups": 38,
                    "completeness": {"exact": true, "estimated": false, "sampled_flows": 0, "stale_since": null, "lost": [],
                        "undercount": {"flows_at_most": 0, "percent_at_most": 0.0}, "exporters": [], "more_exporters": 0},
                    "source": {"days": 0, "hours": 0, "segments": 812},
                    "counting": {"count": "rules", "rules": [], "more_rules": 0},
                    "rows": [{"rank": 1, "peer": "203.0.113.8", "bytes": 104857600, "packets": 80000, "flows": 12,
                        "first_seen": "2026-11-17T09:30:00+01:00", "last_seen": "2026-11-17T09:41:07+01:00", "share": 0.340136}]
                })),
                (String = "text/csv", example = json!("rank,peer,bytes,packets,flows,first_seen,last_seen,share\n1,203.0.113.8,104857600,80000,12,2026-11-17T09:30:00+01:00,2026-11-17T09:41:07+01:00,0.340136\n")),
                (PeerRowShape = "application/x-ndjson")
            )
        ),
        (status = "4XX", description = "The question cannot be answered as it is asked.", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "The question cannot be answered at the moment.", body = Problem, content_type = "application/problem+json"),
    )
)]
#[get("/hosts/{ip}/peers")]
pub async fn get_peers(
    http: HttpRequest,
    ip: web::Path<String>,
    asked: Asked<(PeerParams, RankParams, CounterParams, WindowParams)>,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let Asked((peer, rank, counters, window)) = asked;
    let format = Format::of(&http, rank.format())?;
    let host = address(&ip)?;
    let direction = Direction::parse(peer.direction.as_deref())?;
    let (flows, end) = direction.of(host);
    let request = TopRequest {
        window: window.window(state.zone, state.clock.now())?,
        by: vec![Dimension::One(end)],
        order: rank.order()?,
        limit: limit(peer.limit.as_deref(), 50)?,
        filter: Some(match rank.filter(state.engine.local())? {
            Some(narrower) => flows.and(narrower),
            None => flows,
        }),
        counters: counters.counters()?,
    };
    let answer = counters.engine(&state.engine)?.top(&request).await?;
    respond(format, host, direction, &request, &answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::flow::segment::Totals;
    use crate::flow::value::Value;
    use crate::query::{self, Counters, Order, TopRow};
    use actix_web::body::to_bytes;
    use serde_json::json;

    fn window() -> query::Window {
        let from = Timestamp::from_micros(1_795_392_000_000_000);
        query::Window { from, to: from.plus(crate::clock::HOUR), zone: chrono_tz::UTC }
    }

    fn sums(bytes: u64) -> Totals {
        Totals { bytes, packets: 2, flows: 1 }
    }

    #[test]
    fn a_host_has_three_sums_and_a_stamp() {
        let answer = HostAnswer {
            host: "10.0.0.7".parse().unwrap(),
            download: sums(7),
            upload: sums(8),
            internal: Totals::default(),
            completeness: query::Completeness::default(),
            source: query::Source { days: 1, hours: 2, segments: 3 },
            counted: query::Counted { all: true, ..query::Counted::default() },
        };
        let request = HostRequest { host: answer.host, window: window(), counters: Counters::Raw };
        assert_eq!(
            serde_json::to_value(HostShape::new(&request, &answer)).unwrap(),
            json!({
                "window": {"from": "2026-11-23T00:00:00Z", "to": "2026-11-23T01:00:00Z", "timezone": "UTC"},
                "host": "10.0.0.7",
                "counters": "raw",
                "download": {"bytes": 7, "packets": 2, "flows": 1},
                "upload": {"bytes": 8, "packets": 2, "flows": 1},
                "internal": {"bytes": 0, "packets": 0, "flows": 0},
                "completeness":
                    {"exact": false, "estimated": false, "sampled_flows": 0, "stale_since": null, "lost": [],
                     "undercount": null, "exporters": [], "more_exporters": 0},
                "source": {"days": 1, "hours": 2, "segments": 3},
                "counting": {"count": "all", "rules": [], "more_rules": 0},
            })
        );
    }

    #[test]
    fn a_download_is_what_goes_to_the_host() {
        let host: IpAddr = "10.0.0.7".parse().unwrap();
        let (flows, end) = Direction::parse(None).unwrap().of(host);
        assert_eq!((flows.to_string().as_str(), end), ("dst ip 10.0.0.7", Field::SrcIp));
        let (flows, end) = Direction::parse(Some("upload")).unwrap().of(host);
        assert_eq!((flows.to_string().as_str(), end), ("src ip 10.0.0.7", Field::DstIp));
        assert!(Direction::parse(Some("both")).is_err());
    }

    #[actix_web::test]
    async fn rows_carry_peer_in_every_format() {
        let host: IpAddr = "10.0.0.7".parse().unwrap();
        let (flows, end) = Direction::Download.of(host);
        let by = vec![Dimension::One(end)];
        let (window, order, counters) = (window(), Order::Bytes, Counters::Scaled);
        let request = TopRequest { window, by, order, limit: 50, filter: Some(flows), counters };
        let key = vec![Value::Address("203.0.113.8".parse().unwrap())];
        let rows = vec![TopRow { key, totals: sums(5), first_seen: None, last_seen: None }];
        let completeness = query::Completeness { estimated: true, sampled_flows: 1, ..query::Completeness::default() };
        let (source, counted) = (query::Source::default(), query::Counted::default());
        let answer = TopAnswer { rows, totals: sums(5), groups: 1, completeness, source, counted };
        let body = async |format| {
            let response = respond(format, host, Direction::Download, &request, &answer).unwrap();
            String::from_utf8(to_bytes(response.into_body()).await.unwrap().to_vec()).unwrap()
        };
        let row = json!({"rank": 1, "peer": "203.0.113.8", "bytes": 5, "packets": 2, "flows": 1,
                         "first_seen": null, "last_seen": null, "share": 1.0});
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&body(Format::Json).await).unwrap(),
            json!({
                "window": {"from": "2026-11-23T00:00:00Z", "to": "2026-11-23T01:00:00Z", "timezone": "UTC"},
                "host": "10.0.0.7", "direction": "download", "by": ["src_ip"], "order": "bytes", "counters": "scaled",
                "filter": "dst ip 10.0.0.7", "totals": {"bytes": 5, "packets": 2, "flows": 1}, "groups": 1,
                "completeness": {"exact": false, "estimated": true, "sampled_flows": 1, "stale_since": null, "lost": [],
                                 "undercount": null, "exporters": [], "more_exporters": 0},
                "source": {"days": 0, "hours": 0, "segments": 0},
                "counting": {"count": "rules", "rules": [], "more_rules": 0},
                "rows": [row],
            })
        );
        assert!(body(Format::Csv).await.starts_with("rank,peer,bytes,packets,flows,"));
        assert!(body(Format::Ndjson).await.starts_with(r#"{"rank":1,"peer":"203.0.113.8","#));
    }
}
