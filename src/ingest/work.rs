//! A piece of work: what a stretch of the journal became, on its way to one transaction.

use crate::clock::Timestamp;
use crate::flow::batch::FlowBatch;
use crate::store::commit::{Activity, DecoderState, Loss};
use crate::store::parked::ParkedSet;
use crate::wire::{self, SessionState};
use std::collections::BTreeMap;

/// What is written beside the flows: who sent, what is missing, what the decoder learned.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// By exporter and version: last receive time, datagrams, flows.
    activity: BTreeMap<(u32, u16), (Timestamp, u64, u64)>,
    /// By exporter, hour, cause and unit.
    loss: BTreeMap<(u32, Timestamp, &'static str, &'static str), i64>,
    /// The newest state of each session.
    decoder_state: BTreeMap<SessionKey, (u32, Vec<u8>)>,
    /// Data sets that began to wait for their template.
    pub(super) parked: Vec<ParkedSet>,
    /// Numbers of those that wait no longer.
    pub(super) unparked: Vec<u64>,
}

/// Exporter, transport, port, version and domain.
type SessionKey = (u32, u16, u16, u16, u32);

impl Ledger {
    /// Notes a datagram and its flows.
    pub(super) fn sent(&mut self, exporter_id: u32, version: u16, received: Timestamp, flows: u64) {
        let entry = self.activity.entry((exporter_id, version)).or_insert((received, 0, 0));
        entry.0 = entry.0.max(received);
        entry.1 = entry.1.saturating_add(1);
        entry.2 = entry.2.saturating_add(flows);
    }

    /// Notes flows of a datagram that was noted before.
    pub(super) fn late(&mut self, exporter_id: u32, version: u16, flows: u64) {
        let entry = self.activity.entry((exporter_id, version)).or_insert((Timestamp::default(), 0, 0));
        entry.2 = entry.2.saturating_add(flows);
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
        self.parked.extend(changes.added.into_iter().map(|set| {
            let wire::ParkedSet { parked_id, exporter_id, transport, source_port, version, .. } = set;
            let wire::ParkedSet { observation_domain, template_id, received, export_time, uptime, body, .. } = set;
            ParkedSet {
                parked_id,
                exporter_id,
                transport,
                source_port,
                version,
                observation_domain,
                template_id,
                received,
                export_time,
                uptime,
                body,
            }
        }));
        self.unparked.extend(changes.removed);
    }

    /// Adds a later ledger.
    pub(super) fn merge(&mut self, later: Self) {
        for ((exporter_id, version), (last_seen, datagrams, flows)) in later.activity {
            let entry = self.activity.entry((exporter_id, version)).or_insert((last_seen, 0, 0));
            entry.0 = entry.0.max(last_seen);
            entry.1 = entry.1.saturating_add(datagrams);
            entry.2 = entry.2.saturating_add(flows);
        }
        for (key, count) in later.loss {
            let entry = self.loss.entry(key).or_insert(0);
            *entry = entry.saturating_add(count);
        }
        self.decoder_state.extend(later.decoder_state);
        self.parked.extend(later.parked);
        self.unparked.extend(later.unparked);
    }

    pub(super) fn activity(&self) -> Vec<Activity> {
        self.activity
            .iter()
            .map(|(&(exporter_id, version), &(last_seen, datagrams, flows))| Activity {
                exporter_id,
                version,
                last_seen,
                datagrams,
                flows,
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
        first.sent(1, 9, at, 10);
        first.lost(1, at, "network", "datagrams", 3);
        first.learned(vec![session(1)]);
        let mut second = Ledger::default();
        second.sent(1, 9, at.plus(5), 20);
        second.lost(1, at, "network", "datagrams", -3);
        second.lost(0, at, "kernel", "datagrams", 2);
        second.learned(vec![session(2)]);
        first.merge(second);
        assert_eq!(
            first.activity(),
            [Activity { exporter_id: 1, version: 9, last_seen: at.plus(5), datagrams: 2, flows: 30 }]
        );
        let loss = first.loss();
        assert_eq!(loss.len(), 1, "what came after all is not written: {loss:?}");
        assert_eq!((loss[0].cause, loss[0].count), ("kernel", 2));
        assert_eq!(first.decoder_state()[0].state, [2]);
    }
}
