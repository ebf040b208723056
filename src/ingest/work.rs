//! A piece of work: what a stretch of the journal became, on its way to one transaction.

use crate::clock::Timestamp;
use crate::flow::batch::FlowBatch;
use crate::flow::facts::Fact;
use crate::flow::parked::ParkedSet;
use crate::store::commit::{Activity, DecoderState, Loss};
use crate::store::facts::{Facts, ToldKey, UnknownElements};
use crate::wire::{self, SessionState, UnknownElement};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The most facts, and the most unknown elements, that one piece holds.
const FACTS: usize = 20_000;

/// With so many counts of what is missing in one piece, losses that are found late are no longer told apart by exporter: each of
/// them is a count an hour for up to a month.
const LOSSES: usize = 20_000;

/// What is written beside the flows: who sent, what is missing, what the decoder learned.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// By exporter and version.
    activity: BTreeMap<(u32, u16), Sent>,
    /// By exporter, hour, cause and unit.
    loss: BTreeMap<(u32, Timestamp, &'static str, &'static str), i64>,
    /// The newest state of each session.
    decoder_state: BTreeMap<SessionKey, (u32, Vec<u8>)>,
    /// What exporters told about themselves.
    facts: Facts,
    /// Elements without a field.
    unknown: UnknownElements,
    /// Data sets that began to wait for their template.
    pub(super) parked: Vec<ParkedSet>,
    /// Numbers of those that wait no longer.
    pub(super) unparked: Vec<u64>,
}

/// What an exporter sent in one version.
#[derive(Debug)]
struct Sent {
    last_seen: Timestamp,
    datagrams: u64,
    flows: u64,
    /// The most in one datagram.
    most_flows: u64,
    clock_offset_ms: Option<i64>,
}

impl Sent {
    fn add(&mut self, later: &Self) {
        self.last_seen = self.last_seen.max(later.last_seen);
        self.datagrams = self.datagrams.saturating_add(later.datagrams);
        self.flows = self.flows.saturating_add(later.flows);
        self.most_flows = self.most_flows.max(later.most_flows);
        self.clock_offset_ms = later.clock_offset_ms.or(self.clock_offset_ms);
    }
}

/// Exporter, transport, port, version and domain.
type SessionKey = (u32, u16, u16, u16, u32);

impl Ledger {
    /// Notes a datagram, its flows, and by how much the exporter's clock was ahead if it tells.
    pub(super) fn sent(
        &mut self,
        exporter_id: u32,
        version: u16,
        received: Timestamp,
        flows: u64,
        clock_offset_ms: Option<i64>,
    ) {
        let sent = Sent { last_seen: received, datagrams: 1, flows, most_flows: flows, clock_offset_ms };
        self.add_activity((exporter_id, version), sent);
    }

    fn add_activity(&mut self, key: (u32, u16), sent: Sent) {
        match self.activity.entry(key) {
            Entry::Occupied(mut known) => known.get_mut().add(&sent),
            Entry::Vacant(room) => drop(room.insert(sent)),
        }
    }

    /// Notes a fact. Returns whether there was room for it.
    pub(super) fn told(&mut self, exporter_id: u32, received: Timestamp, fact: Fact) -> bool {
        // Counters are kept for each hour; of everything else there is one.
        let hour = matches!(fact, Fact::Counters(_)).then(|| received.hour());
        self.add_fact((exporter_id, fact.key(), hour), received, fact, FACTS)
    }

    fn add_fact(&mut self, key: ToldKey, received: Timestamp, fact: Fact, limit: usize) -> bool {
        let full = self.facts.len() >= limit;
        match self.facts.entry(key) {
            Entry::Occupied(mut known) => {
                let (_, earlier) = known.get().clone();
                known.insert((received, fact.after(earlier)));
            }
            Entry::Vacant(_) if full => return false,
            Entry::Vacant(room) => drop(room.insert((received, fact))),
        }
        true
    }

    /// Adds up an element without a field, last received at `received`. Returns whether there was room for it.
    pub(super) fn missed(&mut self, received: Timestamp, missed: UnknownElement) -> bool {
        let key = (missed.exporter_id, missed.enterprise, missed.element);
        self.add_unknown(key, missed.records, received, FACTS)
    }

    fn add_unknown(&mut self, key: (u32, u32, u16), records: u64, received: Timestamp, limit: usize) -> bool {
        let full = self.unknown.len() >= limit;
        match self.unknown.entry(key) {
            Entry::Occupied(mut known) => {
                let (sum, last_seen) = known.get_mut();
                *sum = sum.saturating_add(records);
                *last_seen = received.max(*last_seen);
            }
            Entry::Vacant(_) if full => return false,
            Entry::Vacant(room) => drop(room.insert((records, received))),
        }
        true
    }

    /// Whether as much is told as one piece holds, so that no further piece should be merged into it.
    pub(super) fn is_full(&self) -> bool {
        self.facts.len() >= FACTS || self.unknown.len() >= FACTS || self.loss.len() >= LOSSES
    }

    /// Notes flows of a datagram that was noted before.
    pub(super) fn late(&mut self, exporter_id: u32, version: u16, flows: u64) {
        let sent = Sent { last_seen: Timestamp::default(), datagrams: 0, flows, most_flows: 0, clock_offset_ms: None };
        self.add_activity((exporter_id, version), sent);
    }

    /// Notes that something is missing, or, with a negative count, that it came after all.
    pub(super) fn lost(
        &mut self,
        exporter_id: u32,
        at: Timestamp,
        cause: &'static str,
        unit: &'static str,
        count: i64,
    ) {
        let entry = self.loss.entry((exporter_id, at.hour(), cause, unit)).or_insert(0);
        *entry = entry.saturating_add(count);
    }

    /// The same of an hour before the one in which it was found.
    pub(super) fn lost_earlier(
        &mut self,
        exporter_id: u32,
        at: Timestamp,
        cause: &'static str,
        unit: &'static str,
        count: i64,
    ) {
        let room = self.loss.len() < LOSSES || self.loss.contains_key(&(exporter_id, at.hour(), cause, unit));
        self.lost(if room { exporter_id } else { 0 }, at, cause, unit, count);
    }

    /// Notes what the decoder must remember.
    pub(super) fn learned(&mut self, sessions: Vec<SessionState>) {
        for session in sessions {
            let SessionState { exporter_id, transport, source_port, version, observation_domain, .. } = session;
            let key = (exporter_id, transport, source_port, version, observation_domain);
            self.decoder_state.insert(key, (session.templates, session.state));
        }
    }

    /// Notes which data sets began to wait for their template, and which wait no longer.
    pub(super) fn waited(&mut self, changes: wire::ParkedChanges) {
        self.parked.extend(changes.added);
        self.unparked.extend(changes.removed);
    }

    /// Adds a later ledger.
    pub(super) fn merge(&mut self, later: Self) {
        for (key, sent) in later.activity {
            self.add_activity(key, sent);
        }
        for (key, count) in later.loss {
            let entry = self.loss.entry(key).or_insert(0);
            *entry = entry.saturating_add(count);
        }
        self.decoder_state.extend(later.decoder_state);
        for (key, (received, fact)) in later.facts {
            self.add_fact(key, received, fact, usize::MAX);
        }
        for (key, (records, received)) in later.unknown {
            self.add_unknown(key, records, received, usize::MAX);
        }
        self.parked.extend(later.parked);
        self.unparked.extend(later.unparked);
    }

    pub(super) fn activity(&self) -> Vec<Activity> {
        self.activity
            .iter()
            .map(|(&(exporter_id, version), sent)| Activity {
                exporter_id,
                version,
                last_seen: sent.last_seen,
                datagrams: sent.datagrams,
                flows: sent.flows,
                most_flows: sent.most_flows,
                clock_offset_ms: sent.clock_offset_ms,
            })
            .collect()
    }

    pub(super) fn loss(&self) -> Vec<Loss> {
        self.loss
            .iter()
            .filter(|(_, count)| **count != 0)
            .map(|(&(exporter_id, hour, cause, unit), &count)| Loss { exporter_id, hour, cause, unit, count })
            .collect()
    }

    /// The facts, which are taken out.
    pub(super) fn take_facts(&mut self) -> Facts {
        std::mem::take(&mut self.facts)
    }

    /// The elements without a field, which are taken out.
    pub(super) fn take_unknown(&mut self) -> UnknownElements {
        std::mem::take(&mut self.unknown)
    }

    pub(super) fn decoder_state(self) -> Vec<DecoderState> {
        self.decoder_state
            .into_iter()
            .map(|((exporter_id, transport, source_port, version, observation_domain), (templates, state))| {
                DecoderState { exporter_id, transport, source_port, version, observation_domain, templates, state }
            })
            .collect()
    }
}

/// A stretch of the journal, decoded.
#[derive(Debug)]
pub(super) struct Work {
    /// Where the stretch begins.
    pub(super) start: u64,
    /// Where it ends.
    pub(super) end: u64,
    /// The flows, all received in one UTC hour.
    pub(super) flows: FlowBatch,
    /// What is written beside them.
    pub(super) ledger: Ledger,
    /// Everything received before this moment is stored once the work is.
    pub(super) complete_until: Timestamp,
    /// Whether the work was cut because a segment is full: then speed counts more than size.
    pub(super) full: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::HOUR;

    #[test]
    fn what_many_exporters_lost_over_a_month_fits_into_one_piece() {
        let mut ledger = Ledger::default();
        for exporter in 1..=100 {
            for hour in 0..744 {
                let at = Timestamp::from_micros(hour * HOUR);
                ledger.lost_earlier(exporter, at, "network_later", "flows", 2);
            }
        }
        let told = ledger.loss();
        assert!(told.len() <= LOSSES + 744 && ledger.is_full(), "{} counts", told.len());
        assert_eq!(told.iter().map(|loss| loss.count).sum::<i64>(), 100 * 744 * 2);
        // What was told apart stays so.
        ledger.lost_earlier(1, Timestamp::from_micros(0), "network_later", "flows", -2);
        assert_eq!(ledger.loss().len(), told.len() - 1);
    }

    #[test]
    fn merged_ledgers_add_up_and_keep_the_newest_state() {
        let at = Timestamp::from_micros(7);
        let session = |state: u8| SessionState {
            exporter_id: 1,
            transport: 0,
            source_port: 2_055,
            version: 9,
            observation_domain: 0,
            state: vec![state],
            templates: 1,
        };
        let mut first = Ledger::default();
        first.sent(1, 9, at, 10, Some(-3));
        first.lost(1, at, "network", "datagrams", 3);
        first.learned(vec![session(1)]);
        let mut second = Ledger::default();
        second.sent(1, 9, at.plus(5), 20, None);
        second.late(1, 9, 5);
        second.lost(1, at, "network", "datagrams", -3);
        second.lost(0, at, "kernel", "datagrams", 2);
        second.learned(vec![session(2)]);
        first.merge(second);
        assert_eq!(
            first.activity(),
            [Activity {
                exporter_id: 1,
                version: 9,
                last_seen: at.plus(5),
                datagrams: 2,
                flows: 35,
                most_flows: 20,
                clock_offset_ms: Some(-3)
            }]
        );
        let loss = first.loss();
        assert_eq!(loss.len(), 1, "what came after all is not written: {loss:?}");
        assert_eq!((loss[0].cause, loss[0].count), ("kernel", 2));
        assert_eq!(first.decoder_state()[0].state, [2]);
    }

    fn interface(interface: u32, name: Option<&str>, description: Option<&str>) -> Fact {
        Fact::Interface {
            interface,
            name: name.map(str::to_owned),
            description: description.map(str::to_owned),
            speed: None,
        }
    }

    #[test]
    fn a_later_fact_replaces_an_earlier_one_and_counters_keep_the_last_of_each_hour() {
        let at = Timestamp::from_micros(7);
        let counters =
            |in_bytes| Fact::Counters(crate::flow::facts::Counters { interface: 2, in_bytes, ..Default::default() });
        let (mut first, mut second) = (Ledger::default(), Ledger::default());
        assert!(first.told(1, at, interface(2, Some("Gi0/2"), Some("old"))));
        assert!(first.told(1, at, counters(5)) && first.told(1, at.plus(1), counters(6)));
        assert!(second.told(1, at.plus(HOUR), interface(2, None, Some("new"))));
        assert!(second.told(1, at.plus(HOUR), counters(7)) && second.told(9, at, interface(2, None, None)));
        first.merge(second);
        let facts = first.take_facts();
        let told: Vec<_> = facts.iter().map(|(key, (received, fact))| (key.0, *received, fact.clone())).collect();
        assert_eq!(
            told,
            [
                (1, at.plus(HOUR), interface(2, Some("Gi0/2"), Some("new"))),
                (1, at.plus(1), counters(6)),
                (1, at.plus(HOUR), counters(7)),
                (9, at, interface(2, None, None)),
            ]
        );
    }

    #[test]
    fn a_piece_holds_so_many_facts_and_no_more_however_many_are_told() {
        let at = Timestamp::from_micros(7);
        let mut ledger = Ledger::default();
        let told = (0..100_000).filter(|&index| ledger.told(1, at, interface(index, None, None))).count();
        assert_eq!((told, ledger.facts.len(), ledger.is_full()), (FACTS, FACTS, true));
        assert!(ledger.told(1, at, interface(3, Some("known before"), None)), "what is known can still change");
        assert!(!ledger.told(2, at, interface(3, None, None)));
    }

    #[test]
    fn unknown_elements_add_up_by_exporter_within_their_limit() {
        let at = Timestamp::from_micros(7);
        let element = |element, records| UnknownElement { exporter_id: 1, enterprise: 9, element, records };
        let (mut first, mut second) = (Ledger::default(), Ledger::default());
        assert!([element(5, 10), element(6, 1), element(5, u64::MAX)].into_iter().all(|it| first.missed(at, it)));
        assert!(second.missed(at.plus(9), element(6, 2)));
        first.merge(second);
        let unknown: Vec<_> = first.take_unknown().into_iter().collect();
        assert_eq!(unknown, [((1, 9, 5), (u64::MAX, at)), ((1, 9, 6), (3, at.plus(9)))]);
        assert_eq!((0..=u16::MAX).filter(|&id| first.missed(at, element(id, 1))).count(), FACTS);
    }
}
