//! The Adit agent: mutually authenticated TLS 1.3 tunnels between the applications of a mesh's hosts.

pub mod agent_file;
pub mod clock;
pub mod reason;
pub mod splice;
