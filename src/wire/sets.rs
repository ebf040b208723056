//! The sets of a NetFlow v9 or IPFIX message: templates are learned, data becomes flows.
//!
//! One bad set does not cost the good ones, as long as its length tells where the next one begins. A data set whose
//! template is not there yet waits for it (`parking`); options go to `options`.

use super::copy::{Origin, copy};
use super::reader::Reader;
use super::reason::Reason;
use super::sampling::Sampling;
use super::split::split;
use super::templates::{Definition, FIRST_TEMPLATE, Template, TemplateKind, next_definition};
use super::times::Base;
use super::{ConfiguredSampling, Decoder, Outcome, Transport, Version};
use super::{application, options};
use crate::clock::Timestamp;
use crate::flow::batch::FlowBatch;
use crate::flow::parked::ParkedSet;

/// What the sets of a message belong to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message {
    /// V9 or IPFIX.
    pub(super) version: Version,
    /// The session's slot.
    pub(super) slot: usize,
    /// Whose flows they are.
    pub(super) origin: Origin,
    /// What the configuration says about sampling.
    pub(super) sampling: ConfiguredSampling,
}

/// What was found in the sets of a message, stored or not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// Records of flows and options; `None` once a set hides how many it has.
    pub(super) records: Option<u32>,
    /// Definitions of templates, refused ones included.
    pub(super) definitions: u32,
    /// Facts about the exporter.
    facts: u32,
    /// [`Sessions::sibling`], once a set has needed it: it is the same for all sets of a message.
    sibling: Option<Option<usize>>,
    /// [`Sessions::rates_from`], once a set has needed it since options were read.
    rates_from: Option<Option<usize>>,
}

/// How many definitions of templates are taken from one message: compiling is the dearest that few bytes can ask for.
const DEFINITIONS: u32 = 1_024;
/// How many facts are taken from one message.
const FACTS: u32 = 4_096;
/// How many data sets of one message may wait for their templates.
const WAITING: u32 = 1_024;

impl Decoder {
    /// Reads all sets of a message.
    pub(super) fn read_sets(
        &mut self,
        message: &Message,
        sets: &[u8],
        batch: &mut FlowBatch,
        outcome: &mut Outcome,
    ) -> Found {
        let mut reader = Reader::new(sets);
        let mut found = Found { records: Some(0), ..Found::default() };
        // Exporters pad datagrams as well as sets; a set of identifier 0 and length 0 would be padding in v9.
        while !(reader.len() < 4 && reader.is_padding()) {
            let before = reader;
            let (Some(id), Some(length)) = (reader.u16(), reader.u16()) else {
                outcome.count_set(Reason::SetLength);
                found.records = None;
                break;
            };
            if length < 4 {
                if !before.is_padding() {
                    outcome.count_set(Reason::SetLength);
                    found.records = None;
                }
                break;
            }
            let Some(body) = reader.take(usize::from(length).saturating_sub(4)) else {
                outcome.count_set(Reason::SetOverrun);
                found.records = None;
                break;
            };
            outcome.sets = outcome.sets.saturating_add(1);
            match (message.version, id) {
                (Version::V9, 0) | (Version::Ipfix, 2) => self.learn(message, false, body, outcome, &mut found),
                (Version::V9, 1) | (Version::Ipfix, 3) => self.learn(message, true, body, outcome, &mut found),
                (_, FIRST_TEMPLATE..) => self.read_data(message, id, body, batch, outcome, &mut found),
                _ => outcome.count(Reason::SetReserved, 1),
            }
        }
        found
    }

    /// Reads a template set.
    fn learn(&mut self, message: &Message, options: bool, body: &[u8], outcome: &mut Outcome, found: &mut Found) {
        let mut reader = Reader::new(body);
        let limit = self.sessions.limits().fields_per_template;
        while let Some(definition) = next_definition(message.version, options, &mut reader, limit, &mut self.fields) {
            found.definitions = found.definitions.saturating_add(1);
            match definition {
                Definition::Usable { id, .. } | Definition::Refused { id, .. } if found.definitions > DEFINITIONS => {
                    self.sessions.undefine(message.slot, id);
                    outcome.count(Reason::TemplateLimit, 1);
                }
                Definition::Usable { id, kind } => self.define(message.slot, id, kind, outcome),
                Definition::Refused { id, reason } => {
                    // What follows is made for a layout that we do not have; the old one would read nonsense.
                    self.sessions.undefine(message.slot, id);
                    outcome.count(reason, 1);
                }
                Definition::Withdrawal { id } => {
                    outcome.count(Reason::Withdrawal, 1);
                    self.sessions.withdraw(message.slot, id);
                }
                Definition::Unreadable => {
                    outcome.count(Reason::TemplateInvalid, 1);
                    break;
                }
            }
        }
    }

    fn define(&mut self, slot: usize, id: u16, kind: TemplateKind, outcome: &mut Outcome) {
        match self.sessions.own_template(slot, id) {
            Some(old) if old.kind == kind && *old.fields == *self.fields => {
                outcome.templates = outcome.templates.saturating_add(1);
                // What waits for it may have come from another port, when a third port had it, too.
                return self.release(slot, id);
            }
            Some(_) => outcome.count(Reason::TemplateChanged, 1),
            None => {}
        }
        if self.sessions.define(slot, id, Template::new(kind, &self.fields)) {
            outcome.templates = outcome.templates.saturating_add(1);
            self.release(slot, id);
        } else {
            outcome.count(Reason::TemplateLimit, 1);
        }
    }

    /// Lets the sets that wait for the template `id` be decoded.
    fn release(&mut self, slot: usize, id: u16) {
        let Some(key) = self.sessions.get(slot).map(|session| session.key) else { return };
        if !self.parking.awaits(&key, id) {
            return;
        }
        let Some(template) = self.sessions.own_template(slot, id).cloned() else { return };
        let lacks = |other: &usize| self.sessions.own_template(*other, id).is_none();
        let sibling = self.sessions.sibling(slot).filter(lacks).and_then(|other| self.sessions.get(other));
        let sibling = sibling.map(|session| session.key);
        self.parking.release(&key, id, &template, |other| *other == key || Some(*other) == sibling);
    }

    /// Lets a data set wait for its template, or counts it when it may not.
    fn park(&mut self, message: &Message, id: u16, body: &[u8], outcome: &mut Outcome) {
        let limits = self.sessions.limits().clone();
        let base = message.origin.base;
        let parked = self.sessions.get(message.slot).map(|session| session.key).is_some_and(|key| {
            let set = ParkedSet {
                parked_id: 0,
                exporter_id: key.exporter_id,
                transport: key.transport.code(),
                source_port: key.source_port,
                version: key.version.code(),
                observation_domain: key.observation_domain,
                template_id: id,
                received: Timestamp::from_micros(base.received),
                export_time: base.export,
                uptime: base.uptime,
                body: body.to_vec(),
            };
            // A stream brings everything in order: what has no template there never will have one.
            let room = outcome.counts.get(Reason::Parked) < WAITING;
            room && key.transport == Transport::Datagrams && self.parking.park(&key, set, &limits)
        });
        outcome.count(if parked { Reason::Parked } else { Reason::NoTemplate }, 1);
    }

    /// Decodes the next set whose template has come in the meantime; `None` when there is none. `sampling` tells what the
    /// configuration says about an exporter. The flows count as received when the set was.
    pub fn unpark(&mut self, sampling: impl Fn(u32) -> ConfiguredSampling, batch: &mut FlowBatch) -> Option<Unparked> {
        let (set, template) = self.parking.next_ready()?;
        let key = set.key()?;
        let mut outcome = Outcome::new(key.version);
        let message = Message {
            version: key.version,
            // Forgotten since then: its sampling is not known any more.
            slot: self.sessions.slot_of(&key).unwrap_or(usize::MAX),
            origin: Origin {
                exporter_id: set.exporter_id,
                observation_domain: set.observation_domain,
                base: Base { received: set.received.micros(), export: set.export_time, uptime: set.uptime },
            },
            sampling: sampling(set.exporter_id),
        };
        let mut found = Found { records: Some(0), ..Found::default() };
        self.read_records(&message, set.template_id, &template, &set.body, batch, &mut outcome, &mut found);
        Some(Unparked { exporter_id: set.exporter_id, received: set.received, outcome })
    }

    /// Reads a data set.
    fn read_data(
        &mut self,
        message: &Message,
        id: u16,
        body: &[u8],
        batch: &mut FlowBatch,
        outcome: &mut Outcome,
        found: &mut Found,
    ) {
        let own = self.sessions.own_template(message.slot, id);
        let template = own.or_else(|| {
            let sibling = found.sibling.get_or_insert_with(|| self.sessions.sibling(message.slot));
            self.sessions.own_template((*sibling)?, id)
        });
        let Some(template) = template.cloned() else {
            self.park(message, id, body, outcome);
            found.records = None;
            return;
        };
        self.read_records(message, id, &template, body, batch, outcome, found);
    }

    /// Reads the records of a data set whose template is known.
    #[expect(clippy::too_many_arguments, reason = "a set, what it belongs to, and where its contents and counts go")]
    fn read_records(
        &mut self,
        message: &Message,
        id: u16,
        template: &Template,
        body: &[u8],
        batch: &mut FlowBatch,
        outcome: &mut Outcome,
        found: &mut Found,
    ) {
        if let TemplateKind::Options { .. } = template.kind {
            self.read_options(message, template, body, outcome, found);
            return;
        }
        let plan = &template.plan;
        let split = split(plan, body, &mut self.memory);
        let records = split.records;
        if split.overrun {
            outcome.count(Reason::VarlenOverrun, 1);
            found.records = None;
        } else if !split.rest.iter().all(|&byte| byte == 0) {
            outcome.count(if records.count == 0 { Reason::SetOverrun } else { Reason::Suspect }, 1);
        }
        let count = u32::try_from(records.count).unwrap_or(u32::MAX);
        found.records = found.records.map(|known| known.saturating_add(count));
        let room = self.sessions.limits().records_per_datagram.saturating_sub(outcome.records as usize);
        let kept = records.limit(room);
        if kept.count < records.count {
            outcome.count(Reason::OutputLimit, records.count.saturating_sub(kept.count));
        }
        if kept.count == 0 {
            return;
        }
        if !plan.unknown.is_empty()
            && let Some(session) = self.sessions.get_mut(message.slot)
        {
            let seen = session.with_unknown.entry(id).or_default();
            *seen = seen.saturating_add(kept.count as u64);
        }
        let mut origin = message.origin;
        if message.version == Version::Ipfix {
            let init = self.sessions.get(message.slot).and_then(|session| session.system_init);
            origin.base.uptime = init.map(|init| Base::uptime_since(origin.base.export, init));
        }
        let rates_from = *found.rates_from.get_or_insert_with(|| self.sessions.rates_from(message.slot));
        let rates = rates_from.and_then(|slot| self.sessions.get(slot)).map(|session| &session.rates);
        let sampling = Sampling { configured: message.sampling, header: None, rates };
        let first = batch.rows();
        let corrected = copy(plan, &kept, &origin, &sampling, &mut self.times, batch);
        if let Some(step) = &plan.section {
            let packets = (&kept, split.removed.sections.as_slice());
            let unreadable = step.write(plan, packets, origin.base.received, &mut self.rows, (batch, first));
            outcome.count(Reason::FieldWidth, unreadable);
        }
        if let Some(octets) = plan.application {
            let unfit = application::write(octets, &kept, &split.removed.applications, batch, first);
            outcome.count(Reason::FieldWidth, unfit);
        }
        outcome.records = outcome.records.saturating_add(u32::try_from(kept.count).unwrap_or(u32::MAX));
        outcome.count(Reason::TimeFixed, corrected);
        outcome.count(Reason::FieldWidth, plan.bad_widths.saturating_mul(kept.count));
    }

    /// Reads the records of an options data set.
    fn read_options(
        &mut self,
        message: &Message,
        template: &Template,
        body: &[u8],
        outcome: &mut Outcome,
        found: &mut Found,
    ) {
        let session = self.sessions.get_mut(message.slot);
        let mut rates = session.map(|session| std::mem::take(&mut session.rates)).unwrap_or_default();
        let domain = message.origin.observation_domain;
        let (exporter_id, limit) = (message.origin.exporter_id, self.sessions.limits().facts);
        let (facts, mut refused) = (&mut self.facts, 0usize);
        let mut learn = |fact| {
            found.facts = found.facts.saturating_add(1);
            let learnt = found.facts <= FACTS && facts.learn(limit, exporter_id, fact);
            refused = refused.saturating_add(usize::from(!learnt));
        };
        let told = options::read(message.version, domain, template, body, &mut rates, &mut learn);
        self.sessions.note_told(message.slot, rates, told.system_init);
        found.rates_from = None;
        outcome.count(Reason::FactLimit, refused);
        outcome.options_records = outcome.options_records.saturating_add(told.records);
        outcome.count(Reason::TextFixed, told.fixed_texts);
        outcome.count(Reason::FieldWidth, told.unfit);
        found.records = found.records.map(|known| known.saturating_add(told.records));
        if told.overrun {
            outcome.count(Reason::VarlenOverrun, 1);
            found.records = None;
        } else if told.suspect {
            outcome.count(if told.records == 0 { Reason::SetOverrun } else { Reason::Suspect }, 1);
        }
    }
}

/// A set that waited for its template and was decoded now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unparked {
    /// Who sent it.
    pub exporter_id: u32,
    /// When it was received.
    pub received: Timestamp,
    /// What became of it. It counts as no datagram and tells no loss.
    pub outcome: Outcome,
}
