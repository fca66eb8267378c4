//! A connection whose records the kernel makes: plaintext goes through the socket, and what is not data beside it.

use std::io;
use std::task::{Context, Poll, ready};

use super::Lost;
use crate::transport::ktls::KernelSocket;
use crate::transport::record::{Brought, Fatal, KernelRecords};
use crate::transport::socket::Socket;

#[derive(Debug)]
pub(super) struct Kernel {
    socket: KernelSocket,
    records: KernelRecords,
}

impl Kernel {
    pub(super) fn new(socket: KernelSocket, records: KernelRecords) -> Self {
        Self { socket, records }
    }

    pub(super) fn socket(&self) -> &Socket {
        self.socket.socket()
    }

    pub(super) fn socket_mut(&mut self) -> &mut Socket {
        self.socket.socket_mut()
    }

    /// Whether there is something to be said before more data.
    pub(super) fn has_control(&self) -> bool {
        self.records.has_control()
    }

    /// Whether it should carry no more than what it carries now.
    pub(super) fn is_worn(&self) -> bool {
        self.records.is_worn()
    }

    /// A close_notify is to be said, and nothing after it.
    pub(super) fn close(&mut self) {
        self.records.close();
    }

    /// Reads data into `room`. What is not data is dealt with; `None`: that may have to be answered before more is read.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<Result<Option<usize>, Lost>> {
        let (len, kind) = match ready!(self.socket.poll_receive(cx, room)) {
            Ok((0, None)) => return Poll::Ready(Err(Lost::Truncated)),
            Ok((_, None)) => {
                return Poll::Ready(Err(Lost::Broken("the kernel does not say what it has received".to_owned())));
            }
            Ok((len, Some(kind))) => (len, kind),
            Err(error) => {
                return Poll::Ready(Err(match cause(&error) {
                    Some(fatal) => self.records.fail(fatal).into(),
                    None => error.into(),
                }));
            }
        };
        Poll::Ready(match self.records.handle(kind, &room[..len])? {
            Brought::Data => Ok(Some(len)),
            Brought::Nothing => Ok(None),
            Brought::Closed => Err(Lost::Closed),
            Brought::NextKeys(keys) => match self.socket.set_receiving_keys(&keys) {
                Ok(()) => Ok(None),
                Err(error) => {
                    self.records.fail(Fatal::Internal);
                    Err(error.into())
                }
            },
        })
    }

    /// Writes data, behind what is to be said before it.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Result<usize, Lost>> {
        ready!(self.poll_control(cx))?;
        self.records.may_send()?;
        let sent = ready!(self.socket.poll_send(cx, data))?;
        self.records.sent(sent, sent == data.len());
        Poll::Ready(Ok(sent))
    }

    /// Says what is to be said before more data.
    pub(super) fn poll_control(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        while let Some(record) = self.records.next_control() {
            if let Err(error) = ready!(self.socket.poll_send_control(cx, &record)) {
                self.records.break_off();
                return Poll::Ready(Err(error.into()));
            }
            if let Some(keys) = self.records.control_sent()?
                && let Err(error) = self.socket.set_sending_keys(&keys)
            {
                self.records.break_off();
                return Poll::Ready(Err(error.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What the peer has done, if that is what the kernel's error says.
fn cause(error: &io::Error) -> Option<Fatal> {
    match error.raw_os_error() {
        Some(libc::EBADMSG) => Some(Fatal::BadRecord),
        Some(libc::EMSGSIZE) => Some(Fatal::Overflow),
        _ => None,
    }
}
