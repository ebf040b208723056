//! NetFlow v1, v5 and v7: a header and records of a fixed layout (Cisco, "NetFlow Export Datagram Formats").
//!
//! A layout is a template like any other, compiled once; they differ in a table. All or nothing: a count that is not the
//! datagram's length rejects it. The sequence number of v5 and v7 counts flows for each engine (v7 knows no engines);
//! v1 has none, so that nothing can be told about what v1 loses or repeats.

use super::copy::{Origin, copy};
use super::plan::Plan;
use super::reader::Reader;
use super::reason::Reason;
use super::sampling::Sampling;
use super::sequence::Arrival;
use super::sessions::SessionKey;
use super::split::split;
use super::templates::FieldSpecifier;
use super::times::Base;
use super::{Context, Decoder, Loss, LossUnit, Outcome, Version};
use crate::clock::SECOND;
use crate::flow::batch::FlowBatch;
use std::sync::LazyLock;

/// Information elements with their widths in bytes; element 0 is padding.
type Fields = [(u16, u16)];

/// How a version lays out its datagrams.
#[derive(Debug)]
struct Layout {
    version: Version,
    /// Bytes of the header.
    header: usize,
    /// Bytes of a record.
    record: usize,
    /// The most records a datagram holds.
    most: u16,
    /// The fields after those that all begin with.
    tail: &'static Fields,
}

impl Layout {
    /// Whether the datagram has a header of this version and is as long as its count says.
    fn fits(&self, version: Version, datagram: &[u8]) -> bool {
        let mut reader = Reader::new(datagram);
        let (_, count) = (reader.u16(), reader.u16().unwrap_or(0));
        let length = usize::from(count).saturating_mul(self.record).saturating_add(self.header);
        version == self.version && (1..=self.most).contains(&count) && length == datagram.len()
    }
}

/// What all records begin with.
const HEAD: &Fields = &[(8, 4), (12, 4), (15, 4), (10, 2), (14, 2), (2, 4), (1, 4), (22, 4), (21, 4), (7, 2), (11, 2)];

/// Exporters of v1 and v7 send more than the 24 and 27 records that Cisco allows, and nothing is ambiguous about that.
static LAYOUTS: [Layout; 4] = [
    Layout {
        version: Version::V1,
        header: 16,
        record: 48,
        most: u16::MAX,
        tail: &[(0, 2), (4, 1), (5, 1), (6, 1), (0, 7)],
    },
    // As Extreme Networks has it ("Packet Over SONET Module Installation and User Guide", table 3-12).
    Layout {
        version: Version::V1,
        header: 16,
        record: 52,
        most: u16::MAX,
        tail: &[(0, 2), (4, 1), (5, 1), (6, 1), (0, 11)],
    },
    Layout {
        version: Version::V5,
        header: 24,
        record: 48,
        most: 30,
        tail: &[(0, 1), (6, 1), (4, 1), (5, 1), (16, 2), (17, 2), (9, 1), (13, 1), (0, 2)],
    },
    // The last 6 bytes are flags, and the router whose work the switch does.
    Layout {
        version: Version::V7,
        header: 24,
        record: 52,
        most: u16::MAX,
        tail: &[(0, 1), (6, 1), (4, 1), (5, 1), (16, 2), (17, 2), (9, 1), (13, 1), (0, 6)],
    },
];

/// The plans for the records of each layout.
static PLANS: LazyLock<[Plan; 4]> = LazyLock::new(|| {
    LAYOUTS.each_ref().map(|layout| {
        let fields = HEAD.iter().chain(layout.tail);
        let fields: Vec<_> = fields.map(|&(id, length)| FieldSpecifier { enterprise: 0, id, length }).collect();
        let plan = Plan::compile(&fields);
        debug_assert_eq!(plan.record_length, layout.record);
        plan
    })
});

/// Whether the datagram is as long as its header and the count in it say.
pub(super) fn check(version: Version, datagram: &[u8]) -> Result<(), Reason> {
    let mut layouts = LAYOUTS.iter().filter(|layout| layout.version == version);
    if layouts.clone().any(|layout| datagram.len() < layout.header) {
        Err(Reason::TooShort)
    } else if layouts.any(|layout| layout.fits(version, datagram)) {
        Ok(())
    } else {
        Err(Reason::CountLie)
    }
}

struct Header {
    uptime: u32,
    export: i64,
    /// `None` in v1.
    sequence: Option<u32>,
    /// Engine type and number, of v5 only.
    engine: u16,
    /// Out of how many packets one is looked at, if v5 says so.
    sampling: Option<u32>,
}

fn header(version: Version, reader: &mut Reader<'_>) -> Option<Header> {
    let (_version, _count) = (reader.u16()?, reader.u16()?);
    let uptime = reader.u32()?;
    let (seconds, nanoseconds) = (i64::from(reader.u32()?), i64::from(reader.u32()?));
    let export = seconds.saturating_mul(SECOND).saturating_add(nanoseconds / 1_000);
    let sequence = if version == Version::V1 { None } else { Some(reader.u32()?) };
    let (engine, sampling) = match version {
        Version::V1 => (0, 0),
        Version::V5 => (reader.u16()?, reader.u16()?),
        _ => {
            let _reserved = reader.u32()?;
            (0, 0)
        }
    };
    // The upper two bits are the mode; some routers leave it 0 and sample all the same.
    let interval = u32::from(sampling & 0x3fff);
    Some(Header { uptime, export, sequence, engine, sampling: (interval > 0).then_some(interval) })
}

impl Decoder {
    /// Decodes a datagram that [`check`] found good.
    pub(super) fn decode_fixed(
        &mut self,
        version: Version,
        context: &Context,
        datagram: &[u8],
        batch: &mut FlowBatch,
    ) -> Outcome {
        let mut reader = Reader::new(datagram);
        let fitting = LAYOUTS.iter().zip(PLANS.iter()).find(|(layout, _)| layout.fits(version, datagram));
        let (Some((_, plan)), Some(header)) = (fitting, header(version, &mut reader)) else {
            return Outcome::rejected(Some(version), Reason::CountLie);
        };
        let observation_domain = header.engine.into();
        let key = SessionKey {
            exporter_id: context.exporter_id,
            transport: context.transport,
            source_port: context.source.port(),
            version,
            observation_domain,
        };
        let mut outcome = Outcome::new(version);
        let limit = self.sessions.limits().records_per_datagram;
        let Some(session) = self.sessions.open(key, context.received).and_then(|slot| self.sessions.get_mut(slot))
        else {
            return Outcome::rejected(Some(version), Reason::SessionLimit);
        };
        if session.restarted(header.uptime, context.received) {
            session.sequence.begin(None);
            outcome.restarted = true;
        }
        let split = split(plan, reader.rest(), &mut self.memory);
        if let Some(number) = header.sequence {
            let arrival = session.sequence.arrive(number, crc32c::crc32c(datagram));
            if arrival == Arrival::Duplicate {
                return Outcome::rejected(Some(version), Reason::Duplicate);
            }
            let units = u32::try_from(split.records.count).unwrap_or(u32::MAX);
            let change = session.sequence.complete(number, arrival, Some(units), context.received);
            outcome.lost = Loss::of(LossUnit::Flows, change);
        }
        let kept = split.records.limit(limit);
        let origin = Origin {
            exporter_id: context.exporter_id,
            observation_domain,
            base: Base { received: context.received.micros(), export: header.export, uptime: Some(header.uptime) },
        };
        let sampling = Sampling { configured: context.sampling, header: header.sampling, rates: None };
        let corrected = copy(plan, &kept, &origin, &sampling, &mut self.times, batch);
        outcome.clock_offset_ms = Some(origin.base.clock_offset_ms());
        outcome.records = u32::try_from(kept.count).unwrap_or(u32::MAX);
        outcome.count(Reason::OutputLimit, split.records.count.saturating_sub(kept.count));
        outcome.count(Reason::TimeFixed, corrected);
        outcome
    }
}
