//! Which lanes to make, hand out, keep and retire: the policy of one peer's pool, pure.
//!
//! An application takes the lane that became idle last (its TCP window is the warmest, and the others can grow old and go).
//! If there is none it waits for the first of a lane that comes back and a fresh one. A lane belongs to the epoch of identity
//! and trust in which it was made; those of another epoch are retired as they fall idle.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// How a pool behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Policy {
    /// Idle lanes that are kept, and made ahead of need, while the peer is wanted.
    pub warm: usize,
    /// Lanes at most, in whatever state.
    pub most: usize,
    /// Handshakes in flight at most.
    pub handshakes: usize,
    /// Applications that may wait at most.
    pub waiting: usize,
    /// How long a lane beyond the warm ones stays idle before it is retired.
    pub idle: Duration,
    /// The pause after a failed dial: the first, doubled up to the second.
    pub pause: (Duration, Duration),
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            warm: 2,
            most: 8192,
            handshakes: 32,
            waiting: 8192,
            idle: Duration::from_secs(60),
            pause: (Duration::from_millis(50), Duration::from_secs(1)),
        }
    }
}

/// Who dials the lanes that a pool hands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// We do.
    Dial,
    /// The peer, which has no address: it is asked by WANT_LANES.
    Ask,
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

/// What the shell is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Dial one lane with the identity and trust of this epoch, and answer by [`Pool::handle_made`] or
    /// [`Pool::handle_dial_failed`].
    Dial(LaneEpoch),
    /// Tell the peer how many more lanes it should dial, all in all: WANT_LANES.
    Want(usize),
    /// Hand the lane to the application; it comes back by [`Pool::handle_idle`] or [`Pool::handle_lost`].
    Assign(WaiterId, LaneId),
    /// Close the idle lane in order. It is no longer the pool's.
    Retire(LaneId),
}

/// The pool takes no more: [`Policy::waiting`] applications wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[error("too many connections wait for a lane")]
pub struct Full;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Idle {
    lane: LaneId,
    since: Instant,
}

/// One peer's lanes on which we open.
#[derive(Debug, Clone)]
pub struct Pool {
    policy: Policy,
    source: Source,
    epoch: LaneEpoch,
    wanted: bool,
    /// The one that became idle last at the back.
    idle: Vec<Idle>,
    busy: BTreeMap<LaneId, LaneEpoch>,
    waiting: VecDeque<WaiterId>,
    /// Dials in flight, or lanes that the peer was asked for.
    coming: usize,
    failures: u32,
    not_before: Option<Instant>,
    actions: VecDeque<Action>,
}

impl Pool {
    /// An empty pool. It does nothing until an application or [`handle_wanted`](Self::handle_wanted) asks.
    pub fn new(policy: Policy, source: Source, epoch: LaneEpoch) -> Self {
        Self {
            policy,
            source,
            epoch,
            wanted: false,
            idle: Vec::new(),
            busy: BTreeMap::new(),
            waiting: VecDeque::new(),
            coming: 0,
            failures: 0,
            not_before: None,
            actions: VecDeque::new(),
        }
    }

    /// Lanes idle and busy.
    pub fn counts(&self) -> (usize, usize) {
        (self.idle.len(), self.busy.len())
    }

    /// Applications that wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// An application needs a lane.
    ///
    /// # Errors
    /// [`Full`] if as many wait as the policy allows.
    pub fn handle_waiter(&mut self, waiter: WaiterId, now: Instant) -> Result<(), Full> {
        if self.waiting.len() >= self.policy.waiting {
            return Err(Full);
        }
        self.waiting.push_back(waiter);
        self.plan(now);
        Ok(())
    }

    /// An application waits no longer. Nothing happens if it has its lane already.
    pub fn handle_cancelled(&mut self, waiter: WaiterId, now: Instant) {
        self.waiting.retain(|&waiting| waiting != waiter);
        self.plan(now);
    }

    /// Whether some service reaches the peer and the link runs over lanes: then warm lanes are kept.
    pub fn handle_wanted(&mut self, wanted: bool, now: Instant) {
        self.wanted = wanted;
        self.plan(now);
    }

    /// A lane is up: dialled by us after [`Action::Dial`], or a reverse one dialled by the peer. `epoch` is the one it was
    /// made with. A lane beyond the policy's limit is retired.
    pub fn handle_made(&mut self, lane: LaneId, epoch: LaneEpoch, now: Instant) {
        self.coming = self.coming.saturating_sub(1);
        (self.failures, self.not_before) = (0, None);
        if epoch != self.epoch || self.idle.len() + self.busy.len() >= self.policy.most {
            self.actions.push_back(Action::Retire(lane));
        } else {
            self.idle.push(Idle { lane, since: now });
        }
        self.plan(now);
    }

    /// A dial has failed.
    pub fn handle_dial_failed(&mut self, now: Instant) {
        self.coming = self.coming.saturating_sub(1);
        let (first, longest) = self.policy.pause;
        self.not_before = Some(now + first.saturating_mul(1 << self.failures.min(16)).min(longest));
        self.failures = self.failures.saturating_add(1);
        self.plan(now);
    }

    /// The control connection has come up, so the peer is reached: dials pause no longer, and a peer that dials its lanes
    /// itself is asked anew, since it has forgotten what it was asked before.
    pub fn handle_up(&mut self, now: Instant) {
        (self.failures, self.not_before) = (0, None);
        if self.source == Source::Ask {
            self.coming = 0;
        }
        self.plan(now);
    }

    /// The stream on a lane is over, and the lane is idle again.
    pub fn handle_idle(&mut self, lane: LaneId, now: Instant) {
        match self.busy.remove(&lane) {
            Some(epoch) if epoch == self.epoch => self.idle.push(Idle { lane, since: now }),
            Some(_) => self.actions.push_back(Action::Retire(lane)),
            None => {}
        }
        self.plan(now);
    }

    /// A lane is gone, or retires (BYE): it is used no more.
    pub fn handle_lost(&mut self, lane: LaneId, now: Instant) {
        self.busy.remove(&lane);
        self.idle.retain(|idle| idle.lane != lane);
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

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn next_timeout(&self) -> Option<Instant> {
        let dial = if self.missing() > 0 { self.not_before } else { None };
        let old = (self.idle.len() > self.kept()).then(|| self.idle.first().map(|idle| idle.since + self.policy.idle));
        [dial, old.flatten()].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.plan(now);
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Idle lanes that do not grow old.
    fn kept(&self) -> usize {
        if self.wanted { self.policy.warm } else { 0 }
    }

    /// How many lanes should be under way and are not.
    fn missing(&self) -> usize {
        let need = (self.waiting.len() + self.kept()).saturating_sub(self.idle.len());
        let room = self.policy.most.saturating_sub(self.idle.len() + self.busy.len());
        need.min(room).min(self.policy.handshakes).saturating_sub(self.coming)
    }

    fn plan(&mut self, now: Instant) {
        while !self.waiting.is_empty()
            && let Some(Idle { lane, .. }) = self.idle.pop()
        {
            if let Some(waiter) = self.waiting.pop_front() {
                self.busy.insert(lane, self.epoch);
                self.actions.push_back(Action::Assign(waiter, lane));
            }
        }
        let spare = self.idle.len().saturating_sub(self.kept());
        let old = self.idle.iter().take(spare).take_while(|idle| idle.since + self.policy.idle <= now).count();
        self.actions.extend(self.idle.drain(..old).map(|idle| Action::Retire(idle.lane)));
        let missing = self.missing();
        if missing > 0 && self.not_before.is_none_or(|at| at <= now) {
            self.not_before = None;
            self.coming += missing;
            match self.source {
                Source::Dial => self.actions.extend(std::iter::repeat_n(Action::Dial(self.epoch), missing)),
                Source::Ask => self.actions.push_back(Action::Want(self.coming)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
