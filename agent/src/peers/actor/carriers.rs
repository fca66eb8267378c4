//! What streams run over: lanes, dialled ahead of need or for the peer, and QUIC connections.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::{Actor, Dialled, Greeted};
use crate::identity::VerifiedPeer;
use crate::peers::control::Order;
use crate::peers::dial;
use crate::peers::path::Way;
use crate::peers::pool::Work;
use crate::peers::pool::policy::{LaneEpoch, Source};
use crate::peers::serve;
use crate::reason::Reason;
use crate::refusals::{Layer, Refusal};
use crate::transport::failure::Failure;
use crate::transport::lane::link::Link;
use crate::transport::message::{Incarnation, LaneRole};
use crate::transport::quic::QuicLink;
use crate::vocabulary::Direction;

/// How long a peer may take to close a lane beyond the limit.
const TURN_AWAY: Duration = Duration::from_secs(1);
/// How many such lanes wait for that at once.
const MAX_TURNED_AWAY: usize = 16;
/// How many reverse lanes are dialled for the peer at once, however many it asks for.
const MAX_REVERSE: usize = 16;

impl Actor {
    /// Where lanes come from while the control connection `id` holds the link: what the peer has dialled it can dial again.
    pub(super) fn source(&self, id: u64) -> Source {
        let snapshot = self.host.snapshot.load();
        let has_address = snapshot.mesh.node(self.peer.name.as_str()).is_some_and(|n| !n.addresses().is_empty());
        match self.controls.get(&id).map(|c| c.direction) {
            Some(Direction::In) if has_address => Source::Either,
            Some(Direction::In) => Source::Ask,
            Some(Direction::Out) | None => Source::Dial,
        }
    }

    pub(super) fn dial_address(&self) -> Option<SocketAddr> {
        let running = self.control()?;
        (running.direction == Direction::Out).then_some(running.address)
    }

    /// Does what the pool wants: dials lanes, asks the peer to, closes old ones. When it wants more at the latest.
    pub(super) fn work_pool(&mut self) -> Option<Instant> {
        // Before the dials take theirs from the snapshot: a lane may be newer than its epoch, never older.
        let epoch = self.epoch();
        let Work { dial, ask, close, next } = self.peer.pool.work(epoch);
        for link in close {
            self.tasks.spawn(link.close());
        }
        if let Some(running) = self.control()
            && ask > 0
        {
            // A control channel too busy to take it has lost it: what does not come is asked for again.
            running.orders.try_send(Order::WantLanes(u32::try_from(ask).unwrap_or(u32::MAX))).ok();
        }
        let known = self.dial_address();
        for _ in 0..dial {
            let (host, name) = (self.host.clone(), self.peer.name.clone());
            self.dials.spawn(async move {
                Dialled::Lane(epoch, dial::lane(&host, &name, known, LaneRole::Opener).await.map(Box::new))
            });
        }
        next.map(Instant::from_std)
    }

    pub(super) fn lane_dialled(&mut self, result: Result<Box<Link>, Failure>, epoch: LaneEpoch) {
        match result {
            Ok(mut link) if !self.is_removed(link.peer()) && self.is_of_use(link.incarnation()) => {
                self.add(&mut link);
                self.peer.pool.made(link, epoch);
            }
            Ok(_) | Err(_) => self.peer.pool.dial_failed(),
        }
    }

    /// A lane that the peer has dialled: to serve, or to open on if it is `reverse`.
    pub(super) fn lane_accepted(&mut self, mut link: Box<Link>, reverse: bool, epoch: LaneEpoch) {
        if self.is_removed(link.peer()) || !self.is_of_use(link.incarnation()) {
            return;
        }
        if !self.has_room(&link) {
            if !reverse {
                self.turn_away(link);
            }
            return;
        }
        self.add(&mut link);
        if reverse {
            self.peer.pool.given(link, epoch);
        } else {
            self.serve(link, epoch);
        }
    }

    fn add(&mut self, link: &mut Link) {
        link.peer_mut().share(&mut self.proven);
        self.lanes.add(link);
    }

    /// Whether the peer may have one lane more. What it dials beyond the limit is closed.
    fn has_room(&mut self, link: &Link) -> bool {
        let most = self.host.limits().lanes_per_peer;
        if self.lanes.count() < most {
            return true;
        }
        self.host.refuse(Refusal {
            direction: Direction::In,
            peer: Some(self.peer.name.clone()),
            address: Some(link.address()),
            service: None,
            layer: Layer::Limit,
            reason: "lanes_per_peer",
            detail: format!("{most} lanes join this node and the peer, the limit"),
        });
        false
    }

    /// Tells the peer that nothing is served on a lane that it may open on: a stream that it has opened there already it opens
    /// elsewhere.
    fn turn_away(&mut self, mut link: Box<Link>) {
        // Of those that are dialled faster than this can be told, the peer hears by their end.
        if self.turned_away.len() < MAX_TURNED_AWAY {
            link.retire(Reason::Limit);
            self.turned_away.spawn(async move { drop(timeout(TURN_AWAY, link.next_open()).await) });
        }
    }

    fn serve(&mut self, link: Box<Link>, epoch: LaneEpoch) {
        let (services, peer) = (self.services.clone(), self.peer.clone());
        self.tasks.spawn(serve::lane(services, peer, link, epoch));
    }

    /// Dials lanes that the peer asks for, to open streams on.
    pub(super) fn dial_reverse(&mut self, count: u32) {
        let room = MAX_REVERSE - self.reversing;
        let count = usize::try_from(count).unwrap_or(room).min(room);
        self.reversing += count;
        for _ in 0..count {
            let (host, name) = (self.host.clone(), self.peer.name.clone());
            let known = self.dial_address();
            let epoch = self.epoch();
            self.dials.spawn(async move {
                Dialled::Reverse(epoch, dial::lane(&host, &name, known, LaneRole::Reverse).await.map(Box::new))
            });
        }
    }

    pub(super) fn reverse_dialled(&mut self, result: Result<Box<Link>, Failure>, epoch: LaneEpoch) {
        self.reversing -= 1;
        let Ok(mut link) = result else { return };
        if self.is_removed(link.peer()) || !self.is_of_use(link.incarnation()) {
            return;
        }
        if self.has_room(&link) {
            self.add(&mut link);
            self.serve(link, epoch);
        } else {
            // The peer has it already, and may have opened a stream on it.
            self.turn_away(link);
        }
    }

    /// Dials the QUIC connection for streams when that is due, or says when it will be: who has dialled the control channel
    /// can dial, and does so first.
    pub(super) fn work_quic(&mut self) -> Option<Instant> {
        let up = self.up.as_ref().filter(|up| up.way == Way::Quic)?;
        let running = self.controls.get(&up.id)?;
        let dialled = running.direction == Direction::Out;
        if !dialled && self.source(up.id) == Source::Ask {
            return None;
        }
        // Beside a connection of the other end that was replaced, its dial for streams may be under way.
        let due = Instant::from_std(self.quics.due(&self.peer, dialled && !up.replaced)?);
        if due > Instant::now() {
            return Some(due);
        }
        let (host, name, known) = (self.host.clone(), self.peer.name.clone(), dialled.then_some(running.address));
        self.quics.dialling();
        let (share, epoch) = (self.peer.quic_share.clone(), self.epoch());
        self.dials.spawn(async move {
            Dialled::Quic(epoch, dial::quic_link(&host, &name, known, share).await.map(Box::new))
        });
        None
    }

    pub(super) fn quic_dialled(&mut self, result: Result<Box<Greeted>, Failure>, epoch: LaneEpoch) {
        match result {
            Ok(greeted) if !self.is_removed(&greeted.2) && self.is_of_use(greeted.1.incarnation) => {
                let (link, hello, proven) = *greeted;
                self.quics.dialled(true);
                self.serve_quic(link, hello.incarnation, proven, epoch);
            }
            Ok(_) | Err(_) => self.quics.dialled(false),
        }
    }

    pub(super) fn quic_accepted(
        &mut self,
        link: QuicLink,
        incarnation: Incarnation,
        proven: VerifiedPeer,
        epoch: LaneEpoch,
    ) {
        if !self.is_removed(&proven) && self.is_of_use(incarnation) {
            self.serve_quic(link, incarnation, proven, epoch);
        } else {
            link.close(Reason::LinkLost);
        }
    }

    /// Opens streams on a QUIC connection and serves those of the peer, until it ends.
    fn serve_quic(&mut self, link: QuicLink, incarnation: Incarnation, proven: VerifiedPeer, epoch: LaneEpoch) {
        let quic = match self.quics.take(&self.peer, link, incarnation) {
            Ok(quic) => quic,
            Err(link) => return link.close(Reason::Limit),
        };
        if self.draining || self.up.as_ref().is_some_and(|up| up.way != Way::Quic) {
            quic.retire();
        }
        let (services, peer) = (self.services.clone(), self.peer.clone());
        self.tasks.spawn(async move {
            serve::quic(&services, &peer, &quic, proven, epoch).await;
            peer.forsake(&quic);
        });
    }
}
