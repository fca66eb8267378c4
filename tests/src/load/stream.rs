//! One connection: how it ends, and how to end it.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use socket2::SockRef;

/// How the peer's sending side came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// In order, after so many bytes.
    EndOfFile(u64),
    /// By a reset, after so many bytes.
    Reset(u64),
    /// Not at all: nothing came for the bound.
    Silence(u64),
}

/// Reads on until the peer's sending side ends, and tells how. The bound is on the time between two reads.
pub fn ending(stream: &TcpStream, bound: Duration) -> Result<Ending> {
    stream.set_read_timeout(Some(bound))?;
    let (mut stream, mut buffer, mut bytes) = (stream, vec![0; 64 * 1024], 0);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(Ending::EndOfFile(bytes)),
            Ok(n) => bytes += n as u64,
            Err(e) if e.kind() == ErrorKind::ConnectionReset => return Ok(Ending::Reset(bytes)),
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Ok(Ending::Silence(bytes));
            }
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e).context("a connection that ends oddly"),
        }
    }
}

/// Ends a connection by a reset.
pub fn abort(stream: TcpStream) -> Result<()> {
    // Close with a linger time of zero sends RST (RFC 9293 §3.10.4, ABORT).
    SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    drop(stream);
    Ok(())
}

/// Reads exactly `length` bytes within `bound` a read.
pub fn read_some(stream: &TcpStream, length: usize, bound: Duration) -> Result<Vec<u8>> {
    stream.set_read_timeout(Some(bound))?;
    let (mut stream, mut bytes) = (stream, vec![0; length]);
    stream.read_exact(&mut bytes).with_context(|| format!("read {length} bytes"))?;
    Ok(bytes)
}

/// Sends `bytes` from `near` to `far`, and the same back.
pub fn round_trip(near: &TcpStream, far: &TcpStream, bytes: &[u8], bound: Duration) -> Result<()> {
    for (mut from, to) in [(near, far), (far, near)] {
        from.write_all(bytes).context("send")?;
        ensure!(read_some(to, bytes.len(), bound)? == bytes, "other bytes came than were sent");
    }
    Ok(())
}
