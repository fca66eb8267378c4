//! The actor of one peer: it owns the link's machine, dials, keeps lanes ready, and serves what the peer opens.
//!
//! ```text
//!   commands, notices, dial results, time ──▶ machine ──▶ actions: dial, close, up, down
//!                                              │
//!                            status (watch) ◀──┴──▶ pool of lanes
//! ```

mod carriers;
mod changes;
mod link;

use std::collections::HashMap;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use self::changes::InMesh;
use self::link::Up;
use super::control::{self, Notice, Notices, Order};
use super::dial::{self, Control};
use super::gossip::Line;
use super::judge::Judge;
use super::machine::{ControlId, Peer as Machine};
use super::path::Way;
use super::peer::{Command, Peer};
use super::pool::policy::LaneEpoch;
use super::quic::Quics;
use super::serve::Serve;
use crate::host::{Host, Phase};
use crate::identity::VerifiedPeer;
use crate::metrics::LinkMeter;
use crate::reason::Reason;
use crate::snapshot::Snapshot;
use crate::transport::failure::Failure;
use crate::transport::hello::PeerHello;
use crate::transport::lane::link::Link;
use crate::transport::message::Incarnation;
use crate::transport::quic::QuicLink;
use crate::vocabulary::Direction;

/// How often lanes are judged.
const TICK: Duration = Duration::from_secs(2);

/// A control connection that runs.
struct Running {
    direction: Direction,
    orders: mpsc::Sender<Order>,
    address: SocketAddr,
    serial: String,
    key: [u8; 32],
    mesh_version: u64,
    skew: time::Duration,
    congestion: Option<String>,
}

/// A QUIC connection for streams after HELLO.
type Greeted = (QuicLink, PeerHello, VerifiedPeer);

/// What a dial brought.
enum Dialled {
    Control(Way, Result<Box<Control>, Failure>),
    Lane(LaneEpoch, Result<Box<Link>, Failure>),
    Quic(LaneEpoch, Result<Box<Greeted>, Failure>),
    Reverse(LaneEpoch, Result<Box<Link>, Failure>),
}

pub(super) use changes::rules;

pub(super) struct Actor {
    host: Arc<Host>,
    services: Arc<dyn Serve>,
    peer: Arc<Peer>,
    machine: Machine,
    commands: mpsc::Receiver<Command>,
    notices: mpsc::Receiver<(u64, Notice)>,
    notice_queue: mpsc::Sender<(u64, Notice)>,
    controls: HashMap<u64, Running>,
    next_id: u64,
    up: Option<Up>,
    dials: JoinSet<Dialled>,
    /// Control channels.
    channels: JoinSet<()>,
    /// Lanes that are served or closed.
    tasks: JoinSet<()>,
    meter: LinkMeter,
    /// The connections of this peer's lanes, to be judged while there is no control channel.
    lanes: Judge,
    /// As it has proven itself on the last lane.
    proven: Option<VerifiedPeer>,
    /// Lanes beyond the limit, until the peer has heard so.
    turned_away: JoinSet<()>,
    /// Lanes that are being dialled for the peer to open on.
    reversing: usize,
    /// QUIC connections for streams.
    quics: Quics,
    draining: bool,
    /// What late comers are told while it drains.
    goodbye: Reason,
    /// When what is left of a link that is given up is cut.
    cut: Option<Instant>,
    /// What the mesh says of the peer.
    mesh: InMesh,
    /// Where lanes are dialled.
    dialled_to: Option<SocketAddr>,
    /// Whether the names of the peer lead elsewhere than its link, as soon as they do.
    moving: JoinSet<()>,
    /// How often its address has changed.
    moves: watch::Sender<u64>,
    /// The connection that mesh documents are handed on over, as the others were told.
    line: Option<Line>,
}

impl Actor {
    pub(super) fn new(
        host: Arc<Host>,
        services: Arc<dyn Serve>,
        peer: Arc<Peer>,
        commands: mpsc::Receiver<Command>,
        snapshot: &Snapshot,
        seed: u64,
    ) -> Self {
        let mesh = InMesh::of(snapshot, &peer.name);
        let now = Instant::now().into_std();
        let mut machine = Machine::new(snapshot.me(), &peer.name, mesh.is_dialled(), mesh.transport, seed, now);
        machine.handle_want(mesh.kept, now);
        let (notice_queue, notices) = mpsc::channel(32);
        let meter = host.metrics.link(&peer.name);
        Self {
            host,
            services,
            peer,
            machine,
            commands,
            notices,
            notice_queue,
            controls: HashMap::new(),
            next_id: 1,
            up: None,
            dials: JoinSet::new(),
            channels: JoinSet::new(),
            tasks: JoinSet::new(),
            meter,
            lanes: Judge::default(),
            proven: None,
            turned_away: JoinSet::new(),
            reversing: 0,
            quics: Quics::new(),
            draining: false,
            goodbye: Reason::Draining,
            cut: None,
            mesh,
            dialled_to: None,
            moving: JoinSet::new(),
            moves: watch::Sender::new(0),
            line: None,
        }
    }

    /// Runs until the agent has drained: then until the last stream of the peer has ended.
    pub(super) async fn run(mut self) {
        let pool = self.peer.pool.clone();
        let mut tick = tokio::time::interval(TICK);
        let mut phase = self.host.phase.subscribe();
        loop {
            self.act();
            self.publish();
            self.show_line();
            let pool_next = self.work_pool();
            let quic_next = self.work_quic();
            if self.draining && self.tasks.is_empty() && self.channels.is_empty() {
                return;
            }
            let timeout = self.machine.next_timeout().map(Instant::from_std);
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                Some((id, notice)) = self.notices.recv() => self.notice(id, notice),
                Some(done) = self.dials.join_next() => {
                    if let Ok(done) = done {
                        self.dialled(done);
                    }
                }
                // A watch that was ended because another connection is up says nothing.
                Some(Ok(())) = self.moving.join_next() => self.machine.handle_moved(Instant::now().into_std()),
                Ok(()) = phase.changed() => {
                    let phase = *phase.borrow_and_update();
                    self.peer.stage.change(|stage| stage.phase = stage.phase.max(phase));
                }
                () = at(self.cut) => {
                    self.peer.stage.change(|stage| stage.phase = Phase::Cut);
                    self.cut = None;
                }
                Some(_) = self.tasks.join_next() => {}
                Some(_) = self.channels.join_next() => {}
                Some(_) = self.turned_away.join_next() => {}
                () = at(timeout) => self.machine.handle_timeout(Instant::now().into_std()),
                _ = tick.tick() => self.lanes.look(self.up.is_some(), Instant::now()),
                // What there is to do for lanes and QUIC connections is done at the start of each round.
                () = pool.called() => {}
                () = at(pool_next) => {}
                () = at(quic_next) => {}
            }
        }
    }

    /// Whether the peer was taken out of the mesh, by its key, while its handshake was under way.
    fn is_removed(&self, proven: &VerifiedPeer) -> bool {
        self.host.snapshot.load().is_removed(proven.spki_sha256())
    }

    /// Whether something that leads to this run of the peer is to be used. If the run is new, the one before it ends.
    fn is_of_use(&mut self, run: Incarnation) -> bool {
        let taken = self.machine.handle_incarnation(run, Instant::now().into_std());
        self.act();
        taken
    }

    fn command(&mut self, command: Command) {
        let now = Instant::now().into_std();
        match command {
            Command::Accepted(way, control) => {
                let incarnation = control.hello.incarnation;
                if let Some(id) = self.start(Direction::In, *control) {
                    self.machine.handle_accepted(ControlId(id), way, incarnation, now);
                }
            }
            Command::Lane { link, reverse, epoch } => self.lane_accepted(link, reverse, epoch),
            Command::Quic { link, incarnation, proven, epoch } => self.quic_accepted(link, incarnation, proven, epoch),
            Command::Demand => self.machine.handle_demand(now),
            Command::Ping(answer) => {
                if let Some(running) = self.control() {
                    running.orders.try_send(Order::Ping(answer)).ok();
                }
            }
            Command::Drain => self.drain(Reason::Draining),
            Command::Leave => self.leave(),
            Command::Changed => self.changed(),
        }
    }

    fn notice(&mut self, id: u64, notice: Notice) {
        let now = Instant::now().into_std();
        match notice {
            Notice::RoundTrip(rtt, skew) => {
                if self.up.as_ref().is_some_and(|up| up.id == id) {
                    self.meter.ping(rtt);
                    if let Some(skew) = skew {
                        self.meter.skew(skew.as_seconds_f64());
                    }
                    self.peer.status.send_modify(|status| {
                        status.rtt = Some(rtt);
                        status.skew = skew.or(status.skew);
                    });
                }
            }
            Notice::MeshVersion(version) => {
                if let Some(running) = self.controls.get_mut(&id) {
                    running.mesh_version = version;
                }
                if self.up.as_ref().is_some_and(|up| up.id == id) {
                    self.peer.status.send_modify(|status| status.mesh_version = Some(version));
                }
            }
            Notice::WantLanes(count) => self.dial_reverse(count),
            Notice::Bye(reason) => {
                self.ends(id, "bye", reason.text());
                match reason {
                    Reason::Superseded => self.machine.handle_superseded(ControlId(id), now),
                    _ => self.machine.handle_bye(ControlId(id), now),
                }
            }
            Notice::Lost(why) => {
                self.ends(id, "lost", &why);
                self.machine.handle_lost(ControlId(id), now);
            }
        }
    }

    /// A control connection has ended. Whether the link has, the machine says.
    fn ends(&mut self, id: u64, reason: &'static str, detail: &str) {
        self.controls.remove(&id);
        if let Some(up) = self.up.as_mut().filter(|up| up.id == id) {
            up.ending = Some((reason, detail.to_owned()));
        }
    }

    fn dialled(&mut self, done: Dialled) {
        let now = Instant::now().into_std();
        match done {
            Dialled::Control(way, Ok(control)) => {
                let incarnation = control.hello.incarnation;
                if let Some(id) = self.start(Direction::Out, *control) {
                    self.machine.handle_dialled(ControlId(id), way, incarnation, now);
                }
            }
            Dialled::Control(way, Err(failure)) => {
                self.machine.handle_dial_failed(way, dial::for_machine(&failure), now);
            }
            Dialled::Lane(epoch, result) => self.lane_dialled(result, epoch),
            Dialled::Quic(epoch, result) => self.quic_dialled(result, epoch),
            Dialled::Reverse(epoch, result) => self.reverse_dialled(result, epoch),
        }
    }

    /// Runs a control connection, and gives its number. One whose handshake was under way when the agent began to stop hears
    /// goodbye, as the others have, and makes no link.
    fn start(&mut self, direction: Direction, control: Control) -> Option<u64> {
        let id = self.next_id;
        self.next_id += 1;
        let (orders, queue) = mpsc::channel(16);
        let notices = Notices { id, queue: self.notice_queue.clone() };
        let running = Running {
            direction,
            orders,
            address: control.address,
            serial: control.peer.serial(),
            key: *control.peer.spki_sha256(),
            mesh_version: control.hello.mesh_version,
            skew: control.hello.skew,
            congestion: control.congestion,
        };
        let clock = self.host.clock;
        let listener = self.host.gossip.listener(&self.peer.name);
        self.channels.spawn(control::run(control.stream, clock, queue, notices, Some(listener)));
        if self.draining || self.is_removed(&control.peer) {
            running.orders.try_send(Order::Bye(self.goodbye)).ok();
            return None;
        }
        self.controls.insert(id, running);
        Some(id)
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.up = None;
        self.show_line();
    }
}

async fn at(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests;
