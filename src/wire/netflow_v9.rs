//! NetFlow v9 (RFC 3954): a header of 20 bytes and FlowSets.
//!
//! Where records end is told by lengths alone; the header's count is only compared. The sequence number counts datagrams
//! of a source id. An uptime that goes back means a restart: templates are void (RFC 3954, 9) and no loss is claimed.

use super::copy::Origin;
use super::reader::Reader;
use super::reason::Reason;
use super::sequence::Arrival;
use super::sessions::SessionKey;
use super::sets::Message;
use super::times::Base;
use super::{Context, Decoder, Loss, LossUnit, Outcome, Version};
use crate::clock::SECOND;
use crate::flow::batch::FlowBatch;

/// Bytes of the header.
pub(super) const HEADER: usize = 20;

struct Header {
    count: u16,
    uptime: u32,
    seconds: u32,
    sequence: u32,
    source_id: u32,
}

fn header(reader: &mut Reader<'_>) -> Option<Header> {
    let _version = reader.u16()?;
    Some(Header {
        count: reader.u16()?,
        uptime: reader.u32()?,
        seconds: reader.u32()?,
        sequence: reader.u32()?,
        source_id: reader.u32()?,
    })
}

impl Decoder {
    /// Decodes a datagram of at least [`HEADER`] bytes.
    pub(super) fn decode_v9(&mut self, context: &Context, datagram: &[u8], batch: &mut FlowBatch) -> Outcome {
        let mut reader = Reader::new(datagram);
        let Some(header) = header(&mut reader) else { return Outcome::rejected(Some(Version::V9), Reason::TooShort) };
        let key = SessionKey {
            exporter_id: context.exporter_id,
            transport: context.transport,
            source_port: context.source.port(),
            version: Version::V9,
            observation_domain: header.source_id,
        };
        let mut outcome = Outcome::new(Version::V9);
        let Some(slot) = self.sessions.open(key, context.received) else {
            return Outcome::rejected(Some(Version::V9), Reason::SessionLimit);
        };
        let restarted = self.sessions.get_mut(slot).is_some_and(|it| it.restarted(header.uptime, context.received));
        if restarted {
            self.sessions.undefine_all(slot);
            self.parking.forget(&key);
            outcome.restarted = true;
        }
        let Some(session) = self.sessions.get_mut(slot) else {
            return Outcome::rejected(Some(Version::V9), Reason::SessionLimit);
        };
        if restarted {
            session.sequence.begin(None);
        }
        let arrival = session.sequence.arrive(header.sequence, crc32c::crc32c(datagram));
        if arrival == Arrival::Duplicate {
            return Outcome::rejected(Some(Version::V9), Reason::Duplicate);
        }
        let export = i64::from(header.seconds).saturating_mul(SECOND);
        let origin = Origin {
            exporter_id: context.exporter_id,
            observation_domain: header.source_id,
            base: Base { received: context.received.micros(), export, uptime: Some(header.uptime) },
        };
        outcome.clock_offset_ms = Some(origin.base.clock_offset_ms());
        let message = Message { version: Version::V9, slot, origin, sampling: context.sampling };
        let found = self.read_sets(&message, reader.rest(), batch, &mut outcome);
        let counted = found.records.map(|records| records.saturating_add(found.definitions));
        outcome.count(
            Reason::CountDiffers,
            usize::from(counted.is_some_and(|counted| counted != u32::from(header.count))),
        );
        if let Some(session) = self.sessions.get_mut(slot) {
            let change = session.sequence.complete(header.sequence, arrival, Some(1), context.received);
            outcome.lost = Loss::of(LossUnit::Datagrams, change);
        }
        outcome
    }
}
