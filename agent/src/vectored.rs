//! Vectored reads and writes on a socket of the runtime.
//!
//! A read or write that did less than it was asked to has emptied, or filled, the kernel's buffer: the next one would only find
//! that out by another system call. So it counts as not ready until the kernel says otherwise, which it does for whatever
//! happens afterwards, since its events are edge-triggered. An end of the connection that is known already stays known. This
//! does not hold where a read stops at urgent data (tcp(7)), which an application may send and an agent never does.

use std::io::{self, IoSlice, IoSliceMut};
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Reads what another agent sends into `slots`, one after the other. `Ok(0)` is the end of it, unless the slots are empty.
pub fn poll_read(socket: &TcpStream, cx: &mut Context<'_>, slots: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {
    let wanted: usize = slots.iter().map(|slot| slot.len()).sum();
    loop {
        ready!(socket.poll_read_ready(cx))?;
        if let Some(result) = attempt(socket, Interest::READABLE, wanted, || rustix::io::readv(socket, slots)) {
            return Poll::Ready(result);
        }
    }
}

/// The same for what an application sends, which may have urgent data in it.
pub fn poll_read_app(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    slots: &mut [IoSliceMut<'_>],
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_read_ready(cx))?;
        if let Some(result) = attempt(socket, Interest::READABLE, 0, || rustix::io::readv(socket, slots)) {
            return Poll::Ready(result);
        }
    }
}

/// Writes `chunks`, one after the other, as far as there is room.
pub fn poll_write(socket: &TcpStream, cx: &mut Context<'_>, chunks: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
    let wanted: usize = chunks.iter().map(|chunk| chunk.len()).sum();
    loop {
        ready!(socket.poll_write_ready(cx))?;
        if let Some(result) = attempt(socket, Interest::WRITABLE, wanted, || rustix::io::writev(socket, chunks)) {
            return Poll::Ready(result);
        }
    }
}

/// One system call. `None`: the socket was not ready after all. `wanted`: less than that means that it is not ready for another
/// call; 0 if it does not.
pub fn attempt(
    socket: &TcpStream,
    interest: Interest,
    wanted: usize,
    mut call: impl FnMut() -> rustix::io::Result<usize>,
) -> Option<io::Result<usize>> {
    let mut done = None;
    let result = socket.try_io(interest, || {
        let len = loop {
            match call() {
                Err(Errno::INTR) => {}
                result => break result?,
            }
        };
        done = Some(len);
        if 0 < len && len < wanted { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(len) }
    });
    match (done, result) {
        (Some(len), _) => Some(Ok(len)),
        (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => None,
        (None, result) => Some(result),
    }
}
