//! The local networks: those of the house, `[network] local` in the configuration.
//!
//! [`Local`] tells quickly whether an address lies in one of them. [`Local::fingerprint`] writes down which they are, so that sums
//! that were counted by other networks are told from those of the present ones. A network holds addresses of its own family
//! only: `::/0` holds no IPv4 address. IPv4-mapped IPv6 networks are the IPv4 networks.

use super::value::{v4_from_wide, wide_from_address};
use ipnetwork::IpNetwork;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// The local networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Local {
    /// In canonical form: no host bits, none within another, sorted.
    networks: Vec<IpNetwork>,
    /// The first and the last IPv4 address of each.
    v4: Vec<RangeInclusive<u32>>,
    /// The same of IPv6.
    v6: Vec<RangeInclusive<u128>>,
}

impl Local {
    /// The networks in `local`, in any order, with or without host bits.
    pub fn new(local: &[IpNetwork]) -> Self {
        let networks = canonical(local);
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in &networks {
            match network {
                IpNetwork::V4(network) => v4.push(network.network().to_bits()..=network.broadcast().to_bits()),
                IpNetwork::V6(network) => v6.push(network.network().to_bits()..=network.broadcast().to_bits()),
            }
        }
        Self { networks, v4, v6 }
    }

    /// The networks in canonical form: without host bits, none within another, sorted.
    pub fn networks(&self) -> &[IpNetwork] {
        &self.networks
    }

    /// Whether the address, IPv4 as IPv4-mapped, lies in a local network.
    pub fn contains(&self, address: u128) -> bool {
        match v4_from_wide(address) {
            Some(address) => self.v4.iter().any(|range| range.contains(&address)),
            None => self.v6.iter().any(|range| range.contains(&address)),
        }
    }

    /// Whether all of `network` lies in one local network.
    pub fn covers(&self, network: &IpNetwork) -> bool {
        let network = canonical_network(network);
        self.networks.iter().any(|local| holds(local, &network))
    }

    /// The networks as one text, the same however they are written and ordered: without host bits and without those that lie
    /// within another, sorted, joined by commas. No network gives an empty text.
    pub fn fingerprint(&self) -> String {
        self.networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

fn canonical(networks: &[IpNetwork]) -> Vec<IpNetwork> {
    let mut networks: Vec<_> = networks.iter().map(canonical_network).collect();
    // A network stands before those within it.
    networks.sort_unstable_by_key(|network| (network.is_ipv6(), wide_from_address(network.ip()), network.prefix()));
    networks.dedup_by(|later, earlier| holds(earlier, later));
    networks
}

/// The network without host bits; an IPv4-mapped one as IPv4.
fn canonical_network(network: &IpNetwork) -> IpNetwork {
    let (address, prefix) = match (v4_from_wide(wide_from_address(network.ip())), network) {
        (Some(v4), IpNetwork::V6(_)) if network.prefix() >= MAPPED_PREFIX => {
            (IpAddr::V4(v4.into()), network.prefix().saturating_sub(MAPPED_PREFIX))
        }
        _ => (network.ip(), network.prefix()),
    };
    let masked = IpNetwork::new(address, prefix).and_then(|network| IpNetwork::new(network.network(), prefix));
    masked.unwrap_or(*network)
}

/// How many bits say that an IPv6 address is an IPv4 one.
const MAPPED_PREFIX: u8 = 96;

/// Whether all of `inner` lies in `outer`.
fn holds(outer: &IpNetwork, inner: &IpNetwork) -> bool {
    outer.prefix() <= inner.prefix() && outer.contains(inner.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(local: &[IpNetwork]) -> String {
        Local::new(local).fingerprint()
    }

    fn networks(texts: &[&str]) -> Vec<IpNetwork> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn wide(text: &str) -> u128 {
        wide_from_address(text.parse().unwrap())
    }

    #[test]
    fn a_fingerprint_is_the_same_for_the_same_networks_however_they_are_written() {
        let one = networks(&["192.168.0.0/16", "fc00::/7", "10.0.0.0/8", "9.0.0.0/8"]);
        let other = networks(&["10.1.2.3/8", "fd00::1/7", "::ffff:9.0.0.0/104", "192.168.0.0/16", "10.7.0.0/16"]);
        assert_eq!(fingerprint(&one), "9.0.0.0/8,10.0.0.0/8,192.168.0.0/16,fc00::/7");
        assert_eq!(fingerprint(&other), fingerprint(&one));
        assert_ne!(fingerprint(&networks(&["10.0.0.0/9"])), fingerprint(&networks(&["10.0.0.0/8"])));
        assert_eq!(fingerprint(&[]), "");
    }

    #[test]
    fn an_address_is_local_when_a_network_of_its_own_family_holds_it() {
        let local = Local::new(&networks(&["10.0.0.0/8", "192.0.2.7/32", "fc00::/7", "::/8"]));
        for inside in ["10.0.0.0", "10.255.255.255", "192.0.2.7", "fc00::", "fdff::1", "::1"] {
            assert!(local.contains(wide(inside)), "{inside}");
        }
        for outside in ["9.255.255.255", "11.0.0.0", "192.0.2.8", "fe00::", "2001:db8::1"] {
            assert!(!local.contains(wide(outside)), "{outside}");
        }
        assert!(!Local::default().contains(wide("10.0.0.1")));
    }

    #[test]
    fn a_network_is_covered_by_one_local_network_and_all_that_is_local_may_lie_in_several() {
        let local = Local::new(&networks(&["10.0.0.0/8", "172.16.0.0/13", "172.24.0.0/13", "fc00::/7"]));
        for (network, covered) in [
            ("10.0.0.0/8", true),
            ("10.2.0.0/16", true),
            ("10.2.3.4/32", true),
            ("::ffff:10.2.0.0/112", true),
            ("fd00::/8", true),
            ("10.0.0.0/7", false),
            ("172.16.0.0/12", false),
            ("0.0.0.0/0", false),
            ("::/0", false),
        ] {
            assert_eq!(local.covers(&network.parse().unwrap()), covered, "{network}");
        }
    }
}
