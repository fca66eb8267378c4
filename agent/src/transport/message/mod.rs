//! What frames say: protobuf inside, typed values outside.
//!
//! Decoding turns a payload that a [`Parser`](super::frame::Parser) found into a [`Frame`] whose texts are names, whose
//! numbers are in range and whose free text is short and printable. Nothing a peer sends makes it panic or take more than
//! a small multiple of the frame's own size.

mod gossip;
mod values;
mod wire;

use super::frame::{HEADER, Kind, header};
use crate::reason::Reason;
pub use gossip::{Gossip, MAX_PIECE};
pub use values::{
    Bench, Capabilities, Credit, Detail, Features, Hello, Incarnation, LaneRole, MAX_DETAIL, Open, Opened, Purpose,
    Refused, TraceId, VersionRange, WallTime,
};

/// A payload that does not say what its kind must say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Not protobuf, or of other types.
    #[error("{kind} is not a valid message")]
    Protobuf {
        /// The frame's kind.
        kind: Kind,
        /// What the decoder says.
        #[source]
        source: prost::DecodeError,
    },
    /// A field whose value is outside its rules.
    #[error("{kind} with an invalid {field}")]
    Field {
        /// The frame's kind.
        kind: Kind,
        /// The field.
        field: &'static str,
    },
}

/// A frame other than DATA. The `u32` of some is the number of their stream, from 1.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Frame {
    /// HELLO.
    Hello(Box<Hello>),
    /// OPEN n.
    Open(u32, Box<Open>),
    /// OPENED n.
    Opened(u32, Opened),
    /// REFUSED n.
    Refused(u32, Refused),
    /// FIN n.
    Fin(u32),
    /// RESET n.
    Reset(u32, Reason),
    /// DONE n.
    Done(u32),
    /// PING with an id to be repeated.
    Ping(u64),
    /// PONG: the id of the PING, and the sender's wall time where it tells it (control channels do).
    Pong(u64, Option<WallTime>),
    /// DATAGRAM.
    Datagram(Vec<u8>),
    /// CREDIT n.
    Credit(u32, Credit),
    /// WANT_LANES: how many reverse lanes the sender would like to have.
    WantLanes(u32),
    /// BYE m: the sender serves no stream above m (0: none at all).
    Bye(u32, Reason),
    /// SUMMARY, ASK, HAND: of mesh documents.
    Gossip(Gossip),
}

impl Frame {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Hello(_) => Kind::Hello,
            Self::Open(..) => Kind::Open,
            Self::Opened(..) => Kind::Opened,
            Self::Refused(..) => Kind::Refused,
            Self::Fin(_) => Kind::Fin,
            Self::Reset(..) => Kind::Reset,
            Self::Done(_) => Kind::Done,
            Self::Ping(_) => Kind::Ping,
            Self::Pong(..) => Kind::Pong,
            Self::Datagram(_) => Kind::Datagram,
            Self::Credit(..) => Kind::Credit,
            Self::WantLanes(_) => Kind::WantLanes,
            Self::Bye(..) => Kind::Bye,
            Self::Gossip(gossip) => gossip.kind(),
        }
    }

    /// Reads the payload of a frame of `kind`.
    ///
    /// # Errors
    /// [`MessageError`] if the payload is not what the kind asks for. DATA is not for this function and an error too.
    pub fn decode(kind: Kind, payload: &[u8]) -> Result<Self, MessageError> {
        Ok(match kind {
            Kind::Hello => Self::Hello(Box::new(message::<wire::Hello>(kind, payload)?.try_into()?)),
            Kind::Open => {
                let (n, rest) = stream(kind, payload)?;
                Self::Open(n, Box::new(message::<wire::Open>(kind, rest)?.try_into()?))
            }
            Kind::Opened => {
                let (n, rest) = stream(kind, payload)?;
                Self::Opened(n, message::<wire::Opened>(kind, rest)?.try_into()?)
            }
            Kind::Refused => {
                let (n, rest) = stream(kind, payload)?;
                Self::Refused(n, message::<wire::Refused>(kind, rest)?.try_into()?)
            }
            Kind::Data => return Err(MessageError::Field { kind, field: "place" }),
            Kind::Fin => Self::Fin(lone(kind, payload)?),
            Kind::Reset => {
                let (n, rest) = stream(kind, payload)?;
                Self::Reset(n, reason(message::<wire::Because>(kind, rest)?.reason))
            }
            Kind::Done => Self::Done(lone(kind, payload)?),
            Kind::Ping => Self::Ping(message::<wire::Probe>(kind, payload)?.id),
            Kind::Pong => {
                let wire::Probe { id, wall_time } = message(kind, payload)?;
                Self::Pong(id, wall_time.map(WallTime::from_micros))
            }
            Kind::Datagram => Self::Datagram(payload.to_vec()),
            Kind::Credit => {
                let (n, rest) = stream(kind, payload)?;
                let wire::Credit { granted, returned } = message(kind, rest)?;
                Self::Credit(n, Credit { granted, returned })
            }
            Kind::WantLanes => Self::WantLanes(message::<wire::WantLanes>(kind, payload)?.count),
            Kind::Bye => {
                let (m, rest) = number(kind, payload)?;
                Self::Bye(m, reason(message::<wire::Because>(kind, rest)?.reason))
            }
            Kind::Summary => Self::Gossip(message::<wire::Summary>(kind, payload)?.try_into()?),
            Kind::Ask => Self::Gossip(message::<wire::Ask>(kind, payload)?.try_into()?),
            Kind::Hand => Self::Gossip(message::<wire::Hand>(kind, payload)?.try_into()?),
        })
    }

    /// Appends the frame, header and all.
    ///
    /// # Panics
    /// If a [`Frame::Datagram`] is longer than 4096 bytes, or a piece of a document than [`MAX_PIECE`]. Every other value fits its frame by construction.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([0; HEADER]);
        match self {
            Self::Hello(hello) => put(out, &wire::Hello::from(&**hello)),
            Self::Open(n, open) => {
                out.extend(n.to_be_bytes());
                put(out, &wire::Open::from(&**open));
            }
            Self::Opened(n, opened) => {
                out.extend(n.to_be_bytes());
                put(out, &wire::Opened::from(opened));
            }
            Self::Refused(n, refused) => {
                out.extend(n.to_be_bytes());
                put(out, &wire::Refused::from(refused));
            }
            Self::Fin(n) | Self::Done(n) => out.extend(n.to_be_bytes()),
            Self::Reset(n, why) | Self::Bye(n, why) => {
                out.extend(n.to_be_bytes());
                put(out, &wire::Because { reason: why.code().into() });
            }
            Self::Ping(id) => put(out, &wire::Probe { id: *id, wall_time: None }),
            Self::Pong(id, time) => put(out, &wire::Probe { id: *id, wall_time: time.map(WallTime::micros) }),
            Self::Datagram(payload) => out.extend(payload),
            Self::Credit(n, Credit { granted, returned }) => {
                out.extend(n.to_be_bytes());
                put(out, &wire::Credit { granted: *granted, returned: *returned });
            }
            Self::WantLanes(count) => put(out, &wire::WantLanes { count: *count }),
            Self::Gossip(gossip) => gossip.put(out),
        }
        let head = header(self.kind(), out.len() - start - HEADER);
        out[start..start + HEADER].copy_from_slice(&head);
    }

    /// The frame as bytes of its own.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

fn message<M: prost::Message + Default>(kind: Kind, payload: &[u8]) -> Result<M, MessageError> {
    M::decode(payload).map_err(|source| MessageError::Protobuf { kind, source })
}

/// Appends a message to a growing buffer, which never lacks room.
fn put(out: &mut Vec<u8>, message: &impl prost::Message) {
    message.encode_raw(out);
}

fn number(kind: Kind, payload: &[u8]) -> Result<(u32, &[u8]), MessageError> {
    match payload.split_first_chunk() {
        Some((n, rest)) => Ok((u32::from_be_bytes(*n), rest)),
        None => Err(MessageError::Field { kind, field: "stream number" }),
    }
}

fn stream(kind: Kind, payload: &[u8]) -> Result<(u32, &[u8]), MessageError> {
    match number(kind, payload)? {
        (0, _) => Err(MessageError::Field { kind, field: "stream number" }),
        found => Ok(found),
    }
}

fn lone(kind: Kind, payload: &[u8]) -> Result<u32, MessageError> {
    match stream(kind, payload)? {
        (n, []) => Ok(n),
        _ => Err(MessageError::Field { kind, field: "length" }),
    }
}

/// Codes above a byte are as unknown as those below that this version does not know.
fn reason(code: u32) -> Reason {
    u8::try_from(code).map_or(Reason::Other, Reason::from_code)
}

#[cfg(test)]
pub(crate) mod tests;
