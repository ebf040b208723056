//! The UDP socket: where the kernel is called, and the only unsafe code of the collector.
//!
//! Promises: a [`Batch`] holds whole datagrams with their sources; the kernel's drop counter is told as it stands. It knows
//! no journal and counts nothing itself.
#![expect(
    unsafe_code,
    reason = "recvmmsg with its drop counter, two socket options, inherited descriptors and setpriority have no safe wrapper"
)]

use super::address::Endpoint;
use super::error::CollectError;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, FromRawFd as _, RawFd};
use std::ptr;
use std::time::Duration;

/// Datagrams that one call receives at most.
pub(super) const BATCH: usize = 128;

/// How long a receive call waits for a datagram.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);

/// No UDP datagram is longer, so none is ever cut.
const DATAGRAM_BYTES: usize = 65_535;

/// From one datagram's place to the next one's. Not a power of two, or all would share a few lines of the CPU's cache. The
/// system gives memory only to the pages that are really used.
const STRIDE: usize = 65_536 + 1_536;

/// Bytes of the largest socket address received, a `sockaddr_in6`.
const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();

/// Room for one control message with a `u32`, aligned as a control message must be.
type Control = [u64; 4];

/// A bound socket and the address it is bound to.
#[derive(Debug)]
pub(super) struct Bound {
    pub socket: Socket,
    pub endpoint: Endpoint,
    /// What the kernel granted, in bytes.
    pub receive_buffer_bytes: usize,
    /// The drop counter when it became ours. What an inherited socket dropped before, an earlier process told, or sequence
    /// numbers tell.
    pub drops_before: u32,
    /// Whether it ends with us. An inherited one goes on to take in datagrams for the next process.
    pub ours: bool,
}

impl Bound {
    /// Lets nothing more in: from now on the socket takes datagrams from itself only, and senders hear that it is closed.
    /// What is queued is still received. Only for one that is ours, because this cannot be undone.
    pub(super) fn shut(&self) -> io::Result<()> {
        let mut itself = self.endpoint.address;
        match itself {
            SocketAddr::V4(v4) if v4.ip().is_unspecified() => itself.set_ip(Ipv4Addr::LOCALHOST.into()),
            SocketAddr::V6(v6) if v6.ip().is_unspecified() => itself.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        self.socket.connect(&itself.into())
    }
}

/// Binds a socket, or sets up the one that was `inherited` bound. An IPv6 socket that we bind takes IPv4 too. Warns when the
/// receive buffer stays small.
pub(super) fn bind(
    endpoint: Endpoint,
    receive_buffer_bytes: usize,
    inherited: Option<Socket>,
) -> Result<Bound, CollectError> {
    let address = endpoint.address;
    let make = || {
        let (socket, drops_before) = match inherited {
            Some(socket) => {
                socket.set_nonblocking(false)?;
                let drops = drops(&socket)?;
                (socket, Some(drops))
            }
            None => (Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?, None),
        };
        if address.is_ipv6() && drops_before.is_none() {
            socket.set_only_v6(false)?;
        }
        // Before it is bound, so that every datagram carries the counter and finds the buffer.
        set_option(&socket, libc::SO_RXQ_OVFL, 1)?;
        let granted = set_receive_buffer(&socket, receive_buffer_bytes)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        if drops_before.is_none() {
            socket.bind(&address.into())?;
        }
        let address = socket.local_addr()?.as_socket().unwrap_or(address);
        let endpoint = Endpoint { address, ..endpoint };
        Ok(Bound {
            socket,
            endpoint,
            receive_buffer_bytes: granted,
            drops_before: drops_before.unwrap_or(0),
            ours: drops_before.is_none(),
        })
    };
    let bound = make().map_err(CollectError::bind(endpoint))?;
    if bound.receive_buffer_bytes < receive_buffer_bytes {
        tracing::warn!(
            "{endpoint}: the kernel grants a receive buffer of {} bytes, not {receive_buffer_bytes}; bursts may be dropped. \
             Allow it by: sysctl -w net.core.rmem_max={receive_buffer_bytes}",
            bound.receive_buffer_bytes
        );
    }
    Ok(bound)
}

/// The socket that was handed over as an open descriptor. It is not passed on to programs that we start.
pub(super) fn inherited(descriptor: RawFd) -> io::Result<Socket> {
    // SAFETY: only numbers are passed.
    if unsafe { libc::fcntl(descriptor, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open. The service manager opened it for this process and says so in the environment, so
    // nothing else in the process owns it; the caller asks once for each.
    let socket = unsafe { Socket::from_raw_fd(descriptor) };
    socket.set_cloexec(true)?;
    Ok(socket)
}

/// Sets the receive buffer, beyond the system's limit where we may: what was granted.
fn set_receive_buffer(socket: &Socket, bytes: usize) -> io::Result<usize> {
    let wanted = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    if set_option(socket, libc::SO_RCVBUFFORCE, wanted).is_err() {
        socket.set_recv_buffer_size(usize::try_from(wanted).unwrap_or(bytes))?;
    }
    // The kernel doubles what is set, for its own overhead, and tells the double.
    Ok(socket.recv_buffer_size()? / 2)
}

fn set_option(socket: &Socket, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `socket` is borrowed, and the value is a `c_int` of the length told.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            ptr::from_ref(&value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The socket's drop counter as it stands now: datagrams since it was opened, modulo 2^32.
pub(super) fn drops(socket: &Socket) -> io::Result<u32> {
    const DROPS: usize = libc::SK_MEMINFO_DROPS as usize;
    let mut values = [0_u32; DROPS + 1];
    let mut length = size_of_val(&values) as libc::socklen_t;
    // SAFETY: the descriptor is open as long as `socket` is borrowed; the kernel writes at most `length` bytes to `values`.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            values.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if outcome == 0 { Ok(values[DROPS]) } else { Err(io::Error::last_os_error()) }
}

/// Lets the calling thread run before others when the CPUs are busy: whether we may. A listener that waits for a CPU loses
/// what its buffer cannot hold.
pub(super) fn hurry_this_thread() -> bool {
    const NICENESS: libc::c_int = -10;
    // SAFETY: only numbers are passed; on Linux the id 0 means the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICENESS) == 0 }
}

/// Places for the datagrams of one receive call.
pub(super) struct Batch {
    bytes: Vec<u8>,
    names: Vec<[u8; NAME_BYTES]>,
    controls: Vec<Control>,
    places: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    received: usize,
}

impl Batch {
    pub(super) fn new() -> Self {
        // SAFETY: null pointers and zero lengths are valid values for these structures of C.
        let (place, header) = unsafe { (mem::zeroed::<libc::iovec>(), mem::zeroed::<libc::mmsghdr>()) };
        Self {
            bytes: vec![0; BATCH * STRIDE],
            names: vec![[0; NAME_BYTES]; BATCH],
            controls: vec![Control::default(); BATCH],
            places: vec![place; BATCH],
            headers: vec![header; BATCH],
            received: 0,
        }
    }

    /// Receives what has arrived, at most [`BATCH`] datagrams: how many. If nothing has, and `wait` is asked, it waits for
    /// the first, at most [`PATIENCE`]. Nothing arrived is an error of kind `WouldBlock`.
    pub(super) fn receive(&mut self, socket: &Socket, wait: bool) -> io::Result<usize> {
        self.received = 0;
        let slots = self.bytes.chunks_exact_mut(STRIDE).zip(&mut self.names).zip(&mut self.controls);
        for (((slot, name), control), (place, header)) in slots.zip(self.places.iter_mut().zip(&mut self.headers)) {
            place.iov_base = slot.as_mut_ptr().cast();
            place.iov_len = DATAGRAM_BYTES;
            // The kernel leaves the lengths it used, so they are set anew for each call.
            let header = &mut header.msg_hdr;
            header.msg_name = name.as_mut_ptr().cast();
            header.msg_namelen = NAME_BYTES as libc::socklen_t;
            header.msg_iov = place;
            header.msg_iovlen = 1;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = size_of::<Control>() as _;
            header.msg_flags = 0;
        }
        let flags = if wait { libc::MSG_WAITFORONE } else { libc::MSG_DONTWAIT };
        // SAFETY: the descriptor is open as long as `socket` is borrowed. There are BATCH headers; each points to a name, an
        // I/O vector, a control buffer and a slot of its own, of the lengths told, all owned by `self`, which is borrowed
        // mutably until the call returns.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                flags as _,
                ptr::null_mut(),
            )
        };
        self.received = usize::try_from(count).map_err(|_| io::Error::last_os_error())?;
        Ok(self.received)
    }

    /// The datagrams of the last call, with their sources.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let slots = self.bytes.chunks_exact(STRIDE).zip(&self.names).zip(&self.headers).take(self.received);
        slots.map(|((slot, name), header)| {
            let length = header.msg_len as usize;
            (source(name), slot.get(..length).unwrap_or_default())
        })
    }

    /// The drop counter that the latest of these datagrams carries; `None` as long as none was ever dropped.
    pub(super) fn drops(&self) -> Option<u32> {
        self.headers.iter().take(self.received).rev().find_map(|header| {
            // SAFETY: the kernel filled this header in the last call, and its control buffer has neither moved nor changed
            // since: both are borrowed with `self`. The kernel wrote whole control messages within `msg_controllen`.
            unsafe {
                let control = libc::CMSG_FIRSTHDR(&raw const header.msg_hdr);
                let found = !control.is_null()
                    && (*control).cmsg_level == libc::SOL_SOCKET
                    && (*control).cmsg_type == libc::SO_RXQ_OVFL;
                found.then(|| libc::CMSG_DATA(control).cast::<u32>().read_unaligned())
            }
        })
    }
}

/// The address in the bytes of a `sockaddr_in` or `sockaddr_in6`, IPv4-mapped ones as IPv4.
fn source(name: &[u8; NAME_BYTES]) -> SocketAddr {
    let [f0, f1, p0, p1, a, b, c, d, v6 @ .., s0, s1, s2, s3] = *name;
    let port = u16::from_be_bytes([p0, p1]);
    if libc::c_int::from(u16::from_ne_bytes([f0, f1])) != libc::AF_INET6 {
        return SocketAddr::new(Ipv4Addr::new(a, b, c, d).into(), port);
    }
    let address = Ipv6Addr::from(v6);
    match address.to_canonical() {
        IpAddr::V4(v4) => SocketAddr::new(v4.into(), port),
        IpAddr::V6(v6) => std::net::SocketAddrV6::new(v6, port, 0, u32::from_ne_bytes([s0, s1, s2, s3])).into(),
    }
}
