//! How soon TCP tries again what nobody has acknowledged.
//!
//! The wait doubles each time, up to two minutes (RFC 6298 §5.5), so after a network has been away for a while it takes as long
//! again until a connection notices that it is back. What carries little and has to notice soon waits for a second at most.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

/// `<linux/tcp.h>`, since Linux 6.15.
const TCP_RTO_MAX_MS: c_int = 44;
/// The least that Linux takes.
const LONGEST: c_int = 1_000;

/// Has TCP wait for a second at most before it sends a SYN or data again. Where the kernel does not know of that, all stays as it is.
pub fn soon(socket: &impl AsFd) {
    if let Err(error) = set(socket) {
        tracing::trace!(%error, "TCP waits as it does");
    }
}

#[expect(unsafe_code, reason = "the option has no safe wrapper in the crates we use")]
fn set(socket: &impl AsFd) -> io::Result<()> {
    let longest = LONGEST;
    let len = libc::socklen_t::try_from(size_of::<c_int>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open as long as it is borrowed; the kernel reads `len` bytes from the number, which has as many, and
    // keeps no pointer to it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_RTO_MAX_MS,
            (&raw const longest).cast(),
            len,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
