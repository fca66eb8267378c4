//! The Adit agent: mutually authenticated TLS 1.3 tunnels between the applications of a mesh's hosts.

pub mod admin;
pub mod agent_file;
pub mod app;
pub mod awaited;
pub mod cli;
pub mod clock;
pub mod distribution;
pub mod host;
pub mod identity;
pub mod logging;
pub mod memory;
pub mod metrics;
pub mod peers;
pub mod reason;
pub mod reconcile;
pub mod refusals;
pub mod services;
pub mod snapshot;
pub mod source;
pub mod sources;
pub mod splice;
pub mod table;
pub mod tcp;
pub mod transport;
pub mod vectored;
pub mod vocabulary;
