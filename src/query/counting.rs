//! The rules of counting as a filter of their own: which flows count, beside those that a request asks for.
//!
//! It stands apart from the request's filter, so that totals, which were counted by the same rules, still answer it.

use crate::filter::{Comparison, Expression, NumberTest};
use crate::flow::counting::{Count, CountingRule, ExporterRules};
use crate::flow::fields::{Dimension, Field};
use std::collections::BTreeMap;

/// The flows that count; `None` when all do.
pub(super) fn counted(rules: &ExporterRules) -> Option<Expression> {
    let mut by_rule: BTreeMap<&CountingRule, Vec<u64>> = BTreeMap::new();
    for (exporter_id, rule) in rules.iter() {
        by_rule.entry(rule).or_default().push(exporter_id.into());
    }
    let left_out: Vec<Expression> =
        by_rule.into_iter().filter_map(|(rule, ids)| Some(exporters(ids).and(left_out(rule)?))).collect();
    (!left_out.is_empty()).then(|| Expression::one_of(left_out).not())
}

fn exporters(ids: Vec<u64>) -> Expression {
    Expression::number_in(Dimension::One(Field::ExporterId), ids)
}

/// The flows of an exporter that its rule leaves out; `None` when it leaves out none.
fn left_out(rule: &CountingRule) -> Option<Expression> {
    if rule.count == Count::None {
        return Some(Expression::Any);
    }
    let observed = rule.count.left_out().map(|direction| Expression::Number {
        of: Dimension::One(Field::Direction),
        test: NumberTest::Compare(Comparison::Equal, direction.code().into()),
    });
    let either =
        Dimension::Either { name: "interface", source: Field::InputInterface, destination: Field::OutputInterface };
    let elsewhere = rule
        .interfaces
        .as_ref()
        .map(|interfaces| Expression::number_in(either, interfaces.iter().copied().map(u64::from).collect()).not());
    let reasons: Vec<Expression> = observed.into_iter().chain(elsewhere).collect();
    (!reasons.is_empty()).then(|| Expression::one_of(reasons))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Selection;
    use crate::flow::batch::FlowBatch;
    use crate::flow::counting::{Counting, NetworkRule};
    use crate::query::Counted;
    use fastrand::Rng;

    /// A network with its two settings.
    type Setting<'a> = (&'a str, Option<Count>, Option<Vec<u32>>);

    fn rules(networks: &[Setting<'_>]) -> ExporterRules {
        let rule = |(exporters, count, interfaces): &Setting<'_>| NetworkRule {
            exporters: exporters.parse().unwrap(),
            count: *count,
            interfaces: interfaces.clone(),
        };
        let exporters = (1..=6).map(|id| (format!("192.0.2.{id}").parse().unwrap(), id));
        Counting::new(networks.iter().map(rule)).of_exporters(exporters)
    }

    #[test]
    fn without_a_rule_there_is_no_filter_and_with_rules_the_plain_words_for_them() {
        assert_eq!(counted(&rules(&[])), None);
        let rules = rules(&[
            ("192.0.2.1", Some(Count::Ingress), None),
            ("192.0.2.2", Some(Count::None), None),
            ("192.0.2.3", Some(Count::Egress), Some(vec![4, 3])),
            ("192.0.2.4", Some(Count::Ingress), None),
        ]);
        assert_eq!(
            counted(&rules).unwrap().to_string(),
            "not (exporter_id in [1 4] and direction 1 \
             or exporter_id 3 and (direction 0 or not if in [3 4]) or exporter_id 2)"
        );
    }

    #[test]
    fn an_answer_names_twenty_rules_and_counts_the_others() {
        let rules = |number: u8| {
            Counting::new((0..number).map(|last| NetworkRule {
                exporters: std::net::IpAddr::from([192, 0, 2, last]).into(),
                count: Some(Count::Ingress),
                interfaces: None,
            }))
        };
        for (number, named, more) in [(0, 0, 0), (20, 20, 0), (25, 20, 5)] {
            let counted = Counted::by(&rules(number));
            assert_eq!((counted.rules.len(), counted.more_rules, counted.name()), (named, more, "rules"));
        }
        assert_eq!(Counted { all: true, ..Counted::default() }.name(), "all");
    }

    #[test]
    fn the_filter_and_the_decision_about_one_flow_are_the_same() {
        let mut random = Rng::with_seed(7);
        for _ in 0..50 {
            let networks: Vec<_> = (1..=4)
                .map(|id| {
                    let count = [None, Some(Count::All), Some(Count::Ingress), Some(Count::Egress), Some(Count::None)];
                    let interfaces = random.bool().then(|| vec![random.u32(0..4), random.u32(0..4)]);
                    (
                        ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.0/30"][id - 1],
                        count[random.usize(..5)],
                        interfaces,
                    )
                })
                .collect();
            let rules = rules(&networks);
            let mut batch = FlowBatch::default();
            batch.add_rows(200);
            for row in 0..200 {
                batch.column_mut(Field::ExporterId).u32_run(row, 1).fill(random.u32(1..7));
                for field in [Field::InputInterface, Field::OutputInterface] {
                    if random.u8(..4) > 0 {
                        batch.column_mut(field).u32_run(row, 1).fill(random.u32(0..5));
                    }
                }
                if random.u8(..4) > 0 {
                    batch.column_mut(Field::Direction).u8_run(row, 1).fill(random.u8(0..3));
                }
            }
            let mut selection = Selection::all(200);
            if let Some(counted) = counted(&rules) {
                counted.select(&batch, &mut selection);
            }
            for row in 0..200 {
                assert_eq!(selection.contains(row), rules.counts(&batch, row), "row {row} of {networks:?}");
            }
        }
    }
}
