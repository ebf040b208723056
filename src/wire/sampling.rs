//! Out of how many packets an exporter looked at one, for each flow.
//!
//! Exporters tell it in their options (for a sampler, an interface, or as a whole), in each record, or in the header. The
//! order is: what the configuration forces, the record itself, its sampler, its interface, the exporter, the configured
//! default. 0 means unknown, never "times nothing"; 1, all packets, is not written. What was known when a flow came is written beside it and stays.
//! Promises: remembers at most [`MAX_RATES`] samplers and as many interfaces for a session.

use super::ConfiguredSampling;
use super::copy::each_number;
use super::plan::Plan;
use super::split::Records;
use crate::flow::batch::{FlowBatch, Values};
use crate::flow::fields::Field;
use std::collections::BTreeMap;

/// How many samplers, and how many interfaces, of one session are remembered.
pub(super) const MAX_RATES: usize = 1_024;

/// What options told about sampling.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rates {
    /// Of the exporter as a whole.
    pub(super) exporter: Option<u32>,
    /// By sampler.
    pub(super) samplers: BTreeMap<u64, u32>,
    /// By interface.
    pub(super) interfaces: BTreeMap<u32, u32>,
}

/// What an interval is told for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The exporter as a whole.
    Exporter,
    /// One sampler.
    Sampler(u64),
    /// One interface.
    Interface(u32),
}

impl Rates {
    /// Whether nothing was told.
    pub(super) fn is_empty(&self) -> bool {
        self.exporter.is_none() && self.samplers.is_empty() && self.interfaces.is_empty()
    }

    /// Notes an interval, unless it is 0 or there is no room for it.
    pub(super) fn note(&mut self, scope: Scope, interval: u32) {
        if interval == 0 {
            return;
        }
        match scope {
            Scope::Exporter => self.exporter = Some(interval),
            Scope::Sampler(id) => insert(&mut self.samplers, id, interval),
            Scope::Interface(index) => insert(&mut self.interfaces, index, interval),
        }
    }
}

fn insert<K: Ord>(rates: &mut BTreeMap<K, u32>, key: K, interval: u32) {
    if rates.len() < MAX_RATES || rates.contains_key(&key) {
        rates.insert(key, interval);
    }
}

/// The interval that stands for "`taken` out of every `taken` and `skipped` packets", rounded to the nearest.
pub(super) fn spaced(taken: u64, skipped: u64) -> u32 {
    let all = taken.saturating_add(skipped);
    let rounded = all.saturating_add(taken / 2).checked_div(taken).unwrap_or(0);
    u32::try_from(rounded).unwrap_or(u32::MAX)
}

/// All that is known about the sampling of a message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sampling<'a> {
    /// By the configuration.
    pub(super) configured: ConfiguredSampling,
    /// By the header.
    pub(super) header: Option<u32>,
    /// By the options.
    pub(super) rates: Option<&'a Rates>,
}

impl Sampling<'_> {
    /// The interval where a record has nothing of its own to say.
    pub(super) fn general(&self) -> Option<u32> {
        let told = self.rates.and_then(|rates| rates.exporter).or(self.header);
        self.configured.forced.or(told).or(self.configured.default)
    }

    /// Writes the intervals of the `records` that stand in rows `row` and on.
    pub(super) fn fill(&self, plan: &Plan, records: &Records<'_>, batch: &mut FlowBatch, row: usize) {
        let each = plan.sampling;
        let by_interface = self.rates.is_some_and(|rates| !rates.interfaces.is_empty());
        let general = self.general();
        if self.configured.forced.is_some() || (each.is_empty() && !by_interface) {
            if let Some(interval) = general.filter(|interval| *interval > 1) {
                batch.column_mut(Field::SamplingInterval).u32_run(row, records.count).fill(interval);
            }
            return;
        }
        let mut intervals = vec![0u32; records.count];
        let keep = |intervals: &mut Vec<u32>, found: &mut dyn Iterator<Item = u32>| {
            for (slot, interval) in intervals.iter_mut().zip(found) {
                if *slot == 0 {
                    *slot = interval;
                }
            }
        };
        let narrow = |interval: u64| u32::try_from(interval).unwrap_or(u32::MAX);
        if let Some(interval) = each.interval {
            keep(&mut intervals, &mut each_number(records, interval).map(narrow));
        }
        if let Some((taken, skipped)) = each.spaced {
            let pairs = each_number(records, taken).zip(each_number(records, skipped));
            keep(&mut intervals, &mut pairs.map(|(taken, skipped)| spaced(taken, skipped)));
        }
        if let Some(rates) = self.rates {
            if let Some(sampler) = each.sampler {
                let found = each_number(records, sampler).map(|id| rates.samplers.get(&id).copied().unwrap_or(0));
                keep(&mut intervals, &mut { found });
            }
            let column = batch.column(Field::InputInterface);
            if by_interface
                && let Values::U32(indexes) = column.values()
                && column.present().contains(row)
            {
                let indexes = indexes.get(row..).unwrap_or_default();
                let found = indexes.iter().map(|index| rates.interfaces.get(index).copied().unwrap_or(0));
                keep(&mut intervals, &mut { found });
            }
        }
        keep(&mut intervals, &mut std::iter::repeat(general.unwrap_or(0)));
        let column = batch.column_mut(Field::SamplingInterval);
        let mut first = row;
        for known in intervals.chunk_by(|a, b| (*a > 1) == (*b > 1)) {
            if known.first().is_some_and(|interval| *interval > 1) {
                column.u32_run(first, known.len()).iter_mut().zip(known).for_each(|(slot, interval)| *slot = *interval);
            }
            first = first.saturating_add(known.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_are_rounded_and_nothing_taken_is_unknown() {
        assert_eq!([spaced(1, 99), spaced(1, 0), spaced(10, 90), spaced(2, 3), spaced(0, 5)], [100, 1, 10, 3, 0]);
        assert_eq!(spaced(1, u64::MAX), u32::MAX);
    }

    #[test]
    fn samplers_are_remembered_up_to_the_limit_and_known_ones_change() {
        let mut rates = Rates::default();
        for id in 0..MAX_RATES as u64 + 5 {
            rates.note(Scope::Sampler(id), 10);
        }
        rates.note(Scope::Sampler(3), 20);
        rates.note(Scope::Exporter, 0);
        assert_eq!((rates.samplers.len(), rates.samplers[&3], rates.exporter), (MAX_RATES, 20, None));
    }
}
