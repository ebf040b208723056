//! Why a simulation did not begin, or ended early.

use super::format::Protocol;
use super::target::Target;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Why a simulation ended early.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// The format does not go over connections.
    #[error(
        "--protocol {} goes over UDP only, and {to} is a connection. Send --protocol ipfix there, or to udp://{}.",
        .protocol.name(),
        .to.to_string().split_once("://").map_or_else(String::new, |(_, rest)| rest.to_owned())
    )]
    Combination {
        /// The format.
        protocol: Protocol,
        /// The collector.
        to: Target,
    },
    /// An option that says nothing about what is to be done.
    #[error("{option} is for {wanted} only. Leave it out, or give {wanted}.")]
    Option {
        /// The option.
        option: &'static str,
        /// What it goes with.
        wanted: &'static str,
    },
    /// TLS without an authority.
    #[error("{to} needs --ca FILE: the authorities, as PEM, of which one vouches for the collector's certificate.")]
    NoAuthority {
        /// The collector.
        to: Target,
    },
    /// A file for TLS is missing or of no use.
    #[error("{option} {}: the file {problem}. Give a PEM file.", path.display())]
    File {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The host cannot be looked for in a certificate.
    #[error("{host} is neither an IP address nor a name that a certificate could hold. Give one in --to.")]
    Name {
        /// The host.
        host: String,
    },
    /// The collector's name has no address.
    #[error("the address of {to} cannot be found: {source}. Check the name, or give an address.")]
    Resolve {
        /// The collector.
        to: Target,
        /// What the system said.
        source: io::Error,
    },
    /// A socket could not be opened.
    #[error(
        "cannot send from {from} to {to}: {source}. Check the address, and for many exporters that 127.0.0.0/8 is local."
    )]
    Open {
        /// The local address.
        from: IpAddr,
        /// The collector.
        to: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A connection could not be made.
    #[error("cannot connect to {to}: {source}. Check that the collector listens there, for {} too.", .to.scheme.name())]
    Connect {
        /// The collector.
        to: Target,
        /// What the system, or the other side, said.
        source: io::Error,
    },
    /// Sending failed.
    #[error("cannot send to {to} after {flows} flows: {source}.{advice}")]
    Send {
        /// The collector.
        to: Target,
        /// How many flows were sent before.
        flows: u64,
        /// What the system, or the other side, said.
        source: io::Error,
        /// What may help, after a space.
        advice: &'static str,
    },
    /// The result could not be written.
    #[error("cannot write the result: {0}.")]
    Output(#[from] io::Error),
}
