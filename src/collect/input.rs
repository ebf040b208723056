//! Where the bytes of a connection come from: its socket, or TLS on it.
//!
//! Promises: no call lasts beyond the deadline, however slowly bytes drip in, but for what is sent, which TLS alone wants. An end
//! within a TLS record is an error; what it held cannot be read.

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

/// A source of bytes.
#[derive(Debug)]
pub(super) enum Input {
    Plain(Socket),
    Tls(Box<StreamOwned<ServerConnection, Records>>),
}

/// A socket whose reads end at a moment.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Arc<TcpStream>,
    deadline: Instant,
}

impl Input {
    /// The bytes of `stream`, inside TLS if there is a configuration for it.
    ///
    /// # Errors
    /// When the configuration cannot be used.
    pub(super) fn new(stream: &Arc<TcpStream>, tls: Option<&Arc<ServerConfig>>) -> Result<Self, rustls::Error> {
        let socket = Socket { stream: Arc::clone(stream), deadline: Instant::now() };
        Ok(match tls {
            None => Self::Plain(socket),
            Some(config) => {
                let records = Records { socket, head: Vec::new(), left: 0 };
                Self::Tls(Box::new(StreamOwned::new(ServerConnection::new(Arc::clone(config))?, records)))
            }
        })
    }

    /// Until when the calls that follow may last.
    pub(super) fn set_deadline(&mut self, deadline: Instant) {
        match self {
            Self::Plain(socket) => socket.deadline = deadline,
            Self::Tls(tls) => tls.sock.socket.deadline = deadline,
        }
    }

    /// Comes to terms with the other side, where there is anything to agree upon.
    pub(super) fn shake_hands(&mut self) -> io::Result<()> {
        if let Self::Tls(tls) = self {
            while tls.conn.is_handshaking() {
                tls.conn.complete_io(&mut tls.sock)?;
            }
        }
        Ok(())
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(tls) => match tls.read(buffer) {
                // The peer closed the connection without a word in TLS; messages tell their own length.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && tls.sock.is_between() => Ok(0),
                read => read,
            },
        }
    }
}

/// A socket that TLS comes from, and where in its records it is (RFC 8446 section 5.1): five bytes tell the length of what follows.
#[derive(Debug)]
pub(super) struct Records {
    socket: Socket,
    /// The bytes of a record's head that have come.
    head: Vec<u8>,
    /// How many bytes of a record are still to come behind its head.
    left: usize,
}

impl Records {
    /// Whether what has come ends with a record.
    fn is_between(&self) -> bool {
        self.head.is_empty() && self.left == 0
    }

    fn came(&mut self, mut bytes: &[u8]) {
        while let Some((first, behind)) = bytes.split_first() {
            if self.left > 0 {
                let of_record = self.left.min(bytes.len());
                self.left = self.left.saturating_sub(of_record);
                bytes = bytes.get(of_record..).unwrap_or_default();
                continue;
            }
            self.head.push(*first);
            bytes = behind;
            if let &[_, _, _, high, low] = self.head.as_slice() {
                self.left = u16::from_be_bytes([high, low]).into();
                self.head.clear();
            }
        }
    }
}

impl Read for Records {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.socket.read(buffer)?;
        self.came(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

impl Write for Records {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.socket.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream.set_read_timeout(Some(left))?;
        match (&*self.stream).read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
            read => read,
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        (&*self.stream).write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
