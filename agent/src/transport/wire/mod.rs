//! A TCP connection after its TLS handshake, with the bytes that are in flight on it.
//!
//! The plaintext is read and written where the records are: nothing is copied between the socket and the application. Records
//! are sealed and opened by the [record layer](super::record) of this agent, by the [kernel](super::ktls), or, as the reference, by
//! rustls.

mod buffer;
mod inbound;
mod kernel;
mod lost;
mod outbound;
mod slow;

use std::io::{self, IoSlice, IoSliceMut};
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsStream;

pub(crate) use self::buffer::let_go;
use self::inbound::Inbound;
use self::kernel::Kernel;
pub use self::lost::Lost;
use self::outbound::{MOST_SLOTS, Outbound};
use super::frame::HEADER;
use super::ktls::KernelSocket;
use super::record::{self, KernelRecords, Received, Records};
use super::socket::Socket;
use crate::vectored;

/// The most plaintext of a record (RFC 8446 §5.1).
const CONTENT: usize = record::MAX_CONTENT;
/// A full record of this agent's.
const RECORD: usize = record::HEADER + CONTENT + record::TRAILER;
/// How many records are read or written at once where the kernel paces them: more of them would wait in its queue.
const PACED: usize = 2;
/// The same where it does not.
const UNPACED: usize = MOST_SLOTS;
/// The most plaintext of rustls that is taken at once.
const PLAIN: usize = 16 * 1024;

/// What a record needs beside its content.
#[derive(Debug, Clone, Copy)]
struct Layout {
    before: usize,
    after: usize,
}

impl Layout {
    fn overhead(self) -> usize {
        self.before + self.after
    }
}

/// Who makes and opens the records.
#[derive(Debug)]
enum Tls {
    /// This agent.
    Records(Socket, Box<Records>),
    /// The kernel.
    Kernel(Box<Kernel>),
    /// rustls.
    Rustls(Box<TlsStream<Socket>>),
}

impl Tls {
    fn layout(&self) -> Layout {
        match self {
            Self::Records(..) => Layout { before: record::HEADER, after: record::TRAILER },
            Self::Kernel(_) | Self::Rustls(_) => Layout { before: 0, after: 0 },
        }
    }

    fn seal(&mut self, record: &mut [u8], content: usize) -> Result<(), Lost> {
        match self {
            Self::Records(_, records) => {
                records.seal(record, content)?;
                Ok(())
            }
            Self::Kernel(_) | Self::Rustls(_) => Ok(()),
        }
    }
}

/// One connection.
#[derive(Debug)]
pub struct Wire {
    tls: Tls,
    inbound: Inbound,
    outbound: Outbound,
    /// How many records one read of the application may fill, and one read of the connection bring.
    batch: usize,
}

impl Wire {
    /// A connection whose records this agent makes. `early` is ciphertext that came right behind the handshake.
    pub fn new(socket: Socket, records: Records, early: &[u8]) -> Self {
        let mut wire = Self::with(Tls::Records(socket, Box::new(records)));
        wire.inbound.preload(early);
        wire
    }

    /// A connection whose records the kernel makes.
    pub fn of_kernel(socket: KernelSocket, records: KernelRecords) -> Self {
        Self::with(Tls::Kernel(Box::new(Kernel::new(socket, records))))
    }

    /// With the plaintext of records that came right behind the handshake and were opened already.
    pub fn preloaded(mut self, plain: &[u8]) -> Self {
        self.inbound.preload_plain(plain);
        self
    }

    /// A connection whose records rustls makes.
    pub fn of_rustls(stream: TlsStream<Socket>) -> Self {
        Self::with(Tls::Rustls(Box::new(stream)))
    }

    fn with(tls: Tls) -> Self {
        Self { tls, inbound: Inbound::default(), outbound: Outbound::default(), batch: PACED }
    }

    /// The socket under it.
    pub fn socket(&self) -> &Socket {
        match &self.tls {
            Tls::Records(socket, _) => socket,
            Tls::Kernel(kernel) => kernel.socket(),
            Tls::Rustls(stream) => stream.get_ref().0,
        }
    }

    /// The same, to take it from the runtime.
    pub fn socket_mut(&mut self) -> &mut Socket {
        match &mut self.tls {
            Tls::Records(socket, _) => socket,
            Tls::Kernel(kernel) => kernel.socket_mut(),
            Tls::Rustls(stream) => stream.get_mut().0,
        }
    }

    /// Plaintext that nobody has looked at.
    pub fn plain(&self) -> &[u8] {
        self.inbound.bytes(self.inbound.plain.clone())
    }

    /// The first `len` bytes of the plaintext have been looked at; where the last `data` of them are.
    pub fn advance(&mut self, len: usize, data: usize) -> Range<usize> {
        self.inbound.plain.start += len;
        self.inbound.plain.start - data..self.inbound.plain.start
    }

    /// Bytes that [`advance`](Self::advance) told the place of. They stay until more is read.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        self.inbound.bytes(range)
    }

    /// Opens the next record that is here already. Whether there was one with something in it.
    ///
    /// # Errors
    /// [`Lost`].
    pub fn open_next(&mut self) -> Result<bool, Lost> {
        let Tls::Records(_, records) = &mut self.tls else { return Ok(false) };
        while self.inbound.plain.is_empty() {
            let sealed = self.inbound.sealed();
            let opened = match records.parse(sealed) {
                Ok(Some(length)) if length <= sealed.len() => records.open(&mut sealed[..length]).map(|o| (length, o)),
                Ok(_) => return Ok(false),
                Err(fatal) => Err(fatal),
            };
            match opened {
                Ok((length, Received::Data(content))) => self.inbound.opened(length, content),
                Ok((length, Received::Nothing)) => self.inbound.opened(length, 0..0),
                Ok((_, Received::Closed)) => return Err(Lost::Closed),
                Err(fatal) => {
                    self.say_alert();
                    return Err(fatal.into());
                }
            }
        }
        Ok(true)
    }

    /// Waits until there is plaintext to look at. All that there was must have been taken: it is overwritten.
    pub fn poll_plain(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        loop {
            if !self.inbound.plain.is_empty() || self.open_next()? {
                return Poll::Ready(Ok(()));
            }
            // What was opened may have to be answered (KeyUpdate).
            if self.has_control() {
                // What cannot be written now goes with the next write.
                if let Poll::Ready(Err(lost)) = self.poll_write(cx) {
                    return Poll::Ready(Err(lost));
                }
            }
            match &mut self.tls {
                Tls::Records(socket, records) => {
                    let room = self.inbound.room(self.batch * RECORD + 1024);
                    let len = room.len();
                    match vectored::poll_read(socket.tcp(), cx, &mut [IoSliceMut::new(room)]) {
                        Poll::Ready(Ok(0)) => return Poll::Ready(Err(Lost::Truncated)),
                        Poll::Ready(Ok(read)) => self.inbound.received(read, len),
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                        Poll::Pending => {
                            self.inbound.release();
                            if self.inbound.is_released() {
                                records.rest(self.outbound.is_busy());
                            }
                            return Poll::Pending;
                        }
                    }
                }
                Tls::Kernel(kernel) => {
                    let room = self.inbound.room(self.batch * CONTENT);
                    // Whole records, so that the kernel need not keep the rest of one.
                    let whole = room.len() / CONTENT * CONTENT;
                    match kernel.poll_read(cx, &mut room[..whole]) {
                        Poll::Ready(Ok(Some(read))) => self.inbound.received_plain(read, whole),
                        Poll::Ready(Ok(None)) => {}
                        Poll::Ready(Err(lost @ Lost::Tls(_))) => {
                            self.say_alert();
                            return Poll::Ready(Err(lost));
                        }
                        Poll::Ready(Err(lost)) => return Poll::Ready(Err(lost)),
                        Poll::Pending => {
                            self.inbound.release();
                            return Poll::Pending;
                        }
                    }
                }
                Tls::Rustls(stream) => {
                    let mut buffer = ReadBuf::new(self.inbound.room(PLAIN));
                    match Pin::new(stream).poll_read(cx, &mut buffer) {
                        Poll::Ready(Ok(())) => {
                            let read = buffer.filled().len();
                            if read == 0 {
                                return Poll::Ready(Err(Lost::Closed));
                            }
                            self.inbound.received_plain(read, usize::MAX);
                        }
                        Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                            return Poll::Ready(Err(Lost::Truncated));
                        }
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                        Poll::Pending => {
                            self.inbound.release();
                            return Poll::Pending;
                        }
                    }
                }
            }
        }
    }

    /// The kernel does not pace what is written: it takes more at once.
    pub fn unpaced(&mut self) {
        self.batch = UNPACED;
    }

    /// Whether its keys have been used for as much as they should be, and cannot be changed: it should carry nothing new.
    pub fn is_worn(&self) -> bool {
        matches!(&self.tls, Tls::Kernel(kernel) if kernel.is_worn())
    }

    /// Whether everything that was queued has been written.
    pub fn is_written(&self) -> bool {
        self.outbound.is_empty()
    }

    /// Whether frames of `len` bytes can be [pushed](Self::push) now.
    pub fn has_room(&self, len: usize) -> bool {
        self.outbound.has_room(self.tls.layout(), len)
    }

    /// Whether they can be, if they may take as large a buffer as there is.
    pub fn takes(&self, len: usize) -> bool {
        self.outbound.takes(self.tls.layout(), len)
    }

    /// Queues frames. They leave with the next write.
    ///
    /// # Errors
    /// [`Lost`].
    ///
    /// # Panics
    /// If they are more than it [takes](Self::takes).
    pub fn push(&mut self, frames: &[u8]) -> Result<(), Lost> {
        self.push_control()?;
        let (layout, tls) = (self.tls.layout(), &mut self.tls);
        self.outbound.push(layout, frames, |record, len| tls.seal(record, len))
    }

    /// Ready when application bytes can be [read in](Self::fill), at least a good part of a record or `allowed`.
    pub fn poll_room(&mut self, cx: &mut Context<'_>, allowed: usize) -> Poll<Result<(), Lost>> {
        if self.outbound.is_full(allowed) || self.has_control() {
            ready!(self.poll_write(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Has `read` read application bytes, `allowed` at most, right into records. `header` gives the header of
    /// a frame with these bytes. After [`poll_room`](Self::poll_room).
    ///
    /// # Errors
    /// [`Lost`].
    pub fn fill(
        &mut self,
        allowed: usize,
        read: impl FnOnce(&mut [IoSliceMut<'_>]) -> Poll<io::Result<usize>>,
        header: impl FnMut(&[u8]) -> Result<[u8; HEADER], Lost>,
    ) -> Result<Poll<io::Result<usize>>, Lost> {
        let (layout, tls) = (self.tls.layout(), &mut self.tls);
        let most = self.batch.min(MOST_SLOTS);
        self.outbound.fill(layout, allowed, most, read, header, |record, len| tls.seal(record, len))
    }

    /// Seals and writes everything that waits. Ready when the kernel has it.
    pub fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        loop {
            self.seal()?;
            if let Tls::Kernel(kernel) = &mut self.tls {
                ready!(kernel.poll_control(cx))?;
            }
            if self.outbound.is_empty() {
                break;
            }
            let sealed = self.outbound.sealed();
            let written = match &mut self.tls {
                Tls::Records(socket, _) => ready!(vectored::poll_write(socket.tcp(), cx, &[IoSlice::new(sealed)]))?,
                Tls::Kernel(kernel) => ready!(kernel.poll_write(cx, sealed))?,
                Tls::Rustls(stream) => ready!(Pin::new(stream).poll_write(cx, sealed))?,
            };
            self.outbound.written(written);
        }
        if let Tls::Rustls(stream) = &mut self.tls {
            ready!(Pin::new(stream).poll_flush(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ends this side's direction in order: close_notify, then the end of the TCP connection.
    pub fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        ready!(self.poll_write(cx))?;
        match &mut self.tls {
            Tls::Records(_, records) => records.close(),
            Tls::Kernel(kernel) => kernel.close(),
            Tls::Rustls(_) => {}
        }
        ready!(self.poll_write(cx))?;
        match &mut self.tls {
            Tls::Records(socket, _) => socket.shutdown()?,
            Tls::Kernel(kernel) => kernel.socket().shutdown()?,
            Tls::Rustls(stream) => ready!(Pin::new(stream).poll_shutdown(cx))?,
        }
        Poll::Ready(Ok(()))
    }

    fn has_control(&self) -> bool {
        match &self.tls {
            Tls::Records(_, records) => records.has_control(),
            Tls::Kernel(kernel) => kernel.has_control(),
            Tls::Rustls(_) => false,
        }
    }

    /// Closes the open record, behind what the record layer has to say.
    fn seal(&mut self) -> Result<(), Lost> {
        self.push_control()?;
        let (layout, tls) = (self.tls.layout(), &mut self.tls);
        self.outbound.seal(layout, |record, len| tls.seal(record, len))
    }

    /// Puts what the record layer has to say before the open record, as far as there is room: the answer to a key update goes
    /// out before any more data (RFC 8446 §4.6.3).
    fn push_control(&mut self) -> Result<(), Lost> {
        let layout = self.tls.layout();
        if let Tls::Records(_, records) = &mut self.tls {
            while records.has_control() && self.outbound.has_room(layout, record::MAX_CONTROL) {
                self.outbound.push_record(layout, record::MAX_CONTROL, |room| {
                    records.seal_control(room).map(Option::unwrap_or_default)
                })?;
            }
        }
        Ok(())
    }

    /// Tells the peer what it did wrong, if the kernel takes it at once. What was not sealed before is not sealed any more.
    fn say_alert(&mut self) {
        self.outbound.forget_open();
        let _best_effort = self.poll_write(&mut Context::from_waker(Waker::noop()));
    }
}

#[cfg(test)]
mod tests;
