//! The files of nfdump, layout 1 (nfdump 1.6) and layout 2 (nfdump 1.7), as little-endian machines write them.
//!
//! Sources: nfdump's own headers, which document the bytes: `nffile.h`, `nfx.h`, `exporter.h` of 1.6.25 for layout 1,
//! `nffileV2.h`, `nfxV3.h`, `exporter.h`, `id.h` of 1.7.1 and of its successors for layout 2.
//!
//! ```text
//! layout 1   u16 magic 0xa50c | u16 1 | u32 flags (1 LZO, 8 bzip2, 16 LZ4) | u32 blocks | 128 bytes ident
//!            statistics: 15 x u64 (flows, bytes, packets ..) | u32 first | u32 last | u16 ms | u16 ms | u32 sequence failures
//!            blocks
//! layout 2   u16 magic 0xa50c | u16 2 | u32 version of nfdump | i64 created | u8 compression | u8 encryption
//!            u16 appendix blocks | u32 creator | i64 offset of the appendix | u32 block size | u32 blocks
//!            blocks | appendix: one block more, with ident (record 0x8001) and statistics (0x8002)
//! block      u32 records | u32 size without this header | u16 type (2 of 1.6, 3 of 1.7, 4 arrays of other things) | u16 flags
//!            size bytes, compressed as the file says; 5 MiB at most when unpacked
//! record     u16 type | u16 size with this header | ...
//!     7      exporter: u32 version | 16 bytes address | u16 family | u16 number in this file | u32 domain. With family 2 the
//!            address is a u32 at its byte 8, with 10 two u64, with 0 (newer ones) 16 bytes in network order, IPv4 mapped
//!     8      counters: u32 count, then for each: u32 number | u32 sequence failures | u64 datagrams | u64 flows
//!     1, 10  a flow of 1.6, see `layout_1`; 2 its map of extensions
//!     11     a flow of 1.7, see `layout_2`
//!     others (9, 15 samplers; 12 to 14 names; histograms) are passed over
//! ```
//!
//! What is kept as it is: counters as nfdump has them. Where nfcapd knew a sampling interval it multiplied bytes and packets
//! by it already and marked the flow, so no `sampling_interval` is told, which would have them multiplied twice.
//!
//! The receive time is that of the record. 1.6 kept it only when told to (extension 27): without it the moment at which the
//! flow ended stands for it, then that at which it began, by the exporter's clock; nothing else in the file is as near.
//!
//! Records hold any 64-bit number as a time. A first or last packet that lies more than a day before the receive time, or five
//! minutes after it, is left out, as `wire` does not believe it either; a flow received after the year 9999 is damage.
//!
//! Firewall events count flows as in `wire`: a connection counts once. Left out, because there is no field for them: latencies,
//! ACLs, user names, labels, payloads, addresses of tunnels, samplers.

mod blocks;
mod layout_1;
mod layout_2;
mod lzo;
mod records;
#[cfg(test)]
mod tests;

pub use blocks::Compression;
pub use records::{Failures, Sources};

use super::bytes::Bytes;
use super::{ArchiveError, Damage, Flow, fill};
use std::io::Read;

/// How every file of nfdump begins.
pub const MAGIC: u16 = 0xa50c;
/// The most bytes of a block, packed and unpacked: nfdump's own buffers hold no more.
const LIMIT: usize = 5 << 20;
const HEAD_1: usize = 12 + 128 + 136;
const HEAD_2: usize = 40;
const BLOCK_HEAD: usize = 12;
/// Blocks of nfdump 1.5, which nobody reads any more.
const OLD_BLOCK: u16 = 1;
/// Blocks of single records of 1.6 and of 1.7.
const RECORD_BLOCKS: [u16; 2] = [2, 3];

/// What the head of a file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// 1 or 2.
    pub layout: u16,
    /// How blocks are compressed.
    pub compression: Compression,
    /// How many blocks of data follow; 0 in a file that its writer never closed.
    pub blocks: u32,
    /// How often a sequence number was not the expected one, all exporters together; layout 2 tells it in the appendix.
    pub sequence_failures: u64,
    /// Whether an appendix follows the blocks.
    pub appendix: bool,
    /// Where the first block begins.
    pub size: u64,
}

/// What the next step found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A block, whose records [`Archive::flows`] gives.
    Block,
    /// A block that cannot be unpacked. What follows it can be read.
    Damaged(Damage),
    /// The end. With a damage nothing can be found beyond it.
    End(Option<Damage>),
}

/// A file that is being read.
#[derive(Debug)]
pub struct Archive<R> {
    input: R,
    head: Head,
    offset: u64,
    /// Where the present block begins.
    block_at: u64,
    blocks: u32,
    stored: Vec<u8>,
    block: Vec<u8>,
    records: u32,
    kind: u16,
    flow: Flow,
}

impl<R: Read> Archive<R> {
    /// Reads the head.
    ///
    /// # Errors
    /// When it is no file of nfdump that can be read.
    pub fn open(mut input: R) -> Result<Self, ArchiveError> {
        let mut bytes = [0; HEAD_1];
        let mut filled = fill(&mut input, bytes.get_mut(..HEAD_2).unwrap_or_default())?;
        let version = bytes.get(..4).and_then(|head| {
            let mut head = Bytes(head);
            head.u16().filter(|magic| *magic == MAGIC)?;
            head.u16()
        });
        if version == Some(1) && filled == HEAD_2 {
            filled = filled.saturating_add(fill(&mut input, bytes.get_mut(HEAD_2..).unwrap_or_default())?);
        }
        let read = bytes.get(4..filled).unwrap_or_default();
        let head = match version {
            Some(1) => head_1(read).ok_or_else(short)?,
            Some(2) => head_2(read)?,
            Some(other) => {
                return Err(ArchiveError::Head(format!("it has layout {other}, and only 1 and 2 are known")));
            }
            None => return Err(ArchiveError::Head("it is no file of nfdump".to_owned())),
        };
        Ok(Self {
            input,
            offset: head.size,
            block_at: head.size,
            head,
            blocks: 0,
            stored: Vec::new(),
            block: Vec::new(),
            records: 0,
            kind: 0,
            flow: Flow::default(),
        })
    }

    /// What the head says.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Where the next block begins.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads and unpacks the next block.
    ///
    /// # Errors
    /// When reading fails.
    pub fn step(&mut self) -> Result<Step, ArchiveError> {
        self.block.clear();
        self.records = 0;
        let closed = self.is_closed();
        if self.is_at_end() {
            return Ok(Step::End(None));
        }
        self.block_at = self.offset;
        let mut head = [0; BLOCK_HEAD];
        let filled = fill(&mut self.input, &mut head)?;
        if filled < BLOCK_HEAD {
            if filled == 0 && !closed {
                // An empty file has no blocks either; one with blocks that counts none was never closed.
                let open = (self.blocks > 0).then(|| self.damage("its writer never closed the file".to_owned()));
                return Ok(Step::End(open));
            }
            let (blocks, whole) = (self.head.blocks, self.blocks);
            let what = if closed {
                format!("the file ends after {whole} of {blocks} blocks")
            } else {
                "the file ends in the head of a block".to_owned()
            };
            return Ok(Step::End(Some(self.damage(what))));
        }
        let mut head = Bytes(&head);
        let (records, size) = (head.u32().unwrap_or(0), head.u32().unwrap_or(0));
        let kind = head.u16().unwrap_or(0);
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        if length == 0 || length > LIMIT {
            return Ok(Step::End(Some(self.damage(format!("a block claims {size} bytes, which none has")))));
        }
        self.stored.resize(length, 0);
        let filled = fill(&mut self.input, &mut self.stored)?;
        if filled < length {
            let what = format!("the file ends {} bytes before the end of a block", length.saturating_sub(filled));
            return Ok(Step::End(Some(self.damage(what))));
        }
        self.offset = self.offset.saturating_add(BLOCK_HEAD as u64).saturating_add(size.into());
        self.blocks = self.blocks.saturating_add(1);
        if kind == OLD_BLOCK {
            return Ok(Step::Damaged(self.damage("a block of nfdump 1.5, which cannot be read".to_owned())));
        }
        if !blocks::unpack(self.head.compression, &mut self.stored, &mut self.block) {
            self.block.clear();
            let what = format!("a block cannot be unpacked ({})", self.head.compression.name());
            return Ok(Step::Damaged(self.damage(what)));
        }
        (self.records, self.kind) = (records, kind);
        Ok(Step::Block)
    }

    /// Whether the writer has told how many blocks there are, which it does when it closes the file.
    fn is_closed(&self) -> bool {
        self.head.blocks > 0 || self.head.appendix
    }

    fn is_at_end(&self) -> bool {
        self.is_closed() && self.blocks >= self.head.blocks
    }

    /// At the end of the blocks: how often a sequence number was not the expected one, all exporters together.
    ///
    /// # Errors
    /// When reading fails.
    pub fn sequence_failures(&mut self) -> Result<u64, ArchiveError> {
        if self.head.appendix && self.is_at_end() {
            self.head.appendix = false;
            // It is a block like the others; damaged, it tells nothing.
            self.head.blocks = self.head.blocks.saturating_add(1);
            let (offset, blocks) = (self.offset, self.blocks);
            if self.step()? == Step::Block {
                self.head.sequence_failures = records::statistics(&self.block).unwrap_or(0);
            }
            self.head.blocks = self.head.blocks.saturating_sub(1);
            (self.offset, self.blocks) = (offset, blocks);
        }
        Ok(self.head.sequence_failures)
    }

    /// Gives each flow of the block to `take`, and learns from its other records. Returns what is damaged in it.
    pub fn flows(&mut self, sources: &mut Sources, mut take: impl FnMut(&Flow)) -> Option<Damage> {
        self.walk(sources, Some(&mut take))
    }

    /// Learns from the records of the block that are no flows.
    pub fn learn(&mut self, sources: &mut Sources) {
        self.walk(sources, None::<&mut fn(&Flow)>);
    }

    fn walk(&mut self, sources: &mut Sources, take: Option<&mut impl FnMut(&Flow)>) -> Option<Damage> {
        if !RECORD_BLOCKS.contains(&self.kind) {
            return None;
        }
        let walked = records::walk(&self.block, self.records, sources, &mut self.flow, take);
        walked.err().map(|what| self.damage(what))
    }

    fn damage(&self, what: String) -> Damage {
        Damage { offset: self.block_at, what }
    }
}

fn short() -> ArchiveError {
    ArchiveError::Head("the file ends in its head".to_owned())
}

/// The head of layout 1 without magic and version.
fn head_1(bytes: &[u8]) -> Option<Head> {
    let mut bytes = Bytes(bytes);
    let (flags, blocks) = (bytes.u32()?, bytes.u32()?);
    // Ident, sums and times.
    bytes.take(128 + 15 * 8 + 12)?;
    let sequence_failures = bytes.u32()?.into();
    let compression = Compression::of_layout_1(flags);
    Some(Head { layout: 1, compression, blocks, sequence_failures, appendix: false, size: HEAD_1 as u64 })
}

/// The head of layout 2 without magic and version.
fn head_2(bytes: &[u8]) -> Result<Head, ArchiveError> {
    let mut bytes = Bytes(bytes);
    let mut read = || {
        // Version of nfdump and time of creation.
        bytes.take(4 + 8)?;
        let (compression, encryption, appendix) = (bytes.u8()?, bytes.u8()?, bytes.u16()?);
        // Creator, offset of the appendix, block size.
        bytes.take(4 + 8 + 4)?;
        Some((compression, encryption, appendix > 0, bytes.u32()?))
    };
    let (compression, encryption, appendix, blocks) = read().ok_or_else(short)?;
    if encryption != 0 {
        return Err(ArchiveError::Head("it is encrypted".to_owned()));
    }
    let compression = Compression::of_layout_2(compression)
        .ok_or_else(|| ArchiveError::Head(format!("its compression has the unknown number {compression}")))?;
    Ok(Head { layout: 2, compression, blocks, sequence_failures: 0, appendix, size: HEAD_2 as u64 })
}
