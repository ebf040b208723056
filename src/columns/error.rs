//! What can be wrong with a batch or a block.

use crate::clock::Timestamp;
use crate::flow::fields::Field;
use crate::flow::segment::MAX_SEGMENT_FLOWS;

/// Why flows could not be encoded, or a block not decoded.
#[derive(Debug, thiserror::Error)]
pub enum ColumnsError {
    /// The rows asked for are none, more than a segment holds, or not in the batch.
    #[error("rows {start} to {end} of a batch of {rows} cannot be a segment: give 1 to {MAX_SEGMENT_FLOWS} rows of it")]
    Rows {
        /// The first row.
        start: usize,
        /// The row after the last.
        end: usize,
        /// The rows of the batch.
        rows: usize,
    },
    /// A flow has no receive time.
    #[error("a flow of the batch has no receive time: the decoder must fill `received` for every flow")]
    NotReceived,
    /// The flows were received in more than one UTC hour.
    #[error("flows received from {first} to {last} cannot share a segment: split the batch where the UTC hour changes")]
    SeveralHours {
        /// The earliest receive time.
        first: Timestamp,
        /// The latest receive time.
        last: Timestamp,
    },
    /// The compressor refused; not reachable with what the encoder hands it.
    #[error("field {field} could not be compressed: {message}", field = .field.name())]
    Compress {
        /// The field.
        field: Field,
        /// What the compressor said.
        message: String,
    },
    /// The block is of a version that this program does not know.
    #[error("the block of field {field} has format version {version}, this program reads version 1: upgrade it", field = .field.name())]
    Version {
        /// The field.
        field: Field,
        /// The version found.
        version: u8,
    },
    /// The block is not what an encoder wrote.
    #[error("the block of field {field} is damaged ({what}): restore the segment from a backup or delete it", field = .field.name())]
    Damaged {
        /// The field.
        field: Field,
        /// What does not fit.
        what: Damage,
    },
}

/// What does not fit in a block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The bytes end too early.
    #[error("it ends too early")]
    Short,
    /// The bytes go on after the end.
    #[error("there is more than belongs to it")]
    Long,
    /// The checksum does not match.
    #[error("its checksum does not match")]
    Checksum,
    /// Bits that mean nothing are set, or a form stands where it may not.
    #[error("its header makes no sense")]
    Header,
    /// Counts do not fit the rows.
    #[error("its counts do not fit the segment's rows")]
    Count,
    /// A number is wider than the field.
    #[error("its numbers are wider than the field")]
    Width,
    /// The decompressor found something wrong.
    #[error("{0}")]
    Packed(String),
}

impl From<pco::errors::PcoError> for Damage {
    fn from(error: pco::errors::PcoError) -> Self {
        Self::Packed(error.to_string())
    }
}
