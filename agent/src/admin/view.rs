//! The shapes of the machine-readable output: what the admin API answers and `--json` prints.
//!
//! Names are a contract with scripts: they may be added to, never changed. An absent value is written as `null`, not
//! left out. Times are RFC 3339 UTC, durations seconds, sizes bytes. On reading, unknown fields are ignored, so that a
//! client understands a newer agent.

mod drain;
mod published;
mod reload;

use serde::{Deserialize, Serialize};

use super::timestamp::Timestamp;
use crate::refusals::Layer;
pub use crate::vocabulary::{Direction, Path, PeerState, Role};
pub use drain::{DrainRequest, DrainState, Draining};
pub use published::{Fork, Publication, Published, Source, SourceError};
pub use reload::{
    AgentChange, CertificateChange, CutConnection, FailedListener, LinkChanges, Listener, ListenerChanges, MeshChange,
    PermitChange, Reload, ReloadRequest,
};

/// `adit status`: the agent at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// This node's name.
    pub node: String,
    /// The mesh's name.
    pub mesh: String,
    /// The agent's own version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime: f64,
    /// Where it is in its life.
    pub state: AgentState,
    /// The version of the mesh document in force.
    pub mesh_version: u64,
    /// SHA-256 of the mesh document in force, in hex.
    pub mesh_digest: String,
    /// How often each part of the snapshot has changed.
    pub epochs: Epochs,
    /// Where the mesh document comes from and whether the newest one holds.
    pub config: Config,
    /// From where, besides the peers, signed mesh documents come.
    #[serde(default)]
    pub sources: Vec<Source>,
    /// The signed mesh document in force; `null` in a mesh that is not signed.
    #[serde(default)]
    pub published: Option<Published>,
    /// This node's own certificate; `null` before there is one.
    pub certificate: Option<Certificate>,
    /// The peers, by name.
    pub peers: Vec<Peer>,
    /// The services that this node offers or reaches, by name.
    pub services: Vec<Service>,
    /// Application connections that are open now.
    pub connections: u64,
    /// What was refused or failed lately, newest first.
    pub refusals: Vec<Refusal>,
    /// What an operator should know although the agent runs.
    pub warnings: Vec<String>,
}

/// Where an agent is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentState {
    /// Not every listener has been tried yet.
    Starting,
    /// The snapshot is applied and every listener has been tried.
    Ready,
    /// It accepts nothing new and waits for its connections to end.
    Draining,
}

/// Counters that go up whenever that part of the snapshot changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epochs {
    /// The mesh document.
    pub mesh: u64,
    /// This node's key and certificate.
    pub identity: u64,
    /// The roots accepted.
    pub trust: u64,
}

/// The mesh document: what is in force, what lies on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Where it comes from: a path.
    pub source: String,
    /// Digest of the document in force, in hex.
    pub loaded_digest: String,
    /// Digest of what lies at the source now; `null` if that cannot be read.
    pub on_disk_digest: Option<String>,
    /// When the one in force was applied.
    pub applied_at: Timestamp,
    /// Why what lies at the source is not in force.
    pub error: Option<ConfigError>,
}

/// The first problem of a mesh document that was not applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigError {
    /// The file.
    pub file: String,
    /// The line, from 1; `null` where the problem has no place.
    pub line: Option<u32>,
    /// The column, from 1.
    pub column: Option<u32>,
    /// What is wrong.
    pub message: String,
}

/// A certificate as far as an operator watches it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// When it expires.
    pub not_after: Timestamp,
    /// Its serial number in hex.
    pub serial: String,
    /// Its issuer's common name.
    pub issuer: String,
}

/// Another node, and the link to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name.
    pub node: String,
    /// Whether it is linked.
    pub state: PeerState,
    /// How the link runs; `null` while there is none.
    pub path: Option<Path>,
    /// The relaying node of a relayed link.
    pub via: Option<String>,
    /// The newest round-trip time in seconds.
    pub rtt: Option<f64>,
    /// How far its clock is ahead of ours, in seconds.
    pub skew: Option<f64>,
    /// The socket address of its end of the link.
    pub address: Option<String>,
    /// Lanes that are ready.
    pub lanes: Lanes,
    /// The version of its mesh document.
    pub mesh_version: Option<u64>,
    /// The serial number, in hex, of the certificate that it has proven on this link.
    pub certificate: Option<String>,
    /// The congestion control of the link's connections: over TCP the kernel's name of it, over QUIC `cubic`, `newreno` or `bbr`;
    /// `null` while there is none.
    #[serde(default)]
    pub congestion: Option<String>,
    /// Why there is no link, layer first.
    pub error: Option<String>,
}

/// The lanes to one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lanes {
    /// Ready and unused.
    pub idle: u32,
    /// Carrying an application connection.
    pub busy: u32,
}

/// A service as this node has to do with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Whether this node offers or reaches it.
    pub role: Role,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// Where applications on this node reach it; `null` where it is offered.
    pub listen: Option<String>,
    /// What this node connects to; `null` where it is reached.
    pub target: Option<String>,
    /// How it stands.
    pub state: ServiceState,
    /// Connections of it that are open now.
    pub connections: u64,
    /// Application bytes that came from the link since the start.
    pub bytes_in: u64,
    /// Application bytes that went to the link since the start.
    pub bytes_out: u64,
    /// The nodes that offer it, in the order of the mesh file.
    pub on: Vec<String>,
    /// Why it does not stand.
    pub error: Option<String>,
}

/// How a service stands on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    /// Offered, or listened for.
    Ready,
    /// Its listener has not been tried yet.
    Starting,
    /// Its listener could not be opened; see `error`.
    Failed,
    /// It asks for something that this agent does not do; see `error`.
    Unsupported,
    /// Its listener is closed because nobody can offer it now, or the agent drains.
    Withdrawn,
}

/// A refusal or failure as `status` and `explain` repeat it: one entry for equal ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// When it happened last.
    pub at: Timestamp,
    /// When it happened first.
    pub first: Timestamp,
    /// `in`: somebody came to this node. `out`: this node went to somebody.
    pub direction: Direction,
    /// The peer, proven or dialled; `null` for a stranger.
    pub peer: Option<String>,
    /// The far end's address.
    pub address: Option<String>,
    /// The service that was asked for, if one of the mesh was.
    pub service: Option<String>,
    /// The layer that said no.
    pub layer: Layer,
    /// A stable name for machines.
    pub reason: String,
    /// What exactly, for people: of the last time.
    pub detail: String,
    /// How often since `first`.
    pub count: u64,
}

/// An application connection through the mesh, as seen from this node. `adit connections` gives one a line; with
/// `--follow` one whenever it opens or ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// Its number on this agent.
    pub id: u64,
    /// The same at both ends: 16 bytes in hex.
    pub trace: String,
    /// The service.
    pub service: String,
    /// The node whose application opened it.
    pub from: String,
    /// The node that offers the service.
    pub to: String,
    /// The application's own address on `from`.
    pub client: Option<String>,
    /// How it runs; `null` before a stream is found for it.
    pub path: Option<Path>,
    /// When the application opened it.
    pub opened: Timestamp,
    /// Application bytes that came from the link.
    pub bytes_in: u64,
    /// Application bytes that went to the link.
    pub bytes_out: u64,
    /// Where it is in its life.
    pub state: ConnectionState,
    /// Why it was cut or refused; `null` while it lives and after an orderly end.
    pub reason: Option<String>,
}

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConnectionState {
    /// Waits for a stream, or for the far target.
    Opening,
    /// Both directions carry.
    Open,
    /// One direction has ended in order.
    HalfClosed,
    /// Ended in order.
    Closed,
    /// Cut; see `reason`.
    Reset,
    /// Never opened; see `reason`.
    Refused,
}

/// `adit explain FROM SERVICE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explain {
    /// Whether a connection would be made now.
    pub allowed: bool,
    /// The verdict in one sentence.
    pub because: String,
    /// Each step from listener to target, in order. Steps that were not reached are not listed.
    pub steps: Vec<Step>,
    /// What to do about it; `null` if nothing.
    pub hint: Option<String>,
}

/// One step of an explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// What was looked at.
    pub check: String,
    /// Whether it holds.
    pub ok: bool,
    /// What was found.
    pub detail: String,
}

/// One probe of `adit ping`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Its number, from 1.
    pub seq: u32,
    /// Whether it was answered.
    pub ok: bool,
    /// Seconds until the answer.
    pub rtt: Option<f64>,
    /// The path it took.
    pub path: Option<Path>,
    /// Why there was no answer, layer first.
    pub error: Option<String>,
}

/// The last line of `adit ping`. Times in seconds, `null` when nothing was received.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PingSummary {
    /// Probes sent.
    pub sent: u32,
    /// Probes answered.
    pub received: u32,
    /// The shortest round trip.
    pub min: Option<f64>,
    /// The mean round trip.
    pub avg: Option<f64>,
    /// The longest round trip.
    pub max: Option<f64>,
}

impl PingSummary {
    /// The summary of some probes.
    pub fn of<'a>(probes: impl IntoIterator<Item = &'a Probe>) -> Self {
        let mut summary = Self { sent: 0, received: 0, min: None, avg: None, max: None };
        let mut total = 0.0;
        for probe in probes {
            summary.sent += 1;
            let Some(rtt) = probe.rtt.filter(|_| probe.ok) else { continue };
            summary.received += 1;
            total += rtt;
            summary.min = Some(summary.min.map_or(rtt, |m: f64| m.min(rtt)));
            summary.max = Some(summary.max.map_or(rtt, |m: f64| m.max(rtt)));
        }
        if summary.received > 0 {
            summary.avg = Some(total / f64::from(summary.received));
        }
        summary
    }
}

/// What `adit bench` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BenchOptions {
    /// Streams that carry at once, at least 1.
    pub streams: u32,
    /// Seconds to carry.
    pub seconds: f64,
    /// From the far node to this one.
    pub reverse: bool,
}

/// `adit bench NODE`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bench {
    /// Application bytes a second, as 10⁹ bits.
    pub gbit_per_s: f64,
    /// Application bytes carried.
    pub bytes: u64,
    /// Seconds it took.
    pub seconds: f64,
    /// The path they took.
    pub path: Path,
    /// New streams a second, one after the other.
    pub connections_per_s: f64,
    /// Round trips while the bytes moved.
    pub rtt: Percentiles,
}

/// Two percentiles in seconds; `null` without a sample.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// The median.
    pub p50: Option<f64>,
    /// The 99th of a hundred.
    pub p99: Option<f64>,
}

/// What a failed request answers: `{"error": {"code", "message", "hint"}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDocument {
    /// The error.
    pub error: ErrorBody,
}

/// An error for machines and people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// A stable snake_case name.
    pub code: String,
    /// What failed.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}
