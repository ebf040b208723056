//! Double counting: the same flows told at two observation points, as found in one hour, and the setting that would end it.
//!
//! A side is an exporter and the direction in which it metered, because that is what a counting rule leaves out as a whole; its
//! interfaces and observation domains are told as evidence. This is the model only: `keep` finds, `store` keeps, the API and
//! the doctor show.

use super::counting::{Count, FlowDirection};
use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;

/// All flows of an exporter in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Side {
    /// The exporter.
    pub exporter_id: u32,
    /// Where it metered, where its flows say so.
    pub direction: Option<FlowDirection>,
}

/// Two interfaces that told the same flows, the first of the one side, the second of the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PointPair {
    /// The observation domain of each.
    pub observation_domains: [u32; 2],
    /// The SNMP index of each: where packets left for egress, else where they arrived; absent where no flow told.
    pub interfaces: [Option<u32>; 2],
    /// Flows of the sample that both told.
    pub matched_flows: u64,
}

/// A flow that was told twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// Source address.
    pub src_ip: IpAddr,
    /// Destination address.
    pub dst_ip: IpAddr,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// IANA protocol number.
    pub protocol: u8,
    /// Bytes that both told.
    pub bytes: u64,
    /// Packets, where it was told.
    pub packets: Option<u64>,
    /// The interface of each side that told it.
    pub interfaces: [Option<u32>; 2],
    /// When each side saw its first packet, in microseconds since 1970 UTC.
    pub first_seen: [i64; 2],
}

/// Two sides that told the same flows in one hour. What is said of the first of a pair is about the first side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The sides, the smaller first; the same one twice when two interfaces or domains of it told the same flows.
    pub sides: [Side; 2],
    /// Flows of the sample that could be compared, of each side.
    pub compared_flows: [u64; 2],
    /// Flows of the sample that both sides told.
    pub matched_flows: u64,
    /// Their bytes, each counted once, multiplied by the sampling interval.
    pub matched_bytes: u64,
    /// The sample is one in so many of the 5-tuples of the hour; 1 means all.
    pub sampled_one_in: u32,
    /// The interfaces with the most flows in common, the most first.
    pub points: Vec<PointPair>,
    /// The largest flows told twice.
    pub examples: Vec<Example>,
    /// What would end it, and for which exporter; absent when no setting separates the two.
    pub proposal: Option<(u32, Proposal)>,
}

/// A setting of an exporter that leaves out what another side tells as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proposal {
    /// Count only these of its flows.
    Count(Count),
    /// Count only what came or left by these interfaces, SNMP indexes.
    CountInterfaces(Vec<u32>),
}

impl Display for Proposal {
    /// As a line of TOML below `[[exporter]]`.
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(formatter, "count = \"{}\"", count.name()),
            Self::CountInterfaces(interfaces) => write!(formatter, "count_interfaces = {interfaces:?}"),
        }
    }
}

/// What was found of two sides in several hours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The sides, the smaller first.
    pub sides: [Side; 2],
    /// The address of each side's exporter.
    pub addresses: [IpAddr; 2],
    /// In how many hours it was found.
    pub hours: u64,
    /// The start of the last of them.
    pub last_hour: Timestamp,
    /// Flows of the samples that could be compared, of each side.
    pub compared_flows: [u64; 2],
    /// Flows of the samples that both sides told.
    pub matched_flows: u64,
    /// Bytes counted twice in the hours, an estimate where the samples are not all flows.
    pub double_bytes: u64,
    /// The smallest sample was one in so many of the 5-tuples.
    pub sampled_one_in: u32,
    /// The interfaces with the most flows in common, in the last hour.
    pub points: Vec<PointPair>,
    /// The largest flows told twice, in the last hour.
    pub examples: Vec<Example>,
    /// The address of the exporter and the line of TOML that would end it, by the last hour.
    pub proposal: Option<(IpAddr, String)>,
}

impl Summary {
    /// The proposal as lines of the configuration.
    pub fn proposed_lines(&self) -> Option<String> {
        let (address, setting) = self.proposal.as_ref()?;
        Some(format!("[[exporter]]\naddress = \"{address}\"\n{setting}"))
    }

    /// How much of the side with fewer flows was told twice, in percent of the flows compared.
    pub fn percent(&self) -> u64 {
        let [one, other] = self.compared_flows;
        let smaller = one.min(other).max(1);
        u64::try_from(u128::from(self.matched_flows) * 100 / u128::from(smaller)).unwrap_or(100).min(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proposal_is_a_line_of_the_configuration() {
        for (proposal, line) in [
            (Proposal::Count(Count::Ingress), "count = \"ingress\""),
            (Proposal::Count(Count::Egress), "count = \"egress\""),
            (Proposal::Count(Count::None), "count = \"none\""),
            (Proposal::CountInterfaces(vec![3, 41]), "count_interfaces = [3, 41]"),
        ] {
            assert_eq!(proposal.to_string(), line);
        }
    }
}
