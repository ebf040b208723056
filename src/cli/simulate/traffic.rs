//! Traffic as a site sees it: a few thousand local hosts, a million remote ones, few of them popular, sizes heavy-tailed.
//!
//! Promises: the same seed gives the same flows. It knows no export format.

use std::net::Ipv4Addr;

/// First octets of remote addresses: none of them private, loopback or multicast.
const REMOTE_NETWORKS: [u8; 16] = [5, 8, 13, 17, 23, 31, 34, 52, 64, 74, 91, 104, 142, 151, 185, 203];
/// How many remote hosts there are.
const REMOTE_HOSTS: u32 = 1_000_000;
/// The most local hosts: all of 192.168.0.0/16 but network and broadcast addresses of its /24s.
pub const MAX_LOCAL_HOSTS: u32 = 254 * 256;

/// The flag that packets of TCP have, but for the first.
const ACK: u8 = 0x10;

/// One flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) source: Ipv4Addr,
    pub(super) destination: Ipv4Addr,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) protocol: u8,
    pub(super) tcp_flags: u8,
    pub(super) tos: u8,
    pub(super) packets: u32,
    pub(super) bytes: u32,
    pub(super) source_as: u16,
    pub(super) destination_as: u16,
    pub(super) input: u16,
    pub(super) output: u16,
    /// How long before the export it began and ended, in milliseconds.
    pub(super) began: u32,
    pub(super) ended: u32,
    /// Whether a local host received it: a download.
    pub(super) to_local: bool,
}

/// Makes flows.
#[derive(Debug)]
pub(super) struct Traffic {
    random: fastrand::Rng,
    hosts: u32,
}

impl Traffic {
    /// Traffic of `hosts` local hosts, 1 to [`MAX_LOCAL_HOSTS`].
    pub(super) fn new(seed: u64, hosts: u32) -> Self {
        Self { random: fastrand::Rng::with_seed(seed), hosts: hosts.clamp(1, MAX_LOCAL_HOSTS) }
    }

    /// A number below `count`, drawn so that the n-th is about n times rarer than the first (Zipf).
    fn popular(&mut self, count: u32) -> u32 {
        let drawn = (f64::from(count) + 1.0).powf(self.random.f64()) - 1.0;
        (drawn as u32).min(count.saturating_sub(1))
    }

    fn local(&mut self) -> Ipv4Addr {
        let host = self.popular(self.hosts);
        Ipv4Addr::new(192, 168, (host / 254) as u8, (host % 254 + 1) as u8)
    }

    fn remote(&mut self) -> (Ipv4Addr, u16) {
        let host = self.popular(REMOTE_HOSTS).wrapping_mul(0x9e37_79b1);
        let [network, second, third, fourth] = host.to_be_bytes();
        let first = REMOTE_NETWORKS.get(usize::from(network % 16)).copied().unwrap_or(8);
        (Ipv4Addr::new(first, second, third, fourth), u16::from(first) * 100 + u16::from(second % 32))
    }

    /// Protocol, server port and typical packets of a service.
    fn service(&mut self) -> (u8, u16, f64) {
        match self.random.u8(..100) {
            0..55 => (6, 443, 12.0),
            55..67 => (17, 443, 20.0),
            67..80 => (17, 53, 1.0),
            80..88 => (6, 80, 8.0),
            88..91 => (17, 123, 1.0),
            91..93 => (6, 22, 15.0),
            93..95 => (6, 993, 10.0),
            95..97 => (1, 0, 2.0),
            97..98 => (17, 3_478, 30.0),
            98..99 => (6, 8_080, 8.0),
            _ => (6, self.random.u16(1_024..32_768), 5.0),
        }
    }

    /// The next flow.
    pub(super) fn flow(&mut self) -> Flow {
        let (protocol, server_port, typical) = self.service();
        let client_port = self.random.u16(32_768..61_000);
        // A Pareto tail: most flows are a few packets, some are a million.
        let tail = (1.0 - self.random.f64()).powf(-1.0 / 1.3);
        let packets = if typical < 2.0 { 1 } else { (typical * 0.3 * tail).clamp(1.0, 1e6) as u32 };
        let download = self.random.u8(..100) < 62;
        let per_packet = match (packets, download) {
            (1, _) => self.random.u32(60..240),
            (_, true) => self.random.u32(600..1_460),
            (_, false) => self.random.u32(52..400),
        };
        let local = self.local();
        let internal = self.random.u8(..100) < 3;
        let (other, other_as) = if internal { (self.local(), 0) } else { self.remote() };
        let (ended, lasted) = (self.random.u32(0..15_000), packets.saturating_mul(self.random.u32(1..60)).min(60_000));
        let (client_port, server_port) = if protocol == 1 { (0, 0x0800) } else { (client_port, server_port) };
        let flow = Flow {
            source: other,
            destination: local,
            source_port: server_port,
            destination_port: client_port,
            protocol,
            tcp_flags: if protocol == 6 { 0x1b } else { 0 },
            tos: if self.random.u8(..10) == 0 { 0xb8 } else { 0 },
            packets,
            bytes: packets.saturating_mul(per_packet),
            source_as: other_as,
            destination_as: 0,
            input: 1,
            output: 2,
            began: ended.saturating_add(lasted),
            ended,
            to_local: true,
        };
        if download { flow } else { flow.reversed(internal) }
    }
}

impl Flow {
    /// One packet of it, as a sample shows it.
    pub(super) fn packet(self) -> Self {
        let bytes = self.bytes.checked_div(self.packets).unwrap_or(0);
        let tcp_flags = if self.protocol == 6 { ACK } else { 0 };
        Self { packets: 1, bytes, tcp_flags, ..self }
    }

    /// The same flow the other way.
    const fn reversed(self, to_local: bool) -> Self {
        Self {
            source: self.destination,
            destination: self.source,
            source_port: self.destination_port,
            destination_port: self.source_port,
            source_as: self.destination_as,
            destination_as: self.source_as,
            input: self.output,
            output: self.input,
            to_local,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn a_seed_repeats_and_a_few_hosts_carry_much_of_the_traffic() {
        let take = |seed| {
            let mut traffic = Traffic::new(seed, 2_000);
            (0..20_000).map(|_| traffic.flow()).collect::<Vec<_>>()
        };
        let flows = take(1);
        assert_eq!(flows, take(1));
        assert_ne!(flows, take(2));
        let mut by_host = HashMap::<Ipv4Addr, u32>::new();
        for flow in &flows {
            assert!(flow.bytes >= 40 * flow.packets && flow.began >= flow.ended && flow.began < 80_000);
            assert!(flow.source.is_private() || flow.destination.is_private());
            if flow.to_local {
                assert!(flow.destination.is_private());
                *by_host.entry(flow.destination).or_default() += 1;
            }
        }
        let mut counts: Vec<_> = by_host.values().copied().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        assert!(counts.len() > 1_000, "{}", counts.len());
        assert!(counts[0] > 50 * counts[counts.len() / 2], "{} {}", counts[0], counts[counts.len() / 2]);
    }
}
