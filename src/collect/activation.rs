//! Sockets that a service manager opened for us and keeps while we are away: systemd's socket activation.
//!
//! What arrives while no collector runs waits in the kernel's queue, and the next one reads it. The protocol is that of
//! `sd_listen_fds(3)`: open descriptors from 3 on, as many as `LISTEN_FDS` says, meant for the process in `LISTEN_PID`.
//! `LISTEN_FDNAMES` is not looked at: a socket goes to the listener of the same kind and address.

use super::address::{Endpoint, Scheme};
use super::error::CollectError;
use super::socket;
use socket2::{Socket, Type};
use std::fmt;
use std::net::SocketAddr;

/// The first descriptor that is handed over.
const FIRST: i32 = 3;
/// The most that are taken.
const MOST: i32 = 1_024;

/// Sockets that were handed over and not yet claimed by a listener.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<(Socket, Kind, SocketAddr)>,
}

/// What kind of a socket one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Datagrams,
    Connections,
}

impl Kind {
    const fn of(scheme: Scheme) -> Self {
        match scheme {
            Scheme::Udp => Self::Datagrams,
            Scheme::Tcp | Scheme::Tls => Self::Connections,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Datagrams => "udp",
            Self::Connections => "tcp",
        })
    }
}

impl Inherited {
    /// Takes over what the variables of the environment say was handed to this `process`. To be called once, before
    /// anything else opens a file.
    ///
    /// # Errors
    /// When `LISTEN_FDS` is no number, or a descriptor is no socket that a listener can use.
    pub fn take(environment: &[(String, String)], process: u32) -> Result<Self, CollectError> {
        let Some(count) = handed_over(environment, process)? else { return Ok(Self::default()) };
        let take = |descriptor| {
            let refuse = |source| CollectError::Inherited { descriptor, source };
            let socket = socket::inherited(descriptor).map_err(refuse)?;
            let kind = match socket.r#type().map_err(refuse)? {
                Type::DGRAM => Some(Kind::Datagrams),
                Type::STREAM if socket.is_listener().map_err(refuse)? => Some(Kind::Connections),
                _ => None,
            };
            let address = socket.local_addr().map_err(refuse)?.as_socket();
            let known = kind.zip(address).ok_or(CollectError::InheritedKind { descriptor })?;
            Ok((socket, known.0, known.1))
        };
        let sockets = (FIRST..FIRST.saturating_add(count)).map(take).collect::<Result<_, _>>()?;
        Ok(Self { sockets })
    }

    /// The socket of a listener, if one was handed over.
    pub(super) fn claim(&mut self, endpoint: Endpoint) -> Option<Socket> {
        let wanted = (Kind::of(endpoint.scheme), endpoint.address);
        let at = self.sockets.iter().position(|(_, kind, address)| (*kind, *address) == wanted)?;
        Some(self.sockets.swap_remove(at).0)
    }

    /// # Errors
    /// When a socket is left over: what waits in it would never be read.
    pub(super) fn all_claimed(&self) -> Result<(), CollectError> {
        match self.sockets.first() {
            None => Ok(()),
            Some((_, kind, address)) => Err(CollectError::Unclaimed { socket: format!("{kind}://{address}") }),
        }
    }
}

/// How many sockets are meant for this process; `None` when the variables name none or another process.
fn handed_over(environment: &[(String, String)], process: u32) -> Result<Option<i32>, CollectError> {
    let value = |wanted| environment.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let (Some(of), Some(count)) = (value("LISTEN_PID"), value("LISTEN_FDS")) else { return Ok(None) };
    if of.parse() != Ok(process) {
        return Ok(None);
    }
    let number = count.parse().ok().filter(|number| (0..=MOST).contains(number));
    number.map(Some).ok_or_else(|| CollectError::ListenFds { value: count.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(of: &str, count: &str) -> Vec<(String, String)> {
        vec![("LISTEN_PID".into(), of.into()), ("LISTEN_FDS".into(), count.into())]
    }

    #[test]
    fn what_is_meant_for_another_process_is_left_alone() {
        assert_eq!(handed_over(&[], 7).unwrap(), None);
        assert_eq!(handed_over(&environment("8", "2"), 7).unwrap(), None);
        assert_eq!(handed_over(&environment("", "2"), 7).unwrap(), None);
        assert_eq!(handed_over(&environment("7", "2"), 7).unwrap(), Some(2));
        assert!(Inherited::take(&environment("8", "2"), 7).unwrap().sockets.is_empty());
        for wrong in ["", "-1", "two", "99999999999"] {
            assert!(
                handed_over(&environment("7", wrong), 7).unwrap_err().to_string().contains("LISTEN_FDS"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_socket_goes_to_the_listener_of_its_kind_and_address_and_one_that_is_left_over_is_told() {
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = udp.local_addr().unwrap();
        let endpoint = |scheme| Endpoint { scheme, address };
        let mut inherited = Inherited { sockets: vec![(udp.into(), Kind::Datagrams, address)] };
        assert!(inherited.claim(endpoint(Scheme::Tcp)).is_none());
        let message = inherited.all_claimed().unwrap_err().to_string();
        assert!(message.contains(&format!("udp://{address}")) && message.contains("listen"), "{message}");
        assert!(inherited.claim(endpoint(Scheme::Udp)).is_some());
        assert!(inherited.claim(endpoint(Scheme::Udp)).is_none());
        inherited.all_claimed().unwrap();
    }
}
