//! A listener's address, as it is written in the configuration.

use super::error::CollectError;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Reads `udp://ADDRESS:PORT`. Without an address, all addresses of the machine are meant.
pub(super) fn parse(listen: &str) -> Result<SocketAddr, CollectError> {
    let refuse = |problem| CollectError::Address { listen: listen.to_owned(), problem };
    let rest = listen.strip_prefix("udp://").ok_or_else(|| refuse("does not begin with udp://"))?;
    let (host, port) = rest.rsplit_once(':').ok_or_else(|| refuse("names no port"))?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address = match bracketed {
        Some(inner) => IpAddr::V6(inner.parse().map_err(|_| refuse("has no IPv6 address in its brackets"))?),
        None if host.is_empty() => Ipv6Addr::UNSPECIFIED.into(),
        None if host.contains(':') || host.contains('[') => {
            return Err(refuse("needs its IPv6 address in brackets, and a port after them"));
        }
        None => IpAddr::V4(host.parse().map_err(|_| refuse("names no IP address (names are not looked up)"))?),
    };
    let port = port.parse().map_err(|_| refuse("has no port from 0 to 65535 at its end"))?;
    Ok(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, address) in [
            ("udp://0.0.0.0:2055", "0.0.0.0:2055"),
            ("udp://192.0.2.1:0", "192.0.2.1:0"),
            ("udp://[::]:4739", "[::]:4739"),
            ("udp://[2001:db8::1]:65535", "[2001:db8::1]:65535"),
            ("udp://:9995", "[::]:9995"),
        ] {
            assert_eq!(parse(text).unwrap(), address.parse().unwrap(), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, reason) in [
            ("0.0.0.0:2055", "udp://"),
            ("tcp://0.0.0.0:2055", "udp://"),
            ("udp://0.0.0.0", "port"),
            ("udp://0.0.0.0:65536", "port"),
            ("udp://0.0.0.0:", "port"),
            ("udp://::1:2055", "brackets"),
            ("udp://[::1]", "brackets"),
            ("udp://[1.2.3.4]:1", "IPv6"),
            ("udp://localhost:2055", "not looked up"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(text) && message.contains(reason), "{message}");
        }
    }
}
