//! The system calls of kTLS, which have no safe wrapper in the crates we use.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

use super::cmsg::RecordType;
use crate::transport::record::CryptoInfo;

/// A direction, as the kernel numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Direction {
    /// What is written.
    Sending = libc::TLS_TX,
    /// What is read.
    Receiving = libc::TLS_RX,
}

/// Puts the kernel's TLS between a connected socket and TCP. It does nothing until it has keys.
pub(super) fn attach(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::IPPROTO_TCP, libc::TCP_ULP, b"tls")
}

/// Gives it the keys of a direction. From now on it seals what is written, or opens what is read.
pub(super) fn set_keys(socket: BorrowedFd<'_>, direction: Direction, keys: &CryptoInfo) -> io::Result<()> {
    set(socket, libc::SOL_TLS, direction as c_int, keys.as_bytes())
}

/// Tells it that the peer does not pad records: it then decrypts right to where they are read, and once more if one is padded.
pub(super) fn expect_no_padding(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_TLS, libc::TLS_RX_EXPECT_NO_PAD, &1_i32.to_ne_bytes())
}

#[expect(unsafe_code, reason = "these options have no safe wrapper in the crates we use")]
fn set(socket: BorrowedFd<'_>, level: c_int, option: c_int, value: &[u8]) -> io::Result<()> {
    let len = libc::socklen_t::try_from(value.len()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open as long as it is borrowed; the kernel reads `len` bytes from `value`, which has as many, and
    // keeps no pointer to it.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value.as_ptr().cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends one record of type `record`, not data; how much of `content` the kernel has taken.
#[expect(
    unsafe_code,
    reason = "control messages of another level than SOL_SOCKET have no safe wrapper in the crates we use"
)]
pub(super) fn send(socket: BorrowedFd<'_>, record: u8, content: &[u8]) -> Result<usize, Errno> {
    let mut control = RecordType::of(record);
    let mut slot = libc::iovec { iov_base: content.as_ptr().cast_mut().cast(), iov_len: content.len() };
    let message = header(&mut slot, &mut control);
    // SAFETY: `message` points to one slot, whose bytes are `content`, which is only read, and to a whole control message; all of
    // them live on this stack or are borrowed until the call is over.
    count(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) })
}

/// Receives into `room`: how much, and of records of what type, if the kernel says so.
#[expect(
    unsafe_code,
    reason = "control messages of another level than SOL_SOCKET have no safe wrapper in the crates we use"
)]
pub(super) fn receive(socket: BorrowedFd<'_>, room: &mut [u8]) -> Result<(usize, Option<u8>), Errno> {
    let mut control = RecordType::default();
    let mut slot = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    let mut message = header(&mut slot, &mut control);
    // SAFETY: `message` points to one slot, whose bytes are `room`, and to room for a control message of plain numbers, for which
    // whatever the kernel writes is a value; all of them live on this stack or are borrowed until the call is over.
    let len = count(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) })?;
    // The length is of another type with each C library.
    #[allow(clippy::useless_conversion, reason = "not where it is a usize")]
    let told = usize::try_from(message.msg_controllen).unwrap_or(0);
    Ok((len, control.said_by_kernel(told, message.msg_flags)))
}

#[expect(unsafe_code, reason = "the structure has private padding with some C libraries, so it cannot be written out")]
fn header(slot: &mut libc::iovec, control: &mut RecordType) -> libc::msghdr {
    // SAFETY: plain numbers and pointers, for which zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = slot;
    message.msg_iovlen = 1;
    message.msg_control = std::ptr::from_mut(control).cast::<c_void>();
    message.msg_controllen = size_of::<RecordType>() as _;
    message
}

fn count(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO))
}
