//! PostgreSQL's binary COPY format, as far as flows need it (PostgreSQL documentation, "COPY", "Binary Format").
//!
//! A value is its length in four bytes and its bytes, big-endian; -1 stands for NULL. Nothing is coerced: the bytes must
//! have the column's exact type.

use super::{StoreError, answer};
use crate::clock::Timestamp;
use crate::flow::value::v4_from_wide;
use sqlx::PgConnection;
use sqlx::postgres::PgCopyIn;

/// How many bytes are handed to PostgreSQL at once.
const CHUNK: usize = 128 * 1_024;

/// Microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL begins to count.
pub(super) const EPOCH: i64 = 946_684_800_000_000;

/// What stands before the first row.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What stands after the last row.
const TRAILER: &[u8] = &[0xff, 0xff];

/// A COPY that rows are written into. Dropped before its end, it stores nothing.
pub(super) struct CopyIn<'c> {
    copy: PgCopyIn<&'c mut PgConnection>,
    /// Where the functions below write rows to.
    pub(super) out: Vec<u8>,
}

impl<'c> CopyIn<'c> {
    /// Begins what `statement` says, which must ask for the binary format.
    pub(super) async fn begin(connection: &'c mut PgConnection, statement: &str) -> Result<Self, StoreError> {
        let copy = answer(connection.copy_in_raw(statement)).await?;
        let mut out = Vec::with_capacity(CHUNK + 4_096);
        out.extend_from_slice(HEADER);
        Ok(Self { copy, out })
    }

    /// Hands on what was written when it is worth a message.
    pub(super) async fn send_when_full(&mut self) -> Result<(), StoreError> {
        if self.out.len() < CHUNK {
            return Ok(());
        }
        answer(self.copy.send(self.out.as_slice())).await?;
        self.out.clear();
        Ok(())
    }

    /// Ends it after the last row.
    pub(super) async fn finish(mut self) -> Result<(), StoreError> {
        self.out.extend_from_slice(TRAILER);
        answer(self.copy.send(self.out.as_slice())).await?;
        answer(self.copy.finish()).await?;
        Ok(())
    }
}

/// Begins a row of `columns` values.
pub(super) fn row(out: &mut Vec<u8>, columns: usize) {
    out.extend_from_slice(&u16::try_from(columns).unwrap_or(u16::MAX).to_be_bytes());
}

pub(super) fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(&(-1i32).to_be_bytes());
}

pub(super) fn bytes(out: &mut Vec<u8>, value: &[u8]) {
    out.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(value);
}

/// A value of `N` bytes with its length before it, written at once: rows are made of hundreds of these.
fn fixed<const N: usize>(out: &mut Vec<u8>, value: [u8; N]) {
    // Lengths are 2 to 20.
    out.extend_from_slice(&(N as u32).to_be_bytes());
    out.extend_from_slice(&value);
}

pub(super) fn int8(out: &mut Vec<u8>, value: i64) {
    fixed(out, value.to_be_bytes());
}

pub(super) fn int4(out: &mut Vec<u8>, value: i32) {
    fixed(out, value.to_be_bytes());
}

pub(super) fn int2(out: &mut Vec<u8>, value: i16) {
    fixed(out, value.to_be_bytes());
}

pub(super) fn timestamptz(out: &mut Vec<u8>, value: Timestamp) {
    int8(out, value.micros().saturating_sub(EPOCH));
}

/// An IPv4 address: family 2, all 32 bits, not a network, 4 bytes.
pub(super) fn inet_v4(out: &mut Vec<u8>, address: u32) {
    let [a, b, c, d] = address.to_be_bytes();
    fixed(out, [2, 32, 0, 4, a, b, c, d]);
}

/// An address of 128 bits, IPv4 as IPv4-mapped. IPv6: family 3, all 128 bits, not a network, 16 bytes.
pub(super) fn inet(out: &mut Vec<u8>, address: u128) {
    match v4_from_wide(address) {
        Some(v4) => inet_v4(out, v4),
        None => {
            out.extend_from_slice(&[0, 0, 0, 20, 3, 128, 0, 16]);
            out.extend_from_slice(&address.to_be_bytes());
        }
    }
}

pub(super) fn macaddr(out: &mut Vec<u8>, value: u64) {
    let [_, _, a, b, c, d, e, f] = value.to_be_bytes();
    fixed(out, [a, b, c, d, e, f]);
}
