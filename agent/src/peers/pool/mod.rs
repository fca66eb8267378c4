//! The lanes to one peer: made ahead of need, handed out newest first, taken back, and let go when nobody needs them.

pub mod policy;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::transport::lane::link::Link;
use crate::transport::message::Incarnation;

/// How many handshakes with one peer this side has under way at once.
const MAX_DIALS: usize = 16;
/// How long a lane beyond the warm ones stays idle before it is let go.
const LINGER: Duration = Duration::from_secs(10);

/// What a pool keeps to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Idle lanes kept ready.
    pub warm: usize,
    /// All lanes to this peer.
    pub most: usize,
}

struct Idle {
    link: Link,
    since: Instant,
}

#[derive(Default)]
struct Inner {
    /// Oldest first: taken from the back.
    idle: Vec<Idle>,
    waiters: VecDeque<oneshot::Sender<Link>>,
    busy: usize,
    dialling: usize,
    open: bool,
    incarnation: Option<Incarnation>,
    watcher: Option<Waker>,
}

/// How many lanes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Ready.
    pub idle: usize,
    /// Carrying a stream.
    pub busy: usize,
}

/// The pool of one peer.
pub struct Pool {
    limits: Limits,
    inner: Mutex<Inner>,
    demand: Notify,
}

impl Pool {
    /// An empty pool that hands out nothing before it is [opened](Self::open).
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { limits, inner: Mutex::default(), demand: Notify::new() })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The link is up and runs over lanes to this run of the peer: warm lanes are wanted. Idle lanes to another run are let
    /// go at once.
    pub fn open(&self, incarnation: Incarnation) {
        let mut inner = self.inner();
        inner.open = true;
        inner.incarnation = Some(incarnation);
        inner.idle.retain(|i| i.link.incarnation() == incarnation);
        drop(inner);
        self.demand.notify_one();
    }

    /// The link is down or runs another way. Idle lanes are given to be closed.
    pub fn shut(&self) -> Vec<Link> {
        let mut inner = self.inner();
        inner.open = false;
        std::mem::take(&mut inner.idle).into_iter().map(|i| i.link).collect()
    }

    /// An idle lane, or the first that is returned or made.
    pub async fn take(self: &Arc<Self>) -> Option<Lease> {
        let waiter = {
            let mut inner = self.inner();
            let mut cx = Context::from_waker(Waker::noop());
            while let Some(Idle { mut link, .. }) = inner.idle.pop() {
                // Whatever came in while it was idle: it may be the end.
                if link.poll_idle(&mut cx).is_pending() && link.is_reusable() {
                    inner.busy += 1;
                    drop(inner);
                    self.demand.notify_one();
                    return Some(Lease { link, busy: Busy { pool: self.clone() } });
                }
            }
            let (sender, receiver) = oneshot::channel();
            inner.waiters.retain(|w| !w.is_closed());
            inner.waiters.push_back(sender);
            receiver
        };
        self.demand.notify_one();
        // A sender is dropped only with the pool.
        let link = waiter.await.ok()?;
        Some(Lease { link, busy: Busy { pool: self.clone() } })
    }

    /// A lane that was made or has come back.
    fn supply(&self, mut link: Link) {
        let mut inner = self.inner();
        if inner.incarnation.is_some_and(|i| i != link.incarnation()) {
            return;
        }
        while let Some(waiter) = inner.waiters.pop_front() {
            match waiter.send(link) {
                Ok(()) => {
                    inner.busy += 1;
                    return;
                }
                Err(back) => link = back,
            }
        }
        if !inner.open || inner.idle.len() + inner.busy >= self.limits.most {
            return;
        }
        // From now on the watcher is to hear of it.
        if let Some(waker) = inner.watcher.clone()
            && link.poll_idle(&mut Context::from_waker(&waker)).is_ready()
        {
            return;
        }
        inner.idle.push(Idle { link, since: Instant::now() });
    }

    /// A lane that the peer has dialled for this side to open streams on, or that this side has dialled.
    pub fn add(&self, link: Link) {
        self.supply(link);
    }

    /// How many lanes to dial now. They count as under way until [`dialled`](Self::dialled).
    pub fn start_dials(&self) -> usize {
        let mut inner = self.inner();
        if !inner.open {
            return 0;
        }
        inner.waiters.retain(|w| !w.is_closed());
        let wanted = (inner.waiters.len() + self.limits.warm).saturating_sub(inner.idle.len() + inner.dialling);
        let room = self.limits.most.saturating_sub(inner.idle.len() + inner.busy + inner.dialling);
        let now = wanted.min(room).min(MAX_DIALS.saturating_sub(inner.dialling));
        inner.dialling += now;
        now
    }

    /// A dial has ended, well or not.
    pub fn dialled(&self, link: Option<Link>) {
        self.inner().dialling -= 1;
        if let Some(link) = link {
            self.supply(link);
        }
    }

    /// Whether anybody waits for a lane.
    pub fn is_wanted(&self) -> bool {
        self.inner().waiters.iter().any(|w| !w.is_closed())
    }

    /// Waits until lanes may have to be dialled.
    pub async fn demand(&self) {
        self.demand.notified().await;
    }

    /// Watches idle lanes and drops those that end. Never returns.
    pub async fn watch(&self) {
        poll_fn(|cx| {
            let mut inner = self.inner();
            let before = inner.idle.len();
            inner.idle.retain_mut(|i| i.link.poll_idle(cx).is_pending());
            inner.watcher = Some(cx.waker().clone());
            let lost = inner.idle.len() < before;
            drop(inner);
            if lost {
                self.demand.notify_one();
            }
            Poll::<()>::Pending
        })
        .await;
    }

    /// Lanes that nobody has needed for long, to be closed.
    pub fn shrink(&self, now: Instant) -> Vec<Link> {
        let mut inner = self.inner();
        let surplus = inner.idle.len().saturating_sub(self.limits.warm);
        let stale = inner.idle.iter().take(surplus).take_while(|i| now - i.since >= LINGER).count();
        inner.idle.drain(..stale).map(|i| i.link).collect()
    }

    /// How many lanes there are.
    pub fn counts(&self) -> Counts {
        let inner = self.inner();
        Counts { idle: inner.idle.len(), busy: inner.busy }
    }
}

/// A lane while it carries a stream. Dropped, it is closed; [given back](Lease::give_back), it is used again.
pub struct Lease {
    /// The lane.
    pub link: Link,
    busy: Busy,
}

impl Lease {
    /// Waits until the lane is idle and gives it back to the pool.
    pub async fn give_back(self) {
        let Self { mut link, busy } = self;
        let reusable = link.settle().await;
        let pool = busy.pool.clone();
        drop(busy);
        if reusable {
            pool.supply(link);
        } else {
            pool.demand.notify_one();
        }
    }
}

/// Counts a lane as busy for as long as it lives.
struct Busy {
    pool: Arc<Pool>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let mut inner = self.pool.inner();
        inner.busy = inner.busy.saturating_sub(1);
    }
}
