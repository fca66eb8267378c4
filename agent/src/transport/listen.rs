//! TCP listeners.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

use crate::tcp::Listener;

/// Connections that wait for accept. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// A TCP listener that does not block. The unspecified IPv6 address takes IPv4 as well.
///
/// # Errors
/// Those of the socket: the address is taken, or this host does not have it.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for connections of the run before to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The same, watched by the runtime.
///
/// # Errors
/// Those of the socket, or if it cannot be watched.
pub fn listen(address: SocketAddr) -> io::Result<Listener> {
    Listener::new(bind(address)?)
}
