//! Exporters that are simulated: each flow has a number of its own as its bytes, so that it is known again wherever it is.
//!
//! Datagrams get lost on the way and overtake each other, templates come late and change, exporters restart. None comes
//! twice, because a restart forgets what had come lately (`wire` says so).

use crate::clock::{SECOND, Timestamp};
use std::net::{Ipv4Addr, SocketAddr};

/// What an exporter speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    V5,
    V9,
    Ipfix,
    /// IPFIX in a stream.
    Stream,
}

/// One exporter.
pub(super) struct Exporter {
    pub(super) kind: Kind,
    pub(super) source: SocketAddr,
    /// Whether its stream is open.
    pub(super) connected: bool,
    sequence: u32,
    /// In which order its template names the counters, once it was sent.
    layout: Option<bool>,
    /// A datagram that is overtaken by the next one.
    held: Option<Vec<u8>>,
}

fn be(number: u64, width: usize) -> Vec<u8> {
    number.to_be_bytes()[8 - width..].to_vec()
}

impl Exporter {
    pub(super) fn new(number: u8, kind: Kind) -> Self {
        let source = SocketAddr::new(Ipv4Addr::new(192, 0, 2, number).into(), 2_000 + u16::from(number));
        Self { kind, source, connected: false, sequence: 1_000, layout: None, held: None }
    }

    /// A stream begins: nothing of an earlier one holds.
    pub(super) fn connect(&mut self) {
        (self.connected, self.sequence, self.layout) = (true, 0, None);
    }

    /// What it sends next, if it arrives. `next_flow` numbers the flows.
    pub(super) fn send(&mut self, random: &mut fastrand::Rng, now: Timestamp, next_flow: &mut u32) -> Option<Vec<u8>> {
        let in_order = self.kind == Kind::Stream;
        if !in_order && random.u8(0..100) == 0 {
            (self.sequence, self.layout) = (random.u32(0..10), None);
        }
        let datagram = self.datagram(random, now, next_flow);
        match random.u8(0..20) {
            0 if !in_order => None,
            1 if !in_order && self.held.is_none() => {
                self.held = Some(datagram);
                None
            }
            _ => Some(datagram),
        }
    }

    /// What was overtaken and arrives now.
    pub(super) fn late(&mut self) -> Option<Vec<u8>> {
        self.held.take()
    }

    fn datagram(&mut self, random: &mut fastrand::Rng, now: Timestamp, next_flow: &mut u32) -> Vec<u8> {
        let flows: Vec<u32> = (0..random.u32(1..4)).map(|ahead| *next_flow + ahead).collect();
        *next_flow += flows.len() as u32;
        let seconds = be((now.micros() / SECOND) as u64, 4);
        if self.kind == Kind::V5 {
            return self.v5(&seconds, &flows);
        }
        let ipfix = self.kind != Kind::V9;
        let mut sets = Vec::new();
        let mut records = 0;
        // The template comes late, or comes again, or changes.
        let chance = if self.layout.is_some() { 12 } else { 3 };
        if random.u8(0..chance) == 0 || self.kind == Kind::Stream && self.layout.is_none() {
            let layout = random.bool();
            self.layout = Some(layout);
            let counters = if layout { [(1, 4), (2, 4)] } else { [(2, 4), (1, 4)] };
            let mut body = [be(256, 2), be(4, 2)].concat();
            for (element, width) in [(8, 4), counters[0], counters[1], (4, 1)] {
                body.extend([be(element, 2), be(width, 2)].concat());
            }
            sets.extend([be(if ipfix { 2 } else { 0 }, 2), be(body.len() as u64 + 4, 2), body].concat());
            records += 1;
        }
        let layout = self.layout.unwrap_or(true);
        let mut body = Vec::new();
        for &flow in &flows {
            let (bytes, packets) = (be(flow.into(), 4), be(1, 4));
            let counters = if layout { [bytes, packets] } else { [packets, bytes] };
            body.extend([be(0x0a00_0001, 4), counters.concat(), be(6, 1)].concat());
        }
        body.resize(body.len().next_multiple_of(4), 0);
        sets.extend([be(256, 2), be(body.len() as u64 + 4, 2), body].concat());
        records += flows.len() as u64;
        let sequence = be(self.sequence.into(), 4);
        let head = if ipfix {
            self.sequence = self.sequence.wrapping_add(flows.len() as u32);
            [be(10, 2), be(sets.len() as u64 + 16, 2), seconds, sequence].concat()
        } else {
            self.sequence = self.sequence.wrapping_add(1);
            [be(9, 2), be(records, 2), be(100_000, 4), seconds, sequence].concat()
        };
        [head, be(7, 4), sets].concat()
    }

    fn v5(&mut self, seconds: &[u8], flows: &[u32]) -> Vec<u8> {
        let mut out = [be(5, 2), be(flows.len() as u64, 2), be(100_000, 4), seconds.to_vec(), be(0, 4)].concat();
        out.extend([be(self.sequence.into(), 4), be(0, 4)].concat());
        for &flow in flows {
            out.extend([be(0x0a00_0001, 4), be(0x0a00_0002, 4), be(0, 4), be(0, 4)].concat());
            out.extend([be(1, 4), be(flow.into(), 4), be(90_000, 4), be(95_000, 4), vec![0; 16]].concat());
        }
        self.sequence = self.sequence.wrapping_add(flows.len() as u32);
        out
    }
}
