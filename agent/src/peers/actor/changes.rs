//! What a change of the snapshot means for the link to one peer.

use std::time::Duration;

use mesh_config::{Address, NodeName, Transport};
use tokio::time::Instant;

use super::Actor;
use crate::host::Phase;
use crate::peers::control::Order;
use crate::peers::pool::policy::{LaneEpoch, Rules};
use crate::reason::Reason;
use crate::snapshot::Snapshot;
use crate::vocabulary::Direction;

/// How long what still runs to a peer that the mesh no longer joins to this node may take to end. Its connections have been
/// cut by then.
const LEAVE: Duration = Duration::from_secs(3);

/// What the mesh says of a peer, as far as its link goes by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InMesh {
    /// This node reaches a service of the peer's.
    pub(super) wanted: bool,
    /// A service joins the two, or they hand on signed documents to each other.
    linked: bool,
    /// The link is to be there although no application waits for it.
    pub(super) kept: bool,
    addresses: Vec<Address>,
    pub(super) transport: Transport,
}

impl InMesh {
    pub(super) fn of(snapshot: &Snapshot, peer: &NodeName) -> Self {
        let wanted = snapshot.reaches(peer);
        Self {
            wanted,
            linked: wanted || snapshot.links_with(peer),
            kept: wanted || snapshot.ring.contains(peer),
            addresses: snapshot.mesh.node(peer.as_str()).map(|n| n.addresses().to_vec()).unwrap_or_default(),
            transport: snapshot.mesh.transport(),
        }
    }

    /// Whether this side dials the peer.
    pub(super) fn is_dialled(&self) -> bool {
        self.linked && !self.addresses.is_empty()
    }
}

/// The lanes that are kept for a peer.
pub(in crate::peers) fn rules(snapshot: &Snapshot, wanted: bool) -> Rules {
    let limits = &snapshot.settings.limits;
    let warm = if wanted { limits.lanes_warm } else { 0 };
    Rules::new(warm, limits.lanes_per_peer)
}

impl Actor {
    /// The identity and trust in force.
    pub(super) fn epoch(&self) -> LaneEpoch {
        LaneEpoch::from(self.host.snapshot.load().epochs)
    }

    /// Another snapshot is in force. What it does not change about the peer stays as it is.
    pub(super) fn changed(&mut self) {
        let now = Instant::now().into_std();
        let snapshot = self.host.snapshot.load_full();
        let mesh = InMesh::of(&snapshot, &self.peer.name);
        self.peer.pool.keep_to(rules(&snapshot, mesh.wanted));
        let epoch = LaneEpoch::from(snapshot.epochs);
        let renewed = self.peer.stage.change(|stage| {
            let renewed = epoch.is_after(stage.epoch);
            stage.epoch = epoch;
            renewed
        });
        if renewed {
            self.quics.retire(&self.peer);
        }
        if mesh == self.mesh {
            return;
        }
        let was = std::mem::replace(&mut self.mesh, mesh);
        self.machine.handle_want(self.mesh.kept, now);
        let moved = was.addresses != self.mesh.addresses;
        if moved || was.is_dialled() != self.mesh.is_dialled() || was.transport != self.mesh.transport {
            self.machine.handle_config(self.mesh.is_dialled(), self.mesh.transport, now);
        }
        if moved {
            // A dial that is under way leads to where the peer no longer is.
            self.moves.send_modify(|moves| *moves += 1);
            if self.control().is_some_and(|running| running.direction == Direction::Out) {
                self.machine.handle_moved(now);
            }
        }
    }

    /// Says goodbye and makes nothing new.
    pub(super) fn drain(&mut self, goodbye: Reason) {
        (self.draining, self.goodbye) = (true, goodbye);
        for (_, running) in self.controls.drain() {
            running.orders.try_send(Order::Bye(goodbye)).ok();
        }
        self.up = None;
        self.peer.pool.shut();
        self.quics.retire(&self.peer);
    }

    /// The mesh joins this node and the peer no longer.
    pub(super) fn leave(&mut self) {
        if let Some(up) = &mut self.up {
            up.ending = Some((Reason::NoBusiness.name(), Reason::NoBusiness.text().to_owned()));
        }
        self.went_down();
        self.drain(Reason::NoBusiness);
        self.meter.end();
        self.peer.stage.change(|stage| stage.phase = stage.phase.max(Phase::Draining));
        self.cut = Some(Instant::now() + LEAVE);
    }
}
