//! What can be asked and what comes back, as plain data.
//!
//! These types are neither HTTP shapes nor SQL rows: `api` and `reports` render them, the engine fills them.

use super::stamp::NOT_RECORDED;
use crate::clock::{SECOND, Timestamp};
use crate::filter::Expression;
use crate::flow::counting::{Counting, CountingRule};
use crate::flow::fields::Dimension;
use crate::flow::segment::Totals;
use crate::flow::value::Value;
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// A stretch of receive time, from `from` up to but not including `to`, with the zone people see it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first moment inside.
    pub from: Timestamp,
    /// The first moment after.
    pub to: Timestamp,
    /// The zone in which the window was asked for and answers are written.
    pub zone: chrono_tz::Tz,
}

/// What rows are ranked by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Bytes, both counters.
    #[default]
    Bytes,
    /// Packets, both counters.
    Packets,
    /// Flows.
    Flows,
}

impl Order {
    /// All orders.
    pub const ALL: [Self; 3] = [Self::Bytes, Self::Packets, Self::Flows];

    /// The word for it in questions, answers and the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Packets => "packets",
            Self::Flows => "flows",
        }
    }

    /// The order called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|order| order.name() == name)
    }
}

/// What bytes and packets of sampling exporters mean in an answer. Flows are counted as they are: a sampling exporter
/// cannot tell how many it did not see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counters {
    /// Multiplied by the flow's sampling interval: an estimate of the traffic there was.
    #[default]
    Scaled,
    /// As the exporter sent them: what was in the packets it looked at.
    Raw,
}

impl Counters {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Scaled, Self::Raw];

    /// The word for it in questions, answers and the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scaled => "scaled",
            Self::Raw => "raw",
        }
    }

    /// The one called `name`.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|counters| counters.name() == name)
    }
}

/// The largest groups of a window.
#[derive(Clone, Debug)]
pub struct TopRequest {
    /// Which flows: those received in the window.
    pub window: Window,
    /// What a group is: 1 to 4 dimensions, of which at most one is a pair.
    pub by: Vec<Dimension>,
    /// What groups are ranked by.
    pub order: Order,
    /// How many rows at most, 1 to 10,000.
    pub limit: usize,
    /// Which flows of the window; `None` means all. It sees counters as exporters sent them.
    pub filter: Option<Expression>,
    /// What sums of bytes and packets mean, and so what groups are ranked by.
    pub counters: Counters,
}

/// One host's traffic.
#[derive(Clone, Copy, Debug)]
pub struct HostRequest {
    /// The host. An IPv4-mapped IPv6 address is the IPv4 address.
    pub host: IpAddr,
    /// Which flows: those received in the window.
    pub window: Window,
    /// What sums of bytes and packets mean.
    pub counters: Counters,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopRow {
    /// The group's value in each dimension of the request. A number that a flow does not have counts as 0; a flow without
    /// the address or MAC of a dimension is in no group, as nfdump has it.
    pub key: Vec<Value>,
    /// The group's sums.
    pub totals: Totals,
    /// The earliest first packet of the group, where exporters told it.
    pub first_seen: Option<Timestamp>,
    /// The latest last packet of the group, where exporters told it.
    pub last_seen: Option<Timestamp>,
}

/// What is known to be missing from a window, one row a cause and unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossCount {
    /// `network` (sequence gaps), `kernel` (socket drops), `journal_full`, `journal_corrupt`, `collector_down`,
    /// `not_recorded` (before recording began, or dropped by now without totals that answer the request), or a reason of
    /// rejection.
    pub cause: String,
    /// What is counted: `flows`, `records`, `datagrams`, `sets`, `templates` or `seconds`.
    pub unit: String,
    /// How many.
    pub count: u64,
}

/// How many flows are missing from an answer at most, as far as sequence numbers tell. A flow is here what an exporter sent
/// as one record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undercount {
    /// How many flows were lost at most, whichever flows the answer selects.
    pub flows: u64,
    /// How many flows the answer counts.
    pub counted: u64,
}

impl Undercount {
    /// The percentage of the answer's flows that is missing at most, 0 to 100, rounded up to four decimals. It holds for
    /// flows, not for bytes: a lost flow may have had any number of them.
    pub fn percent(&self) -> f64 {
        let flows = self.flows as f64;
        if self.flows == 0 {
            return 0.0;
        }
        ((flows / (flows + self.counted as f64) * 1e6).ceil() / 1e4).min(100.0)
    }
}

/// What is missing of one exporter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExporterLoss {
    /// Its number in flows.
    pub exporter_id: u32,
    /// The address its datagrams come from; `None` when it is not on record any more.
    pub address: Option<IpAddr>,
    /// What people call it.
    pub name: Option<String>,
    /// What is missing, by cause and unit, ascending.
    pub lost: Vec<LossCount>,
}

/// What an answer may be missing. Hours are counted whole: loss in an hour that the window touches is loss in the window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completeness {
    /// Whether nothing is known to be missing, everything received before the window's end is stored, and nothing is
    /// estimated.
    pub exact: bool,
    /// Whether bytes and packets were multiplied because they come from samples.
    pub estimated: bool,
    /// How many of the selected flows were exported with a sampling interval above 1. A record that stands for several
    /// flows counts for all of them, and one that stands for none counts once.
    pub sampled_flows: u64,
    /// Everything received before this moment is in the answer; `None` when the window lies wholly before it.
    pub stale_since: Option<Timestamp>,
    /// What is missing, by cause and unit, ascending.
    pub lost: Vec<LossCount>,
    /// How many flows are missing at most; `None` when something is missing of which nobody knows how many flows it was.
    /// What is still to be stored (`stale_since`) is not missing.
    pub undercount: Option<Undercount>,
    /// The exporters that something is missing of, those that most is missing of first, at most [`EXPORTERS`]. What cannot
    /// be attributed is in `lost` alone.
    ///
    /// [`EXPORTERS`]: super::stamp::EXPORTERS
    pub exporters: Vec<ExporterLoss>,
    /// How many more there are.
    pub more_exporters: u64,
}

impl Completeness {
    /// The same for an answer of `counted` records, whose flows were sampled, `sampled_flows` of them.
    #[must_use]
    pub(super) fn of(self, counted: u64, counters: Counters, sampled_flows: u64) -> Self {
        let estimated = counters == Counters::Scaled && sampled_flows > 0;
        let undercount = self.undercount.map(|known| Undercount { counted, ..known });
        Self { exact: self.exact && !estimated, estimated, sampled_flows, undercount, ..self }
    }

    /// The same for a longer window, of which the answer tells nothing for so many microseconds.
    #[must_use]
    pub fn without(mut self, micros: i64) -> Self {
        let seconds = micros.max(0).cast_unsigned().div_ceil(SECOND.cast_unsigned());
        if seconds == 0 {
            return self;
        }
        match self.lost.iter_mut().find(|lost| lost.cause == NOT_RECORDED) {
            Some(lost) => lost.count = lost.count.saturating_add(seconds),
            None => {
                let lost = LossCount { cause: NOT_RECORDED.to_owned(), unit: "seconds".to_owned(), count: seconds };
                let place = self.lost.partition_point(|other| (&other.cause, &other.unit) < (&lost.cause, &lost.unit));
                self.lost.insert(place, lost);
            }
        }
        Self { exact: false, undercount: None, ..self }
    }
}

/// What an answer was read from. The sums are the same, whatever it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// UTC days whose host totals were taken.
    pub days: u64,
    /// UTC hours whose host totals were taken.
    pub hours: u64,
    /// Segments that were scanned for the rest of the window.
    pub segments: u64,
}

/// Which of the flows that are asked for an answer counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Whether all were asked for, whatever the rules say.
    pub all: bool,
    /// The rules of counting, by the exporters they are for, of which the most specific one goes; at most
    /// [`RULES`](Self::RULES).
    pub rules: Vec<(IpNetwork, CountingRule)>,
    /// How many more there are.
    pub more_rules: u64,
}

impl Counted {
    /// An answer names no more rules than this.
    pub const RULES: usize = 20;

    /// The word for it in requests and answers.
    pub const fn name(&self) -> &'static str {
        if self.all { "all" } else { "rules" }
    }

    /// Those that count by `counting`.
    pub(super) fn by(counting: &Counting) -> Self {
        let rules: Vec<_> =
            counting.rules().take(Self::RULES).map(|(network, rule)| (*network, rule.clone())).collect();
        let more_rules = counting.rules().len().saturating_sub(rules.len()) as u64;
        Self { all: false, rules, more_rules }
    }
}

/// The groups, largest first; equal ones by key, ascending.
#[derive(Clone, Debug)]
pub struct TopAnswer {
    /// The rows asked for.
    pub rows: Vec<TopRow>,
    /// Sums over all flows of the window that the filter lets through.
    pub totals: Totals,
    /// How many groups there are in all.
    pub groups: u64,
    /// What may be missing.
    pub completeness: Completeness,
    /// What it was read from.
    pub source: Source,
    /// Which flows it counts.
    pub counted: Counted,
}

/// One host's traffic. A flow is internal when both ends are local networks.
#[derive(Clone, Debug)]
pub struct HostAnswer {
    /// The host.
    pub host: IpAddr,
    /// Flows to the host from outside the local networks.
    pub download: Totals,
    /// Flows from the host to outside the local networks.
    pub upload: Totals,
    /// Flows between the host and a local network.
    pub internal: Totals,
    /// What may be missing.
    pub completeness: Completeness,
    /// What it was read from.
    pub source: Source,
    /// Which flows it counts.
    pub counted: Counted,
}
