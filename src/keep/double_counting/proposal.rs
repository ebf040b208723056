//! What setting would end double counting between two sides.
//!
//! A setting is proposed only when nearly all that it leaves out is told by the other side as well. To be told by the other means
//! an equal 5-tuple at an overlapping time, whatever the bytes: two routers cut long flows at different packets, so their records
//! are equal less often than their traffic is.

use super::{Flow, groups};
use crate::flow::counting::{Count, FlowDirection};
use crate::flow::double_counting::{Proposal, Side};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Nearly all is all but one in so many; nearly none is one in so many.
const EXCEPTION: usize = 20;
/// The longest list of interfaces that is proposed.
const MAX_INTERFACES: usize = 64;

/// What would end it, and for which exporter. `flows` are sorted by tuple and time.
pub(super) fn proposal(flows: &[Flow], sides: [Side; 2]) -> Option<(u32, Proposal)> {
    let [one, other] = sides;
    if one.exporter_id == other.exporter_id {
        return of_one_exporter(flows, sides).map(|proposal| (one.exporter_id, proposal));
    }
    let count = |exporter: u32| flows.iter().filter(|flow| flow.side.exporter_id == exporter).count();
    // The same order for all exporters, so that of several that see the same one is left.
    let mut exporters = sides.map(|side| side.exporter_id);
    exporters.sort_unstable_by_key(|exporter| (count(*exporter), Reverse(*exporter)));
    let [smaller, larger] = exporters;
    let from = |exporter: u32| move |flow: &Flow| flow.side.exporter_id == exporter;
    let of_smaller = Told::new(flows, from(smaller), from(larger));
    if of_smaller.nearly_all() {
        return Some((smaller, Proposal::Count(Count::None)));
    }
    let of_larger = Told::new(flows, from(larger), from(smaller));
    [(smaller, of_smaller), (larger, of_larger)]
        .into_iter()
        .find_map(|(exporter, told)| Some((exporter, Proposal::CountInterfaces(told.own_interfaces()?))))
}

/// Leaves out egress where ingress tells it too, else ingress where egress does.
fn of_one_exporter(flows: &[Flow], sides: [Side; 2]) -> Option<Proposal> {
    let [one, other] = sides;
    [(FlowDirection::Egress, Proposal::Count(Count::Ingress)), (FlowDirection::Ingress, Proposal::Count(Count::Egress))]
        .into_iter()
        .filter(|_| one != other)
        .find_map(|(left_out, proposal)| {
            let out = sides.into_iter().find(|side| side.direction == Some(left_out))?;
            let stays = if out == one { other } else { one };
            let told = Told::new(flows, |flow| flow.side == out, |flow| flow.side == stays);
            told.nearly_all().then_some(proposal)
        })
}

/// Flows, and whether others tell of them as well.
struct Told<'a>(Vec<(&'a Flow, bool)>);

impl<'a> Told<'a> {
    fn new(flows: &'a [Flow], of: impl Fn(&Flow) -> bool, by: impl Fn(&Flow) -> bool) -> Self {
        let mut told = Vec::new();
        for group in groups(flows) {
            for flow in group.iter().filter(|flow| of(flow)) {
                told.push((flow, group.iter().any(|other| by(other) && flow.meets(other))));
            }
        }
        Self(told)
    }

    fn nearly_all(&self) -> bool {
        let untold = self.0.iter().filter(|(_, told)| !told).count();
        !self.0.is_empty() && untold.saturating_mul(EXCEPTION) <= self.0.len()
    }

    /// The interfaces by which nearly all flows came or left that the others do not tell of, and nearly none that they do.
    fn own_interfaces(&self) -> Option<Vec<u32>> {
        let mut by_interface: BTreeMap<u32, [usize; 2]> = BTreeMap::new();
        for (flow, told) in &self.0 {
            for interface in interfaces(flow) {
                let [all, also_told] = by_interface.entry(interface).or_default();
                *all = all.saturating_add(1);
                *also_told = also_told.saturating_add(usize::from(*told));
            }
        }
        // 0 stands for packets that were dropped or meant for the exporter.
        let own =
            |(interface, [all, told]): &(u32, [usize; 2])| *interface != 0 && told.saturating_mul(EXCEPTION) <= *all;
        let chosen: BTreeSet<u32> = by_interface.into_iter().filter(own).map(|(interface, _)| interface).collect();
        let counts = |flow: &Flow| interfaces(flow).any(|interface| chosen.contains(&interface));
        let of = |wanted: bool| self.0.iter().filter(move |(_, told)| *told == wanted);
        let counted = |wanted: bool| of(wanted).filter(|(flow, _)| counts(flow)).count();
        let (untold, told) = (of(false).count(), of(true).count());
        let lost = untold.saturating_sub(counted(false));
        let separates = lost.saturating_mul(EXCEPTION) <= untold && counted(true).saturating_mul(EXCEPTION) <= told;
        let fits = (1..=MAX_INTERFACES).contains(&chosen.len());
        (fits && separates).then(|| chosen.into_iter().collect())
    }
}

/// Where the flow came in and left, each once.
fn interfaces(flow: &Flow) -> impl Iterator<Item = u32> {
    let output = flow.output_interface.filter(|output| Some(*output) != flow.input_interface);
    flow.input_interface.into_iter().chain(output)
}
