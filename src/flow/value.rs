//! One value of a field on its way to a reader, and how it is written down.
//!
//! Columns hold raw numbers; a [`Value`] says what they mean. Order and equality are those of the meaning: all IPv4
//! addresses come before all IPv6 addresses, numbers go by size.

use super::fields::Kind;
use crate::clock::Timestamp;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One value of a field. An absent value is an `Option::None` around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// A count, index or code.
    Number(u64),
    /// A moment.
    Time(Timestamp),
    /// An address, never IPv4-mapped.
    Address(IpAddr),
    /// An IEEE 802 address in the lower 48 bits.
    Mac(u64),
}

/// The bits under which an IPv4 address stands in 128 bits (RFC 4291, 2.5.5.2: `::ffff:0:0/96`).
const MAPPED: u128 = 0xffff_0000_0000;

/// An IPv4 address as 128 bits: IPv4-mapped IPv6.
pub const fn wide_from_v4(address: u32) -> u128 {
    MAPPED | address as u128
}

/// The IPv4 address that 128 bits stand for, if they are IPv4-mapped.
pub const fn v4_from_wide(address: u128) -> Option<u32> {
    if address >> 32 == 0xffff { Some(address as u32) } else { None }
}

/// The address that 128 bits stand for: IPv4 when IPv4-mapped.
pub fn address_from_wide(address: u128) -> IpAddr {
    match v4_from_wide(address) {
        Some(v4) => IpAddr::V4(Ipv4Addr::from_bits(v4)),
        None => IpAddr::V6(Ipv6Addr::from_bits(address)),
    }
}

/// The address as 128 bits, IPv4 as IPv4-mapped.
pub fn wide_from_address(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => wide_from_v4(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl Value {
    /// The value that `bits` mean in a field of this `kind`: numbers and MACs from the lower 64 bits, moments as `i64`
    /// in the lower 64 bits, addresses as 128 bits with IPv4 mapped.
    pub fn from_bits(kind: Kind, bits: u128) -> Self {
        match kind {
            Kind::U8 | Kind::U16 | Kind::U32 | Kind::U64 => Self::Number(bits as u64),
            Kind::Time => Self::Time(Timestamp::from_micros(bits as u64 as i64)),
            Kind::Address => Self::Address(address_from_wide(bits)),
            Kind::Mac => Self::Mac(bits as u64),
        }
    }
}

impl fmt::Display for Value {
    /// Numbers in decimal, moments as RFC 3339 in UTC, addresses and MACs in their usual notation.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(formatter, "{number}"),
            Self::Time(moment) => write!(formatter, "{moment}"),
            Self::Address(address) => write!(formatter, "{address}"),
            Self::Mac(mac) => {
                let [_, _, a, b, c, d, e, f] = mac.to_be_bytes();
                write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_128_bits_and_mapped_ones_become_ipv4() {
        for text in ["10.0.0.1", "255.255.255.255", "0.0.0.0", "::", "::1", "2001:db8::7"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(address_from_wide(wide_from_address(address)), address);
        }
        let mapped: Ipv6Addr = "::ffff:10.0.0.1".parse().unwrap();
        assert_eq!(Value::from_bits(Kind::Address, mapped.to_bits()).to_string(), "10.0.0.1");
        assert_eq!(Value::from_bits(Kind::Mac, 0x0102_0304_0506).to_string(), "01:02:03:04:05:06");
    }
}
