//! What the rooms of a running agent share: the snapshot in force, limits, counters, and where refusals are noted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use mesh_config::NodeName;

use crate::clock::Clock;
use crate::logging::audit;
use crate::metrics::Metrics;
use crate::refusals::{Entry, Recent, Refusal};
use crate::services::table::Table;
use crate::snapshot::Snapshot;
use crate::transport::message::{Capabilities, Features, Hello, Incarnation, LaneRole, VersionRange, WallTime};
use crate::transport::resolve::Names;

/// The limits of this agent. `None` is off.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long an application waits for a link and its stream.
    pub connect: Duration,
    /// How long a handshake may take.
    pub handshake: Duration,
    /// After how long without a byte a connection is cut.
    pub idle: Option<Duration>,
    /// After how long a half-closed connection that moves nothing is cut.
    pub half_closed: Option<Duration>,
    /// TCP keepalive.
    pub keepalive: Option<Duration>,
    /// How long a stopping agent lets connections finish.
    pub drain: Duration,
    /// Application connections at once.
    pub connections: usize,
    /// Handshakes of others under way at once.
    pub handshakes_in_flight: usize,
    /// The same from one source.
    pub handshakes_in_flight_per_source: usize,
    /// Lanes to one peer.
    pub lanes_per_peer: usize,
    /// Idle lanes that are kept ready for a peer.
    pub lanes_warm: usize,
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
            connections: 8192,
            handshakes_in_flight: 512,
            handshakes_in_flight_per_source: 128,
            lanes_per_peer: 8192,
            lanes_warm: 2,
        }
    }
}

/// Shared by everything that runs.
pub struct Host {
    /// What is in force.
    pub snapshot: ArcSwap<Snapshot>,
    /// This agent's limits.
    pub limits: Limits,
    /// Wall time.
    pub clock: Clock,
    /// This run's number.
    pub incarnation: Incarnation,
    /// Counters.
    pub metrics: Metrics,
    /// Live application connections.
    pub table: Arc<Table>,
    /// DNS.
    pub names: Names,
    refusals: Mutex<Recent>,
}

impl Host {
    /// A host that starts with `snapshot`.
    pub fn new(snapshot: Snapshot, limits: Limits, clock: Clock, incarnation: Incarnation) -> Arc<Self> {
        let metrics = Metrics::new();
        metrics.certificate_expires(snapshot.tls.identity().not_after());
        metrics.mesh_version(snapshot.mesh.version().number());
        Arc::new(Self {
            table: Table::new(limits.connections),
            snapshot: ArcSwap::from_pointee(snapshot),
            limits,
            clock,
            incarnation,
            metrics,
            names: Names::default(),
            refusals: Mutex::default(),
        })
    }

    /// This node's name.
    pub fn me(&self) -> NodeName {
        self.snapshot.load().me().clone()
    }

    /// What this node says of itself on a new connection.
    pub fn hello(&self, role: LaneRole) -> Hello {
        let snapshot = self.snapshot.load();
        Hello {
            versions: VersionRange::OURS,
            incarnation: self.incarnation,
            wall_time: WallTime::from(self.clock.now()),
            mesh: snapshot.mesh.name().clone(),
            mesh_version: snapshot.mesh.version().number(),
            mesh_digest: *snapshot.mesh.digest().as_bytes(),
            role,
            features: Features::default(),
            capabilities: Capabilities::default(),
        }
    }

    /// Notes a refusal or failure where operators look: metric, audit event, `status` and `explain`.
    pub fn refuse(&self, refusal: Refusal) {
        self.metrics.refusal(refusal.layer, refusal.reason);
        audit::connection_refused(&refusal);
        self.recent().record(refusal, self.clock.now());
    }

    /// What was refused lately, newest first.
    pub fn refusals(&self) -> Vec<Entry> {
        self.recent().entries()
    }

    /// The record of refusals, for a closer look.
    pub fn recent(&self) -> std::sync::MutexGuard<'_, Recent> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
