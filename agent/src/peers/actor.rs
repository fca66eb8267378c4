//! The actor of one peer: it owns the link's machine, dials, keeps lanes ready, and serves what the peer opens.
//!
//! ```text
//!   commands, notices, dial results, time ──▶ machine ──▶ actions: dial, close, up, down
//!                                              │
//!                            status (watch) ◀──┴──▶ pool of lanes
//! ```

use std::collections::HashMap;
use std::future::pending;
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::control::{self, Notice, Notices, Order};
use super::dial::{self, Control};
use super::machine::{Action, CloseReason, ControlId, Peer as Machine};
use super::path::Way;
use super::peer::{Command, Peer, Quic};
use super::serve;
use crate::host::Host;
use crate::identity::VerifiedPeer;
use crate::logging::audit;
use crate::metrics::LinkMeter;
use crate::reason::Reason;
use crate::transport::failure::Failure;
use crate::transport::hello::PeerHello;
use crate::transport::lane::link::Link;
use crate::transport::message::{Incarnation, LaneRole};
use crate::transport::quic::QuicLink;
use crate::transport::tcp_info;
use crate::vocabulary::{Direction, Path, PeerState};

/// How often idle lanes are looked through.
const TICK: Duration = Duration::from_secs(2);
/// The pause after a lane could not be dialled, doubled each time up to the second.
const LANE_BACK_OFF: Duration = Duration::from_millis(50);
const LANE_BACK_OFF_MOST: Duration = Duration::from_secs(1);
/// How many reverse lanes one WANT_LANES brings at most.
const MAX_REVERSE: u32 = 16;
/// How long reverse lanes that were asked for may take to come.
const REVERSE_WAIT: Duration = Duration::from_secs(5);

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
    Lane(Result<Box<Link>, Failure>),
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
    lanes: Vec<Weak<TcpStream>>,
    lane_pause: Duration,
    lanes_after: Option<Instant>,
    reverse_wanted: usize,
    reverse_until: Option<Instant>,
    dialling_quic: bool,
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
            lanes: Vec::new(),
            lane_pause: LANE_BACK_OFF,
            lanes_after: None,
            reverse_wanted: 0,
            reverse_until: None,
            dialling_quic: false,
            draining: false,
        }
    }

    /// Runs until the agent has drained: then until the last stream of the peer has ended.
    pub(super) async fn run(mut self) {
        let pool = self.peer.pool.clone();
        let watch = pool.watch();
        tokio::pin!(watch);
        let mut tick = tokio::time::interval(TICK);
        loop {
            self.act();
            self.publish();
            if self.draining && self.tasks.is_empty() && self.channels.is_empty() {
                return;
            }
            let timeout = self.machine.next_timeout().map(Instant::from_std);
            let lanes_after = self.lanes_after;
            let reverse_until = self.reverse_until;
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
                () = pool.demand(), if lanes_after.is_none() => self.dial_lanes(),
                () = at(lanes_after) => {
                    self.lanes_after = None;
                    self.dial_lanes();
                    self.dial_quic();
                }
                () = at(reverse_until) => self.reverse_missing(),
                () = at(timeout) => self.machine.handle_timeout(Instant::now().into_std()),
                _ = tick.tick() => {
                    self.judge_lanes();
                    let stale = pool.shrink(Instant::now());
                    self.close(stale);
                }
                () = &mut watch => {}
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
                    let idle = self.peer.pool.shut();
                    self.close(idle);
                }
                Action::Ended(incarnation) => {
                    self.peer.ended.send_replace(Some(incarnation));
                }
            }
        }
    }

    fn came_up(&mut self, id: u64, way: Way, incarnation: Incarnation) {
        self.up = Some(id);
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
        (self.lane_pause, self.lanes_after) = (LANE_BACK_OFF, None);
        match way {
            Way::Tls => self.peer.pool.open(incarnation),
            Way::Quic => {
                let idle = self.peer.pool.shut();
                self.close(idle);
                self.dial_quic();
            }
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
        self.dials.spawn(async move { Dialled::Quic(dial::quic_link(&host, &name, known).await.map(Box::new)) });
    }

    /// Opens streams on a QUIC connection and serves those of the peer, until it ends.
    fn serve_quic(&mut self, link: QuicLink, incarnation: Incarnation, proven: VerifiedPeer) {
        let quic = Arc::new(Quic { link, incarnation });
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
            Command::Lane { link, reverse } => {
                if !self.machine.handle_incarnation(link.incarnation(), now) {
                    return;
                }
                self.act();
                self.lanes.push(link.watched());
                if reverse {
                    if self.reverse_wanted > 0 {
                        self.reverse_wanted -= 1;
                        self.peer.pool.dialled(Some(*link));
                    } else {
                        self.peer.pool.add(*link);
                    }
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
                let idle = self.peer.pool.shut();
                self.close(idle);
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
                for _ in 0..count.min(MAX_REVERSE) {
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
            Dialled::Lane(Ok(link)) => {
                (self.lane_pause, self.lanes_after) = (LANE_BACK_OFF, None);
                let taken = self.machine.handle_incarnation(link.incarnation(), now);
                self.lanes.push(link.watched());
                self.peer.pool.dialled(taken.then_some(*link));
                self.dial_lanes();
            }
            Dialled::Lane(Err(_)) => {
                self.peer.pool.dialled(None);
                self.lanes_after = Some(Instant::now() + self.lane_pause);
                self.lane_pause = (self.lane_pause * 2).min(LANE_BACK_OFF_MOST);
            }
            Dialled::Quic(Ok(quic)) => {
                let (link, hello, proven) = *quic;
                self.dialling_quic = false;
                (self.lane_pause, self.lanes_after) = (LANE_BACK_OFF, None);
                if self.machine.handle_incarnation(hello.incarnation, now) {
                    self.act();
                    self.serve_quic(link, hello.incarnation, proven);
                }
            }
            Dialled::Quic(Err(_)) => {
                self.dialling_quic = false;
                self.lanes_after = Some(Instant::now() + self.lane_pause);
                self.lane_pause = (self.lane_pause * 2).min(LANE_BACK_OFF_MOST);
            }
            Dialled::Reverse(Ok(link)) => {
                self.lanes.push(link.watched());
                self.serve(*link);
            }
            Dialled::Reverse(Err(_)) => {}
        }
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

    /// Dials as many lanes as the pool wants, or asks the peer to.
    fn dial_lanes(&mut self) {
        let Some(running) = self.up.and_then(|id| self.controls.get(&id)) else { return };
        if running.way != Way::Tls || self.lanes_after.is_some() {
            return;
        }
        let count = self.peer.pool.start_dials();
        if count == 0 {
            return;
        }
        let has_address = {
            let snapshot = self.host.snapshot.load();
            snapshot.mesh.node(self.peer.name.as_str()).is_some_and(|n| !n.addresses().is_empty())
        };
        // What the peer has dialled it can dial again: a way for lanes where this side has no address to dial, or where
        // that has just failed.
        let ask = running.direction == Direction::In && (!has_address || self.lane_pause > LANE_BACK_OFF);
        if ask {
            let asked = u32::try_from(count).unwrap_or(MAX_REVERSE).min(MAX_REVERSE);
            running.orders.try_send(Order::WantLanes(asked)).ok();
            self.reverse_wanted += count;
            self.reverse_until = Some(Instant::now() + REVERSE_WAIT);
            return;
        }
        let known = self.dial_address();
        for _ in 0..count {
            let (host, name) = (self.host.clone(), self.peer.name.clone());
            self.dials.spawn(async move {
                Dialled::Lane(dial::lane(&host, &name, known, LaneRole::Opener).await.map(Box::new))
            });
        }
    }

    /// Reverse lanes that did not come are no longer counted on.
    fn reverse_missing(&mut self) {
        self.reverse_until = None;
        for _ in 0..std::mem::take(&mut self.reverse_wanted) {
            self.peer.pool.dialled(None);
        }
        self.dial_lanes();
    }

    /// While the control channel is down, lanes on which the peer has answered nothing for as long as would have been
    /// silence on that are cut: the applications at this end get their RST.
    fn judge_lanes(&mut self) {
        self.lanes.retain(|lane| lane.strong_count() > 0);
        if self.up.is_some() {
            return;
        }
        for lane in self.lanes.iter().filter_map(Weak::upgrade) {
            if tcp_info::unanswered(&lane).is_some_and(|silent| silent >= control::SILENCE) {
                // Its reader sees the end, its writer a broken pipe.
                SockRef::from(&*lane).shutdown(Shutdown::Both).ok();
            }
        }
    }

    fn serve(&mut self, link: Link) {
        let (host, peer) = (self.host.clone(), self.peer.clone());
        self.tasks.spawn(async move { serve::lane(&host, &peer, link).await });
    }

    fn close(&mut self, links: Vec<Link>) {
        for link in links {
            self.tasks.spawn(link.close());
        }
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
