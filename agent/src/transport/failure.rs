//! Why a peer could not be reached: which layer failed, where, and what about it.

use std::fmt;
use std::io;
use std::net::SocketAddr;

pub use crate::refusals::Layer;

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
        if super::connect::is_exhausted(error) {
            return Self::new(Layer::Limit, format!("this host has run out of something: {error}"));
        }
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
