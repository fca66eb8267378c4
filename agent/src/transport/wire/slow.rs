//! A connection as a byte stream, for what is rare: HELLO, and control channels.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Lost, Wire};
use crate::transport::record::Fatal;

impl From<Lost> for io::Error {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Io(error) => error,
            Lost::Closed | Lost::Truncated => Self::new(io::ErrorKind::UnexpectedEof, lost.to_string()),
            // As rustls tells it, for those who explain it.
            Lost::Tls(Fatal::Alerted(alert)) => {
                Self::new(io::ErrorKind::InvalidData, rustls::Error::AlertReceived(alert))
            }
            Lost::Tls(_) | Lost::Broken(_) => Self::new(io::ErrorKind::InvalidData, lost.to_string()),
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match ready!(self.poll_plain(cx)) {
            Ok(()) => {}
            Err(Lost::Closed) => return Poll::Ready(Ok(())),
            Err(lost) => return Poll::Ready(Err(lost.into())),
        }
        let len = self.plain().len().min(buf.remaining());
        buf.put_slice(&self.plain()[..len]);
        self.advance(len, 0);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let len = bytes.len().min(super::super::lane::machine::MAX_QUEUED);
        if !self.has_room(len) {
            ready!(Wire::poll_write(&mut self, cx))?;
        }
        self.push(&bytes[..len])?;
        Poll::Ready(Ok(len))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Wire::poll_write(&mut self, cx).map_err(io::Error::from)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_close(cx).map_err(io::Error::from)
    }
}
