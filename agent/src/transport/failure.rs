//! Why a peer could not be reached: which layer failed, where, and what about it.

use std::fmt;
use std::io;
use std::net::SocketAddr;

/// The layer that failed, from the name down to the application's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Layer {
    /// A DNS name gave no address.
    Resolve,
    /// The kernel knows no way there.
    NoRoute,
    /// The host answered: nothing listens there.
    Refused,
    /// Nothing answered at all: a firewall that drops, or a host that is down.
    Silent,
    /// TLS or QUIC failed before certificates mattered.
    Tls,
    /// A certificate was refused, by this side or by the peer.
    Identity,
    /// The peer speaks another version, or belongs to another mesh.
    Hello,
    /// The offering node does not let this node reach the service.
    Permit,
    /// The application behind the offering agent.
    Target,
    /// A limit of an agent is reached.
    Limit,
}

impl Layer {
    /// Every layer, for tables and metrics.
    pub const ALL: &[Self] = &[
        Self::Resolve,
        Self::NoRoute,
        Self::Refused,
        Self::Silent,
        Self::Tls,
        Self::Identity,
        Self::Hello,
        Self::Permit,
        Self::Target,
        Self::Limit,
    ];

    /// A stable snake_case name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::NoRoute => "no_route",
            Self::Refused => "refused",
            Self::Silent => "silent",
            Self::Tls => "tls",
            Self::Identity => "identity",
            Self::Hello => "hello",
            Self::Permit => "permit",
            Self::Target => "target",
            Self::Limit => "limit",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A failed attempt to reach a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Which layer failed.
    pub layer: Layer,
    /// The address that was tried, if it came to that.
    pub address: Option<SocketAddr>,
    /// What happened, for people.
    pub detail: String,
}

impl Failure {
    /// A failure of `layer` before any address was tried.
    pub fn new(layer: Layer, detail: impl Into<String>) -> Self {
        Self { layer, address: None, detail: detail.into() }
    }

    /// The same failure, at `address`.
    #[must_use]
    pub fn at(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    /// What a failed system call on the way to a host means.
    pub fn from_io(error: &io::Error) -> Self {
        use io::ErrorKind as K;
        let (layer, detail) = match error.kind() {
            K::ConnectionRefused => (Layer::Refused, "connection refused: nothing listens there".to_owned()),
            K::HostUnreachable | K::NetworkUnreachable | K::NetworkDown | K::AddrNotAvailable => {
                (Layer::NoRoute, format!("no route: {error}"))
            }
            K::TimedOut => (Layer::Silent, "no answer: a firewall drops it, or the host is down".to_owned()),
            K::PermissionDenied => (Layer::NoRoute, format!("a local firewall forbids it: {error}")),
            _ => (Layer::Tls, error.to_string()),
        };
        Self::new(layer, detail)
    }

    /// No answer within `seconds`.
    pub fn silent(seconds: f64) -> Self {
        Self::new(Layer::Silent, format!("no answer within {seconds} s: a firewall drops it, or the host is down"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.address {
            write!(f, "{address}: ")?;
        }
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Failure {}
