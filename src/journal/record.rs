//! One record: what it says, and its bytes as the opening comment of [`super`] fixes them.

use crate::clock::Timestamp;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// The longest payload a record holds, in bytes. No UDP datagram and no IPFIX message is longer.
pub const MAX_PAYLOAD_BYTES: usize = u16::MAX as usize;

/// Bytes of a record before its payload.
pub(super) const HEADER_BYTES: usize = 48;
/// Bytes of the longest record.
pub(super) const MAX_RECORD_BYTES: usize = HEADER_BYTES + MAX_PAYLOAD_BYTES;
/// How every record begins.
pub(super) const MAGIC: [u8; 4] = *b"FLJR";
/// Bytes before those that the checksum covers.
const UNCHECKED_BYTES: usize = 8;

const KIND_DATAGRAM: u8 = 1;
const KIND_DROPPED_BY_KERNEL: u8 = 2;
const KIND_DROPPED_BY_JOURNAL: u8 = 3;
const KIND_MESSAGE: u8 = 4;
const KIND_STREAM_OPENED: u8 = 5;
const KIND_STREAM_CLOSED: u8 = 6;
const KIND_STREAM_CUT: u8 = 7;
const KIND_STOOD_STILL: u8 = 8;

/// One entry of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A datagram, or a message of a stream, as it came.
    Datagram(Datagram<'a>),
    /// A stream began or ended.
    Stream(Stream),
    /// Datagrams that were lost on the way.
    Dropped(Dropped),
}

/// How a datagram came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// By itself.
    Datagram,
    /// As a message of a stream, between the records of the stream's beginning and end.
    Stream,
}

/// A received datagram, or a message that was cut out of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// When it was received, by the collector's clock.
    pub received: Timestamp,
    /// Who sent it. An IPv6 flow label is not kept.
    pub source: SocketAddr,
    /// Which of the collector's listeners received it.
    pub listener: u16,
    /// How it came.
    pub transport: Transport,
    /// Its bytes, at most [`MAX_PAYLOAD_BYTES`].
    pub payload: &'a [u8],
}

/// The beginning or end of a stream, a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// When it was noticed.
    pub received: Timestamp,
    /// Whose stream it is. While it lasts no other stream to the same listener has this source.
    pub source: SocketAddr,
    /// Which of the collector's listeners it came to.
    pub listener: u16,
    /// What happened to it. After a crash the ends of streams are missing.
    pub event: StreamEvent,
}

/// What happens to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEvent {
    /// It began.
    Opened,
    /// It ended, between two messages.
    Closed,
    /// It ended amid a message, broke, or was ended by the collector: more may have been sent than was read.
    Cut,
}

/// Datagrams that were lost before they could be read from the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// When the last of them was received, as far as that is known; otherwise when the loss was noticed. What a full journal
    /// dropped was all received in this hour.
    pub received: Timestamp,
    /// Which listener they came to; 0 when that is not known ([`DropCause::Corrupt`]).
    pub listener: u16,
    /// Where they were lost.
    pub cause: DropCause,
    /// Who sent them, where that is known.
    pub exporter: Option<IpAddr>,
    /// How many datagrams.
    pub count: u64,
}

/// Where datagrams were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropCause {
    /// The socket's receive buffer was full.
    Kernel,
    /// The journal was full, or its disk refused to write.
    JournalFull,
    /// Their records were damaged on disk. The reader tells this; it is never written. The count is exact unless the
    /// damage reaches to the end of a former process's log, where it is one.
    Corrupt {
        /// When the last whole record before them was received.
        since: Timestamp,
    },
    /// Nobody knows how many, so the count is 0: until [`Dropped::received`] the machine or the process stood still, or the
    /// clock was set forward.
    StoodStill {
        /// When it was last seen to go on.
        since: Timestamp,
    },
}

impl Record<'_> {
    /// When it was received.
    pub fn received(&self) -> Timestamp {
        match self {
            Record::Datagram(datagram) => datagram.received,
            Record::Stream(stream) => stream.received,
            Record::Dropped(dropped) => dropped.received,
        }
    }

    /// When the first of what it tells of may have been received.
    pub(super) fn since(&self) -> Timestamp {
        match self {
            Record::Dropped(Dropped { cause: DropCause::StoodStill { since }, .. }) => *since,
            record => record.received(),
        }
    }

    /// Bytes this record takes in the journal.
    pub(super) fn encoded_bytes(&self) -> usize {
        HEADER_BYTES.saturating_add(match self {
            Record::Datagram(datagram) => datagram.payload.len(),
            Record::Stream(_) => 0,
            Record::Dropped(_) => size_of::<u64>(),
        })
    }

    /// Appends this record's bytes to `buffer`, as the record with this number at this position. The payload must have
    /// at most [`MAX_PAYLOAD_BYTES`].
    pub(super) fn encode(&self, seed: u32, position: u64, number: u32, buffer: &mut Vec<u8>) {
        let count;
        let (kind, listener, received, source, payload) = match self {
            Record::Datagram(datagram) => {
                let kind = match datagram.transport {
                    Transport::Datagram => KIND_DATAGRAM,
                    Transport::Stream => KIND_MESSAGE,
                };
                (kind, datagram.listener, datagram.received, Some(datagram.source), datagram.payload)
            }
            Record::Stream(stream) => {
                let kind = match stream.event {
                    StreamEvent::Opened => KIND_STREAM_OPENED,
                    StreamEvent::Closed => KIND_STREAM_CLOSED,
                    StreamEvent::Cut => KIND_STREAM_CUT,
                };
                (kind, stream.listener, stream.received, Some(stream.source), [].as_slice())
            }
            Record::Dropped(dropped) => {
                let kind;
                (kind, count) = match dropped.cause {
                    DropCause::Kernel => (KIND_DROPPED_BY_KERNEL, dropped.count.to_le_bytes()),
                    DropCause::JournalFull | DropCause::Corrupt { .. } => {
                        (KIND_DROPPED_BY_JOURNAL, dropped.count.to_le_bytes())
                    }
                    DropCause::StoodStill { since } => (KIND_STOOD_STILL, since.micros().to_le_bytes()),
                };
                let source = dropped.exporter.map(|address| SocketAddr::new(address, 0));
                (kind, dropped.listener, dropped.received, source, count.as_slice())
            }
        };
        let mut address = [0; 16];
        let (family, port, scope) = match source {
            None => (0, 0, 0),
            Some(SocketAddr::V4(v4)) => {
                if let Some(first) = address.first_chunk_mut::<4>() {
                    *first = v4.ip().octets();
                }
                (4, v4.port(), 0)
            }
            Some(SocketAddr::V6(v6)) => {
                address = v6.ip().octets();
                (6, v6.port(), v6.scope_id())
            }
        };
        let start = buffer.len();
        buffer.extend_from_slice(&MAGIC);
        buffer.extend_from_slice(&[0; 4]);
        buffer.extend_from_slice(&u16::try_from(payload.len()).unwrap_or(u16::MAX).to_le_bytes());
        buffer.extend_from_slice(&listener.to_le_bytes());
        buffer.extend_from_slice(&number.to_le_bytes());
        buffer.extend_from_slice(&received.micros().to_le_bytes());
        buffer.extend_from_slice(&[kind, family]);
        buffer.extend_from_slice(&u16::to_le_bytes(port));
        buffer.extend_from_slice(&u32::to_le_bytes(scope));
        buffer.extend_from_slice(&address);
        buffer.extend_from_slice(payload);
        let record = buffer.get_mut(start..).unwrap_or_default();
        if let Some((head, checked)) = record.split_at_mut_checked(UNCHECKED_BYTES)
            && let Some(checksum) = head.last_chunk_mut::<4>()
        {
            *checksum = checksum_of(seed, position, checked).to_le_bytes();
        }
    }
}

/// The value that begins the checksums of a journal's records.
pub(super) fn seed_of(id: uuid::Uuid) -> u32 {
    crc32c::crc32c(id.as_bytes())
}

/// The checksum of `bytes` in a record at `position`. Positions less than 2^24 apart never share a beginning value, so a
/// record that was moved or copied does not check out.
fn checksum_of(seed: u32, position: u64, bytes: &[u8]) -> u32 {
    let [a, b, c, d, e, f, g, h] = position.to_le_bytes();
    crc32c::crc32c_append(seed ^ u32::from_le_bytes([a, b, c, d]) ^ u32::from_be_bytes([e, f, g, h]), bytes)
}

/// A record that checks out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    /// Bytes from this record to the next.
    pub bytes: usize,
    /// Its number in its run.
    pub number: u32,
    /// Its receive time.
    pub received: Timestamp,
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// They could be one, but there are too few of them: so many are needed.
    Short(usize),
    /// They are none, or a damaged one.
    Damaged,
}

/// Checks whether `bytes` begin with a record that was written at `position`.
pub(super) fn check(bytes: &[u8], seed: u32, position: u64) -> Result<Checked, Fault> {
    let Some(header) = Header::read(bytes) else {
        let begins_well = bytes.iter().zip(MAGIC).all(|(byte, magic)| *byte == magic);
        return Err(if begins_well && bytes.len() < HEADER_BYTES {
            Fault::Short(HEADER_BYTES)
        } else {
            Fault::Damaged
        });
    };
    let length = HEADER_BYTES.saturating_add(usize::from(header.payload_bytes));
    let checked = bytes.get(UNCHECKED_BYTES..length).ok_or(Fault::Short(length))?;
    if checksum_of(seed, position, checked) != header.checksum || decode(bytes).is_none() {
        return Err(Fault::Damaged);
    }
    Ok(Checked { bytes: length, number: header.number, received: header.received })
}

/// The record that `bytes` begin with. They must have passed [`check`]; otherwise the answer means nothing.
pub(super) fn decode(bytes: &[u8]) -> Option<Record<'_>> {
    let header = Header::read(bytes)?;
    let payload = bytes.get(HEADER_BYTES..HEADER_BYTES.saturating_add(usize::from(header.payload_bytes)))?;
    let Header { received, listener, source, .. } = header;
    let dropped = |cause| {
        let count = u64::from_le_bytes(payload.try_into().ok()?);
        let exporter = source.map(|source| source.ip());
        Some(Record::Dropped(Dropped { received, listener, cause, exporter, count }))
    };
    let datagram =
        |transport| Some(Record::Datagram(Datagram { received, listener, source: source?, transport, payload }));
    let stream = |event| Some(Record::Stream(Stream { received, listener, source: source?, event }));
    match header.kind {
        KIND_DATAGRAM => datagram(Transport::Datagram),
        KIND_MESSAGE => datagram(Transport::Stream),
        KIND_STREAM_OPENED => stream(StreamEvent::Opened),
        KIND_STREAM_CLOSED => stream(StreamEvent::Closed),
        KIND_STREAM_CUT => stream(StreamEvent::Cut),
        KIND_STOOD_STILL => {
            let cause =
                DropCause::StoodStill { since: Timestamp::from_micros(i64::from_le_bytes(payload.try_into().ok()?)) };
            Some(Record::Dropped(Dropped { received, listener, cause, exporter: None, count: 0 }))
        }
        KIND_DROPPED_BY_KERNEL => dropped(DropCause::Kernel),
        KIND_DROPPED_BY_JOURNAL => dropped(DropCause::JournalFull),
        _ => None,
    }
}

/// A record's bytes before its payload.
struct Header {
    checksum: u32,
    payload_bytes: u16,
    listener: u16,
    number: u32,
    received: Timestamp,
    kind: u8,
    source: Option<SocketAddr>,
}

impl Header {
    /// `None` when there are too few bytes, no magic, or an unknown address family.
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes.get(..HEADER_BYTES)?);
        if fields.take()? != MAGIC {
            return None;
        }
        let checksum = fields.u32()?;
        let payload_bytes = fields.u16()?;
        let listener = fields.u16()?;
        let number = fields.u32()?;
        let received = Timestamp::from_micros(i64::from_le_bytes(fields.take()?));
        let [kind, family] = fields.take()?;
        let port = fields.u16()?;
        let scope = fields.u32()?;
        let address: [u8; 16] = fields.take()?;
        let source = match family {
            0 => None,
            4 => {
                let [a, b, c, d, ..] = address;
                Some(SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), port))
            }
            6 => Some(SocketAddrV6::new(Ipv6Addr::from(address), port, 0, scope).into()),
            _ => return None,
        };
        Some(Self { checksum, payload_bytes, listener, number, received, kind, source })
    }
}

/// Little-endian fields, one after the other.
pub(super) struct Fields<'a>(pub &'a [u8]);

impl Fields<'_> {
    pub(super) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (field, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*field)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }
}
