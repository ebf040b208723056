//! Sent loss k of n: exactly k is told, and no flow is stored twice, in 10,000 random histories over all protocols.
//!
//! Each history is made from a seed: an exporter sends datagrams with the numbers its protocol prescribes from anywhere on,
//! also across the wrap of 2^32, and restarts in half of the histories. Some datagrams are lost, some come up to
//! [`LATE`] datagrams late, some come twice, and in some histories the collector itself restarts. A failure names its seed;
//! `FLOWLEDGER_SEED=n` plays that one alone.
//!
//! What cannot be counted exactly is left out, and only that:
//!
//! - what is lost before the first datagram, after the last one, or right at a restart: nobody can know the last number
//!   before it or the first one after it;
//! - datagrams that come later than a restart they were sent before;
//! - IPFIX, which tells no uptime, shows a restart by three messages that continue each other: those come in order; and
//!   from a number right below the wrap, 0 is no restart but the next number, with a gap;
//! - datagrams that come twice across a restart of the collector, which are documented to be taken twice.

use super::build::{be, iana, ipfix, v5, v7, v9};
use super::build_sflow;
use super::{Bench, NOW, context_of};
use crate::flow::batch::Values;
use crate::flow::fields::Field;
use crate::wire::Reason;
use fastrand::Rng;

/// How many histories in all, and of one protocol.
const HISTORIES: u64 = 10_000;
const PROTOCOLS: u64 = 5;
/// By how many datagrams one comes late or again at most; the window is 64.
const LATE: usize = 60;
/// Microseconds between two datagrams: 64 of them are less than what uptimes may go back without a restart.
const STEP: i64 = 100_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    V5,
    V7,
    V9,
    Ipfix,
    Sflow,
}

/// A datagram on its way.
#[derive(Clone, Debug)]
struct Sent {
    bytes: Vec<u8>,
    /// What its protocol counts.
    units: u32,
    /// The numbers in its flows.
    flows: Vec<u32>,
    /// Sure to come, once and in its place.
    sure: bool,
}

/// An exporter between two restarts.
struct Exporter {
    protocol: Protocol,
    number: u32,
    /// Milliseconds.
    uptime: u32,
    /// Microseconds since [`NOW`].
    clock: i64,
    next_flow: u32,
}

impl Exporter {
    /// The next datagram; `first` ones bring the template.
    fn send(&mut self, rng: &mut Rng, first: bool) -> Sent {
        let count = if self.protocol == Protocol::Ipfix && !first { rng.u32(0..4) } else { rng.u32(1..4) };
        let flows: Vec<u32> = (self.next_flow..self.next_flow + count).collect();
        self.next_flow += count;
        let seconds = ((NOW + self.clock) / 1_000_000) as u32;
        let mut units = count;
        let bytes = match self.protocol {
            Protocol::V5 | Protocol::V7 => {
                let (mut bytes, record) = match self.protocol {
                    Protocol::V5 => (v5(self.number, count as u16), 48),
                    _ => (v7(self.number, count as u16), 52),
                };
                bytes[4..8].copy_from_slice(&self.uptime.to_be_bytes());
                bytes[8..12].copy_from_slice(&seconds.to_be_bytes());
                for (record, flow) in bytes[24..].chunks_mut(record).zip(&flows) {
                    record[20..24].copy_from_slice(&flow.to_be_bytes());
                }
                bytes
            }
            Protocol::Sflow => {
                // The length of the packet, less what was stripped of it, is the flow's octets.
                let sample = |flow: &u32| build_sflow::flow(&[build_sflow::sampled(1, *flow + 4, &[])]);
                let mut bytes = build_sflow::datagram(self.number, &flows.iter().map(sample).collect::<Vec<_>>());
                bytes[20..24].copy_from_slice(&self.uptime.to_be_bytes());
                units = 1;
                bytes
            }
            Protocol::V9 | Protocol::Ipfix => {
                let mut message = if self.protocol == Protocol::V9 { v9(self.number) } else { ipfix(self.number) };
                (message.uptime, message.seconds) = (self.uptime, seconds);
                if first || rng.u8(0..8) == 0 {
                    message = message.template(256, &iana(&[(1, 4)]));
                    message = message.options_template(300, &[(1, 4, 0)], &iana(&[(41, 4)]));
                }
                if !flows.is_empty() {
                    message = message.data(256, &flows.iter().map(|flow| be((*flow).into(), 4)).collect::<Vec<_>>());
                }
                if rng.u8(0..8) == 0 {
                    message = message.data(300, &[be(1, 8)]);
                    units += 1;
                }
                if self.protocol == Protocol::V9 {
                    units = 1;
                }
                message.bytes()
            }
        };
        self.number = self.number.wrapping_add(units);
        self.uptime = self.uptime.wrapping_add((STEP / 1_000) as u32);
        self.clock += STEP;
        Sent { bytes, units, flows, sure: first }
    }
}

/// The order in which what was sent arrives, by index, and how many units never do. Each of `sent` that is sure stays
/// where it is; what is late or doubled stays between its neighbours that are sure and within the window.
fn arrivals(sent: &[Sent], rng: &mut Rng, doubles: bool) -> (Vec<usize>, i64) {
    let (mut lost, mut places) = (0, Vec::new());
    let end = sent.len() - 1;
    for (index, datagram) in sent.iter().enumerate() {
        // Halves, so that what is late comes after the one whose place it takes, but before the last one.
        let late = |rng: &mut Rng, from: usize| (2 * (from + rng.usize(1..=LATE)) + 1).min(2 * end - 1);
        match if datagram.sure || index == end { 9 } else { rng.u8(0..10) } {
            0 | 1 => lost += i64::from(datagram.units),
            2 | 3 => places.push((late(rng, index), index)),
            4 if doubles => places.extend([(2 * index, index), (late(rng, index), index)]),
            _ => places.push((2 * index, index)),
        }
    }
    places.sort_unstable();
    // Others that are late, too, may come in between: nothing arrives more than the window behind the first one sent later.
    let mut order: Vec<usize> = Vec::with_capacity(places.len());
    for (_, index) in places {
        let overtaken = order.iter().position(|other| *other >= index);
        if overtaken.is_none_or(|first| order.len() - first <= LATE) {
            order.push(index);
        } else if !order.contains(&index) {
            lost += i64::from(sent[index].units);
        }
    }
    (order, lost)
}

fn play(protocol: Protocol, seed: u64) {
    let rng = &mut Rng::with_seed(seed);
    let restarts = rng.bool();
    let collector_restarts = rng.u8(0..4) == 0;
    let number = match (protocol, restarts) {
        (Protocol::Ipfix, true) => rng.u32(1 << 16..u32::MAX - (1 << 21)),
        _ if rng.bool() => 0u32.wrapping_sub(rng.u32(0..300)),
        _ => rng.u32(..),
    };
    // Away from the wrap of the uptime when there is a restart, so that it is not taken for the wrap.
    const HOURS: u32 = 3 * 3_600_000;
    let uptime = if restarts { rng.u32(HOURS..u32::MAX - HOURS) } else { 0u32.wrapping_sub(rng.u32(0..20_000)) };
    let mut exporter = Exporter { protocol, number, uptime, clock: 0, next_flow: 1 };
    let mut bench = Bench::new();
    let (mut told, mut lost, mut expected) = (0i64, 0i64, Vec::<u32>::new());
    for part in 0..=u8::from(restarts) {
        if part > 0 {
            let pause = rng.i64(30..600);
            exporter.clock += pause * 1_000_000;
            exporter.uptime = rng.u32(0..30_000);
            exporter.number = if protocol == Protocol::Ipfix || rng.bool() { 0 } else { rng.u32(..) };
        }
        // The first ones bring the templates and, in IPFIX, show the restart.
        let sure = if protocol == Protocol::Ipfix && part > 0 { 3 } else { 1 };
        let began = exporter.clock;
        let sent: Vec<_> = (0..rng.usize(10..90)).map(|index| exporter.send(rng, index < sure)).collect();
        let (order, missing) = arrivals(&sent, rng, !collector_restarts);
        lost += missing;
        let restart_at = rng.usize(0..order.len());
        let mut came = vec![false; sent.len()];
        for (place, &index) in order.iter().enumerate() {
            if collector_restarts && place == restart_at {
                let states = bench.decoder.take_changes();
                let batch = std::mem::take(&mut bench.batch);
                bench = Bench { batch, ..Bench::new() };
                assert_eq!(bench.decoder.restore(states), 0);
            }
            let context = context_of(1, 9_999, NOW + began + place as i64 * STEP);
            let outcome = bench.decode_as(&context, &sent[index].bytes);
            told += outcome.lost.count;
            let again = std::mem::replace(&mut came[index], true);
            // Messages without records may be alike, and one of them more or less changes nothing.
            if sent[index].units > 0 {
                let rejected = again.then_some(Reason::Duplicate);
                assert_eq!(outcome.rejected, rejected, "{protocol:?}, seed {seed}, datagram {index} at place {place}");
            }
            if !again {
                expected.extend(&sent[index].flows);
            }
        }
    }
    assert_eq!(told, lost, "{protocol:?}, seed {seed}: the loss told is not what was lost");
    let Values::U64(flows) = bench.batch.column(Field::InBytes).values() else { panic!("octets are numbers") };
    let mut flows: Vec<u32> = flows.iter().map(|flow| *flow as u32).collect();
    flows.sort_unstable();
    expected.sort_unstable();
    assert_eq!(flows, expected, "{protocol:?}, seed {seed}: flows");
}

fn play_all(protocol: Protocol) {
    match std::env::var("FLOWLEDGER_SEED").map(|seed| seed.parse()) {
        Ok(seed) => play(protocol, seed.unwrap()),
        Err(_) => (0..HISTORIES.div_ceil(PROTOCOLS)).for_each(|seed| play(protocol, seed)),
    }
}

#[test]
fn lost_flows_are_counted_exactly_in_v5() {
    play_all(Protocol::V5);
}

#[test]
fn lost_datagrams_are_counted_exactly_in_v9() {
    play_all(Protocol::V9);
}

#[test]
fn lost_records_are_counted_exactly_in_ipfix() {
    play_all(Protocol::Ipfix);
}

#[test]
fn lost_flows_are_counted_exactly_in_v7() {
    play_all(Protocol::V7);
}

#[test]
fn lost_datagrams_are_counted_exactly_in_sflow() {
    play_all(Protocol::Sflow);
}
