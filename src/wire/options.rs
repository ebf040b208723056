//! Options records: what an exporter tells about itself instead of about flows.
//!
//! Taken are sampling intervals (of a sampler, an interface, or the exporter as a whole), names of interfaces, applications
//! and VRFs, the exporter's own statistics, and when it started. Where an interface stands, in the scope or among the
//! fields, makes no difference: vendors do both. Records come rarely, so they are read field by field.

use super::elements::{Part, Target, find};
use super::reader::Reader;
use super::sampling::{Rates, Scope, spaced};
use super::templates::{FieldSpecifier, Template, TemplateKind, VARIABLE};
use super::text;
use super::{Version, application};
use crate::flow::facts::Fact;

/// The scope type of an interface in NetFlow v9 (RFC 3954, 6.1).
const SCOPE_INTERFACE: u16 = 2;

/// Elements that count an exporter's own work, with their names (IANA).
const STATISTICS: [(u16, &str); 9] = [
    (40, "exportedOctetTotalCount"),
    (41, "exportedMessageTotalCount"),
    (42, "exportedFlowRecordTotalCount"),
    (163, "observedFlowTotalCount"),
    (164, "ignoredPacketTotalCount"),
    (165, "ignoredOctetTotalCount"),
    (166, "notSentFlowTotalCount"),
    (167, "notSentPacketTotalCount"),
    (168, "notSentOctetTotalCount"),
];

/// What the options records of a set told.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Records found.
    pub(super) records: u32,
    /// A variable-length field ran past the set.
    pub(super) overrun: bool,
    /// Bytes that are not zero follow the last record.
    pub(super) suspect: bool,
    /// Texts that had to be cleaned.
    pub(super) fixed_texts: usize,
    /// Applications that have no number.
    pub(super) unfit: usize,
    /// When the exporter started, in milliseconds since 1970.
    pub(super) system_init: Option<u64>,
}

/// One record, as far as it is understood.
#[derive(Debug, Default)]
struct Record<'a> {
    interface: Option<u64>,
    sampler: Option<u64>,
    interval: Option<u64>,
    taken: Option<u64>,
    skipped: Option<u64>,
    sample_size: Option<u64>,
    population: Option<u64>,
    probability: Option<f64>,
    interface_name: Option<&'a [u8]>,
    interface_description: Option<&'a [u8]>,
    application: Option<u64>,
    unfit: bool,
    application_name: Option<&'a [u8]>,
    application_description: Option<&'a [u8]>,
    vrf: Option<u64>,
    vrf_name: Option<&'a [u8]>,
    system_init: Option<u64>,
}

/// Reads the options records in `body`: sampling into `rates`, everything else goes to `learn`.
pub(super) fn read(
    version: Version,
    observation_domain: u32,
    template: &Template,
    body: &[u8],
    rates: &mut Rates,
    learn: &mut impl FnMut(Fact),
) -> Told {
    let mut told = Told::default();
    let mut reader = Reader::new(body);
    let shortest = template.plan.shortest();
    while shortest > 0 && reader.len() >= shortest {
        let mut record = Record::default();
        if record.read(version, observation_domain, template, &mut reader, learn).is_none() {
            told.overrun = true;
            return told;
        }
        told.records = told.records.saturating_add(1);
        told.unfit = told.unfit.saturating_add(usize::from(record.unfit));
        told.system_init = record.system_init.or(told.system_init);
        if let Some((scope, interval)) = record.sampling() {
            rates.note(scope, interval);
        }
        told.fixed_texts = told.fixed_texts.saturating_add(record.names(learn));
    }
    told.suspect = !reader.is_padding();
    told
}

impl<'a> Record<'a> {
    /// Reads one record; `None` when it runs past the set.
    fn read(
        &mut self,
        version: Version,
        observation_domain: u32,
        template: &Template,
        reader: &mut Reader<'a>,
        learn: &mut impl FnMut(Fact),
    ) -> Option<()> {
        let scope = match template.kind {
            TemplateKind::Options { scope } => usize::from(scope),
            TemplateKind::Data => 0,
        };
        for (index, field) in template.fields.iter().enumerate() {
            let length = match field.length {
                // RFC 7011, 7: one byte, or 255 and two bytes.
                VARIABLE => match reader.u8()? {
                    255 => usize::from(reader.u16()?),
                    short => usize::from(short),
                },
                length => usize::from(length),
            };
            let bytes = reader.take(length)?;
            if index < scope && version == Version::V9 {
                if field.id == SCOPE_INTERFACE {
                    self.interface = number(bytes);
                }
                continue;
            }
            let statistic = STATISTICS.iter().find(|(id, _)| *id == field.id);
            if let (Some((_, statistic)), 0, Some(value)) = (statistic, field.enterprise, number(bytes)) {
                learn(Fact::Statistic { observation_domain, statistic, value });
            }
            self.field(*field, bytes);
        }
        Some(())
    }

    fn field(&mut self, field: FieldSpecifier, bytes: &'a [u8]) {
        if field.enterprise != 0 {
            return;
        }
        match field.id {
            10 | 14 | 252 | 253 => self.interface = self.interface.or(number(bytes)),
            82 => self.interface_name = Some(bytes),
            83 => self.interface_description = Some(bytes),
            94 => self.application_description = Some(bytes),
            95 => {
                self.application = application::number(bytes);
                self.unfit = self.application.is_none() && !bytes.is_empty();
            }
            96 => self.application_name = Some(bytes),
            160 => self.system_init = bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes)),
            234 | 235 => self.vrf = self.vrf.or(number(bytes)),
            236 => self.vrf_name = Some(bytes),
            309 => self.sample_size = number(bytes),
            310 => self.population = number(bytes),
            311 => self.probability = bytes.first_chunk().map(|bytes| f64::from_be_bytes(*bytes)),
            id => match find(0, id).map(|element| element.target) {
                Some(Target::Sampling(Part::Interval)) => self.interval = number(bytes).or(self.interval),
                Some(Target::Sampling(Part::Taken)) => self.taken = number(bytes),
                Some(Target::Sampling(Part::Skipped)) => self.skipped = number(bytes),
                Some(Target::Sampler) => self.sampler = number(bytes),
                _ => {}
            },
        }
    }

    /// The interval that the record tells, and for what.
    fn sampling(&self) -> Option<(Scope, u32)> {
        let interval = match (self.interval, self.taken, self.skipped, self.sample_size, self.population) {
            (Some(interval), ..) => u32::try_from(interval).unwrap_or(u32::MAX),
            (_, Some(taken), Some(skipped), ..) => spaced(taken, skipped),
            (.., Some(size), Some(population)) => spaced(size, population.saturating_sub(size)),
            _ => {
                let probability = self.probability.filter(|probability| (0.0..=1.0).contains(probability))?;
                (1.0 / probability).round().min(f64::from(u32::MAX)) as u32
            }
        };
        let interface = self.interface.and_then(|index| u32::try_from(index).ok());
        let scope = match (self.sampler, interface) {
            (Some(sampler), _) => Scope::Sampler(sampler),
            (None, Some(interface)) => Scope::Interface(interface),
            (None, None) => Scope::Exporter,
        };
        Some((scope, interval))
    }

    /// The names that the record gives, and how many of them had to be cleaned.
    fn names(&self, learn: &mut impl FnMut(Fact)) -> usize {
        let mut fixed = 0usize;
        let mut clean = |bytes: Option<&[u8]>| {
            let (text, touched) = text::clean(bytes?)?;
            fixed = fixed.saturating_add(usize::from(touched));
            Some(text)
        };
        if let Some(interface) = self.interface.and_then(|index| u32::try_from(index).ok()) {
            let (name, description) = (clean(self.interface_name), clean(self.interface_description));
            if name.is_some() || description.is_some() {
                learn(Fact::Interface { interface, name, description, speed: None });
            }
        }
        if let Some(application_id) = self.application {
            let (name, description) = (clean(self.application_name), clean(self.application_description));
            if name.is_some() || description.is_some() {
                learn(Fact::Application { application_id, name, description });
            }
        }
        if let (Some(vrf), Some(name)) = (self.vrf.and_then(|vrf| u32::try_from(vrf).ok()), clean(self.vrf_name)) {
            learn(Fact::Vrf { vrf, name: Some(name) });
        }
        fixed
    }
}

/// A number of 1 to 8 bytes.
fn number(bytes: &[u8]) -> Option<u64> {
    let plausible = (1..=8).contains(&bytes.len());
    plausible.then(|| bytes.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
}
