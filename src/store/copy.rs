//! PostgreSQL's binary COPY format, as far as flows need it (PostgreSQL documentation, "COPY", "Binary Format").
//!
//! A value is its length in four bytes and its bytes, big-endian; -1 stands for NULL. Nothing is coerced: the bytes must
//! have the column's exact type.

use crate::clock::Timestamp;
use crate::flow::value::Value;
use std::net::IpAddr;

/// Microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL begins to count.
const EPOCH: i64 = 946_684_800_000_000;

/// What stands before the first row.
pub(super) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// What stands after the last row.
pub(super) const TRAILER: &[u8] = &[0xff, 0xff];

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

pub(super) fn int8(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(&[0, 0, 0, 8]);
    out.extend_from_slice(&value.to_be_bytes());
}

pub(super) fn int4(out: &mut Vec<u8>, value: i32) {
    out.extend_from_slice(&[0, 0, 0, 4]);
    out.extend_from_slice(&value.to_be_bytes());
}

pub(super) fn int2(out: &mut Vec<u8>, value: i16) {
    out.extend_from_slice(&[0, 0, 0, 2]);
    out.extend_from_slice(&value.to_be_bytes());
}

pub(super) fn timestamptz(out: &mut Vec<u8>, value: Timestamp) {
    int8(out, value.micros().saturating_sub(EPOCH));
}

/// An address with its full mask: family (2 for IPv4, 3 for IPv6), prefix length, not a CIDR, length, bytes.
pub(super) fn inet(out: &mut Vec<u8>, value: IpAddr) {
    match value {
        IpAddr::V4(v4) => {
            out.extend_from_slice(&[0, 0, 0, 8, 2, 32, 0, 4]);
            out.extend_from_slice(&v4.octets());
        }
        IpAddr::V6(v6) => {
            out.extend_from_slice(&[0, 0, 0, 20, 3, 128, 0, 16]);
            out.extend_from_slice(&v6.octets());
        }
    }
}

pub(super) fn macaddr(out: &mut Vec<u8>, value: u64) {
    let [_, _, mac @ ..] = value.to_be_bytes();
    out.extend_from_slice(&[0, 0, 0, 6]);
    out.extend_from_slice(&mac);
}

/// The SQL types that numbers are kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Integer {
    Int2,
    Int4,
    Int8,
}

/// A flow's value in the type of its column; numbers beyond the type's range become its largest.
pub(super) fn value(out: &mut Vec<u8>, value: Value, integer: Integer) {
    match (value, integer) {
        (Value::Number(number), Integer::Int2) => int2(out, i16::try_from(number).unwrap_or(i16::MAX)),
        (Value::Number(number), Integer::Int4) => int4(out, i32::try_from(number).unwrap_or(i32::MAX)),
        (Value::Number(number), Integer::Int8) => int8(out, super::bigint(number)),
        (Value::Time(moment), _) => timestamptz(out, moment),
        (Value::Address(address), _) => inet(out, address),
        (Value::Mac(mac), _) => macaddr(out, mac),
    }
}
