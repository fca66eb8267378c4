//! The actor of one peer: it owns the link's machine, dials, keeps lanes ready, and serves what the peer opens.
//!
//! ```text
//!   commands, notices, dial results, time ──▶ machine ──▶ actions: dial, close, up, down
//!                                              │
//!                            status (watch) ◀──┴──▶ pool of lanes
//! ```

mod carriers;

use std::collections::HashMap;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::control::{self, Notice, Notices, Order};
use super::dial::{self, Control};
use super::judge::Judge;
use super::machine::{Action, CloseReason, ControlId, Peer as Machine};
use super::path::Way;
use super::peer::{Command, Peer};
use super::pool::policy::LaneEpoch;
use super::quic::Quics;
use super::serve::Serve;
use crate::host::Host;
use crate::identity::VerifiedPeer;
use crate::logging::audit;
use crate::metrics::LinkMeter;
use crate::reason::Reason;
use crate::transport::failure::Failure;
use crate::transport::hello::PeerHello;
use crate::transport::lane::link::Link;
use crate::transport::message::Incarnation;
use crate::transport::quic::QuicLink;
use crate::vocabulary::{Direction, Path, PeerState};

/// How many runs of a peer that have ended are remembered.
const ENDED: usize = 8;
/// How often lanes are judged.
const TICK: Duration = Duration::from_secs(2);

/// A control connection that runs.
struct Running {
    direction: Direction,
    orders: mpsc::Sender<Order>,
    address: SocketAddr,
    serial: String,
    mesh_version: u64,
    skew: time::Duration,
}

/// The link, while it is up.
struct Up {
    id: u64,
    way: Way,
    /// The connection took the place of another that ran the same way.
    replaced: bool,
    /// How its connection ended, if the link is about to go down.
    ending: Option<(&'static str, String)>,
}

/// A QUIC connection for streams after HELLO.
type Greeted = (QuicLink, PeerHello, VerifiedPeer);

/// What a dial brought.
enum Dialled {
    Control(Way, Result<Box<Control>, Failure>),
    Lane(LaneEpoch, Result<Box<Link>, Failure>),
    Quic(Result<Box<Greeted>, Failure>),
    Reverse(Result<Box<Link>, Failure>),
}

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
    /// Lanes beyond the limit, until the peer has heard so.
    turned_away: JoinSet<()>,
    /// Lanes that are being dialled for the peer to open on.
    reversing: usize,
    /// QUIC connections for streams.
    quics: Quics,
    draining: bool,
}

impl Actor {
    pub(super) fn new(
        host: Arc<Host>,
        services: Arc<dyn Serve>,
        peer: Arc<Peer>,
        commands: mpsc::Receiver<Command>,
        wanted: bool,
        seed: u64,
    ) -> Self {
        let snapshot = host.snapshot.load_full();
        let has_address = snapshot.mesh.node(peer.name.as_str()).is_some_and(|n| !n.addresses().is_empty());
        let linked = wanted || snapshot.shares_service_with(&peer.name);
        let now = Instant::now().into_std();
        let mut machine =
            Machine::new(snapshot.me(), &peer.name, has_address && linked, snapshot.mesh.transport(), seed, now);
        machine.handle_want(wanted, now);
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
            turned_away: JoinSet::new(),
            reversing: 0,
            quics: Quics::new(),
            draining: false,
        }
    }

    /// Runs until the agent has drained: then until the last stream of the peer has ended.
    pub(super) async fn run(mut self) {
        let pool = self.peer.pool.clone();
        let mut tick = tokio::time::interval(TICK);
        loop {
            self.act();
            self.publish();
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

    /// Does what the machine asks for.
    fn act(&mut self) {
        while let Some(action) = self.machine.poll() {
            match action {
                // Who is leaving makes no new links: the machine waits for an answer that no longer comes.
                Action::StartDial(_) if self.draining => {}
                Action::StartDial(way) => {
                    let (host, name) = (self.host.clone(), self.peer.name.clone());
                    self.dials.spawn(async move {
                        Dialled::Control(way, dial::control(&host, &name, way).await.map(Box::new))
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
                    self.peer.ended.send_modify(|ended| {
                        ended.truncate(ENDED - 1);
                        ended.insert(0, incarnation);
                    });
                }
            }
        }
    }

    fn came_up(&mut self, id: u64, way: Way, incarnation: Incarnation) {
        let replaced = self.up.take().is_some_and(|before| before.way == way);
        self.up = Some(Up { id, way, replaced, ending: None });
        // A run that had been taken for ended may be the one that lives.
        self.peer.ended.send_modify(|ended| ended.retain(|run| *run != incarnation));
        let path = path_of(way);
        if let Some(running) = self.controls.get(&id) {
            // One connection in place of another is the same link.
            if !replaced {
                audit::link_up(&self.peer.name, running.direction, path, &running.address, &running.serial);
            }
            self.host.recent().link_came_up(&self.peer.name, Direction::Out);
            self.host.recent().link_came_up(&self.peer.name, Direction::In);
            let (address, skew, version) = (running.address, running.skew, running.mesh_version);
            let serial = running.serial.clone();
            self.meter.skew(skew.as_seconds_f64());
            self.peer.status.send_modify(|status| {
                status.path = Some(path);
                status.address = Some(address);
                status.skew = Some(skew);
                status.rtt = None;
                status.mesh_version = Some(version);
                status.certificate = Some(serial);
                status.incarnation = Some(incarnation);
            });
        }
        match way {
            Way::Tls => {
                self.quics.retire(&self.peer);
                self.peer.pool.open(incarnation, self.source(id));
            }
            Way::Quic => self.peer.pool.shut(),
        }
    }

    fn went_down(&mut self) {
        if let Some(up) = self.up.take() {
            let (reason, detail) = up.ending.unwrap_or_else(|| ("restarted", "the peer has started anew".to_owned()));
            audit::link_down(&self.peer.name, path_of(up.way), reason, &detail);
        }
        self.peer.pool.shut();
        self.quics.retire(&self.peer);
    }

    /// The control connection that holds the link.
    fn control(&self) -> Option<&Running> {
        self.controls.get(&self.up.as_ref()?.id)
    }

    /// Tells the others how the link stands, if that has changed.
    fn publish(&mut self) {
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
                    (status.rtt, status.skew, status.certificate) = (None, None, None);
                }
            }
            changed
        });
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
            Command::Quic { link, incarnation, proven } => self.quic_accepted(link, incarnation, proven),
            Command::Demand => self.machine.handle_demand(now),
            Command::Ping(answer) => {
                if let Some(running) = self.control() {
                    running.orders.try_send(Order::Ping(answer)).ok();
                }
            }
            Command::Drain => {
                self.draining = true;
                for (_, running) in self.controls.drain() {
                    running.orders.try_send(Order::Bye(Reason::Draining)).ok();
                }
                self.up = None;
                self.peer.pool.shut();
                self.quics.retire(&self.peer);
            }
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
            Dialled::Quic(result) => self.quic_dialled(result),
            Dialled::Reverse(result) => self.reverse_dialled(result),
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
            mesh_version: control.hello.mesh_version,
            skew: control.hello.skew,
        };
        let clock = self.host.clock;
        self.channels.spawn(control::run(control.stream, clock, queue, notices));
        if self.draining {
            running.orders.try_send(Order::Bye(Reason::Draining)).ok();
            return None;
        }
        self.controls.insert(id, running);
        Some(id)
    }
}

fn path_of(way: Way) -> Path {
    match way {
        Way::Tls => Path::Lane,
        Way::Quic => Path::Quic,
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
