//! NetFlow v5: a header and up to 30 records of one fixed layout.
//!
//! The layout is a template like any other, compiled once. All or nothing: a count that is not the datagram's length
//! rejects it. The sequence number counts flows for each engine.

use super::copy::{Origin, copy};
use super::plan::{Layout, Plan, split};
use super::reader::Reader;
use super::reason::Reason;
use super::sampling::Sampling;
use super::sequence::Arrival;
use super::sessions::SessionKey;
use super::templates::FieldSpecifier;
use super::times::Base;
use super::{Context, Decoder, Loss, LossUnit, Outcome, Version};
use crate::clock::SECOND;
use crate::flow::batch::FlowBatch;

/// Bytes of the header.
pub(super) const HEADER: usize = 24;
/// Bytes of a record.
const RECORD: usize = 48;
/// The most records one datagram holds.
const MAX_RECORDS: usize = 30;

/// The record's fields as information elements with their widths; 0 is padding.
const RECORD_FIELDS: [(u16, u16); 20] = [
    (8, 4),
    (12, 4),
    (15, 4),
    (10, 2),
    (14, 2),
    (2, 4),
    (1, 4),
    (22, 4),
    (21, 4),
    (7, 2),
    (11, 2),
    (0, 1),
    (6, 1),
    (4, 1),
    (5, 1),
    (16, 2),
    (17, 2),
    (9, 1),
    (13, 1),
    (0, 2),
];

/// The plan for v5 records.
pub(super) fn plan() -> Plan {
    let plan = Plan::compile(&RECORD_FIELDS.map(|(id, length)| FieldSpecifier { enterprise: 0, id, length }));
    debug_assert_eq!((plan.record_length, &plan.layout), (RECORD, &Layout::Fixed));
    plan
}

/// Whether the count in the header is the datagram's.
pub(super) fn check(datagram: &[u8]) -> Result<(), Reason> {
    let mut reader = Reader::new(datagram);
    let (_, count) = (reader.u16(), usize::from(reader.u16().unwrap_or(0)));
    let length = count.saturating_mul(RECORD).saturating_add(HEADER);
    if (1..=MAX_RECORDS).contains(&count) && length == datagram.len() { Ok(()) } else { Err(Reason::CountLie) }
}

struct Header {
    uptime: u32,
    export: i64,
    sequence: u32,
    engine: u16,
    sampling: Option<u32>,
}

fn header(reader: &mut Reader<'_>) -> Option<Header> {
    let (_version, _count) = (reader.u16()?, reader.u16()?);
    let uptime = reader.u32()?;
    let (seconds, nanoseconds) = (i64::from(reader.u32()?), i64::from(reader.u32()?));
    let sequence = reader.u32()?;
    let engine = reader.u16()?;
    // The upper two bits are the mode, which changes nothing.
    let sampling = Some(u32::from(reader.u16()? & 0x3fff)).filter(|interval| *interval > 0);
    let export = seconds.saturating_mul(SECOND).saturating_add(nanoseconds / 1_000);
    Some(Header { uptime, export, sequence, engine, sampling })
}

impl Decoder {
    /// Decodes a datagram that [`check`] found good.
    pub(super) fn decode_v5(&mut self, context: &Context, datagram: &[u8], batch: &mut FlowBatch) -> Outcome {
        let mut reader = Reader::new(datagram);
        let Some(header) = header(&mut reader) else { return Outcome::rejected(Some(Version::V5), Reason::TooShort) };
        let key = SessionKey {
            exporter_id: context.exporter_id,
            transport: context.transport,
            source_port: context.source.port(),
            version: Version::V5,
            observation_domain: header.engine.into(),
        };
        let mut outcome = Outcome::new(Version::V5);
        let limit = self.sessions.limits().records_per_datagram;
        let Some(session) = self.sessions.open(key, context.received).and_then(|slot| self.sessions.get_mut(slot))
        else {
            return Outcome::rejected(Some(Version::V5), Reason::SessionLimit);
        };
        if session.restarted(header.uptime, context.received) {
            session.sequence.begin(None);
            outcome.restarted = true;
        }
        let arrival = session.sequence.arrive(header.sequence, crc32c::crc32c(datagram));
        if arrival == Arrival::Duplicate {
            return Outcome::rejected(Some(Version::V5), Reason::Duplicate);
        }
        let split = split(&self.v5, reader.rest(), &mut self.memory);
        let kept = split.records.limit(limit);
        let origin = Origin {
            exporter_id: context.exporter_id,
            observation_domain: header.engine.into(),
            base: Base { received: context.received.micros(), export: header.export, uptime: Some(header.uptime) },
        };
        outcome.clock_offset_ms = Some(origin.base.clock_offset_ms());
        let sampling = Sampling { configured: context.sampling, header: header.sampling, rates: None };
        let corrected = copy(&self.v5, &kept, &origin, &sampling, &mut self.times, batch);
        let units = u32::try_from(split.records.count).unwrap_or(u32::MAX);
        outcome.records = u32::try_from(kept.count).unwrap_or(u32::MAX);
        outcome.count(Reason::OutputLimit, split.records.count.saturating_sub(kept.count));
        outcome.count(Reason::TimeFixed, corrected);
        outcome.lost =
            Loss { unit: LossUnit::Flows, count: session.sequence.complete(header.sequence, arrival, Some(units)) };
        outcome
    }
}
