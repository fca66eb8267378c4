//! TLS records by the kernel (kTLS): it seals what is written to a socket, and opens what is read.
//!
//! ```text
//!   handshake ─▶ Records ─ take_over ─┬─▶ KernelSocket: TLS_TX and TLS_RX are set        plaintext in, plaintext out
//!                                     │   KernelRecords: key updates, alerts, the end
//!                                     └─▶ the socket and the Records as they were: the kernel would not
//! ```
//!
//! It fails closed. A [`Kernel`] comes from having tried it out alone, a [`KernelSocket`] from TLS_TX having been set on this very
//! socket, and what writes plaintext takes a `KernelSocket`. If the kernel has the keys of one direction and not of the other, the
//! connection ends.

mod cmsg;
mod detect;
mod sys;

use std::io;
use std::os::fd::AsFd;
use std::task::{Context, Poll, ready};

use rustix::net::SendFlags;

pub use self::detect::{Kernel, Missing};
use self::sys::Direction;
use super::record::{ControlRecord, CryptoInfo, HandedOver, KernelRecords, Records};
use super::socket::Socket;
use crate::tcp::{Direction as Way, poll};

/// A socket whose kernel seals what is written to it and opens what is read.
#[derive(Debug)]
pub struct KernelSocket {
    socket: Socket,
}

/// What has become of a connection that was to be handed to the kernel.
#[derive(Debug)]
pub enum Handed {
    /// The kernel has it.
    Over(KernelSocket, KernelRecords),
    /// It refused, and why; all is as it was.
    Back(Socket, Box<Records>, io::Error),
}

/// Hands a connection to the kernel. All that was read from the socket must have been opened, all that was sealed written.
///
/// # Errors
/// It has taken the keys of one direction alone, or they could not be made: the connection is of no further use.
pub fn take_over(kernel: Kernel, socket: Socket, records: Box<Records>) -> io::Result<Handed> {
    let fd = socket.tcp().as_fd();
    let sending = |keys| sys::attach(fd).and_then(|()| sys::set_keys(fd, Direction::Sending, &keys));
    let receiving = |keys| sys::set_keys(fd, Direction::Receiving, &keys);
    let records = match records.hand_over(kernel.rekeys(), sending, receiving)? {
        HandedOver::Over(records) => records,
        HandedOver::Back(records, error) => return Ok(Handed::Back(socket, records, error)),
    };
    // A kernel before 6.0 does not know it, and decrypts to where it copies from.
    let _older = sys::expect_no_padding(fd);
    Ok(Handed::Over(KernelSocket { socket }, records))
}

impl KernelSocket {
    /// The socket. Whatever is written to it is sealed by the kernel.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// The same, to take it from the runtime.
    pub fn socket_mut(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Receives into `room`: how much, and of records of what type, if the kernel says so. Nothing of no type is the end of the
    /// connection.
    pub fn poll_receive(&self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<(usize, Option<u8>)>> {
        let mut record = None;
        // Less than there is room for does not mean that nothing more is here: a read ends at a record of another type.
        let received = poll(self.socket.tcp(), cx, Way::In, 0, |tcp| {
            let (len, of) = sys::receive(tcp.as_fd(), room)?;
            record = of;
            Ok(len)
        });
        received.map_ok(|len| (len, record))
    }

    /// Has the kernel seal and send data, as far as it has room.
    pub fn poll_send(&self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        poll(self.socket.tcp(), cx, Way::Out, 0, |tcp| rustix::net::send(tcp, data, SendFlags::NOSIGNAL))
    }

    /// Has it seal and send a record that is not data.
    pub fn poll_send_control(&self, cx: &mut Context<'_>, record: &ControlRecord) -> Poll<io::Result<()>> {
        let send = |tcp: &std::net::TcpStream| sys::send(tcp.as_fd(), record.kind as u8, record.content());
        let sent = ready!(poll(self.socket.tcp(), cx, Way::Out, 0, send))?;
        // A few bytes are one record or none.
        Poll::Ready(if sent == record.content().len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) })
    }

    /// Whatever is sent from now on is sealed with these keys.
    ///
    /// # Errors
    /// The kernel goes on with the old ones: nothing more may be sent.
    pub fn set_sending_keys(&self, keys: &CryptoInfo) -> io::Result<()> {
        sys::set_keys(self.socket.tcp().as_fd(), Direction::Sending, keys)
    }

    /// Whatever comes from now on is opened with these keys.
    ///
    /// # Errors
    /// The kernel opens nothing more.
    pub fn set_receiving_keys(&self, keys: &CryptoInfo) -> io::Result<()> {
        sys::set_keys(self.socket.tcp().as_fd(), Direction::Receiving, keys)
    }
}
