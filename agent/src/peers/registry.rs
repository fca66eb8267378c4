//! All peers of this node, each with its actor.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mesh_config::NodeName;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::actor::{Actor, rules};
use super::peer::{Command, Peer, Stage, Status};
use super::pool::Pool;
use super::pool::policy::LaneEpoch;
use super::room::Room;
use super::serve::Serve;
use crate::awaited::Awaited;
use crate::host::Host;
use crate::transport::quic::PeerShare;

/// How many commands may wait for an actor.
const COMMANDS: usize = 64;

#[derive(Default)]
struct Inner {
    peers: BTreeMap<NodeName, Arc<Peer>>,
    actors: JoinSet<()>,
    draining: bool,
}

/// The peers.
pub struct Peers {
    host: Arc<Host>,
    /// Serves what they open.
    services: Arc<dyn Serve>,
    /// For applications that wait for a link.
    room: Arc<Room>,
    inner: Mutex<Inner>,
}

impl Peers {
    /// An actor for every node with which this one keeps a link. Others get theirs when they come. `services` serves the
    /// streams that they open.
    pub fn start(host: Arc<Host>, services: Arc<dyn Serve>) -> Arc<Self> {
        let room = Arc::new(Room::new(host.limits().pending_connections));
        let peers = Arc::new(Self { host: host.clone(), services, room, inner: Mutex::default() });
        let snapshot = host.snapshot.load_full();
        for name in snapshot.mesh.nodes().keys() {
            if name != snapshot.me() && snapshot.links_with(name) {
                peers.peer(name);
            }
        }
        peers
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The peer called `name`, a node of the mesh. `None` while the agent stops, or for this node itself.
    pub fn peer(&self, name: &NodeName) -> Option<Arc<Peer>> {
        let mut inner = self.inner();
        // Under the lock: whoever takes another snapshot into force goes through all peers afterwards.
        let snapshot = self.host.snapshot.load();
        if let Some(peer) = inner.peers.get(name) {
            return Some(peer.clone());
        }
        if inner.draining || name == snapshot.me() || snapshot.mesh.node(name.as_str()).is_none() {
            return None;
        }
        let rules = rules(&snapshot, snapshot.reaches(name));
        let stage = Stage { phase: *self.host.phase.borrow(), epoch: LaneEpoch::from(snapshot.epochs) };
        let (commands, queue) = mpsc::channel(COMMANDS);
        let peer = Arc::new(Peer {
            name: name.clone(),
            pool: Pool::new(rules),
            room: self.room.clone(),
            status: watch::Sender::new(Status::IDLE),
            commands,
            quic: watch::Sender::new(None),
            ended: Awaited::new(Vec::new()),
            quic_share: PeerShare::default(),
            stage: Awaited::new(stage),
        });
        inner.peers.insert(name.clone(), peer.clone());
        // Different for every peer and every run, so that dials do not fall together.
        let seed = name.as_str().bytes().fold(self.host.incarnation.0, |seed, b| seed.rotate_left(7) ^ u64::from(b));
        let actor = Actor::new(self.host.clone(), self.services.clone(), peer.clone(), queue, &snapshot, seed);
        inner.actors.spawn(actor.run());
        Some(peer)
    }

    /// Another snapshot is in force: says goodbye to the peers `removed` and to those that the mesh no longer has, tells all
    /// others, and links those that are `added`.
    pub async fn reconcile(&self, added: impl IntoIterator<Item = &NodeName>, removed: &BTreeSet<NodeName>) {
        let (gone, kept) = {
            let mut inner = self.inner();
            while inner.actors.try_join_next().is_some() {}
            let snapshot = self.host.snapshot.load();
            let leaves =
                |name: &NodeName, _: &mut _| removed.contains(name) || snapshot.mesh.node(name.as_str()).is_none();
            let gone: Vec<_> = inner.peers.extract_if(.., leaves).map(|(_, peer)| peer).collect();
            (gone, inner.peers.values().cloned().collect::<Vec<_>>())
        };
        for peer in gone {
            peer.tell(Command::Leave).await;
        }
        for peer in kept {
            peer.tell(Command::Changed).await;
        }
        for name in added {
            self.peer(name);
        }
    }

    /// All peers that have an actor, by name.
    pub fn all(&self) -> Vec<Arc<Peer>> {
        self.inner().peers.values().cloned().collect()
    }

    /// Says goodbye to all peers and waits until their streams have ended. What has not ended when this is dropped is cut.
    pub async fn drain(&self) {
        let (peers, mut actors) = {
            let mut inner = self.inner();
            inner.draining = true;
            (inner.peers.values().cloned().collect::<Vec<_>>(), std::mem::take(&mut inner.actors))
        };
        for peer in peers {
            peer.tell(Command::Drain).await;
        }
        while actors.join_next().await.is_some() {}
    }
}
