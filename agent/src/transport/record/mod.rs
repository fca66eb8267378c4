//! The record layer of TLS 1.3 after the handshake (RFC 8446 §5, §4.6, §6), over buffers of the caller.
//!
//! ```text
//!   traffic secret ─▶ keys ─┬▶ Sealer   content in place ─▶ record
//!      (handshake)          └▶ Opener   record ─▶ content in place
//!
//!   Records = Sealer + Opener + what follows a handshake: key updates, tickets, alerts, the order of control records
//!   KernelRecords = the last of these alone, where the kernel seals and opens
//! ```
//!
//! No I/O, no clock, and no allocation for a record. A record lies in its buffer as it does on the wire:
//!
//! ```text
//!   │ HEADER 5 │ content, MAX_CONTENT at most │ type 1 │ tag 16 │
//!                                             └── TRAILER 17 ──┘
//! ```
//!
//! so that content is read into its place, sealed there and sent from there; and a received record's content is handed on
//! from where it arrived.
//!
//! # Use
//!
//! Sending: before a data record is begun, everything that [`Records::poll_control`] has goes out; records that were begun may
//! be sealed before it, but [`Records::seal`] soon refuses. Records must be sent in the order in which they were sealed. Receiving: [`Records::parse`] says how long the
//! record at the head of a buffer is; once it is whole, [`Records::open`] takes exactly it. After every `open`, and after an
//! error, `poll_control` may have something to send. The first error of the receiving direction ends both.
//!
//! ```
//! use agent::transport::record::{HEADER, Limits, Received, Records, Secret, Side, Suite, TRAILER};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let suite = Suite::Aes128Gcm;
//! let secret = |byte| Secret::new(suite, &[byte; 32]).ok_or("its length is wrong");
//! let mut client = Records::new(suite, Side::Client, secret(1)?, secret(2)?, Limits::default())?;
//! let mut server = Records::new(suite, Side::Server, secret(1)?, secret(2)?, Limits::default())?;
//!
//! let mut buffer = [0; HEADER + 5 + TRAILER];
//! buffer[HEADER..][..5].copy_from_slice(b"hello");
//! let len = client.seal(&mut buffer, 5)?;
//!
//! assert_eq!(server.parse(&buffer)?, Some(len));
//! let Received::Data(content) = server.open(&mut buffer[..len])? else { return Err("no data".into()) };
//! assert_eq!(&buffer[content], b"hello");
//! # Ok(())
//! # }
//! ```

mod cipher;
mod control;
mod crypto_info;
mod error;
mod kernel;
mod keys;
mod message;
mod records;
#[cfg(test)]
pub(crate) mod tests;

pub use cipher::{Opener, Sealer};
pub use crypto_info::CryptoInfo;
pub use error::{Fatal, SealError};
pub use kernel::{Brought, ControlRecord, KernelRecords};
pub use keys::{KeyError, Secret, Suite};
pub use records::{HandedOver, Limits, Received, Records, Side};

/// Length of a record's header: type, version, length.
pub const HEADER: usize = 5;

/// What sealing adds behind the content: its type and the tag.
pub const TRAILER: usize = 1 + TAG;

/// The most content a record may have (RFC 8446 §5.1).
pub const MAX_CONTENT: usize = 1 << 14;

/// Length of the longest record that a peer may send: the rules allow it more expansion than is of use (RFC 8446 §5.2).
pub const MAX_RECORD: usize = HEADER + MAX_CONTENT + 256;

/// Length of the longest record that [`Records::seal_control`] makes, a KeyUpdate's.
pub const MAX_CONTROL: usize = HEADER + message::KEY_UPDATE + TRAILER;

/// Length of an authentication tag, the same in all suites.
const TAG: usize = 16;

/// What a record carries. On the wire, outside, a sealed record is always of the type `ApplicationData`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ContentType {
    /// An alert.
    Alert = 21,
    /// Handshake messages, or parts of them.
    Handshake = 22,
    /// Bytes of the layer above.
    ApplicationData = 23,
}

impl ContentType {
    /// The type that is named inside a sealed record.
    #[inline]
    fn inside(byte: u8) -> Result<Self, Fatal> {
        match byte {
            21 => Ok(Self::Alert),
            22 => Ok(Self::Handshake),
            23 => Ok(Self::ApplicationData),
            other => Err(Fatal::Content(other)),
        }
    }
}

/// How long the record is that begins with `bytes`, its header included; `None` as long as the header is not whole.
///
/// The version is not looked at (RFC 8446 §5.1).
///
/// # Errors
/// It is no sealed record, or of an impossible length. Nothing after it can be made sense of.
pub fn parse(bytes: &[u8]) -> Result<Option<usize>, Fatal> {
    let Some(&[kind, _, _, high, low]) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    if kind != ContentType::ApplicationData as u8 {
        return Err(Fatal::Unsealed(kind));
    }
    match HEADER + usize::from(u16::from_be_bytes([high, low])) {
        len if len > MAX_RECORD => Err(Fatal::Overflow),
        len if len < HEADER + TRAILER => Err(Fatal::BadRecord),
        len => Ok(Some(len)),
    }
}
