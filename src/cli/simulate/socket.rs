//! The exporters' sockets: where the kernel is called, and the only unsafe code of the simulation.
//!
//! Datagrams of one length that are due together leave in one call, cut apart by the kernel (`UDP_SEGMENT`, Linux 4.18):
//! on loopback that is what makes one thread outrun a collector. Each still arrives as a datagram of its own. Where the
//! kernel does not know the option, or the datagrams do not fit the MTU, they leave one by one. Knows neither rates nor what datagrams mean.
#![expect(unsafe_code, reason = "the socket option that cuts a send into datagrams has no safe wrapper here")]

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::ptr;
use std::time::Duration;

/// The kernel takes at most so many datagrams in one call.
const MAX_DATAGRAMS: usize = 64;
/// And so many bytes: an IPv4 packet less its headers.
const MAX_BYTES: usize = 65_507;
/// Linux's ENOBUFS: the interface's queue is full for a moment.
const NO_BUFFERS: i32 = 105;

/// A socket that gathers datagrams until they are sent.
#[derive(Debug)]
pub(super) struct Sender {
    socket: UdpSocket,
    bytes: Vec<u8>,
    /// Length of each gathered datagram; only the last may be shorter.
    length: usize,
    gathered: usize,
    /// The length the kernel was told to cut at; `None` when it will not cut.
    cut: Option<usize>,
    /// How often the other side refused a datagram because nobody listened.
    pub(super) refused: u64,
}

impl Sender {
    /// A socket from `from` to `to`.
    pub(super) fn open(from: SocketAddr, to: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(from)?;
        socket.connect(to)?;
        let mut sender =
            Self { socket, bytes: Vec::with_capacity(MAX_BYTES), length: 0, gathered: 0, cut: Some(0), refused: 0 };
        sender.cut_at(0);
        Ok(sender)
    }

    /// Takes a datagram along with those gathered, sending these first when it does not fit to them.
    pub(super) fn push(&mut self, datagram: &[u8]) -> io::Result<()> {
        let fits = self.cut.is_some()
            && datagram.len() == self.length
            && self.gathered < MAX_DATAGRAMS
            && self.bytes.len() + datagram.len() <= MAX_BYTES;
        if !fits {
            self.flush()?;
            self.length = datagram.len();
        }
        self.bytes.extend_from_slice(datagram);
        self.gathered += 1;
        Ok(())
    }

    /// Sends what is gathered.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.gathered == 0 {
            return Ok(());
        }
        if self.gathered > 1 && self.cut.is_some_and(|length| length != self.length) {
            self.cut_at(self.length);
        }
        // Whether the kernel is asked to cut, or was for an earlier send and so looks at the length of this one, too.
        let cuts = self.cut.is_some_and(|length| length > 0);
        let whole = if self.gathered == 1 || self.cut.is_some() { self.bytes.len() } else { self.length };
        for part in self.bytes.chunks(whole.max(1)) {
            loop {
                match self.socket.send(part) {
                    Ok(_) => break,
                    // Told about an earlier datagram; this one has not been sent yet.
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => self.refused += 1,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.raw_os_error() == Some(NO_BUFFERS) => {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                    // What the kernel cuts it does not fragment: none of it was sent.
                    Err(error) if cuts && matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EMSGSIZE)) => {
                        self.cut_at(0);
                        self.cut = None;
                        return self.flush();
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        self.bytes.clear();
        self.gathered = 0;
        Ok(())
    }

    /// Tells the kernel to cut what is sent into datagrams of `length` bytes; 0 cuts nothing.
    fn cut_at(&mut self, length: usize) {
        let value = libc::c_int::try_from(length).unwrap_or(0);
        // SAFETY: the descriptor is open as long as `self.socket` lives, and the value is a `c_int` of the length told.
        let outcome = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_UDP,
                libc::UDP_SEGMENT,
                ptr::from_ref(&value).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        self.cut = (outcome == 0).then_some(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathered_datagrams_arrive_one_by_one_and_in_order() {
        let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
        collector.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        for cuts in [true, false] {
            let mut sender = Sender::open("127.0.0.1:0".parse().unwrap(), collector.local_addr().unwrap()).unwrap();
            if !cuts {
                sender.cut = None;
            }
            let sent: Vec<Vec<u8>> =
                (0..150u8).map(|number| vec![number; if number % 50 == 7 { 900 } else { 1_400 }]).collect();
            for datagrams in sent.chunks(30) {
                for datagram in datagrams {
                    sender.push(datagram).unwrap();
                }
                sender.flush().unwrap();
                let mut buffer = [0; 2_000];
                for datagram in datagrams {
                    let length = collector.recv(&mut buffer).unwrap();
                    assert_eq!(&buffer[..length], datagram.as_slice(), "kernel cuts: {cuts}");
                }
            }
        }
    }
}
