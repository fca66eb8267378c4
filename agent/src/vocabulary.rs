//! Words that several rooms say alike: in JSON, in metric labels, in log fields.

use serde::{Deserialize, Serialize};

/// Whether a peer is linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerState {
    /// Linked: its HELLO has been accepted.
    Up,
    /// A dial or a handshake is under way.
    Connecting,
    /// The last try failed; see the peer's `error`.
    Down,
    /// Nothing needs a link, or the peer has no address and has not dialled.
    Idle,
}

impl PeerState {
    /// The name that JSON and metric labels carry.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Connecting => "connecting",
            Self::Down => "down",
            Self::Idle => "idle",
        }
    }
}

/// Who makes the records of TLS over TCP, after the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecordLayer {
    /// This agent's own record layer.
    #[default]
    Adit,
    /// rustls: slower, the reference.
    Rustls,
}

/// How a link runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// TLS over TCP, straight.
    Lane,
    /// QUIC, straight.
    Quic,
    /// Through a common peer.
    Relay,
}

impl Path {
    /// The name that JSON and metric labels carry.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lane => "lane",
            Self::Quic => "quic",
            Self::Relay => "relay",
        }
    }
}

/// Which side of a service a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It connects peers' streams to the target.
    Offer,
    /// It listens for applications.
    Reach,
}

impl Role {
    /// The name that JSON and metric labels carry.
    pub fn name(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Reach => "reach",
        }
    }
}

/// Who went to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Somebody came to this node.
    In,
    /// This node went to somebody.
    Out,
}

impl Direction {
    /// The name that JSON, metric labels and log fields carry.
    pub fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}
