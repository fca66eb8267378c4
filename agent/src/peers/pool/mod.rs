//! The lanes to one peer: made ahead of need, handed out newest first, taken back, and let go when nobody needs them.
//!
//! What to do is decided by the [`policy`]; here are the lanes and the applications that it speaks of by their numbers.
//!
//! ```text
//!   application ── take, give_back ──▶ Pool { policy, idle lanes, waiters } ◀── open, shut, made, given ── actor
//!                                        │  work: what to dial, to ask for, to close                          ▲
//!                                        └────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The actor is called only if there is something to do for it: an application that takes a lane while enough others are
//! ready, and gives it back, costs a lock and nobody's time.

pub mod policy;
pub mod turns;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Release};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use crate::splice::Carrier;
use crate::transport::lane::link::Link;
use crate::transport::message::{Incarnation, Purpose};
use policy::{Action, LaneEpoch, LaneId, Make, Policy, Rules, Source, WaiterId};

/// How many lanes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Ready.
    pub idle: usize,
    /// Carrying a stream.
    pub busy: usize,
}

/// What the actor is to do for its pool.
#[derive(Debug)]
pub struct Work {
    /// Lanes to dial. Each is answered by [`Pool::made`] or [`Pool::dial_failed`].
    pub dial: usize,
    /// Lanes to ask the peer for. They come by [`Pool::given`].
    pub ask: usize,
    /// Lanes to close in order.
    pub close: Vec<Box<Link>>,
    /// When there is more to do at the latest.
    pub next: Option<Instant>,
}

/// How long a lane that came back may keep DONE of its last stream, to say it with the next OPEN.
const UNSAID: Duration = Duration::from_millis(10);

/// How many of them say it in one turn.
const SAID_AT_ONCE: usize = 64;

type Lane = (LaneId, Box<Link>);

struct Inner {
    policy: Policy,
    idle: HashMap<LaneId, Box<Link>>,
    waiters: HashMap<WaiterId, oneshot::Sender<Lane>>,
    closing: Vec<Lane>,
    /// The run of the peer that the link leads to.
    incarnation: Option<Incarnation>,
    /// Where the peer was before it moved.
    left: Option<SocketAddr>,
    /// The last number that was given to a lane or a waiter.
    last: u64,
    /// When lanes that came back with something to say are to say it, unless they have been handed out again.
    unsaid: Option<Instant>,
    /// When the actor comes by itself.
    alarm: Option<Instant>,
    /// The actor has been called and has not come yet.
    called: bool,
}

/// Calls the actor.
#[derive(Default)]
struct Bell {
    /// Something has come in on an idle lane.
    lane: AtomicBool,
    call: Notify,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.lane.store(true, Release);
        self.call.notify_one();
    }
}

/// The pool of one peer.
pub struct Pool {
    inner: Mutex<Inner>,
    bell: Arc<Bell>,
    /// The bell, for idle lanes.
    waker: Waker,
}

impl Pool {
    /// An empty pool that makes no lanes before it is [opened](Self::open).
    pub fn new(rules: Rules) -> Arc<Self> {
        let bell = Arc::new(Bell::default());
        let inner = Inner {
            policy: Policy::new(rules),
            idle: HashMap::new(),
            waiters: HashMap::new(),
            closing: Vec::new(),
            incarnation: None,
            left: None,
            last: 0,
            unsaid: None,
            alarm: None,
            called: false,
        };
        Arc::new(Self { inner: Mutex::new(inner), waker: Waker::from(bell.clone()), bell })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the policy what has happened and does what it says; what only the actor can do it is called for.
    fn tell<T>(&self, what: impl FnOnce(&mut Inner, Instant) -> T) -> T {
        let now = now();
        let mut inner = self.inner();
        let result = what(&mut inner, now);
        inner.carry_out(now);
        let call = inner.is_due(now) && !std::mem::replace(&mut inner.called, true);
        drop(inner);
        if call {
            self.bell.call.notify_one();
        }
        result
    }

    /// The link is up and runs over lanes to this run of the peer, which are to be had from `source`: warm lanes are wanted.
    /// Idle lanes to another run are dropped at once.
    pub fn open(&self, incarnation: Incarnation, source: Source) {
        self.tell(|inner, now| {
            (inner.incarnation, inner.left) = (Some(incarnation), None);
            inner.lose(now, |link| link.incarnation() != incarnation);
            inner.policy.handle_up(source, now);
        });
    }

    /// The peer has moved away from `address`: lanes to it are closed as they fall idle.
    pub fn leave(&self, address: SocketAddr) {
        self.tell(|inner, now| {
            inner.left = Some(address);
            let lanes = inner.idle.iter().filter(|(_, link)| link.address() == address).map(|(lane, _)| *lane);
            lanes.collect::<Vec<_>>().into_iter().for_each(|lane| inner.policy.handle_outdated(lane, now));
        });
    }

    /// The link is down or runs another way: idle lanes are closed.
    pub fn shut(&self) {
        self.tell(|inner, now| inner.policy.handle_down(now));
    }

    /// The agent is told other limits, or has another interest in the peer.
    pub fn keep_to(&self, rules: Rules) {
        self.tell(|inner, now| inner.policy.handle_rules(rules, now));
    }

    /// A lane that was [to be dialled](Work::dial) is up. `epoch` is the one that its dial began in.
    pub fn made(&self, link: Box<Link>, epoch: LaneEpoch) {
        self.tell(|inner, now| match inner.admit(link, &self.waker) {
            Some(lane) => inner.policy.handle_made(lane, epoch, now),
            None => inner.policy.handle_dial_failed(now),
        });
    }

    /// A lane that was [to be dialled](Work::dial) could not be, or is of no use.
    pub fn dial_failed(&self) {
        self.tell(|inner, now| inner.policy.handle_dial_failed(now));
    }

    /// A lane that the peer has dialled for this side to open streams on. `epoch` is the one that it was accepted in.
    pub fn given(&self, link: Box<Link>, epoch: LaneEpoch) {
        self.tell(|inner, now| {
            if let Some(lane) = inner.admit(link, &self.waker) {
                inner.policy.handle_given(lane, epoch, now);
            }
        });
    }

    /// Waits until there may be something for the actor to do.
    pub async fn called(&self) {
        self.bell.call.notified().await;
    }

    /// What the actor is to do now. Identity and trust are those of `epoch`.
    pub fn work(&self, epoch: LaneEpoch) -> Work {
        let now = now();
        let mut inner = self.inner();
        inner.called = false;
        if self.bell.lane.swap(false, AcqRel) {
            let mut cx = Context::from_waker(&self.waker);
            inner.lose(now, |link| link.poll_idle(&mut cx).is_ready());
        }
        if inner.unsaid.is_some_and(|at| at <= now) {
            let (mut cx, mut turns) = (Context::from_waker(&self.waker), SAID_AT_ONCE);
            inner.lose(now, |link| {
                let says = turns > 0 && link.has_unsaid();
                turns -= usize::from(says);
                says && matches!(link.poll_flush(&mut cx), Poll::Ready(Err(_)))
            });
            // Applications want the lock between two turns.
            inner.unsaid = inner.idle.values().any(|link| link.has_unsaid()).then_some(now);
        }
        inner.policy.handle_epoch(epoch, now);
        inner.policy.handle_timeout(now);
        inner.carry_out(now);
        let (mut dial, mut ask) = (0, 0);
        while let Some(make) = inner.policy.poll_make(now) {
            match make {
                Make::Dial(count) => dial += count,
                Make::Ask(count) => ask += count,
            }
        }
        let close = std::mem::take(&mut inner.closing).into_iter().map(|(_, link)| link).collect();
        let next = inner.next();
        inner.alarm = next;
        Work { dial, ask, close, next }
    }

    /// An idle lane, if there is one.
    pub fn try_take(self: &Arc<Self>) -> Option<Lease> {
        let taken = self.tell(Inner::take)?;
        Some(self.lease(taken))
    }

    /// An idle lane, or one that is returned or made when it is the turn of who waits with this `purpose`. Who calls bounds
    /// how many wait.
    pub async fn take(self: &Arc<Self>, purpose: &Purpose) -> Lease {
        let (sender, receiver) = oneshot::channel();
        let entered = self.tell(|inner, now| match inner.take(now) {
            Some(taken) => Entered::Taken(taken),
            None => {
                let waiter = WaiterId(inner.number());
                inner.policy.handle_waiter(waiter, purpose, now);
                inner.waiters.insert(waiter, sender);
                Entered::Waits(waiter)
            }
        });
        let waiter = match entered {
            Entered::Taken(taken) => return self.lease(taken),
            Entered::Waits(waiter) => waiter,
        };
        let mut waiting = Waiting { pool: self.clone(), waiter, purpose, receiver };
        match (&mut waiting.receiver).await {
            Ok(taken) => self.lease(taken),
            // A sender is dropped only with the pool, which `self` holds.
            Err(_) => std::future::pending().await,
        }
    }

    fn lease(self: &Arc<Self>, (lane, link): Lane) -> Lease {
        Lease { link, busy: Busy { pool: self.clone(), lane, is_back: false } }
    }

    /// How many lanes there are.
    pub fn counts(&self) -> Counts {
        let (idle, busy) = self.inner().policy.counts();
        Counts { idle, busy }
    }
}

enum Entered {
    Taken(Lane),
    Waits(WaiterId),
}

impl Inner {
    fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Whether an idle lane leads to the right run of the peer and has not ended. `waker` is to hear of its end.
    fn is_of_use(&self, link: &mut Link, waker: &Waker) -> bool {
        self.incarnation.is_none_or(|run| run == link.incarnation())
            && self.left != Some(link.address())
            && link.poll_idle(&mut Context::from_waker(waker)).is_pending()
            && link.is_reusable()
    }

    /// Numbers a new lane, if it is of use.
    fn admit(&mut self, mut link: Box<Link>, waker: &Waker) -> Option<LaneId> {
        if !self.is_of_use(&mut link, waker) {
            return None;
        }
        let lane = LaneId(self.number());
        self.idle.insert(lane, link);
        Some(lane)
    }

    /// A lane that carries no stream any longer comes back.
    fn back(&mut self, (lane, mut link): Lane, waker: &Waker, now: Instant) {
        if self.is_of_use(&mut link, waker) {
            if link.has_unsaid() {
                self.unsaid.get_or_insert(now + UNSAID);
            }
            self.idle.insert(lane, link);
            self.policy.handle_idle(lane, now);
        } else {
            self.policy.handle_spent(lane, now);
        }
    }

    /// The newest idle lane that has not ended.
    fn take(&mut self, now: Instant) -> Option<Lane> {
        // From now on its end is the business of who takes it.
        let nobody = Waker::noop();
        while let Some(lane) = self.policy.handle_take(now) {
            if let Some(mut link) = self.idle.remove(&lane)
                && self.is_of_use(&mut link, nobody)
            {
                return Some((lane, link));
            }
            self.policy.handle_lost(lane, now);
        }
        None
    }

    /// Drops the idle lanes of which this is true.
    fn lose(&mut self, now: Instant, mut is_lost: impl FnMut(&mut Link) -> bool) {
        for (lane, _) in self.idle.extract_if(|_, link| is_lost(link)) {
            self.policy.handle_lost(lane, now);
        }
    }

    fn carry_out(&mut self, now: Instant) {
        while let Some(action) = self.policy.poll() {
            match action {
                Action::Assign(waiter, lane) => {
                    let (waiter, link) = (self.waiters.remove(&waiter), self.idle.remove(&lane));
                    // Who waits is in the table for as long as it can receive.
                    let given = waiter.zip(link).is_some_and(|(waiter, link)| waiter.send((lane, link)).is_ok());
                    if !given {
                        self.policy.handle_lost(lane, now);
                    }
                }
                Action::Retire(lane) => self.closing.extend(self.idle.remove(&lane).map(|link| (lane, link))),
            }
        }
    }

    /// Whether the actor has something to do, or has to come earlier than it knows.
    fn is_due(&self, now: Instant) -> bool {
        let earlier = |next: &Instant| self.alarm.is_none_or(|alarm| *next < alarm);
        !self.closing.is_empty() || self.policy.is_short(now) || self.next().as_ref().is_some_and(earlier)
    }

    /// When there is something to do without a call.
    fn next(&self) -> Option<Instant> {
        self.policy.next_timeout().into_iter().chain(self.unsaid).min()
    }
}

/// An application in the queue.
struct Waiting<'a> {
    pool: Arc<Pool>,
    waiter: WaiterId,
    purpose: &'a Purpose,
    receiver: oneshot::Receiver<Lane>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let (waiter, receiver) = (self.waiter, &mut self.receiver);
        self.pool.tell(|inner, now| {
            if inner.waiters.remove(&waiter).is_some() {
                inner.policy.handle_cancelled(waiter, self.purpose);
            } else if let Ok(unused) = receiver.try_recv() {
                inner.back(unused, &self.pool.waker, now);
            }
        });
    }
}

/// A lane while it carries a stream. Dropped, it is closed; [given back](Lease::give_back), it is used again.
pub struct Lease {
    /// The lane.
    pub link: Box<Link>,
    busy: Busy,
}

impl Lease {
    /// Waits until the lane is idle and gives it back to the pool, or closes it if that no longer wants it.
    pub async fn give_back(self) {
        let Self { mut link, mut busy } = self;
        if !link.settle().await {
            return;
        }
        busy.is_back = true;
        let (pool, lane) = (&busy.pool, busy.lane);
        let unwanted = pool.tell(|inner, now| {
            inner.back((lane, link), &pool.waker, now);
            inner.carry_out(now);
            let at = inner.closing.iter().position(|(closing, _)| *closing == lane)?;
            Some(inner.closing.swap_remove(at).1)
        });
        if let Some(link) = unwanted {
            // Rare, so its memory is not every connection's.
            Box::pin(link.close()).await;
        }
    }
}

/// Counts a lane as busy until it is back or dropped.
struct Busy {
    pool: Arc<Pool>,
    lane: LaneId,
    is_back: bool,
}

impl Drop for Busy {
    fn drop(&mut self) {
        if !self.is_back {
            self.pool.tell(|inner, now| inner.policy.handle_lost(self.lane, now));
        }
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
