//! The actor of one peer: it owns the link's machine, dials, keeps lanes ready, and serves what the peer opens.
//!
//! ```text
//!   commands, notices, dial results, time ──▶ machine ──▶ actions: dial, close, up, down
//!                                              │
//!                            status (watch) ◀──┴──▶ pool of lanes
//! ```

use std::collections::HashMap;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::back_off::BackOff;
use super::control::{self, Notice, Notices, Order};
use super::dial::{self, Control};
use super::judge::Judge;
use super::machine::{Action, CloseReason, ControlId, Peer as Machine};
use super::path::Way;
use super::peer::{Command, Peer, Quic};
use super::pool::Work;
use super::pool::policy::{LaneEpoch, Source};
use super::serve;
use crate::host::Host;
use crate::identity::VerifiedPeer;
use crate::logging::audit;
use crate::metrics::LinkMeter;
use crate::reason::Reason;
use crate::refusals::{Layer, Refusal};
use crate::transport::failure::Failure;
use crate::transport::hello::PeerHello;
use crate::transport::lane::link::Link;
use crate::transport::message::{Incarnation, LaneRole};
use crate::transport::quic::QuicLink;
use crate::vocabulary::{Direction, Path, PeerState};

/// The pause after a QUIC connection for streams could not be dialled.
const QUIC_BACK_OFF: BackOff = BackOff::new(Duration::from_millis(50), Duration::from_secs(1));
/// How many reverse lanes are dialled for the peer at once, however many it asks for.
const MAX_REVERSE: usize = 16;
/// How many QUIC connections for streams one peer may have: one that is used, and others that are on their way out.
const MAX_QUIC: usize = 4;
/// How many runs of a peer that have ended are remembered.
const ENDED: usize = 8;
/// How often lanes are judged.
const TICK: Duration = Duration::from_secs(2);

/// A control connection that runs.
struct Running {
    way: Way,
    direction: Direction,
    orders: mpsc::Sender<Order>,
    address: SocketAddr,
    serial: String,
    mesh_version: u64,
    skew: time::Duration,
}

/// What a dial brought.
enum Dialled {
    Control(Way, Result<Box<Control>, Failure>),
    Lane(LaneEpoch, Result<Box<Link>, Failure>),
    Quic(Result<Box<(QuicLink, PeerHello, VerifiedPeer)>, Failure>),
    Reverse(Result<Box<Link>, Failure>),
}

pub(super) struct Actor {
    host: Arc<Host>,
    peer: Arc<Peer>,
    machine: Machine,
    commands: mpsc::Receiver<Command>,
    notices: mpsc::Receiver<(u64, Notice)>,
    notice_queue: mpsc::Sender<(u64, Notice)>,
    controls: HashMap<u64, Running>,
    next_id: u64,
    up: Option<u64>,
    dials: JoinSet<Dialled>,
    /// Control channels.
    channels: JoinSet<()>,
    /// Lanes that are served or closed.
    tasks: JoinSet<()>,
    meter: LinkMeter,
    /// The connections of this peer's lanes, to be judged while there is no control channel.
    lanes: Judge,
    /// Lanes that are being dialled for the peer to open on.
    reversing: usize,
    /// QUIC connections for streams that live.
    quic_links: Vec<Weak<Quic>>,
    dialling_quic: bool,
    quic_back_off: BackOff,
    quic_after: Option<Instant>,
    draining: bool,
}

impl Actor {
    pub(super) fn new(
        host: Arc<Host>,
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
            reversing: 0,
            quic_links: Vec::new(),
            dialling_quic: false,
            quic_back_off: QUIC_BACK_OFF,
            quic_after: None,
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
            if self.draining && self.tasks.is_empty() && self.channels.is_empty() {
                return;
            }
            let timeout = self.machine.next_timeout().map(Instant::from_std);
            let quic_after = self.quic_after;
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
                Some(_) = self.tasks.join_next() => self.dial_quic(),
                Some(_) = self.channels.join_next() => {}
                () = at(quic_after) => {
                    self.quic_after = None;
                    self.dial_quic();
                }
                () = at(timeout) => self.machine.handle_timeout(Instant::now().into_std()),
                _ = tick.tick() => self.lanes.look(self.up.is_some(), Instant::now()),
                // What there is to do for the pool is done at the start of each round.
                () = pool.called() => {}
                () = at(pool_next) => {}
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
                            CloseReason::Duplicate | CloseReason::WayNotAllowed => Reason::Other,
                            CloseReason::FormerRun => Reason::LinkLost,
                        };
                        running.orders.try_send(Order::Bye(reason)).ok();
                    }
                }
                Action::Up { id: ControlId(id), way, incarnation } => self.came_up(id, way, incarnation),
                Action::Down(_) => {
                    self.up = None;
                    self.peer.pool.shut();
                }
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
        self.up = Some(id);
        // A run that had been taken for ended may be the one that lives.
        self.peer.ended.send_modify(|ended| ended.retain(|run| *run != incarnation));
        let path = path_of(way);
        if let Some(running) = self.controls.get(&id) {
            audit::link_up(&self.peer.name, running.direction, path, &running.address, &running.serial);
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
        self.quic_works();
        match way {
            Way::Tls => self.peer.pool.open(incarnation, self.source(id)),
            Way::Quic => {
                self.peer.pool.shut();
                self.dial_quic();
            }
        }
    }

    /// Where lanes come from while the control connection `id` holds the link: what the peer has dialled it can dial again.
    fn source(&self, id: u64) -> Source {
        let snapshot = self.host.snapshot.load();
        let has_address = snapshot.mesh.node(self.peer.name.as_str()).is_some_and(|n| !n.addresses().is_empty());
        match self.controls.get(&id).map(|c| c.direction) {
            Some(Direction::In) if has_address => Source::Either,
            Some(Direction::In) => Source::Ask,
            Some(Direction::Out) | None => Source::Dial,
        }
    }

    /// Dials the QUIC connection for streams, unless there is one or the peer is to dial it: who dialled the control
    /// channel can dial.
    fn dial_quic(&mut self) {
        let Some(running) = self.up.and_then(|id| self.controls.get(&id)) else { return };
        let there = self.peer.quic.borrow().is_some();
        if running.way != Way::Quic || running.direction != Direction::Out || there || self.dialling_quic {
            return;
        }
        self.dialling_quic = true;
        let (host, name, known) = (self.host.clone(), self.peer.name.clone(), Some(running.address));
        let share = self.peer.quic_share.clone();
        self.dials.spawn(async move { Dialled::Quic(dial::quic_link(&host, &name, known, share).await.map(Box::new)) });
    }

    /// Opens streams on a QUIC connection and serves those of the peer, until it ends.
    fn serve_quic(&mut self, link: QuicLink, incarnation: Incarnation, proven: VerifiedPeer) {
        self.quic_links.retain(|quic| quic.strong_count() > 0);
        if self.quic_links.len() >= MAX_QUIC {
            return link.close(Reason::Limit);
        }
        let quic = Arc::new(Quic { link, incarnation });
        self.quic_links.push(Arc::downgrade(&quic));
        self.peer.quic.send_replace(Some(quic.clone()));
        let (host, peer) = (self.host.clone(), self.peer.clone());
        self.tasks.spawn(async move {
            serve::quic(&host, &peer, &quic, proven).await;
            peer.quic.send_if_modified(|now| {
                let mine = now.as_ref().is_some_and(|now| Arc::ptr_eq(now, &quic));
                if mine {
                    *now = None;
                }
                mine
            });
        });
    }

    /// Tells the others how the link stands, if that has changed.
    fn publish(&mut self) {
        let state = match (self.up, self.machine.is_dialling()) {
            (Some(_), _) => PeerState::Up,
            (None, true) => PeerState::Connecting,
            (None, false) if self.machine.error().is_some() => PeerState::Down,
            (None, false) => PeerState::Idle,
        };
        let error = self.machine.error();
        let path = self.up.and_then(|id| self.controls.get(&id)).map(|c| path_of(c.way));
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

    fn command(&mut self, command: Command) {
        let now = Instant::now().into_std();
        match command {
            Command::Accepted(way, control) => {
                let incarnation = control.hello.incarnation;
                let id = self.start(way, Direction::In, *control);
                self.machine.handle_accepted(ControlId(id), way, incarnation, now);
            }
            Command::Lane { link, reverse, epoch } => {
                if !self.machine.handle_incarnation(link.incarnation(), now) {
                    return;
                }
                self.act();
                if !self.has_room(&link) {
                    return;
                }
                self.lanes.add(&link);
                if reverse {
                    self.peer.pool.given(link, epoch);
                } else {
                    self.serve(*link);
                }
            }
            Command::Quic { link, incarnation, proven } => {
                if !self.machine.handle_incarnation(incarnation, now) {
                    return link.close(Reason::LinkLost);
                }
                self.act();
                self.serve_quic(link, incarnation, proven);
            }
            Command::Demand => self.machine.handle_demand(now),
            Command::Ping(answer) => {
                if let Some(running) = self.up.and_then(|id| self.controls.get(&id)) {
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
            }
        }
    }

    fn notice(&mut self, id: u64, notice: Notice) {
        let now = Instant::now().into_std();
        match notice {
            Notice::RoundTrip(rtt, skew) => {
                if self.up == Some(id) {
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
            Notice::WantLanes(count) => {
                let room = MAX_REVERSE - self.reversing;
                let count = usize::try_from(count).unwrap_or(room).min(room);
                self.reversing += count;
                for _ in 0..count {
                    let (host, name) = (self.host.clone(), self.peer.name.clone());
                    let known = self.dial_address();
                    self.dials.spawn(async move {
                        Dialled::Reverse(dial::lane(&host, &name, known, LaneRole::Reverse).await.map(Box::new))
                    });
                }
            }
            Notice::Bye(reason) => {
                self.went_down(id, "bye", reason.text());
                self.machine.handle_bye(ControlId(id), now);
            }
            Notice::Lost(why) => {
                self.went_down(id, "lost", &why);
                self.machine.handle_lost(ControlId(id), now);
            }
        }
    }

    fn went_down(&mut self, id: u64, reason: &'static str, detail: &str) {
        if let Some(running) = self.controls.remove(&id)
            && self.up == Some(id)
        {
            audit::link_down(&self.peer.name, path_of(running.way), reason, detail);
        }
    }

    fn dialled(&mut self, done: Dialled) {
        let now = Instant::now().into_std();
        match done {
            Dialled::Control(way, Ok(control)) => {
                let incarnation = control.hello.incarnation;
                let id = self.start(way, Direction::Out, *control);
                self.machine.handle_dialled(ControlId(id), way, incarnation, now);
            }
            Dialled::Control(way, Err(failure)) => {
                self.machine.handle_dial_failed(way, dial::for_machine(&failure), now);
            }
            Dialled::Lane(epoch, Ok(link)) => {
                if self.machine.handle_incarnation(link.incarnation(), now) {
                    self.act();
                    self.lanes.add(&link);
                    self.peer.pool.made(link, epoch);
                } else {
                    self.peer.pool.dial_failed();
                }
            }
            Dialled::Lane(_, Err(_)) => self.peer.pool.dial_failed(),
            Dialled::Quic(Ok(quic)) => {
                let (link, hello, proven) = *quic;
                self.dialling_quic = false;
                self.quic_works();
                if self.machine.handle_incarnation(hello.incarnation, now) {
                    self.act();
                    self.serve_quic(link, hello.incarnation, proven);
                }
            }
            Dialled::Quic(Err(_)) => {
                self.dialling_quic = false;
                self.quic_back_off.failed(now);
                self.quic_after = self.quic_back_off.until().map(Instant::from_std);
            }
            Dialled::Reverse(result) => {
                self.reversing -= 1;
                if let Ok(link) = result
                    && self.machine.handle_incarnation(link.incarnation(), now)
                    && self.has_room(&link)
                {
                    self.act();
                    self.lanes.add(&link);
                    self.serve(*link);
                }
            }
        }
    }

    fn quic_works(&mut self) {
        self.quic_back_off.reset();
        self.quic_after = None;
    }

    /// Runs a control connection.
    fn start(&mut self, way: Way, direction: Direction, control: Control) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let (orders, queue) = mpsc::channel(16);
        let notices = Notices { id, queue: self.notice_queue.clone() };
        let running = Running {
            way,
            direction,
            orders,
            address: control.address,
            serial: control.peer.serial(),
            mesh_version: control.hello.mesh_version,
            skew: control.hello.skew,
        };
        self.controls.insert(id, running);
        let clock = self.host.clock;
        self.channels.spawn(control::run(control.stream, clock, queue, notices));
        id
    }

    fn dial_address(&self) -> Option<SocketAddr> {
        let running = self.controls.get(&self.up?)?;
        (running.direction == Direction::Out).then_some(running.address)
    }

    /// Does what the pool wants: dials lanes, asks the peer to, closes old ones. When it wants more at the latest.
    fn work_pool(&mut self) -> Option<Instant> {
        // Before the dials take theirs from the snapshot: a lane may be newer than its epoch, never older.
        let epoch = LaneEpoch::from(self.host.snapshot.load().epochs);
        let Work { dial, ask, close, next } = self.peer.pool.work(epoch);
        for link in close {
            self.tasks.spawn(link.close());
        }
        if let Some(running) = self.up.and_then(|id| self.controls.get(&id))
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

    /// Whether the peer may have one lane more. What it dials beyond the limit is closed.
    fn has_room(&mut self, link: &Link) -> bool {
        let most = self.host.limits.lanes_per_peer;
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

    fn serve(&mut self, link: Link) {
        let (host, peer) = (self.host.clone(), self.peer.clone());
        self.tasks.spawn(async move { serve::lane(&host, &peer, link).await });
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
