//! What the kernel knows of a TCP connection: the judge of lanes that are busy.
//!
//! A PING cannot pass a reader that stalls, and TCP_USER_TIMEOUT ends connections whose peer is well but takes nothing, so
//! a busy lane is judged by this: something was sent, and nothing has come back for long. A stalled reader's kernel answers
//! window probes, so what counts is several of them without an answer.

use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::time::Duration;

/// One probe is under way whenever a reader stalls; it is answered at once.
const PROBES: u8 = 2;

/// For how long the far end has answered nothing although data or window probes are under way to it; `None` if all is
/// answered.
pub fn unanswered(socket: &TcpStream) -> Option<Duration> {
    let info = tcp_info(socket)?;
    (info.tcpi_unacked > 0 || info.tcpi_probes >= PROBES).then(|| Duration::from_millis(info.tcpi_last_ack_recv.into()))
}

/// The shortest round trip that the kernel has measured, once it has.
pub fn round_trip(socket: &TcpStream) -> Option<Duration> {
    let info = tcp_info(socket)?;
    // u32::MAX until there is one; an older kernel tells the smoothed one only.
    let micros = match info.tcpi_min_rtt {
        0 | u32::MAX => info.tcpi_rtt,
        shortest => shortest,
    };
    (micros > 0).then(|| Duration::from_micros(micros.into()))
}

#[expect(unsafe_code, reason = "TCP_INFO has no safe wrapper in the crates we use")]
fn tcp_info(socket: &TcpStream) -> Option<libc::tcp_info> {
    // SAFETY: `tcp_info` is plain numbers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    // SAFETY: the descriptor is open for as long as `socket` is borrowed; the kernel writes at most `length` bytes to `info`,
    // which is that large, and says in `length` how many it wrote: an older kernel writes fewer, and the rest stays zero.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut length)
    };
    (result == 0).then_some(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_connection_has_nothing_unanswered() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_server, _) = listener.accept().unwrap();
        assert_eq!(unanswered(&client), None);
        assert_eq!(tcp_info(&client).unwrap().tcpi_state, 1, "TCP_ESTABLISHED");
    }
}
