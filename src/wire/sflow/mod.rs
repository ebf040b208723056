//! sFlow version 5 (sflow.org, "sFlow Version 5", 2004): samples of single packets, and counters of interfaces.
//!
//! A flow sample becomes one flow of one packet, whatever its packet was; a counter sample becomes facts about the exporter.
//! Where samples end is told by their lengths; no more are read than the header says. A sample is taken whole or not at all;
//! samples and records of formats that are not read here are skipped by their lengths. The exporter is the agent that
//! the header names, not whoever sent the datagram on. The sequence number counts datagrams of a sub-agent; the numbers of
//! single samples are not followed, because a lost datagram explains all gaps in them and an agent's own drops are told apart.

mod counters;
mod records;
mod sample;

use super::facts::Facts;
use super::reader::Reader;
use super::reason::Reason;
use super::row::{self, Row};
use super::sampling::Sampling;
use super::sequence::Arrival;
use super::sessions::SessionKey;
use super::{Context, Decoder, Loss, LossUnit, Outcome, Version};
use crate::flow::batch::FlowBatch;
use crate::flow::facts::Fact;
use crate::flow::fields::Field;
use crate::flow::value::{address_from_wide, wide_from_v4};
use std::net::IpAddr;

/// The statistic of packets that an agent could not sample for lack of resources.
const DROPPED: &str = "sflowDroppedSamples";

/// Whether the datagram begins as one of sFlow version 5 does: 5 in four bytes, then a kind of address that exists.
pub(super) fn begins(datagram: &[u8]) -> bool {
    let mut reader = Reader::new(datagram);
    reader.u32() == Some(5) && reader.u32().is_none_or(|kind| kind <= 2)
}

/// Whether there is a whole header.
pub(super) fn check(datagram: &[u8]) -> Result<(), Reason> {
    header(&mut Reader::new(datagram)).map(drop).ok_or(Reason::TooShort)
}

/// The address of the exporter that a datagram from `source` tells of: sFlow's agent, if it names one that can be an
/// exporter's (not unspecified, loopback, broadcast or multicast), else `source`.
pub fn exporter_address(datagram: &[u8], source: IpAddr) -> IpAddr {
    if !begins(datagram) {
        return source;
    }
    let agent = header(&mut Reader::new(datagram)).and_then(|header| header.agent).map(address_from_wide);
    let usable = |agent: &IpAddr| {
        let broadcast = matches!(agent, IpAddr::V4(v4) if v4.is_broadcast());
        !(broadcast || agent.is_unspecified() || agent.is_loopback() || agent.is_multicast())
    };
    agent.filter(usable).unwrap_or(source)
}

struct Header {
    /// The agent's address in 128 bits, unless it does not tell one.
    agent: Option<u128>,
    sub_agent: u32,
    sequence: u32,
    uptime: u32,
    samples: u32,
}

fn header(reader: &mut Reader<'_>) -> Option<Header> {
    let _version = reader.u32()?;
    Some(Header {
        agent: address(reader)?,
        sub_agent: reader.u32()?,
        sequence: reader.u32()?,
        uptime: reader.u32()?,
        samples: reader.u32()?,
    })
}

/// An address with its kind before it, as 128 bits; of the kind "unknown" there is none.
fn address(reader: &mut Reader<'_>) -> Option<Option<u128>> {
    match reader.u32()? {
        0 => Some(None),
        1 => Some(Some(wide_from_v4(reader.u32()?))),
        2 => Some(Some(reader.array().map(u128::from_be_bytes)?)),
        _ => None,
    }
}

/// The next `length` bytes, and past what fills them up to four (RFC 4506, 4.10).
fn opaque<'a>(reader: &mut Reader<'a>, length: u32) -> Option<&'a [u8]> {
    let length = usize::try_from(length).ok()?;
    let taken = reader.take(length)?;
    let filling = length.wrapping_neg() % 4;
    reader.take(filling.min(reader.len()))?;
    Some(taken)
}

/// What the samples of a datagram go into.
struct Samples<'a> {
    context: &'a Context,
    sub_agent: u32,
    /// How many flows one datagram may hold.
    limit: usize,
    /// How many facts may wait.
    facts_limit: usize,
    facts: &'a mut Facts,
    rows: &'a mut Vec<Row>,
    outcome: &'a mut Outcome,
    /// The drops of the last flow sample.
    dropped: Option<u32>,
}

impl Samples<'_> {
    /// Reads `count` samples, or as many as there are.
    fn read(&mut self, count: u32, reader: &mut Reader<'_>) {
        for _ in 0..count {
            if reader.len() == 0 {
                return self.outcome.count(Reason::CountDiffers, 1);
            }
            let (Some(format), Some(length)) = (reader.u32(), reader.u32()) else {
                return self.outcome.count_set(Reason::SetLength);
            };
            let Some(body) = opaque(reader, length) else {
                return self.outcome.count_set(Reason::SetOverrun);
            };
            self.outcome.sets = self.outcome.sets.saturating_add(1);
            match format {
                1 => self.flow(false, body),
                2 => self.counters(false, body),
                3 => self.flow(true, body),
                4 => self.counters(true, body),
                _ => self.outcome.count(Reason::SetReserved, 1),
            }
        }
        self.outcome.count(Reason::CountDiffers, usize::from(!reader.is_padding()));
    }

    /// Notes the flow of a flow sample.
    fn flow(&mut self, expanded: bool, body: &[u8]) {
        if self.outcome.records as usize >= self.limit {
            return self.outcome.count(Reason::OutputLimit, 1);
        }
        self.rows.push(Row::default());
        let sample = self.rows.last_mut().and_then(|row| Some((sample::read(expanded, body, row)?, row)));
        let Some((sample, row)) = sample else {
            self.rows.pop();
            return self.outcome.count(Reason::SetOverrun, 1);
        };
        let header = (sample.rate > 0).then_some(sample.rate);
        row.sampling_interval = Sampling { configured: self.context.sampling, header, rates: None }.general();
        self.dropped = Some(sample.dropped);
        self.outcome.records = self.outcome.records.saturating_add(1);
        self.outcome.count(Reason::FieldWidth, sample.unreadable);
        self.outcome.count(Reason::Suspect, usize::from(sample.trailing));
    }

    /// Takes the facts of a counter sample.
    fn counters(&mut self, expanded: bool, body: &[u8]) {
        let Some(sample) = counters::read(expanded, body) else {
            return self.outcome.count(Reason::SetOverrun, 1);
        };
        for fact in sample.facts.into_iter().flatten() {
            self.learn(fact);
        }
        self.outcome.count(Reason::FieldWidth, sample.unreadable);
        self.outcome.count(Reason::Suspect, usize::from(sample.trailing));
    }

    /// Remembers a fact, or counts that there was no room for it.
    fn learn(&mut self, fact: Fact) {
        let learnt = self.facts.learn(self.facts_limit, self.context.exporter_id, fact);
        self.outcome.count(Reason::FactLimit, usize::from(!learnt));
    }

    /// Adds the flows to `batch`.
    fn write(&self, batch: &mut FlowBatch) {
        let count = self.rows.len();
        if count == 0 {
            return;
        }
        let first = batch.add_rows(count);
        row::write(self.rows, batch, first, |_| false);
        for field in [Field::Received, Field::FirstSeen, Field::LastSeen] {
            batch.column_mut(field).time_run(first, count).fill(self.context.received.micros());
        }
        batch.column_mut(Field::ExporterId).u32_run(first, count).fill(self.context.exporter_id);
        batch.column_mut(Field::ObservationDomain).u32_run(first, count).fill(self.sub_agent);
        batch.column_mut(Field::InPackets).u64_run(first, count).fill(1);
    }
}

impl Decoder {
    /// Decodes a datagram that [`check`] found good.
    pub(super) fn decode_sflow(&mut self, context: &Context, datagram: &[u8], batch: &mut FlowBatch) -> Outcome {
        let mut reader = Reader::new(datagram);
        let Some(header) = header(&mut reader) else {
            return Outcome::rejected(Some(Version::Sflow), Reason::TooShort);
        };
        let key = SessionKey {
            exporter_id: context.exporter_id,
            transport: context.transport,
            // Agent and sub-agent tell sessions apart, also behind a relay and after the agent chose another port.
            source_port: 0,
            version: Version::Sflow,
            observation_domain: header.sub_agent,
        };
        let mut outcome = Outcome::new(Version::Sflow);
        let (limit, facts_limit) = (self.sessions.limits().records_per_datagram, self.sessions.limits().facts);
        let Some(session) = self.sessions.open(key, context.received).and_then(|slot| self.sessions.get_mut(slot))
        else {
            return Outcome::rejected(Some(Version::Sflow), Reason::SessionLimit);
        };
        if session.restarted(header.uptime, context.received) {
            session.sequence.begin(None);
            outcome.restarted = true;
        }
        let arrival = session.sequence.arrive(header.sequence, crc32c::crc32c(datagram));
        if arrival == Arrival::Duplicate {
            return Outcome::rejected(Some(Version::Sflow), Reason::Duplicate);
        }
        let change = session.sequence.complete(header.sequence, arrival, Some(1), context.received);
        outcome.lost = Loss::of(LossUnit::Datagrams, change);
        self.rows.clear();
        let mut samples = Samples {
            context,
            sub_agent: header.sub_agent,
            limit,
            facts_limit,
            facts: &mut self.facts,
            rows: &mut self.rows,
            outcome: &mut outcome,
            dropped: None,
        };
        samples.read(header.samples, &mut reader);
        samples.write(batch);
        if let Some(dropped) = samples.dropped {
            let (observation_domain, value) = (header.sub_agent, dropped.into());
            samples.learn(Fact::Statistic { observation_domain, statistic: DROPPED, value });
        }
        outcome
    }
}
