//! A hash table that numbers keys, made for looking up a thousand at a time.
//!
//! Open addressing with linear probing, at most half full. With a million keys nearly every look-up waits for memory, so
//! a batch of keys first touches all the slots where they begin, without a branch in between, and then compares: the
//! waits overlap. Each table hashes with a seed of its own, so that nobody can choose keys that collide.

use crate::pages;
use foldhash::fast::RandomState;
use std::hash::{BuildHasher, Hash};

/// No number: an empty slot, or a row that is in no group.
pub(super) const NONE: u32 = u32::MAX;

/// Slots of a new table.
const FIRST_SLOTS: usize = 1_024;
/// Arrays up to this many bytes stay in a cache, where touching places beforehand gains nothing.
pub(super) const CACHED_BYTES: usize = 256 << 10;

#[derive(Clone, Copy, Debug)]
struct Slot<K> {
    key: K,
    number: u32,
}

/// Keys and their numbers, counted from 0 in the order in which keys came.
#[derive(Debug)]
pub(super) struct Table<K> {
    /// A power of two of them.
    slots: Vec<Slot<K>>,
    filled: usize,
    state: RandomState,
    /// Hashes of the batch.
    hashes: Vec<u64>,
}

impl<K: Copy + Default> Default for Table<K> {
    fn default() -> Self {
        Self { slots: empty(FIRST_SLOTS), filled: 0, state: RandomState::default(), hashes: Vec::new() }
    }
}

fn empty<K: Copy + Default>(slots: usize) -> Vec<Slot<K>> {
    let mut empty = Vec::new();
    pages::grow(&mut empty, slots, Slot { key: K::default(), number: NONE });
    empty
}

impl<K: Hash + Eq + Copy + Default> Table<K> {
    /// The number of `key`. A new key gets `next()`.
    #[inline]
    pub(super) fn number(&mut self, key: K, next: impl FnOnce() -> u32) -> u32 {
        let hash = self.state.hash_one(key);
        self.number_hashed(key, hash, next)
    }

    /// Appends the numbers of `keys` to `numbers`. A new key gets `next` of it.
    pub(super) fn number_all(&mut self, keys: &[K], numbers: &mut Vec<u32>, mut next: impl FnMut(K) -> u32) {
        if size_of_val(self.slots.as_slice()) <= CACHED_BYTES {
            numbers.extend(keys.iter().map(|key| self.number(*key, || next(*key))));
            return;
        }
        let mut hashes = std::mem::take(&mut self.hashes);
        hashes.clear();
        hashes.extend(keys.iter().map(|key| self.state.hash_one(key)));
        let mask = self.mask();
        let touched = hashes
            .iter()
            .fold(0, |touched, hash| touched ^ self.slots.get(*hash as usize & mask).map_or(0, |slot| slot.number));
        std::hint::black_box(touched);
        numbers.extend(keys.iter().zip(&hashes).map(|(key, hash)| self.number_hashed(*key, *hash, || next(*key))));
        self.hashes = hashes;
    }

    /// Bytes held.
    pub(super) fn memory(&self) -> usize {
        size_of_val(self.slots.as_slice())
    }

    fn mask(&self) -> usize {
        self.slots.len().saturating_sub(1)
    }

    #[inline]
    fn number_hashed(&mut self, key: K, hash: u64, next: impl FnOnce() -> u32) -> u32 {
        match self.find(key, hash) {
            Ok(number) => number,
            Err(at) => {
                let number = next();
                self.fill(at, Slot { key, number });
                number
            }
        }
    }

    /// The key's number, or the slot where it belongs.
    #[inline]
    fn find(&self, key: K, hash: u64) -> Result<u32, usize> {
        let mask = self.mask();
        let mut at = hash as usize & mask;
        // At least half of the slots are empty, so this ends.
        while let Some(slot) = self.slots.get(at) {
            if slot.number == NONE {
                break;
            }
            if slot.key == key {
                return Ok(slot.number);
            }
            at = at.wrapping_add(1) & mask;
        }
        Err(at)
    }

    #[cold]
    fn fill(&mut self, at: usize, new: Slot<K>) {
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = new;
        }
        self.filled = self.filled.saturating_add(1);
        if self.filled.saturating_mul(2) <= self.slots.len() {
            return;
        }
        let larger = empty(self.slots.len().saturating_mul(2));
        for slot in std::mem::replace(&mut self.slots, larger) {
            if slot.number != NONE
                && let Err(at) = self.find(slot.key, self.state.hash_one(slot.key))
                && let Some(room) = self.slots.get_mut(at)
            {
                *room = slot;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_the_number_they_came_with_while_the_table_grows() {
        let mut table = Table::<u64>::default();
        let mut count = 0;
        let mut next = |_| {
            count += 1;
            count - 1
        };
        let keys: Vec<u64> = (0..100_000).map(|key| key * key % 70_001).collect();
        let mut first = Vec::new();
        keys.chunks(777).for_each(|keys| table.number_all(keys, &mut first, &mut next));
        let mut again = Vec::new();
        table.number_all(&keys, &mut again, |key| panic!("{key} was forgotten"));
        assert_eq!(first, again);
        let known: std::collections::HashMap<u64, u32> = keys.iter().copied().zip(first.iter().copied()).collect();
        assert_eq!(known.len(), count as usize);
        assert!(keys.iter().zip(&first).all(|(key, number)| known.get(key) == Some(number)));
        assert_eq!(table.number(keys[5], || panic!("forgotten")), first[5]);
        assert!(table.memory() >= known.len() * 2 * size_of::<u64>());
    }
}
