//! The Adit agent: mutually authenticated TLS 1.3 tunnels between the applications of a mesh's hosts.

pub mod clock;
pub mod peers;
pub mod reason;
pub mod splice;
pub mod transport;
