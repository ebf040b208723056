//! `GET /api/v1/exporters/{id}`: all that is known of one exporter.
//!
//! Names and descriptions are what the exporter sent: they come back as JSON text, unchanged, and whoever shows them must
//! not trust them.

use super::State;
use super::double_counting::DoubleCounting;
use super::exporters::{Exporter, protocol};
use super::format;
use super::params::{Asked, WindowParams};
use super::problem::{Code, Problem};
use super::shapes::{self, moment};
use crate::flow::counting::Counting;
use crate::flow::double_counting::Summary;
use crate::query;
use crate::store::commit::DecoderState;
use crate::store::exporter::{
    ApplicationRow, ExporterDetail, HourLoss, InterfaceRow, StatisticRow, Totals, UnknownRow,
};
use crate::wire::{
    FieldDescription, SamplingDescription, SamplingScope, SessionState, TemplateDescription, Transport, describe,
    element_name,
};
use actix_web::{HttpResponse, get, web};
use chrono_tz::Tz;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// All that is known of one exporter. Long lists are cut; `totals` says how long they are.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExporterDetails {
    #[serde(flatten)]
    exporter: Exporter,
    /// By protocol, how many milliseconds the exporter's clock was ahead of the server's when its last datagram came, the
    /// time on the way included; null where the protocol does not tell.
    #[schema(example = json!({"netflow_v9": -12}))]
    clock_offset_ms: BTreeMap<&'static str, Option<i64>>,
    /// What is remembered of how it sends; the latest, up to 131,072 fields of templates.
    sessions: Vec<Session>,
    /// Its interfaces as it told, by number; at most 10,000.
    interfaces: Vec<Interface>,
    /// Its applications as it told, by number; at most 1,000.
    applications: Vec<Application>,
    /// Its VRFs as it told, by number; at most 10,000.
    vrfs: Vec<Vrf>,
    /// What it says of its own work; at most 10,000.
    statistics: Vec<Statistic>,
    /// Information elements in its records that no field is known for, those in most records first; at most 1,000.
    unknown_elements: Vec<UnknownElement>,
    /// The window asked for, in which `loss` happened.
    window: shapes::Window,
    /// What was lost, dropped or refused of it, by hour; of more than 10,000 rows the latest.
    loss: Vec<LossOfHour>,
    /// What this exporter and another one, or it alone in two directions, told alike in sealed hours that touch the window, so that
    /// it counts twice; the pairs with the most bytes first, at most 100. Hours that were sealed by other counting rules or local
    /// networks than the present ones are left out.
    double_counting: Vec<DoubleCounting>,
    /// How many there are of each, also those that are not listed.
    totals: ListTotals,
}

/// A transport session with one observation domain, and its templates.
#[derive(Debug, Serialize, ToSchema)]
struct Session {
    /// `udp`, or `tcp` (TLS included).
    #[schema(example = "udp")]
    transport: &'static str,
    /// The port it sends from.
    #[schema(example = 51_000)]
    source_port: u16,
    /// The protocol by name.
    #[schema(example = "netflow_v9")]
    protocol: &'static str,
    /// The observation domain, source id (NetFlow v9), engine (v5) or sub-agent (sFlow).
    #[schema(example = 256)]
    observation_domain: u32,
    /// Its templates, by identifier; null when they were saved by a later release and cannot be read.
    #[schema(required = true)]
    templates: Option<Vec<Template>>,
    /// What its options told about sampling; null when it cannot be read. What the configuration, records or headers say
    /// is not among it.
    #[schema(required = true)]
    samplers: Option<Vec<Sampler>>,
}

/// What options told about sampling.
#[derive(Debug, Serialize, ToSchema)]
struct Sampler {
    /// What the interval is for: `exporter`, `sampler` or `interface`.
    #[schema(example = "sampler")]
    scope: &'static str,
    /// The sampler's number or the interface's SNMP index; null for the exporter as a whole.
    #[schema(example = 1, required = true)]
    id: Option<u64>,
    /// Out of how many packets one is looked at.
    #[schema(example = 1_000)]
    interval: u32,
}

/// What the records of a template look like.
#[derive(Debug, Serialize, ToSchema)]
struct Template {
    /// Its identifier.
    #[schema(example = 256)]
    id: u16,
    /// `data`: its records are flows; `options`: they tell about the exporter.
    #[schema(example = "data")]
    kind: &'static str,
    /// How many leading fields are the scope; null for `data`.
    #[schema(required = true)]
    scope_fields: Option<u16>,
    /// Its fields, in the order of the record.
    fields: Vec<Field>,
}

/// One field of a template.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TemplateField)]
struct Field {
    /// The private enterprise number; 0 is IANA, and all of NetFlow v9.
    #[schema(example = 0)]
    enterprise: u32,
    /// The information element; in the scope of NetFlow v9 options the scope type.
    #[schema(example = 8)]
    element: u16,
    /// IANA's or the vendor's name for it; null when it is not known.
    #[schema(value_type = Option<String>, example = "sourceIPv4Address", required = true)]
    name: Option<Cow<'static, str>>,
    /// Bytes in each record; null when it is variable.
    #[schema(example = 4, required = true)]
    length: Option<u16>,
    /// The field of a flow that it feeds, as `/api/v1/fields` lists them, unless a better element of the same record
    /// does; null when it feeds none.
    #[schema(example = "src_ip", required = true)]
    field: Option<&'static str>,
}

/// An interface.
#[derive(Debug, Serialize, ToSchema)]
struct Interface {
    /// Its SNMP index, as `input_interface` and `output_interface` of flows have it.
    #[schema(example = 3)]
    interface: u32,
    /// Its short name; null when it was not told.
    #[schema(example = "Gi0/0/3", required = true)]
    name: Option<String>,
    /// What people wrote about it; null when it was not told.
    #[schema(example = "uplink", required = true)]
    description: Option<String>,
    /// Bits a second; null when it was not told.
    #[schema(example = 1_000_000_000, required = true)]
    speed: Option<u64>,
    /// Its counters as last told; null when they were not, or are no longer kept.
    #[schema(required = true)]
    counters: Option<Counters>,
}

/// Counters of an interface since the exporter started. Those of the end of each hour are in the table
/// `interface_counters`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InterfaceCounters)]
struct Counters {
    /// When these values were told first.
    #[schema(format = DateTime, example = "2026-11-23T13:00:00+01:00")]
    received: String,
    /// Bytes received.
    in_bytes: u64,
    /// Packets received.
    in_packets: u64,
    /// Packets received and dropped though nothing was wrong with them.
    in_discards: u64,
    /// Packets received damaged.
    in_errors: u64,
    /// Bytes sent.
    out_bytes: u64,
    /// Packets sent.
    out_packets: u64,
    /// Packets dropped instead of being sent.
    out_discards: u64,
    /// Packets that could not be sent.
    out_errors: u64,
}

/// An application.
#[derive(Debug, Serialize, ToSchema)]
struct Application {
    /// Its number, as `application_id` of flows has it.
    #[schema(example = 50_331_728)]
    application_id: u64,
    /// Its short name; null when it was not told.
    #[schema(example = "http", required = true)]
    name: Option<String>,
    /// A longer one; null when it was not told.
    #[schema(example = "World Wide Web traffic", required = true)]
    description: Option<String>,
}

/// A VRF.
#[derive(Debug, Serialize, ToSchema)]
struct Vrf {
    /// Its number, as `ingress_vrf` and `egress_vrf` of flows have it.
    #[schema(example = 1)]
    vrf: u32,
    /// Its name; null when it was not told.
    #[schema(example = "customer-a", required = true)]
    name: Option<String>,
}

/// A number about the exporter's own work, counted since it started.
#[derive(Debug, Serialize, ToSchema)]
struct Statistic {
    /// The observation domain it is about.
    #[schema(example = 256)]
    observation_domain: u32,
    /// IANA's name of the information element.
    #[schema(example = "notSentFlowTotalCount")]
    statistic: String,
    /// Its value.
    #[schema(example = 12)]
    value: u64,
    /// When this value was told first.
    #[schema(format = DateTime, example = "2026-11-23T13:00:00+01:00")]
    received: String,
}

/// An information element that no field is known for.
#[derive(Debug, Serialize, ToSchema)]
struct UnknownElement {
    /// The private enterprise number; 0 is IANA, and all of NetFlow v9.
    #[schema(example = 9)]
    enterprise: u32,
    /// The information element.
    #[schema(example = 9_268)]
    element: u16,
    /// IANA's or the vendor's name for it; null when it is not known either.
    #[schema(value_type = Option<String>, example = "clientRetransPackets", required = true)]
    name: Option<Cow<'static, str>>,
    /// Records that had it.
    #[schema(example = 4_100)]
    records: u64,
    /// When the last of them was received.
    #[schema(format = DateTime, example = "2026-11-23T13:00:00+01:00")]
    last_seen: String,
}

/// What was lost, dropped or refused in one hour. A cause with `_later` behind it was found missing in a later hour, which counts it,
/// and may have been lost in this one.
#[derive(Debug, Serialize, ToSchema)]
struct LossOfHour {
    /// The start of the UTC hour.
    #[schema(format = DateTime, example = "2026-11-23T13:00:00+01:00")]
    hour: String,
    #[serde(flatten)]
    loss: shapes::Loss,
}

/// How many there are of each, also those that are not listed.
#[derive(Debug, Serialize, ToSchema)]
struct ListTotals {
    /// Sessions.
    sessions: u64,
    /// Interfaces.
    interfaces: u64,
    /// Applications.
    applications: u64,
    /// VRFs.
    vrfs: u64,
    /// Statistics.
    statistics: u64,
    /// Unknown information elements.
    unknown_elements: u64,
    /// Rows of loss in the window.
    loss: u64,
}

impl ExporterDetails {
    fn new(detail: ExporterDetail, twice: Vec<Summary>, window: query::Window, counting: &Counting) -> Self {
        let (zone, id) = (window.zone, detail.exporter.exporter_id);
        Self {
            exporter: Exporter::new(detail.exporter, zone, counting),
            clock_offset_ms: detail.clock_offsets.into_iter().map(|(code, offset)| (protocol(code), offset)).collect(),
            sessions: detail.sessions.into_iter().map(Session::new).collect(),
            interfaces: detail.interfaces.into_iter().map(|row| Interface::new(row, zone)).collect(),
            applications: detail.applications.into_iter().map(Application::from).collect(),
            vrfs: detail.vrfs.into_iter().map(|(vrf, name)| Vrf { vrf, name }).collect(),
            statistics: detail.statistics.into_iter().map(|row| Statistic::new(row, zone)).collect(),
            unknown_elements: detail.unknown_elements.into_iter().map(|row| UnknownElement::new(&row, zone)).collect(),
            window: window.into(),
            loss: detail.loss.into_iter().map(|row| LossOfHour::new(row, zone)).collect(),
            double_counting: twice.into_iter().map(|pair| DoubleCounting::new(pair, id, zone)).collect(),
            totals: detail.totals.into(),
        }
    }
}

impl Session {
    fn new(stored: DecoderState) -> Self {
        let DecoderState { exporter_id, transport, source_port, version, observation_domain, templates, state } =
            stored;
        let state = SessionState { exporter_id, transport, source_port, version, observation_domain, templates, state };
        let (templates, samplers) = describe(&state).map(|told| (told.templates, told.sampling)).unzip();
        let transport = match Transport::from_code(transport) {
            Some(Transport::Datagrams) => "udp",
            Some(Transport::Stream) => "tcp",
            None => "unknown",
        };
        Self {
            transport,
            source_port,
            protocol: protocol(version),
            observation_domain,
            templates: templates.map(|templates| templates.into_iter().map(Template::from).collect()),
            samplers: samplers.map(|samplers| samplers.into_iter().map(Sampler::from).collect()),
        }
    }
}

impl From<SamplingDescription> for Sampler {
    fn from(told: SamplingDescription) -> Self {
        let (scope, id) = match told.scope {
            SamplingScope::Exporter => ("exporter", None),
            SamplingScope::Sampler(id) => ("sampler", Some(id)),
            SamplingScope::Interface(index) => ("interface", Some(index.into())),
        };
        Self { scope, id, interval: told.interval }
    }
}

impl From<TemplateDescription> for Template {
    fn from(template: TemplateDescription) -> Self {
        let TemplateDescription { id, scope, fields } = template;
        let kind = if scope.is_some() { "options" } else { "data" };
        Self { id, kind, scope_fields: scope, fields: fields.into_iter().map(Field::from).collect() }
    }
}

impl From<FieldDescription> for Field {
    fn from(field: FieldDescription) -> Self {
        let FieldDescription { enterprise, element, name, length, field } = field;
        Self { enterprise, element, name, length, field: field.map(crate::flow::fields::Field::name) }
    }
}

impl Interface {
    fn new(row: InterfaceRow, zone: Tz) -> Self {
        let InterfaceRow { interface, name, description, speed, counters } = row;
        let counters = counters.map(|(received, told)| Counters {
            received: moment(received, zone),
            in_bytes: told.in_bytes,
            in_packets: told.in_packets,
            in_discards: told.in_discards,
            in_errors: told.in_errors,
            out_bytes: told.out_bytes,
            out_packets: told.out_packets,
            out_discards: told.out_discards,
            out_errors: told.out_errors,
        });
        Self { interface, name, description, speed, counters }
    }
}

impl From<ApplicationRow> for Application {
    fn from(row: ApplicationRow) -> Self {
        let ApplicationRow { application_id, name, description } = row;
        Self { application_id, name, description }
    }
}

impl Statistic {
    fn new(row: StatisticRow, zone: Tz) -> Self {
        let StatisticRow { observation_domain, statistic, value, received } = row;
        Self { observation_domain, statistic, value, received: moment(received, zone) }
    }
}

impl UnknownElement {
    fn new(row: &UnknownRow, zone: Tz) -> Self {
        let UnknownRow { enterprise, element, records, last_seen } = *row;
        let name = element_name(enterprise, element);
        Self { enterprise, element, name, records, last_seen: moment(last_seen, zone) }
    }
}

impl LossOfHour {
    fn new(row: HourLoss, zone: Tz) -> Self {
        let HourLoss { hour, cause, unit, count } = row;
        Self { hour: moment(hour, zone), loss: shapes::Loss { cause, unit, count } }
    }
}

impl From<Totals> for ListTotals {
    fn from(totals: Totals) -> Self {
        let Totals { sessions, interfaces, applications, vrfs, statistics, unknown_elements, loss } = totals;
        Self { sessions, interfaces, applications, vrfs, statistics, unknown_elements, loss }
    }
}

/// One exporter
///
/// What the list of exporters says of it, and: its sessions with their templates, what it told of its interfaces,
/// applications and VRFs, what it says of its own work, information elements that no field is known for, what was lost,
/// dropped or refused in each hour of the window, and what is counted twice. Names and descriptions are what it sent: do not trust them.
#[utoipa::path(
    tag = "Server",
    operation_id = "exporter",
    params(("id" = u32, Path, description = "The exporter's number.", example = 1), WindowParams),
    responses(
        (status = 200, description = "The exporter.", body = ExporterDetails),
        (status = "4XX", description = "There is no such exporter, or the request cannot be answered as it is asked.", body = Problem, content_type = "application/problem+json"),
        (status = "5XX", description = "The request cannot be answered at the moment.", body = Problem, content_type = "application/problem+json"),
    )
)]
#[get("/exporters/{id}")]
pub async fn get_exporter(
    id: web::Path<String>,
    asked: Asked<(WindowParams,)>,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let Asked((window,)) = asked;
    let window = window.window(state.zone, state.clock.now())?;
    let missing = || Problem::new(Code::NotFound, "There is no exporter of this number; /api/v1/exporters lists all.");
    let id = id.parse().map_err(|_| missing())?;
    let detail = state.database.exporter(id, window.from, window.to).await?.ok_or_else(missing)?;
    let counted_by = state.engine.counted_by();
    let twice = state.database.double_counting(Some(id), window.from, window.to, &counted_by).await?;
    format::json(&ExporterDetails::new(detail, twice, window, state.engine.counting()))
}

#[cfg(test)]
mod tests;
