//! Finds flows that two observation points told alike, so that they count twice, and proposes what would end it.
//!
//! An observation point is an exporter with its observation domain, the direction and the interface where it metered. Two flows
//! of different points are the same one when 5-tuple and bytes are equal (and packets, where both tell), and their times overlap.
//! The points of an exporter in one direction are a [`Side`]; what is found is told for each two sides, because a router with
//! many interfaces has only few flows on any two of them.
//!
//! Compared are flows of TCP, UDP and SCTP with bytes and two ports that differ: pings, NTP and the like have equal tuples and
//! sizes in networks that have nothing to do with each other but their private addresses. Traffic behind address translation,
//! and sampled flows of which the two exporters looked at different packets, cannot be recognised.
//!
//! Promises: at most [`MAX_KEPT`] flows are held, also of an hour that is of one point to its end: the flows of an archive lie
//! together, and the other point may come last. Which 5-tuples are held is chosen by a hash of theirs, so that all points
//! tell of the same ones. Pure: batches come in, findings come out.

use crate::clock::SECOND;
use crate::flow::batch::{Addresses, FlowBatch, Values};
use crate::flow::counting::FlowDirection;
use crate::flow::double_counting::{Example, Finding, PointPair, Side};
use crate::flow::fields::Field;
use crate::flow::sampling::scaled;
use crate::flow::value::{address_from_wide, wide_from_v4};
use foldhash::quality::RandomState;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::hash::BuildHasher;

mod proposal;

/// The fields that are compared.
pub const FIELDS: [Field; 18] = [
    Field::Received,
    Field::ExporterId,
    Field::ObservationDomain,
    Field::FirstSeen,
    Field::LastSeen,
    Field::SrcIp,
    Field::DstIp,
    Field::SrcPort,
    Field::DstPort,
    Field::Protocol,
    Field::InBytes,
    Field::InPackets,
    Field::OutBytes,
    Field::OutPackets,
    Field::InputInterface,
    Field::OutputInterface,
    Field::Direction,
    Field::SamplingInterval,
];
/// The fields of a 5-tuple.
const TUPLE: [Field; 5] = [Field::SrcIp, Field::DstIp, Field::SrcPort, Field::DstPort, Field::Protocol];
/// Flows that are held at most, 15 MiB of them.
const MAX_KEPT: usize = 1 << 17;
/// The smallest sample: one in 2^31 tuples.
const MAX_MASK: u64 = (1 << 31) - 1;
/// By how much the times of two exporters may differ. Synchronised clocks agree within milliseconds, but NetFlow v9 derives times
/// from a clock in whole seconds and an uptime; the doctor allows as much between clocks.
const CLOCKS: i64 = 5 * SECOND;
/// Flows of one tuple that are compared with each other: bounds the work that a tuple used again and again can make.
const GROUP: usize = 16;
/// Fewer matched flows than these are not told of.
const MIN_MATCHES: u64 = 100;
/// Nor are those that are less than one in so many of the flows of either side, or of one of its points.
const MIN_SHARE: u64 = 20;
// Protocols whose ports tell flows apart.
const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
/// Pairs of interfaces that are named.
const POINTS: usize = 10;
/// Examples that are given.
const EXAMPLES: usize = 2;
/// Findings of an hour at most, those with the most flows.
const FINDINGS: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Tuple {
    source: u128,
    destination: u128,
    source_port: u16,
    destination_port: u16,
    protocol: u8,
}

impl Tuple {
    /// All of it in 128 bits, in which IPv4-mapped addresses leave room for the rest. Hashing these costs half of hashing each
    /// part, and every flow is hashed.
    fn folded(&self) -> u128 {
        let ports = u128::from(self.source_port) << 48 ^ u128::from(self.destination_port) << 112;
        self.source ^ self.destination.rotate_left(64) ^ ports ^ u128::from(self.protocol) << 40
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Point {
    side: Side,
    observation_domain: u32,
    interface: Option<u32>,
}

/// A flow of the sample.
#[derive(Clone, Copy, Debug)]
struct Flow {
    hash: u64,
    tuple: Tuple,
    first_seen: i64,
    last_seen: i64,
    bytes: u64,
    packets: Option<u64>,
    sampling_interval: u32,
    side: Side,
    observation_domain: u32,
    input_interface: Option<u32>,
    output_interface: Option<u32>,
}

impl Flow {
    /// The flow in `row`, unless there is nothing in it to compare.
    fn read(batch: &FlowBatch, row: usize, hash: u64, tuple: Tuple) -> Option<Self> {
        let bits = |field| batch.column(field).bits(row);
        let number = |field| bits(field).map(|bits| bits as u32);
        let counter = |field| bits(field).map(|bits| bits as u64);
        let moment = |field| bits(field).map(|bits| (bits as u64).cast_signed());
        let sum = |fields: [Field; 2]| fields.into_iter().filter_map(counter).reduce(u64::saturating_add);
        let bytes = sum([Field::InBytes, Field::OutBytes]).filter(|bytes| *bytes > 0)?;
        let (first, last) = (moment(Field::FirstSeen), moment(Field::LastSeen));
        let received = moment(Field::Received).unwrap_or_default();
        let (first, last) = (first.or(last).unwrap_or(received), last.or(first).unwrap_or(received));
        Some(Self {
            hash,
            tuple,
            first_seen: first.min(last),
            last_seen: first.max(last),
            bytes,
            packets: sum([Field::InPackets, Field::OutPackets]),
            sampling_interval: number(Field::SamplingInterval).unwrap_or(1),
            side: Side {
                exporter_id: number(Field::ExporterId).unwrap_or_default(),
                direction: bits(Field::Direction).and_then(FlowDirection::from_code),
            },
            observation_domain: number(Field::ObservationDomain).unwrap_or_default(),
            input_interface: number(Field::InputInterface),
            output_interface: number(Field::OutputInterface),
        })
    }

    fn point(&self) -> Point {
        let egress = self.side.direction == Some(FlowDirection::Egress);
        let interface = if egress { self.output_interface } else { self.input_interface };
        Point { side: self.side, observation_domain: self.observation_domain, interface }
    }

    /// Whether the other may be the same traffic at another point: the tuple is known to be equal.
    fn meets(&self, other: &Self) -> bool {
        self.first_seen <= other.last_seen.saturating_add(CLOCKS)
            && other.first_seen <= self.last_seen.saturating_add(CLOCKS)
            && self.point() != other.point()
    }

    fn equals(&self, other: &Self) -> bool {
        let packets = self.packets.zip(other.packets).is_none_or(|(one, other)| one == other);
        self.bytes == other.bytes && packets
    }
}

/// Collects flows of an hour and compares them in the end.
#[derive(Debug)]
pub struct DoubleCounting {
    hasher: RandomState,
    kept: Vec<Flow>,
    limit: usize,
    /// Tuples are held whose hash has none of these bits, which are the lowest ones.
    mask: u64,
}

impl DoubleCounting {
    /// Looks at an hour of about so many flows. Fewer or more are as well; but where it is known, no flow is held only to be
    /// given up again.
    pub fn new(flows: usize) -> Self {
        Self::holding(MAX_KEPT, flows)
    }

    /// Holds at most `limit` flows.
    fn holding(limit: usize, flows: usize) -> Self {
        let one_in = flows.div_ceil(limit).next_power_of_two();
        let mask = (one_in as u64).saturating_sub(1).min(MAX_MASK);
        Self { hasher: RandomState::default(), kept: Vec::new(), limit, mask }
    }

    /// Looks at the flows of `batch` for which `counts` says that they count, given a row.
    pub fn add(&mut self, batch: &FlowBatch, counts: impl Fn(usize) -> bool) {
        let values = |field| batch.column(field).values();
        let (Values::U16(source_ports), Values::U16(destination_ports), Values::U8(protocols)) =
            (values(Field::SrcPort), values(Field::DstPort), values(Field::Protocol))
        else {
            return;
        };
        let (Values::Address(sources), Values::Address(destinations)) = (values(Field::SrcIp), values(Field::DstIp))
        else {
            return;
        };
        // In most batches each flow has all of it, and then nothing is asked row by row.
        let complete = TUPLE.iter().all(|field| batch.column(*field).present().is_all(batch.rows()));
        let mut present = TUPLE.map(|field| batch.column(field).present().cursor());
        for row in 0..batch.rows() {
            if !complete && !present.iter_mut().all(|cursor| cursor.holds(row)) {
                continue;
            }
            let (Some(&source_port), Some(&destination_port), Some(&protocol)) =
                (source_ports.get(row), destination_ports.get(row), protocols.get(row))
            else {
                continue;
            };
            let telling = source_port != destination_port && source_port != 0 && destination_port != 0;
            if !telling || !matches!(protocol, TCP | UDP | SCTP) {
                continue;
            }
            let (Some(source), Some(destination)) = (wide(sources, row), wide(destinations, row)) else { continue };
            let tuple = Tuple { source, destination, source_port, destination_port, protocol };
            let hash = self.hasher.hash_one(tuple.folded());
            if hash & self.mask == 0
                && counts(row)
                && let Some(flow) = Flow::read(batch, row, hash, tuple)
            {
                self.keep(flow);
            }
        }
    }

    fn keep(&mut self, flow: Flow) {
        while self.kept.len() >= self.limit && self.mask < MAX_MASK {
            self.mask = self.mask << 1 | 1;
            let mask = self.mask;
            self.kept.retain(|kept| kept.hash & mask == 0);
        }
        if flow.hash & self.mask == 0 && self.kept.len() < self.limit {
            self.kept.push(flow);
        }
    }

    /// Compares what was held: the sides that told the same flows, those with the most first.
    pub fn findings(&mut self) -> Vec<Finding> {
        self.kept.sort_unstable_by(|one, other| {
            let tuples = one.hash.cmp(&other.hash).then_with(|| one.tuple.cmp(&other.tuple));
            tuples.then_with(|| one.first_seen.cmp(&other.first_seen)).then_with(|| one.point().cmp(&other.point()))
        });
        let mut compared = Compared::default();
        groups(&self.kept).for_each(|group| compared.add(group));
        let sampled_one_in = u32::try_from(self.mask.saturating_add(1)).unwrap_or(u32::MAX);
        let mut found: Vec<_> = compared.pairs.iter().filter(|(_, pair)| compared.tells(pair)).collect();
        found.sort_unstable_by_key(|(sides, pair)| (Reverse(pair.matched), **sides));
        found.truncate(FINDINGS);
        found
            .into_iter()
            .map(|(sides, pair)| Finding {
                sides: *sides,
                compared_flows: sides.map(|side| compared.sides.get(&side).copied().unwrap_or_default()),
                matched_flows: pair.matched,
                matched_bytes: pair.bytes,
                sampled_one_in,
                points: pair.most(),
                examples: pair.examples.clone(),
                proposal: proposal::proposal(&self.kept, *sides),
            })
            .collect()
    }
}

/// The address in `row`, IPv4 mapped.
fn wide(addresses: &Addresses, row: usize) -> Option<u128> {
    match addresses {
        Addresses::V4(values) => values.get(row).copied().map(wide_from_v4),
        Addresses::Wide(values) => values.get(row).copied(),
    }
}

/// Sorted flows by their tuples, in the order of time, not too many at once.
fn groups(flows: &[Flow]) -> impl Iterator<Item = &[Flow]> {
    flows.chunk_by(|one, other| one.tuple == other.tuple).flat_map(|group| group.chunks(GROUP))
}

/// What was compared.
#[derive(Default)]
struct Compared {
    /// Flows of each side.
    sides: HashMap<Side, u64>,
    /// Flows of each point.
    points: HashMap<Point, u64>,
    pairs: HashMap<[Side; 2], Pair>,
}

/// What two sides told alike.
#[derive(Default)]
struct Pair {
    matched: u64,
    bytes: u64,
    /// Matched flows of each point.
    of_points: HashMap<Point, u64>,
    by_points: HashMap<[Point; 2], u64>,
    examples: Vec<Example>,
}

fn one_more(count: &mut u64) {
    *count = count.saturating_add(1);
}

impl Compared {
    /// Compares flows of one tuple, in the order of time. A flow is matched at most once with each side.
    fn add(&mut self, group: &[Flow]) {
        for flow in group {
            one_more(self.sides.entry(flow.side).or_default());
            one_more(self.points.entry(flow.point()).or_default());
        }
        let mut matched: Vec<(usize, Side)> = Vec::new();
        for (index, one) in group.iter().enumerate() {
            for (other_index, other) in group.iter().enumerate().skip(index.saturating_add(1)) {
                let taken = [(index, other.side), (other_index, one.side)];
                if one.meets(other) && one.equals(other) && !taken.iter().any(|taken| matched.contains(taken)) {
                    matched.extend(taken);
                    let (one, other) = if one.point() <= other.point() { (one, other) } else { (other, one) };
                    self.pairs.entry([one.side, other.side]).or_default().add(one, other);
                }
            }
        }
    }

    /// Whether a pair is worth to be told: enough flows, and enough of all flows of either side or of one of its points.
    fn tells(&self, pair: &Pair) -> bool {
        let enough = |matched: u64, of: Option<&u64>| {
            matched >= MIN_MATCHES && of.is_some_and(|of| matched.saturating_mul(MIN_SHARE) >= *of)
        };
        let sides = |point: &Point| self.sides.get(&point.side);
        pair.of_points
            .iter()
            .any(|(point, matched)| enough(pair.matched, sides(point)) || enough(*matched, self.points.get(point)))
    }
}

impl Pair {
    fn add(&mut self, one: &Flow, other: &Flow) {
        let points = [one.point(), other.point()];
        one_more(&mut self.matched);
        let interval = one.sampling_interval.min(other.sampling_interval);
        self.bytes = self.bytes.saturating_add(scaled(one.bytes, interval));
        points.iter().for_each(|point| one_more(self.of_points.entry(*point).or_default()));
        one_more(self.by_points.entry(points).or_default());
        let smaller = self.examples.iter().rposition(|example| example.bytes >= one.bytes);
        let place = smaller.map_or(0, |place| place.saturating_add(1));
        if place < EXAMPLES {
            let Tuple { source, destination, source_port, destination_port, protocol } = one.tuple;
            let example = Example {
                src_ip: address_from_wide(source),
                dst_ip: address_from_wide(destination),
                src_port: source_port,
                dst_port: destination_port,
                protocol,
                bytes: one.bytes,
                packets: one.packets.or(other.packets),
                interfaces: points.map(|point| point.interface),
                first_seen: [one.first_seen, other.first_seen],
            };
            self.examples.insert(place, example);
            self.examples.truncate(EXAMPLES);
        }
    }

    /// The points with the most flows in common.
    fn most(&self) -> Vec<PointPair> {
        let mut pairs: Vec<_> = self.by_points.iter().collect();
        pairs.sort_unstable_by_key(|(points, matched)| (Reverse(**matched), **points));
        pairs.truncate(POINTS);
        let pair = |(points, matched): (&[Point; 2], &u64)| PointPair {
            observation_domains: points.map(|point| point.observation_domain),
            interfaces: points.map(|point| point.interface),
            matched_flows: *matched,
        };
        pairs.into_iter().map(pair).collect()
    }
}

#[cfg(test)]
mod tests;
