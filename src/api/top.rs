//! `GET /api/v1/top`: who used the network most.
//!
//! Reads the question, asks the engine, writes the answer. Knows neither storage nor how the answer comes about.

use super::State;
use super::fields::DimensionName;
use super::format::{self, Format, Table};
use super::params::{Asked, ByParams, CounterParams, RankParams, WindowParams, limit};
use super::problem::{Code, Problem};
use super::shapes::{Completeness, Counting, Source, TopRowShape, TotalsShape, Window, ranked_table};
use crate::flow::fields::Dimension;
use crate::query::{Order, TopAnswer, TopRequest};
use crate::reports::csv;
use actix_web::{HttpRequest, HttpResponse, get, web};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// How many rows.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct TopLimit {
    /// How many rows at most.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 10_000, default = 10)]
    limit: Option<String>,
}

/// The largest groups of a window.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Top)]
pub struct TopShape<'a> {
    /// The window asked for.
    pub window: Window,
    /// The catalogue's names of the fields that make a group.
    #[schema(value_type = Vec<DimensionName>, example = json!(["dst_ip"]))]
    pub by: Vec<&'static str>,
    /// What the rows are ranked by.
    #[schema(value_type = super::params::OrderName)]
    pub order: &'static str,
    /// What bytes and packets mean where exporters sample.
    #[schema(value_type = super::params::CountersName)]
    pub counters: &'static str,
    /// The filter in canonical form; null when all flows count.
    #[schema(example = "dst net 192.168.0.0/16", required = true)]
    pub filter: Option<String>,
    /// Sums over all flows that the filter lets through, also those beyond the limit.
    pub totals: TotalsShape,
    /// How many groups there are, also those beyond the limit.
    pub groups: u64,
    /// What the answer may be missing.
    pub completeness: Completeness,
    /// What the answer was read from.
    pub source: Source,
    /// Which flows it counts.
    pub counting: Counting,
    /// The largest groups, largest first; equal ones by key, ascending.
    #[schema(value_type = Vec<TopRowShape>, required = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows: Option<&'a Table>,
}

impl<'a> TopShape<'a> {
    fn new(request: &TopRequest, names: &[&'static str], answer: &TopAnswer, rows: Option<&'a Table>) -> Self {
        Self {
            window: request.window.into(),
            by: names.to_vec(),
            order: request.order.name(),
            counters: request.counters.name(),
            filter: request.filter.as_ref().map(ToString::to_string),
            totals: answer.totals.into(),
            groups: answer.groups,
            completeness: Completeness::new(&answer.completeness, request.window.zone),
            source: answer.source.into(),
            counting: (&answer.counted).into(),
            rows,
        }
    }
}

/// The rows of `answer` as CSV with the key under `names`, as a report writes them.
pub fn rows_as_csv(names: &[&str], order: Order, answer: &TopAnswer, zone: chrono_tz::Tz) -> Result<String, Problem> {
    let bytes = csv::render(names, order, answer, zone).map_err(|error| Problem::hidden(Code::Internal, &error))?;
    String::from_utf8(bytes).map_err(|error| Problem::hidden(Code::Internal, &error))
}

/// The answer to `request` in the format asked for.
fn respond(format: Format, request: &TopRequest, answer: &TopAnswer) -> Result<HttpResponse, Problem> {
    let names: Vec<&'static str> = request.by.iter().map(|dimension| Dimension::name(*dimension)).collect();
    let zone = request.window.zone;
    let table = ranked_table(&names, &answer.rows, &answer.totals, request.order, zone);
    let csv = || rows_as_csv(&names, request.order, answer, zone);
    format::ranked(format, &table, csv, |rows| TopShape::new(request, &names, answer, rows))
}

/// Who used the network most: the largest groups of a window
///
/// Groups all flows received in a window by one to four fields, sums bytes, packets and flows, and returns the largest
/// groups. Sums are over every stored flow, without truncation. What sampling exporters send is multiplied by their
/// sampling interval, as nfdump does too; `counters=raw` leaves it as it is. Flows that a rule of counting leaves out are
/// not part of it; `count=all` takes them in.
///
/// **Top downloaders of a week**, as `nfdump -s dstip/bytes -n 10 'dst net 192.168.0.0/16'` has them:
/// `/api/v1/top?by=dst_ip&filter=dst+net+local&order=bytes&limit=10&week=2026-W47`
///
/// **All of them as CSV**, as `nfdump -s dstip/bytes -n 100 -o csv 'dst net 192.168.0.0/16'`:
/// `/api/v1/top?by=dst_ip&filter=dst+net+local&limit=100&week=2026-W47&format=csv`
///
/// `dst net local` means `[network] local`. Such questions are answered from totals of hosts in milliseconds, and for as
/// long as totals are kept; without a filter all flows are read.
///
/// With `format=csv` or `format=ndjson` (or such an `Accept` header) the body holds the rows only; everything else
/// stands as one JSON object in the header `flowledger-answer`.
#[utoipa::path(
    tag = "Questions",
    operation_id = "top",
    params(ByParams, RankParams, TopLimit, CounterParams, WindowParams),
    responses(
        (
            status = 200,
            description = "The largest groups, largest first.",
            headers(("flowledger-answer" = String, description = "For CSV and NDJSON: the answer without its rows, as JSON in ASCII.")),
            content(
                (TopShape = "application/json", example = json!({
                    "window": {"from": "2026-11-16T00:00:00+01:00", "to": "2026-11-23T00:00:00+01:00", "timezone": "Europe/Berlin"},
                    "by": ["dst_ip"], "order": "bytes", "counters": "scaled", "filter": "dst net 192.168.0.0/16",
                    "totals": {"bytes": 734003200, "packets": 612000, "flows": 4100},
                    "groups": 57,
                    "completeness": {"exact": false, "estimated": false, "sampled_flows": 0, "stale_since": null, "lost": [{"cause": "network", "unit": "flows", "count": 30}],
                        "undercount": {"flows_at_most": 30, "percent_at_most": 0.7264},
                        "exporters": [{"id": 3, "address": "192.0.2.1", "name": "core-1", "lost": [{"cause": "network", "unit": "flows", "count": 30}]}],
                        "more_exporters": 0},
                    "source": {"days": 6, "hours": 24, "segments": 0},
                    "counting": {"count": "rules", "rules": [{"exporter": "192.0.2.1", "count": "ingress", "interfaces": null}], "more_rules": 0},
                    "rows": [{"rank": 1, "dst_ip": "192.168.10.57", "bytes": 308281344, "packets": 240120, "flows": 911,
                        "first_seen": "2026-11-16T07:58:12+01:00", "last_seen": "2026-11-20T18:02:40.250+01:00", "share": 0.42}]
                })),
                (String = "text/csv", example = json!("rank,dst_ip,bytes,packets,flows,first_seen,last_seen,share\n1,192.168.10.57,308281344,240120,911,2026-11-16T07:58:12+01:00,2026-11-20T18:02:40.250+01:00,0.420000\n")),
                (TopRowShape = "application/x-ndjson")
            )
        ),
        (status = "4XX", description = "The question cannot be answered as it is asked.", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "The question cannot be answered at the moment.", body = Problem, content_type = "application/problem+json"),
    )
)]
#[get("/top")]
pub async fn get_top(
    http: HttpRequest,
    asked: Asked<(ByParams, RankParams, TopLimit, CounterParams, WindowParams)>,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let Asked((by, rank, most, counters, window)) = asked;
    let format = Format::of(&http, rank.format())?;
    let request = TopRequest {
        window: window.window(state.zone, state.clock.now())?,
        by: by.dimensions()?,
        order: rank.order()?,
        limit: limit(most.limit.as_deref(), 10)?,
        filter: rank.filter(state.engine.local())?,
        counters: counters.counters()?,
    };
    let answer = counters.engine(&state.engine)?.top(&request).await?;
    respond(format, &request, &answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::flow::counting::{Count, CountingRule};
    use crate::flow::segment::Totals;
    use crate::flow::value::Value;
    use crate::query::{self, Counters, TopRow};
    use actix_web::body::to_bytes;

    fn question() -> TopRequest {
        let from = Timestamp::from_micros(1_794_787_200_000_000);
        TopRequest {
            window: query::Window { from, to: from.plus(7 * crate::clock::DAY), zone: chrono_tz::Europe::Berlin },
            by: vec![Dimension::parse("dstip").unwrap()],
            order: Order::Bytes,
            limit: 10,
            filter: Some(crate::filter::parse("dst net 192.168.0.0/16").unwrap()),
            counters: Counters::Raw,
        }
    }

    fn answer() -> TopAnswer {
        let row = TopRow {
            key: vec![Value::Address("192.168.10.57".parse().unwrap())],
            totals: Totals { bytes: 42, packets: 4, flows: 2 },
            first_seen: Some(Timestamp::from_micros(1_794_787_200_500_000)),
            last_seen: None,
        };
        let completeness = query::Completeness { exact: true, sampled_flows: 2, ..query::Completeness::default() };
        let totals = Totals { bytes: 100, packets: 9, flows: 3 };
        let source = query::Source { days: 6, hours: 23, segments: 4 };
        let rule = CountingRule { count: Count::Egress, interfaces: Some(vec![3]) };
        let rules = vec![("192.0.2.1".parse().unwrap(), rule)];
        let counted = query::Counted { rules, ..query::Counted::default() };
        TopAnswer { rows: vec![row], totals, groups: 2, completeness, source, counted }
    }

    const AROUND: &str = concat!(
        r#"{"window":{"from":"2026-11-16T01:00:00+01:00","to":"2026-11-23T01:00:00+01:00","timezone":"Europe/Berlin"},"#,
        r#""by":["dst_ip"],"order":"bytes","counters":"raw","filter":"dst net 192.168.0.0/16","#,
        r#""totals":{"bytes":100,"packets":9,"flows":3},"groups":2,"#,
        r#""completeness":{"exact":true,"estimated":false,"sampled_flows":2,"stale_since":null,"lost":[],"#,
        r#""undercount":null,"exporters":[],"more_exporters":0},"#,
        r#""source":{"days":6,"hours":23,"segments":4},"#,
        r#""counting":{"count":"rules","rules":[{"exporter":"192.0.2.1","count":"egress","interfaces":[3]}],"more_rules":0}"#
    );
    const ROW: &str = concat!(
        r#"{"rank":1,"dst_ip":"192.168.10.57","bytes":42,"packets":4,"flows":2,"#,
        r#""first_seen":"2026-11-16T01:00:00.500+01:00","last_seen":null,"share":0.42}"#
    );

    async fn body(response: HttpResponse) -> String {
        String::from_utf8(to_bytes(response.into_body()).await.unwrap().to_vec()).unwrap()
    }

    #[actix_web::test]
    async fn json_has_the_question_the_sums_the_rows_and_the_stamp() {
        let response = respond(Format::Json, &question(), &answer()).unwrap();
        assert_eq!(response.headers().get("content-type").unwrap(), "application/json");
        assert_eq!(body(response).await, format!("{AROUND},\"rows\":[{ROW}]}}"));
    }

    #[actix_web::test]
    async fn csv_and_ndjson_have_the_rows_and_carry_the_rest_in_a_header() {
        let response = respond(Format::Csv, &question(), &answer()).unwrap();
        assert_eq!(response.headers().get("content-type").unwrap(), "text/csv; charset=utf-8; header=present");
        assert_eq!(response.headers().get(format::ANSWER_HEADER).unwrap().to_str().unwrap(), format!("{AROUND}}}"));
        let expected = "rank,dst_ip,bytes,packets,flows,first_seen,last_seen,share\n\
                        1,192.168.10.57,42,4,2,2026-11-16T01:00:00.500+01:00,,0.420000\n";
        assert_eq!(body(response).await, expected);
        let response = respond(Format::Ndjson, &question(), &answer()).unwrap();
        assert_eq!(response.headers().get("content-type").unwrap(), "application/x-ndjson");
        assert!(response.headers().contains_key(format::ANSWER_HEADER));
        assert_eq!(body(response).await, format!("{ROW}\n"));
    }
}
