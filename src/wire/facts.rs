//! Facts about exporters that wait to be taken: the latest of each kind.
//!
//! Promises: never more than the limit it is given; which facts are kept does not depend on how often each came.

use crate::flow::facts::{Fact, FactKey};
use std::collections::HashMap;

/// Facts by exporter and key.
#[derive(Debug, Default)]
pub(super) struct Facts {
    latest: HashMap<(u32, FactKey), Fact, foldhash::fast::RandomState>,
}

impl Facts {
    /// Remembers `fact` in place of an earlier one of its key. `false` when it is one more than `limit`.
    pub(super) fn learn(&mut self, limit: usize, exporter_id: u32, fact: Fact) -> bool {
        let key = (exporter_id, fact.key());
        let earlier = self.latest.remove(&key);
        if earlier.is_none() && self.latest.len() >= limit {
            return false;
        }
        let fact = match earlier {
            Some(earlier) => fact.after(earlier),
            None => fact,
        };
        self.latest.insert(key, fact);
        true
    }

    /// All of them, in the order of exporters and keys; none is left.
    pub(super) fn take(&mut self) -> Vec<(u32, Fact)> {
        let mut facts: Vec<_> = self.latest.drain().collect();
        facts.sort_unstable_by_key(|(key, _)| *key);
        facts.into_iter().map(|((exporter_id, _), fact)| (exporter_id, fact)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_of_each_kind_is_kept_up_to_the_limit() {
        let fact = |statistic, value| Fact::Statistic { observation_domain: 1, statistic, value };
        let mut facts = Facts::default();
        assert!(facts.learn(2, 7, fact("b", 1)));
        assert!(facts.learn(2, 7, fact("a", 2)));
        assert!(facts.learn(2, 7, fact("b", 3)));
        assert!(!facts.learn(2, 8, fact("a", 4)));
        assert_eq!(facts.take(), [(7, fact("a", 2)), (7, fact("b", 3))]);
        assert!(facts.take().is_empty());
        assert!(facts.learn(2, 8, fact("a", 4)));
    }
}
