//! Datagrams that came in fragments are put together.
//!
//! So many wait at most; then the one that waits longest is given up. Parts may come in any order and repeated.

use super::packet::Addresses;
use std::collections::{BTreeMap, HashMap};

/// The most datagrams that wait for parts; each has 64 KiB at most.
const WAITING: usize = 512;
/// The most parts of one datagram.
const PARTS: usize = 1_024;
/// The largest datagram.
const LARGEST: usize = 65_535;

/// Which datagram a fragment belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// From and to.
    pub(super) addresses: Addresses,
    /// The datagram's number at its sender.
    pub(super) identification: u32,
}

/// A part of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment<'a> {
    pub(super) key: Key,
    /// Where the part begins.
    pub(super) offset: usize,
    /// Whether parts follow it.
    pub(super) more: bool,
    pub(super) body: &'a [u8],
}

#[derive(Debug, Default)]
struct Parts {
    /// When the first one came, in the order of arrival.
    since: u64,
    parts: BTreeMap<usize, Vec<u8>>,
    held: usize,
    length: Option<usize>,
}

impl Parts {
    /// The whole, when nothing is missing. Where parts overlap, the later one counts.
    fn whole(&self) -> Option<Vec<u8>> {
        let length = self.length?;
        let mut whole = Vec::with_capacity(length);
        for (&offset, part) in &self.parts {
            if offset > whole.len() {
                return None;
            }
            whole.truncate(offset);
            whole.extend_from_slice(part);
        }
        (whole.len() == length).then_some(whole)
    }
}

/// Datagrams that wait for parts.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    waiting: HashMap<Key, Parts>,
    arrivals: u64,
}

impl Fragments {
    /// Takes up a part. Returns the datagram when it was the last that was missing.
    pub(super) fn add(&mut self, fragment: Fragment<'_>) -> Option<Vec<u8>> {
        let Fragment { key, offset, more, body } = fragment;
        let end = offset.saturating_add(body.len());
        if end > LARGEST || body.is_empty() {
            return None;
        }
        if self.waiting.len() >= WAITING && !self.waiting.contains_key(&key) {
            let oldest = self.waiting.iter().min_by_key(|(_, parts)| parts.since).map(|(key, _)| *key);
            oldest.and_then(|key| self.waiting.remove(&key));
        }
        self.arrivals = self.arrivals.saturating_add(1);
        let since = self.arrivals;
        let parts = self.waiting.entry(key).or_insert_with(|| Parts { since, ..Parts::default() });
        parts.held = parts.held.saturating_add(body.len());
        if parts.parts.len() >= PARTS || parts.held > 2 * LARGEST {
            self.waiting.remove(&key);
            return None;
        }
        parts.parts.insert(offset, body.to_vec());
        if !more {
            parts.length = Some(end);
        }
        let whole = parts.whole()?;
        self.waiting.remove(&key);
        Some(whole)
    }
}
