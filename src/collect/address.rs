//! A listener's address, as it is written in the configuration.

use super::error::CollectError;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// How a listener takes flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Datagrams of all protocols.
    Udp,
    /// IPFIX messages, one after the other in a TCP connection.
    Tcp,
    /// The same inside TLS.
    Tls,
}

impl Scheme {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Udp, Self::Tcp, Self::Tls];

    /// The word before `://`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    /// What can be received so.
    pub const fn protocols(self) -> &'static str {
        match self {
            Self::Udp => "NetFlow, IPFIX and sFlow",
            Self::Tcp | Self::Tls => "IPFIX",
        }
    }
}

/// Where a listener listens. It prints as it is configured, such as `tcp://0.0.0.0:4739`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// How it takes flows.
    pub scheme: Scheme,
    /// Its address and port.
    pub address: SocketAddr,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}://{}", self.scheme.name(), self.address)
    }
}

/// Reads `udp://ADDRESS:PORT`, or the same with `tcp` or `tls`. Without an address, all addresses of the machine are meant.
pub(super) fn parse(listen: &str) -> Result<Endpoint, CollectError> {
    let refuse = |problem| CollectError::Address { listen: listen.to_owned(), problem };
    let (scheme, rest) = listen
        .split_once("://")
        .and_then(|(word, rest)| Some((Scheme::ALL.into_iter().find(|scheme| scheme.name() == word)?, rest)))
        .ok_or_else(|| refuse("does not begin with udp://, tcp:// or tls://"))?;
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
    Ok(Endpoint { scheme, address: SocketAddr::new(address, port) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_print_as_they_are_written() {
        for (text, scheme, address) in [
            ("udp://0.0.0.0:2055", Scheme::Udp, "0.0.0.0:2055"),
            ("udp://192.0.2.1:0", Scheme::Udp, "192.0.2.1:0"),
            ("tcp://[::]:4739", Scheme::Tcp, "[::]:4739"),
            ("tls://[2001:db8::1]:65535", Scheme::Tls, "[2001:db8::1]:65535"),
        ] {
            let endpoint = Endpoint { scheme, address: address.parse().unwrap() };
            assert_eq!(parse(text).unwrap(), endpoint, "{text}");
            assert_eq!(endpoint.to_string(), text);
        }
        assert_eq!(parse("udp://:9995").unwrap().address, "[::]:9995".parse().unwrap());
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, reason) in [
            ("0.0.0.0:2055", "udp://"),
            ("sctp://0.0.0.0:2055", "tcp://"),
            ("UDP://0.0.0.0:2055", "udp://"),
            ("udp://0.0.0.0", "port"),
            ("udp://0.0.0.0:65536", "port"),
            ("tcp://0.0.0.0:", "port"),
            ("tls://::1:2055", "brackets"),
            ("udp://[::1]", "brackets"),
            ("udp://[1.2.3.4]:1", "IPv6"),
            ("udp://localhost:2055", "not looked up"),
        ] {
            let message = parse(text).unwrap_err().to_string();
            assert!(message.contains(text) && message.contains(reason), "{message}");
        }
    }
}
