//! Captures of packets (pcap, pcapng): the UDP datagrams in them, with their receive times and addresses.
//!
//! Formats: pcap and pcapng as the IETF's opsawg drafts describe them, read by `pcap_parser`. Link layers: Ethernet with VLAN
//! tags, BSD loopback, raw IP, Linux cooked in both versions. IPv4 and IPv6; fragments are put together within limits.
//!
//! Which datagrams hold flows is not known here; whoever asks tells by port and payload.

mod fragments;
mod packet;
#[cfg(test)]
mod tests;

use super::{ArchiveError, Damage};
use crate::clock::{SECOND, Timestamp};
use fragments::Fragments;
use pcap_parser::pcapng::Block;
use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{LegacyPcapReader, PcapBlockOwned, PcapError, PcapNGReader};
use std::cell::Cell;
use std::fmt;
use std::io::Read;
use std::net::SocketAddr;
use std::rc::Rc;

/// The most bytes of one block or packet with its head; captures hold packets of 256 KiB at most.
const LARGEST: usize = 1 << 20;
/// The most interfaces of one section of pcapng.
const INTERFACES: usize = 65_536;

/// A UDP datagram of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// When it was captured; of a datagram in fragments, the last one.
    pub received: Timestamp,
    /// Who sent it.
    pub source: SocketAddr,
    /// To whom.
    pub destination: SocketAddr,
    /// What it holds.
    pub payload: &'a [u8],
}

/// What the next step found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A packet, or something else of the file; its datagram was given, if it has one.
    Read,
    /// The end. With a damage nothing can be found beyond it.
    End(Option<Damage>),
}

/// Reads as much as there is room for: the parser takes what comes with the first read for the whole head. Puts the error of a
/// read aside, which the parser does not give.
struct Greedy<R> {
    input: R,
    failed: Failed,
}

/// Why the input could not be read.
type Failed = Rc<Cell<Option<std::io::Error>>>;

impl<R: Read> Read for Greedy<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        super::fill(&mut self.input, buffer).map_err(|error| {
            let kind = error.kind();
            self.failed.set(Some(error));
            kind.into()
        })
    }
}

/// How an interface captured.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: i32,
    /// Units of time a second.
    units: u64,
    /// Seconds to be added.
    offset: i64,
}

/// A file that is being read.
pub struct Capture {
    reader: Box<dyn PcapReaderIterator>,
    failed: Failed,
    offset: u64,
    interfaces: Vec<Interface>,
    fragments: Fragments,
    /// Packets that were captured without their end, and where the first of them begins.
    cut: u64,
    first_cut: u64,
}

impl fmt::Debug for Capture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Capture").field("offset", &self.offset).finish_non_exhaustive()
    }
}

impl Capture {
    /// Reads the head.
    ///
    /// # Errors
    /// When it is neither pcap nor pcapng, or cannot be read.
    pub fn open(mut input: impl Read + 'static) -> Result<Self, ArchiveError> {
        let mut head = [0; super::HEAD];
        let filled = super::fill(&mut input, &mut head)?;
        let input = std::io::Cursor::new(head.into_iter().take(filled).collect::<Vec<_>>()).chain(input);
        let failed = Failed::default();
        let all = Greedy { input, failed: failed.clone() };
        let wrong = |error: PcapError<&[u8]>| match failed.take() {
            Some(error) => ArchiveError::Read(error),
            None => ArchiveError::Head(format!("its head cannot be read: {}", told(&error))),
        };
        let reader: Box<dyn PcapReaderIterator> = if head == [0x0a, 0x0d, 0x0d, 0x0a] {
            Box::new(PcapNGReader::new(LARGEST, all).map_err(wrong)?)
        } else {
            Box::new(LegacyPcapReader::new(LARGEST, all).map_err(wrong)?)
        };
        let (interfaces, fragments) = (Vec::new(), Fragments::default());
        Ok(Self { reader, failed, offset: 0, interfaces, fragments, cut: 0, first_cut: 0 })
    }

    /// Where the next packet begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Packets so far that were captured without their end, and so are no datagrams.
    pub fn cut(&self) -> Option<Damage> {
        let what = format!("the first of {} packets that were captured without their end", self.cut);
        (self.cut > 0).then_some(Damage { offset: self.first_cut, what })
    }

    /// Reads on, and gives the datagram of the packet to `take`, if it has one.
    ///
    /// # Errors
    /// When reading fails. What stands there may be whole.
    pub fn step(&mut self, mut take: impl FnMut(Datagram<'_>)) -> Result<Step, ArchiveError> {
        loop {
            let (length, found) = match self.reader.next() {
                Ok(found) => found,
                Err(PcapError::Eof) => return Ok(Step::End(None)),
                Err(PcapError::Incomplete(_)) => match self.reader.refill() {
                    Ok(()) => continue,
                    Err(error) => return end(self.offset, &error, self.failed.take()),
                },
                Err(error) => return end(self.offset, &error, self.failed.take()),
            };
            let cut = self.cut;
            let mut sink =
                Sink { interfaces: &mut self.interfaces, fragments: &mut self.fragments, cut: &mut self.cut };
            sink.block(&found, &mut take);
            if cut == 0 && self.cut > 0 {
                self.first_cut = self.offset;
            }
            self.reader.consume(length);
            self.offset = self.offset.saturating_add(length as u64);
            return Ok(Step::Read);
        }
    }
}

/// An end at `offset` that the parser tells, or that reading failed.
fn end(offset: u64, error: &PcapError<&[u8]>, failed: Option<std::io::Error>) -> Result<Step, ArchiveError> {
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(Step::End(Some(Damage { offset, what: told(error) }))),
    }
}

/// What an error of the parser means for the file.
fn told(error: &PcapError<&[u8]>) -> String {
    match error {
        PcapError::UnexpectedEof | PcapError::Incomplete(_) => "the file ends within a packet".to_owned(),
        PcapError::BufferTooSmall => format!("a packet claims more than {LARGEST} bytes"),
        _ => "what stands here is no packet".to_owned(),
    }
}

/// What blocks are read into.
struct Sink<'a> {
    interfaces: &'a mut Vec<Interface>,
    fragments: &'a mut Fragments,
    cut: &'a mut u64,
}

impl Sink<'_> {
    fn block(&mut self, found: &PcapBlockOwned<'_>, take: &mut impl FnMut(Datagram<'_>)) {
        match found {
            PcapBlockOwned::LegacyHeader(head) => {
                let units = if head.is_nanosecond_precision() { 1_000_000_000 } else { 1_000_000 };
                self.interfaces.push(Interface { link: head.network.0, units, offset: 0 });
            }
            PcapBlockOwned::Legacy(packet) => {
                let Some(interface) = self.interfaces.first().copied() else { return };
                let parts =
                    u64::from(packet.ts_usec).saturating_mul(1_000_000).checked_div(interface.units).unwrap_or(0);
                let whole = i64::from(packet.ts_sec).saturating_mul(SECOND);
                let received = whole.saturating_add(i64::try_from(parts).unwrap_or(0));
                let whole = packet.caplen >= packet.origlen;
                self.packet(interface.link, Timestamp::from_micros(received), packet.data, whole, take);
            }
            PcapBlockOwned::NG(Block::SectionHeader(_)) => self.interfaces.clear(),
            PcapBlockOwned::NG(Block::InterfaceDescription(description)) => {
                if self.interfaces.len() < INTERFACES {
                    let units = description.ts_resolution().filter(|units| *units > 0).unwrap_or(1_000_000);
                    let (link, offset) = (description.linktype.0, description.if_tsoffset);
                    self.interfaces.push(Interface { link, units, offset });
                }
            }
            PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
                let index = usize::try_from(packet.if_id).unwrap_or(usize::MAX);
                let Some(interface) = self.interfaces.get(index).copied() else { return };
                let ticks = (u128::from(packet.ts_high) << 32) | u128::from(packet.ts_low);
                let micros = ticks.saturating_mul(1_000_000).checked_div(interface.units.into()).unwrap_or(0);
                let micros = i64::try_from(micros).unwrap_or(i64::MAX);
                let received = micros.saturating_add(interface.offset.saturating_mul(SECOND));
                let whole = packet.caplen >= packet.origlen;
                let data = packet.data.get(..usize::try_from(packet.caplen).unwrap_or(usize::MAX));
                let data = data.unwrap_or(packet.data);
                self.packet(interface.link, Timestamp::from_micros(received), data, whole, take);
            }
            // A simple packet has no time; everything else holds no packet.
            PcapBlockOwned::NG(_) => {}
        }
    }

    fn packet(
        &mut self,
        link: i32,
        received: Timestamp,
        data: &[u8],
        whole: bool,
        take: &mut impl FnMut(Datagram<'_>),
    ) {
        let Some(found) = packet::internet(link, data).and_then(packet::udp_or_fragment) else { return };
        if !whole {
            *self.cut = self.cut.saturating_add(1);
            return;
        }
        let mut give = |addresses, udp: &[u8]| {
            if let Some((source, destination, payload)) = packet::udp(addresses, udp) {
                take(Datagram { received, source, destination, payload });
            }
        };
        match found {
            packet::Found::Udp { addresses, udp } => give(addresses, udp),
            packet::Found::Fragment(fragment) => {
                let addresses = fragment.key.addresses;
                if let Some(udp) = self.fragments.add(fragment) {
                    give(addresses, &udp);
                }
            }
        }
    }
}
