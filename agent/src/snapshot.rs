//! What is in force: the mesh, this node's identity and whom it trusts, as one value that is replaced as a whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_config::gossip::ring_neighbours;
use mesh_config::published::Tombstones;
use mesh_config::{Digest, Mesh, Node, NodeName, Role};

use crate::agent_file::{AgentFile, Limits};
use crate::identity::{Identity, Removed, TlsContext, Trust};
use crate::vocabulary::{Congestion, RecordLayer};

/// Counters that go up whenever that part of the snapshot changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epochs {
    /// The mesh document.
    pub mesh: u64,
    /// This node's key and certificate.
    pub identity: u64,
    /// The roots accepted.
    pub trust: u64,
}

impl Epochs {
    /// Those of a start.
    pub const FIRST: Self = Self { mesh: 1, identity: 1, trust: 1 };
}

/// What of the agent file applies to whatever begins after it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// This agent's limits.
    pub limits: Limits,
    /// Who makes the records of TLS over TCP.
    pub record_layer: RecordLayer,
    /// The congestion control between agents.
    pub congestion: Congestion,
}

impl From<&AgentFile> for Settings {
    fn from(file: &AgentFile) -> Self {
        Self { limits: file.limits, record_layer: file.record_layer, congestion: file.congestion.clone() }
    }
}

/// Everything that decides who may do what, and how, at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The mesh.
    pub mesh: Arc<Mesh>,
    /// How handshakes are made: identity, trust, members, revocations.
    pub tls: TlsContext,
    /// How often each part has changed.
    pub epochs: Epochs,
    /// How this agent goes about it.
    pub settings: Settings,
    /// The keys of nodes that were taken out of the mesh: they are good for nothing any more.
    pub removed: Arc<Tombstones>,
    /// The nodes with which this one keeps links to hand on signed documents, whatever services it shares with them.
    pub ring: Arc<BTreeSet<NodeName>>,
}

impl Snapshot {
    /// A snapshot in which `identity` takes part in `mesh`.
    pub fn new(
        mesh: Arc<Mesh>,
        identity: Arc<Identity>,
        trust: Arc<Trust>,
        clock: crate::clock::Clock,
        epochs: Epochs,
        settings: Settings,
        removed: Arc<Tombstones>,
    ) -> Self {
        let revoked = Arc::new(Removed(removed.clone()));
        let tls = TlsContext::new(identity, trust, mesh.clone(), revoked, clock);
        let ring = Arc::new(ring(&mesh, tls.identity().node()));
        Self { mesh, tls, epochs, settings, removed, ring }
    }

    /// This node's name.
    pub fn me(&self) -> &NodeName {
        self.tls.identity().node()
    }

    /// This node in the mesh, if it is (still) one of it.
    pub fn own_node(&self) -> Option<&Node> {
        self.mesh.node(self.me().as_str())
    }

    /// Whether this is the key (SHA-256 of its DER SubjectPublicKeyInfo) of a node that was taken out of the mesh.
    pub fn is_removed(&self, key: &[u8; 32]) -> bool {
        self.removed.names(&Digest::from_bytes(*key))
    }

    /// Whether this node may reach a service that `peer` offers.
    pub fn reaches(&self, peer: &NodeName) -> bool {
        let me = self.me();
        self.mesh.services().values().any(|s| s.offered_by(peer) && !s.offered_by(me) && s.permits(me).is_some())
    }

    /// Whether a service joins this node and `peer`: one of them offers it and the other may reach it.
    pub fn shares_service_with(&self, peer: &NodeName) -> bool {
        let me = self.me();
        let joins = |offerer: &NodeName, other: &NodeName| {
            self.mesh.services().values().any(|s| s.offered_by(offerer) && s.reachable_from(other))
        };
        joins(me, peer) || joins(peer, me)
    }

    /// Whether this node and `peer` keep a link: a service joins them, or they hand on signed documents to each other.
    pub fn links_with(&self, peer: &NodeName) -> bool {
        self.ring.contains(peer) || self.shares_service_with(peer)
    }

    /// Whether this node has `role`.
    pub fn has_role(&self, role: Role) -> bool {
        self.own_node().is_some_and(|n| n.roles().contains(&role))
    }
}

/// The nodes that `me` keeps links with to hand on signed documents: none in a mesh that has none.
pub fn ring(mesh: &Mesh, me: &NodeName) -> BTreeSet<NodeName> {
    if mesh.signed() { ring_neighbours(mesh.nodes().keys(), me) } else { BTreeSet::new() }
}
