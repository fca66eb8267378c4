//! A TCP socket under TLS.

use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tcp::{Direction, Tcp, poll};
use crate::vectored;

/// A TCP connection under TLS. Beside reading and writing it can be watched for a RST that waits behind unread bytes.
#[derive(Debug)]
pub struct Socket {
    tcp: Tcp,
}

impl Socket {
    /// Wraps a connected socket.
    pub fn new(tcp: Tcp) -> Self {
        Self { tcp }
    }

    /// The socket itself.
    pub fn tcp(&self) -> &Tcp {
        &self.tcp
    }

    /// The same, to take it from the runtime.
    pub fn tcp_mut(&mut self) -> &mut Tcp {
        &mut self.tcp
    }

    /// Makes its end a RST.
    pub fn abort_on_drop(&self) {
        drop(socket2::SockRef::from(&self.tcp).set_linger(Some(std::time::Duration::ZERO)));
    }

    /// Ends the sending direction.
    ///
    /// # Errors
    /// The kernel's.
    pub fn shutdown(&self) -> io::Result<()> {
        match self.tcp.socket().shutdown(std::net::Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            result => result,
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let room = buf.initialize_unfilled();
        let read = |socket: &std::net::TcpStream| rustix::io::readv(socket, &mut [IoSliceMut::new(room)]);
        let len = ready!(poll(&self.tcp, cx, Direction::In, 0, read))?;
        buf.advance(len);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        vectored::poll_write(&self.tcp, cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown())
    }
}
