//! The parts that several answers share: window, totals, completeness, and ranked rows as a table.
//!
//! Model types are not serialised; these are, and each is made from a model type here. A missing thing is `null`, never
//! absent. Moments are RFC 3339 in the zone of the window.

use super::format::{Cell, Table};
use crate::clock::Timestamp;
use crate::flow::counting;
use crate::flow::segment::Totals;
use crate::flow::value::Value;
use crate::query::{self, Order, TopRow};
use chrono_tz::Tz;
use ipnetwork::IpNetwork;
use serde::Serialize;
use utoipa::openapi::schema::{AdditionalProperties, SchemaType, Type};
use utoipa::openapi::{KnownFormat, ObjectBuilder, RefOr, Schema, SchemaFormat};
use utoipa::{PartialSchema, ToSchema};

/// `moment` as RFC 3339 in `zone`, with as many decimals of a second as it needs.
pub fn moment(moment: Timestamp, zone: Tz) -> String {
    moment.to_utc().with_timezone(&zone).to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true)
}

/// A stretch of receive time, from `from` up to but not including `to`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Window {
    /// The first moment inside.
    #[schema(format = DateTime, example = "2026-11-16T00:00:00+01:00")]
    pub from: String,
    /// The first moment after.
    #[schema(format = DateTime, example = "2026-11-23T00:00:00+01:00")]
    pub to: String,
    /// The zone in which the window was understood and all moments of the answer are written.
    #[schema(example = "Europe/Berlin")]
    pub timezone: String,
}

impl From<query::Window> for Window {
    fn from(window: query::Window) -> Self {
        Self {
            from: moment(window.from, window.zone),
            to: moment(window.to, window.zone),
            timezone: window.zone.name().to_owned(),
        }
    }
}

/// Sums over a set of flows.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Totals)]
pub struct TotalsShape {
    /// Bytes of layer 3, in both of a flow's counters.
    #[schema(example = 734_003_200)]
    pub bytes: u64,
    /// Packets, in both of a flow's counters.
    #[schema(example = 612_000)]
    pub packets: u64,
    /// Flows, counting those that an exporter merged into one.
    #[schema(example = 4_100)]
    pub flows: u64,
}

impl From<Totals> for TotalsShape {
    fn from(totals: Totals) -> Self {
        Self { bytes: totals.bytes, packets: totals.packets, flows: totals.flows }
    }
}

/// Something that is known to be missing.
#[derive(Debug, Serialize, ToSchema)]
pub struct Loss {
    /// `network` (gaps in the exporters' sequence numbers), `kernel` (socket drops), `journal_full`,
    /// `journal_corrupt`, `stream_cut` (TCP and TLS), `collector_down`, `not_recorded` (the part of the window before recording began, or whose flows
    /// are no longer kept, nor totals that would do), `imported` (hours whose flows another collector received),
    /// `counted_otherwise` (hours whose flows are gone and whose totals were counted by other local networks or rules), or the
    /// reason why something was rejected.
    #[schema(example = "network")]
    pub cause: String,
    /// What is counted: `flows`, `records`, `datagrams`, `sets`, `templates`, `streams`, `seconds`, `hours`, or `gaps`: how often the
    /// numbers of an imported archive had one, however much was missing.
    #[schema(example = "flows")]
    pub unit: String,
    /// How many.
    #[schema(example = 30)]
    pub count: u64,
}

impl From<&query::LossCount> for Loss {
    fn from(lost: &query::LossCount) -> Self {
        Self { cause: lost.cause.clone(), unit: lost.unit.clone(), count: lost.count }
    }
}

/// How many flows are missing at most, as far as the exporters' sequence numbers tell. A flow is here what an exporter sent
/// as one record. It is a bound for flows, not for bytes: a lost flow may have had any number of them.
#[derive(Debug, Serialize, ToSchema)]
pub struct Undercount {
    /// How many flows were lost at most in the hours that the window touches, whatever the filter selects. A lost datagram
    /// counts as the fullest that its exporter ever sent.
    #[schema(example = 30)]
    pub flows_at_most: u64,
    /// What percentage of the flows of this answer that is at most, if all of the lost ones belonged to it: 0 to 100, rounded
    /// up to four decimals.
    #[schema(example = 0.7264, minimum = 0, maximum = 100)]
    pub percent_at_most: f64,
}

/// What is missing of one exporter.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExporterLoss {
    /// Its number in flows and in `/api/v1/exporters`.
    #[schema(example = 3)]
    pub id: u32,
    /// The address its datagrams come from; null when it is not on record any more.
    #[schema(example = "192.0.2.1", required = true)]
    pub address: Option<String>,
    /// What people call it.
    #[schema(example = "core-1", required = true)]
    pub name: Option<String>,
    /// What is missing, by cause and unit.
    pub lost: Vec<Loss>,
}

/// What the answer may be missing. Loss is kept by the hour in which it was noticed, so loss in an hour that the window touches
/// is counted.
#[derive(Debug, Serialize, ToSchema)]
pub struct Completeness {
    /// Whether nothing is known to be missing, everything received before the window's end is in the answer, and nothing
    /// is estimated.
    pub exact: bool,
    /// Whether bytes and packets are estimated: they are scaled, and some of the flows were sampled.
    pub estimated: bool,
    /// How many of the flows come from samples: they were exported with a sampling interval above 1. A record that stands
    /// for several flows counts for all of them, and one that stands for none counts once.
    #[schema(example = 0)]
    pub sampled_flows: u64,
    /// Flows received from this moment on may not be in the answer yet; null when the window ends before it.
    #[schema(format = DateTime, example = json!(null), required = true)]
    pub stale_since: Option<String>,
    /// What is missing, by cause and unit.
    pub lost: Vec<Loss>,
    /// How many flows are missing at most, those apart that `stale_since` speaks of. Null when there is no telling: when
    /// datagrams of unknown exporters were dropped, something could not be decoded, part of the window was not recorded, or an
    /// exporter sends NetFlow v1, which has no sequence numbers.
    #[schema(required = true)]
    pub undercount: Option<Undercount>,
    /// The exporters that something is missing of, those with the highest counts first, 20 at most. What cannot be attributed
    /// to an exporter is in `lost` only.
    pub exporters: Vec<ExporterLoss>,
    /// How many more exporters there are that something is missing of.
    #[schema(example = 0)]
    pub more_exporters: u64,
}

impl Completeness {
    /// The shape of `completeness` with its moments in `zone`.
    pub fn new(completeness: &query::Completeness, zone: Tz) -> Self {
        let exporter = |concerned: &query::ExporterLoss| ExporterLoss {
            id: concerned.exporter_id,
            address: concerned.address.map(|address| address.to_string()),
            name: concerned.name.clone(),
            lost: concerned.lost.iter().map(Loss::from).collect(),
        };
        Self {
            exact: completeness.exact,
            estimated: completeness.estimated,
            sampled_flows: completeness.sampled_flows,
            stale_since: completeness.stale_since.map(|since| moment(since, zone)),
            lost: completeness.lost.iter().map(Loss::from).collect(),
            undercount: completeness
                .undercount
                .map(|known| Undercount { flows_at_most: known.flows, percent_at_most: known.percent() }),
            exporters: completeness.exporters.iter().map(exporter).collect(),
            more_exporters: completeness.more_exporters,
        }
    }
}

/// What an answer was read from. The sums are the same, whatever it is; it tells why one answer takes longer than another.
/// Host totals hold what local hosts transferred in whole hours that are over, so they answer `/api/v1/hosts/{ip}` of a local
/// host and `/api/v1/top` by `dst_ip` of `dst net` (or by `src_ip` of `src net`) within the local networks, also of some
/// exporters only. Everything else is scanned flow by flow.
#[derive(Debug, Serialize, ToSchema)]
pub struct Source {
    /// UTC days whose host totals were taken.
    #[schema(example = 6)]
    pub days: u64,
    /// UTC hours whose host totals were taken.
    #[schema(example = 24)]
    pub hours: u64,
    /// Segments of up to 65,536 flows that were scanned for the rest of the window.
    #[schema(example = 0)]
    pub segments: u64,
}

impl From<query::Source> for Source {
    fn from(source: query::Source) -> Self {
        Self { days: source.days, hours: source.hours, segments: source.segments }
    }
}

/// Which of the flows that were asked for the answer counts. Rules leave out what exporters tell twice; they stand in the
/// configuration and change nothing that is stored.
#[derive(Debug, Serialize, ToSchema)]
pub struct Counting {
    /// Whether the rules decide or all were asked for.
    #[schema(value_type = super::params::CountName)]
    pub count: &'static str,
    /// The rules, by exporter, at most 20; none when all flows count. Of those that hold an exporter the most specific one
    /// goes.
    pub rules: Vec<ExportersRule>,
    /// How many more there are.
    #[schema(example = 0)]
    pub more_rules: u64,
}

/// Which flows of some exporters count.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExportersRule {
    /// An exporter's address, or a network of exporters.
    #[schema(example = "192.0.2.1")]
    pub exporter: String,
    /// The rule.
    #[serde(flatten)]
    pub rule: CountingRule,
}

/// Which flows of an exporter count.
#[derive(Debug, Serialize, ToSchema)]
pub struct CountingRule {
    /// By where they were observed: `all`, `ingress` (those not observed at egress), `egress` (those not observed at ingress)
    /// or `none`.
    #[schema(example = "ingress")]
    pub count: &'static str,
    /// By which interfaces they must have entered or left, as SNMP indexes; null for any.
    #[schema(example = json!(null), required = true)]
    pub interfaces: Option<Vec<u32>>,
}

impl From<&counting::CountingRule> for CountingRule {
    fn from(rule: &counting::CountingRule) -> Self {
        Self { count: rule.count.name(), interfaces: rule.interfaces.clone() }
    }
}

impl From<&query::Counted> for Counting {
    fn from(counted: &query::Counted) -> Self {
        let rule = |(exporters, rule): &(IpNetwork, counting::CountingRule)| ExportersRule {
            exporter: counting::exporters_name(exporters),
            rule: rule.into(),
        };
        Self { count: counted.name(), rules: counted.rules.iter().map(rule).collect(), more_rules: counted.more_rules }
    }
}

/// The largest groups as a table: rank, the key under the names in `keys`, sums, times, share.
pub fn ranked_table(keys: &[&'static str], rows: &[TopRow], totals: &Totals, order: Order, zone: Tz) -> Table {
    // Grouped by first or last moment, the key is that moment of the group: it stands once.
    let times = ["first_seen", "last_seen"].map(|name| (!keys.contains(&name)).then_some(name));
    let mut columns = vec!["rank"];
    columns.extend(keys);
    columns.extend(["bytes", "packets", "flows"]);
    columns.extend(times.into_iter().flatten());
    columns.push("share");
    let rows = rows.iter().zip(1u64..).map(|(row, rank)| {
        let mut cells = vec![Cell::Integer(rank)];
        cells.extend(row.key.iter().map(|value| key_cell(value, zone)));
        cells.extend([row.totals.bytes, row.totals.packets, row.totals.flows].map(Cell::Integer));
        for (name, seen) in times.into_iter().zip([row.first_seen, row.last_seen]) {
            if name.is_some() {
                cells.push(seen.map_or(Cell::Missing, |seen| Cell::Text(moment(seen, zone))));
            }
        }
        cells.push(share(measure(&row.totals, order), measure(totals, order)));
        cells
    });
    Table { columns, rows: rows.collect() }
}

/// A value of a key: numbers as numbers, everything else as text.
fn key_cell(value: &Value, zone: Tz) -> Cell {
    match value {
        Value::Number(number) => Cell::Integer(*number),
        Value::Time(time) => Cell::Text(moment(*time, zone)),
        Value::Address(_) | Value::Mac(_) => Cell::Text(value.to_string()),
    }
}

/// What `order` ranks by.
const fn measure(totals: &Totals, order: Order) -> u64 {
    match order {
        Order::Bytes => totals.bytes,
        Order::Packets => totals.packets,
        Order::Flows => totals.flows,
    }
}

/// `part` of `whole`, rounded to six decimals; missing when there is no whole.
fn share(part: u64, whole: u64) -> Cell {
    if whole == 0 {
        return Cell::Missing;
    }
    Cell::Real((part as f64 / whole as f64 * 1e6).round() / 1e6)
}

fn integer(description: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(0))
        .description(Some(description))
}

fn moment_or_null(description: &str) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .description(Some(description))
}

/// The members that every ranked row has beside its key.
fn row_schema(description: &str) -> ObjectBuilder {
    let share = ObjectBuilder::new().schema_type(SchemaType::from_iter([Type::Number, Type::Null])).description(Some(
        "The row's part of the totals, in what the order ranks by, 0 to 1; null when the total is 0.",
    ));
    ["rank", "bytes", "packets", "flows", "first_seen", "last_seen", "share"]
        .into_iter()
        .fold(ObjectBuilder::new(), ObjectBuilder::required)
        .description(Some(description))
        .property("rank", integer("1 for the largest. Equal rows stand by key, ascending."))
        .property("bytes", integer("Bytes of layer 3."))
        .property("packets", integer("Packets."))
        .property("flows", integer("Flows."))
        .property("first_seen", moment_or_null("The first packet, by the exporters' clocks; null if none told."))
        .property("last_seen", moment_or_null("The last packet, by the exporters' clocks; null if none told."))
        .property("share", share)
}

/// A row of the largest groups, as OpenAPI describes it.
#[derive(Debug)]
pub struct TopRowShape;

impl PartialSchema for TopRowShape {
    fn schema() -> RefOr<Schema> {
        let key = ObjectBuilder::new()
            .schema_type(SchemaType::from_iter([Type::Integer, Type::String]))
            .description(Some("The group's value in a field of `by`, under the field's name: numbers as integers; addresses, MAC addresses and moments as text."))
            .build();
        row_schema("One group: rank, one member for each field of `by`, sums, times, share.")
            .additional_properties(Some(AdditionalProperties::RefOr(RefOr::T(Schema::Object(key)))))
            .into()
    }
}

impl ToSchema for TopRowShape {
    fn name() -> std::borrow::Cow<'static, str> {
        "TopRow".into()
    }
}

/// A row of a host's peers, as OpenAPI describes it.
#[derive(Debug)]
pub struct PeerRowShape;

impl PartialSchema for PeerRowShape {
    fn schema() -> RefOr<Schema> {
        let peer = ObjectBuilder::new().schema_type(Type::String).description(Some("The other end's address."));
        row_schema("One peer: rank, address, sums, times, share.").property("peer", peer).required("peer").into()
    }
}

impl ToSchema for PeerRowShape {
    fn name() -> std::borrow::Cow<'static, str> {
        "PeerRow".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOON: Timestamp = Timestamp::from_micros(1_795_435_200_000_000);

    #[test]
    fn moments_are_written_in_the_zone_asked_for() {
        assert_eq!(moment(NOON, Tz::UTC), "2026-11-23T12:00:00Z");
        assert_eq!(moment(NOON, Tz::Europe__Berlin), "2026-11-23T13:00:00+01:00");
        assert_eq!(moment(NOON.plus(1), Tz::Asia__Kolkata), "2026-11-23T17:30:00.000001+05:30");
    }

    #[test]
    fn rows_carry_rank_key_sums_times_and_share() {
        let totals = Totals { bytes: 300, packets: 9, flows: 0 };
        let row = |key: Value, bytes: u64, seen: Option<Timestamp>| TopRow {
            key: vec![key, Value::Number(443)],
            totals: Totals { bytes, packets: 3, flows: 1 },
            first_seen: seen,
            last_seen: None,
        };
        let rows = [row(Value::Address("10.0.0.1".parse().unwrap()), 200, Some(NOON)), row(Value::Mac(1), 100, None)];
        let table = ranked_table(&["dst_ip", "dst_port"], &rows, &totals, Order::Bytes, Tz::UTC);
        assert_eq!(
            serde_json::to_value(&table).unwrap(),
            json!([
                {"rank": 1, "dst_ip": "10.0.0.1", "dst_port": 443, "bytes": 200, "packets": 3, "flows": 1,
                 "first_seen": "2026-11-23T12:00:00Z", "last_seen": null, "share": 0.666667},
                {"rank": 2, "dst_ip": "00:00:00:00:00:01", "dst_port": 443, "bytes": 100, "packets": 3, "flows": 1,
                 "first_seen": null, "last_seen": null, "share": 0.333333},
            ])
        );
        let table = ranked_table(&["dst_ip", "dst_port"], &rows, &totals, Order::Flows, Tz::UTC);
        assert!(table.rows.iter().all(|row| row.last() == Some(&Cell::Missing)), "no share of nothing");
    }

    #[test]
    fn a_key_that_is_a_moment_of_the_group_stands_once() {
        let row =
            TopRow { key: vec![Value::Time(NOON)], totals: Totals::default(), first_seen: Some(NOON), last_seen: None };
        let table = ranked_table(&["first_seen"], &[row], &Totals::default(), Order::Bytes, Tz::UTC);
        assert_eq!(table.columns, ["rank", "first_seen", "bytes", "packets", "flows", "last_seen", "share"]);
        assert_eq!(table.rows[0].len(), table.columns.len());
    }

    #[test]
    fn completeness_and_window_have_all_members() {
        let window = query::Window { from: NOON, to: NOON.plus(1_000_000), zone: Tz::Europe__Berlin };
        assert_eq!(
            serde_json::to_value(Window::from(window)).unwrap(),
            json!({"from": "2026-11-23T13:00:00+01:00", "to": "2026-11-23T13:00:01+01:00", "timezone": "Europe/Berlin"})
        );
        let lost = vec![query::LossCount { cause: "network".into(), unit: "flows".into(), count: 30 }];
        let concerned = query::ExporterLoss {
            exporter_id: 3,
            address: Some("192.0.2.1".parse().unwrap()),
            name: None,
            lost: lost.clone(),
        };
        let known = query::Completeness {
            exact: false,
            estimated: true,
            sampled_flows: 7,
            stale_since: Some(NOON),
            lost,
            undercount: Some(query::Undercount { flows: 30, counted: 4_070 }),
            exporters: vec![concerned],
            more_exporters: 2,
        };
        assert_eq!(
            serde_json::to_value(Completeness::new(&known, Tz::UTC)).unwrap(),
            json!({"exact": false, "estimated": true, "sampled_flows": 7, "stale_since": "2026-11-23T12:00:00Z",
                   "lost": [{"cause": "network", "unit": "flows", "count": 30}],
                   "undercount": {"flows_at_most": 30, "percent_at_most": 0.7318},
                   "exporters": [{"id": 3, "address": "192.0.2.1", "name": null,
                                  "lost": [{"cause": "network", "unit": "flows", "count": 30}]}],
                   "more_exporters": 2})
        );
    }
}
