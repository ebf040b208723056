//! The exporters' connections: IPFIX in TCP or TLS, one message after the other (RFC 7011, 10.4).
//!
//! Messages are gathered and written together. A collector that does not read lets the exporter wait. What was sent counts
//! only after [`Connection::close`], which waits until the other side has closed, too: it may refuse late. Knows
//! neither rates nor what messages mean.

use super::error::SimulateError;
use super::target::Target;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::{Domain, Socket, Type};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long connecting may take, and each answer while keys are agreed on.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the collector may take to close.
const CLOSE: Duration = Duration::from_secs(5);
/// So many bytes are gathered before they are written.
const GATHER: usize = 65_536;

/// Files for TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Files {
    /// For tls://: a PEM file with the authorities of which one vouches for the collector's certificate.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// For tls://: a PEM file with the exporter's certificate, where the collector wants one.
    #[arg(long, value_name = "FILE", requires = "key")]
    pub certificate: Option<PathBuf>,
    /// For tls://: a PEM file with the private key of --certificate, not encrypted.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub key: Option<PathBuf>,
}

/// How TLS is spoken with one collector.
#[derive(Clone, Debug)]
pub(super) struct Encryption {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Encryption {
    /// Reads the files.
    pub(super) fn load(files: &Files, to: &Target) -> Result<Self, SimulateError> {
        let host = &to.host;
        let name = ServerName::try_from(host.clone()).map_err(|_| SimulateError::Name { host: host.clone() })?;
        let authorities = files.ca.as_deref().ok_or_else(|| SimulateError::NoAuthority { to: to.clone() })?;
        let mut roots = RootCertStore::empty();
        for authority in certificates("--ca", authorities)? {
            roots.add(authority).map_err(|error| refuse("--ca", authorities, &error))?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| refuse("--ca", authorities, &error))?
            .with_root_certificates(roots);
        let config = match (files.certificate.as_deref(), files.key.as_deref()) {
            (Some(certificate), Some(key)) => {
                let chain = certificates("--certificate", certificate)?;
                let private = PrivateKeyDer::from_pem_file(key).map_err(|error| refuse("--key", key, &error))?;
                builder.with_client_auth_cert(chain, private).map_err(|error| refuse("--key", key, &error))?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Self { config: Arc::new(config), name })
    }
}

fn refuse(option: &'static str, path: &Path, problem: &dyn std::error::Error) -> SimulateError {
    SimulateError::File { option, path: path.to_owned(), problem: format!("is of no use: {problem}") }
}

/// All certificates in a file, at least one.
fn certificates(option: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, SimulateError> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let certificates = read().map_err(|error| refuse(option, path, &error))?;
    if certificates.is_empty() {
        let problem = "holds no certificate".to_owned();
        return Err(SimulateError::File { option, path: path.to_owned(), problem });
    }
    Ok(certificates)
}

#[derive(Debug)]
enum Channel {
    Plain(TcpStream),
    Encrypted(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A connection that gathers messages until they are sent.
#[derive(Debug)]
pub(super) struct Connection {
    channel: Channel,
    bytes: Vec<u8>,
}

impl Connection {
    /// Connects from `from` to `to`.
    pub(super) fn open(from: IpAddr, to: SocketAddr, encryption: Option<&Encryption>) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect_timeout(&to.into(), CONNECT)?;
        let mut socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(CONNECT))?;
        let channel = match encryption {
            None => Channel::Plain(socket),
            Some(Encryption { config, name }) => {
                let mut client = ClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
                while client.is_handshaking() {
                    client.complete_io(&mut socket).map_err(answered)?;
                }
                Channel::Encrypted(Box::new(StreamOwned::new(client, socket)))
            }
        };
        Ok(Self { channel, bytes: Vec::with_capacity(GATHER) })
    }

    /// Takes a message along with those gathered, sending them when they have become many.
    pub(super) fn push(&mut self, message: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(message);
        if self.bytes.len() >= GATHER { self.flush() } else { Ok(()) }
    }

    /// Sends what is gathered.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        let outcome = match &mut self.channel {
            Channel::Plain(socket) => socket.write_all(&self.bytes),
            Channel::Encrypted(stream) => stream.write_all(&self.bytes).and_then(|()| stream.flush()),
        };
        self.bytes.clear();
        // What the other side said before it went away tells more than that it is gone.
        outcome.map_err(|error| self.told().err().unwrap_or(error))
    }

    /// Ends the connection in order and waits until the other side has done so, too.
    pub(super) fn close(mut self) -> io::Result<()> {
        self.flush()?;
        let socket = match &mut self.channel {
            Channel::Plain(socket) => socket,
            Channel::Encrypted(stream) => {
                stream.conn.send_close_notify();
                stream.flush()?;
                &stream.sock
            }
        };
        socket.shutdown(Shutdown::Write)?;
        self.told()
    }

    /// Reads to the end, and returns the error that ends it, if it is one. A side that does not close is left alone.
    fn told(&mut self) -> io::Result<()> {
        let (socket, reader): (_, &mut dyn Read) = match &mut self.channel {
            Channel::Plain(socket) => (socket.try_clone()?, socket),
            Channel::Encrypted(stream) => (stream.sock.try_clone()?, stream),
        };
        socket.set_read_timeout(Some(CLOSE))?;
        match io::copy(&mut reader.take(GATHER as u64), &mut io::sink()) {
            Err(error) if !is_end(&error) => Err(error),
            _ => Ok(()),
        }
    }
}

/// The error of an agreement on keys, in which waiting in vain says no more than that nothing is there yet.
fn answered(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => io::Error::new(ErrorKind::TimedOut, "nothing answers in TLS"),
        ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "the other side closes instead of answering in TLS"),
        _ => error,
    }
}

/// Whether reading ended because the other side closed without a farewell, or did not close in time.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
