//! The Adit agent: mutually authenticated TLS 1.3 tunnels between the applications of a mesh's hosts.

pub mod admin;
/// The command line: arguments to validated commands, answers to people and to `--json`.
pub mod cli {
    pub mod bench;
    mod changes;
    pub mod check;
    pub mod connections;
    pub mod context;
    pub mod error;
    pub mod explain;
    pub mod ping;
    pub mod status;
    mod style;
    #[cfg(test)]
    mod tests;
}
pub mod clock;
pub mod host;
pub mod identity;
pub mod logging;
pub mod metrics;
pub mod peers;
pub mod reason;
pub mod refusals;
pub mod services;
pub mod snapshot;
pub mod splice;
pub mod transport;
pub mod vocabulary;
