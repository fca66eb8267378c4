//! How the link stands: what the machine has decided is done and told.

use super::{Actor, Dialled, Running};
use crate::logging::audit;
use crate::peers::control::Order;
use crate::peers::dial;
use crate::peers::gossip::Line;
use crate::peers::machine::{Action, CloseReason, ControlId};
use crate::peers::path::Way;
use crate::reason::Reason;
use crate::refusals::Layer;
use crate::transport::failure::Failure;
use crate::transport::message::Incarnation;
use crate::vocabulary::{Direction, Path, PeerState};

/// How many runs of a peer that have ended are remembered.
const ENDED: usize = 8;

/// The link, while it is up.
pub(super) struct Up {
    pub(super) id: u64,
    pub(super) way: Way,
    /// The connection took the place of another that ran the same way.
    pub(super) replaced: bool,
    /// How its connection ended, if the link is about to go down.
    pub(super) ending: Option<(&'static str, String)>,
}

impl Actor {
    /// Does what the machine asks for.
    pub(super) fn act(&mut self) {
        while let Some(action) = self.machine.poll() {
            match action {
                // Who is leaving makes no new links: the machine waits for an answer that no longer comes.
                Action::StartDial(_) if self.draining => {}
                Action::StartDial(way) => {
                    let (host, name) = (self.host.clone(), self.peer.name.clone());
                    let mut moves = self.moves.subscribe();
                    self.dials.spawn(async move {
                        let dialled = tokio::select! {
                            dialled = dial::control(&host, &name, way) => dialled.map(Box::new),
                            Ok(()) = moves.changed() => Err(Failure::new(Layer::NoRoute, "its address has changed")),
                        };
                        Dialled::Control(way, dialled)
                    });
                }
                Action::CloseControl(ControlId(id), reason) => {
                    if let Some(running) = self.controls.remove(&id) {
                        let reason = match reason {
                            CloseReason::Duplicate => Reason::Superseded,
                            CloseReason::WayNotAllowed => Reason::Other,
                            CloseReason::FormerRun => Reason::LinkLost,
                        };
                        running.orders.try_send(Order::Bye(reason)).ok();
                    }
                }
                Action::Up { id: ControlId(id), way, incarnation } => self.came_up(id, way, incarnation),
                Action::Down(_) => self.went_down(),
                Action::Ended(incarnation) => {
                    self.peer.ended.change(|ended| {
                        ended.truncate(ENDED - 1);
                        ended.insert(0, incarnation);
                    });
                }
            }
        }
    }

    fn came_up(&mut self, id: u64, way: Way, incarnation: Incarnation) {
        let before = self.dialled_to.take();
        let replaced = self.up.take().is_some_and(|before| before.way == way);
        self.up = Some(Up { id, way, replaced, ending: None });
        // A run that had been taken for ended may be the one that lives.
        self.peer.ended.change(|ended| ended.retain(|run| *run != incarnation));
        let path = path_of(way);
        if let Some(running) = self.controls.get(&id) {
            // One connection in place of another is the same link.
            if !replaced {
                audit::link_up(&self.peer.name, running.direction, path, &running.address, &running.serial);
            }
            self.host.recent().link_came_up(&self.peer.name, Direction::Out);
            self.host.recent().link_came_up(&self.peer.name, Direction::In);
            let (address, skew, version) = (running.address, running.skew, running.mesh_version);
            let (serial, key, congestion) = (running.serial.clone(), running.key, running.congestion.clone());
            self.meter.skew(skew.as_seconds_f64());
            self.peer.status.send_modify(|status| {
                status.path = Some(path);
                status.address = Some(address);
                status.skew = Some(skew);
                status.rtt = None;
                status.mesh_version = Some(version);
                status.certificate = Some(serial);
                status.key = Some(key);
                status.congestion = congestion;
                status.incarnation = Some(incarnation);
            });
        }
        self.watch_names();
        match way {
            Way::Tls => {
                self.quics.retire(&self.peer);
                self.peer.pool.open(incarnation, self.source(id));
                self.dialled_to = self.dial_address();
                // The peer has moved: what leads to where it was goes as it falls idle.
                if let Some(left) = before.filter(|_| self.dialled_to.is_some() && before != self.dialled_to) {
                    self.peer.pool.leave(left);
                }
            }
            Way::Quic => self.peer.pool.shut(),
        }
    }

    /// Watches whether the names that the link was dialled by lead elsewhere.
    fn watch_names(&mut self) {
        self.moving.abort_all();
        let Some(address) = self.dial_address().filter(|_| dial::has_name(&self.host, &self.peer.name)) else { return };
        let (host, name) = (self.host.clone(), self.peer.name.clone());
        self.moving.spawn(async move { dial::moved_away(&host, &name, address).await });
    }

    pub(super) fn went_down(&mut self) {
        self.moving.abort_all();
        if let Some(up) = self.up.take() {
            let (reason, detail) = up.ending.unwrap_or_else(|| ("restarted", "the peer has started anew".to_owned()));
            audit::link_down(&self.peer.name, path_of(up.way), reason, &detail);
        }
        self.peer.pool.shut();
        self.quics.retire(&self.peer);
    }

    /// The control connection that holds the link.
    pub(super) fn control(&self) -> Option<&Running> {
        self.controls.get(&self.up.as_ref()?.id)
    }

    /// Shows who hands on mesh documents the connection to do so over, if that is another.
    pub(super) fn show_line(&mut self) {
        let running = self.up.as_ref().and_then(|up| Some((up.id, self.controls.get(&up.id)?)));
        let line = running.map(|(channel, running)| Line { channel, orders: running.orders.clone() });
        if self.line != line {
            self.host.gossip.show(&self.peer.name, self.line.take().as_ref(), line.clone());
            self.line = line;
        }
    }

    /// Tells the others how the link stands, if that has changed.
    pub(super) fn publish(&mut self) {
        let state = match (&self.up, self.machine.is_dialling()) {
            (Some(_), _) => PeerState::Up,
            (None, true) => PeerState::Connecting,
            (None, false) if self.machine.error().is_some() => PeerState::Down,
            (None, false) => PeerState::Idle,
        };
        let error = self.machine.error();
        let path = self.up.as_ref().map(|up| path_of(up.way));
        self.meter.state(path, state);
        self.peer.status.send_if_modified(|status| {
            let changed = status.state != state || status.error != error || status.path != path;
            if changed {
                (status.state, status.error, status.path) = (state, error, path);
                if path.is_none() {
                    (status.rtt, status.skew, status.certificate, status.key) = (None, None, None, None);
                    status.congestion = None;
                }
            }
            changed
        });
    }
}

fn path_of(way: Way) -> Path {
    match way {
        Way::Tls => Path::Lane,
        Way::Quic => Path::Quic,
    }
}
