//! Vectored reads and writes on a socket.
//!
//! A read or write that did less than it was asked to has emptied, or filled, the kernel's buffer: the next one would only find
//! that out by another system call. So it counts as not ready until the kernel says otherwise, which it does for whatever
//! happens afterwards, since its events are edge-triggered. An end of the connection that is known already stays known. This
//! does not hold where a read stops at urgent data (tcp(7)), which an application may send and an agent never does.

use std::io::{self, IoSlice, IoSliceMut};
use std::task::{Context, Poll};

use crate::tcp::{Direction, Tcp, poll};

/// Reads what another agent sends into `slots`, one after the other. `Ok(0)` is the end of it, unless the slots are empty.
pub fn poll_read(tcp: &Tcp, cx: &mut Context<'_>, slots: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {
    let wanted: usize = slots.iter().map(|slot| slot.len()).sum();
    poll(tcp, cx, Direction::In, wanted, |socket| rustix::io::readv(socket, slots))
}

/// The same for what an application sends, which may have urgent data in it.
pub fn poll_read_app(tcp: &Tcp, cx: &mut Context<'_>, slots: &mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>> {
    poll(tcp, cx, Direction::In, 0, |socket| rustix::io::readv(socket, slots))
}

/// Writes `chunks`, one after the other, as far as there is room.
pub fn poll_write(tcp: &Tcp, cx: &mut Context<'_>, chunks: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
    let wanted: usize = chunks.iter().map(|chunk| chunk.len()).sum();
    poll(tcp, cx, Direction::Out, wanted, |socket| rustix::io::writev(socket, chunks))
}
