//! What the rooms of a running agent share: the snapshot in force, limits, counters, and where refusals are noted.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use mesh_config::NodeName;
use tokio::sync::{Semaphore, watch};

use crate::agent_file::Limits;
use crate::clock::Clock;
use crate::logging::audit;
use crate::metrics::Metrics;
use crate::peers::gossip::Switchboard;
use crate::refusals::{Entry, Recent, Refusal};
use crate::snapshot::{Settings, Snapshot};
use crate::splice::Places;
use crate::table::Table;
use crate::transport::message::{Capabilities, Features, Hello, Incarnation, LaneRole, VersionRange, WallTime};
use crate::transport::quic::endpoint::Dialler;
use crate::transport::resolve::Names;
use crate::transport::sealing::Sealing;
use crate::vocabulary::Role;

/// Streams that only measure or probe, at once and for all peers.
pub const SIDE_STREAMS: usize = 64;

/// Where the agent is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not every listener has been tried yet.
    Starting,
    /// It works.
    Ready,
    /// It accepts nothing new and lets connections finish.
    Draining,
    /// The time for that is over.
    Cut,
    /// Nothing is left but to say so.
    Over,
}

/// Shared by everything that runs.
pub struct Host {
    /// What is in force.
    pub snapshot: ArcSwap<Snapshot>,
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
    /// The sockets for dialling over QUIC.
    pub quic: Dialler,
    /// Threads for connections that move bulk.
    pub places: Places,
    /// Places for streams that only probe or measure.
    pub side_streams: Semaphore,
    /// Where the agent is in its life.
    pub phase: watch::Sender<Phase>,
    /// What the peers say of mesh documents, and the connections to answer on.
    pub gossip: Switchboard,
    refusals: Mutex<Recent>,
}

impl Host {
    /// A host that starts with `snapshot`.
    pub fn new(snapshot: Snapshot, clock: Clock, incarnation: Incarnation) -> Arc<Self> {
        let metrics = Metrics::new();
        metrics.certificate_expires(snapshot.tls.identity().not_after());
        metrics.mesh_version(snapshot.mesh.version().number());
        Arc::new(Self {
            table: Table::new(snapshot.settings.limits.connections),
            snapshot: ArcSwap::from_pointee(snapshot),
            clock,
            incarnation,
            metrics,
            names: Names::default(),
            quic: Dialler::default(),
            places: Places::of_this_runtime(),
            side_streams: Semaphore::new(SIDE_STREAMS),
            phase: watch::Sender::new(Phase::Starting),
            gossip: Switchboard::default(),
            refusals: Mutex::default(),
        })
    }

    /// The limits in force.
    pub fn limits(&self) -> Limits {
        self.snapshot.load().settings.limits
    }

    /// Who makes the records of TLS over TCP from now on.
    pub fn sealing(&self) -> Sealing {
        Sealing::choose(self.snapshot.load().settings.record_layer).0
    }

    /// How this agent goes about its connections now.
    pub fn settings(&self) -> Settings {
        self.snapshot.load().settings.clone()
    }

    /// This node's name.
    pub fn me(&self) -> NodeName {
        self.snapshot.load().me().clone()
    }

    /// The agent has come to `phase`.
    pub fn enter(&self, phase: Phase) {
        self.metrics.life(phase == Phase::Ready, phase >= Phase::Draining);
        self.phase.send_replace(phase);
    }

    /// Resolves when the agent has come to `phase` or beyond.
    pub async fn reached(&self, phase: Phase) {
        // The sender lives as long as `self`.
        self.phase.subscribe().wait_for(|now| *now >= phase).await.ok();
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

    /// Brings what live connections have moved into the metrics, which otherwise learn it at their end.
    pub fn count_bytes(&self) {
        for connection in self.table.all() {
            let (received, sent) = connection.uncounted();
            // Bytes are counted by service and direction; the role is no label of theirs.
            let meter = self.metrics.service(&connection.service, Role::Reach);
            meter.received(received);
            meter.sent(sent);
        }
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
