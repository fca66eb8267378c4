//! What can go wrong, and what the peer is told of it.

use rustls::AlertDescription as Alert;

/// Why a connection has ended: its peer broke the rules, ended it, or this side cannot go on. There is no way back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fatal {
    /// A record that is not sealed: a plaintext alert, a ChangeCipherSpec, or no TLS at all.
    #[error("a record of type {0} came where only sealed ones may")]
    Unsealed(u8),
    /// Longer than a record may be.
    #[error("a record is too long")]
    Overflow,
    /// It was not sealed by the peer, or not as the record that is due.
    #[error("a record is damaged or forged")]
    BadRecord,
    /// Sealed, but nothing in it but padding.
    #[error("a record has no content type")]
    NoContent,
    /// Sealed, but of a type that may not be inside, or an alert or handshake record with nothing in it, or something else
    /// amid the parts of a handshake message.
    #[error("a record has content of type {0} where it may not")]
    Content(u8),
    /// A handshake message that may not come now.
    #[error("an unexpected handshake message of type {0}")]
    Message(u8),
    /// Something follows a KeyUpdate in its record, sealed with a key that was to be given up.
    #[error("a record goes on after a key update")]
    NotLast,
    /// A message whose length cannot be.
    #[error("a message of wrong length")]
    Decode,
    /// A KeyUpdate with a value that does not exist.
    #[error("a key update of the unknown kind {0}")]
    KeyUpdate(u8),
    /// One record after the other that carries nothing for the layer above.
    #[error("too many records without data")]
    Flood,
    /// The keys of this connection have to be changed, and the kernel that seals or opens its records cannot.
    #[error("keys have to be changed, which the kernel cannot before Linux 6.14")]
    KeysStay,
    /// The peer ended the connection by an alert.
    #[error("the peer ended the connection: {0:?}")]
    Alerted(Alert),
    /// A sequence number has come to its end, or the crypto library failed.
    #[error("the record layer cannot go on")]
    Internal,
}

impl Fatal {
    /// What the peer is to be told (RFC 8446 §6.2); an alert is not answered.
    #[must_use]
    pub fn alert(self) -> Option<Alert> {
        Some(match self {
            Self::Unsealed(_) | Self::NoContent | Self::Content(_) | Self::Message(_) | Self::NotLast | Self::Flood => {
                Alert::UnexpectedMessage
            }
            Self::Overflow => Alert::RecordOverflow,
            Self::BadRecord => Alert::BadRecordMac,
            Self::Decode => Alert::DecodeError,
            Self::KeyUpdate(_) => Alert::IllegalParameter,
            Self::KeysStay | Self::Internal => Alert::InternalError,
            Self::Alerted(_) => return None,
        })
    }
}

/// Why something was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The content is longer than [`MAX_CONTENT`](super::MAX_CONTENT), or the buffer does not hold the record.
    #[error("content or buffer of wrong length")]
    Length,
    /// Control records come first: see [`Records::poll_control`](super::Records::poll_control).
    #[error("control records are to be sent first")]
    ControlFirst,
    /// The sending direction was closed.
    #[error("the sending direction is closed")]
    Closed,
    /// The connection has ended.
    #[error(transparent)]
    Ended(#[from] Fatal),
}
