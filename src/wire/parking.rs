//! Data sets that came before their template, until it comes.
//!
//! RFC 7011, 9.3 and RFC 3954, 9 let a collector keep them. Promises: at most as many bytes for one exporter and in all as
//! the limits say, none older than they say; what waits is decoded once, as of the moment when it was received, in the
//! order of arrival; every set that stops waiting without having been decoded is told. What waits can be saved and taken
//! up again, so that a restart loses none of it. It decodes nothing itself.

use super::limits::Limits;
use super::sessions::SessionKey;
use super::templates::Template;
use super::{Transport, Version};
use crate::clock::{SECOND, Timestamp};
use crate::flow::parked::ParkedSet;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// What a waiting set costs beside its bytes, when it is the only one for its template (measured: 475 bytes).
const OVERHEAD: usize = 512;

impl ParkedSet {
    /// The session it came in.
    pub(super) fn key(&self) -> Option<SessionKey> {
        Some(SessionKey {
            exporter_id: self.exporter_id,
            transport: Transport::from_code(self.transport)?,
            source_port: self.source_port,
            version: Version::from_code(self.version)?,
            observation_domain: self.observation_domain,
        })
    }

    fn cost(&self) -> usize {
        self.body.len().saturating_add(OVERHEAD)
    }
}

/// A set that waited in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExpiredSet {
    /// The exporter.
    pub exporter_id: u32,
    /// When it was received.
    pub received: Timestamp,
}

/// What changed since it was last asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ParkedChanges {
    /// Sets that began to wait and still do.
    pub added: Vec<ParkedSet>,
    /// Numbers of sets told before that wait no longer.
    pub removed: Vec<u64>,
}

/// What a set waits for: exporter, version, domain and template. The port is not part of it, since some NetFlow v9
/// exporters send templates from another one.
type Awaited = (u32, Version, u32, u16);

#[derive(Debug)]
struct Waiting {
    set: ParkedSet,
    saved: bool,
}

/// All waiting sets.
#[derive(Debug, Default)]
pub(super) struct Parking {
    next: u64,
    by_template: HashMap<Awaited, VecDeque<Waiting>, foldhash::fast::RandomState>,
    /// What each number waits for, the oldest first.
    order: BTreeMap<u64, Awaited>,
    /// Bytes by exporter.
    bytes: HashMap<u32, usize, foldhash::fast::RandomState>,
    total: usize,
    /// Those whose template has come, in the order in which they are to be decoded.
    ready: VecDeque<(Waiting, Arc<Template>)>,
    expired: Vec<ExpiredSet>,
    /// What waits for these may not be saved yet; at the end of each queue.
    unsaved: Vec<Awaited>,
    removed: Vec<u64>,
}

impl Parking {
    /// Lets a set wait; its number is given here. `false` when there is no room for it.
    pub(super) fn park(&mut self, key: &SessionKey, mut set: ParkedSet, limits: &Limits) -> bool {
        set.parked_id = self.next;
        self.next = self.next.saturating_add(1);
        self.admit(key, Waiting { set, saved: false }, None, limits)
    }

    /// Takes up a set that was saved; its `template` may have come by then.
    pub(super) fn restore(&mut self, set: ParkedSet, template: Option<Arc<Template>>, limits: &Limits) {
        self.next = self.next.max(set.parked_id.saturating_add(1));
        let ParkedSet { parked_id, exporter_id, received, .. } = set;
        let kept = set.key().is_some_and(|key| self.admit(&key, Waiting { set, saved: true }, template, limits));
        if !kept {
            self.removed.push(parked_id);
            self.expired.push(ExpiredSet { exporter_id, received });
        }
    }

    fn admit(&mut self, key: &SessionKey, it: Waiting, template: Option<Arc<Template>>, limits: &Limits) -> bool {
        let own = self.bytes.get(&key.exporter_id).copied().unwrap_or(0);
        let cost = it.set.cost();
        let (of_exporter, total) = (own.saturating_add(cost), self.total.saturating_add(cost));
        if of_exporter > limits.parked_bytes_per_exporter || total > limits.parked_bytes {
            return false;
        }
        self.bytes.insert(key.exporter_id, of_exporter);
        self.total = total;
        if let Some(template) = template {
            self.ready.push_back((it, template));
            return true;
        }
        let awaited = (key.exporter_id, key.version, key.observation_domain, it.set.template_id);
        if !it.saved {
            self.unsaved.push(awaited);
        }
        self.order.insert(it.set.parked_id, awaited);
        self.by_template.entry(awaited).or_default().push_back(it);
        true
    }

    /// Whether anything waits for a template of this identifier in the session.
    pub(super) fn awaits(&self, key: &SessionKey, template_id: u16) -> bool {
        let awaited = (key.exporter_id, key.version, key.observation_domain, template_id);
        !self.by_template.is_empty() && self.by_template.contains_key(&awaited)
    }

    /// The template has come for those sets of its session's domain for which `suits` says so.
    pub(super) fn release(
        &mut self,
        key: &SessionKey,
        template_id: u16,
        template: &Arc<Template>,
        suits: impl Fn(&SessionKey) -> bool,
    ) {
        let awaited = (key.exporter_id, key.version, key.observation_domain, template_id);
        self.take(awaited, |parking, waiting| {
            if !waiting.set.key().is_some_and(|key| suits(&key)) {
                return Some(waiting);
            }
            parking.order.remove(&waiting.set.parked_id);
            parking.ready.push_back((waiting, Arc::clone(template)));
            None
        });
    }

    /// The session has begun anew: its sets wait for templates that do not exist any more.
    pub(super) fn forget(&mut self, session: &SessionKey) {
        let awaited: Vec<_> = self
            .by_template
            .keys()
            .filter(|(exporter, version, domain, _)| {
                (*exporter, *version, *domain) == (session.exporter_id, session.version, session.observation_domain)
            })
            .copied()
            .collect();
        for awaited in awaited {
            self.take(awaited, |parking, waiting| {
                if waiting.set.source_port != session.source_port {
                    return Some(waiting);
                }
                parking.gone(&waiting);
                parking.expire(&waiting);
                None
            });
        }
    }

    /// Gives up sets that were received before `moment` less the limit.
    pub(super) fn give_up(&mut self, moment: Timestamp, limits: &Limits) {
        let oldest = moment.plus(i64::from(limits.parked_seconds).saturating_mul(SECOND).saturating_neg());
        while let Some((_, &awaited)) = self.order.first_key_value() {
            // The first of all is the first of its queue.
            let Some(queue) = self.by_template.get_mut(&awaited) else { return };
            let Some(waiting) = queue.pop_front_if(|waiting| waiting.set.received < oldest) else { return };
            if queue.is_empty() {
                self.by_template.remove(&awaited);
            }
            self.gone(&waiting);
            self.expire(&waiting);
        }
    }

    /// Hands the sets that wait for `awaited` to `decide`, which gives back those that go on waiting.
    fn take(&mut self, awaited: Awaited, mut decide: impl FnMut(&mut Self, Waiting) -> Option<Waiting>) {
        let Some(queue) = self.by_template.remove(&awaited) else { return };
        let kept: VecDeque<_> = queue.into_iter().filter_map(|waiting| decide(self, waiting)).collect();
        if !kept.is_empty() {
            self.by_template.insert(awaited, kept);
        }
    }

    /// Takes a set out of the books.
    fn gone(&mut self, waiting: &Waiting) {
        let cost = waiting.set.cost();
        self.total = self.total.saturating_sub(cost);
        if let Some(own) = self.bytes.get_mut(&waiting.set.exporter_id) {
            *own = own.saturating_sub(cost);
            if *own == 0 {
                self.bytes.remove(&waiting.set.exporter_id);
            }
        }
        self.order.remove(&waiting.set.parked_id);
        if waiting.saved {
            self.removed.push(waiting.set.parked_id);
        }
    }

    fn expire(&mut self, waiting: &Waiting) {
        let ParkedSet { exporter_id, received, .. } = waiting.set;
        self.expired.push(ExpiredSet { exporter_id, received });
    }

    /// The next set whose template has come.
    pub(super) fn next_ready(&mut self) -> Option<(ParkedSet, Arc<Template>)> {
        let (waiting, template) = self.ready.pop_front()?;
        self.gone(&waiting);
        Some((waiting.set, template))
    }

    /// The sets that waited in vain since the last call.
    pub(super) fn take_expired(&mut self) -> Vec<ExpiredSet> {
        std::mem::take(&mut self.expired)
    }

    /// What changed since the last call.
    pub(super) fn take_changes(&mut self) -> ParkedChanges {
        let mut changes = ParkedChanges { added: Vec::new(), removed: std::mem::take(&mut self.removed) };
        let awaited = std::mem::take(&mut self.unsaved);
        let mut save = |waiting: &mut Waiting| {
            waiting.saved = true;
            changes.added.push(waiting.set.clone());
        };
        for awaited in &awaited {
            let queue = self.by_template.get_mut(awaited).into_iter().flatten();
            queue.rev().take_while(|waiting| !waiting.saved).for_each(&mut save);
        }
        if !awaited.is_empty() {
            self.ready.iter_mut().map(|(waiting, _)| waiting).filter(|waiting| !waiting.saved).for_each(&mut save);
        }
        changes
    }

    /// Bytes that wait, as the limits count them.
    pub(super) const fn bytes(&self) -> usize {
        self.total
    }
}
