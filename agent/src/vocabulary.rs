//! Words that several rooms say alike: in JSON, in metric labels, in log fields.

use std::sync::Arc;

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

/// The kinds of sources of mesh documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SourceKind {
    /// The mesh file in the agent's directory.
    File,
    /// The peers, in a signed mesh.
    Gossip,
    /// An etcd cluster.
    Etcd,
    /// A web server.
    Https,
}

impl SourceKind {
    /// A stable name: JSON, metric labels, audit events.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Gossip => "gossip",
            Self::Etcd => "etcd",
            Self::Https => "https",
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
    /// The kernel (kTLS), if it can.
    Kernel,
}

/// The longest name that the kernel knows (TCP_CA_NAME_MAX without its end).
const LONGEST_CONGESTION: usize = 15;

/// The congestion control of connections between agents.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Congestion {
    /// By the measured round trip of each connection.
    #[default]
    Auto,
    /// What the system is set to.
    System,
    /// One for all connections between agents.
    Named(CongestionName),
}

/// The name of a congestion control of the kernel, such as `bbr`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CongestionName(Arc<str>);

impl CongestionName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name of 1 to 15 lowercase letters, digits, `_` and `-`; nothing says that the kernel has it.
    pub fn new(text: &str) -> Option<Self> {
        let known = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'_' | b'-');
        ((1..=LONGEST_CONGESTION).contains(&text.len()) && text.bytes().all(known)).then(|| Self(text.into()))
    }
}

impl std::fmt::Display for CongestionName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn congestion_controls_are_named_as_the_kernel_could_name_one() {
        let is_name = |text: &str| CongestionName::new(text).is_some();
        assert!(["bbr", "cubic", "dctcp-reno", "tcp_x_15_bytes_"].into_iter().all(is_name));
        assert!(!["", "BBR", "b b", "b\0", "sixteen_letters_"].into_iter().any(is_name));
    }
}
