//! What the configuration says about exporters: `[[exporter]]` and the sampling interval of those that tell none.
//!
//! Each setting is looked up by itself: of the networks that hold an exporter's address and give the setting, the most
//! specific one wins. So a network can say how all its routers sample, and an address within it only what one is called.
//! Nothing here knows the database or the decoder.

use crate::flow::counting::{Count, Counting, NetworkRule};
use crate::wire::ConfiguredSampling;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::net::IpAddr;

/// The longest name, in characters.
const MAX_NAME: usize = 200;
/// The most interfaces by which flows count: answers name them.
const MAX_INTERFACES: usize = 256;

/// One `[[exporter]]`: what people know about an exporter, or about all exporters of a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExporterSettings {
    /// The address that its datagrams come from, or a network.
    pub address: IpNetwork,
    /// What people call it, 1 to 200 characters.
    #[serde(default)]
    pub name: Option<String>,
    /// Out of how many packets it looks at one, whatever it says itself; 1 means that it looks at all.
    #[serde(default)]
    pub sampling_interval: Option<u32>,
    /// Which of its flows are part of sums, by where they were observed; without it, all. It changes nothing that is stored.
    #[serde(default)]
    pub count: Option<Count>,
    /// By which of its interfaces a flow must have entered or left to be part of sums, 1 to 256 SNMP indexes; without it,
    /// any.
    #[serde(default)]
    pub count_interfaces: Option<Vec<u32>>,
}

/// One thing that is wrong with a list of [`ExporterSettings`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExporterProblem {
    /// Which element of the list.
    pub index: usize,
    /// Which of its keys.
    pub key: &'static str,
    /// What is wrong and what would be right.
    pub message: String,
}

impl ExporterSettings {
    /// Everything that is wrong with `settings` although each value is of the right type.
    pub fn problems(settings: &[Self]) -> Vec<ExporterProblem> {
        let mut problems = Vec::new();
        for (index, exporter) in settings.iter().enumerate() {
            let mut refuse = |wrong: bool, key, message: String| {
                if wrong {
                    problems.push(ExporterProblem { index, key, message });
                }
            };
            let network = |exporter: &Self| (exporter.address.network(), exporter.address.prefix());
            let twice = settings.iter().take(index).any(|earlier| network(earlier) == network(exporter));
            refuse(twice, "address", format!("another exporter has {} already; keep one of them", exporter.address));
            let mapped = matches!(exporter.address.network(), IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
            refuse(mapped, "address", "is an IPv4 address as IPv6; write it as IPv4".to_owned());
            let fits = |name: &String| {
                !name.trim().is_empty() && name.chars().count() <= MAX_NAME && !name.chars().any(char::is_control)
            };
            let name = exporter.name.as_ref().is_some_and(|name| !fits(name));
            refuse(name, "name", format!("must be 1 to {MAX_NAME} characters in one line"));
            refuse(exporter.sampling_interval == Some(0), "sampling_interval", NO_INTERVAL.to_owned());
            let interfaces = exporter.count_interfaces.as_ref().map(Vec::len);
            let message = match interfaces {
                Some(0) => {
                    "names no interface, so nothing would count; write count = \"none\" if that is meant".to_owned()
                }
                _ => format!("names {} interfaces; name 1 to {MAX_INTERFACES}", interfaces.unwrap_or_default()),
            };
            let wrong = interfaces.is_some_and(|number| !(1..=MAX_INTERFACES).contains(&number));
            refuse(wrong, "count_interfaces", message);
        }
        problems
    }

    /// Which flows count, by all of `settings` together.
    pub fn counting(settings: &[Self]) -> Counting {
        Counting::new(settings.iter().map(|exporter| NetworkRule {
            exporters: exporter.address,
            count: exporter.count,
            interfaces: exporter.count_interfaces.clone(),
        }))
    }
}

/// Why a sampling interval of 0 is refused.
pub const NO_INTERVAL: &str = "must be 1 or more: out of how many packets one is looked at; 1 means all";

/// What the configuration says about all exporters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configured {
    /// The most specific first.
    exporters: Vec<ExporterSettings>,
    default: Option<u32>,
}

impl Configured {
    /// What `exporters` say, and for those that tell no sampling interval themselves `default_sampling_interval`.
    pub fn new(mut exporters: Vec<ExporterSettings>, default_sampling_interval: u32) -> Self {
        exporters.sort_by_key(|exporter| Reverse(exporter.address.prefix()));
        // An interval of 1 is what nobody telling one means anyway.
        Self { exporters, default: (default_sampling_interval > 1).then_some(default_sampling_interval) }
    }

    fn find<'a, T>(&'a self, address: IpAddr, setting: impl Fn(&'a ExporterSettings) -> Option<T>) -> Option<T> {
        self.exporters.iter().filter(|exporter| exporter.address.contains(address)).find_map(setting)
    }

    /// What the exporter at `address` is called.
    pub(super) fn name(&self, address: IpAddr) -> Option<&str> {
        self.find(address, |exporter| exporter.name.as_deref())
    }

    /// How the exporter at `address` samples.
    pub fn sampling(&self, address: IpAddr) -> ConfiguredSampling {
        let forced = self.find(address, |exporter| exporter.sampling_interval.filter(|interval| *interval > 0));
        ConfiguredSampling { forced, default: self.default }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exporter(address: &str, name: Option<&str>, sampling_interval: Option<u32>) -> ExporterSettings {
        ExporterSettings {
            address: address.parse().unwrap(),
            name: name.map(str::to_owned),
            sampling_interval,
            count: None,
            count_interfaces: None,
        }
    }

    #[test]
    fn of_each_setting_the_most_specific_network_that_gives_it_wins() {
        let configured = Configured::new(
            vec![
                exporter("10.0.0.0/8", Some("branch"), Some(1_000)),
                exporter("10.1.2.3", Some("core-1"), None),
                exporter("10.1.0.0/16", None, Some(50)),
                exporter("10.1.2.4/32", None, Some(1)),
                exporter("2001:db8::/32", Some("six"), Some(7)),
            ],
            100,
        );
        let told = |address: &str| {
            let address = address.parse().unwrap();
            let ConfiguredSampling { forced, default } = configured.sampling(address);
            (configured.name(address), forced, default)
        };
        assert_eq!(told("10.1.2.3"), (Some("core-1"), Some(50), Some(100)));
        assert_eq!(told("10.1.2.4"), (Some("branch"), Some(1), Some(100)));
        assert_eq!(told("10.9.9.9"), (Some("branch"), Some(1_000), Some(100)));
        assert_eq!(told("2001:db8::9"), (Some("six"), Some(7), Some(100)));
        assert_eq!(told("192.0.2.1"), (None, None, Some(100)));
        assert_eq!(Configured::new(Vec::new(), 1), Configured::default());
    }

    #[test]
    fn what_is_ambiguous_or_means_nothing_is_refused_with_its_key() {
        let long = "x".repeat(201);
        let mut number = 0;
        let mut counted = |count_interfaces| {
            number += 1;
            ExporterSettings { count_interfaces, ..exporter(&format!("198.51.100.{number}"), None, None) }
        };
        let exporters = [
            exporter("10.0.0.1/8", Some("fine"), Some(1)),
            exporter("10.0.0.0/8", None, None),
            exporter("192.0.2.1", Some(" "), Some(0)),
            exporter("192.0.2.2", Some("two\nlines"), None),
            exporter("192.0.2.3", Some(&long), None),
            exporter("::ffff:192.0.2.4", None, None),
            counted(Some(Vec::new())),
            counted(Some((0..257).collect())),
            counted(Some((0..256).collect())),
        ];
        let problems = ExporterSettings::problems(&exporters);
        let told: Vec<_> = problems.iter().map(|problem| (problem.index, problem.key)).collect();
        let expected = [
            (1, "address"),
            (2, "name"),
            (2, "sampling_interval"),
            (3, "name"),
            (4, "name"),
            (5, "address"),
            (6, "count_interfaces"),
            (7, "count_interfaces"),
        ];
        assert_eq!(told, expected);
        assert_eq!(ExporterSettings::problems(&exporters[..1]), []);
    }
}
