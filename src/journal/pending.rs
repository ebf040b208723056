//! Datagrams that were dropped and not yet told to the reader, counted by cause, listener, exporter and hour.
//!
//! By hour, because the counts may wait for longer than one, and each hour's answer must tell its own.

use super::record::{Datagram, DropCause, Dropped, Record};
use crate::clock::Timestamp;
use std::collections::HashMap;
use std::net::IpAddr;

/// Beyond so many counts drops are counted without the exporter's address, so that forged sources cannot fill the memory.
pub(super) const MAX_COUNTS: usize = 4_096;

/// The counts.
#[derive(Debug, Default)]
pub(super) struct Pending {
    counts: HashMap<Key, Dropped>,
}

/// Cause, listener, exporter, hour.
type Key = (DropCause, u16, Option<IpAddr>, Timestamp);

fn key(dropped: &Dropped) -> Key {
    (dropped.cause, dropped.listener, dropped.exporter, dropped.received.hour())
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// How many datagrams the counts are of.
    pub(super) fn datagrams(&self) -> u64 {
        self.counts.values().map(|dropped| dropped.count).fold(0, u64::saturating_add)
    }

    /// Counts a record that could not be appended. From `most` counts on only hours are told apart, which are few, and
    /// exporters no longer.
    pub(super) fn add(&mut self, record: &Record<'_>, most: usize) {
        let mut dropped = match *record {
            Record::Dropped(dropped) => dropped,
            // No flows are lost with it: a stream's beginning and end are offered until there is room, and a stream that is
            // open at a stop is told by the next process.
            Record::Stream(_) => return,
            Record::Datagram(Datagram { received, source, listener, .. }) => {
                let exporter = Some(source.ip());
                Dropped { received, listener, cause: DropCause::JournalFull, exporter, count: 1 }
            }
        };
        if self.counts.len() >= most.min(MAX_COUNTS) && !self.counts.contains_key(&key(&dropped)) {
            dropped.exporter = None;
        }
        self.counts
            .entry(key(&dropped))
            .and_modify(|sum| {
                sum.count = sum.count.saturating_add(dropped.count);
                sum.received = sum.received.max(dropped.received);
            })
            .or_insert(dropped);
    }

    /// Hands the counts out and forgets them, the earliest first.
    pub(super) fn take(&mut self) -> Vec<Dropped> {
        if self.counts.is_empty() {
            return Vec::new();
        }
        let mut all: Vec<Dropped> = self.counts.drain().map(|(_, dropped)| dropped).collect();
        all.sort_unstable_by_key(|dropped| (dropped.received, dropped.listener, dropped.exporter));
        all
    }
}
