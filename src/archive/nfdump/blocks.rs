//! A block's bytes as they were before compression.

use super::LIMIT;
use super::lzo;
use std::io::Read;

/// How the blocks of a file are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZO1X.
    Lzo,
    /// bzip2.
    Bzip2,
    /// LZ4, a raw block.
    Lz4,
    /// Zstandard, a frame.
    Zstd,
}

impl Compression {
    /// As layout 2 numbers it.
    pub(super) const fn of_layout_2(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::None),
            1 => Some(Self::Lzo),
            2 => Some(Self::Bzip2),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// As the flags of layout 1 tell it.
    pub(super) const fn of_layout_1(flags: u32) -> Self {
        match flags {
            flags if flags & 0x01 != 0 => Self::Lzo,
            flags if flags & 0x08 != 0 => Self::Bzip2,
            flags if flags & 0x10 != 0 => Self::Lz4,
            _ => Self::None,
        }
    }

    /// The name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "no compression",
            Self::Lzo => "LZO",
            Self::Bzip2 => "bzip2",
            Self::Lz4 => "LZ4",
            Self::Zstd => "Zstandard",
        }
    }
}

/// Unpacks `stored` into `out`, which becomes no longer than [`LIMIT`]. Returns whether that went well.
pub(super) fn unpack(compression: Compression, stored: &mut Vec<u8>, out: &mut Vec<u8>) -> bool {
    out.clear();
    match compression {
        Compression::None => {
            std::mem::swap(stored, out);
            true
        }
        Compression::Lzo => lzo::decompress(stored, out, LIMIT).is_ok(),
        Compression::Lz4 => {
            out.resize(LIMIT, 0);
            let length = lz4_flex::block::decompress_into(stored, out);
            out.truncate(*length.as_ref().unwrap_or(&0));
            length.is_ok()
        }
        Compression::Bzip2 => drain(bzip2::read::BzDecoder::new(stored.as_slice()), out),
        Compression::Zstd => match ruzstd::decoding::StreamingDecoder::new(stored.as_slice()) {
            Ok(decoder) => drain(decoder, out),
            Err(_) => false,
        },
    }
}

/// Reads all there is, unless it is more than [`LIMIT`].
fn drain(input: impl Read, out: &mut Vec<u8>) -> bool {
    let most = u64::try_from(LIMIT).unwrap_or(u64::MAX).saturating_add(1);
    input.take(most).read_to_end(out).is_ok() && out.len() <= LIMIT
}
