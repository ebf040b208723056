//! The sets of a NetFlow v9 or IPFIX message: templates are learned, data becomes flows.
//!
//! One bad set does not cost the good ones, as long as its length tells where the next one begins. Options records are
//! recognised and counted; of their contents only the exporter's start (element 160) is taken.

use super::copy::{Origin, copy};
use super::plan::{Records, split};
use super::reader::Reader;
use super::reason::Reason;
use super::templates::{Definition, FIRST_TEMPLATE, Template, TemplateKind, next_definition};
use super::times::Base;
use super::{Decoder, Outcome, Version};
use crate::flow::batch::FlowBatch;

/// What the sets of a message belong to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message {
    /// V9 or IPFIX.
    pub(super) version: Version,
    /// The session's slot.
    pub(super) slot: usize,
    /// Whose flows they are.
    pub(super) origin: Origin,
}

/// What was found in the sets of a message, stored or not.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    /// Records of flows and options; `None` once a set hides how many it has.
    pub(super) records: Option<u32>,
    /// Definitions of templates, refused ones included.
    pub(super) definitions: u32,
}

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
        let mut found = Found { records: Some(0), definitions: 0 };
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
                Definition::Usable { id, kind } => self.define(message.slot, id, kind, outcome),
                Definition::Refused { id, reason } => {
                    // What follows is made for a layout that we do not have; the old one would read nonsense.
                    self.sessions.undefine(message.slot, id);
                    outcome.count(reason, 1);
                }
                Definition::Withdrawal => outcome.count(Reason::Withdrawal, 1),
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
                return;
            }
            Some(_) => outcome.count(Reason::TemplateChanged, 1),
            None => {}
        }
        if self.sessions.define(slot, id, Template::new(kind, &self.fields)) {
            outcome.templates = outcome.templates.saturating_add(1);
        } else {
            outcome.count(Reason::TemplateLimit, 1);
        }
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
        let Some(template) = self.sessions.template(message.slot, id) else {
            outcome.count(Reason::NoTemplate, 1);
            found.records = None;
            return;
        };
        let plan = &template.plan;
        let split = split(plan, body, &mut self.memory);
        let records = split.records;
        let count = u32::try_from(records.count).unwrap_or(u32::MAX);
        if split.overrun {
            outcome.count(Reason::VarlenOverrun, 1);
            found.records = None;
        } else if !split.rest.iter().all(|&byte| byte == 0) {
            outcome.count(if records.count == 0 { Reason::SetOverrun } else { Reason::Suspect }, 1);
        }
        found.records = found.records.map(|known| known.saturating_add(count));
        if let TemplateKind::Options { .. } = template.kind {
            outcome.options_records = outcome.options_records.saturating_add(count);
            if let Some(init) = plan.system_init.and_then(|offset| system_init(&records, offset))
                && let Some(session) = self.sessions.get_mut(message.slot)
            {
                session.system_init = Some(init);
            }
            return;
        }
        let room = self.sessions.limits().records_per_datagram.saturating_sub(outcome.records as usize);
        let kept = records.limit(room);
        if kept.count < records.count {
            outcome.count(Reason::OutputLimit, records.count.saturating_sub(kept.count));
        }
        if kept.count == 0 {
            return;
        }
        let mut origin = message.origin;
        if message.version == Version::Ipfix {
            let init = self.sessions.get(message.slot).and_then(|session| session.system_init);
            origin.base.uptime = init.map(|init| Base::uptime_since(origin.base.export, init));
        }
        let corrected = copy(plan, &kept, &origin, &mut self.times, batch);
        outcome.records = outcome.records.saturating_add(u32::try_from(kept.count).unwrap_or(u32::MAX));
        outcome.count(Reason::TimeFixed, corrected);
        outcome.count(Reason::FieldWidth, plan.bad_widths.saturating_mul(kept.count));
    }
}

/// The exporter's start in the last options record.
fn system_init(records: &Records<'_>, offset: usize) -> Option<u64> {
    let bytes = records.at(offset).take(records.count).next_back()?;
    bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}
