//! The agent file, `DIR/agent.toml`: what is only this host's business.
//!
//! Everything but `node` has a default. It is read as the mesh file is: every problem at once, each at its place, with a
//! hint. See `docs/agent-file.md` for users.

mod read;
mod source;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mesh_config::document::{Document, Problems, Source};
use mesh_config::{NodeName, Problem, read_text};

use crate::vocabulary::{Congestion, RecordLayer};

pub use source::{Endpoint, EtcdSource, HttpsSource, Sources, TlsFiles};

/// What one host's agent is told about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFile {
    /// The node that this host is.
    pub node: NodeName,
    /// Where peers reach this agent, for TCP and UDP. `None`: on all addresses, at the port of the node's own address in
    /// the mesh file; a node without one listens nowhere, and so does one with an empty list here.
    pub listen: Option<Vec<SocketAddr>>,
    /// The admin socket; relative paths are below the agent's directory. `None`: the usual place.
    pub admin_socket: Option<PathBuf>,
    /// Where metrics are served over plain HTTP, besides the admin socket.
    pub metrics: Option<SocketAddr>,
    /// Who makes the records of TLS over TCP.
    pub record_layer: RecordLayer,
    /// The congestion control between agents.
    pub congestion: Congestion,
    /// How many threads move bytes. `None`: half as many as there are cores, so that the applications have as many.
    pub threads: Option<usize>,
    /// From where, besides its peers, it gets signed mesh documents.
    pub sources: Sources,
    /// How the agent logs.
    pub log: Log,
    /// What the agent bounds.
    pub limits: Limits,
}

/// `[log]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// The least severe events that are written.
    pub level: LogLevel,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The least severe events that are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What may fail soon.
    Warn,
    /// What happened.
    #[default]
    Info,
    /// Why it happened.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The word in the file, which is also that of log filters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// `[limits]`: nothing waits for ever and nothing grows without bound. Durations that may be `None` are off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until a target or a peer has answered, and how long an application's connection waits for its link.
    pub connect: Duration,
    /// From the first byte of a TLS or QUIC handshake to the peer's HELLO.
    pub handshake: Duration,
    /// A connection on which neither side has sent anything for so long is cut.
    pub idle: Option<Duration>,
    /// A connection of which one direction is closed and the other has carried nothing for so long is cut.
    pub half_closed: Option<Duration>,
    /// Silence after which the kernel probes a TCP peer.
    pub keepalive: Option<Duration>,
    /// How long connections may go on when the agent stops.
    pub drain: Duration,
    /// Application connections at once, in both directions together.
    pub connections: usize,
    /// Handshakes that peers have begun and not ended, all together.
    pub handshakes_in_flight: usize,
    /// The same from one source address.
    pub handshakes_in_flight_per_source: usize,
    /// Lanes to one peer.
    pub lanes_per_peer: usize,
    /// Lanes to one peer that are kept ready though idle.
    pub lanes_warm: usize,
    /// Application connections that wait for a link at once.
    pub pending_connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            handshake: Duration::from_secs(8),
            idle: None,
            half_closed: None,
            keepalive: Some(Duration::from_secs(30)),
            drain: Duration::from_secs(30),
            connections: 10_000,
            handshakes_in_flight: 256,
            handshakes_in_flight_per_source: 64,
            lanes_per_peer: 10_000,
            lanes_warm: 2,
            pending_connections: 4_096,
        }
    }
}

impl AgentFile {
    /// Reads and checks the agent file at `path`. Warnings come along.
    ///
    /// # Errors
    /// Every problem of the file, or the one that keeps it from being read.
    pub fn load(path: &Path) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let text = read_text(path).map_err(|problem| vec![*problem])?;
        Self::check(&text, &path.display().to_string())
    }

    /// Reads and checks the text of an agent file; `file` is what problems call it. Warnings come along.
    ///
    /// # Errors
    /// Every problem of the file, warnings included: at least one is an error.
    pub fn check(text: &str, file: &str) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        let source = Source::new(file, text);
        let mut problems = Problems::new(&source);
        let document = Document::parse(&source, &mut problems);
        let found = read::root(document.root(), &mut problems);
        let warnings = problems.finish()?;
        // Only an error leaves the file without its node, so `finish` has returned.
        match found {
            Some(file) => Ok((file, warnings)),
            None => Err(warnings),
        }
    }
}

#[cfg(test)]
mod tests;
