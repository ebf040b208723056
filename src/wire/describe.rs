//! What a saved session says, for people: its templates with the names of their fields, and how it samples.
//!
//! Reads the same bytes as `state::restore`, through the same parser, and needs no decoder. Bytes that are no state give
//! nothing. It must not know who asks.

use super::element_names::element_name;
use super::elements;
use super::sampling::Rates;
use super::state::{SavedTemplate, SessionState, parse};
use super::templates::{FieldSpecifier, TemplateKind, VARIABLE};
use super::{Transport, Version};
use crate::flow::fields::Field;
use std::borrow::Cow;

/// One session: who sends, and what its records look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionDescription {
    /// How its messages come.
    pub transport: Transport,
    /// The port it sends from.
    pub source_port: u16,
    /// Its protocol.
    pub version: Version,
    /// The observation domain, source id or engine.
    pub observation_domain: u32,
    /// Its templates, by ascending identifier.
    pub templates: Vec<TemplateDescription>,
    /// What its options told about sampling: of the exporter, then by sampler, then by interface.
    pub sampling: Vec<SamplingDescription>,
}

/// What options told about sampling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplingDescription {
    /// What the interval is for.
    pub scope: SamplingScope,
    /// Out of how many packets one is looked at; never 0.
    pub interval: u32,
}

/// What a sampling interval is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplingScope {
    /// The exporter as a whole.
    Exporter,
    /// The sampler of this number.
    Sampler(u64),
    /// The interface of this SNMP index.
    Interface(u32),
}

/// One template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateDescription {
    /// Its identifier, 256 to 65,535.
    pub id: u16,
    /// `None`: its records are flows. Else they tell about the exporter, and so many leading fields are the scope.
    pub scope: Option<u16>,
    /// Its fields, in the order of the record.
    pub fields: Vec<FieldDescription>,
}

/// One field of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldDescription {
    /// The private enterprise number; 0 is IANA, and all of NetFlow v9.
    pub enterprise: u32,
    /// The information element; in the scope of NetFlow v9 options the scope type (RFC 3954, 6.1).
    pub element: u16,
    /// Its name, if it is known.
    pub name: Option<Cow<'static, str>>,
    /// Bytes on the wire; `None` when each record tells.
    pub length: Option<u16>,
    /// The field of a flow that it feeds, unless a better element of the same record does.
    pub field: Option<Field>,
}

/// Describes a saved session; `None` when its bytes cannot be read.
pub fn describe(saved: &SessionState) -> Option<SessionDescription> {
    let version = Version::from_code(saved.version)?;
    let parsed = parse(&saved.state, usize::MAX)?;
    Some(SessionDescription {
        transport: Transport::from_code(saved.transport)?,
        source_port: saved.source_port,
        version,
        observation_domain: saved.observation_domain,
        templates: parsed.templates.iter().map(|template| describe_template(version, template)).collect(),
        sampling: describe_rates(&parsed.rates),
    })
}

fn describe_rates(rates: &Rates) -> Vec<SamplingDescription> {
    let exporter = rates.exporter.map(|interval| (SamplingScope::Exporter, interval));
    let samplers = rates.samplers.iter().map(|(&id, &interval)| (SamplingScope::Sampler(id), interval));
    let interfaces = rates.interfaces.iter().map(|(&index, &interval)| (SamplingScope::Interface(index), interval));
    let told = exporter.into_iter().chain(samplers).chain(interfaces);
    told.map(|(scope, interval)| SamplingDescription { scope, interval }).collect()
}

fn describe_template(version: Version, template: &SavedTemplate) -> TemplateDescription {
    let scope = match template.kind {
        TemplateKind::Data => None,
        TemplateKind::Options { scope } => Some(scope),
    };
    let is_scope = |index: usize| index < usize::from(scope.unwrap_or(0));
    let fields = template.fields.iter().enumerate();
    let fields =
        fields.map(|(index, field)| describe_field(version, scope.is_some(), is_scope(index), *field)).collect();
    TemplateDescription { id: template.id, scope, fields }
}

fn describe_field(version: Version, options: bool, scope: bool, specifier: FieldSpecifier) -> FieldDescription {
    let FieldSpecifier { enterprise, id, length } = specifier;
    let name =
        if scope && version == Version::V9 { scope_type(id).map(Cow::Borrowed) } else { element_name(enterprise, id) };
    let target = elements::find(enterprise, id).filter(|_| !options).map(|element| element.target);
    let length = Some(length).filter(|&length| length != VARIABLE || version != Version::Ipfix);
    FieldDescription { enterprise, element: id, name, length, field: target.and_then(elements::Target::field) }
}

/// What NetFlow v9 options can be about.
const fn scope_type(id: u16) -> Option<&'static str> {
    match id {
        1 => Some("system"),
        2 => Some("interface"),
        3 => Some("lineCard"),
        4 => Some("netflowCache"),
        5 => Some("template"),
        _ => None,
    }
}
