//! Which flows count: the rules by which sums leave out what was exported twice.
//!
//! [`Counting`] holds the rules of the configuration, by networks of exporters, and writes them down as part of the
//! fingerprint by which sums are told from those of other rules. [`ExporterRules`] are the same for the exporters that
//! there are, by number, and decide about one flow. A rule changes what sums mean and never what is stored. Without a
//! rule that leaves anything out all of this is empty and costs nothing. Nothing here knows where rules come from.

use super::batch::FlowBatch;
use super::fields::Field;
use super::local::Local;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Where an exporter metered a flow (IANA information element 61, flowDirection).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlowDirection {
    /// As its packets arrived.
    Ingress,
    /// As its packets left.
    Egress,
}

impl FlowDirection {
    /// What a flow's field `direction` says; nothing for values that mean nothing.
    pub fn from_code(code: u128) -> Option<Self> {
        [Self::Ingress, Self::Egress].into_iter().find(|direction| u128::from(direction.code()) == code)
    }

    /// As the field `direction` says it.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ingress => 0,
            Self::Egress => 1,
        }
    }

    /// The word for it, in the database too.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
        }
    }

    /// The direction called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Ingress, Self::Egress].into_iter().find(|direction| direction.name() == name)
    }
}

/// Which of an exporter's flows count, by where they were observed. A flow that does not tell is in each but `none`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Count {
    /// All.
    #[default]
    All,
    /// Those not observed at egress.
    Ingress,
    /// Those not observed at ingress.
    Egress,
    /// None: another exporter tells of all of them.
    None,
}

impl Count {
    /// The word in the configuration and in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::None => "none",
        }
    }

    /// The direction whose flows do not count.
    pub const fn left_out(self) -> Option<FlowDirection> {
        match self {
            Self::Ingress => Some(FlowDirection::Egress),
            Self::Egress => Some(FlowDirection::Ingress),
            Self::All | Self::None => None,
        }
    }
}

/// Which flows of one exporter count.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct CountingRule {
    /// By where they were observed.
    pub count: Count,
    /// By which interfaces they must have entered or left, SNMP indexes, ascending; `None` for any. With interfaces, a
    /// flow that tells none does not count.
    pub interfaces: Option<Vec<u32>>,
}

impl CountingRule {
    /// Whether flows may be left out.
    pub fn leaves_out(&self) -> bool {
        self.count != Count::All || self.interfaces.is_some()
    }

    /// Whether the flow in `row` counts.
    pub fn counts(&self, batch: &FlowBatch, row: usize) -> bool {
        let bits = |field| batch.column(field).bits(row);
        let observed = match self.count {
            Count::All => true,
            Count::None => false,
            Count::Ingress | Count::Egress => {
                self.count.left_out().is_none_or(|direction| bits(Field::Direction) != Some(direction.code().into()))
            }
        };
        let passed = |interfaces: &Vec<u32>| {
            [Field::InputInterface, Field::OutputInterface]
                .into_iter()
                .filter_map(bits)
                .any(|index| interfaces.binary_search(&(index as u32)).is_ok())
        };
        observed && self.interfaces.as_ref().is_none_or(passed)
    }
}

/// An exporter as people write it: its address, or a network with its length.
pub fn exporters_name(network: &IpNetwork) -> String {
    let alone = network.prefix() == if network.is_ipv4() { 32 } else { 128 };
    if alone { network.ip().to_string() } else { network.to_string() }
}

/// What is said about the exporters of one network.
#[derive(Clone, Debug)]
pub struct NetworkRule {
    /// An exporter's address, or a network.
    pub exporters: IpNetwork,
    /// By where flows were observed; `None` leaves it to a wider network.
    pub count: Option<Count>,
    /// By interfaces; `None` leaves it to a wider network.
    pub interfaces: Option<Vec<u32>>,
}

/// The rules that are configured. Of the networks that hold an exporter's address and give a setting, the most specific
/// one wins, for each setting by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counting {
    /// The whole rule of each network, where it differs from that of the next wider one; sorted.
    rules: BTreeMap<IpNetwork, CountingRule>,
}

impl Counting {
    /// The rules that `networks` give together.
    pub fn new(networks: impl IntoIterator<Item = NetworkRule>) -> Self {
        let mut networks: Vec<NetworkRule> = networks.into_iter().collect();
        networks.sort_by_key(|network| network.exporters.prefix());
        let mut counting = Self::default();
        for NetworkRule { exporters, count, interfaces } in networks {
            let network = IpNetwork::new(exporters.network(), exporters.prefix()).unwrap_or(exporters);
            let wider = counting.rule_of(network.ip());
            let interfaces = interfaces.map(|mut interfaces| {
                interfaces.sort_unstable();
                interfaces.dedup();
                interfaces
            });
            let rule = CountingRule {
                count: count.unwrap_or(wider.count),
                interfaces: interfaces.or(wider.interfaces.clone()),
            };
            if rule != wider {
                counting.rules.insert(network, rule);
            }
        }
        counting
    }

    /// Whether no flow of any exporter is left out.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules, by the network of the exporters they are for. A network's own rule goes before that of a wider one.
    pub fn rules(&self) -> impl ExactSizeIterator<Item = (&IpNetwork, &CountingRule)> {
        self.rules.iter()
    }

    /// The rule in force for the exporter at `address`.
    pub fn rule_of(&self, address: IpAddr) -> CountingRule {
        let holding = self.rules.iter().filter(|(network, _)| network.contains(address));
        holding.max_by_key(|(network, _)| network.prefix()).map(|(_, rule)| rule.clone()).unwrap_or_default()
    }

    /// The rules for the exporters that there are, by their numbers.
    pub fn of_exporters(&self, exporters: impl IntoIterator<Item = (IpAddr, u32)>) -> ExporterRules {
        if self.is_empty() {
            return ExporterRules::default();
        }
        let rules = exporters.into_iter().map(|(address, id)| (id, self.rule_of(address)));
        ExporterRules { rules: rules.filter(|(_, rule)| rule.leaves_out()).collect() }
    }

    /// By what totals of hosts in `local` are counted: the networks and, where there are any, the rules. Equal texts mean
    /// equal sums of equal flows.
    pub fn fingerprint(&self, local: &Local) -> String {
        let mut text = local.fingerprint();
        for (network, rule) in &self.rules {
            text.push_str(&format!(";{network} {}", rule.count.name()));
            if let Some(interfaces) = &rule.interfaces {
                let interfaces: Vec<String> = interfaces.iter().map(u32::to_string).collect();
                text.push_str(&format!(" by {}", interfaces.join(",")));
            }
        }
        text
    }
}

/// The rules of the exporters whose flows do not all count, by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExporterRules {
    rules: BTreeMap<u32, CountingRule>,
}

impl ExporterRules {
    /// The rules, by the exporter's number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &CountingRule)> {
        self.rules.iter().map(|(id, rule)| (*id, rule))
    }

    /// Whether the flow in `row` counts.
    pub fn counts(&self, batch: &FlowBatch, row: usize) -> bool {
        if self.rules.is_empty() {
            return true;
        }
        let id = batch.column(Field::ExporterId).bits(row).map_or(0, |bits| bits as u32);
        self.rules.get(&id).is_none_or(|rule| rule.counts(batch, row))
    }

    /// The fields that [`ExporterRules::counts`] reads; none without a rule.
    pub fn fields(&self) -> &'static [Field] {
        if self.rules.is_empty() {
            return &[];
        }
        &[Field::ExporterId, Field::InputInterface, Field::OutputInterface, Field::Direction]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(exporters: &str, count: Option<Count>, interfaces: Option<&[u32]>) -> NetworkRule {
        NetworkRule { exporters: exporters.parse().unwrap(), count, interfaces: interfaces.map(<[u32]>::to_vec) }
    }

    /// One flow of exporter 7 with this direction, input and output interface.
    fn flow(direction: Option<u8>, input: Option<u32>, output: Option<u32>) -> FlowBatch {
        let mut batch = FlowBatch::default();
        batch.add_rows(1);
        batch.column_mut(Field::ExporterId).u32_run(0, 1).fill(7);
        if let Some(direction) = direction {
            batch.column_mut(Field::Direction).u8_run(0, 1).fill(direction);
        }
        for (field, index) in [(Field::InputInterface, input), (Field::OutputInterface, output)] {
            if let Some(index) = index {
                batch.column_mut(field).u32_run(0, 1).fill(index);
            }
        }
        batch
    }

    #[test]
    fn a_flow_counts_when_direction_and_interface_both_allow_it() {
        let directions = [None, Some(0), Some(1), Some(9)];
        for (count, expected) in [
            (Count::All, [true; 4]),
            (Count::Ingress, [true, true, false, true]),
            (Count::Egress, [true, false, true, true]),
            (Count::None, [false; 4]),
        ] {
            let rule = CountingRule { count, interfaces: None };
            assert_eq!(directions.map(|direction| rule.counts(&flow(direction, None, None), 0)), expected, "{count:?}");
        }
        let rule = CountingRule { count: Count::Ingress, interfaces: Some(vec![0, 3, 9]) };
        for (direction, input, output, expected) in [
            (Some(0), Some(3), None, true),
            (Some(0), Some(4), Some(9), true),
            (None, None, Some(0), true),
            (Some(0), Some(4), Some(5), false),
            (Some(0), None, None, false),
            (Some(1), Some(3), Some(9), false),
        ] {
            assert_eq!(rule.counts(&flow(direction, input, output), 0), expected, "{direction:?} {input:?} {output:?}");
        }
    }

    #[test]
    fn of_each_setting_the_most_specific_network_that_gives_it_wins() {
        let counting = Counting::new([
            network("10.1.2.3", None, Some(&[4, 3, 4])),
            network("10.1.0.0/16", Some(Count::Ingress), None),
            network("10.1.2.4", Some(Count::All), None),
            network("10.0.0.0/8", Some(Count::None), None),
            network("2001:db8::/32", Some(Count::Egress), None),
        ]);
        let told = |address: &str| counting.rule_of(address.parse().unwrap());
        assert_eq!(told("10.1.2.3"), CountingRule { count: Count::Ingress, interfaces: Some(vec![3, 4]) });
        assert_eq!(told("10.1.2.4"), CountingRule::default());
        assert_eq!(told("10.1.2.5").count, Count::Ingress);
        assert_eq!(told("10.9.9.9").count, Count::None);
        assert_eq!(told("2001:db8::9").count, Count::Egress);
        assert_eq!(told("192.0.2.1"), CountingRule::default());
        let exporters = [("10.1.2.4", 1), ("10.1.2.5", 2), ("192.0.2.1", 3), ("10.9.9.9", 7)];
        let rules = counting.of_exporters(exporters.map(|(address, id)| (address.parse().unwrap(), id)));
        let told: Vec<_> = rules.iter().map(|(id, rule)| (id, rule.count)).collect();
        assert_eq!(told, [(2, Count::Ingress), (7, Count::None)]);
        assert!(!rules.counts(&flow(Some(0), None, None), 0));
        assert!(ExporterRules::default().counts(&flow(Some(0), None, None), 0));
        assert_eq!((ExporterRules::default().fields().len(), rules.fields().len()), (0, 4));
    }

    #[test]
    fn a_fingerprint_tells_rules_apart_and_is_that_of_the_networks_without_any() {
        let local = Local::new(&["10.0.0.0/8".parse().unwrap()]);
        let fingerprint = |networks: Vec<NetworkRule>| Counting::new(networks).fingerprint(&local);
        assert_eq!(fingerprint(Vec::new()), local.fingerprint());
        let all = vec![network("10.0.0.0/8", Some(Count::All), None), network("10.1.0.0/16", None, None)];
        assert_eq!(fingerprint(all), local.fingerprint());
        let rules = vec![
            network("192.0.2.1", Some(Count::Ingress), None),
            network("10.1.2.3/16", None, Some(&[9, 3])),
            network("10.1.7.7", None, Some(&[3, 9])),
        ];
        assert_eq!(fingerprint(rules.clone()), "10.0.0.0/8;10.1.0.0/16 all by 3,9;192.0.2.1/32 ingress");
        assert_eq!(
            fingerprint(rules.into_iter().rev().collect()),
            "10.0.0.0/8;10.1.0.0/16 all by 3,9;192.0.2.1/32 ingress"
        );
        let one = fingerprint(vec![network("192.0.2.1", Some(Count::None), None)]);
        assert_ne!(one, fingerprint(vec![network("192.0.2.1", Some(Count::Egress), None)]));
    }

    #[test]
    fn directions_are_read_back_by_their_names_and_unknown_codes_are_none() {
        for (code, direction) in [(0, FlowDirection::Ingress), (1, FlowDirection::Egress)] {
            assert_eq!(FlowDirection::from_code(code), Some(direction));
            assert_eq!(FlowDirection::parse(direction.name()), Some(direction));
        }
        assert_eq!((FlowDirection::from_code(255), FlowDirection::parse("both")), (None, None));
    }
}
