//! Who may send: a short list of networks, and what is remembered of those who may not.
//!
//! Promises: an empty list costs nothing and lets everyone in; what is refused is counted, and only the last few sources are
//! remembered, so that strangers cannot fill the memory, the metrics or the log.

use super::pace::Pace;
use crate::clock::Timestamp;
use crate::metrics::Counter;
use ipnetwork::IpNetwork;
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// How many refused sources are remembered.
const REMEMBERED: usize = 32;
/// How many of them a warning names besides the newest.
const NAMED: usize = 4;

/// The list of a collector.
#[derive(Debug, Default)]
pub(super) struct AllowList {
    networks: Vec<IpNetwork>,
    refused: Mutex<Refused>,
    pace: Pace,
}

impl AllowList {
    /// Lets in who is in one of `networks`; everyone, if there is none.
    pub(super) fn new(networks: &[IpNetwork]) -> Arc<Self> {
        Arc::new(Self { networks: networks.to_vec(), ..Self::default() })
    }
}

/// The sources that were refused last, the newest at the end.
#[derive(Debug, Default)]
struct Refused(VecDeque<Source>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Source {
    address: IpAddr,
    /// How often it was refused since it is remembered.
    count: u64,
    last: Timestamp,
}

impl Refused {
    /// Notes a refusal of `address`.
    fn note(&mut self, address: IpAddr, at: Timestamp) {
        let known = self.0.iter().position(|source| source.address == address).and_then(|index| self.0.remove(index));
        let count = known.map_or(0, |source| source.count).saturating_add(1);
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(Source { address, count, last: at });
    }

    /// Those before the newest, for a warning.
    fn others(&self) -> String {
        let mut text = String::new();
        for (index, source) in self.0.iter().rev().skip(1).take(NAMED).enumerate() {
            let before = if index == 0 { "; before, also " } else { ", " };
            // Writing into a String cannot fail.
            let _ = write!(text, "{before}{} ({} times, last at {})", source.address, source.count, source.last);
        }
        let more = self.0.len().saturating_sub(NAMED.saturating_add(1));
        if more > 0 {
            let _ = write!(text, " and {more} more");
        }
        text
    }
}

/// One listener's way to ask the list.
#[derive(Debug)]
pub(super) struct Gate {
    list: Arc<AllowList>,
    name: String,
    refused: Counter<u64>,
    /// Who was let in last: most often who comes next.
    last: Option<IpAddr>,
}

impl Gate {
    /// For the listener `name`; `refused` counts whom it does not let in.
    pub(super) fn new(list: &Arc<AllowList>, name: String, refused: Counter<u64>) -> Self {
        Self { list: Arc::clone(list), name, refused, last: None }
    }

    /// Whether who sends from `source` may come in. If not, that is noted. An IPv4 source must be told as such.
    pub(super) fn admits(&mut self, source: IpAddr, now: Timestamp) -> bool {
        let list = &*self.list;
        if list.networks.is_empty() || self.last == Some(source) {
            return true;
        }
        if list.networks.iter().any(|network| network.contains(source)) {
            self.last = Some(source);
            return true;
        }
        self.refused.inc();
        let mut refused = list.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.note(source, now);
        list.pace.warn(|more| {
            let (name, others) = (&self.name, refused.others());
            tracing::warn!("{name}: {source} is refused, because [collector] allow does not name it{more}{others}");
        });
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn gate(networks: &[&str]) -> Gate {
        let networks: Vec<IpNetwork> = networks.iter().map(|network| network.parse().unwrap()).collect();
        Gate::new(&AllowList::new(&networks), "udp://[::]:2055".to_owned(), Counter::default())
    }

    #[test]
    fn networks_and_single_hosts_of_both_families_are_let_in_and_no_one_else() {
        let mut gate = gate(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]);
        for (source, admitted) in [
            ("10.1.2.3", true),
            ("10.1.2.3", true),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("10.255.0.1", true),
            ("11.0.0.0", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
            // Never told by a listener, which tells an IPv4 source as IPv4.
            ("::ffff:10.1.2.3", false),
        ] {
            assert_eq!(gate.admits(source.parse().unwrap(), at(0)), admitted, "{source}");
        }
        assert_eq!(gate.refused.get(), 4);
    }

    #[test]
    fn an_empty_list_lets_everyone_in() {
        let mut gate = gate(&[]);
        assert!(gate.admits("203.0.113.1".parse().unwrap(), at(0)) && gate.admits("::1".parse().unwrap(), at(0)));
        assert_eq!((gate.refused.get(), gate.list.refused.lock().unwrap().0.len()), (0, 0));
    }

    #[test]
    fn of_many_strangers_the_newest_few_are_remembered_each_once() {
        let mut gate = gate(&["10.0.0.0/8"]);
        for number in 0..10_000_u32 {
            assert!(!gate.admits(IpAddr::from((0xc000_0000 + number % 5_000).to_be_bytes()), at(number.into())));
        }
        let frequent = IpAddr::from([198, 51, 100, 1]);
        for seconds in 0..3 {
            gate.admits(frequent, at(20_000 + seconds));
            gate.admits([203, 0, 113, 1].into(), at(30_000));
        }
        let refused = gate.list.refused.lock().unwrap();
        assert_eq!((gate.refused.get(), refused.0.len()), (10_006, REMEMBERED));
        assert_eq!(refused.0[30], Source { address: frequent, count: 3, last: at(20_002) });
        let told = refused.others();
        assert!(told.starts_with("; before, also 198.51.100.1 (3 times, last at 1970-01-01T05:33:22"), "{told}");
        assert!(told.contains("192.0.19.135 (1 times") && told.ends_with(" and 27 more"), "{told}");
    }
}
