//! One peer's control connection, as a pure machine: when to dial and which way, which of several connections stays.
//!
//! Both ends judge by the same order, so they keep the same connection: TLS before QUIC, then the one that the lower name
//! dialled, then the newer (its dialler has given up the older). A peer that comes with another incarnation has started
//! anew: everything of its former run ends at once. Of a former run nothing is taken while the newer one is up: what comes
//! of it was under way when it ended. Once the newer one is down a control connection may bring the former back, since a dead
//! run's HELLO can be read late, after that of the living one.
//!
//! The end that closes one of several connections says so. At the other end the one that stays may still be on its way from the
//! handshake to here, so the link counts as up until it arrives, [`PARTED`] at most.

mod dialling;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use mesh_config::{NodeName, Transport};

use super::path::{DialFailure, FailureClass, Round, Way, explain};
use crate::transport::message::Incarnation;

/// The shortest pause between rounds of dials.
pub const BACK_OFF: Duration = Duration::from_millis(50);
/// The longest pause while a service wants the peer.
pub const BACK_OFF_WANTED: Duration = Duration::from_secs(1);
/// The longest pause otherwise.
pub const BACK_OFF_UNWANTED: Duration = Duration::from_secs(30);
/// How soon TLS is tried again when the link has come up over QUIC: a peer that starts late refuses TCP one moment and answers
/// QUIC the next.
pub const TLS_PROBE_FIRST: Duration = Duration::from_secs(1);
/// How often it is tried after that, at the least: the pause doubles up to here.
pub const TLS_PROBE: Duration = Duration::from_secs(30);
/// A connection that lived less than this counts as a failed dial, lest two agents that disagree dial without pause.
pub const STABLE: Duration = Duration::from_secs(1);
/// How long a link lives on without a connection when the peer has closed one because it keeps another.
pub const PARTED: Duration = Duration::from_secs(1);
/// How many former incarnations are remembered.
const FORMER: usize = 8;

/// Names a control connection: the shell numbers dialled and accepted ones alike, each number once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ControlId(pub u64);

/// Why a control connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// The other one stays.
    Duplicate,
    /// It belongs to a former run of the peer.
    FormerRun,
    /// The mesh does not let links run this way.
    WayNotAllowed,
}

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Dial the peer; the answer is [`Peer::handle_dialled`] or [`Peer::handle_dial_failed`], within a bound.
    StartDial(Way),
    /// Say BYE on this connection and close it. No [`Peer::handle_lost`] is needed.
    CloseControl(ControlId, CloseReason),
    /// The link is up, over this connection. Comes again, without `Down` between, if another takes its place.
    Up {
        /// The connection.
        id: ControlId,
        /// The way it runs, and streams with it.
        way: Way,
        /// The peer's run.
        incarnation: Incarnation,
    },
    /// The link is down. Lanes and streams of this run may live on.
    Down(Incarnation),
    /// A newer run of the peer has shown itself: lanes and streams of this one are cut at once.
    Ended(Incarnation),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Control {
    id: ControlId,
    way: Way,
    dialled: bool,
    incarnation: Incarnation,
    since: Instant,
}

/// One peer.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Whether our name is the lower one.
    lower: bool,
    has_address: bool,
    transport: Transport,
    wanted: bool,
    /// The peer has moved: the connection in use stays until there is one to where the peer is now.
    moved: bool,
    /// The connection in use.
    up: Option<Control>,
    /// The peer has closed the connection in use because it keeps another: until when that has to be here.
    parted: Option<Instant>,
    /// The newest run of the peer that has shown itself.
    run: Option<Incarnation>,
    dialling: [bool; 2],
    round: Option<Round>,
    last_round: Option<Instant>,
    /// When the next round begins, or TLS is tried again.
    next: Option<Instant>,
    failures: u32,
    /// Tries of TLS since the link came up over QUIC.
    probes: u32,
    errors: [Option<DialFailure>; 2],
    former: VecDeque<Incarnation>,
    actions: VecDeque<Action>,
    random: u64,
}

impl Peer {
    /// A peer that is not connected, to be dialled at once if it has an address. `seed` makes its jitter.
    pub fn new(
        me: &NodeName,
        peer: &NodeName,
        has_address: bool,
        transport: Transport,
        seed: u64,
        now: Instant,
    ) -> Self {
        let mut this = Self {
            lower: me < peer,
            has_address,
            transport,
            wanted: false,
            moved: false,
            up: None,
            parted: None,
            run: None,
            dialling: [false; 2],
            round: None,
            last_round: None,
            next: None,
            failures: 0,
            probes: 0,
            errors: [None, None],
            former: VecDeque::new(),
            actions: VecDeque::new(),
            random: seed,
        };
        this.plan(now);
        this
    }

    /// The connection in use, or that was until the peer chose [another](Self::handle_superseded), and its way.
    pub fn is_up(&self) -> Option<(ControlId, Way, Incarnation)> {
        self.up.as_ref().map(|control| (control.id, control.way, control.incarnation))
    }

    /// Whether a dial is under way.
    pub fn is_dialling(&self) -> bool {
        self.dialling.contains(&true)
    }

    /// Why the peer is not reached, or not over TLS: what the last dials of each way met.
    pub fn error(&self) -> Option<String> {
        explain(self.errors.each_ref().map(Option::as_ref))
    }

    /// The last failure of a way, if the last dial of it failed.
    pub fn failure(&self, way: Way) -> Option<&DialFailure> {
        self.errors[way.index()].as_ref()
    }

    /// Whether some service wants the peer.
    pub fn handle_want(&mut self, wanted: bool, now: Instant) {
        let was = std::mem::replace(&mut self.wanted, wanted);
        if wanted && !was {
            self.handle_demand(now);
        }
    }

    /// An application waits for the peer: it is dialled at once, though not twice within [`BACK_OFF`].
    pub fn handle_demand(&mut self, now: Instant) {
        if self.up.is_none() {
            let soonest = self.last_round.map_or(now, |at| (at + BACK_OFF).max(now));
            self.next = self.next.map(|at| at.min(soonest));
            self.plan(now);
        }
    }

    /// The mesh says something else about the peer.
    pub fn handle_config(&mut self, has_address: bool, transport: Transport, now: Instant) {
        (self.has_address, self.transport) = (has_address, transport);
        self.next = None;
        self.round = None;
        if let Some(control) = self.up.take_if(|control| !control.way.is_allowed(transport)) {
            self.close(control.id, CloseReason::WayNotAllowed);
            self.actions.push_back(Action::Down(control.incarnation));
        }
        for way in Way::ALL.into_iter().filter(|way| !way.is_allowed(transport)) {
            self.errors[way.index()] = None;
        }
        self.plan(now);
    }

    /// The address that the connection in use was dialled at is no longer the peer's. It stays until the peer answers at its new
    /// one.
    pub fn handle_moved(&mut self, now: Instant) {
        self.moved = self.up.is_some() && self.has_address;
        (self.next, self.round, self.failures) = (None, None, 0);
        self.plan(now);
    }

    /// A dial has succeeded: the acceptor's HELLO is there.
    pub fn handle_dialled(&mut self, id: ControlId, way: Way, incarnation: Incarnation, now: Instant) {
        self.dialling[way.index()] = false;
        self.arrived(Control { id, way, dialled: true, incarnation, since: now }, now);
    }

    /// A dial has failed.
    pub fn handle_dial_failed(&mut self, way: Way, failure: DialFailure, now: Instant) {
        self.dialling[way.index()] = false;
        self.way_failed(way, failure, now);
        self.plan(now);
    }

    /// The peer has dialled: its HELLO is there, and it is who it says.
    pub fn handle_accepted(&mut self, id: ControlId, way: Way, incarnation: Incarnation, now: Instant) {
        self.arrived(Control { id, way, dialled: false, incarnation, since: now }, now);
    }

    /// A lane or a QUIC connection of the peer has shown its incarnation. Whether it is to be kept.
    #[must_use]
    pub fn handle_incarnation(&mut self, incarnation: Incarnation, now: Instant) -> bool {
        let taken = !self.former.contains(&incarnation) && self.takes(incarnation);
        if taken {
            self.plan(now);
        }
        taken
    }

    /// A connection broke or was closed by the peer.
    pub fn handle_lost(&mut self, id: ControlId, now: Instant) {
        if let Some(control) = self.up.take_if(|control| control.id == id) {
            self.parted = None;
            self.moved = false;
            self.actions.push_back(Action::Down(control.incarnation));
            self.next = None;
            if now.saturating_duration_since(control.since) >= STABLE {
                self.failures = 0;
            } else {
                self.failed(now);
            }
            self.plan(now);
        }
    }

    /// The peer has said BYE on a connection: it is used no more. The shell closes it.
    pub fn handle_bye(&mut self, id: ControlId, now: Instant) {
        self.handle_lost(id, now);
    }

    /// The peer has said BYE on a connection because it keeps another one. The shell closes it.
    pub fn handle_superseded(&mut self, id: ControlId, now: Instant) {
        if self.up.as_ref().is_some_and(|control| control.id == id) {
            self.parted = Some(now + PARTED);
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn next_timeout(&self) -> Option<Instant> {
        [self.round.as_ref().and_then(Round::next_timeout), self.next, self.parted].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.parted.is_some_and(|until| until <= now)
            && let Some(id) = self.up.as_ref().map(|control| control.id)
        {
            self.handle_lost(id, now);
        }
        self.plan(now);
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    fn arrived(&mut self, control: Control, now: Instant) {
        let reject = if !control.way.is_allowed(self.transport) {
            Some(CloseReason::WayNotAllowed)
        } else if !self.takes(control.incarnation) {
            Some(CloseReason::FormerRun)
        } else if self.parted.is_none() && self.up.as_ref().is_some_and(|up| self.rank(up) < self.rank(&control)) {
            Some(CloseReason::Duplicate)
        } else {
            None
        };
        if let Some(reason) = reject {
            self.actions.push_back(Action::CloseControl(control.id, reason));
            if control.dialled {
                let text = "another connection or run of the peer has taken its place".to_owned();
                self.way_failed(control.way, DialFailure { class: FailureClass::Hello, text }, now);
            }
        } else {
            let Control { id, way, incarnation, .. } = control;
            if let Some(old) = self.up.replace(control) {
                self.close(old.id, CloseReason::Duplicate);
            }
            self.actions.push_back(Action::Up { id, way, incarnation });
            self.probes = 0;
            self.errors[way.index()] = None;
            if std::mem::take(&mut self.moved) && way == Way::Tls {
                // What kept the new address from answering is over.
                self.errors = [None, None];
            }
            self.round = None;
            self.next = None;
        }
        self.plan(now);
    }

    /// Whether this incarnation is the peer's newest. If it is new, the one before it ends.
    fn takes(&mut self, incarnation: Incarnation) -> bool {
        if self.former.contains(&incarnation) {
            if self.up.is_some() {
                return false;
            }
            self.former.retain(|&former| former != incarnation);
        }
        if let Some(old) = self.run.replace(incarnation).filter(|&old| old != incarnation) {
            self.former.truncate(FORMER - 1);
            self.former.push_front(old);
            if let Some(control) = self.up.take() {
                self.close(control.id, CloseReason::FormerRun);
                self.actions.push_back(Action::Down(old));
            }
            self.actions.push_back(Action::Ended(old));
            self.next = None;
            self.failures = 0;
        }
        true
    }

    /// The connection in use is no more, and is closed unless it has ended already.
    fn close(&mut self, id: ControlId, reason: CloseReason) {
        if self.parted.take().is_none() {
            self.actions.push_back(Action::CloseControl(id, reason));
        }
    }

    /// Lower is better. Both ends give the same pair of connections the same order.
    fn rank(&self, control: &Control) -> (Way, bool) {
        let dialled_by_lower = control.dialled == self.lower;
        (control.way, !dialled_by_lower)
    }
}
