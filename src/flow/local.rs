//! The local networks: whose hosts have totals, and what counts as inside.

use super::value::wide_from_address;
use ipnetwork::IpNetwork;

/// Networks as ranges of addresses, for asking quickly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// First and last addresses, IPv4 mapped into IPv6; ascending, neither overlapping nor touching.
    ranges: Vec<(u128, u128)>,
}

impl Local {
    /// The union of `networks`.
    pub fn new(networks: &[IpNetwork]) -> Self {
        let mut all: Vec<(u128, u128)> = networks.iter().map(range).collect();
        all.sort_unstable();
        let mut ranges: Vec<(u128, u128)> = Vec::new();
        for (first, last) in all {
            match ranges.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => ranges.push((first, last)),
            }
        }
        Self { ranges }
    }

    /// Whether `address`, IPv4 mapped into IPv6, is in one of them.
    pub fn contains(&self, address: u128) -> bool {
        self.ranges.iter().any(|(first, last)| (*first..=*last).contains(&address))
    }

    /// Whether all of `network` is.
    pub fn contains_all(&self, network: &IpNetwork) -> bool {
        let (from, to) = range(network);
        self.ranges.iter().any(|(first, last)| *first <= from && to <= *last)
    }

    /// A text that two sets of networks share when they hold the same addresses: totals that were counted by one are those
    /// of the other.
    pub fn fingerprint(&self) -> String {
        let texts: Vec<String> = self.ranges.iter().map(|(first, last)| format!("{first:x}-{last:x}")).collect();
        texts.join(",")
    }
}

/// The first and the last address of a network.
fn range(network: &IpNetwork) -> (u128, u128) {
    (wide_from_address(network.network()), wide_from_address(network.broadcast()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::IpAddr;

    fn local(networks: &[&str]) -> Local {
        Local::new(&networks.iter().map(|network| network.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn addresses_of_both_kinds_are_inside_or_outside() {
        let local = local(&["192.168.0.0/16", "10.0.0.0/8", "fd00::/8"]);
        let inside = |text: &str| local.contains(wide_from_address(text.parse::<IpAddr>().unwrap()));
        assert!(["192.168.0.0", "192.168.255.255", "10.1.2.3", "fdff::1"].into_iter().all(inside));
        assert!(!["192.167.255.255", "192.169.0.0", "11.0.0.0", "fe00::", "::1"].into_iter().any(inside));
        assert!(local.contains_all(&"192.168.7.0/24".parse().unwrap()));
        assert!(!local.contains_all(&"192.0.0.0/8".parse().unwrap()));
        assert!(!local.contains_all(&"0.0.0.0/0".parse().unwrap()));
    }

    #[test]
    fn the_same_addresses_have_the_same_fingerprint_however_they_are_written() {
        let halves = local(&["10.128.0.0/9", "10.0.0.0/9", "10.3.0.0/16"]);
        assert_eq!(halves, local(&["10.0.0.0/8"]));
        assert_eq!(halves.fingerprint(), local(&["10.0.0.0/8"]).fingerprint());
        assert_ne!(halves.fingerprint(), local(&["10.0.0.0/9"]).fingerprint());
        assert_eq!(local(&[]).fingerprint(), "");
    }
}
