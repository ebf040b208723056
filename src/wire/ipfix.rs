//! IPFIX (RFC 7011) over UDP: one message a datagram, a header of 16 bytes and sets.
//!
//! A length in the header that is not the datagram's discards the message (RFC 7011, 9.1). The sequence number counts data
//! records of an observation domain, options records included; when a set hides how many it has, the next message sets
//! the number anew and no loss is claimed.

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
pub(super) const HEADER: usize = 16;

/// Whether the length in the header is the datagram's.
pub(super) fn check(datagram: &[u8]) -> Result<(), Reason> {
    let mut reader = Reader::new(datagram);
    let (_, length) = (reader.u16(), reader.u16());
    if length.map(usize::from) == Some(datagram.len()) { Ok(()) } else { Err(Reason::LengthMismatch) }
}

struct Header {
    seconds: u32,
    sequence: u32,
    observation_domain: u32,
}

fn header(reader: &mut Reader<'_>) -> Option<Header> {
    let (_version, _length) = (reader.u16()?, reader.u16()?);
    Some(Header { seconds: reader.u32()?, sequence: reader.u32()?, observation_domain: reader.u32()? })
}

impl Decoder {
    /// Decodes a datagram that [`check`] found good.
    pub(super) fn decode_ipfix(&mut self, context: &Context, datagram: &[u8], batch: &mut FlowBatch) -> Outcome {
        let mut reader = Reader::new(datagram);
        let Some(header) = header(&mut reader) else {
            return Outcome::rejected(Some(Version::Ipfix), Reason::TooShort);
        };
        let key = SessionKey {
            exporter_id: context.exporter_id,
            transport: context.transport,
            source_port: context.source.port(),
            version: Version::Ipfix,
            observation_domain: header.observation_domain,
        };
        let mut outcome = Outcome::new(Version::Ipfix);
        let opened = self.sessions.open(key, context.received);
        let Some((slot, session)) = opened.and_then(|slot| Some((slot, self.sessions.get_mut(slot)?))) else {
            return Outcome::rejected(Some(Version::Ipfix), Reason::SessionLimit);
        };
        let arrival = session.sequence.arrive(header.sequence, crc32c::crc32c(datagram));
        if arrival == Arrival::Duplicate {
            return Outcome::rejected(Some(Version::Ipfix), Reason::Duplicate);
        }
        let export = i64::from(header.seconds).saturating_mul(SECOND);
        let origin = Origin {
            exporter_id: context.exporter_id,
            observation_domain: header.observation_domain,
            base: Base { received: context.received.micros(), export, uptime: None },
        };
        outcome.clock_offset_ms = Some(origin.base.clock_offset_ms());
        let message = Message { version: Version::Ipfix, slot, origin, sampling: context.sampling };
        let found = self.read_sets(&message, reader.rest(), batch, &mut outcome);
        if let Some(session) = self.sessions.get_mut(slot) {
            let change = session.sequence.complete(header.sequence, arrival, found.records, context.received);
            outcome.lost = Loss::of(LossUnit::Records, change);
        }
        outcome
    }
}
