//! Facts about exporters that wait to be taken: the latest of each kind.
//!
//! Promises: never more than the limit it is given; which facts are kept does not depend on how often each came.

use crate::flow::facts::{Fact, FactKey};
use std::collections::HashMap;

/// Facts, with the exporters they are about.
#[derive(Debug, Default)]
pub(super) struct Facts {
    told: Vec<(u32, Fact)>,
    /// Where in `told` those of an exporter and key stand.
    places: HashMap<(u32, FactKey), usize, foldhash::fast::RandomState>,
}

impl Facts {
    /// Remembers `fact` in place of an earlier one of its key. `false` when it is one more than `limit`.
    pub(super) fn learn(&mut self, limit: usize, exporter_id: u32, fact: Fact) -> bool {
        let key = (exporter_id, fact.key());
        if let Some((_, earlier)) = self.places.get(&key).and_then(|&place| self.told.get_mut(place)) {
            // Its texts go over without being copied.
            let before = std::mem::replace(earlier, Fact::Vrf { vrf: 0, name: None });
            *earlier = fact.after(before);
            return true;
        }
        if self.told.len() >= limit {
            return false;
        }
        self.places.insert(key, self.told.len());
        self.told.push((exporter_id, fact));
        true
    }

    /// All of them, in the order in which their keys first came; none is left.
    pub(super) fn take(&mut self) -> Vec<(u32, Fact)> {
        self.places.clear();
        std::mem::take(&mut self.told)
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
        assert_eq!(facts.take(), [(7, fact("b", 3)), (7, fact("a", 2))]);
        assert!(facts.take().is_empty());
        assert!(facts.learn(2, 8, fact("a", 4)));
    }
}
