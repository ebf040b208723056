//! Where to send, as it is written on the command line.

use crate::collect::Scheme;
use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::str::FromStr;

/// A collector. It prints with its scheme, such as `tcp://127.0.0.1:4739`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Its address or name, an IPv6 address without its brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// What is no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; give HOST:PORT, or the same after udp://, tcp:// or tls://, with an IPv6 address in brackets")]
pub struct TargetError {
    problem: &'static str,
}

impl FromStr for Target {
    type Err = TargetError;

    /// Reads `HOST:PORT`, which means UDP, or the same after `udp://`, `tcp://` or `tls://`.
    fn from_str(text: &str) -> Result<Self, TargetError> {
        let refuse = |problem| TargetError { problem };
        let (scheme, rest) = match text.split_once("://") {
            None => (Scheme::Udp, text),
            Some((word, rest)) => (
                Scheme::ALL
                    .into_iter()
                    .find(|scheme| scheme.name() == word)
                    .ok_or_else(|| refuse("the word before :// is unknown"))?,
                rest,
            ),
        };
        let (host, port) = rest.rsplit_once(':').ok_or_else(|| refuse("there is no port"))?;
        let port = port.parse().ok().filter(|&port| port > 0).ok_or_else(|| refuse("the port is not 1 to 65535"))?;
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if host.is_empty() || (bracketed.is_none() && host.contains([':', '[', ']', '/'])) {
            return Err(refuse("there is no host before the port"));
        }
        Ok(Self { scheme, host: bracketed.unwrap_or(host).to_owned(), port })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scheme, host, port } = self;
        let scheme = scheme.name();
        if host.contains(':') {
            write!(formatter, "{scheme}://[{host}]:{port}")
        } else {
            write!(formatter, "{scheme}://{host}:{port}")
        }
    }
}

impl Target {
    /// Whether connections are made to it, in which only IPFIX is spoken.
    pub(super) const fn is_stream(&self) -> bool {
        !matches!(self.scheme, Scheme::Udp)
    }

    /// The first address that its host has.
    pub(super) fn resolve(&self) -> io::Result<SocketAddr> {
        let mut addresses = (self.host.as_str(), self.port).to_socket_addrs()?;
        addresses.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_print_with_their_scheme() {
        for (text, scheme, host, printed) in [
            ("127.0.0.1:2055", Scheme::Udp, "127.0.0.1", "udp://127.0.0.1:2055"),
            ("udp://[::1]:2055", Scheme::Udp, "::1", "udp://[::1]:2055"),
            ("tcp://127.0.0.1:2055", Scheme::Tcp, "127.0.0.1", "tcp://127.0.0.1:2055"),
            ("tls://collector.example:2055", Scheme::Tls, "collector.example", "tls://collector.example:2055"),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!(target, Target { scheme, host: host.to_owned(), port: 2_055 }, "{text}");
            assert_eq!(target.to_string(), printed);
        }
        let target: Target = "[::1]:4739".parse().unwrap();
        assert_eq!(target.resolve().unwrap(), "[::1]:4739".parse().unwrap());
    }

    #[test]
    fn what_is_no_target_is_refused_with_what_to_write() {
        for (text, problem) in [
            ("sctp://127.0.0.1:4739", "before ://"),
            ("127.0.0.1", "no port"),
            ("tcp://127.0.0.1:0", "1 to 65535"),
            (":2055", "no host"),
            ("::1:2055", "no host"),
            ("tcp://127.0.0.1:4739/", "1 to 65535"),
        ] {
            let message = text.parse::<Target>().unwrap_err().to_string();
            assert!(message.contains(problem) && message.contains("HOST:PORT"), "{text}: {message}");
        }
    }
}
