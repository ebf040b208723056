//! From a captured frame to the UDP datagram in it: link layer, IPv4 or IPv6, UDP.
//!
//! Link layers are numbered as tcpdump.org numbers them (LINKTYPE_); IPv4 is RFC 791, IPv6 RFC 8200, UDP RFC 768.

use super::fragments::{Fragment, Key};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The most VLAN tags in front of a packet.
const TAGS: usize = 4;
/// The most extension headers of an IPv6 packet.
const HEADERS: usize = 8;
const UDP: u8 = 17;
const FRAGMENT: u8 = 44;

/// From and to.
pub(super) type Addresses = (IpAddr, IpAddr);

/// What an IP packet holds.
#[derive(Debug)]
pub(super) enum Found<'a> {
    /// A UDP header and what follows it.
    Udp {
        /// From and to.
        addresses: Addresses,
        /// The header and what follows it.
        udp: &'a [u8],
    },
    /// A part of a UDP datagram.
    Fragment(Fragment<'a>),
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

/// The IP packet in a frame of this link layer.
pub(super) fn internet(link: i32, frame: &[u8]) -> Option<&[u8]> {
    match link {
        // BSD loopback: the family, in some byte order.
        0 | 108 => frame.get(4..),
        // Ethernet.
        1 => tagged(frame, 12),
        // Raw IP, as systems number it.
        12 | 14 | 101 | 228 | 229 => Some(frame),
        // Linux cooked, both versions.
        113 => tagged(frame, 14),
        276 => match u16_at(frame, 0)? {
            0x0800 | 0x86dd => frame.get(20..),
            0x8100 | 0x88a8 => tagged(frame, 22),
            _ => None,
        },
        _ => None,
    }
}

/// The IP packet behind an EtherType at byte `at` and the VLAN tags that may follow it.
fn tagged(frame: &[u8], mut at: usize) -> Option<&[u8]> {
    for _ in 0..=TAGS {
        match u16_at(frame, at)? {
            0x0800 | 0x86dd => return frame.get(at.checked_add(2)?..),
            0x8100 | 0x88a8 | 0x9100 => at = at.checked_add(4)?,
            _ => return None,
        }
    }
    None
}

/// The UDP datagram, or the part of one, in an IP packet.
pub(super) fn udp_or_fragment(packet: &[u8]) -> Option<Found<'_>> {
    match packet.first()? >> 4 {
        4 => v4(packet),
        6 => v6(packet),
        _ => None,
    }
}

fn v4(packet: &[u8]) -> Option<Found<'_>> {
    let header = usize::from(packet.first()? & 15).checked_mul(4).filter(|length| *length >= 20)?;
    let total = usize::from(u16_at(packet, 2)?);
    if *packet.get(9)? != UDP {
        return None;
    }
    let address = |at: usize| -> Option<IpAddr> {
        let bytes: [u8; 4] = packet.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(Ipv4Addr::from(bytes).into())
    };
    let addresses = (address(12)?, address(16)?);
    // With segmentation offload the length may be 0: then the frame tells it.
    let body = packet.get(header..if total == 0 { packet.len() } else { total })?;
    let flags = u16_at(packet, 6)?;
    let (more, offset) = (flags & 0x2000 != 0, usize::from(flags & 0x1fff).checked_mul(8)?);
    if !more && offset == 0 {
        return Some(Found::Udp { addresses, udp: body });
    }
    let key = Key { addresses, identification: u16_at(packet, 4)?.into() };
    Some(Found::Fragment(Fragment { key, offset, more, body }))
}

fn v6(packet: &[u8]) -> Option<Found<'_>> {
    let address = |at: usize| -> Option<IpAddr> {
        let bytes: [u8; 16] = packet.get(at..at.checked_add(16)?)?.try_into().ok()?;
        Some(Ipv6Addr::from(bytes).to_canonical())
    };
    let addresses = (address(8)?, address(24)?);
    let length = usize::from(u16_at(packet, 4)?);
    let mut body = packet.get(40..40usize.checked_add(length)?)?;
    let mut next = *packet.get(6)?;
    for _ in 0..HEADERS {
        match next {
            UDP => return Some(Found::Udp { addresses, udp: body }),
            FRAGMENT => {
                let place = u16_at(body, 2)?;
                let identification = (u32::from(u16_at(body, 4)?) << 16) | u32::from(u16_at(body, 6)?);
                let (more, offset) = (place & 1 != 0, usize::from(place & 0xfff8));
                let protocol = *body.first()?;
                body = body.get(8..)?;
                if !more && offset == 0 {
                    next = protocol;
                    continue;
                }
                let key = Key { addresses, identification };
                return (protocol == UDP).then_some(Found::Fragment(Fragment { key, offset, more, body }));
            }
            // Hop-by-hop options, routing, destination options.
            0 | 43 | 60 => {
                next = *body.first()?;
                let length = usize::from(*body.get(1)?).checked_add(1)?.checked_mul(8)?;
                body = body.get(length..)?;
            }
            _ => return None,
        }
    }
    None
}

/// Source, destination and payload of a UDP datagram.
pub(super) fn udp(addresses: Addresses, udp: &[u8]) -> Option<(SocketAddr, SocketAddr, &[u8])> {
    let (from, to, length) = (u16_at(udp, 0)?, u16_at(udp, 2)?, usize::from(u16_at(udp, 4)?));
    let payload = udp.get(8..length)?;
    Some((SocketAddr::new(addresses.0, from), SocketAddr::new(addresses.1, to), payload))
}
