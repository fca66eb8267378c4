//! What is in force: the mesh, this node's identity and whom it trusts, as one value that is replaced as a whole.

use std::sync::Arc;

use mesh_config::{Mesh, Node, NodeName, Role};

use crate::identity::{NothingRevoked, TlsContext};

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

/// Everything that decides who may do what, at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The mesh.
    pub mesh: Arc<Mesh>,
    /// How handshakes are made: identity, trust, members, revocations.
    pub tls: TlsContext,
    /// How often each part has changed.
    pub epochs: Epochs,
}

impl Snapshot {
    /// A snapshot in which `identity` takes part in `mesh`.
    pub fn new(
        mesh: Arc<Mesh>,
        identity: Arc<crate::identity::Identity>,
        trust: Arc<crate::identity::Trust>,
        clock: crate::clock::Clock,
        epochs: Epochs,
    ) -> Self {
        let tls = TlsContext::new(identity, trust, mesh.clone(), Arc::new(NothingRevoked), clock);
        Self { mesh, tls, epochs }
    }

    /// This node's name.
    pub fn me(&self) -> &NodeName {
        self.tls.identity().node()
    }

    /// This node in the mesh, if it is (still) one of it.
    pub fn own_node(&self) -> Option<&Node> {
        self.mesh.node(self.me().as_str())
    }

    /// Whether this node may reach a service that `peer` offers.
    pub fn reaches(&self, peer: &NodeName) -> bool {
        let me = self.me();
        self.mesh.services().values().any(|s| s.offered_by(peer) && !s.offered_by(me) && s.permits(me).is_some())
    }

    /// Whether a service joins this node and `peer`: one of them offers it and the other may reach it.
    pub fn shares_service_with(&self, peer: &NodeName) -> bool {
        let me = self.me();
        self.mesh
            .services()
            .values()
            .any(|s| (s.offered_by(me) && s.permits(peer).is_some()) || (s.offered_by(peer) && s.permits(me).is_some()))
    }

    /// Whether this node has `role`.
    pub fn has_role(&self, role: Role) -> bool {
        self.own_node().is_some_and(|n| n.roles().contains(&role))
    }
}
