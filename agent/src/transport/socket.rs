//! A TCP socket that several parts of one task may look at.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::splice::reset_of;

/// A TCP connection under TLS. Beside reading and writing it can be watched for a RST that waits behind unread bytes.
#[derive(Debug, Clone)]
pub struct Socket {
    tcp: Arc<TcpStream>,
}

impl Socket {
    /// Wraps a connected socket.
    pub fn new(tcp: TcpStream) -> Self {
        Self { tcp: Arc::new(tcp) }
    }

    /// The far end's address.
    ///
    /// # Errors
    /// If it is no longer connected.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.peer_addr()
    }

    /// The socket itself.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// Resolves when the connection has been reset, whatever is still unread.
    pub fn reset(&self) -> impl Future<Output = io::Error> + Send + 'static {
        let tcp = Arc::clone(&self.tcp);
        async move { reset_of(&tcp).await }
    }

    /// Lets somebody look at the connection without keeping it.
    pub fn watched(&self) -> Weak<TcpStream> {
        Arc::downgrade(&self.tcp)
    }

    /// Makes the drop of the last handle send a RST.
    pub fn abort_on_drop(&self) {
        drop(socket2::SockRef::from(&*self.tcp).set_linger(Some(std::time::Duration::ZERO)));
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.tcp.poll_read_ready(cx))?;
            match self.tcp.try_read(buf.initialize_unfilled()) {
                Ok(len) => {
                    buf.advance(len);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.tcp.poll_write_ready(cx))?;
            match self.tcp.try_write_vectored(bufs) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match socket2::SockRef::from(&*self.tcp).shutdown(std::net::Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}
