//! The sessions that are remembered: templates and sequence for each exporter, source port, version and domain.
//!
//! Promises: never more sessions, templates or template memory than the limits say; one exporter's sessions push out only
//! its own; a template is found under exactly its session, or, in v9, under the only other session of the same exporter and
//! domain (some exporters send templates from another port). Every change is listed once for those who save state.

use super::limits::Limits;
use super::sampling::Rates;
use super::sequence::Sequence;
use super::templates::{Template, TemplateKind};
use super::{Transport, Version};
use crate::clock::{SECOND, Timestamp};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// By how many milliseconds uptimes of reordered datagrams and receive times may be off.
const UPTIME_SLACK: u32 = 10_000;
/// How far a wrapped uptime may differ from the time that went by, in milliseconds.
const WRAP_SLACK: u64 = 3_600_000;

/// What makes a session (RFC 7011, 8.1: transport session and observation domain).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SessionKey {
    /// The exporter.
    pub(super) exporter_id: u32,
    /// How its messages come.
    pub(super) transport: Transport,
    /// The port it sends from.
    pub(super) source_port: u16,
    /// The version.
    pub(super) version: Version,
    /// The observation domain, source id or engine.
    pub(super) observation_domain: u32,
}

/// What is remembered of one session.
#[derive(Debug)]
pub(super) struct Session {
    /// Who it is.
    pub(super) key: SessionKey,
    /// The sequence number.
    pub(super) sequence: Sequence,
    /// When the exporter started, in milliseconds since 1970, as its options told (element 160).
    pub(super) system_init: Option<u64>,
    /// The last uptime in milliseconds, and when it was received.
    pub(super) uptime: Option<(u32, Timestamp)>,
    /// When the last datagram came.
    pub(super) used: Timestamp,
    /// What its options told about sampling.
    pub(super) rates: Rates,
    /// Records since they were last asked for, by template; only of templates with elements that no field takes.
    pub(super) with_unknown: HashMap<u16, u64, foldhash::fast::FixedState>,
    templates: HashMap<u16, Arc<Template>, foldhash::fast::FixedState>,
    changed: bool,
}

impl Session {
    fn new(key: SessionKey, used: Timestamp) -> Self {
        Self {
            key,
            sequence: Sequence::default(),
            system_init: None,
            uptime: None,
            used,
            rates: Rates::default(),
            with_unknown: HashMap::default(),
            templates: HashMap::default(),
            changed: false,
        }
    }

    /// The templates, by identifier in no order.
    pub(super) fn templates(&self) -> impl ExactSizeIterator<Item = (u16, &Template)> {
        self.templates.iter().map(|(&id, template)| (id, template.as_ref()))
    }

    /// Notes the uptime of a header and says whether the exporter has restarted since the last one: its uptime went back,
    /// to no more than the time since then, and did not wrap. (Line cards with uptimes of their own, reordered and replayed
    /// datagrams go back, too, but not to almost nothing.) Each session finds out for itself, so that two exporters behind
    /// one address do not clear each other's templates.
    pub(super) fn restarted(&mut self, uptime: u32, received: Timestamp) -> bool {
        let (last, then) = *self.uptime.get_or_insert((uptime, received));
        let elapsed = received.micros().saturating_sub(then.micros()).max(0).cast_unsigned() / 1_000;
        let wrapped = u64::from(uptime.wrapping_sub(last)).abs_diff(elapsed) <= WRAP_SLACK;
        let back = last.saturating_sub(uptime);
        let restarted =
            back > UPTIME_SLACK && u64::from(uptime) <= elapsed.saturating_add(UPTIME_SLACK.into()) && !wrapped;
        if back == 0 || wrapped || restarted {
            self.uptime = Some((uptime, received));
        }
        restarted
    }
}

/// All sessions.
#[derive(Debug)]
pub(super) struct Sessions {
    limits: Limits,
    slots: Vec<Option<Session>>,
    free: Vec<usize>,
    by_key: HashMap<SessionKey, usize, foldhash::fast::RandomState>,
    by_exporter: HashMap<u32, Vec<usize>, foldhash::fast::RandomState>,
    template_bytes: usize,
    /// What part of them each exporter has that has one.
    template_bytes_of: HashMap<u32, usize, foldhash::fast::RandomState>,
    /// Exporters of which a session told about sampling.
    rated: HashSet<u32, foldhash::fast::RandomState>,
    /// Until then no session becomes idle, so that none needs to be looked for.
    none_idle_before: Timestamp,
    changed: Vec<usize>,
    forgotten: Vec<SessionKey>,
}

impl Sessions {
    /// No sessions yet.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            slots: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::default(),
            by_exporter: HashMap::default(),
            template_bytes: 0,
            template_bytes_of: HashMap::default(),
            rated: HashSet::default(),
            none_idle_before: Timestamp::from_micros(i64::MIN),
            changed: Vec::new(),
            forgotten: Vec::new(),
        }
    }

    /// The limits.
    pub(super) const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The slot of the session `key`, which is begun if there is room for it, and notes that it is used now.
    pub(super) fn open(&mut self, key: SessionKey, received: Timestamp) -> Option<usize> {
        let slot = match self.by_key.get(&key) {
            Some(&slot) => slot,
            None => self.begin(key, received)?,
        };
        self.get_mut(slot)?.used = received;
        self.mark_changed(slot);
        Some(slot)
    }

    fn mark_changed(&mut self, slot: usize) {
        if let Some(session) = self.slots.get_mut(slot).and_then(Option::as_mut)
            && !session.changed
        {
            session.changed = true;
            self.changed.push(slot);
        }
    }

    /// The session in `slot`.
    pub(super) fn get(&self, slot: usize) -> Option<&Session> {
        self.slots.get(slot)?.as_ref()
    }

    /// The session in `slot`.
    pub(super) fn get_mut(&mut self, slot: usize) -> Option<&mut Session> {
        self.slots.get_mut(slot)?.as_mut()
    }

    fn begin(&mut self, key: SessionKey, received: Timestamp) -> Option<usize> {
        let own = self.by_exporter.get(&key.exporter_id).map_or(0, Vec::len);
        if own >= self.limits.sessions_per_exporter {
            let oldest = self.oldest(self.by_exporter.get(&key.exporter_id)?.iter().copied())?;
            self.forget(oldest);
        } else if self.by_key.len() >= self.limits.sessions {
            self.make_room(key.exporter_id, received)?;
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len().saturating_sub(1)
        });
        *self.slots.get_mut(slot)? = Some(Session::new(key, received));
        self.by_key.insert(key, slot);
        self.by_exporter.entry(key.exporter_id).or_default().push(slot);
        Some(slot)
    }

    /// Forgets the exporter's own oldest session, or another's that is idle; `None` when there is neither.
    fn make_room(&mut self, exporter_id: u32, received: Timestamp) -> Option<()> {
        if let Some(own) = self.by_exporter.get(&exporter_id).and_then(|own| self.oldest(own.iter().copied())) {
            self.forget(own);
            return Some(());
        }
        if received < self.none_idle_before {
            return None;
        }
        let oldest = self.oldest(0..self.slots.len())?;
        let idle = i64::from(self.limits.session_idle_seconds).saturating_mul(SECOND);
        let due = self.get(oldest)?.used.plus(idle);
        if received < due {
            self.none_idle_before = due;
            return None;
        }
        self.forget(oldest);
        Some(())
    }

    fn oldest(&self, slots: impl Iterator<Item = usize>) -> Option<usize> {
        slots.filter_map(|slot| Some((self.get(slot)?.used, slot))).min().map(|(_, slot)| slot)
    }

    fn forget(&mut self, slot: usize) {
        let Some(session) = self.slots.get_mut(slot).and_then(Option::take) else { return };
        let freed = session.templates().map(|(_, template)| template.memory()).sum();
        self.give_back(session.key.exporter_id, freed);
        self.by_key.remove(&session.key);
        if let Some(own) = self.by_exporter.get_mut(&session.key.exporter_id) {
            own.retain(|&other| other != slot);
            if own.is_empty() {
                self.by_exporter.remove(&session.key.exporter_id);
                self.rated.remove(&session.key.exporter_id);
            }
        }
        self.changed.retain(|&other| other != slot);
        self.free.push(slot);
        self.forgotten.push(session.key);
    }

    /// The slot of the only other NetFlow v9 session of the exporter and domain of the one in `slot`.
    pub(super) fn sibling(&self, slot: usize) -> Option<usize> {
        let session = self.get(slot).filter(|session| session.key.version == Version::V9)?;
        let mut others = self.by_exporter.get(&session.key.exporter_id)?.iter().filter(|&&other| {
            self.get(other).is_some_and(|other| {
                other.key != session.key
                    && other.key.version == session.key.version
                    && other.key.observation_domain == session.key.observation_domain
            })
        });
        let (only, none) = (others.next()?, others.next());
        none.is_none().then_some(*only)
    }

    /// The slot of the session whose options tell about the sampling of the one in `slot`: its own, or one of the same
    /// exporter in the same domain from another port, in domain 0, which stands for the whole exporter, or its only other
    /// one. Of several the first by key, which is the same after a restart.
    pub(super) fn rates_from(&self, slot: usize) -> Option<usize> {
        let session = self.get(slot)?;
        if !self.rated.contains(&session.key.exporter_id) {
            return None;
        }
        if !session.rates.is_empty() {
            return Some(slot);
        }
        let others = self.by_exporter.get(&session.key.exporter_id)?.iter();
        let others = others.filter_map(|&other| Some((self.get(other)?, other)));
        let rated: Vec<_> = others
            .filter(|(other, _)| other.key.version == session.key.version && !other.rates.is_empty())
            .map(|(other, slot)| (other.key, slot))
            .collect();
        let in_domain = |domain: u32| rated.iter().filter(|(key, _)| key.observation_domain == domain).min();
        let only = || if let [only] = rated.as_slice() { Some(only) } else { None };
        let found = in_domain(session.key.observation_domain).or_else(|| in_domain(0)).or_else(only);
        found.map(|&(_, slot)| slot)
    }

    /// The options of the session in `slot` told about sampling, and perhaps when the exporter started.
    pub(super) fn note_told(&mut self, slot: usize, rates: Rates, system_init: Option<u64>) {
        let Some(session) = self.get_mut(slot) else { return };
        let exporter_id = session.key.exporter_id;
        session.system_init = system_init.or(session.system_init);
        if !rates.is_empty() {
            session.rates = rates;
            self.rated.insert(exporter_id);
        }
        // They may have waited for their template, and the session been saved since they came.
        self.mark_changed(slot);
    }

    /// The slot of the session `key`, if it is remembered.
    pub(super) fn slot_of(&self, key: &SessionKey) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    /// Hands the records with unknown elements of each session to `take` and forgets them.
    pub(super) fn drain_unknown(&mut self, mut take: impl FnMut(u32, &Template, u64)) {
        for &slot in &self.changed {
            let Some(session) = self.slots.get_mut(slot).and_then(Option::as_mut) else { continue };
            for (id, records) in std::mem::take(&mut session.with_unknown) {
                if let Some(template) = session.templates.get(&id) {
                    take(session.key.exporter_id, template, records);
                }
            }
        }
    }

    /// The template `id` that the session in `slot` has itself.
    pub(super) fn own_template(&self, slot: usize, id: u16) -> Option<&Arc<Template>> {
        self.get(slot)?.templates.get(&id)
    }

    /// Remembers `template` as `id`, in place of an older one. `false` when there is no room for it.
    pub(super) fn define(&mut self, slot: usize, id: u16, template: Template) -> bool {
        self.undefine(slot, id);
        let Some(exporter_id) = self.get(slot).map(|session| session.key.exporter_id) else { return false };
        let own = self.template_bytes_of.get(&exporter_id).copied().unwrap_or(0).saturating_add(template.memory());
        let all = self.template_bytes.saturating_add(template.memory());
        if own > self.limits.template_bytes_per_exporter || all > self.limits.template_bytes {
            return false;
        }
        let count = self.limits.templates_per_session;
        let Some(session) = self.get_mut(slot).filter(|session| session.templates.len() < count) else { return false };
        session.templates.insert(id, Arc::new(template));
        self.template_bytes = all;
        self.template_bytes_of.insert(exporter_id, own);
        true
    }

    /// Counts no longer what templates of an exporter took.
    fn give_back(&mut self, exporter_id: u32, bytes: usize) {
        self.template_bytes = self.template_bytes.saturating_sub(bytes);
        if let Some(own) = self.template_bytes_of.get_mut(&exporter_id) {
            *own = own.saturating_sub(bytes);
            if *own == 0 {
                self.template_bytes_of.remove(&exporter_id);
            }
        }
    }

    /// Forgets the template `id`.
    pub(super) fn undefine(&mut self, slot: usize, id: u16) {
        let Some(session) = self.get_mut(slot) else { return };
        let exporter_id = session.key.exporter_id;
        if let Some(old) = session.templates.remove(&id) {
            self.give_back(exporter_id, old.memory());
        }
    }

    /// Forgets the sessions of streams that have `ended`, and tells whose they were.
    pub(super) fn forget_streams(&mut self, ended: impl Fn(&SessionKey) -> bool) -> BTreeSet<u32> {
        let gone = |key: &SessionKey| key.transport == Transport::Stream && ended(key);
        let slots: Vec<_> = self.by_key.iter().filter(|(key, _)| gone(key)).map(|(_, &slot)| slot).collect();
        let whose = slots.iter().filter_map(|slot| Some(self.get(*slot)?.key.exporter_id)).collect();
        slots.into_iter().for_each(|slot| self.forget(slot));
        whose
    }

    /// Whether there is a session of a stream that is meant.
    pub(super) fn has_streams(&self, meant: impl Fn(&SessionKey) -> bool) -> bool {
        self.by_key.keys().any(|key| key.transport == Transport::Stream && meant(key))
    }

    /// Carries out a withdrawal (RFC 7011, 8.1), which counts only in a stream: over UDP it may come late, or be forged.
    pub(super) fn withdraw(&mut self, slot: usize, id: u16) {
        let Some(session) = self.get(slot).filter(|session| session.key.transport == Transport::Stream) else { return };
        let all = match id {
            2 => false,
            3 => true,
            _ => return self.undefine(slot, id),
        };
        let options = |kind: TemplateKind| matches!(kind, TemplateKind::Options { .. });
        let withdrawn: Vec<_> =
            session.templates().filter(|(_, template)| options(template.kind) == all).map(|(id, _)| id).collect();
        for id in withdrawn {
            self.undefine(slot, id);
        }
    }

    /// Forgets all templates of a session.
    pub(super) fn undefine_all(&mut self, slot: usize) {
        let Some(session) = self.get_mut(slot) else { return };
        let (exporter_id, templates) = (session.key.exporter_id, std::mem::take(&mut session.templates));
        self.give_back(exporter_id, templates.values().map(|template| template.memory()).sum());
    }

    /// Hands each changed session to `save`, and the keys of those forgotten since the last call to `gone`.
    pub(super) fn drain_changes(&mut self, mut save: impl FnMut(&Session), mut gone: impl FnMut(SessionKey)) {
        for key in std::mem::take(&mut self.forgotten) {
            if !self.by_key.contains_key(&key) {
                gone(key);
            }
        }
        for slot in std::mem::take(&mut self.changed) {
            if let Some(session) = self.get_mut(slot) {
                session.changed = false;
                save(session);
            }
        }
    }

    /// Forgets which sessions have changed, as after restoring them.
    pub(super) fn mark_saved(&mut self, slot: usize) {
        if let Some(session) = self.get_mut(slot) {
            session.changed = false;
        }
        self.changed.retain(|&other| other != slot);
    }

    /// How many sessions there are.
    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// How many bytes the templates take, as the limit counts them.
    pub(super) const fn template_bytes(&self) -> usize {
        self.template_bytes
    }
}
