//! The seam between the admin API and the live agent.

use std::future::Future;

use mesh_config::{NodeName, ServiceName};
use tokio::sync::mpsc;

use super::view::{
    Bench, BenchOptions, Connection, DrainRequest, Draining, ErrorBody, ErrorDocument, Explain, Probe, Publication,
    Reload, ReloadRequest, Status,
};

/// The live agent as the admin API asks it.
///
/// Futures are dropped when the client goes away: whatever a call has started has to end with it.
pub trait Backend: Send + Sync + 'static {
    /// The agent at a glance.
    fn status(&self) -> impl Future<Output = Result<Status, Failure>> + Send;

    /// The connections that are open now.
    fn connections(&self) -> impl Future<Output = Result<Vec<Connection>, Failure>> + Send;

    /// Sends the connections that are open now, then each one that opens or ends, until the receiver is gone. A reader
    /// that cannot keep up gets [`Failure::lagged`], never a gap that it does not see.
    fn follow(&self, out: mpsc::Sender<Connection>) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Whether, and why, an application on `from` gets through to `service`.
    fn explain(&self, from: NodeName, service: ServiceName) -> impl Future<Output = Result<Explain, Failure>> + Send;

    /// Probes the link to `node` `count` times, a second apart, and sends each answer or its absence at once.
    fn ping(
        &self,
        node: NodeName,
        count: u32,
        out: mpsc::Sender<Probe>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Measures the link to `node`.
    fn bench(&self, node: NodeName, options: BenchOptions) -> impl Future<Output = Result<Bench, Failure>> + Send;

    /// Reads the directory again and applies what changed; with `dry_run` only says what would be done.
    fn reload(&self, request: ReloadRequest) -> impl Future<Output = Result<Reload, Failure>> + Send;

    /// Has the agent accept nothing new, let its connections end and then end itself. Sends how many are left whenever that has
    /// changed, and last what came of it. A caller that goes away stops nothing.
    fn drain(
        &self,
        request: DrainRequest,
        out: mpsc::Sender<Draining>,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Takes in a mesh document that was signed on this host, brings it into force and hands it on.
    fn publish(&self, document: Vec<u8>) -> impl Future<Output = Result<Publication, Failure>> + Send;

    /// All metrics in the OpenMetrics text format.
    fn metrics(&self) -> String;
}

/// What kind of no a request gets. It chooses the HTTP status and, at the command line, the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The request makes no sense: 400, exit 2.
    Usage,
    /// Policy or the peer says no: 403, exit 4.
    Refused,
    /// No such node or service: 404, exit 1.
    Unknown,
    /// It cannot be done now: 503, exit 1.
    Unavailable,
    /// It took too long: 504, exit 1.
    Timeout,
    /// The agent does not do this: 501, exit 1.
    Unsupported,
    /// The agent itself failed: 500, exit 1.
    Internal,
}

impl FailureKind {
    /// The HTTP status.
    pub fn http_status(self) -> u16 {
        match self {
            Self::Usage => 400,
            Self::Refused => 403,
            Self::Unknown => 404,
            Self::Unavailable => 503,
            Self::Timeout => 504,
            Self::Unsupported => 501,
            Self::Internal => 500,
        }
    }
}

/// Why a request of the admin API fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of no.
    pub kind: FailureKind,
    /// A stable snake_case name for machines.
    pub code: &'static str,
    /// What failed, for people.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Failure {
    /// A failure without a hint.
    pub fn new(kind: FailureKind, code: &'static str, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into(), hint: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The mesh has no such node.
    pub fn unknown_node(name: &NodeName) -> Self {
        Self::new(FailureKind::Unknown, "unknown_node", format!("the mesh has no node `{name}`"))
            .with_hint("`adit status` lists the peers")
    }

    /// The mesh has no such service.
    pub fn unknown_service(name: &ServiceName) -> Self {
        Self::new(FailureKind::Unknown, "unknown_service", format!("the mesh has no service `{name}`"))
            .with_hint("`adit status` lists this node's services; the mesh file lists all of them")
    }

    /// A follower fell behind and has missed events.
    pub fn lagged() -> Self {
        Self::new(FailureKind::Unavailable, "lagged", "events came faster than they were read, so some are missing")
            .with_hint("read faster, or take the log's audit events, which are complete")
    }

    /// The body of the answer.
    pub fn document(&self) -> ErrorDocument {
        ErrorDocument {
            error: ErrorBody { code: self.code.into(), message: self.message.clone(), hint: self.hint.clone() },
        }
    }
}
