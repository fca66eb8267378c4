//! Which lanes to make, hand out, keep and retire: the policy of one peer's pool, pure.
//!
//! An application takes the lane that became idle last (its TCP window is the warmest, and the others can grow old and go).
//! If there is none it waits for the first of a lane that comes back and a fresh one; the services [take turns](Turns). A lane belongs to the epoch of identity
//! and trust in which it was made; those of another epoch are retired as they fall idle.
//!
//! A steady load makes no handshakes. The idle lanes are a stack, so the lane in place n lies there since fewer than n of them
//! were idle last: one lane too many is retired for each place beyond the warm ones that was not emptied for [`Rules::idle`].
//! And a warm lane that is out for less than [`Rules::patience`] is not made up, unless more than half of them are out.
//!
//! ```text
//!   handle_take ◀── idle ◀──────────── handle_made, handle_given
//!        │           │ ▲ │                       ▲
//!        │    Assign │ │ └ Retire                │
//!        ▼           ▼ │                         │
//!       busy ─ handle_idle          poll_make: dial, or ask the peer to dial
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::turns::Turns;
use crate::peers::back_off::BackOff;
use crate::snapshot::Epochs;
use crate::transport::message::Purpose;

/// What a pool keeps to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rules {
    /// Idle lanes that are kept, and made ahead of need, while the link is up.
    pub warm: usize,
    /// Lanes at most, in whatever state.
    pub most: usize,
    /// Lanes that are being made at most.
    pub handshakes: usize,
    /// A lane beyond the warm ones is retired when it has been one too many for so long.
    pub idle: Duration,
    /// How long the taken half of the warm lanes may take to come back before others are made in their place.
    pub patience: Duration,
    /// How long the peer may take to dial what it was asked for.
    pub answer: Duration,
    /// The pause after a failed dial: the first, doubled up to the second.
    pub pause: (Duration, Duration),
}

impl Rules {
    /// The rules of an agent that is told these limits. Memory counts: a burst's lanes go soon after it.
    pub const fn new(warm: usize, most: usize) -> Self {
        Self {
            warm,
            most,
            handshakes: 16,
            idle: Duration::from_secs(10),
            patience: Duration::from_secs(1),
            answer: Duration::from_secs(5),
            pause: (Duration::from_millis(50), Duration::from_secs(1)),
        }
    }
}

/// A lane that ends sooner, and before a stream has come to its end on it, was of no use.
const STABLE: Duration = Duration::from_secs(1);

/// Who dials the lanes that a pool hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// We do.
    Dial,
    /// The peer, which has no address: it is asked by WANT_LANES.
    Ask,
    /// We do, and the peer where that fails: it has dialled the control connection, so it can.
    Either,
}

/// Names a lane; the shell numbers them, each number once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u64);

/// Names an application that waits for a lane; the shell numbers them, each number once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaiterId(pub u64);

/// The identity and the trust with which a lane was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LaneEpoch {
    /// The epoch of our identity.
    pub identity: u64,
    /// The epoch of the trust bundle.
    pub trust: u64,
}

impl LaneEpoch {
    /// Whether identity or trust have changed since `other`.
    pub fn is_after(self, other: Self) -> bool {
        self.identity > other.identity || self.trust > other.trust
    }
}

impl From<Epochs> for LaneEpoch {
    fn from(epochs: Epochs) -> Self {
        Self { identity: epochs.identity, trust: epochs.trust }
    }
}

/// What the shell is to do with a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Hand the lane to the application; it comes back by [`Policy::handle_idle`] or [`Policy::handle_lost`].
    Assign(WaiterId, LaneId),
    /// Close the idle lane in order. It is no longer the pool's.
    Retire(LaneId),
}

/// The lanes that the shell is to have made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Make {
    /// Dial so many, and answer each by [`Policy::handle_made`] or [`Policy::handle_dial_failed`].
    Dial(usize),
    /// Ask the peer for so many more: WANT_LANES. They come by [`Policy::handle_given`].
    Ask(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Idle {
    lane: LaneId,
    since: Instant,
    /// No stream has come to its end on it.
    fresh: bool,
}

#[derive(Debug, Clone, Copy)]
struct Busy {
    epoch: LaneEpoch,
    /// Since when it was there, if this is its first stream.
    fresh: Option<Instant>,
}

/// One peer's lanes on which we open.
#[derive(Debug, Clone)]
pub struct Policy {
    rules: Rules,
    epoch: LaneEpoch,
    /// `None`: the link is down or does not run over lanes.
    source: Option<Source>,
    /// The one that became idle last at the back.
    idle: Vec<Idle>,
    /// Since when there are fewer than are kept.
    short_since: Option<Instant>,
    busy: BTreeMap<LaneId, Busy>,
    waiting: Turns,
    /// Our dials in flight.
    dialling: usize,
    /// Lanes that the peer was asked for, and until when they count as coming.
    asked: usize,
    asked_until: Option<Instant>,
    back_off: BackOff,
    /// For lanes that come up and are of no use, whoever dials them: the peer has no room for more.
    no_use: BackOff,
    actions: VecDeque<Action>,
}

impl Policy {
    /// An empty pool whose link is down.
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            epoch: LaneEpoch::default(),
            source: None,
            idle: Vec::new(),
            short_since: None,
            busy: BTreeMap::new(),
            waiting: Turns::default(),
            dialling: 0,
            asked: 0,
            asked_until: None,
            back_off: BackOff::new(rules.pause.0, rules.pause.1),
            no_use: BackOff::new(rules.pause.0, rules.pause.1),
            actions: VecDeque::new(),
        }
    }

    /// Lanes idle and busy.
    pub fn counts(&self) -> (usize, usize) {
        (self.idle.len(), self.busy.len())
    }

    /// An application takes the newest idle lane, if there is one. It comes back by [`handle_idle`](Self::handle_idle) or
    /// [`handle_lost`](Self::handle_lost).
    pub fn handle_take(&mut self, now: Instant) -> Option<LaneId> {
        let Idle { lane, since, fresh } = self.idle.pop()?;
        self.busy.insert(lane, Busy { epoch: self.epoch, fresh: fresh.then_some(since) });
        self.note_shortage(now);
        Some(lane)
    }

    /// An application waits for a lane to say this on. How many may is not decided here but in the
    /// [room](crate::peers::room) in which they do.
    pub fn handle_waiter(&mut self, waiter: WaiterId, purpose: &Purpose, now: Instant) {
        self.waiting.push(purpose, waiter);
        self.plan(now);
    }

    /// An application waits no longer. Nothing happens if it has its lane already.
    pub fn handle_cancelled(&mut self, waiter: WaiterId, purpose: &Purpose) {
        self.waiting.remove(purpose, waiter);
    }

    /// The link has come up and runs over lanes, or runs over another control connection: warm lanes are kept. The peer is
    /// reached, so dials pause no longer; what it was asked for before it has forgotten.
    pub fn handle_up(&mut self, source: Source, now: Instant) {
        self.source = Some(source);
        self.back_off.reset();
        self.no_use.reset();
        (self.asked, self.asked_until) = (0, None);
        self.plan(now);
    }

    /// The link is down or runs another way: no lanes are made, and idle ones are retired unless somebody waits.
    pub fn handle_down(&mut self, now: Instant) {
        self.source = None;
        (self.asked, self.asked_until) = (0, None);
        self.plan(now);
    }

    /// A lane that we have dialled is up. `epoch` is the one it was made with. A lane of another epoch, or beyond the limit,
    /// is retired.
    pub fn handle_made(&mut self, lane: LaneId, epoch: LaneEpoch, now: Instant) {
        self.dialling = self.dialling.saturating_sub(1);
        self.back_off.reset();
        self.arrived(lane, epoch, now);
    }

    /// A dial has failed, or has led to nothing of use.
    pub fn handle_dial_failed(&mut self, now: Instant) {
        self.dialling = self.dialling.saturating_sub(1);
        self.back_off.failed(now);
        self.plan(now);
    }

    /// The peer has dialled a lane for us to open on, whether it was asked for or not.
    pub fn handle_given(&mut self, lane: LaneId, epoch: LaneEpoch, now: Instant) {
        self.asked = self.asked.saturating_sub(1);
        if self.asked == 0 {
            self.asked_until = None;
        }
        self.arrived(lane, epoch, now);
    }

    /// The stream on a lane is over, and the lane is idle again.
    pub fn handle_idle(&mut self, lane: LaneId, now: Instant) {
        if let Some(busy) = self.busy.remove(&lane) {
            self.no_use.reset();
            if busy.epoch == self.epoch {
                self.idle.push(Idle { lane, since: now, fresh: false });
            } else {
                self.actions.push_back(Action::Retire(lane));
            }
        }
        self.plan(now);
    }

    /// The stream on a lane is over, and the lane is gone or of no further use.
    pub fn handle_spent(&mut self, lane: LaneId, now: Instant) {
        self.busy.remove(&lane);
        self.no_use.reset();
        self.plan(now);
    }

    /// A lane is gone: it is used no more.
    pub fn handle_lost(&mut self, lane: LaneId, now: Instant) {
        let idle = || self.idle.iter().position(|idle| idle.lane == lane);
        let fresh = match self.busy.remove(&lane) {
            Some(busy) => busy.fresh,
            None => idle().map(|at| self.idle.remove(at)).and_then(|idle| idle.fresh.then_some(idle.since)),
        };
        if let Some(since) = fresh {
            if now.saturating_duration_since(since) < STABLE {
                self.no_use.failed(now);
            } else {
                self.no_use.reset();
            }
        }
        self.plan(now);
    }

    /// An idle lane leads to where the peer no longer is: it is retired.
    pub fn handle_outdated(&mut self, lane: LaneId, now: Instant) {
        if let Some(at) = self.idle.iter().position(|idle| idle.lane == lane) {
            self.idle.remove(at);
            self.actions.push_back(Action::Retire(lane));
        }
        self.plan(now);
    }

    /// The agent is told other limits, or has another interest in the peer. Lanes that are too many go as they fall idle.
    pub fn handle_rules(&mut self, rules: Rules, now: Instant) {
        self.rules = rules;
        self.plan(now);
    }

    /// Identity or trust have changed. Idle lanes are retired now, busy ones when they fall idle. Lanes that are under way
    /// come with their old epoch and are retired then.
    pub fn handle_epoch(&mut self, epoch: LaneEpoch, now: Instant) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.actions.extend(self.idle.drain(..).map(|idle| Action::Retire(idle.lane)));
        }
        self.plan(now);
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) and [`poll_make`](Self::poll_make) at the latest.
    pub fn next_timeout(&self) -> Option<Instant> {
        let short = self.missing() > 0;
        let dial = if short && self.source == Some(Source::Dial) { self.back_off.until() } else { None };
        // All pauses must be over.
        let make = if short { dial.max(self.no_use.until()).max(self.patient_until()) } else { None };
        let old = self.idle.get(self.kept()).map(|idle| idle.since + self.rules.idle);
        [make, old, self.asked_until].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.asked_until.is_some_and(|until| until <= now) {
            // They are no longer counted on. Where we can dial ourselves it is our turn again.
            (self.asked, self.asked_until) = (0, None);
            self.back_off.reset();
        }
        self.plan(now);
    }

    /// The next thing to do with a lane.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The lanes to make now. They count as coming from here on.
    pub fn poll_make(&mut self, now: Instant) -> Option<Make> {
        let make = self.make(now)?;
        match make {
            Make::Dial(count) => self.dialling += count,
            Make::Ask(count) => {
                self.asked += count;
                self.asked_until = Some(now + self.rules.answer);
            }
        }
        Some(make)
    }

    /// Whether [`poll_make`](Self::poll_make) would ask for lanes.
    pub fn is_short(&self, now: Instant) -> bool {
        self.make(now).is_some()
    }

    fn make(&self, now: Instant) -> Option<Make> {
        if !self.no_use.is_over(now) || self.patient_until().is_some_and(|until| until > now) {
            return None;
        }
        let count = Some(self.missing()).filter(|&count| count > 0)?;
        match self.source? {
            Source::Either if self.back_off.has_failed() => Some(Make::Ask(count)),
            Source::Dial | Source::Either => self.back_off.is_over(now).then_some(Make::Dial(count)),
            Source::Ask => Some(Make::Ask(count)),
        }
    }

    /// Idle lanes that do not grow old.
    fn kept(&self) -> usize {
        self.source.map_or(0, |_| self.rules.warm)
    }

    fn note_shortage(&mut self, now: Instant) {
        let is_short = self.idle.len() < self.kept();
        self.short_since = is_short.then(|| self.short_since.unwrap_or(now));
    }

    /// Until when the lanes that are out may come back before others are made. `None`: they are needed now.
    fn patient_until(&self) -> Option<Instant> {
        let is_pressing = !self.waiting.is_empty() || self.idle.len() < self.kept().div_ceil(2);
        self.short_since.filter(|_| !is_pressing).map(|since| since + self.rules.patience)
    }

    /// How many lanes should be coming and are not.
    fn missing(&self) -> usize {
        if self.source.is_none() {
            return 0;
        }
        let need = (self.waiting.len() + self.kept()).saturating_sub(self.idle.len());
        let room = self.rules.most.saturating_sub(self.idle.len() + self.busy.len());
        need.min(room).min(self.rules.handshakes).saturating_sub(self.dialling + self.asked)
    }

    fn arrived(&mut self, lane: LaneId, epoch: LaneEpoch, now: Instant) {
        if epoch != self.epoch || self.idle.len() + self.busy.len() >= self.rules.most {
            self.actions.push_back(Action::Retire(lane));
        } else {
            self.idle.push(Idle { lane, since: now, fresh: true });
        }
        self.plan(now);
    }

    fn plan(&mut self, now: Instant) {
        while !self.idle.is_empty()
            && let Some(waiter) = self.waiting.pop()
        {
            let taken = self.handle_take(now);
            self.actions.extend(taken.map(|lane| Action::Assign(waiter, lane)));
        }
        self.note_shortage(now);
        let up = self.source.is_some();
        let over = |idle: &&Idle| !up || idle.since + self.rules.idle <= now;
        // So many places beyond the warm ones; the lanes that go are the oldest.
        let old = self.idle.iter().skip(self.kept()).take_while(over).count();
        self.actions.extend(self.idle.drain(..old).map(|idle| Action::Retire(idle.lane)));
    }
}

#[cfg(test)]
mod tests;
